//! What a tenant may ask of a process: by its plan, without a restart, and never at the cost of another tenant.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use harness::{Caller, Firm, Replica, eventually, world};
use proto::projects::v1 as projects;
use proto::tenants::v1 as tenants;
use proto::tenants::v1::TenantPlan;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;
use uuid::Uuid;

/// What a caller at its limit is told: reason, whose quota it is and what it is, and when to call again.
fn told(status: &Status) -> (String, String, String, Duration) {
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    let details = status.get_error_details();
    let quota = details.quota_failure().expect("a QuotaFailure");
    let violation = quota.violations.first().expect("a violation");
    let again = details.retry_info().and_then(|it| it.retry_delay);
    (
        details.error_info().expect("an ErrorInfo").reason.clone(),
        violation.subject.clone(),
        violation.description.clone(),
        again.expect("a time to call again"),
    )
}

pub(crate) async fn lists(caller: &Caller) -> Result<(), Status> {
    let request = projects::ListClientsRequest::default();
    caller.projects().list_clients(request).await.map(drop)
}

async fn plan(firm: &Firm, plan: TenantPlan) -> Result<tenants::Tenant, Status> {
    let request = tenants::ChangeTenantPlanRequest {
        tenant_id: firm.id.to_string(),
        plan: plan.into(),
        ..Default::default()
    };
    let changed = Caller::operator()
        .tenants()
        .change_tenant_plan(request)
        .await;
    changed.map(|it| it.into_inner().tenant.expect("a tenant"))
}

/// A row of a client that nobody may write for as long as this is there.
pub(crate) struct Locked {
    admin: PgConnection,
}

impl Locked {
    pub(crate) async fn client(firm: &Firm, id: &str) -> Self {
        let mut admin = PgConnection::connect(&world().postgres_admin_url)
            .await
            .expect("the database");
        sqlx::raw_sql("begin")
            .execute(&mut admin)
            .await
            .expect("begun");
        sqlx::query("select from projects.client where tenant_id = $1 and id = $2 for update")
            .bind(firm.id.uuid())
            .bind(Uuid::try_parse(id).expect("an id"))
            .fetch_one(&mut admin)
            .await
            .expect("the row");
        Self { admin }
    }

    /// Waits until so many sessions wait for the row.
    pub(crate) async fn is_awaited(&mut self, sessions: i64) {
        eventually("calls wait for the row", async || {
            let waiting: i64 = sqlx::query_scalar(
                "with recursive waits (pid) as ( \
                     select pid from pg_stat_activity where pg_backend_pid() = any (pg_blocking_pids(pid)) \
                     union \
                     select other.pid from pg_stat_activity as other \
                     join waits on waits.pid = any (pg_blocking_pids(other.pid)) \
                 ) select count(*) from waits",
            )
            .fetch_one(&mut self.admin)
            .await
            .expect("counted");
            (waiting >= sessions).then_some(())
        })
        .await;
    }

    pub(crate) async fn release(mut self) {
        sqlx::raw_sql("rollback")
            .execute(&mut self.admin)
            .await
            .expect("rolled back");
    }
}

/// Writes a client, which waits while its row is locked.
pub(crate) async fn renames(caller: &Caller, id: &str) -> Result<(), Status> {
    let client = projects::Client {
        id: id.to_owned(),
        display_name: "Renamed".to_owned(),
        ..Default::default()
    };
    let request = projects::UpdateClientRequest {
        client: Some(client),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["display_name".to_owned()],
        }),
        ..Default::default()
    };
    caller.projects().update_client(request).await.map(drop)
}

#[tokio::test]
async fn a_tenant_over_its_rate_is_told_its_quota_and_when_to_call_again_and_no_other_is() {
    let (busy, other) = (Firm::new("Busy").await, Firm::new("Other").await);
    let replica = Replica::with_rate(NonZeroU32::MIN).await;
    let caller = replica.called_by(&busy);
    let refused = eventually("a refusal", async || lists(&caller).await.err()).await;
    let (reason, subject, quota, again) = told(&refused);
    assert_eq!(reason, "RATE_LIMITED");
    assert_eq!(subject, format!("tenant:{}", busy.id));
    assert_eq!(quota, "1 calls a second in each process");
    assert!(again <= Duration::from_secs(1), "{again:?}");
    lists(&replica.called_by(&other))
        .await
        .expect("another is let in");
    replica.stop().await;
}

