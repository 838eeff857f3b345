//! Calls that are answered before they have arrived.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use harness::{Caller, Firm, Replica, eventually};
use tokio::time::timeout;

use super::frames::{
    DATA, END_HEADERS, END_STREAM, Frame, HEADERS, PING, Peer, call, frame, message,
};
use crate::limits::{Locked, lists, renames};

const METHOD: &str = "catalyst.projects.v1.ProjectService/ListClients";
const SOON: Duration = Duration::from_secs(10);
/// Long enough for an answer that waits for nothing.
const SHORTLY: Duration = Duration::from_millis(200);
/// More of them are taken for a flood when each breaks a rule.
const TIMES: u32 = 8;
const AT_ONCE: u32 = 100;

/// Makes calls over one connection, whose messages come after all of their heads have been seen; how many are answered
/// without a message, as refusals are.
async fn calls_in_two_parts(replica: &Replica, caller: &Caller) -> u32 {
    let address = replica.url.trim_start_matches("http://");
    let mut peer = Peer::begin(address.parse().expect("an address"), &[]).await;
    let metadata = caller.metadata().clone().into_headers();
    let metadata: Vec<(&str, &str)> = metadata
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().expect("ASCII")))
        .collect();
    let answered = AtomicU32::new(0);
    for time in 0..TIMES {
        let streams = (0..AT_ONCE).map(|number| 2 * (time * AT_ONCE + number) + 1);
        let heads: Vec<u8> = streams
            .clone()
            .flat_map(|stream| frame(HEADERS, END_HEADERS, stream, &call(METHOD, &metadata)))
            .chain(frame(PING, 0, 0, &[7; 8]))
            .collect();
        peer.send(&heads).await.expect("the connection lives");
        let seen = peer.awaits(SOON, |it| {
            answered.fetch_add(u32::from(is_answer(it)), Ordering::Relaxed);
            it.kind == PING && it.payload == [7; 8]
        });
        seen.await.expect("the server has seen them");
        let messages: Vec<u8> = streams
            .flat_map(|stream| frame(DATA, END_STREAM, stream, &message(&[])))
            .collect();
        peer.send(&messages).await.expect("the connection lives");
        while answered.load(Ordering::Relaxed) < (time + 1) * AT_ONCE {
            if peer.awaits(SOON, is_answer).await.is_none() {
                break;
            }
            answered.fetch_add(1, Ordering::Relaxed);
        }
    }
    answered.into_inner()
}

fn is_answer(frame: &Frame) -> bool {
    frame.kind == HEADERS && frame.flags & END_STREAM != 0
}

#[tokio::test]
async fn calls_that_are_told_to_come_back_before_they_have_arrived_do_not_end_their_connection() {
    let holders = [Firm::new("Holder").await, Firm::new("Keeper").await];
    let busy = Firm::new("Busy").await;
    let replica = Replica::with(|settings| {
        settings.database.database_max_connections = 2;
        settings.database.database_wait_milliseconds = 2_000;
    })
    .await;
    let crowd = replica.called_by(&busy);
    lists(&crowd).await.expect("there is no crowd");
    let mut held = Vec::new();
    for firm in &holders {
        let client = firm.wins_client("Acme").await;
        held.push((Locked::client(firm, &client.id).await, client.id));
    }
    let [(mut first, its), (mut second, theirs)] = held.try_into().ok().expect("two rows");
    let [one, other] = holders.each_ref().map(|firm| replica.called_by(firm));
    let writing = try_join_all([renames(&one, &its), renames(&other, &theirs)]);
    let checks = async {
        first.is_awaited(1).await;
        second.is_awaited(1).await;
        // There is always one that waits for long.
        let waiting = async {
            loop {
                join_all((0..4).map(|_| lists(&crowd))).await;
            }
        };
        let checks = async {
            eventually("one more is told to come back", async || {
                timeout(SHORTLY, lists(&crowd)).await.ok()?.err()
            })
            .await;
            calls_in_two_parts(&replica, &crowd).await
        };
        let answered = tokio::select! {
            answered = checks => answered,
            () = waiting => unreachable!("it has no end"),
        };
        first.release().await;
        second.release().await;
        answered
    };
    let (written, answered) = tokio::join!(writing, checks);
    written.expect("they have their connections");
    assert_eq!(answered, TIMES * AT_ONCE);
    replica.stop().await;
}
