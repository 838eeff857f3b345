//! Alerts: what events amount to, and what becomes of an alert that they raised. Pure.

use std::sync::Arc;

use kit::ctx::Actor;
use kit::ids::{Id, Kind};
use proto::common::v1::Severity;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::rules::{Hit, Met, Rule};

/// Marks ids of alerts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlertKind;

impl Kind for AlertKind {
    const NAME: &'static str = "alert";
}

/// The id of an alert.
pub type AlertId = Id<AlertKind>;

/// Events of one group that raise an alert, or count into one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// The rule that they meet.
    pub rule: Arc<Rule>,
    /// The same for repeats and for nothing else.
    pub dedup_key: Uuid,
    /// The first of the events.
    pub event_id: Uuid,
    /// The trace that led to it.
    pub traceparent: Option<String>,
    /// Names who caused it, without saying so.
    pub offender_key: Uuid,
    /// How many calls they stand for.
    pub occurrences: i64,
    /// When the first of them occurred.
    pub first_at: OffsetDateTime,
    /// When the last of them occurred.
    pub last_at: OffsetDateTime,
}

impl Trigger {
    /// What hits of a group amount to; none of no hits.
    pub fn of(met: &Met, hits: &[Hit]) -> Option<Self> {
        Some(Self {
            rule: Arc::clone(&met.rule),
            dedup_key: met.key,
            event_id: met.event_id,
            traceparent: met.traceparent.clone(),
            offender_key: met.offender_key,
            occurrences: hits.iter().map(|hit| hit.calls).sum(),
            first_at: hits.iter().map(|hit| hit.at).min()?,
            last_at: hits.iter().map(|hit| hit.at).max()?,
        })
    }
}

/// Which alerts a reader asks for. What is none does not choose.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Filter {
    /// Acknowledged ones, or open ones.
    pub acknowledged: Option<bool>,
    /// Of this rule.
    pub rule: Option<String>,
    /// Of this severity or a worse one, as stored.
    pub min_severity: Option<i16>,
    /// With an event at this instant or later.
    pub from: Option<OffsetDateTime>,
    /// With an event before this instant.
    pub until: Option<OffsetDateTime>,
}

/// Who acknowledged an alert, when, and what was said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledgement {
    /// `user` or `service`.
    pub actor_kind: String,
    /// The subject of the user.
    pub actor_id: String,
    /// When.
    pub at: OffsetDateTime,
    /// May be empty.
    pub note: String,
}

/// Whether those who are to be told have been told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeliveryState {
    /// Tried until it is accepted.
    Pending,
    /// Accepted.
    Delivered,
    /// There is nobody to tell.
    NotConfigured,
}

impl DeliveryState {
    /// Reads the column back.
    pub fn from_text(text: &str) -> Self {
        match text {
            "delivered" => Self::Delivered,
            "not_configured" => Self::NotConfigured,
            _ => Self::Pending,
        }
    }
}

/// A rule that events have met, and what has been done about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// Made by this service.
    pub id: AlertId,
    /// The name of the rule.
    pub rule: String,
    /// A few words: the rule's, when it was raised.
    #[serde(default)]
    pub title: String,
    /// What happened and what to do: the rule's, when it was raised.
    #[serde(default)]
    pub description: String,
    /// As stored.
    pub severity: i16,
    /// Events that met the rule, 1 or more.
    pub occurrences: i64,
    /// When the first of them occurred.
    pub first_at: OffsetDateTime,
    /// When the last of them occurred.
    pub last_at: OffsetDateTime,
    /// None while it is open.
    pub acknowledged: Option<Acknowledgement>,
    /// Whether it was delivered.
    pub delivery: DeliveryState,
    /// Rises with each change but delivery.
    pub revision: i64,
    /// When it was raised.
    pub created_at: OffsetDateTime,
    /// When `revision` last rose.
    pub updated_at: OffsetDateTime,
}

