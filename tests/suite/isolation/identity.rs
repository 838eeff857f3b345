//! Over every RPC: who is let in. Tokens, tenant metadata, roles and services, each refused with a constant answer.

use harness::{Caller, Probe, eventually, probe, token_with};
use kit::TenantId;
use kit::ctx::Clock;
use tonic::Code;

use super::cases::{CASES, Case, Fixture, Who};

/// Calls every RPC as the caller that `change` makes of the right one.
async fn everywhere(
    own: &Fixture,
    change: impl Fn(&Case, Caller) -> Option<Caller>,
) -> Vec<(&'static str, Probe)> {
    let mut answers = Vec::new();
    for case in CASES {
        let Some(caller) = change(case, own.caller(case.who, case.method)) else {
            continue;
        };
        answers.push((
            case.method,
            probe(&caller, case.method, own.request(case, None)).await,
        ));
    }
    answers
}

fn all_are(answers: &[(&str, Probe)], code: Code) {
    let (_, first) = answers.first().expect("some RPC was called");
    for (method, answer) in answers {
        assert_eq!(answer.code, code, "{method}: {}", answer.message);
        assert_eq!(
            (&answer.message, &answer.details),
            (&first.message, &first.details),
            "{method}"
        );
    }
}

#[tokio::test]
async fn without_a_token_every_rpc_is_unauthenticated() {
    let own = Fixture::new("Own").await;
    all_are(
        &everywhere(&own, |_, caller| Some(caller.without("authorization"))).await,
        Code::Unauthenticated,
    );
}

#[tokio::test]
async fn two_tokens_are_as_good_as_none() {
    let own = Fixture::new("Own").await;
    let token = format!("Bearer {}", token_with(own.firm.id, "admin", &["admin"]));
    let doubled = everywhere(&own, |_, caller| Some(caller.with("authorization", &token))).await;
    all_are(&doubled, Code::Unauthenticated);
}

#[tokio::test]
async fn metadata_of_another_tenant_is_denied_alike_whether_it_exists_or_not() {
    let (own, other) = tokio::join!(Fixture::new("Own"), harness::Firm::new("Other"));
    let unknown = Clock::system().new_uuid().to_string();
    for claimed in [other.id.to_string(), unknown] {
        let swapped = |_: &Case, caller: Caller| {
            Some(caller.without("x-tenant-id").with("x-tenant-id", &claimed))
        };
        all_are(&everywhere(&own, swapped).await, Code::PermissionDenied);
    }
}

#[tokio::test]
async fn missing_doubled_or_malformed_tenant_metadata_is_an_invalid_argument() {
    let (own, other) = tokio::join!(Fixture::new("Own"), harness::Firm::new("Other"));
    all_are(
        &everywhere(&own, |_, caller| Some(caller.without("x-tenant-id"))).await,
        Code::InvalidArgument,
    );
    let case = CASES
        .iter()
        .find(|case| case.method.ends_with("/GetProject"))
        .expect("a case");
    let id = own.firm.id.to_string();
    let bare = || own.firm.user("x", &["admin"]).without("x-tenant-id");
    let mut attacks = vec![
        bare()
            .with("x-tenant-id", &id)
            .with("x-tenant-id", &other.id.to_string()),
        bare()
            .with("x-tenant-id", &other.id.to_string())
            .with("x-tenant-id", &id),
        bare().with("x-tenant-id", &id).with("x-tenant-id", &id),
    ];
    for text in [
        format!("{id}, {}", other.id),
        id.to_uppercase(),
        format!(" {id}"),
        id.replace('-', ""),
        "00000000-0000-0000-0000-000000000000".to_owned(),
        String::new(),
    ] {
        // An upper-case spelling of digits alone would be the same text.
        if text != id {
            attacks.push(bare().with("x-tenant-id", &text));
        }
    }
    for attack in attacks {
        let answer = probe(&attack, case.method, own.request(case, None)).await;
        assert_eq!(
            answer.code,
            Code::InvalidArgument,
            "{:?}",
            attack.metadata()
        );
    }
}

