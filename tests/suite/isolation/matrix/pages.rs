//! Attacks with page tokens: another tenant's, another user's, another filter's, another method's, and scribbles.

use data_encoding::BASE64URL_NOPAD as BASE64;
use futures::future::LocalBoxFuture;
use harness::Caller;
use kit::TenantId;
use prost_reflect::{DynamicMessage, ReflectMessage as _};
use serde_json::{Value, json};
use tonic::Code;

use super::fields;
use super::ground::{Aim, case_of, send};
use super::shot::{Call, Shot};
use crate::isolation::cases::{Case, Fixture, Who, compose, decode};

/// A list that has a second page, and the same list narrowed.
struct Listing {
    method: &'static str,
    whole: &'static str,
    narrowed: &'static str,
}

const fn listing(method: &'static str, whole: &'static str, narrowed: &'static str) -> Listing {
    Listing {
        method,
        whole,
        narrowed,
    }
}

/// Every paged RPC.
const LISTINGS: [Listing; 11] = [
    listing(
        "TenantService/ListTenants",
        "{}",
        r#"{"state": "TENANT_STATE_ACTIVE"}"#,
    ),
    listing(
        "ConsultantService/ListConsultants",
        "{}",
        r#"{"state": "CONSULTANT_STATE_ACTIVE"}"#,
    ),
    // It has no filter.
    listing("ProjectService/ListClients", "{}", ""),
    listing(
        "ProjectService/ListProjects",
        "{}",
        r#"{"state": "PROJECT_STATE_ACTIVE"}"#,
    ),
    listing(
        "ProjectService/ListAssignments",
        r#"{"projectId": "$project"}"#,
        r#"{"projectId": "$project", "consultantId": "$consultant"}"#,
    ),
    listing(
        "TimeEntryService/ListTimeEntries",
        "{}",
        r#"{"projectId": "$project"}"#,
    ),
    listing(
        "TimeEntryService/SummarizeTimeEntries",
        r#"{"groupBy": ["SUMMARY_DIMENSION_PROJECT", "SUMMARY_DIMENSION_DAY"]}"#,
        r#"{"groupBy": ["SUMMARY_DIMENSION_PROJECT"]}"#,
    ),
    listing(
        "AuditService/ListRecords",
        "{}",
        r#"{"filter": {"category": "RECORD_CATEGORY_DOMAIN"}}"#,
    ),
    listing(
        "AuditService/ListAlerts",
        "{}",
        r#"{"state": "ALERT_STATE_OPEN"}"#,
    ),
    listing(
        "AuditOperatorService/ListTenantRecords",
        "{}",
        r#"{"tenantId": "$tenant"}"#,
    ),
    listing(
        "AuditOperatorService/ListTenantAlerts",
        "{}",
        r#"{"tenantId": "$tenant"}"#,
    ),
];

fn of(method: &str) -> &'static Listing {
    LISTINGS
        .iter()
        .find(|listing| method.ends_with(listing.method))
        .unwrap_or_else(|| panic!("{method} has page tokens and no entry in matrix/pages.rs"))
}

fn page(
    fixture: &Fixture,
    method: &'static str,
    request: &'static str,
    token: &str,
) -> DynamicMessage {
    let case = Case {
        request,
        ..*case_of(method)
    };
    let mut json = fixture.json(&case, None);
    json["pageSize"] = json!(1);
    json["pageToken"] = json!(token);
    compose(method, &json)
}

/// A token that the method makes for this caller.
async fn token(
    aim: &Aim<'_>,
    caller: &Caller,
    fixture: &Fixture,
    method: &'static str,
    request: &'static str,
) -> String {
    let message = page(fixture, method, request, "");
    let call = Call {
        path: method.to_owned(),
        ..aim.call(caller.clone(), TenantId::NONE, String::new(), &message)
    };
    let answer = send(&call).await;
    assert_eq!(answer.code, Code::Ok, "{method}: {}", answer.message);
    let body = decode(method, answer.body.as_deref().unwrap_or_default());
    match &body["nextPageToken"] {
        Value::String(token) => token.clone(),
        _ => panic!("{method} has no second page: {body}"),
    }
}