impl Alert {
    /// An open alert.
    pub fn raised(
        id: AlertId,
        trigger: &Trigger,
        delivery: DeliveryState,
        now: OffsetDateTime,
    ) -> Self {
        Self {
            id,
            rule: trigger.rule.name.clone(),
            title: trigger.rule.title.clone(),
            description: trigger.rule.description.clone(),
            severity: severity_number(trigger.rule.severity),
            occurrences: trigger.occurrences,
            first_at: trigger.first_at,
            last_at: trigger.last_at,
            acknowledged: None,
            delivery,
            revision: 1,
            created_at: now,
            updated_at: now,
        }
    }

    /// Notes who has taken care of it; false if someone had before.
    pub fn acknowledge(&mut self, actor: &Actor, note: String, now: OffsetDateTime) -> bool {
        if self.acknowledged.is_some() {
            return false;
        }
        let (actor_kind, actor_id) = (actor.kind().to_owned(), actor.id().to_owned());
        self.acknowledged = Some(Acknowledgement {
            actor_kind,
            actor_id,
            at: now,
            note,
        });
        self.revision += 1;
        self.updated_at = now;
        true
    }

    /// The version of its events: raised, then acknowledged. What is merely counted emits nothing.
    pub fn event_version(&self) -> i64 {
        if self.acknowledged.is_some() { 2 } else { 1 }
    }
}

/// A severity as the database has it, 1 to 4.
pub fn severity_number(severity: Severity) -> i16 {
    match severity {
        Severity::Unspecified | Severity::Info => 1,
        Severity::Low => 2,
        Severity::Medium => 3,
        Severity::High => 4,
    }
}

#[cfg(test)]
mod tests {
    use kit::TenantId;
    use time::Duration;

    use super::*;
    use crate::happening::Happening;
    use crate::record::Category;
    use crate::rules::file::built_in;

    fn mismatch(second: i64, calls: i64) -> Happening {
        Happening {
            type_name: "catalyst.common.v1.TenantMismatchDetected".to_owned(),
            category: Category::Security,
            severity: Severity::High,
            tenant: TenantId::new(Uuid::from_u128(1)),
            actor: Actor::User("kim".to_owned()),
            kind: String::new(),
            reason: String::new(),
            source_address: String::new(),
            method: String::new(),
            calls,
            event_id: Uuid::from_u128(7),
            traceparent: None,
            at: OffsetDateTime::UNIX_EPOCH + Duration::seconds(second),
        }
    }

    fn trigger(happenings: &[Happening]) -> Option<Trigger> {
        let met = built_in().met(happenings).remove(0);
        Trigger::of(&met, &met.hits)
    }

    #[test]
    fn every_call_is_in_the_count_and_the_first_and_last_in_the_span() {
        let trigger = trigger(&[mismatch(9, 1), mismatch(3, 4), mismatch(5, 2)]).unwrap();
        assert_eq!(trigger.occurrences, 7);
        assert_eq!(trigger.last_at - trigger.first_at, Duration::seconds(6));
    }

    #[test]
    fn an_alert_says_what_its_rule_said_when_it_was_raised() {
        let trigger = trigger(&[mismatch(0, 1)]).unwrap();
        let id = AlertId::new(Uuid::nil());
        let alert = Alert::raised(
            id,
            &trigger,
            DeliveryState::Pending,
            OffsetDateTime::UNIX_EPOCH,
        );
        assert_eq!(
            (&alert.rule, &alert.title),
            (&trigger.rule.name, &trigger.rule.title)
        );
        assert_eq!(alert.severity, severity_number(Severity::High));
    }

    #[test]
    fn an_alert_is_acknowledged_once_and_by_the_first() {
        let now = OffsetDateTime::UNIX_EPOCH;
        let trigger = trigger(&[mismatch(0, 1)]).unwrap();
        let id = AlertId::new(Uuid::nil());
        let mut alert = Alert::raised(id, &trigger, DeliveryState::Pending, now);
        assert!(alert.acknowledge(&Actor::User("lee".to_owned()), "seen".to_owned(), now));
        assert!(!alert.acknowledge(&Actor::User("kim".to_owned()), "mine".to_owned(), now));
        assert_eq!(
            alert.acknowledged.as_ref().map(|it| it.actor_id.as_str()),
            Some("lee")
        );
        assert_eq!((alert.revision, alert.event_version()), (2, 2));
    }
}
