//! Attacks on who is let in: tokens, tenant metadata, roles, services, tenants that are gone, metadata beside the token.

use harness::{Caller, Probe, workload_token_of};
use kit::TenantId;
use kit::ctx::Clock;
use prost_reflect::ReflectMessage as _;
use serde_json::json;
use tonic::Code;

use super::ground::Aim;
use super::kind::Kind;
use super::shot::{Call, Event, Shot, all_alike, is_code, is_refusal, says_when};
use crate::isolation::cases::{Who, audience};

const TENANT: &str = "x-tenant-id";

fn unverified(aim: &Aim<'_>, failure: &'static str, severity: &'static str) -> Event {
    Event::Unverified {
        source: aim.seen_source(),
        failure,
        severity,
    }
}

/// A shot whose calls are refused like one without a token, each counted under its failure.
fn unauthenticated(
    aim: &Aim<'_>,
    note: &str,
    callers: Vec<(Caller, &'static str, &'static str)>,
) -> Shot {
    let channel = aim.own_channel();
    let message = aim.request();
    let mut events = Vec::new();
    let mut calls = Vec::new();
    for (caller, failure, severity) in callers {
        let caller = caller.over(channel.clone());
        calls.push(aim.call(caller, TenantId::NONE, String::new(), &message));
        events.push(unverified(aim, failure, severity));
    }
    Shot::new(note, calls, move |_, answers| {
        all_alike(answers)?;
        is_refusal(&answers[0], Code::Unauthenticated, "UNAUTHENTICATED")?;
        Ok(events.clone())
    })
}

fn without_token(aim: &Aim<'_>) -> (Caller, &'static str, &'static str) {
    (aim.insider().0.without("authorization"), "MISSING", "LOW")
}

pub(super) fn no_token(aim: &Aim<'_>) -> Vec<Shot> {
    let (right, _) = aim.insider();
    let second = right.metadata().get("authorization").cloned();
    let second = second.and_then(|value| value.to_str().map(str::to_owned).ok());
    let callers = vec![
        without_token(aim),
        (
            right
                .clone()
                .with("authorization", &second.unwrap_or_default()),
            "MISSING",
            "LOW",
        ),
        (
            right
                .clone()
                .without("authorization")
                .with("authorization", "Basic YWRtaW46YWRtaW4="),
            "MALFORMED",
            "LOW",
        ),
        // The address on record is the connection's, whatever the caller says of itself.
        (
            right
                .without("authorization")
                .with("x-forwarded-for", "203.0.113.9")
                .with("forwarded", "for=203.0.113.9"),
            "MISSING",
            "LOW",
        ),
    ];
    vec![unauthenticated(aim, "none, two, another scheme", callers)]
}

fn bad_tokens(aim: &Aim<'_>, is_forged: bool) -> Vec<Shot> {
    let tokens = aim.ground.forgeries.iter();
    let tokens = tokens.filter(|bad| bad.is_forged == is_forged);
    let shots = tokens.map(|bad| {
        let caller = aim.insider().0.with_token(&bad.token);
        let callers = vec![without_token(aim), (caller, bad.failure, bad.severity())];
        unauthenticated(aim, bad.note, callers)
    });
    shots.collect()
}

pub(super) fn forged_token(aim: &Aim<'_>) -> Vec<Shot> {
    bad_tokens(aim, true)
}

pub(super) fn misplaced_token(aim: &Aim<'_>) -> Vec<Shot> {
    bad_tokens(aim, false)
}

pub(super) fn metadata_missing(aim: &Aim<'_>) -> Vec<Shot> {
    let call = aim.by_insider(&aim.request(), |caller| caller.without(TENANT));
    vec![Shot::refused(
        "no tenant metadata",
        vec![call],
        Code::InvalidArgument,
        "TENANT_METADATA_INVALID",
        None,
    )]
}

