//! A crowd before the database: most are told at once to come back, nobody is shut out by others, and every attempt to
//! cross a tenant line is still seen.

use std::time::Duration;

use futures::future::{join_all, try_join_all};
use harness::{Firm, Replica, eventually};
use tokio::time::timeout;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::limits::{Locked, lists, renames};

const WAITING: usize = 32;
/// Long enough for an answer that waits for nothing.
const SHORTLY: Duration = Duration::from_millis(200);
/// How long a call may wait for a connection; half of it makes a crowd.
const WAIT_MILLISECONDS: u64 = 4_000;

fn is_told_to_come_back(status: &Status) -> bool {
    let details = status.get_error_details();
    let reason = details.error_info().map(|it| it.reason.as_str());
    status.code() == Code::ResourceExhausted
        && reason == Some("OVERLOADED")
        && details.retry_info().is_some()
}

#[tokio::test]
async fn in_a_crowd_most_are_told_at_once_a_quiet_tenant_finds_a_place_and_attempts_are_seen() {
    let firms = [Firm::new("Busy").await, Firm::new("Busier").await];
    let quiet = Firm::new("Quiet").await;
    let replica = Replica::with(|settings| {
        settings.database.database_max_connections = 2;
        settings.database.database_wait_milliseconds = WAIT_MILLISECONDS;
    })
    .await;
    let callers = firms.each_ref().map(|firm| replica.called_by(firm));
    let neighbor = replica.called_by(&quiet);
    let mut held = Vec::new();
    for firm in &firms {
        let client = firm.wins_client("Acme").await;
        held.push((Locked::client(firm, &client.id).await, client.id));
    }
    let [(mut first, one), (mut second, other)] = held.try_into().ok().expect("two rows");
    // A process that knows the tokens.
    for caller in callers.iter().chain([&neighbor]) {
        lists(caller).await.expect("there is no crowd");
    }

    let writing = try_join_all([renames(&callers[0], &one), renames(&callers[1], &other)]);
    let waiting = join_all((0..WAITING).map(|number| lists(&callers[number % 2])));
    let checks = async {
        first.is_awaited(1).await;
        second.is_awaited(1).await;
        let told = eventually("one more is told to come back", async || {
            let asked =
                tokio::time::timeout(std::time::Duration::from_millis(50), lists(&callers[0]));
            asked.await.ok()?.err()
        });
        let told = told.await;
        assert!(is_told_to_come_back(&told), "{told}");

        let forged = replica
            .called_by(&firms[0])
            .without("x-tenant-id")
            .with("x-tenant-id", &quiet.id.to_string());
        let unknown = callers[0].clone().with_token("no.such.token");
        lists(&callers[0]).await.expect_err("a crowd");
        let refused = lists(&unknown).await.expect_err("no token of ours");
        assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
        lists(&callers[0]).await.expect_err("a crowd");
        // To record it takes a connection.
        let attempt = timeout(SHORTLY, lists(&forged)).await;
        assert!(attempt.is_err(), "{attempt:?}");

        let (served, ()) = tokio::join!(lists(&neighbor), async {
            first.release().await;
            second.release().await;
        });
        served.expect("who is alone finds a place");
    };
    let (written, waited, ()) = tokio::join!(writing, waiting, checks);
    written.expect("they have their connections");
    let shed: Vec<Status> = waited.into_iter().filter_map(Result::err).collect();
    // In the place of one of theirs the quiet tenant waited, and those who looked whether there is a crowd.
    assert!(shed.len() < WAITING / 2, "{}", shed.len());
    assert!(shed.iter().all(is_told_to_come_back), "{shed:?}");
    for caller in &callers {
        eventually("the crowd is gone", async || lists(caller).await.ok()).await;
    }
    replica.stop().await;
}
