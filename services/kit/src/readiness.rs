//! Readiness that tells the truth: a process is ready while it serves and the database of each of its services answers.
//!
//! The broker does not count. Without it calls are answered as before and events wait in the outbox, so taking replicas
//! out, all of them at once, would only turn late events into refused calls.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::db::Db;
use crate::host::Definition;
use crate::tasks::Tasks;

/// Between two questions to a database.
const PERIOD: Duration = Duration::from_secs(2);

/// Whether the process serves calls now.
#[derive(Clone, Debug, Default)]
pub(crate) struct Readiness(Arc<State>);

#[derive(Debug, Default)]
struct State {
    serves: AtomicBool,
    /// Services whose database does not answer.
    away: Mutex<BTreeSet<&'static str>>,
}

impl Readiness {
    pub(crate) fn set(&self, serves: bool) {
        self.0.serves.store(serves, Ordering::Release);
    }

    fn serves(&self) -> bool {
        self.0.serves.load(Ordering::Acquire)
    }

    /// What keeps the process from serving, a line each; none when it is ready.
    pub(crate) fn obstacle(&self) -> Option<String> {
        if !self.serves() {
            return Some("not ready\n".to_owned());
        }
        let away = self.0.away.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        for service in away.iter() {
            // Writing into a text does not fail.
            let _ = writeln!(text, "not ready: the database of {service} does not answer");
        }
        (!text.is_empty()).then_some(text)
    }

    /// Notes whether the database of a service answers; whether that is news.
    fn note(&self, service: &'static str, answers: bool) -> bool {
        let mut away = self.0.away.lock().unwrap_or_else(PoisonError::into_inner);
        if answers {
            away.remove(service)
        } else {
            away.insert(service)
        }
    }
}

/// Asks the database of a service as long as the process serves, and lets readiness and health follow.
pub(crate) async fn watch_database(
    db: Db,
    definition: Definition,
    readiness: Readiness,
    health: HealthReporter,
    tasks: Tasks,
) {
    let service = definition.name;
    while tasks.pause(PERIOD).await {
        let answers = tokio::select! {
            () = tasks.stopping() => return,
            answers = db.answers() => answers,
        };
        // Without the shared cell, those that do serve would be taken from their tenants.
        let answers = answers || db.cells().some_dedicated_serves();
        if !readiness.serves() || !readiness.note(service, answers) {
            continue;
        }
        let status = |serves| {
            if serves {
                ServingStatus::Serving
            } else {
                ServingStatus::NotServing
            }
        };
        if answers {
            tracing::info!(service, "the database answers again");
        } else {
            tracing::error!(
                service,
                "the database does not answer; the process is not ready"
            );
        }
        for name in definition.grpc_services {
            health.set_service_status(*name, status(answers)).await;
        }
        // The empty name is the process as a whole.
        let whole = status(readiness.obstacle().is_none());
        health.set_service_status("", whole).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_ready_while_it_serves_and_every_database_answers() {
        let readiness = Readiness::default();
        assert_eq!(readiness.obstacle().as_deref(), Some("not ready\n"));
        readiness.set(true);
        assert_eq!(readiness.obstacle(), None);
        assert!(readiness.note("projects", false) && readiness.note("audit", false));
        assert!(!readiness.note("audit", false), "no news");
        assert_eq!(
            readiness.obstacle().as_deref(),
            Some(
                "not ready: the database of audit does not answer\n\
                 not ready: the database of projects does not answer\n"
            )
        );
        assert!(readiness.note("audit", true) && readiness.note("projects", true));
        assert_eq!(readiness.obstacle(), None);
    }
}
