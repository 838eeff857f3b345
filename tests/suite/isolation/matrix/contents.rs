//! Attacks by what a request says: ids, owners, codes and keys of another tenant, size, deadline.

use harness::Probe;
use kit::ctx::Clock;
use prost_reflect::{DynamicMessage, ReflectMessage as _, Value};
use tonic::Code;

use super::fields;
use super::ground::Aim;
use super::kind::Kind;
use super::shot::{Call, Event, Shot, all_alike, is_code, is_refusal};
use crate::isolation::cases::{Foreign, Who, decode};

/// How a call names the id: what else is in the request, and what that changes.
struct Naming {
    note: &'static str,
    field: &'static str,
    text: String,
    /// The call is refused for this before a row is looked for, if at all.
    refusal: Option<&'static str>,
}

fn namings() -> [Naming; 4] {
    let naming = |note, field, text: &str, refusal| Naming {
        note,
        field,
        text: text.to_owned(),
        refusal,
    };
    [
        naming("plain", "", "", None),
        naming("with an etag", "etag", "7", None),
        naming(
            "with a request id",
            "request_id",
            &Clock::system().new_uuid().to_string(),
            None,
        ),
        naming(
            "with a bad mask",
            "paths",
            "nonsense",
            Some("INVALID_FIELDS"),
        ),
    ]
}

/// Another tenant's id, alive or gone, and an id that nobody has: not to be told apart, and the victim's is noticed.
pub(super) fn foreign_id(aim: &Aim<'_>) -> Vec<Shot> {
    let ground = aim.ground;
    let mut shots = Vec::new();
    for (name, foreign) in aim.case.ids {
        let alive = ("alive", ground.other.id(name));
        let gone = ground.gone.iter().filter(|(of, _)| of == name);
        let gone = gone.map(|(_, id)| ("gone", id.as_str()));
        for (state, id) in std::iter::once(alive).chain(gone) {
            for naming in namings() {
                if let Some(shot) = named(aim, name, *foreign, (state, id), &naming) {
                    shots.push(shot);
                }
            }
        }
    }
    shots
}

fn named(
    aim: &Aim<'_>,
    name: &str,
    foreign: Foreign,
    (state, id): (&str, &str),
    naming: &Naming,
) -> Option<Shot> {
    let ground = aim.ground;
    let missing = Clock::system().new_uuid().to_string();
    let mut calls = Vec::new();
    for id in [id, &missing] {
        let mut message = ground.request(&ground.own, aim.case, Some((name, id)), true);
        if !naming.field.is_empty() {
            let path = fields::named(&message.descriptor(), naming.field)?;
            fields::set(&mut message, &path, &naming.text);
        }
        calls.push(aim.by_insider(&message, |caller| caller));
    }
    let note = format!("{name} {state} {}", naming.note);
    if let Some(reason) = naming.refusal {
        return Some(Shot::refused(
            note,
            calls,
            Code::InvalidArgument,
            reason,
            None,
        ));
    }
    let has_etag = naming.field == "etag";
    let is_recorded = foreign != Foreign::Empty && aim.kind != Kind::Internal;
    let method = aim.case.method;
    Some(Shot::new(note, calls, move |calls, answers| {
        all_alike(answers)?;
        // The etag is the own resource's where the foreign id is only named in it, and is judged first.
        if has_etag && is_refusal(&answers[0], Code::Aborted, "ETAG_STALE").is_ok() {
            return Ok(Vec::new());
        }
        outcome(method, foreign, &answers[0])?;
        if !is_recorded {
            return Ok(Vec::new());
        }
        let mut events: Vec<Event> = calls
            .iter()
            .map(|call| call.event("ResourceNotFound", "LOW"))
            .collect();
        events.push(calls[0].event("CrossTenantAccessAttempted", "HIGH"));
        Ok(events)
    }))
}

fn outcome(method: &str, foreign: Foreign, answer: &Probe) -> Result<(), String> {
    if foreign == Foreign::Missing {
        return is_refusal(answer, Code::NotFound, "NOT_FOUND");
    }
    is_code(answer, Code::Ok)?;
    let body = decode(method, answer.body.as_deref().unwrap_or_default());
    let result = &body["results"][0];
    let is_right = match foreign {
        Foreign::Empty => body == serde_json::json!({}),
        _ => {
            result["outcome"] == "IMPORT_OUTCOME_REJECTED"
                && result["reason"] == "ERROR_REASON_NOT_FOUND"
        }
    };
    is_right
        .then_some(())
        .ok_or_else(|| format!("something is in the answer: {body}"))
}

