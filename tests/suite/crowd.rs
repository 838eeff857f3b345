//! A crowd before the database: most are told at once to come back, nobody is shut out by others, and an attempt to cross a
//! tenant line is still seen.

use std::pin::pin;
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use harness::{Firm, Replica, eventually};
use tokio::time::timeout;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::limits::{Locked, lists, renames};

const WAITING: usize = 32;
/// How long a call may wait for a connection; half of it makes a crowd.
const WAIT_MILLISECONDS: u64 = 8_000;
/// Long enough for an answer that waits for nothing.
const SHORTLY: Duration = Duration::from_millis(200);

fn is_told_to_come_back(status: &Status) -> bool {
    let details = status.get_error_details();
    let reason = details.error_info().map(|it| it.reason.as_str());
    status.code() == Code::ResourceExhausted
        && reason == Some("OVERLOADED")
        && details.retry_info().is_some()
}

#[tokio::test]
async fn in_a_crowd_most_are_told_at_once_a_quiet_tenant_finds_a_place_and_attempts_are_seen() {
    let holders = [Firm::new("Holder").await, Firm::new("Keeper").await];
    let (busy, quiet) = (Firm::new("Busy").await, Firm::new("Quiet").await);
    let replica = Replica::with(|settings| {
        settings.database.database_max_connections = 2;
        settings.database.database_wait_milliseconds = WAIT_MILLISECONDS;
    })
    .await;
    let [one, other] = holders.each_ref().map(|firm| replica.called_by(firm));
    let (crowd, neighbor) = (replica.called_by(&busy), replica.called_by(&quiet));
    let mut held = Vec::new();
    for firm in &holders {
        let client = firm.wins_client("Acme").await;
        held.push((Locked::client(firm, &client.id).await, client.id));
    }
    let [(mut first, its), (mut second, theirs)] = held.try_into().ok().expect("two rows");
    // A process that knows the tokens.
    for caller in [&crowd, &neighbor] {
        lists(caller).await.expect("there is no crowd");
    }

    let writing = try_join_all([renames(&one, &its), renames(&other, &theirs)]);
    let checks = async {
        first.is_awaited(1).await;
        second.is_awaited(1).await;
        let waiting = join_all((0..WAITING).map(|_| lists(&crowd)));
        let checks = async {
            let told = eventually("one more is told to come back", async || {
                timeout(SHORTLY, lists(&crowd)).await.ok()?.err()
            });
            let told = told.await;
            assert!(is_told_to_come_back(&told), "{told}");

            let unknown = crowd.clone().with_token("no.such.token");
            let refused = lists(&unknown).await.expect_err("no token of ours");
            assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
            let forged = crowd
                .clone()
                .without("x-tenant-id")
                .with("x-tenant-id", &quiet.id.to_string());
            lists(&crowd).await.expect_err("a crowd");
            // To put it on record takes a connection.
            let mut attempt = pin!(lists(&forged));
            assert!(timeout(SHORTLY, &mut attempt).await.is_err());
            let (attempt, served, ()) = tokio::join!(attempt, lists(&neighbor), async {
                first.release().await;
                second.release().await;
            });
            let attempt = attempt.expect_err("another's name");
            assert_eq!(attempt.code(), Code::PermissionDenied, "{attempt}");
            served.expect("who is alone finds a place");
        };
        tokio::join!(waiting, checks).0
    };
    let (written, waited) = tokio::join!(writing, checks);
    written.expect("they have their connections");
    let shed: Vec<Status> = waited.into_iter().filter_map(Result::err).collect();
    // In the place of one of theirs the quiet tenant waited.
    assert!(shed.len() < WAITING / 2, "{}", shed.len());
    assert!(shed.iter().all(is_told_to_come_back), "{shed:?}");
    eventually("the crowd is gone", async || lists(&crowd).await.ok()).await;
    replica.stop().await;
}
