//! The end of a process: what was begun is answered, nobody holds it up, and callers are told before it goes.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use futures::StreamExt;
use harness::{Firm, Replica};
use prost::Message as _;
use proto::audit::v1 as audit;
use proto::consultants::v1 as pb;
use tokio::net::TcpListener;
use tonic::transport::Endpoint;

use super::frames::{DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, Peer, call, frame, message};
use super::note;
use super::served::Served;

const GET: &str = "catalyst.consultants.v1.ConsultantService/GetConsultant";
const WATCH_HEALTH: &str = "grpc.health.v1.Health/Watch";
/// What the README of operators promises of a stop.
const LIMIT: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_process_that_stops_says_so_first_and_answers_what_was_begun() {
    let firm = Firm::new("Begun").await;
    let consultant = firm.hires("Kim").await.id;
    let mut served = Served::start(&[]).await;
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
    // The settings of the server: the connection stands.
    peer.frame(Duration::from_secs(5)).await.expect("settings");
    assert!(served.is_ready().await);

    let since = Instant::now();
    served.terminate();
    harness::eventually("the probe says that it is not ready", async || {
        (!served.is_ready().await).then_some(())
    })
    .await;
    // New connections are taken until every prober can have noticed.
    Peer::silent(served.address, "127.0.0.2")
        .await
        .expect("it still listens");
    let asked = peer
        .awaits(Duration::from_secs(5), |frame| frame.kind == GOAWAY)
        .await
        .expect("the connection is asked to go");
    assert_eq!(asked.reason(), Some(0), "no error");
    assert!(
        since.elapsed() >= Duration::from_millis(400),
        "there was no time to notice"
    );

    let request = pb::GetConsultantRequest {
        consultant_id: consultant,
    };
    let body = message(&request.encode_to_vec());
    peer.send(&frame(DATA, END_STREAM, 1, &body))
        .await
        .expect("sent");
    let answered = peer
        .awaits(Duration::from_secs(5), |frame| frame.kind == DATA)
        .await;
    assert!(answered.is_some(), "the call was cut off");
    assert_eq!(served.ends().await, Some(0));
    note(&format!("stopped in {:?}", since.elapsed()));
}

#[tokio::test]
async fn a_silent_client_cannot_hold_the_stop_of_a_process() {
    // A collector that takes what it is sent and never answers.
    let collector = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = collector.local_addr().expect("its address");
    let endpoint = format!("http://{address}");
    let mut served = Served::start(&[("CATALYST_OTLP_ENDPOINT", &endpoint)]).await;

    let _silent = Peer::silent(served.address, "127.0.0.2")
        .await
        .expect("connected");
    let mut idle = Peer::begin(served.address, &[]).await;
    let mut half = Peer::begin(served.address, &[]).await;
    let mut watch = Peer::begin(served.address, &[]).await;
    for peer in [&mut idle, &mut half, &mut watch] {
        peer.frame(Duration::from_secs(5)).await.expect("settings");
        // From here on they neither read nor answer.
        peer.answers = false;
    }
    let head = call(GET, &[("grpc-timeout", "1H")]);
    half.send(&frame(HEADERS, END_HEADERS, 1, &head))
        .await
        .expect("sent");
    half.send(&frame(DATA, 0, 1, &[0, 0, 0]))
        .await
        .expect("sent");
    let head = call(WATCH_HEALTH, &[]);
    watch
        .send(&frame(HEADERS, END_HEADERS, 1, &head))
        .await
        .expect("sent");
    watch
        .send(&frame(DATA, END_STREAM, 1, &message(&[])))
        .await
        .expect("sent");
    watch
        .awaits(Duration::from_secs(5), |frame| frame.kind == DATA)
        .await
        .expect("the watch is open");

    let since = Instant::now();
    served.terminate();
    let code = served.ends().await;
    let took = since.elapsed();
    note(&format!("stopped in {took:?}"));
    assert_eq!(code, Some(0));
    assert!(took <= LIMIT, "the stop took {took:?}");
    drop(collector);
}

#[tokio::test]
async fn an_open_watch_ends_when_its_process_stops_and_does_not_hold_it() {
    let firm = Firm::new("Watching").await;
    let replica = Replica::with_rate(NonZeroU32::MAX).await;
    let channel = Endpoint::from_shared(replica.url.clone())
        .expect("a URL")
        .connect_lazy();
    let request = audit::WatchRecordsRequest {
        filter: None,
        after_sequence: Some(0),
    };
    let over = firm.user("auditor", &["admin"]).over(channel);
    let mut watch = harness::eventually("the replica knows the firm", async || {
        let watch = over.audit().watch_records(request.clone()).await;
        Some(watch.ok()?.into_inner())
    })
    .await;
    firm.hires("Kim").await;
    watch.next().await.expect("a record").expect("a record");

    let since = Instant::now();
    let (ended, ()) = tokio::join!(watch.collect::<Vec<_>>(), replica.stop());
    let took = since.elapsed();
    assert!(took <= Duration::from_secs(5), "the stop took {took:?}");
    if let Some(Err(status)) = ended.last() {
        assert_eq!(status.code(), tonic::Code::Unavailable, "{status:?}");
    }
}