/// Masks that name an owner are refused; an owner among fields that the contract does not have changes nothing.
pub(super) fn owner_in_request(aim: &Aim<'_>) -> Vec<Shot> {
    let mut shots = Vec::new();
    let other = aim.ground.other.firm.id.to_string();
    if let Some(path) = fields::named(&aim.request().descriptor(), "paths") {
        for mask in [
            "tenant_id",
            "tenantId",
            "tenant",
            "owner",
            "id",
            "*.tenant_id",
        ] {
            let mut message = aim.request();
            fields::set(&mut message, &path, mask);
            shots.push(Shot::refused(
                format!("mask {mask}"),
                vec![aim.by_insider(&message, |caller| caller)],
                Code::InvalidArgument,
                "INVALID_FIELDS",
                None,
            ));
        }
    }
    if aim.case.who == Who::Admin {
        let call = aim.by_insider(&aim.fresh(), |caller| caller);
        let mut message = call.message.clone();
        // The numbers that an owner could have had, as fields that no reader of this contract knows.
        for number in [15_u32, 100, 19_999] {
            prost::encoding::string::encode(number, &other, &mut message);
        }
        shots.push(Shot::harmless(
            "unknown fields",
            Call { message, ..call },
            false,
        ));
    }
    shots
}

/// An id that the caller chose is not taken over, whoever has it.
pub(super) fn chosen_id(aim: &Aim<'_>) -> Vec<Shot> {
    let mut message = aim.fresh();
    let Some(path) =
        fields::named(&message.descriptor(), "id").filter(|_| aim.kind == Kind::Create)
    else {
        return Vec::new();
    };
    let names: Vec<String> = path.iter().map(|field| field.name().to_owned()).collect();
    let kind = match names[0].as_str() {
        "time_entry" => "$entry".to_owned(),
        name => format!("${name}"),
    };
    let theirs = aim.ground.other.id(&kind).to_owned();
    fields::set(&mut message, &path, &theirs);
    let call = aim.by_insider(&message, |caller| caller);
    let method = aim.case.method;
    vec![Shot::new(
        "another tenant's",
        vec![call],
        move |_, answers| {
            is_code(&answers[0], Code::Ok)?;
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let made = fields::get(&answer(method, &answers[0]), &names).unwrap_or_default();
            if made == theirs || made.is_empty() {
                return Err(format!("the id made is {made:?}"));
            }
            Ok(Vec::new())
        },
    )]
}

pub(super) fn answer(method: &str, probe: &Probe) -> DynamicMessage {
    let output = crate::isolation::cases::descriptor(method).output();
    DynamicMessage::decode(output, probe.body.as_deref().unwrap_or_default())
        .expect("the answer decodes")
}

/// What is unique is unique in its firm: codes, addresses, subjects and keys that the victim has are free.
pub(super) fn taken_elsewhere(aim: &Aim<'_>) -> Vec<Shot> {
    if aim.case.who != Who::Admin || !matches!(aim.kind, Kind::Create | Kind::Update | Kind::Bulk) {
        return Vec::new();
    }
    let unique = ["code", "email", "subject", "external_id"];
    let descriptor = aim.request().descriptor();
    let paths: Vec<_> = unique
        .iter()
        .filter_map(|name| fields::named(&descriptor, name))
        .collect();
    if paths.is_empty() {
        return Vec::new();
    }
    let word = Clock::system().new_uuid().simple().to_string();
    let mut calls = Vec::new();
    for fixture in [&aim.ground.other, &aim.ground.own] {
        let mut message = aim.ground.request(fixture, aim.case, None, true);
        let mut mask = Vec::new();
        for path in &paths {
            let last = path.last().map_or("", |field| field.name());
            let text = match last {
                "email" => format!("{word}@example.com"),
                _ => word.clone(),
            };
            fields::set(&mut message, path, &text);
            mask.push(Value::String(last.to_owned()));
        }
        if let Some(path) = fields::named(&descriptor, "paths") {
            fields::set(&mut message, &path, "");
            if let Some(Value::Message(inner)) = message.get_field_by_name_mut("update_mask") {
                inner.set_field_by_name("paths", Value::List(mask.clone()));
            }
        }
        calls.push(of_firm(aim, fixture, &message));
    }
    let method = aim.case.method;
    vec![Shot::new(
        "by the victim first",
        calls,
        move |_, answers| {
            for probe in answers {
                is_code(probe, Code::Ok)?;
                let body = decode(method, probe.body.as_deref().unwrap_or_default());
                if body.to_string().contains("REJECTED") {
                    return Err(format!("a row was rejected: {body}"));
                }
            }
            Ok(Vec::new())
        },
    )]
}

