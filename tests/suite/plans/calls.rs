//! The calls that lead to the statements of the services, the same for each firm.
//!
//! Invariant: a call succeeds, or the test ends; what is asked for is there for the smallest firm as for the whale.

use std::collections::BTreeMap;

use harness::{Caller, probe};
use kit::ctx::Clock;
use prost::Message as _;
use serde_json::Value;
use tonic::Code;

use super::ground::{Ground, id, tenant};
use crate::isolation::cases::{compose, decode};

/// One to a line, as its head explains.
const CALLS: &str = include_str!("calls.txt");

/// Makes all calls as one firm, and a few that are refused.
pub(super) async fn make(ground: &Ground, firm: u16, other: u16) {
    let new = || Clock::system().new_uuid().to_string();
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in [
        ("tenant", tenant(firm).to_string()),
        ("once", new()),
        ("client", id(1, firm, 0)),
        ("project", id(2, firm, 0)),
        ("calm_project", id(2, firm, 6)),
        ("consultant", id(3, firm, 0)),
        ("entry", id(5, firm, 12)),
        ("alert", id(6, firm, 0)),
        ("other_alert", id(6, firm, 1)),
    ] {
        names.insert(name.to_owned(), value);
    }
    let callers = BTreeMap::from([
        ("admin", ground.user(firm, "admin", &["admin"])),
        ("own", ground.user(firm, "s-0", &["consultant"])),
        ("operator", ground.operator()),
    ]);
    let is_call = |line: &&str| !line.is_empty() && !line.starts_with('#');
    for line in CALLS.lines().filter(is_call) {
        let mut text = line.to_owned();
        for (name, value) in &names {
            text = text.replace(&format!("\"${name}\""), &format!("\"{value}\""));
        }
        text = text
            .replace("$uuid", &new())
            .replace("$new", &format!("n{}", new()));
        let (text, keeps) = text.split_once(" -> ").unwrap_or((&text, ""));
        let mut words = text.splitn(3, ' ');
        let mut word = || words.next().expect("who, method, request");
        let caller = callers.get(word()).expect("a caller");
        let method = format!("catalyst.{}", word());
        let request: Value = serde_json::from_str(word()).expect("a request is JSON");
        let answer = call(caller, &method, &request).await;
        if let Some((name, pointer)) = keeps.split_once(' ') {
            let kept = answer.pointer(pointer).and_then(Value::as_str);
            names.insert(name.to_owned(), kept.expect("an id").to_owned());
        }
        // Each page of a summary adds up everything again, before it leaves out what was on the pages before.
        let token = answer["nextPageToken"].as_str().filter(|it| !it.is_empty());
        if let Some(token) = token.filter(|_| method.contains("/List")) {
            let mut next = request;
            next["pageToken"] = token.into();
            call(caller, &method, &next).await;
        }
    }
    are_refused(ground, firm, other).await;
}

/// Watches the log of a firm until its first record. Whoever leaves a watch takes a connection with it, and a new one
/// reads catalogs at first: so this comes after all other calls.
pub(super) async fn watch(ground: &Ground, firm: u16) {
    let method = "catalyst.audit.v1.AuditService/WatchRecords";
    let admin = ground.user(firm, "admin", &["admin"]);
    call(&admin, method, &serde_json::json!({"afterSequence": "0"})).await;
}

async fn call(caller: &Caller, method: &str, request: &Value) -> Value {
    let message = compose(method, request).encode_to_vec();
    let answer = probe(caller, method, message).await;
    assert_eq!(
        answer.code,
        Code::Ok,
        "{method} {request}: {}",
        answer.message
    );
    decode(method, &answer.body.unwrap_or_default())
}

/// Names a resource of another firm, and the firm itself; does twice what the role may not.
async fn are_refused(ground: &Ground, firm: u16, other: u16) {
    let mallory = ground.user(firm, "mallory", &["manager"]);
    let get = "catalyst.projects.v1.ProjectService/GetProject";
    let list = "catalyst.audit.v1.AuditService/ListRecords";
    let foreign = compose(get, &serde_json::json!({"projectId": id(2, other, 3)})).encode_to_vec();
    let mixed_up = mallory
        .clone()
        .without("x-tenant-id")
        .with("x-tenant-id", &tenant(other).to_string());
    let clerk = ground.user(firm, "clerk", &["consultant"]);
    let forger = mallory.clone().with_token("eyJhbGciOiJFUzI1NiJ9.e30.AAAA");
    for (caller, method, message) in [
        (&mallory, get, foreign.clone()),
        (&mixed_up, get, foreign),
        (&clerk, list, Vec::new()),
        (&clerk, list, Vec::new()),
        (&forger, list, Vec::new()),
    ] {
        let refused = probe(caller, method, message).await;
        assert_ne!(refused.code, Code::Ok, "{method}");
    }
}
