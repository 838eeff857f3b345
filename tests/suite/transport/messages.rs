//! Messages that are too large, too deep or no messages, on every method of the contract.

use harness::{Caller, Firm, probe, world};
use prost_reflect::DescriptorPool;
use tonic::Code;
use tonic_types::StatusExt;

/// The methods of the contract, by full name.
fn methods() -> Vec<String> {
    let pool = DescriptorPool::decode(proto::DESCRIPTOR_SET).expect("the contract");
    let services: Vec<_> = pool.services().collect();
    services
        .iter()
        .flat_map(prost_reflect::ServiceDescriptor::methods)
        .map(|method| format!("{}/{}", method.parent_service().full_name(), method.name()))
        .collect()
}

/// Those that the process serves beside it.
const HEALTH: [&str; 2] = ["grpc.health.v1.Health/Check", "grpc.health.v1.Health/Watch"];
const REFLECTION: &str = "grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

/// The code and the reason of the answer to this message.
async fn answer(caller: &Caller, method: &str, message: Vec<u8>) -> (Code, String) {
    let answer = probe(caller, method, message).await;
    let details = answer.details.clone();
    let status = tonic::Status::with_details(answer.code, answer.message, details.into());
    let reason = status.get_details_error_info().map(|it| it.reason);
    (answer.code, reason.unwrap_or_default())
}

#[tokio::test]
async fn a_message_of_a_byte_above_the_limit_is_too_large_for_every_method() {
    let firm = Firm::new("Large").await;
    for method in methods().into_iter().chain(HEALTH.map(str::to_owned)) {
        let large = vec![0; 4 * 1024 * 1024 + 1];
        let expected = (Code::ResourceExhausted, "MESSAGE_TOO_LARGE".to_owned());
        assert_eq!(answer(&firm, &method, large).await, expected, "{method}");
    }
    // The library's reflection ends its stream in silence, whatever ended that of the requests.
    let unanswered = probe(&firm, REFLECTION, vec![0; 4 * 1024 * 1024 + 1]).await;
    assert_eq!(unanswered.body, None);
}

#[tokio::test]
async fn what_is_not_a_message_is_an_invalid_argument_for_every_method() {
    let firm = Firm::new("Malformed").await;
    // Two hundred groups of an unknown field in each other; and a length beyond the end.
    let deep: Vec<u8> = [[0xfb, 0x7f].repeat(200), [0xfc, 0x7f].repeat(200)].concat();
    for method in methods() {
        for (what, bytes) in [("deep", deep.clone()), ("cut", vec![0xfa, 0x7f, 9])] {
            let expected = (Code::InvalidArgument, "MESSAGE_MALFORMED".to_owned());
            let found = answer(&firm, &method, bytes).await;
            assert_eq!(found, expected, "{method}: {what}");
        }
    }
}

#[tokio::test]
async fn compressed_requests_are_unimplemented_and_the_answer_says_what_is_accepted() {
    let firm = Firm::new("Compressed").await;
    let method = "catalyst.projects.v1.ProjectService/ListProjects";
    let caller = firm.user("x", &["admin"]).with("grpc-encoding", "gzip");
    let refused = probe(&caller, method, Vec::new()).await;
    assert_eq!(refused.code, Code::Unimplemented, "{}", refused.message);
    let accepted = refused
        .metadata
        .iter()
        .find(|(name, _)| name == "grpc-accept-encoding");
    assert_eq!(accepted.map(|(_, value)| value.as_str()), Some("identity"));

    // Marked as compressed without an encoding: INTERNAL, as the protocol has it.
    let socket = tokio::net::TcpStream::connect(world().url.trim_start_matches("http://"))
        .await
        .expect("connected");
    let head = super::paths::head("POST", &format!("/{method}"), &[]);
    let (status, headers) = super::paths::answer_to(socket, head, &[1, 0, 0, 0, 0]).await;
    assert_eq!(
        (status, headers["grpc-status"].as_bytes()),
        (200, &b"13"[..])
    );
    assert!(headers.contains_key("grpc-status-details-bin"));
}
