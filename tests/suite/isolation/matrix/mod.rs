//! The attack matrix: every RPC of the contract under every attack, with the status and the security event of each cell.
//!
//! Cells are made from the contract, so that an RPC cannot be left out; each caller has a name of its own, so that a cell
//! proves its own event, and that it left no other.

mod contents;
mod doors;
mod fields;
mod forgeries;
mod ground;
mod kind;
mod pages;
mod shot;
mod trail;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::num::NonZeroU32;

use futures::StreamExt as _;
use futures::future::LocalBoxFuture;
use harness::{Firm, Probe, Replica, world};
use tonic::Code;

use self::ground::{Aim, Ground, send};
use self::kind::Kind;
use self::shot::{Call, Event, Shot, is_refusal};
use super::cases::{CASES, descriptor, full_name, methods};

/// How many calls are under way at the same time: half of what a service has connections to the database, so that the
/// tests beside this one find some.
const CALLERS: usize = 6;
/// A cell is an RPC under an attack. The README promises this many.
pub(super) const FLOOR: usize = 600;

/// How the shots of a cell are made.
#[derive(Clone, Copy)]
enum Make {
    Now(fn(&Aim<'_>) -> Vec<Shot>),
    /// It takes calls.
    Later(for<'a> fn(&'a Aim<'a>) -> LocalBoxFuture<'a, Vec<Shot>>),
}

/// One way to try. It makes no shot at an RPC that it does not apply to.
struct Attack {
    name: &'static str,
    make: Make,
}

const fn attack(name: &'static str, make: fn(&Aim<'_>) -> Vec<Shot>) -> Attack {
    Attack {
        name,
        make: Make::Now(make),
    }
}

/// Every attack.
const ATTACKS: [Attack; 20] = [
    attack("no-token", doors::no_token),
    attack("forged-token", doors::forged_token),
    attack("misplaced-token", doors::misplaced_token),
    attack("tenant-metadata-missing", doors::metadata_missing),
    attack("tenant-mismatch", doors::tenant_mismatch),
    attack("tenant-metadata-tampered", doors::tenant_metadata_tampered),
    attack("role-too-low", doors::role_too_low),
    attack("service-identity", doors::service_identity),
    attack("tenant-not-active", doors::tenant_not_active),
    attack("smuggled-metadata", doors::smuggled_metadata),
    attack("over-rate", doors::over_rate),
    attack("unknown-method", doors::unknown_method),
    attack("foreign-id", contents::foreign_id),
    attack("owner-in-request", contents::owner_in_request),
    attack("chosen-id", contents::chosen_id),
    attack("taken-elsewhere", contents::taken_elsewhere),
    attack("request-id-elsewhere", contents::request_id_elsewhere),
    attack("injection", contents::injection),
    attack("oversize", contents::oversize),
    attack("short-deadline", contents::short_deadline),
];

const PAGE_TOKEN: Attack = Attack {
    name: "page-token",
    make: Make::Later(pages::page_token),
};

/// An attack on an RPC, ready.
struct Cell {
    method: &'static str,
    attack: &'static str,
    kind: Kind,
    shots: Vec<Shot>,
}

impl Cell {
    fn name(&self, shot: &Shot) -> String {
        format!("{} × {} ({})", self.method, self.attack, shot.note)
    }
}

/// Every cell to which an attack applies.
async fn cells(ground: &Ground) -> Vec<Cell> {
    let mut made = Vec::new();
    let all = ATTACKS.iter().chain(std::iter::once(&PAGE_TOKEN));
    for (row, attack) in all.enumerate() {
        for (column, case) in CASES.iter().enumerate() {
            let row = u8::try_from(row).expect("few attacks");
            let column = u8::try_from(column).expect("few RPCs");
            let aim = Aim {
                ground,
                case,
                kind: Kind::of(&descriptor(case.method)).expect("a kind"),
                source: Ipv4Addr::new(127, 97, row, column + 1),
            };
            let shots = match attack.make {
                Make::Now(make) => make(&aim),
                Make::Later(make) => make(&aim).await,
            };
            if !shots.is_empty() {
                made.push(Cell {
                    method: case.method,
                    attack: attack.name,
                    kind: aim.kind,
                    shots,
                });
            }
        }
    }
    made
}

/// What one shot came to.
struct Fired {
    name: String,
    verdict: Result<Vec<Event>, String>,
    calls: usize,
}

async fn fire(ground: &Ground, cell: &Cell, shot: &Shot) -> Fired {
    let mut answers = Vec::new();
    let mut leaks = Vec::new();
    for call in &shot.calls {
        let answer = send(call).await;
        if call.is_attackers {
            leaks.extend(canary(ground, seen(&answer)));
        }
        answers.push(answer);
    }
    let verdict = match leaks.first() {
        Some(found) => Err(format!("the answer holds {found} of the victim")),
        None => (shot.judge)(&shot.calls, &answers),
    };
    Fired {
        name: cell.name(shot),
        verdict,
        calls: shot.calls.len(),
    }
}

/// Everything that a caller got.
fn seen(answer: &Probe) -> Vec<u8> {
    let mut all = answer.message.clone().into_bytes();
    all.extend(&answer.details);
    for (name, value) in &answer.metadata {
        all.extend(name.as_bytes());
        all.extend(value.as_bytes());
    }
    all.extend(answer.body.as_deref().unwrap_or_default());
    all
}

/// A canary in some output.
fn canary(ground: &Ground, output: impl AsRef<[u8]>) -> Option<String> {
    let output = output.as_ref();
    let found = ground
        .canaries
        .iter()
        .find(|canary| contains(output, canary.as_bytes()));
    found.cloned()
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}

/// One refusal by each service after everything else, so that its record says: nothing of before is still to come.
async fn sentinels(ground: &Ground) -> Vec<Event> {
    let mut events = Vec::new();
    let mut last_of_service = BTreeMap::new();
    for case in CASES
        .iter()
        .filter(|case| !matches!(case.who, super::cases::Who::Service(_)))
    {
        last_of_service.insert(super::cases::audience(case.method), case);
    }
    for case in last_of_service.into_values() {
        let actor = ground.actor();
        let own = ground.own.firm.id;
        let call = Call {
            caller: ground.own.firm.user(&actor, &[]).over(ground.line()),
            path: case.method.to_owned(),
            message: Vec::new(),
            tenant: own.to_string(),
            actor,
            is_attackers: true,
        };
        let answer = send(&call).await;
        is_refusal(&answer, Code::PermissionDenied, "PERMISSION_DENIED").expect("a sentinel");
        let severity = match case.who {
            super::cases::Who::Operator => "MEDIUM",
            _ => "LOW",
        };
        events.push(call.event("PermissionDenied", severity));
    }
    events
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_rpc_withstands_every_attack_and_each_leaves_its_event() {
    let began = std::time::Instant::now();
    let replica = Replica::with_rate(NonZeroU32::MIN).await;
    let ground = Ground::new(&replica).await;
    let cells = cells(&ground).await;
    let shots = cells
        .iter()
        .flat_map(|cell| cell.shots.iter().map(move |shot| (cell, shot)));
    let fired: Vec<Fired> = futures::stream::iter(shots)
        .map(|(cell, shot)| fire(&ground, cell, shot))
        .buffer_unordered(CALLERS)
        .collect()
        .await;
    replica.stop().await;

    let mut failures = Vec::new();
    let mut expected = Vec::new();
    let mut owners = BTreeMap::new();
    for shot in &fired {
        match &shot.verdict {
            Ok(events) => {
                for event in events {
                    owners.insert(event.clone(), shot.name.clone());
                }
                expected.extend(events.clone());
            }
            Err(why) => failures.push(format!("{}: {why}", shot.name)),
        }
    }
    let later = sentinels(&ground).await;
    let (trail, amiss) = trail::compare(&ground, &expected, &later).await;
    for (how, event) in amiss {
        let owner = owners.get(&event).cloned().unwrap_or_default();
        failures.push(format!("{owner}: {how} on record: {event:?}"));
    }
    failures.extend(canaries_outside_of_answers(&ground).await);
    let alerts = alerts(&ground.other.firm).await.alerts;
    if !alerts
        .iter()
        .any(|alert| alert.rule == "cross-tenant-access")
    {
        failures.push("the victim has no alert".to_owned());
    }
    if trail
        .slowest
        .is_none_or(|slowest| slowest > time::Duration::seconds(5))
    {
        failures.push(format!("an attempt was noticed after {:?}", trail.slowest));
    }

    let calls = fired.iter().map(|shot| shot.calls).sum();
    tell(&cells, calls, began.elapsed(), &trail);
    failures.sort();
    assert!(
        failures.is_empty(),
        "{} failures:\n{}",
        failures.len(),
        failures.join("\n")
    );
    assert!(
        cells.len() >= FLOOR,
        "only {} cells: the README promises {FLOOR}",
        cells.len()
    );
}

/// The victim's canaries in what the attacker's firm may read, and in what the process says of itself.
async fn canaries_outside_of_answers(ground: &Ground) -> Vec<String> {
    let mut found = Vec::new();
    let mut look = |place: &str, output: &[u8]| {
        if let Some(canary) = canary(ground, output) {
            found.push(format!("{place} holds {canary} of the victim"));
        }
    };
    let metrics = format!("{}/metrics", world().admin_url);
    let metrics = reqwest::get(metrics).await.expect("metrics are served");
    look("/metrics", &metrics.bytes().await.expect("a body"));
    if let Some(log) = &world().log {
        let log = std::fs::read(log).expect("the log is read");
        assert!(!log.is_empty(), "the services log nothing");
        look("the log", &log);
    }
    let firm = &ground.own.firm;
    let mut page_token = String::new();
    loop {
        let request = proto::audit::v1::ListRecordsRequest {
            page_size: 500,
            page_token,
            filter: None,
        };
        let page = firm.audit().list_records(request).await;
        let page = page.expect("records are listed").into_inner();
        look("the audit trail", &prost::Message::encode_to_vec(&page));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let alerts = alerts(firm).await;
    look("the alerts", &prost::Message::encode_to_vec(&alerts));
    found
}

async fn alerts(firm: &Firm) -> proto::audit::v1::ListAlertsResponse {
    let request = proto::audit::v1::ListAlertsRequest {
        page_size: 500,
        ..Default::default()
    };
    let alerts = firm.audit().list_alerts(request).await;
    alerts.expect("alerts are listed").into_inner()
}

/// One line past the capture of test output, and the table with it for those who ask.
#[expect(clippy::print_stdout, reason = "the table is for --nocapture alone")]
fn tell(cells: &[Cell], calls: usize, took: std::time::Duration, trail: &trail::Trail) {
    let kinds = Kind::ALL.map(|kind| format!("{:>9}", format!("{kind:?}")));
    let mut table = vec![format!("{:26}{}", "attack × kind", kinds.concat())];
    let names: Vec<&str> = cells.iter().map(|cell| cell.attack).collect();
    let mut rows: Vec<&str> = names.clone();
    rows.dedup();
    for row in rows {
        let counts = Kind::ALL.map(|kind| {
            let of_kind = |cell: &&Cell| cell.attack == row && cell.kind == kind;
            format!("{:>9}", cells.iter().filter(of_kind).count())
        });
        table.push(format!("{row:26}{}", counts.concat()));
    }
    println!("{}", table.join("\n"));
    let tried = |name: &String| cells.iter().any(|cell| cell.method == name);
    let uncovered = methods()
        .iter()
        .map(full_name)
        .filter(|it| !tried(it))
        .count();
    let slowest = trail.slowest.unwrap_or_default();
    let line = format!(
        "isolation: {} cells ({} RPCs × {} attacks where they apply), {calls} calls in {:.1} s, slowest promotion \
         {:.1} s, {uncovered} uncovered RPCs\n",
        cells.len(),
        CASES.len(),
        ATTACKS.len() + 1,
        took.as_secs_f64(),
        slowest.as_seconds_f64(),
    );
    // Standard error itself is not captured.
    let _ = std::io::stderr().write_all(line.as_bytes());
}

#[test]
fn every_rpc_has_a_kind_and_a_case() {
    for method in methods() {
        let name = full_name(&method);
        assert!(
            Kind::of(&method).is_some(),
            "{name} is of no kind: teach it to matrix/kind.rs"
        );
        assert!(
            CASES.iter().any(|case| case.method == name),
            "{name} has no case"
        );
    }
}
