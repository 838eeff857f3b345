//! What is durable before something else may follow: a refusal before its answer, the broker's copy before the row
//! goes, an effect before its acknowledgement; and each event's effect once. Shown by holding the first step up.

use std::time::Duration;

use harness::{Firm, eventually, within, world};
use kit::TenantId;
use kit::ctx::Clock;
use proto::audit::v1 as audit;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _};
use time::OffsetDateTime;
use tonic::Code;
use uuid::Uuid;

/// The event by which these tests see the domain's consumer at work.
const CREATED: &str = "catalyst.projects.v1.ClientCreated";

async fn administrator() -> PgConnection {
    PgConnection::connect(&world().postgres_admin_url)
        .await
        .expect("the administrator connects")
}

fn new_uuid() -> Uuid {
    Clock::system().new_uuid()
}

/// The records of a firm that are of this type.
async fn records(firm: &Firm, type_name: &str) -> Vec<audit::AuditRecord> {
    let filter = audit::RecordFilter {
        r#type: type_name.to_owned(),
        ..Default::default()
    };
    let request = audit::ListRecordsRequest {
        page_size: 500,
        filter: Some(filter),
        ..Default::default()
    };
    let listed = firm.audit().list_records(request).await;
    listed.expect("records are listed").into_inner().records
}

#[tokio::test]
async fn a_refusal_is_on_record_before_it_is_answered() {
    let firm = Firm::new("Refused").await;
    let mut admin = administrator().await;
    let mut held = admin.begin().await.expect("begun");
    sqlx::query("lock table audit.security_outbox in exclusive mode")
        .execute(&mut *held)
        .await
        .expect("nobody writes there now");
    let mut nobody = firm.user("nobody", &[]).audit();
    let call = nobody.list_records(audit::ListRecordsRequest::default());
    tokio::pin!(call);
    let early = tokio::time::timeout(Duration::from_secs(1), &mut call).await;
    assert!(early.is_err(), "answered without a record: {early:?}");
    held.rollback().await.expect("released");
    let refused = call.await.expect_err("refused");
    assert_eq!(refused.code(), Code::PermissionDenied);
}