/// A tenant that exists and one that does not get the same bytes, and both are on record.
pub(super) fn tenant_mismatch(aim: &Aim<'_>) -> Vec<Shot> {
    let message = aim.request();
    let unknown = Clock::system().new_uuid().to_string();
    let known = aim.ground.other.firm.id.to_string();
    let calls = [known, unknown, aim.ground.suspended.id.to_string()]
        .iter()
        .map(|named| {
            aim.by_insider(&message, |caller| {
                caller.without(TENANT).with(TENANT, named)
            })
        })
        .collect();
    vec![Shot::refused(
        "existing, unknown, suspended",
        calls,
        Code::PermissionDenied,
        "TENANT_MISMATCH",
        Some(("TenantMismatchDetected", "HIGH")),
    )]
}

pub(super) fn tenant_metadata_tampered(aim: &Aim<'_>) -> Vec<Shot> {
    let message = aim.request();
    let own = aim.tenant().to_string();
    let other = aim.ground.other.firm.id.to_string();
    let shot = |note: &str, severity, change: &dyn Fn(Caller) -> Caller| {
        let call = aim.by_insider(&message, |caller| change(caller.without(TENANT)));
        Shot::refused(
            note,
            vec![call],
            Code::InvalidArgument,
            "TENANT_METADATA_INVALID",
            Some(("TenantMetadataTampered", severity)),
        )
    };
    let one = |value: String| move |caller: Caller| caller.with(TENANT, &value);
    let mut shots = vec![
        shot("own then another", "HIGH", &|caller| {
            caller.with(TENANT, &own).with(TENANT, &other)
        }),
        shot("another then own", "HIGH", &|caller| {
            caller.with(TENANT, &other).with(TENANT, &own)
        }),
        shot("own twice", "MEDIUM", &|caller| {
            caller.with(TENANT, &own).with(TENANT, &own)
        }),
        shot("the binary twin", "HIGH", &|caller| {
            caller
                .with(TENANT, &own)
                .with_bin("x-tenant-id-bin", other.as_bytes())
        }),
        shot("the binary twin alone", "HIGH", &|caller| {
            caller.with_bin(
                "x-tenant-id-bin",
                aim.ground.other.firm.id.uuid().as_bytes(),
            )
        }),
        shot("joined by a comma", "HIGH", &one(format!("{own},{other}"))),
        shot(
            "joined the other way",
            "HIGH",
            &one(format!("{other}, {own}")),
        ),
        shot("another in upper case", "HIGH", &one(other.to_uppercase())),
        shot(
            "another without dashes",
            "HIGH",
            &one(other.replace('-', "")),
        ),
        shot("own without dashes", "MEDIUM", &one(own.replace('-', ""))),
        shot("own after a space", "MEDIUM", &one(format!(" {own}"))),
        shot("nil", "MEDIUM", &one(uuid::Uuid::nil().to_string())),
        shot("empty", "MEDIUM", &one(String::new())),
        shot("a word", "MEDIUM", &one("acme".to_owned())),
    ];
    // The reserved tenant's id is digits alone.
    if own.to_uppercase() != own {
        shots.push(shot(
            "own in upper case",
            "MEDIUM",
            &one(own.to_uppercase()),
        ));
    }
    shots
}