#[tokio::test]
async fn a_large_answer_counts_as_several_calls_of_its_tenant() {
    let (busy, other) = (Firm::new("Busy").await, Firm::new("Other").await);
    // Together some 60 KiB, which is one call and seven.
    let name = "A".repeat(190);
    for _ in 0..20 {
        join_all((0..10).map(|_| busy.wins_client(&name))).await;
    }
    let replica = Replica::with_rate(NonZeroU32::MIN.saturating_add(7)).await;
    let (caller, neighbor) = (replica.called_by(&busy), replica.called_by(&other));
    let mut refused = None;
    for _ in 0..4 {
        let request = projects::ListClientsRequest {
            page_size: 500,
            ..Default::default()
        };
        refused = caller.projects().list_clients(request).await.err();
        lists(&neighbor).await.expect("a small answer counts once");
        if refused.is_some() {
            break;
        }
    }
    let (reason, subject, _, again) = told(&refused.expect("four of them are more than eight"));
    assert_eq!(reason, "RATE_LIMITED");
    assert_eq!(subject, format!("tenant:{}", busy.id));
    assert!(again <= Duration::from_secs(1), "{again:?}");
    replica.stop().await;
}

#[tokio::test]
async fn a_tenant_with_too_many_calls_at_work_is_refused_more_and_no_other_is() {
    let (busy, other) = (Firm::new("Busy").await, Firm::new("Other").await);
    let client = busy.wins_client("Acme").await;
    let replica = Replica::with(|settings| {
        settings.listen.limits.tenant_concurrent_calls = NonZeroU32::MIN;
    })
    .await;
    let caller = replica.called_by(&busy);
    let mut row = Locked::client(&busy, &client.id).await;
    let checks = async {
        row.is_awaited(1).await;
        let (reason, subject, quota, _) = told(&lists(&caller).await.expect_err("one is at work"));
        assert_eq!(reason, "CONCURRENCY_LIMITED");
        assert_eq!(subject, format!("tenant:{}", busy.id));
        assert_eq!(quota, "1 calls at the same time in each process");
        lists(&replica.called_by(&other))
            .await
            .expect("another is let in");
        row.release().await;
    };
    let (renamed, ()) = tokio::join!(renames(&caller, &client.id), checks);
    renamed.expect("the call that was let in ends well");
    lists(&caller).await.expect("nothing is at work");
    replica.stop().await;
}

#[tokio::test]
async fn a_plan_changes_what_a_tenant_may_do_within_five_seconds_and_without_a_restart() {
    let firm = Firm::new("Growing").await;
    let replica = Replica::with_rate(NonZeroU32::MIN.saturating_add(7)).await;
    let caller = replica.called_by(&firm);
    let quota_is = async |expected: &str| {
        let since = std::time::Instant::now();
        eventually("the plan's quota", async || {
            let calls = join_all((0..40).map(|_| lists(&caller))).await;
            let refused = calls.into_iter().find_map(Result::err)?;
            let (_, _, quota, _) = told(&refused);
            (quota == expected).then_some(())
        })
        .await;
        assert!(
            since.elapsed() < Duration::from_secs(5),
            "{:?}",
            since.elapsed()
        );
    };
    quota_is("8 calls a second in each process").await;
    let changed = plan(&firm, TenantPlan::Small).await.expect("changed");
    assert_eq!(changed.plan(), TenantPlan::Small);
    quota_is("2 calls a second in each process").await;
    plan(&firm, TenantPlan::Large).await.expect("changed");
    quota_is("32 calls a second in each process").await;
    replica.stop().await;
}

#[tokio::test]
async fn the_plan_that_a_tenant_has_already_changes_nothing_and_one_that_is_none_is_refused() {
    let firm = Firm::new("Steady").await;
    let request = tenants::GetTenantRequest {
        tenant_id: firm.id.to_string(),
    };
    let got = Caller::operator().tenants().get_tenant(request).await;
    let before = got.expect("there").into_inner().tenant.expect("a tenant");
    assert_eq!(before.plan(), TenantPlan::Standard);
    let same = plan(&firm, TenantPlan::Standard).await.expect("answered");
    assert_eq!(same, before);
    let refused = plan(&firm, TenantPlan::Unspecified)
        .await
        .expect_err("no plan");
    assert_eq!(refused.code(), Code::InvalidArgument);
    let details = refused.get_error_details();
    let request = details.bad_request().expect("a BadRequest");
    assert_eq!(request.field_violations[0].field, "plan");
    let request = tenants::ChangeTenantPlanRequest {
        tenant_id: Uuid::from_u128(7).to_string(),
        plan: TenantPlan::Large.into(),
        ..Default::default()
    };
    let unknown = Caller::operator()
        .tenants()
        .change_tenant_plan(request)
        .await;
    assert_eq!(unknown.expect_err("unknown").code(), Code::NotFound);
}

