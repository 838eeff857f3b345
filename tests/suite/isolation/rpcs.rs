//! Over every RPC: a foreign id is a missing id, byte for byte, and nothing of another tenant is ever in an answer.

use harness::probe;
use kit::ctx::Clock;
use tonic::Code;

use super::cases::{CASES, Case, Fixture, Foreign, Who, decode, full_name, methods};

#[test]
fn every_rpc_of_the_contract_has_its_case() {
    let known: Vec<String> = methods().iter().map(full_name).collect();
    let without: Vec<&String> = known
        .iter()
        .filter(|name| !CASES.iter().any(|case| case.method == **name))
        .collect();
    assert!(
        without.is_empty(),
        "RPCs without an isolation case: {without:?}; add one to suite/isolation/cases.rs"
    );
    let stale: Vec<&str> = CASES
        .iter()
        .map(|case| case.method)
        .filter(|name| !known.iter().any(|k| k == name))
        .collect();
    assert!(
        stale.is_empty(),
        "cases of RPCs that do not exist: {stale:?}"
    );
}

#[test]
fn every_id_field_of_a_request_is_tried_with_a_foreign_id() {
    for case in CASES.iter().filter(|case| case.who != Who::Operator) {
        for name in case
            .request
            .split('"')
            .filter(|word| word.starts_with('$') && *word != "$new")
        {
            assert!(
                case.ids.iter().any(|(id, _)| *id == name),
                "{}: {name} is not tried",
                case.method
            );
        }
    }
}

#[tokio::test]
async fn a_right_call_of_every_rpc_succeeds() {
    let own = Fixture::new("Own").await;
    for case in CASES {
        let answer = probe(
            &own.caller(case.who, case.method),
            case.method,
            own.request(case, None),
        )
        .await;
        assert_eq!(answer.code, Code::Ok, "{}: {}", case.method, answer.message);
    }
}

#[tokio::test]
async fn a_foreign_id_and_a_missing_id_get_the_same_bytes() {
    let (own, other) = tokio::join!(Fixture::new("Own"), Fixture::new("Other"));
    let mut cells = 0;
    for case in CASES {
        for (name, foreign) in case.ids {
            let caller = own.caller(case.who, case.method);
            let missing_id = Clock::system().new_uuid().to_string();
            let with_foreign = probe(
                &caller,
                case.method,
                own.request(case, Some((name, other.id(name)))),
            )
            .await;
            let with_missing = probe(
                &caller,
                case.method,
                own.request(case, Some((name, &missing_id))),
            )
            .await;
            let cell = format!("{} with a foreign {name}", case.method);
            assert_eq!(with_foreign, with_missing, "{cell}");
            check(&cell, case, *foreign, &with_foreign);
            cells += 1;
        }
    }
    assert!(cells >= 25, "only {cells} cells were tried");
}

fn check(cell: &str, case: &Case, foreign: Foreign, answer: &harness::Probe) {
    match foreign {
        Foreign::Missing => assert_eq!(answer.code, Code::NotFound, "{cell}: {}", answer.message),
        Foreign::Empty => {
            assert_eq!(answer.code, Code::Ok, "{cell}: {}", answer.message);
            let body = decode(case.method, answer.body.as_deref().unwrap_or_default());
            assert_eq!(body, serde_json::json!({}), "{cell}");
        }
        Foreign::RowRejected => {
            assert_eq!(answer.code, Code::Ok, "{cell}: {}", answer.message);
            let body = decode(case.method, answer.body.as_deref().unwrap_or_default());
            assert_eq!(
                body["results"][0]["outcome"], "IMPORT_OUTCOME_REJECTED",
                "{cell}: {body}"
            );
            assert_eq!(
                body["results"][0]["reason"], "ERROR_REASON_NOT_FOUND",
                "{cell}: {body}"
            );
        }
    }
}

#[tokio::test]
async fn no_list_holds_anything_of_another_tenant() {
    let (own, other) = tokio::join!(Fixture::new("Own"), Fixture::new("Other"));
    let foreign: Vec<&str> = [
        "$client",
        "$project",
        "$consultant",
        "$assignment",
        "$entry",
        "$alert",
        "$tenant",
    ]
    .iter()
    .map(|name| other.id(name))
    .collect();
    for case in CASES.iter().filter(|case| case.who == Who::Admin) {
        let answer = probe(
            &own.caller(case.who, case.method),
            case.method,
            own.request(case, None),
        )
        .await;
        let body = answer
            .body
            .map(|body| decode(case.method, &body).to_string())
            .unwrap_or_default();
        for id in &foreign {
            assert!(!body.contains(*id), "{} shows {id}", case.method);
        }
    }
}

#[tokio::test]
async fn what_another_tenant_uses_is_free_for_the_own() {
    let (own, other) = tokio::join!(harness::Firm::new("Own"), harness::Firm::new("Other"));
    let theirs = other.wins_client("North").await;
    let client = proto::projects::v1::Client {
        code: theirs.code,
        display_name: "North".to_owned(),
        ..Default::default()
    };
    let request = proto::projects::v1::CreateClientRequest {
        client: Some(client),
        request_id: String::new(),
    };
    assert!(own.projects().create_client(request.clone()).await.is_ok());
    let again = own
        .projects()
        .create_client(request)
        .await
        .expect_err("the own code is taken");
    assert_eq!(again.code(), Code::AlreadyExists);
}
