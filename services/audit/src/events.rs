//! From the model to published events.

use kit::Ctx;
use kit::events::Emitted;
use proto::audit::v1 as pb;

use crate::alert::Alert;

pub(crate) fn raised(ctx: &Ctx, alert: &Alert) -> Emitted {
    let event = pb::AlertRaised {
        alert_id: alert.id.to_string(),
        rule: alert.rule.clone(),
        severity: i32::from(alert.severity),
        title: alert.title.clone(),
    };
    Emitted::new(ctx, alert.id.uuid(), alert.event_version(), &event)
}

pub(crate) fn acknowledged(ctx: &Ctx, alert: &Alert) -> Emitted {
    let note = alert
        .acknowledged
        .as_ref()
        .map(|it| it.note.clone())
        .unwrap_or_default();
    let event = pb::AlertAcknowledged {
        alert_id: alert.id.to_string(),
        rule: alert.rule.clone(),
        note,
    };
    Emitted::new(ctx, alert.id.uuid(), alert.event_version(), &event)
}
