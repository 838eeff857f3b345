//! What the commands of an operator run, called as they call it: `catalyst events reconcile` and `rebuild` have no RPC.
//! And what happens when an event cannot be applied, or more wait than a relay takes at once.

use audit::history;
use kit::again::{self, Places};
use kit::aggregate::{self, TOMBSTONES};
use kit::ctx::Clock;
use kit::db::{Db, ExemptDb};
use kit::outbox::Wake;
use kit::tasks::Tasks;
use prost::Message as _;
use uuid::Uuid;

use super::ground::{Ground, tenant};
use catalyst::services;
use harness::{eventually, probe};

/// Reads what the commands read of each firm, and writes what they write without keeping it.
pub(super) async fn run(ground: &Ground, firms: &[u16]) {
    let settings = &ground.settings.database;
    let tasks = Tasks::new();
    let exempt = |role: &str| {
        ExemptDb::new(settings, role, 1, tasks.clone()).expect("the role has a password")
    };
    let log = exempt(audit::OPERATOR);
    let mut session = log.reader().await.expect("a session");
    history::tenants(&mut session).await.expect("read");
    for definition in &services::ALL {
        let schema = definition.schema;
        let relay = exempt(&format!("{schema}_relay"));
        let db = Db::new(settings, schema, Wake::default(), tasks.clone()).expect("a password");
        let mut waiting = relay.reader().await.expect("a session");
        again::waiting(&mut waiting, schema).await.expect("counted");
        for firm in firms {
            let ctx = log.ctx_for(tenant(*firm), "suite", Clock::system());
            let mut tx = db.begin(&ctx).await.expect("begun");
            for aggregate in definition.aggregates.iter().chain([&TOMBSTONES]) {
                let page = aggregate
                    .list(&mut tx, Uuid::nil(), 50)
                    .await
                    .expect("read");
                let ids: Vec<Uuid> = page.iter().map(|(id, _)| *id).take(10).collect();
                aggregate.get(&mut tx, &ids).await.expect("read");
                let waits = aggregate::waiting(&mut waiting, schema, ctx.tenant(), &ids).await;
                waits.expect("read");
            }
        }
        if schema == "tenants" {
            let platform = log.ctx_for(kit::TenantId::PLATFORM, "suite", Clock::system());
            let mut tx = db.begin(&platform).await.expect("begun");
            tenants::firms(&mut tx).await.expect("read");
        }
        for firm in firms.iter().filter(|_| schema == "projects") {
            let tenant = tenant(*firm);
            let page = history::aggregates(&mut session, tenant, Uuid::nil(), 50).await;
            let ids: Vec<Uuid> = page
                .expect("read")
                .iter()
                .map(|it| it.id)
                .take(10)
                .collect();
            history::aggregates_of(&mut session, tenant, &ids)
                .await
                .expect("read");
            let events = history::events(&mut session, tenant, 0, 20)
                .await
                .expect("read");
            let ctx = log.ctx_for(tenant, "suite", Clock::system());
            // Dropped, it writes nothing.
            let mut tx = db.begin(&ctx).await.expect("begun");
            let mut places = Places::new(&Clock::system());
            tx.emit_again(&mut places, &events).await.expect("written");
        }
    }
}

/// Imports entries of a firm in one chunk. A thousand of them are all that a chunk and a batch of the relay may hold.
pub(super) async fn imports(ground: &Ground, firm: u16, count: i64) {
    use super::ground::id;
    use time::format_description::well_known::Rfc3339;
    let began = time::macros::datetime!(2027-01-01 0:00 UTC);
    let rows = (0..count).map(|number| {
        let at = |minutes| {
            let at = began + time::Duration::minutes(number * 20 + minutes);
            at.format(&Rfc3339).expect("a time")
        };
        serde_json::json!({
            "externalId": format!("many-{number}"), "projectId": id(2, firm, 0), "consultantId": id(3, firm, 0),
            "timeZone": "UTC", "startedAt": at(0), "endedAt": at(10),
        })
    });
    let rows: Vec<_> = rows.collect();
    let request = serde_json::json!({"overlapPolicy": "OVERLAP_POLICY_REJECT", "rows": rows});
    let method = "catalyst.time_entries.v1.TimeEntryService/ImportTimeEntries";
    let message = crate::isolation::cases::compose(method, &request).encode_to_vec();
    let admin = ground.user(firm, "admin", &["admin"]);
    let answer = probe(&admin, method, message).await;
    assert_eq!(answer.code, tonic::Code::Ok, "{}", answer.message);
}

/// Has an event of each firm fail for reasons of its own until that is noted.
pub(super) async fn fails_events(ground: &Ground, firms: &[u16]) {
    let mut admin = ground.admin().await;
    let add =
        "alter table audit.record add constraint fault check (actor_id <> 'unlucky') not valid";
    sqlx::raw_sql(add).execute(&mut admin).await.expect("added");
    for firm in firms {
        let unlucky = ground.user(*firm, "unlucky", &["admin"]);
        let request = proto::projects::v1::CreateClientRequest {
            client: Some(proto::projects::v1::Client {
                code: "UNLUCKY".to_owned(),
                display_name: "Unlucky".to_owned(),
                ..Default::default()
            }),
            ..Default::default()
        };
        unlucky
            .projects()
            .create_client(request)
            .await
            .expect("created");
    }
    eventually("every failure is noted", async || {
        let noted: i64 = sqlx::query_scalar("select count(*) from audit.parked where failures > 0")
            .fetch_one(&mut admin)
            .await
            .expect("counted");
        (noted >= i64::try_from(firms.len()).expect("few")).then_some(())
    })
    .await;
    let drop = "alter table audit.record drop constraint fault";
    sqlx::raw_sql(drop)
        .execute(&mut admin)
        .await
        .expect("dropped");
}
