//! What is not a call of a served method never reaches a handler.

use bytes::Bytes;
use harness::world;
use http::{HeaderMap, Request};
use tokio::net::TcpStream;

use super::served::Served;

const KNOWN: &str = "/grpc.health.v1.Health/Check";
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

/// The head of a request that gRPC would let through but for what is changed in it; an empty value removes a header.
pub(super) fn head(verb: &str, path: &str, changes: &[(&str, &str)]) -> Request<()> {
    let uri = format!("http://localhost{path}");
    let mut request = Request::builder()
        .method(verb)
        .uri(uri)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .expect("a request");
    for (name, value) in changes {
        let name = http::HeaderName::try_from(*name).expect("a name");
        request.headers_mut().remove(&name);
        if !value.is_empty() {
            let value = value.parse().expect("a value");
            request.headers_mut().insert(name, value);
        }
    }
    request
}

/// The HTTP status and the headers of the answer.
pub(super) async fn answer_to(
    socket: TcpStream,
    head: Request<()>,
    body: &[u8],
) -> (u16, HeaderMap) {
    let (sender, connection) = h2::client::handshake(socket).await.expect("HTTP/2");
    let asks = async {
        let mut sender = sender.ready().await.expect("ready");
        let (answer, mut sending) = sender.send_request(head, false).expect("sent");
        sending
            .send_data(Bytes::copy_from_slice(body), true)
            .expect("sent");
        let answer = answer.await.expect("an answer");
        (answer.status().as_u16(), answer.headers().clone())
    };
    tokio::select! {
        answer = asks => answer,
        ended = connection => panic!("the connection ended: {ended:?}"),
    }
}

async fn of_world(verb: &str, path: &str, changes: &[(&str, &str)]) -> (u16, HeaderMap) {
    let socket = TcpStream::connect(world().url.trim_start_matches("http://"))
        .await
        .expect("connected");
    answer_to(socket, head(verb, path, changes), &[0, 0, 0, 0, 0]).await
}

fn grpc_status(headers: &HeaderMap) -> Option<&str> {
    headers.get("grpc-status")?.to_str().ok()
}

#[tokio::test]
async fn the_request_that_the_others_differ_from_is_served() {
    let (status, headers) = of_world("POST", KNOWN, &[]).await;
    // The status of a call that went well is in the trailers.
    assert_eq!((status, grpc_status(&headers)), (200, None));
}

#[tokio::test]
async fn a_path_that_is_not_a_served_method_to_the_letter_is_unimplemented() {
    for path in [
        "/",
        "/grpc.health.v1.Health",
        "/grpc.health.v1.Health/",
        "/grpc.health.v1.Health/check",
        "/grpc.health.v1.health/Check",
        "//grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health//Check",
        "/grpc.health.v1.Health%2FCheck",
        "/grpc.health.v1.Health/Check/",
        "/grpc.health.v1.Health/Check?x=1",
        "/grpc.health.v1.Health/./Check",
        "/x/../grpc.health.v1.Health/Check",
        "/catalyst.projects.v1.ProjectService/DropProject",
        "/admin",
    ] {
        let (status, headers) = of_world("POST", path, &[]).await;
        assert_eq!((status, grpc_status(&headers)), (200, Some("12")), "{path}");
        assert!(headers.contains_key("grpc-status-details-bin"), "{path}");
    }
}

#[tokio::test]
async fn what_is_not_grpc_gets_the_http_status_of_its_fault() {
    for (verb, changes, expected) in [
        ("GET", [("te", "trailers")], 405),
        ("PUT", [("te", "trailers")], 405),
        ("DELETE", [("te", "trailers")], 405),
        ("POST", [("content-type", "application/json")], 415),
        ("POST", [("content-type", "application/grpc-web")], 415),
        ("POST", [("content-type", "")], 415),
        ("POST", [("te", "")], 400),
    ] {
        let (status, headers) = of_world(verb, KNOWN, &changes).await;
        assert_eq!(
            (status, grpc_status(&headers)),
            (expected, None),
            "{verb} {changes:?}"
        );
    }
}

#[tokio::test]
async fn reflection_can_be_switched_off_and_health_stays() {
    let (status, headers) = of_world("POST", REFLECTION, &[]).await;
    assert_eq!((status, grpc_status(&headers)), (200, None));

    let served = Served::start(&[("CATALYST_REFLECTION", "false")]).await;
    for (path, expected) in [
        (REFLECTION, Some("12")),
        (
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            Some("12"),
        ),
        (KNOWN, None),
    ] {
        let socket = TcpStream::connect(served.address).await.expect("connected");
        let body = [0, 0, 0, 0, 0];
        let (status, headers) = answer_to(socket, head("POST", path, &[]), &body).await;
        assert_eq!((status, grpc_status(&headers)), (200, expected), "{path}");
    }
}
