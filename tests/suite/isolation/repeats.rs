//! Over every RPC that changes something: repeated under its request_id it gives the first answer, and another request
//! under that id is refused; so whoever does not know what became of a call repeats it.

use harness::probe;
use kit::ctx::Clock;
use serde_json::json;
use tonic::Code;
use tonic_types::StatusExt as _;

use super::cases::{CASES, Case, Fixture, compose, descriptor, full_name, methods};

/// What only reads.
const READS: [&str; 6] = ["Get", "List", "Lookup", "Watch", "Export", "Summarize"];
/// Its rows have keys of their own, by which a repeat finds them.
const BY_KEY: &str = "catalyst.time_entries.v1.TimeEntryService/ImportTimeEntries";

fn has_request_id(method: &str) -> bool {
    let field = descriptor(method).input().get_field_by_name("request_id");
    field.is_some()
}

#[test]
fn every_rpc_that_changes_something_takes_a_request_id() {
    for method in methods() {
        let name = full_name(&method);
        let reads = READS.iter().any(|verb| method.name().starts_with(verb));
        assert_eq!(
            has_request_id(&name),
            !reads && name != BY_KEY,
            "{name}: a call whose outcome is unknown must be repeated safely"
        );
    }
}

#[tokio::test]
async fn a_repeat_gets_the_first_answer_and_another_request_under_its_id_is_refused() {
    let own = Fixture::new("Repeats").await;
    let mut tried = 0;
    for case in CASES.iter().filter(|case| has_request_id(case.method)) {
        let caller = own.caller(case.who, case.method);
        let id = Clock::system().new_uuid().to_string();
        let request = |case: &Case, swapped| {
            let mut request = own.json(case, swapped);
            request["request_id"] = json!(id);
            prost::Message::encode_to_vec(&compose(case.method, &request))
        };
        let first = request(case, None);
        let answer = probe(&caller, case.method, first.clone()).await;
        assert_eq!(answer.code, Code::Ok, "{}: {}", case.method, answer.message);
        let again = probe(&caller, case.method, first.clone()).await;
        assert_eq!(answer, again, "{}", case.method);

        let random = Clock::system().new_uuid().to_string();
        let swapped = case.ids.first().map(|(name, _)| (*name, random.as_str()));
        let other = request(case, swapped);
        if other == first {
            // Nothing in it could differ.
            continue;
        }
        let refused = probe(&caller, case.method, other).await;
        let status = tonic::Status::with_details(
            refused.code,
            refused.message.clone(),
            refused.details.clone().into(),
        );
        let reason = status.get_details_error_info().map(|it| it.reason);
        assert_eq!(
            reason.as_deref(),
            Some("REQUEST_ID_REUSED"),
            "{}: {refused:?}",
            case.method
        );
        tried += 1;
    }
    assert!(tried >= 14, "only {tried} RPCs were tried");
}
