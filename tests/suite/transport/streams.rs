//! Streams of one connection: their number, and answers that nobody takes.

use std::time::Duration;

use harness::Firm;
use prost::Message as _;
use proto::consultants::v1 as pb;

use super::frames::{DATA, END_HEADERS, END_STREAM, HEADERS, Peer, RESET, call, frame, message};
use super::served::{Beside, Served};
use super::whole;

const GET: &str = "catalyst.consultants.v1.ConsultantService/GetConsultant";
/// SETTINGS_INITIAL_WINDOW_SIZE.
const WINDOW: u16 = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_above_the_number_are_refused_and_those_below_it_are_served() {
    let firm = Firm::new("Steady").await;
    let served = Served::start(&[]).await;
    let beside = Beside::start(&served, &firm).await;
    let mut peer = Peer::begin(served.address, &[]).await;
    let head = call(GET, &[("grpc-timeout", "2S")]);
    // The settings of the server, so that what follows breaks them knowingly.
    peer.frame(Duration::from_secs(5)).await.expect("settings");
    let mut bytes = Vec::new();
    for i in 0..u32::try_from(whole(10_000)).expect("a number") {
        bytes.extend(frame(HEADERS, END_HEADERS, 2 * i + 1, &head));
    }
    // The server may close before all is sent.
    let _ = peer.send(&bytes).await;
    let first = peer
        .awaits(Duration::from_secs(5), |frame| frame.kind == RESET)
        .await
        .expect("a stream is refused");
    assert_eq!(
        (first.stream, first.reason()),
        (513, Some(7)),
        "REFUSED_STREAM"
    );
    beside.was_served().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_nobody_takes_is_given_up_and_its_connection_goes_on() {
    let firm = Firm::new("Slow").await;
    let consultant = firm.hires("Kim").await.id;
    let served = Served::start(&[("CATALYST_ANSWER_STALL_SECONDS", "1")]).await;
    let beside = Beside::start(&served, &firm).await;
    let mut peer = Peer::begin(served.address, &[(WINDOW, 0)]).await;
    let metadata = firm.metadata();
    let of = |key: &str| {
        let value = metadata.get(key).expect("the firm sends it");
        value.to_str().expect("ASCII").to_owned()
    };
    let (token, tenant) = (of("authorization"), of("x-tenant-id"));
    let head = call(GET, &[("authorization", &token), ("x-tenant-id", &tenant)]);
    let request = pb::GetConsultantRequest {
        consultant_id: consultant,
    };
    let body = message(&request.encode_to_vec());
    let asks = |stream: u32| {
        let mut bytes = frame(HEADERS, END_HEADERS, stream, &head);
        bytes.extend(frame(DATA, END_STREAM, stream, &body));
        bytes
    };
    peer.send(&asks(1)).await.expect("sent");
    let given_up = peer
        .awaits(Duration::from_secs(10), |frame| frame.kind == RESET)
        .await
        .expect("the stream is reset");
    assert_eq!(given_up.stream, 1);

    // With room for the answer the same connection serves the next call.
    peer.send(&asks(3)).await.expect("sent");
    let room = frame(8, 0, 3, &[0, 1, 0, 0]);
    peer.send(&room).await.expect("sent");
    let answered = peer
        .awaits(Duration::from_secs(10), |frame| {
            frame.kind == DATA && frame.stream == 3
        })
        .await;
    assert!(answered.is_some(), "the connection does not go on");
    beside.was_served().await;
}
