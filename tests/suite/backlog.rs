//! Events that wait for the broker: one firm's do not hold up another's, writers feel them, readers do not.

use std::time::Duration;

use async_nats::ConnectOptions;
use futures::StreamExt;
use harness::{Firm, eventually, world};
use kit::TenantId;
use proto::consultants::v1 as consultants;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use uuid::Uuid;

/// Several batches of the relay's.
const BACKLOG: u16 = 5_000;

async fn administrator() -> PgConnection {
    PgConnection::connect(&world().postgres_admin_url)
        .await
        .expect("the administrator connects")
}

/// Writes events of one client into the outbox of projects, of the versions 1 to `count`.
async fn writes_events(session: &mut PgConnection, tenant: TenantId, count: u16) -> Uuid {
    let id = kit::ctx::Clock::system().new_uuid();
    sqlx::query(
        "insert into projects.outbox \
             (tenant_id, event_id, type, aggregate_id, version, occurred_at, actor_kind, actor_id, body) \
         select $1, gen_random_uuid(), 'catalyst.projects.v1.ClientUpdated', $2, n, now(), 'user', 'kim', '' \
         from generate_series(1, $3) as n",
    )
    .bind(tenant.uuid())
    .bind(id)
    .bind(i64::from(count))
    .execute(session)
    .await
    .expect("the events are written");
    id
}

#[tokio::test]
async fn an_event_does_not_wait_for_the_backlog_of_another_firm() {
    let (busy, quiet) = tokio::join!(Firm::new("Busy"), Firm::new("Quiet"));
    let client =
        ConnectOptions::with_credentials_file(world().credentials_dir.join("operator.creds"))
            .await
            .expect("the operator has credentials")
            .connect(&world().nats_url)
            .await
            .expect("the operator connects");
    let heard = "catalyst.*.projects.client_updated";
    let mut events = client.subscribe(heard).await.expect("subscribed");
    client.flush().await.expect("flushed");

    // Committed at once, and the quiet firm's last: in the order of writing it is behind the whole backlog.
    let mut admin = administrator().await;
    let mut writing = admin.begin().await.expect("begun");
    let client_id = writes_events(&mut writing, busy.id, BACKLOG).await;
    writes_events(&mut writing, quiet.id, 1).await;
    writing.commit().await.expect("committed");

    let mut versions = Vec::new();
    let mut before_the_quiet_one = None;
    while versions.len() < usize::from(BACKLOG) || before_the_quiet_one.is_none() {
        let event = tokio::time::timeout(Duration::from_secs(30), events.next())
            .await
            .expect("an event within 30 s")
            .expect("open");
        let header = |name: &str| {
            let headers = event.headers.as_ref().expect("headers");
            headers.get(name).expect(name).to_string()
        };
        if header("ce-tenantid") == quiet.id.to_string() {
            before_the_quiet_one = Some(versions.len());
        } else if header("ce-subject") == client_id.to_string() {
            versions.push(header("ce-sequence").parse::<i64>().expect("a version"));
        }
    }
    assert!(
        before_the_quiet_one < Some(1_000),
        "{before_the_quiet_one:?} events of another firm were published first"
    );
    let in_order: Vec<i64> = (1..=i64::from(BACKLOG)).collect();
    assert_eq!(versions, in_order);
}

/// Hands the outbox of consultants to a relay that does not exist, or takes it back.
async fn holds_up_consultants(admin: &mut PgConnection, hold: bool) {
    sqlx::query(
        "update consultants.relay_lease \
         set holder = $1, epoch = epoch + 1, expires_at = case when $2 then now() + interval '1 hour' else now() end \
         where outbox = 'outbox'",
    )
    .bind(kit::ctx::Clock::system().new_uuid())
    .bind(hold)
    .execute(admin)
    .await
    .expect("the lease goes to another");
}

fn reason(status: &Status) -> String {
    let details = status.get_details_error_info().expect("an ErrorInfo");
    details.reason
}

#[tokio::test]
async fn writers_are_slowed_and_then_refused_while_events_wait_and_readers_are_not() {
    let firm = Firm::new("Slowed").await;
    let mut settings = harness::settings();
    settings.outbox.outbox_slow_rows = 2;
    settings.outbox.outbox_max_rows = 8;
    let host = harness::host(&settings, &["consultants"]).await;
    let host = host.expect("it starts");
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", host.address))
        .expect("an address")
        .connect_lazy();
    let caller = firm.user("admin", &["admin"]).over(channel);
    let hires = async || {
        let code = kit::ctx::Clock::system().new_uuid().simple().to_string();
        let consultant = consultants::Consultant {
            code: code[20..].to_owned(),
            display_name: "Kim".to_owned(),
            weekly_capacity_minutes: 2_400,
            ..Default::default()
        };
        let request = consultants::CreateConsultantRequest {
            consultant: Some(consultant),
            ..Default::default()
        };
        caller.consultants().create_consultant(request).await
    };

    let mut admin = administrator().await;
    holds_up_consultants(&mut admin, true).await;
    let mut hired = 0;
    let refused = eventually("a mutation is refused", async || match hires().await {
        Ok(_) => {
            hired += 1;
            None
        }
        Err(status) => Some(status),
    })
    .await;
    let read = caller
        .consultants()
        .list_consultants(consultants::ListConsultantsRequest::default())
        .await;
    holds_up_consultants(&mut admin, false).await;

    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::ResourceExhausted, "OVERLOADED")
    );
    let retry = refused.get_details_retry_info().expect("a RetryInfo");
    assert!(retry.retry_delay.is_some());
    let listed = read.expect("readers are let in").into_inner();
    assert_eq!(listed.consultants.len(), hired);
    // What was accepted is told of, and then writers are let in again.
    eventually("a mutation is accepted", async || hires().await.ok()).await;
    eventually("the events are published", async || {
        let waiting = "select 1 from consultants.outbox where tenant_id = $1";
        let query = sqlx::query(waiting).bind(firm.id.uuid());
        let row = query.fetch_optional(&mut admin).await.ok()?;
        row.is_none().then_some(())
    })
    .await;
    host.stop().await;
}
