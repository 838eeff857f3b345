//! The pool under cancelled calls: no borrower ever meets an open transaction, a leftover setting or a foreign row.

use std::collections::BTreeSet;
use std::time::Duration;

use harness::{Firm, OwnDeployment, eventually, within, world};
use kit::ctx::Clock;
use kit::db::{Db, ExemptDb};
use kit::host::Host;
use kit::outbox::Wake;
use kit::settings::DatabaseSettings;
use kit::tasks::Tasks;
use kit::{Ctx, TenantId};
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;
use tonic::transport::Endpoint;
use uuid::Uuid;

fn settings(connections: u32) -> DatabaseSettings {
    DatabaseSettings {
        // No time of this machine decides a test.
        database_wait_milliseconds: 10_000,
        ..DatabaseSettings::new(
            world().database_url.clone(),
            world().password_dir.clone(),
            connections,
        )
    }
}

/// A context as the holder of an exempt role gets it.
fn ctx_of(tenant: TenantId) -> Ctx {
    let exempt = ExemptDb::new(&settings(1), "consultants_relay", 1, Tasks::new())
        .expect("the role has a password");
    exempt.ctx_for(tenant, "test", Clock::system())
}

/// One operation: everything a call does with its transaction.
async fn operation(db: &Db, ctx: &Ctx) -> Result<Vec<Uuid>, kit::Error> {
    let mut tx = db.begin(ctx).await?;
    let tenants: Vec<Uuid> = sqlx::query_scalar("select tenant_id from consultants.consultant")
        .fetch_all(&mut *tx)
        .await?;
    sqlx::query("update consultants.consultant set version = version + 1 where tenant_id = $1")
        .bind(ctx.tenant().uuid())
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(tenants)
}

#[tokio::test]
async fn a_database_whose_disk_fails_is_unavailable_and_no_fault_of_the_service() {
    let db = Db::new(&settings(1), "consultants", Wake::default(), Tasks::new())
        .expect("the role has a password");
    let ctx = ctx_of(TenantId::new(Clock::system().new_uuid()));
    for (statement, is_unavailable) in [
        // io_error, disk_full: what a server says before it starts anew.
        (
            "do $$ begin raise exception using errcode = '58030'; end $$",
            true,
        ),
        (
            "do $$ begin raise exception using errcode = '53100'; end $$",
            true,
        ),
        (
            "do $$ begin raise exception using errcode = '22012'; end $$",
            false,
        ),
    ] {
        let mut tx = db.begin(&ctx).await.expect("begun");
        let failed = sqlx::query(statement).execute(&mut *tx).await;
        let error = kit::Error::from(failed.expect_err("it raises"));
        let found = matches!(error, kit::Error::Unavailable { .. });
        assert_eq!(found, is_unavailable, "{statement}: {error:?}");
    }
}

/// A process that is stopped until this is dropped.
struct Stopped(i32);

impl Stopped {
    fn new(pid: i32) -> Self {
        signal(pid, "-STOP");
        Self(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        signal(self.0, "-CONT");
    }
}

fn signal(pid: i32, name: &str) {
    let mut kill = std::process::Command::new("kill");
    let done = kill.args([name, &pid.to_string()]).status();
    assert!(
        done.is_ok_and(|status| status.success()),
        "kill {name} {pid}"
    );
}

#[tokio::test]
async fn a_connection_that_is_silent_alone_does_not_cost_the_others() {
    let db = Db::new(&settings(3), "consultants", Wake::default(), Tasks::new())
        .expect("the role has a password");
    let tenants = [1_u128, 2, 3].map(|number| ctx_of(TenantId::new(Uuid::from_u128(number))));
    let [ctx, other, _] = &tenants;
    let (first, others) = three(&db, &tenants).await;
    // The one that came back last is taken first.
    let stopped = Stopped::new(first);
    let done = std::cell::Cell::new(false);
    let meets_it = async {
        let tx = db.begin(ctx).await.expect("another connection");
        done.set(true);
        tx.commit().await.expect("it ends");
    };
    let others_work = async {
        while !done.get() {
            operation(&db, other).await.expect("a sound connection");
        }
    };
    tokio::join!(meets_it, others_work);
    drop(stopped);

    let (last, mut kept) = three(&db, &tenants).await;
    kept.push(last);
    assert!(!kept.contains(&first), "a silent connection is used again");
    assert!(
        others.iter().all(|pid| kept.contains(pid)),
        "{others:?} are not all among {kept:?}"
    );
}

/// The server's processes of three connections: the one that goes back last, and the others.
async fn three(db: &Db, tenants: &[Ctx; 3]) -> (i32, Vec<i32>) {
    let mut open = Vec::new();
    for ctx in tenants {
        open.push(db.begin(ctx).await.expect("begun"));
    }
    let mut pids = Vec::new();
    for mut tx in open {
        let pid = sqlx::query_scalar("select pg_backend_pid()");
        pids.push(pid.fetch_one(&mut *tx).await.expect("a pid"));
        tx.commit().await.expect("committed");
    }
    (pids.pop().expect("three"), pids)
}

/// Two services with a database of their own, whose connections are half a minute old at most.
struct Aging {
    own: OwnDeployment,
    host: Host,
    admin: PgConnection,
}

impl Aging {
    async fn start(connections: u32) -> Self {
        let own = OwnDeployment::start(Vec::new(), async |_| {}).await;
        let mut settings = harness::settings();
        let its = own.deployment.settings(settings.listen.clone());
        settings.nats = its.nats;
        settings.database = its.database;
        settings.database.database_max_connections = connections;
        settings.database.database_connection_age_seconds = 30;
        let host = harness::host(&settings, &["tenants", "consultants"]).await;
        let host = host.expect("the services start");
        let admin = PgConnection::connect(&own.deployment.stack.postgres_admin_url).await;
        let admin = admin.expect("connected");
        Self { own, host, admin }
    }