/// An outbox of security events that the test has for itself: what is held up there holds nobody else up for long.
#[derive(Clone, Copy)]
struct Outbox(&'static str);

impl Outbox {
    fn sql(self, text: &str) -> AssertSqlSafe<String> {
        AssertSqlSafe(text.replace("{schema}", self.0))
    }
}

async fn inserts_row(
    outbox: Outbox,
    session: &mut PgConnection,
    tenant: TenantId,
    type_name: &str,
) -> Uuid {
    let id = new_uuid();
    sqlx::query(outbox.sql(
        "insert into {schema}.security_outbox \
             (tenant_id, event_id, type, aggregate_id, version, occurred_at, actor_kind, actor_id, body) \
         values ($1, $2, $3, $2, 1, now(), 'user', 'kim', '')",
    ))
    .bind(tenant.uuid())
    .bind(id)
    .bind(type_name)
    .execute(session)
    .await
    .expect("the row is written");
    id
}

async fn is_there(outbox: Outbox, session: &mut PgConnection, id: Uuid) -> bool {
    let exists = "select exists (select from {schema}.security_outbox where event_id = $1)";
    sqlx::query_scalar(outbox.sql(exists))
        .bind(id)
        .fetch_one(session)
        .await
        .expect("the outbox is read")
}

async fn lease_ends(outbox: Outbox, session: &mut PgConnection) -> OffsetDateTime {
    let ends = "select expires_at from {schema}.relay_lease where outbox = 'security_outbox'";
    sqlx::query_scalar(outbox.sql(ends))
        .fetch_one(session)
        .await
        .expect("the lease is read")
}

#[tokio::test]
async fn a_row_that_the_broker_did_not_take_stays() {
    let firm = Firm::new("Unpublished").await;
    let outbox = Outbox("consultants");
    let mut admin = administrator().await;
    // No event of the contract, so that it cannot be published.
    let id = inserts_row(outbox, &mut admin, firm.id, "nonsense").await;
    // A lease is renewed at the beginning of a round: after the third one a whole round has met the row.
    for _ in 0..3 {
        let before = lease_ends(outbox, &mut admin).await;
        eventually("the relay tries again", async || {
            (lease_ends(outbox, &mut admin).await != before).then_some(())
        })
        .await;
    }
    let stays = is_there(outbox, &mut admin, id).await;
    sqlx::query(outbox.sql("delete from {schema}.security_outbox where event_id = $1"))
        .bind(id)
        .execute(&mut admin)
        .await
        .expect("the way is free again");
    assert!(stays, "the event is lost");
}

#[tokio::test]
async fn a_relay_that_lost_its_lease_removes_nothing() {
    let firm = Firm::new("Fenced").await;
    let outbox = Outbox("tenants");
    let (mut admin, mut other) = tokio::join!(administrator(), administrator());
    // The relay has its lease by then, and waits for what it is to publish.
    let mut held = admin.begin().await.expect("begun");
    sqlx::query("lock table tenants.security_outbox in access exclusive mode")
        .execute(&mut *held)
        .await
        .expect("nobody reads there now");
    let id = inserts_row(
        outbox,
        &mut held,
        firm.id,
        "catalyst.common.v1.PermissionDenied",
    )
    .await;
    eventually("the relay waits", async || {
        let waiting = "select 1 from pg_stat_activity \
                       where usename = 'tenants_relay' and pg_backend_pid() = any(pg_blocking_pids(pid))";
        sqlx::query(waiting).fetch_optional(&mut *held).await.ok()?
    })
    .await;
    sqlx::query(
        "update tenants.relay_lease set holder = $1, epoch = epoch + 1, expires_at = now() + interval '1 hour' \
         where outbox = 'security_outbox'",
    )
    .bind(new_uuid())
    .execute(&mut other)
    .await
    .expect("the lease goes to another");
    held.commit().await.expect("the row is there");
    let published = eventually("the event is published", async || {
        let published = records(&firm, "catalyst.common.v1.PermissionDenied").await;
        published.into_iter().next()
    })
    .await;
    assert_eq!(published.event_id, id.to_string());
    let gone = within(Duration::from_secs(1), async || {
        (!is_there(outbox, &mut other, id).await).then_some(())
    })
    .await;
    sqlx::query(
        "update tenants.relay_lease set expires_at = now() where outbox = 'security_outbox'",
    )
    .execute(&mut other)
    .await
    .expect("the lease is free");
    assert!(gone.is_none(), "the row was removed without the lease");
    // Published twice under one id, and heard once.
    eventually("the next holder removes the row", async || {
        (!is_there(outbox, &mut other, id).await).then_some(())
    })
    .await;
    let heard = records(&firm, "catalyst.common.v1.PermissionDenied").await;
    assert_eq!(heard.len(), 1);
}

#[tokio::test]
async fn an_event_that_comes_twice_takes_effect_once() {
    let firm = Firm::new("Twice").await;
    let path = world().credentials_dir.join("audit.creds");
    let options = async_nats::ConnectOptions::with_credentials_file(path)
        .await
        .expect("the service has credentials");
    let client = options
        .custom_inbox_prefix("_INBOX_audit")
        .connect(&world().nats_url)
        .await
        .expect("the service connects");
    let (twice, after) = (new_uuid(), new_uuid());
    for id in [twice, twice, after].map(|id| id.to_string()) {
        let mut headers = async_nats::HeaderMap::new();
        // Without `Nats-Msg-Id`, by which the broker would drop the second one itself.
        for (name, value) in [
            ("ce-specversion", "1.0"),
            ("ce-id", &id),
            ("ce-type", "catalyst.audit.v1.AlertRaised"),
            ("ce-source", "catalyst/audit"),
            ("ce-subject", &id),
            ("ce-time", "2026-01-01T00:00:00Z"),
            ("ce-tenantid", &firm.id.to_string()),
            ("ce-sequence", "1"),
            ("ce-authtype", "service"),
            ("ce-authid", "audit"),
        ] {
            headers.insert(name, value);
        }
        let subject = format!("ingest.{}.audit.alert_raised", firm.id);
        let answer = client
            .request_with_headers(subject, headers, "".into())
            .await
            .expect("the stream takes it");
        assert!(!String::from_utf8_lossy(&answer.payload).contains("error"));
    }
    let told = eventually("the last event's record", async || {
        let told = records(&firm, "catalyst.audit.v1.AlertRaised").await;
        let ids: Vec<String> = told.into_iter().map(|record| record.event_id).collect();
        ids.contains(&after.to_string()).then_some(ids)
    })
    .await;
    assert_eq!(told, [twice, after].map(|id| id.to_string()));
}

/// Holds the log of a firm in `held`, and lets an event of the firm wait for it.
async fn holds_up_the_log(firm: &Firm, held: &mut PgConnection) {
    firm.wins_client("North").await;
    eventually("the log has begun", async || {
        records(firm, CREATED).await.into_iter().next()
    })
    .await;
    sqlx::query("select 1 from audit.chain where tenant_id = $1 for update")
        .bind(firm.id.uuid())
        .execute(&mut *held)
        .await
        .expect("the log is held");
    firm.wins_client("South").await;
    eventually("the consumer waits", async || {
        let waiting = "select 1 from pg_stat_activity \
                       where usename = 'audit_app' and pg_backend_pid() = any(pg_blocking_pids(pid))";
        sqlx::query(waiting).fetch_optional(&mut *held).await.ok()?
    })
    .await;
}

#[tokio::test]
async fn an_event_is_applied_although_the_connection_was_cut() {
    let firm = Firm::new("Repeated").await;
    let mut admin = administrator().await;
    let mut held = admin.begin().await.expect("begun");
    holds_up_the_log(&firm, &mut held).await;
    sqlx::query(
        "select pg_terminate_backend(pid) from pg_stat_activity \
         where usename = 'audit_app' and pg_backend_pid() = any(pg_blocking_pids(pid))",
    )
    .execute(&mut *held)
    .await
    .expect("the consumer is cut off");
    held.rollback().await.expect("released");
    eventually("both records", async || {
        (records(&firm, CREATED).await.len() == 2).then_some(())
    })
    .await;
}

// For a reason of its own: while the database is away, an event is tried where it is.
#[tokio::test]
async fn an_event_that_could_not_be_applied_comes_again() {
    let firm = Firm::new("Refused").await;
    let tenant = firm.id.uuid();
    let mut admin = administrator().await;
    let constraint = format!("fault_{}", tenant.simple());
    let refused = format!(
        "alter table audit.record add constraint {constraint} \
         check (tenant_id <> '{tenant}' or type <> '{CREATED}') not valid"
    );
    administers(&mut admin, refused).await;
    firm.wins_client("North").await;
    eventually("it has failed", async || {
        let failed = "select 1 from audit.parked where tenant_id = $1 and failures > 0";
        let query = sqlx::query(failed).bind(tenant);
        query.fetch_optional(&mut admin).await.ok()?
    })
    .await;
    let accepted = format!("alter table audit.record drop constraint {constraint}");
    administers(&mut admin, accepted).await;
    eventually("its record", async || {
        (records(&firm, CREATED).await.len() == 1).then_some(())
    })
    .await;
}

async fn administers(admin: &mut PgConnection, statement: String) {
    let done = sqlx::raw_sql(AssertSqlSafe(statement)).execute(admin).await;
    done.expect("done");
}

#[tokio::test]
async fn events_of_two_firms_that_arrive_together_stay_apart() {
    let (firm, other) = tokio::join!(Firm::new("First"), Firm::new("Second"));
    let mut admin = administrator().await;
    let mut held = admin.begin().await.expect("begun");
    holds_up_the_log(&firm, &mut held).await;
    // While the consumer waits, its next batch fills.
    firm.wins_client("East").await;
    let theirs = other.wins_client("West").await;
    eventually("the broker has both", async || {
        let waiting = "select 1 from projects.outbox where tenant_id in ($1, $2)";
        let query = sqlx::query(waiting)
            .bind(firm.id.uuid())
            .bind(other.id.uuid());
        let row = query.fetch_optional(&mut *held).await.ok()?;
        row.is_none().then_some(())
    })
    .await;
    held.rollback().await.expect("released");
    eventually("all records of the first", async || {
        (records(&firm, CREATED).await.len() == 3).then_some(())
    })
    .await;
    let heard = eventually("the record of the second", async || {
        records(&other, CREATED).await.into_iter().next()
    })
    .await;
    assert_eq!(heard.resource_id, theirs.id);
    assert_eq!(records(&firm, CREATED).await.len(), 3);
}

/// What a service has committed is on disk; a relay's leases and removals may be taken back, since they can be done again.
#[tokio::test]
async fn nobody_but_the_relays_commits_without_waiting_for_the_disk() {
    let mut admin = administrator().await;
    let told = "select rolname from pg_roles cross join unnest(rolconfig) as setting \
                where setting like 'synchronous_commit=%' order by rolname";
    let hasty: Vec<String> = sqlx::query_scalar(told)
        .fetch_all(&mut admin)
        .await
        .expect("the roles");
    let relays = catalyst::services::ALL.map(|it| format!("{}_relay", it.schema));
    let mut relays = relays.to_vec();
    relays.sort();
    assert_eq!(hasty, relays);
}