#[tokio::test]
async fn a_user_without_a_fitting_role_is_denied_everywhere() {
    let own = Fixture::new("Own").await;
    let answers = everywhere(&own, |_, _| Some(own.firm.user("nobody", &[]))).await;
    for (method, answer) in &answers {
        assert_eq!(
            answer.code,
            Code::PermissionDenied,
            "{method}: {}",
            answer.message
        );
    }
}

#[tokio::test]
async fn a_tenants_admin_is_denied_on_the_control_plane_and_on_internal_rpcs() {
    let own = Fixture::new("Own").await;
    let roles = [
        "admin",
        "manager",
        "consultant",
        "viewer",
        "auditor",
        "platform_operator",
    ];
    let answers = everywhere(&own, |case, _| {
        (case.who != Who::Admin).then(|| own.firm.user("admin", &roles))
    })
    .await;
    for (method, answer) in &answers {
        assert_eq!(
            answer.code,
            Code::PermissionDenied,
            "{method}: {}",
            answer.message
        );
    }
}

#[tokio::test]
async fn an_operator_is_denied_on_every_tenants_rpc() {
    let own = Fixture::new("Own").await;
    let operator = || {
        Caller::user(
            TenantId::PLATFORM,
            "operator",
            &["platform_operator", "admin"],
        )
    };
    let answers = everywhere(&own, |case, _| (case.who != Who::Operator).then(operator)).await;
    for (method, answer) in &answers {
        assert_eq!(
            answer.code,
            Code::PermissionDenied,
            "{method}: {}",
            answer.message
        );
    }
}

#[tokio::test]
async fn a_service_is_denied_where_users_call_and_where_another_service_may() {
    let own = Fixture::new("Own").await;
    let answers = everywhere(&own, |case, _| {
        let service = if case.who == Who::Service("time-entries") {
            "audit"
        } else {
            "time-entries"
        };
        Some(Caller::service(
            service,
            super::cases::audience(case.method),
            own.firm.id,
        ))
    })
    .await;
    for (method, answer) in &answers {
        assert_eq!(
            answer.code,
            Code::PermissionDenied,
            "{method}: {}",
            answer.message
        );
    }
}

#[tokio::test]
async fn a_service_token_for_one_service_is_no_token_for_another() {
    let own = Fixture::new("Own").await;
    let case = CASES
        .iter()
        .find(|case| case.method.ends_with("/LookupProject"))
        .expect("a case");
    let caller = Caller::service("time-entries", "consultants", own.firm.id);
    let answer = probe(&caller, case.method, own.request(case, None)).await;
    assert_eq!(answer.code, Code::Unauthenticated);
}

#[tokio::test]
async fn a_suspended_tenant_is_refused_within_five_seconds_and_let_in_again_once_resumed() {
    use proto::tenants::v1 as tenants;
    let firm = harness::Firm::new("Suspended").await;
    let request = tenants::SuspendTenantRequest {
        tenant_id: firm.id.to_string(),
        reason: "unpaid".to_owned(),
        ..Default::default()
    };
    Caller::operator()
        .tenants()
        .suspend_tenant(request)
        .await
        .expect("the tenant is suspended");
    let since = std::time::Instant::now();
    let list = async || {
        firm.projects()
            .list_clients(proto::projects::v1::ListClientsRequest::default())
            .await
    };
    eventually("the suspended tenant is refused", async || {
        list()
            .await
            .err()
            .filter(|status| status.code() == Code::PermissionDenied)
    })
    .await;
    assert!(
        since.elapsed() < std::time::Duration::from_secs(5),
        "it took {:?}",
        since.elapsed()
    );
    let request = tenants::ResumeTenantRequest {
        tenant_id: firm.id.to_string(),
        ..Default::default()
    };
    Caller::operator()
        .tenants()
        .resume_tenant(request)
        .await
        .expect("the tenant is resumed");
    eventually("the resumed tenant is let in", async || list().await.ok()).await;
}

#[tokio::test]
async fn a_method_that_does_not_exist_never_reaches_a_handler() {
    let firm = harness::Firm::new("Prober").await;
    for method in [
        "catalyst.projects.v1.ProjectService/Steal",
        "catalyst.projects.v1.projectservice/GetProject",
        "x/y",
    ] {
        let answer = probe(&firm, method, Vec::new()).await;
        assert_eq!(answer.code, Code::Unimplemented, "{method}");
    }
}
