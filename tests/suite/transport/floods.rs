//! Floods: each ends its own connection, costs little memory, and no call of anyone else.

use std::time::Duration;

use harness::{Caller, Firm, eventually};
use proto::audit::v1 as pb;

use super::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Ended, HEADERS, PING, Peer, RESET, SETTINGS,
    block, call, frame, message,
};
use super::served::{Beside, Served};
use super::{note, whole};

const GET: &str = "catalyst.consultants.v1.ConsultantService/GetConsultant";
/// What a flood may leave behind.
const GROWTH_KIB: u64 = 64 * 1024;

/// Sends `count` pieces in bunches, until they are sent or the server has closed, and reads to the end.
async fn floods(peer: &mut Peer, count: usize, piece: impl Fn(u32) -> Vec<u8>) -> Ended {
    let mut bytes = Vec::new();
    for i in 0..u32::try_from(count).expect("a number of frames") {
        bytes.extend(piece(i));
        if bytes.len() >= 64 * 1024 {
            if peer.send(&bytes).await.is_err() {
                bytes.clear();
                break;
            }
            bytes.clear();
        }
    }
    // What the server has closed already takes no more.
    let _ = peer.send(&bytes).await;
    peer.ends(Duration::from_secs(10)).await
}

async fn flood(served: &Served, attack: &str) -> Ended {
    let mut peer = Peer::begin(served.address, &[]).await;
    let head = call(GET, &[]);
    let open = frame(HEADERS, END_HEADERS, 1, &head);
    match attack {
        "rapid reset" => {
            floods(&mut peer, whole(100_000), |i| {
                let stream = 2 * i + 1;
                let mut pair = frame(HEADERS, END_HEADERS, stream, &head);
                pair.extend(frame(RESET, 0, stream, &[0, 0, 0, 8]));
                pair
            })
            .await
        }
        "continuation without an end" => {
            let first = frame(HEADERS, 0, 1, &head);
            peer.send(&first).await.expect("sent");
            let bytes = block(&[("x", "a")]).repeat(3_000);
            floods(&mut peer, whole(64 * 64), |_| {
                frame(CONTINUATION, 0, 1, &bytes)
            })
            .await
        }
        "empty continuation without an end" => {
            let first = frame(HEADERS, 0, 1, &head);
            peer.send(&first).await.expect("sent");
            floods(&mut peer, whole(100_000), |_| {
                frame(CONTINUATION, 0, 1, &[])
            })
            .await
        }
        "pings" => floods(&mut peer, whole(1_000_000), |_| frame(PING, 0, 0, &[7; 8])).await,
        "settings" => {
            let setting = [0, 4, 0, 1, 0, 0];
            floods(&mut peer, whole(100_000), |_| {
                frame(SETTINGS, 0, 0, &setting)
            })
            .await
        }
        "empty data" => {
            peer.send(&open).await.expect("sent");
            floods(&mut peer, whole(1_000_000), |_| frame(DATA, 0, 1, &[])).await
        }
        "headers that unpack to thousands" => {
            // One entry of the table, of 4,000 bytes, named ten thousand times.
            let mut bomb = head.clone();
            bomb.extend([0x40, 1, b'x', 127]);
            bomb.extend([0xa1, 0x1e]);
            bomb.extend([b'a'; 4_000]);
            bomb.extend([0xbe; 10_000]);
            floods(&mut peer, whole(10_000), |i| {
                frame(HEADERS, END_HEADERS | END_STREAM, 2 * i + 1, &bomb)
            })
            .await
        }
        other => panic!("no attack is called {other}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_ends_its_own_connection_and_no_call_of_anyone_else() {
    let firm = Firm::new("Steady").await;
    let served = Served::start(&[]).await;
    let beside = Beside::start(&served, &firm).await;
    let (before, processor) = (served.memory(), served.processor());
    let rounds = u64::try_from(whole(100)).expect("a number");
    for attack in [
        "rapid reset",
        "continuation without an end",
        "empty continuation without an end",
        "pings",
        "settings",
        "empty data",
        "headers that unpack to thousands",
    ] {
        let counted = served.abuses("flood").await;
        // Who was sent away comes again at once.
        for _ in 0..rounds {
            let ended = flood(&served, attack).await;
            assert!(ended.closed, "{attack}: the connection goes on: {ended:?}");
        }
        let grown = served.memory().saturating_sub(before);
        note(&format!("{attack}: memory grown by {grown} KiB"));
        assert!(grown < GROWTH_KIB, "{attack}: grown by {grown} KiB");
        // Ended for what it did, and not by a mistake in how the test does it.
        let what = format!("{attack} is counted as a flood each time");
        eventually(&what, async || {
            (served.abuses("flood").await == counted + rounds).then_some(())
        })
        .await;
    }
    let used = served.processor().saturating_sub(processor);
    note(&format!("{used:?} of processor time"));
    let calls = beside.was_served().await;
    served.calms_down().await;
    note(&format!("{calls} calls beside the floods, none failed"));

    let filter = pb::RecordFilter {
        r#type: "catalyst.common.v1.ProtocolAbused".to_owned(),
        ..Default::default()
    };
    eventually("the floods are on record", async || {
        let request = pb::ListTenantRecordsRequest {
            tenant_id: "none".to_owned(),
            filter: Some(filter.clone()),
            ..Default::default()
        };
        let listed = Caller::operator()
            .audit_operator()
            .list_tenant_records(request)
            .await
            .ok()?
            .into_inner();
        let mut records = listed.records.into_iter().filter_map(|it| it.record);
        records
            .find(|record| record.summary.ends_with("flood."))
            .map(drop)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_never_end_keep_nobody_from_being_served() {
    let firm = Firm::new("Steady").await;
    let served = Served::start(&[]).await;
    let beside = Beside::start(&served, &firm).await;
    let before = served.memory();
    let head = call(GET, &[("grpc-timeout", "2S")]);
    // More calls than the process works on at a time, each with all of its message but the last byte; and with a whole one,
    // but without saying that it was the last.
    let mut unfinished = message(&[10; 100]);
    unfinished.pop();
    for sent in [unfinished, message(&[])] {
        never_end(&served, &head, &sent).await;
    }
    let grown = served.memory().saturating_sub(before);
    assert!(grown < GROWTH_KIB, "grown by {grown} KiB");
    beside.was_served().await;
}

async fn never_end(served: &Served, head: &[u8], unfinished: &[u8]) {
    let mut peers = Vec::new();
    for _ in 0..6 {
        let mut peer = Peer::begin(served.address, &[]).await;
        let mut bytes = Vec::new();
        for i in 0..250 {
            bytes.extend(frame(HEADERS, END_HEADERS, 2 * i + 1, head));
            bytes.extend(frame(DATA, 0, 2 * i + 1, unfinished));
        }
        peer.send(&bytes).await.expect("sent");
        peers.push(peer);
    }
    for mut peer in peers {
        let answered = peer
            .awaits(Duration::from_secs(10), |frame| frame.kind == HEADERS)
            .await;
        let answered = answered.expect("each is answered at its deadline");
        assert!(answered.flags & END_STREAM != 0, "{answered:?}");
    }
}