pub(super) fn page_token<'a>(aim: &'a Aim<'a>) -> LocalBoxFuture<'a, Vec<Shot>> {
    Box::pin(async move {
        let method = aim.case.method;
        if fields::named(&aim.request().descriptor(), "page_token").is_none() {
            return Vec::new();
        }
        let listing = of(method);
        let own = &aim.ground.own;
        let (caller, actor) = aim.insider();
        let right = token(aim, &caller, own, method, listing.whole).await;
        let shot = |note: &str, by: &Caller, actor: &str, tokens: &[String], severity| {
            let calls = tokens.iter().map(|token| {
                let message = page(own, method, listing.whole, token);
                aim.call(by.clone(), aim.tenant(), actor.to_owned(), &message)
            });
            Shot::refused(
                note,
                calls.collect(),
                Code::InvalidArgument,
                "PAGE_TOKEN_INVALID",
                Some(("PageTokenTampered", severity)),
            )
        };
        let mut shots = Vec::new();

        let (colleague, colleagues_name) = aim.insider();
        shots.push(shot(
            "another user's",
            &colleague,
            &colleagues_name,
            std::slice::from_ref(&right),
            "MEDIUM",
        ));
        // The same subject, in the other firm.
        let twin = aim.ground.other.firm.user(&actor, &["admin"]);
        let theirs = match aim.case.who {
            Who::Operator => "catalyst.projects.v1.ProjectService/ListProjects",
            _ => method,
        };
        let foreign = token(aim, &twin, &aim.ground.other, theirs, of(theirs).whole).await;
        shots.push(shot(
            "another tenant's",
            &caller,
            &actor,
            &[foreign],
            "HIGH",
        ));

        let elsewhere = match (aim.case.who, method.ends_with("/ListTenants")) {
            (Who::Operator, false) => "catalyst.tenants.v1.TenantService/ListTenants",
            (Who::Operator, true) => "catalyst.audit.v1.AuditOperatorService/ListTenantRecords",
            _ if method.ends_with("/ListClients") => {
                "catalyst.projects.v1.ProjectService/ListProjects"
            }
            _ => "catalyst.projects.v1.ProjectService/ListClients",
        };
        let strayed = token(aim, &caller, own, elsewhere, of(elsewhere).whole).await;
        shots.push(shot(
            "another method's",
            &caller,
            &actor,
            &[strayed],
            "MEDIUM",
        ));

        if !listing.narrowed.is_empty() {
            let message = page(own, method, listing.narrowed, &right);
            let call = aim.call(caller.clone(), aim.tenant(), actor.clone(), &message);
            shots.push(Shot::refused(
                "another filter's",
                vec![call],
                Code::InvalidArgument,
                "PAGE_TOKEN_INVALID",
                Some(("PageTokenTampered", "MEDIUM")),
            ));
        }
        shots.push(shot(
            "changed",
            &caller,
            &actor,
            &changed(&right, method),
            "MEDIUM",
        ));
        let scribbles = [
            right[..right.len() - 4].to_owned(),
            right[..8].to_owned(),
            format!("{right}AAAA"),
            BASE64.encode(&[7; 96]),
            "' or 1=1 --".to_owned(),
            "x".repeat(1 << 20),
        ];
        shots.push(shot(
            "cut, lengthened, of another key, no token, a megabyte",
            &caller,
            &actor,
            &scribbles,
            "MEDIUM",
        ));
        shots
    })
}

/// The token with one bit flipped: in each of its bytes for one method, in some for the others, which share the code.
fn changed(token: &str, method: &str) -> Vec<String> {
    let bytes = BASE64.decode(token.as_bytes()).expect("a token is base64");
    let step = if method.ends_with("/ListClients") {
        1
    } else {
        17
    };
    (0..bytes.len())
        .step_by(step)
        .map(|i| {
            let mut bytes = bytes.clone();
            bytes[i] ^= 1;
            BASE64.encode(&bytes)
        })
        .collect()
}
