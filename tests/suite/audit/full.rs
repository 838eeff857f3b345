//! A full disk of the audit database loses nothing: what cannot be stored stays with the broker and comes again.

use harness::{Firm, eventually, world};
use proto::audit::v1 as pb;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _};

use super::{has_no_gaps, list, records};

#[tokio::test]
async fn events_that_meet_a_full_disk_are_recorded_once_there_is_room_and_none_is_set_aside() {
    let firm = Firm::new("Full").await;
    firm.creates_project("Apollo").await;
    let before = records(&firm, 2).await.len();
    let mut admin = PgConnection::connect(&world().postgres_admin_url)
        .await
        .expect("the database");
    let name = format!("full_{}", firm.id.uuid().simple());
    // What PostgreSQL itself raises when it cannot extend a file, for this firm alone.
    let full = format!(
        "create sequence public.{name}_met; grant usage on sequence public.{name}_met to audit_app; \
         create function public.{name}() returns trigger language plpgsql as $$ begin \
             perform nextval('public.{name}_met'); \
             raise exception 'could not extend file: No space left on device' using errcode = '53100'; \
         end $$; \
         create trigger {name} before insert on audit.record for each row \
             when (new.tenant_id = '{}') execute function public.{name}()",
        firm.id
    );
    sqlx::raw_sql(AssertSqlSafe(full))
        .execute(&mut admin)
        .await
        .expect("the disk is full");
    let project = firm.creates_project("Gemini").await;
    let met: std::sync::Arc<str> =
        format!("select last_value from public.{name}_met where is_called").into();
    // More often than an event may fail for reasons of its own.
    eventually("the recorder meets it again and again", async || {
        let met: Option<i64> = sqlx::query_scalar(AssertSqlSafe(std::sync::Arc::clone(&met)))
            .fetch_optional(&mut admin)
            .await
            .ok()?;
        met.filter(|met| *met >= 6)
    })
    .await;
    assert_eq!(list(&firm, pb::RecordFilter::default()).await.len(), before);
    let room = format!(
        "drop trigger {name} on audit.record; drop function public.{name}; drop sequence public.{name}_met"
    );
    sqlx::raw_sql(AssertSqlSafe(room))
        .execute(&mut admin)
        .await
        .expect("there is room");
    let after = harness::within(std::time::Duration::from_secs(40), async || {
        let found = list(&firm, pb::RecordFilter::default()).await;
        let is_there = found.iter().any(|record| record.resource_id == project.id);
        is_there.then_some(found)
    })
    .await
    .expect("the event is recorded");
    assert!(has_no_gaps(&after), "{after:?}");
}