/// A call of either firm's admin.
fn of_firm(
    aim: &Aim<'_>,
    fixture: &crate::isolation::cases::Fixture,
    message: &DynamicMessage,
) -> Call {
    let actor = aim.ground.actor();
    let caller = fixture
        .firm
        .user(&actor, &["admin"])
        .over(aim.ground.line());
    let is_attackers = fixture.firm.id == aim.ground.own.firm.id;
    Call {
        is_attackers,
        ..aim.call(caller, fixture.firm.id, actor, message)
    }
}

/// A request id says nothing of another tenant's: the own call is made, and its repeat gets its own answer.
pub(super) fn request_id_elsewhere(aim: &Aim<'_>) -> Vec<Shot> {
    let descriptor = aim.request().descriptor();
    let Some(path) =
        fields::named(&descriptor, "request_id").filter(|_| aim.case.who == Who::Admin)
    else {
        return Vec::new();
    };
    let id = Clock::system().new_uuid().to_string();
    let request = |fixture| {
        let mut message = aim.ground.request(fixture, aim.case, None, true);
        fields::set(&mut message, &path, &id);
        message
    };
    // The same subject in both firms.
    let actor = aim.ground.actor();
    let by = |fixture: &crate::isolation::cases::Fixture, message: &DynamicMessage| {
        let caller = fixture
            .firm
            .user(&actor, &["admin"])
            .over(aim.ground.line());
        Call {
            is_attackers: fixture.firm.id == aim.ground.own.firm.id,
            ..aim.call(caller, fixture.firm.id, actor.clone(), message)
        }
    };
    let mine = request(&aim.ground.own);
    let calls = vec![
        by(&aim.ground.other, &request(&aim.ground.other)),
        by(&aim.ground.own, &mine),
        by(&aim.ground.own, &mine),
    ];
    vec![Shot::new("by the victim first", calls, |_, answers| {
        for answer in answers {
            is_code(answer, Code::Ok)?;
        }
        all_alike(&answers[1..])?;
        let theirs = answers[0].body.as_deref().unwrap_or_default();
        if !theirs.is_empty() && answers[0].body == answers[1].body {
            return Err("the answer is the other tenant's".to_owned());
        }
        Ok(Vec::new())
    })]
}

/// A message beyond 4 MiB reaches no handler.
pub(super) fn oversize(aim: &Aim<'_>) -> Vec<Shot> {
    let call = aim.by_insider(&aim.request(), |caller| caller);
    let mut message = call.message.clone();
    let padding = "x".repeat(4 * 1024 * 1024 + 1 - message.len());
    prost::encoding::string::encode(19_999, &padding, &mut message);
    vec![Shot::new(
        "4 MiB and more",
        vec![Call { message, ..call }],
        |_, answers| match answers[0].code {
            Code::ResourceExhausted | Code::OutOfRange => Ok(Vec::new()),
            code => Err(format!("expected ResourceExhausted, got {code:?}")),
        },
    )]
}

/// A call given up after a millisecond is done or not done: its repeat finds the one or makes the other.
pub(super) fn short_deadline(aim: &Aim<'_>) -> Vec<Shot> {
    let mut message = aim.fresh();
    let descriptor = message.descriptor();
    if let Some(path) = fields::named(&descriptor, "request_id") {
        fields::set(&mut message, &path, &Clock::system().new_uuid().to_string());
    }
    if aim.case.who == Who::Admin
        && matches!(aim.kind, Kind::Create)
        && let Some(path) = fields::named(&descriptor, "code")
    {
        fields::set(&mut message, &path, &Clock::system().new_uuid().to_string());
    }
    let (caller, actor) = aim.insider();
    let hasty = caller.clone().with("grpc-timeout", "1m");
    let calls = vec![
        aim.call(hasty, aim.tenant(), actor.clone(), &message),
        aim.call(caller, aim.tenant(), actor, &message),
    ];
    vec![Shot::new("then without one", calls, |_, answers| {
        match answers[0].code {
            Code::Ok | Code::DeadlineExceeded | Code::Cancelled => {}
            code => return Err(format!("expected DeadlineExceeded, got {code:?}")),
        }
        is_code(&answers[1], Code::Ok)?;
        Ok(Vec::new())
    })]
}

