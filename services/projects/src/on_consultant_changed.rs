//! Keeps the references to consultants as the events of the consultants service tell, each row at its newest version.

use kit::events::{Distrust, Event};
use kit::subscriber::{Failure, Subscriber};
use kit::{Ctx, Tx};
use proto::consultants::v1 as pb;

use crate::consultant::{Consultant, ConsultantId, newest};
use crate::store;

/// Applies a batch in one statement: a round trip for each event would bound how fast a replica catches up.
pub(crate) struct OnConsultantChanged;

#[tonic::async_trait]
impl Subscriber for OnConsultantChanged {
    async fn apply(&self, _ctx: &Ctx, tx: &mut Tx, events: &[Event]) -> Result<(), Failure> {
        let mut told = Vec::with_capacity(events.len());
        for event in events {
            told.extend(read(event).map_err(kit::Error::internal)?);
        }
        store::consultant::upsert(tx, &newest(told)).await?;
        Ok(())
    }
}

/// What an event tells of its consultant; nothing for a type that is not listened to.
fn read(event: &Event) -> Result<Option<Consultant>, Distrust> {
    let (code, display_name, state) = if let Some(body) = event.decode::<pb::ConsultantCreated>() {
        let body = body?;
        (body.code.clone(), body.display_name.clone(), body.state())
    } else if let Some(body) = event.decode::<pb::ConsultantUpdated>() {
        let body = body?;
        (body.code.clone(), body.display_name.clone(), body.state())
    } else if let Some(body) = event.decode::<pb::ConsultantDeactivated>() {
        let body = body?;
        (body.code.clone(), body.display_name.clone(), body.state())
    } else {
        return Ok(None);
    };
    Ok(Some(Consultant {
        id: ConsultantId::new(event.aggregate_id),
        code,
        display_name,
        active: state == pb::ConsultantState::Active,
        version: event.version,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kit::TenantId;
    use kit::ctx::Actor;
    use prost::Name;
    use uuid::Uuid;

    fn event(version: i64, body: &impl Name, type_name: String) -> Event {
        Event {
            id: Uuid::from_u128(7),
            tenant: TenantId::NONE,
            type_name,
            noun: "consultants".to_owned(),
            aggregate_id: Uuid::from_u128(1),
            version,
            occurred_at: time::OffsetDateTime::UNIX_EPOCH,
            actor: Actor::Service("consultants".to_owned()),
            traceparent: None,
            subject: String::new(),
            body: body.encode_to_vec().into(),
        }
    }

    #[test]
    fn a_deactivated_consultant_is_kept_as_inactive_at_the_version_of_the_event() {
        let body = pb::ConsultantDeactivated {
            code: "kim".to_owned(),
            display_name: "Kim".to_owned(),
            state: pb::ConsultantState::Inactive.into(),
            ..Default::default()
        };
        let event = event(3, &body, pb::ConsultantDeactivated::full_name());
        let consultant = read(&event).unwrap().unwrap();
        assert_eq!(consultant.id, ConsultantId::new(event.aggregate_id));
        assert_eq!(
            (
                consultant.code.as_str(),
                consultant.active,
                consultant.version
            ),
            ("kim", false, 3)
        );
    }

    #[test]
    fn an_event_of_another_type_tells_nothing() {
        let body = pb::ConsultantCreated::default();
        assert_eq!(
            read(&event(
                1,
                &body,
                "catalyst.tenants.v1.TenantCreated".to_owned()
            )),
            Ok(None)
        );
    }
}
