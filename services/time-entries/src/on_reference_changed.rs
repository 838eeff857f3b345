//! Keeps the references to projects and consultants as their owners' events tell, each row at its newest version.

use kit::events::{Distrust, Event};
use kit::subscriber::{Failure, Subscriber};
use kit::{Ctx, Tx};
use proto::consultants::v1::{self as consultants, ConsultantState};
use proto::projects::v1::{self as projects, ProjectState};
use uuid::Uuid;

use crate::reference::{Consultant, ConsultantId, Project, ProjectId, References};
use crate::store;

/// The events that are listened to.
pub(crate) const TYPES: &[&str] = &[
    "catalyst.consultants.v1.ConsultantCreated",
    "catalyst.consultants.v1.ConsultantUpdated",
    "catalyst.consultants.v1.ConsultantDeactivated",
    "catalyst.projects.v1.ProjectCreated",
    "catalyst.projects.v1.ProjectUpdated",
    "catalyst.projects.v1.ProjectArchived",
];

/// Applies a batch in a statement for each table: a round trip for each event would bound how fast a replica catches up.
pub(crate) struct OnReferenceChanged;

#[tonic::async_trait]
impl Subscriber for OnReferenceChanged {
    async fn apply(&self, _ctx: &Ctx, tx: &mut Tx, events: &[Event]) -> Result<(), Failure> {
        let mut told = References::default();
        for event in events {
            read(&mut told, event).map_err(kit::Error::internal)?;
        }
        store::reference::upsert(tx, &told).await?;
        Ok(())
    }
}

/// Adds what an event tells; nothing for a type that is not listened to.
fn read(told: &mut References, event: &Event) -> Result<(), Distrust> {
    if let Some(body) = event.decode::<consultants::ConsultantCreated>() {
        let body = body?;
        told.add_consultant(consultant(
            event,
            body.state(),
            body.code,
            body.display_name,
            body.subject,
        ));
    } else if let Some(body) = event.decode::<consultants::ConsultantUpdated>() {
        let body = body?;
        told.add_consultant(consultant(
            event,
            body.state(),
            body.code,
            body.display_name,
            body.subject,
        ));
    } else if let Some(body) = event.decode::<consultants::ConsultantDeactivated>() {
        let body = body?;
        told.add_consultant(consultant(
            event,
            body.state(),
            body.code,
            body.display_name,
            body.subject,
        ));
    } else if let Some(body) = event.decode::<projects::ProjectCreated>() {
        let body = body?;
        let client_id = client_id(&body.client_id)?;
        told.add_project(project(
            event,
            body.state(),
            client_id,
            body.code,
            body.display_name,
            body.billable,
        ));
    } else if let Some(body) = event.decode::<projects::ProjectUpdated>() {
        let body = body?;
        let client_id = client_id(&body.client_id)?;
        told.add_project(project(
            event,
            body.state(),
            client_id,
            body.code,
            body.display_name,
            body.billable,
        ));
    } else if let Some(body) = event.decode::<projects::ProjectArchived>() {
        let body = body?;
        let client_id = client_id(&body.client_id)?;
        told.add_project(project(
            event,
            body.state(),
            client_id,
            body.code,
            body.display_name,
            body.billable,
        ));
    }
    Ok(())
}

fn client_id(text: &str) -> Result<Uuid, Distrust> {
    Uuid::try_parse(text).map_err(|_| Distrust::Body)
}

fn consultant(
    event: &Event,
    state: ConsultantState,
    code: String,
    display_name: String,
    subject: String,
) -> Consultant {
    Consultant {
        id: ConsultantId::new(event.aggregate_id),
        code,
        display_name,
        subject: Some(subject).filter(|subject| !subject.is_empty()),
        active: state == ConsultantState::Active,
        version: event.version,
    }
}

fn project(
    event: &Event,
    state: ProjectState,
    client_id: Uuid,
    code: String,
    display_name: String,
    billable: bool,
) -> Project {
    Project {
        id: ProjectId::new(event.aggregate_id),
        client_id,
        code,
        display_name,
        active: state == ProjectState::Active,
        billable,
        version: event.version,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kit::TenantId;
    use kit::ctx::Actor;
    use prost::Name;

    fn event<M: Name>(version: i64, body: &M) -> Event {
        Event {
            id: Uuid::from_u128(7),
            tenant: TenantId::NONE,
            type_name: M::full_name(),
            noun: String::new(),
            aggregate_id: Uuid::from_u128(1),
            version,
            occurred_at: time::OffsetDateTime::UNIX_EPOCH,
            actor: Actor::Service("projects".to_owned()),
            traceparent: None,
            subject: String::new(),
            body: body.encode_to_vec().into(),
        }
    }

    fn told<M: Name>(body: &M) -> References {
        let mut told = References::default();
        read(&mut told, &event(3, body)).unwrap();
        told
    }

    #[test]
    fn an_archived_project_is_kept_as_one_that_does_not_go_on() {
        let client_id = Uuid::from_u128(5);
        let body = projects::ProjectArchived {
            client_id: client_id.to_string(),
            code: "apollo".to_owned(),
            state: ProjectState::Archived.into(),
            ..Default::default()
        };
        let known = told(&body).projects.into_values().next().unwrap();
        assert_eq!(
            (known.code.as_str(), known.active, known.version),
            ("apollo", false, 3)
        );
        assert_eq!(known.client_id, client_id);
    }

    #[test]
    fn a_consultant_without_a_subject_is_nobody_that_could_call() {
        let body = consultants::ConsultantCreated {
            state: ConsultantState::Active.into(),
            ..Default::default()
        };
        let known = told(&body).consultants.into_values().next().unwrap();
        assert_eq!((known.active, known.subject), (true, None));
    }

    #[test]
    fn an_event_of_another_type_tells_nothing() {
        assert_eq!(
            told(&projects::ClientCreated::default()),
            References::default()
        );
    }

    #[test]
    fn a_project_of_no_client_is_not_believed() {
        let mut told = References::default();
        let body = projects::ProjectCreated::default();
        assert_eq!(read(&mut told, &event(1, &body)), Err(Distrust::Body));
    }

    #[test]
    fn every_type_that_is_listened_to_is_read() {
        let read: Vec<String> = vec![
            consultants::ConsultantCreated::full_name(),
            consultants::ConsultantUpdated::full_name(),
            consultants::ConsultantDeactivated::full_name(),
            projects::ProjectCreated::full_name(),
            projects::ProjectUpdated::full_name(),
            projects::ProjectArchived::full_name(),
        ];
        assert_eq!(read, TYPES);
    }
}