#[tokio::test]
async fn a_plan_survives_suspension() {
    let firm = Firm::new("Paused").await;
    plan(&firm, TenantPlan::Large).await.expect("changed");
    let mut operator = Caller::operator().tenants();
    let suspend = tenants::SuspendTenantRequest {
        tenant_id: firm.id.to_string(),
        reason: "test".to_owned(),
        ..Default::default()
    };
    operator.suspend_tenant(suspend).await.expect("suspended");
    let resume = tenants::ResumeTenantRequest {
        tenant_id: firm.id.to_string(),
        ..Default::default()
    };
    let resumed = operator.resume_tenant(resume).await.expect("resumed");
    let tenant = resumed.into_inner().tenant.expect("a tenant");
    assert_eq!(tenant.plan(), TenantPlan::Large);
}

#[tokio::test]
async fn a_tenant_that_holds_locks_does_not_starve_another_of_connections() {
    let (busy, other) = (Firm::new("Busy").await, Firm::new("Other").await);
    let client = busy.wins_client("Acme").await;
    let replica = Replica::with(|settings| {
        settings.database.database_max_connections = 5;
        settings.database.database_wait_milliseconds = 250;
    })
    .await;
    let caller = replica.called_by(&busy);
    let mut row = Locked::client(&busy, &client.id).await;
    let ended = AtomicUsize::new(0);
    let crowd = join_all((0..20).map(async |_| {
        let renamed = renames(&caller, &client.id).await;
        ended.fetch_add(1, Ordering::Relaxed);
        renamed
    }));
    let checks = async {
        // Two of five connections are what one tenant may hold.
        row.is_awaited(2).await;
        let neighbor = replica.called_by(&other);
        for _ in 0..20 {
            lists(&neighbor).await.expect("another has connections");
        }
        eventually("those without a connection are told", async || {
            (ended.load(Ordering::Relaxed) == 18).then_some(())
        })
        .await;
        row.release().await;
    };
    let (crowd, ()) = tokio::join!(crowd, checks);
    let (done, shed): (Vec<_>, Vec<_>) = crowd.into_iter().partition(Result::is_ok);
    assert_eq!(done.len(), 2);
    for status in shed.into_iter().filter_map(Result::err) {
        assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
        let details = status.get_error_details();
        assert_eq!(details.error_info().expect("a reason").reason, "OVERLOADED");
        assert!(details.retry_info().is_some());
    }
    replica.stop().await;
}

#[tokio::test]
async fn work_whose_caller_no_longer_waits_is_not_begun() {
    let firm = Firm::new("Impatient").await;
    let client = firm.wins_client("Acme").await;
    // Of two connections a tenant holds one.
    let replica = Replica::with(|_| {}).await;
    let caller = replica.called_by(&firm);
    let mut row = Locked::client(&firm, &client.id).await;
    let checks = async {
        row.is_awaited(1).await;
        let new = projects::Client {
            code: "LATE".to_owned(),
            display_name: "Late".to_owned(),
            ..Default::default()
        };
        let mut request = Request::new(projects::CreateClientRequest {
            client: Some(new),
            ..Default::default()
        });
        request.set_timeout(Duration::from_millis(200));
        let late = caller.projects().create_client(request).await;
        // The client's own clock calls it cancelled.
        let code = late.expect_err("too late").code();
        let is_late = matches!(code, Code::DeadlineExceeded | Code::Cancelled);
        assert!(is_late, "{code:?}");
        row.release().await;
    };
    let (renamed, ()) = tokio::join!(renames(&caller, &client.id), checks);
    renamed.expect("the first call is in time");
    // Later work of the tenant is done, so that what waited before it would have been as well.
    renames(&caller, &client.id).await.expect("done");
    let request = projects::ListClientsRequest::default();
    let listed = caller.projects().list_clients(request).await;
    let clients = listed.expect("listed").into_inner().clients;
    assert!(clients.iter().all(|it| it.code != "LATE"), "{clients:?}");
    replica.stop().await;
}