/// Texts that would be code or layout somewhere else.
const INJECTIONS: [(&str, &str); 5] = [
    ("a quote", "x' or 1=1 --"),
    (
        "a setting",
        "x'); select set_config('app.current_tenant_id','',true); --",
    ),
    ("a NUL", "a\0b"),
    ("a direction override", "a\u{202e}b"),
    ("very long", ""),
];
/// Text that people write, which comes back as it was sent.
const FREE: [&str; 8] = [
    "display_name",
    "job_title",
    "note",
    "role",
    "email",
    "subject",
    "code",
    "external_id",
];

/// Every text of every request, found in the contract: taken as text, or refused by name; never a fault of ours.
pub(super) fn injection(aim: &Aim<'_>) -> Vec<Shot> {
    let mut shots = Vec::new();
    for path in fields::texts(&aim.request().descriptor()) {
        for (what, text) in INJECTIONS {
            let text = if text.is_empty() {
                "x".repeat(100_000)
            } else {
                // Subjects and keys are taken but once.
                format!("{text}{}", Clock::system().new_uuid().simple())
            };
            shots.push(injected(aim, &path, what, text));
        }
    }
    shots
}

fn injected(aim: &Aim<'_>, path: &fields::Path, what: &str, text: String) -> Shot {
    let names: Vec<String> = path.iter().map(|field| field.name().to_owned()).collect();
    let last = names.last().cloned().unwrap_or_default();
    // What has to be there once for each call is taken only where the call can succeed.
    let takes = aim.kind != Kind::Delete && !aim.case.method.contains("/Unassign");
    let ground = aim.ground;
    let mut message = ground.request(&ground.own, aim.case, None, takes);
    if aim.kind == Kind::Update
        && FREE.contains(&last.as_str())
        && let Some(mask) = fields::named(&message.descriptor(), "paths")
    {
        fields::set(&mut message, &mask, &last);
    }
    fields::set(&mut message, path, &text);
    let call = aim.by_insider(&message, |caller| caller);
    let method = aim.case.method;
    let verb = method.rsplit('/').next().unwrap_or_default();
    let is_query = ["List", "Summarize", "Watch"]
        .iter()
        .any(|query| verb.starts_with(query));
    let note = format!("{} is {what}", fields::name(path));
    Shot::new(note, vec![call], move |calls, answers| {
        let found = super::shot::reason(&answers[0]);
        match (answers[0].code, found.as_str()) {
            (Code::Ok, _) => {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                let stored = fields::get(&answer(method, &answers[0]), &names);
                match stored {
                    Some(stored) if FREE.contains(&last.as_str()) && stored != text => {
                        Err(format!("{text:?} was stored as {stored:?}"))
                    }
                    _ => Ok(Vec::new()),
                }
            }
            (Code::InvalidArgument, "PAGE_TOKEN_INVALID") if last == "page_token" => {
                Ok(vec![calls[0].event("PageTokenTampered", "MEDIUM")])
            }
            (Code::InvalidArgument, "INVALID_FIELDS") if is_query => {
                Ok(vec![calls[0].event("InputRejected", "LOW")])
            }
            (Code::InvalidArgument, "INVALID_FIELDS") => Ok(Vec::new()),
            (Code::Aborted, "ETAG_STALE") if last == "etag" => Ok(Vec::new()),
            (code, reason) => Err(format!(
                "expected Ok or InvalidArgument, got {code:?} {reason} ({})",
                answers[0].message
            )),
        }
    })
}

/// Requests of firms have no word for a tenant or an owner; only the control plane names tenants.
#[test]
fn no_request_of_a_firm_can_name_a_tenant() {
    for method in crate::isolation::cases::methods() {
        if Kind::of(&method) == Some(Kind::Admin) {
            continue;
        }
        for path in fields::texts(&method.input()) {
            let name = fields::name(&path);
            assert!(
                !name.contains("tenant") && !name.contains("owner"),
                "{} has a field {name}",
                method.full_name()
            );
        }
    }
}
