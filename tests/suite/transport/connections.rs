//! Connections: they begin in time, are asked to go at their age, go when they are asked, and are bounded in number.

use std::time::{Duration, Instant};

use harness::Firm;
use prost::Message as _;
use proto::consultants::v1 as pb;

use super::frames::{DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, Peer, call, frame, message};
use super::served::{Beside, Served};
use super::{note, whole};

const GET: &str = "catalyst.consultants.v1.ConsultantService/GetConsultant";

#[tokio::test]
async fn a_connection_is_asked_to_go_at_its_age_and_its_calls_end_well() {
    let firm = Firm::new("Old").await;
    let consultant = firm.hires("Kim").await.id;
    let served = Served::start(&[("CATALYST_CONNECTION_AGE_SECONDS", "3")]).await;
    let since = Instant::now();
    let mut peer = Peer::begin(served.address, &[]).await;
    let metadata = firm.metadata();
    let of = |key: &str| {
        let value = metadata.get(key).expect("the firm sends it");
        value.to_str().expect("ASCII").to_owned()
    };
    let (token, tenant) = (of("authorization"), of("x-tenant-id"));
    let head = call(GET, &[("authorization", &token), ("x-tenant-id", &tenant)]);
    peer.send(&frame(HEADERS, END_HEADERS, 1, &head))
        .await
        .expect("sent");

    let asked = peer
        .awaits(Duration::from_secs(10), |frame| frame.kind == GOAWAY)
        .await
        .expect("the connection is asked to go");
    let age = since.elapsed();
    assert_eq!(asked.reason(), Some(0), "no error");
    assert!(age >= Duration::from_millis(2_400), "after {age:?}");

    // The call that was begun before is answered.
    let request = pb::GetConsultantRequest {
        consultant_id: consultant,
    };
    let body = message(&request.encode_to_vec());
    peer.send(&frame(DATA, END_STREAM, 1, &body))
        .await
        .expect("sent");
    let answered = peer
        .awaits(Duration::from_secs(10), |frame| frame.kind == DATA)
        .await;
    assert!(answered.is_some(), "the call was cut off");
    let ended = peer.ends(Duration::from_secs(10)).await;
    assert!(ended.closed, "{ended:?}");
}

#[tokio::test]
async fn a_connection_that_does_not_go_when_it_is_asked_is_closed() {
    let served = Served::start(&[("CATALYST_CONNECTION_AGE_SECONDS", "1")]).await;
    let mut peer = Peer::begin(served.address, &[]).await;
    // Without an answer to its ping the server cannot know that the request to go has arrived.
    peer.answers = false;
    let ended = peer.ends(Duration::from_secs(30)).await;
    assert!(ended.closed, "{ended:?}");
    assert_eq!(ended.reason, Some(0));
}

#[tokio::test]
async fn a_connection_that_does_not_begin_is_closed() {
    let served = Served::start(&[]).await;
    let since = Instant::now();
    let mut silent = Peer::silent(served.address, "127.0.0.2")
        .await
        .expect("connected");
    let mut begun = Peer::begin(served.address, &[]).await;
    let ended = silent.ends(Duration::from_secs(20)).await;
    assert!(ended.closed, "{ended:?}");
    assert!(since.elapsed() > Duration::from_secs(5));
    assert!(!begun.ends(Duration::from_millis(200)).await.closed);

    let mut http1 = Peer::silent(served.address, "127.0.0.2")
        .await
        .expect("connected");
    http1
        .send(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .expect("sent");
    let ended = http1.ends(Duration::from_secs(5)).await;
    assert!(ended.closed, "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address_cannot_hold_every_connection() {
    let firm = Firm::new("Steady").await;
    let most = whole(1_000);
    let limit = most.to_string();
    let served = Served::start(&[("CATALYST_MAX_CONNECTIONS_PER_PEER", &limit)]).await;
    let beside = Beside::start(&served, &firm).await;
    let before = served.memory();
    let mut held = Vec::new();
    let mut refused = 0;
    for _ in 0..whole(10_000) {
        let mut peer = Peer::begin(served.address, &[]).await;
        // The server speaks first to those whom it serves.
        match peer.frame(Duration::from_secs(5)).await {
            Ok(Some(_)) => held.push(peer),
            _ => refused += 1,
        }
    }
    let grown = served.memory().saturating_sub(before);
    note(&format!(
        "{} held, {refused} refused, memory grown by {grown} KiB",
        held.len()
    ));

    assert_eq!(held.len(), most);
    assert!(grown < 64 * 1024, "grown by {grown} KiB");
    beside.was_served().await;

    drop(held);
    harness::eventually("there is room again", async || {
        let mut peer = Peer::begin(served.address, &[]).await;
        peer.frame(Duration::from_secs(1)).await.ok().flatten()
    })
    .await;
}