    /// The server's processes for the serving role of consultants.
    async fn processes(&mut self) -> BTreeSet<i32> {
        let sql = "select pid from pg_stat_activity where usename = 'consultants_app'";
        let pids = sqlx::query_scalar(sql).fetch_all(&mut self.admin).await;
        pids.expect("processes").into_iter().collect()
    }

    /// The same, once there are so many.
    async fn filled(&mut self, connections: usize) -> BTreeSet<i32> {
        eventually("the pool is full", async || {
            let open = self.processes().await;
            (open.len() == connections).then_some(open)
        })
        .await
    }

    async fn end(self) {
        self.host.stop().await;
        self.admin.close().await.expect("closed");
        self.own.end(|_| ()).await;
    }
}

#[tokio::test]
async fn connections_of_one_age_are_renewed_one_by_one_and_no_call_waits_for_all_of_them() {
    let mut aging = Aging::start(3).await;
    let channel = Endpoint::from_shared(format!("http://{}", aging.host.address));
    let channel = channel.expect("a URL").connect_lazy();
    let firm = Firm::placed(channel, "Ages", "shared").await;
    let first = aging.filled(3).await;

    let renewed = within(Duration::from_mins(1), async || {
        let request = proto::consultants::v1::ListConsultantsRequest::default();
        let answered = firm.consultants().list_consultants(request).await;
        answered.expect("an answer");
        let open = aging.processes().await;
        assert!(
            open.len() >= 2,
            "of {first:?} and those after them only {open:?} are left"
        );
        open.is_disjoint(&first).then_some(())
    });
    renewed
        .await
        .expect("all are others within twice their age");
    aging.end().await;
}

#[tokio::test]
async fn a_server_that_lets_nobody_in_costs_one_connection_and_no_more_before_the_others_are_old() {
    let mut aging = Aging::start(6).await;
    let first = aging.filled(6).await;
    let forbid = sqlx::query("alter role consultants_app nologin");
    forbid.execute(&mut aging.admin).await.expect("altered");
    let lost = within(Duration::from_secs(25), async || {
        (aging.processes().await.len() < first.len()).then_some(())
    });
    lost.await.expect("one is to be renewed");
    // Three more would be renewed in that time.
    let lost = within(Duration::from_secs(6), async || {
        let open = aging.processes().await;
        (open.len() + 1 < first.len()).then_some(open)
    });
    assert_eq!(lost.await, None, "more than one of {first:?} is lost");
    aging.end().await;
}

#[tokio::test]
async fn two_thousand_cancelled_calls_leave_no_transaction_and_no_setting_behind() {
    let (own, other) = tokio::join!(Firm::new("Own"), Firm::new("Other"));
    own.hires("Kim").await;
    other.hires("Lee").await;
    let tasks = Tasks::new();
    let db = Db::new(&settings(2), "consultants", Wake::default(), tasks.clone())
        .expect("the role has a password");
    let contexts = [ctx_of(own.id), ctx_of(other.id)];

    let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
    let mut cancelled = 0;
    for i in 0..2_000_usize {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let ctx = contexts[i % 2].clone();
        let limit = Duration::from_micros(seed >> 52);
        match tokio::time::timeout(limit, operation(&db, &ctx)).await {
            Err(_elapsed) => cancelled += 1,
            Ok(outcome) => {
                let tenants = outcome.expect("the database answers");
                assert!(
                    tenants.iter().all(|tenant| *tenant == ctx.tenant().uuid()),
                    "a foreign row was seen"
                );
            }
        }
    }
    assert!(
        cancelled > 200,
        "only {cancelled} calls were cancelled: the limits are too wide"
    );

    // Where every call was cancelled at the last, both connections are new: each has ended one whole call before it is
    // looked at.
    let (own, other) = tokio::join!(operation(&db, &contexts[0]), operation(&db, &contexts[1]));
    own.and(other).expect("two calls in peace");

    // Both connections, borrowed at the same time: no context, hence no row, and no transaction: there `now()` is the
    // statement's own time, which moves between two statements.
    let probe = "select nullif(current_setting('app.current_tenant_id', true), ''), \
                 (select count(*) from consultants.consultant), now(), pg_sleep(0.05)::text, $1::uuid, $2::uuid";
    let look = |ctx| db.read_one::<Found>(ctx, probe, Uuid::nil());
    let [own, other] = &contexts;
    for _ in 0..2 {
        let (first, second) = tokio::join!(look(own), look(other));
        let (third, fourth) = tokio::join!(look(own), look(other));
        let mut times = std::collections::HashSet::new();
        for found in [first, second, third, fourth] {
            let (setting, rows, at, ..) = found.expect("the connection works").expect("a row");
            assert_eq!((setting, rows), (None, 0));
            times.insert(at);
        }
        assert_eq!(times.len(), 4, "a connection is inside a transaction");
    }
}

/// The context, the rows in sight and the time of a look at a connection.
type Found = (
    Option<String>,
    i64,
    time::OffsetDateTime,
    String,
    Uuid,
    Uuid,
);

#[tokio::test]
async fn a_call_whose_caller_hangs_up_is_carried_out_to_its_end() {
    let firm = Firm::new("Hangup").await;
    let code = format!("h{}", Clock::system().new_uuid().simple());
    for i in 0..50_u64 {
        let consultant = proto::consultants::v1::Consultant {
            code: format!("{code}-{i}"),
            display_name: "Kim".to_owned(),
            ..Default::default()
        };
        let request = proto::consultants::v1::CreateConsultantRequest {
            consultant: Some(consultant),
            ..Default::default()
        };
        let mut client = firm.consultants();
        // Too short for most answers, long enough for most requests to arrive.
        let _ = tokio::time::timeout(
            Duration::from_micros(300 + 40 * i),
            client.create_consultant(request),
        )
        .await;
    }
    // Whatever was begun is whole: every consultant has its event, and the next call works.
    harness::eventually("every consultant that exists has its record", async || {
        let listed = firm
            .consultants()
            .list_consultants(proto::consultants::v1::ListConsultantsRequest {
                page_size: 500,
                ..Default::default()
            })
            .await;
        let created = listed.ok()?.into_inner().consultants.len();
        let filter = proto::audit::v1::RecordFilter {
            r#type: "catalyst.consultants.v1.ConsultantCreated".to_owned(),
            ..Default::default()
        };
        let request = proto::audit::v1::ListRecordsRequest {
            page_size: 500,
            filter: Some(filter),
            ..Default::default()
        };
        let recorded = firm
            .audit()
            .list_records(request)
            .await
            .ok()?
            .into_inner()
            .records
            .len();
        (created == recorded).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_call_that_waits_is_carried_out_although_its_caller_hangs_up() {
    use proto::consultants::v1 as pb;
    let firm = Firm::new("Hangup").await;
    let kim = firm.hires("Kim").await;
    let mut admin = PgConnection::connect(&world().postgres_admin_url)
        .await
        .expect("connected");
    let mut held = admin.begin().await.expect("begun");
    sqlx::query("select 1 from consultants.consultant where tenant_id = $1 for update")
        .bind(firm.id.uuid())
        .execute(&mut *held)
        .await
        .expect("the row is held");
    let request = pb::UpdateConsultantRequest {
        consultant: Some(pb::Consultant {
            id: kim.id.clone(),
            job_title: "Lead".to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let mut client = firm.consultants();
    let waits = harness::eventually("the call waits for the row", async || {
        let blocked =
            "select 1 from pg_stat_activity where pg_backend_pid() = any(pg_blocking_pids(pid))";
        sqlx::query(blocked).fetch_optional(&mut *held).await.ok()?
    });
    tokio::select! {
        _ = client.update_consultant(request) => panic!("the row was not held"),
        _ = waits => {}
    }
    // On the same connection: once this is answered, the server knows that the caller of the first has gone.
    let read = async || {
        let request = pb::GetConsultantRequest {
            consultant_id: kim.id.clone(),
        };
        let read = firm.consultants().get_consultant(request).await;
        read.expect("found").into_inner().consultant.expect("it")
    };
    assert_eq!(read().await.job_title, "");
    held.rollback().await.expect("the row is free");
    harness::eventually("the call takes effect", async || {
        (read().await.job_title == "Lead").then_some(())
    })
    .await;
}