/// What users may do by their role. The services have tables of their own; this is what those must say.
fn roles_of(aim: &Aim<'_>) -> &'static [&'static str] {
    const READERS: &[&str] = &["admin", "manager", "consultant", "viewer", "auditor"];
    let method = aim.case.method;
    let reads = matches!(aim.kind, Kind::Get | Kind::List | Kind::Report);
    if method.starts_with("catalyst.audit.") {
        &["admin", "auditor"]
    } else if reads {
        READERS
    } else if method.starts_with("catalyst.time_entries.") && aim.kind != Kind::Bulk {
        &["admin", "manager", "consultant"]
    } else {
        &["admin", "manager"]
    }
}

pub(super) fn role_too_low(aim: &Aim<'_>) -> Vec<Shot> {
    let all = ["admin", "manager", "consultant", "viewer", "auditor"];
    let message = aim.request();
    let own = aim.ground.own.firm.id;
    let tried = |note: String, tenant: TenantId, roles: &[&str], event| {
        let actor = aim.ground.actor();
        let caller = Caller::user(tenant, &actor, roles).over(aim.ground.line());
        let call = aim.call(caller, tenant, actor, &message);
        Shot::refused(
            note,
            vec![call],
            Code::PermissionDenied,
            "PERMISSION_DENIED",
            Some(event),
        )
    };
    let everything = [all.as_slice(), &["platform_operator"]].concat();
    match aim.case.who {
        Who::Admin => {
            let event = ("PermissionDenied", "LOW");
            let lacking = all.iter().filter(|role| !roles_of(aim).contains(*role));
            let mut shots: Vec<Shot> = lacking
                .map(|role| tried((*role).to_owned(), own, &[*role], event))
                .collect();
            shots.push(tried("no role".to_owned(), own, &[], event));
            shots.push(tried(
                "operator in the own tenant".to_owned(),
                own,
                &["platform_operator"],
                event,
            ));
            shots.push(tried(
                "everything in the platform's tenant".to_owned(),
                TenantId::PLATFORM,
                &everything,
                event,
            ));
            shots
        }
        Who::Operator => {
            let event = ("PermissionDenied", "MEDIUM");
            vec![
                tried("everything in a firm".to_owned(), own, &everything, event),
                tried(
                    "a firm's roles in the platform's tenant".to_owned(),
                    TenantId::PLATFORM,
                    &all,
                    event,
                ),
            ]
        }
        Who::Service(_) => {
            let event = ("ServiceIdentityMisused", "HIGH");
            vec![
                tried("a user".to_owned(), own, &everything, event),
                tried(
                    "an operator".to_owned(),
                    TenantId::PLATFORM,
                    &["platform_operator"],
                    event,
                ),
            ]
        }
    }
}

pub(super) fn service_identity(aim: &Aim<'_>) -> Vec<Shot> {
    let message = aim.request();
    let own = aim.ground.own.firm.id;
    let here = audience(aim.case.method);
    // A service that no RPC is for.
    let service = "audit";
    let call = |caller: Caller| {
        let caller = caller.over(aim.ground.line());
        aim.call(caller, own, service.to_owned(), &message)
    };
    let misused = Shot::refused(
        "a service that may not",
        vec![call(Caller::service(service, here, own))],
        Code::PermissionDenied,
        "PERMISSION_DENIED",
        Some(("ServiceIdentityMisused", "HIGH")),
    );
    let elsewhere = if here == "tenants" {
        "audit"
    } else {
        "tenants"
    };
    let now = Clock::system().now().unix_timestamp();
    let undelegated = json!({"iss": "catalyst-workload", "sub": "time-entries", "aud": here, "iat": now,
        "exp": now + 60});
    let impostor = json!({"iss": "catalyst-workload", "sub": "time-entries", "aud": here,
        "tenant_id": own.to_string(), "iat": now, "exp": now + 60});
    let bearer = |service: &str, claims| {
        let token = workload_token_of(service, claims);
        let caller = Caller::bare(own).with_token(&token);
        caller.with(TENANT, &own.to_string())
    };
    let refused = unauthenticated(
        aim,
        "meant for another service, without a tenant, in another's name",
        vec![
            (
                Caller::service("time-entries", elsewhere, own),
                "WRONG_ISSUER_OR_AUDIENCE",
                "LOW",
            ),
            (
                bearer("time-entries", &undelegated),
                "CLAIMS_INVALID",
                "LOW",
            ),
            (bearer("audit", &impostor), "CLAIMS_INVALID", "LOW"),
        ],
    );
    vec![misused, refused]
}

/// A suspended tenant and one that never was get the same bytes.
pub(super) fn tenant_not_active(aim: &Aim<'_>) -> Vec<Shot> {
    let message = aim.request();
    let gone = [aim.ground.suspended.id, aim.ground.ghost];
    let calls = gone.map(|tenant| {
        let actor = aim.ground.actor();
        let (caller, actor) = match aim.case.who {
            Who::Service(service) => (
                Caller::service(service, audience(aim.case.method), tenant),
                service.to_owned(),
            ),
            _ => (Caller::user(tenant, &actor, &["admin"]), actor),
        };
        aim.call(caller.over(aim.ground.line()), tenant, actor, &message)
    });
    vec![Shot::refused(
        "suspended, never there",
        calls.into(),
        Code::PermissionDenied,
        "TENANT_NOT_ACTIVE",
        Some(("SuspendedTenantRefused", "MEDIUM")),
    )]
}

/// What a proxy or a client may say beside the token counts for nothing: the call and its record are the token's.
pub(super) fn smuggled_metadata(aim: &Aim<'_>) -> Vec<Shot> {
    let other = aim.ground.other.firm.id.to_string();
    let names = [
        "x-tenant",
        "tenant-id",
        "tenant",
        "x-forwarded-tenant",
        "x-forwarded-user",
        "x-user",
        "x-user-id",
        "x-actor",
        "x-roles",
        "x-original-tenant-id",
        "x-tenant-id-override",
        "grpc-tenant-id",
        "grpc-internal-tenant",
    ];
    let call = aim.by_insider(&aim.fresh(), |caller| {
        let smuggled = names
            .iter()
            .fold(caller, |caller, name| caller.with(name, &other));
        smuggled
            .with("x-forwarded-for", "203.0.113.9")
            .with("x-forwarded-host", &other)
            .with(
                "traceparent",
                "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            )
            .with("tracestate", "tenant=other")
            .with("baggage", &format!("tenant_id={other},app.tenant={other}"))
    });
    let name = aim.case.method;
    let is_settled = ["Archive", "Deactivate", "Acknowledge", "Suspend", "Resume"]
        .iter()
        .any(|verb| name.contains(&format!("/{verb}")));
    let acts = aim.case.who == Who::Admin
        && !is_settled
        && matches!(
            aim.kind,
            Kind::Create | Kind::Update | Kind::Delete | Kind::Link | Kind::Bulk
        );
    vec![Shot::harmless("all at once", call, acts)]
}

pub(super) fn over_rate(aim: &Aim<'_>) -> Vec<Shot> {
    // Empty: the rate is looked at before the request is.
    let message = prost_reflect::DynamicMessage::new(aim.request().descriptor());
    let (caller, actor) = aim.insider();
    let caller = caller.over(aim.ground.slow.clone());
    let calls = (0..6)
        .map(|_| aim.call(caller.clone(), aim.tenant(), actor.clone(), &message))
        .collect();
    vec![Shot::new("six calls in a row", calls, |calls, answers| {
        let limited: Vec<&Probe> = answers
            .iter()
            .filter(|answer| answer.code == Code::ResourceExhausted)
            .collect();
        let first = limited
            .first()
            .ok_or("six calls within a second were let in at a rate of one")?;
        is_refusal(first, Code::ResourceExhausted, "RATE_LIMITED")?;
        if limited.iter().any(|answer| !says_when(answer)) {
            return Err("a refusal does not say when to come again".to_owned());
        }
        Ok(vec![calls[0].event("RateLimited", "LOW")])
    })]
}

/// Spellings of the path that are none of the contract never reach a handler.
pub(super) fn unknown_method(aim: &Aim<'_>) -> Vec<Shot> {
    let (service, name) = aim.case.method.split_once('/').expect("a method's name");
    let message = aim.request();
    [
        format!("{service}/Steal{name}"),
        format!("{service}/{}", name.to_lowercase()),
        format!("{}/{name}", service.to_lowercase()),
        format!("{service}%2F{name}"),
        format!("/{service}/{name}"),
        format!("{service}/{name}/"),
        format!("{service}//{name}"),
    ]
    .into_iter()
    .map(|path| {
        let call = aim.by_insider(&message, |caller| caller);
        let call = Call {
            path: path.clone(),
            ..call
        };
        Shot::new(path, vec![call], |_, answers| {
            is_code(&answers[0], Code::Unimplemented)?;
            match &answers[0].body {
                None => Ok(Vec::new()),
                Some(_) => Err("it has an answer".to_owned()),
            }
        })
    })
    .collect()
}
