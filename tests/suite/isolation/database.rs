//! What SQL can do beside plain statements, as the role that serves: no form of it leaves the tenant's rows.

use harness::Firm;
use kit::TenantId;
use sqlx::{AssertSqlSafe, Connection as _, Row as _};

use super::tables::{administrator, as_tenant, serving, tenant_tables, touched};

/// Rows that a statement shows; none when it is refused, and then as a right that is missing.
async fn shown(session: &mut sqlx::PgConnection, statement: &str) -> usize {
    match sqlx::query(AssertSqlSafe(statement))
        .fetch_all(&mut *session)
        .await
    {
        Ok(rows) => rows.len(),
        Err(_) => usize::try_from(touched(session, statement).await).expect("few"),
    }
}

#[tokio::test]
async fn no_form_of_a_write_touches_or_shows_another_tenants_row() {
    let (own, other) = tokio::join!(Firm::new("Own"), Firm::new("Other"));
    let client = other.wins_client("North").await;
    let mine = own.wins_client("South").await;
    let mut session = serving("projects").await;
    as_tenant(&mut session, own.id).await;
    let (me, them) = (own.id, other.id);
    let row = format!("'{them}', '{}', 'x', 'x', 1, now(), now()", client.id);
    let columns = "tenant_id, id, code, display_name, version, created_at, updated_at";
    let theirs = format!("tenant_id = '{them}' and id = '{}'", client.id);
    for statement in [
        // A clash with a row that the policy hides must not become an update of it, nor tell of it by its own error.
        format!("insert into projects.client ({columns}) values ({row}) on conflict do nothing"),
        format!(
            "insert into projects.client ({columns}) values ({row}) \
             on conflict (tenant_id, id) do update set display_name = 'taken' returning *"
        ),
        format!(
            "merge into projects.client t using (select '{them}'::uuid as tenant_id, '{}'::uuid as id) s \
             on t.tenant_id = s.tenant_id and t.id = s.id when matched then update set display_name = 'taken'",
            client.id
        ),
        format!(
            "merge into projects.client t using (select '{them}'::uuid as tenant_id, '{}'::uuid as id) s \
             on t.tenant_id = s.tenant_id and t.id = s.id \
             when not matched then insert ({columns}) values ({row})",
            client.id
        ),
        format!("update projects.client set display_name = 'taken' where {theirs} returning *"),
        format!(
            "update projects.client set tenant_id = '{them}' where tenant_id = '{me}' returning *"
        ),
        format!("delete from projects.client where {theirs} returning *"),
        format!(
            "with gone as (delete from projects.client where {theirs} returning *) select * from gone"
        ),
        format!(
            "with new as (update projects.client set display_name = 'taken' where {theirs} returning *) \
             select * from new"
        ),
        format!("select * from projects.client where {theirs} for update"),
        format!("select * from only projects.client where {theirs}"),
        format!(
            "table projects.client except select * from projects.client where tenant_id = '{me}'"
        ),
    ] {
        assert_eq!(shown(&mut session, &statement).await, 0, "{statement}");
    }
    let mut admin = administrator().await;
    let name: String = sqlx::query_scalar(AssertSqlSafe(format!(
        "select display_name from projects.client where {theirs}"
    )))
    .fetch_one(&mut admin)
    .await
    .expect("the row is there");
    assert_eq!(name, "North");
    let count: i64 = sqlx::query_scalar("select count(*) from projects.client where id = $1::uuid")
        .bind(&mine.id)
        .fetch_one(&mut session)
        .await
        .expect("the own row is read");
    assert_eq!(count, 1, "the own row is where it was");
}

#[tokio::test]
async fn copy_moves_no_row_of_another_tenant_out_or_in() {
    let (own, other) = tokio::join!(Firm::new("Own"), Firm::new("Other"));
    other.wins_client("North").await;
    let mine = own.wins_client("South").await;
    let mut session = serving("projects").await;
    as_tenant(&mut session, own.id).await;
    let out = format!(
        "copy (select id from projects.client where tenant_id <> '{}') to stdout",
        own.id
    );
    let bytes = copied_out(&mut session, &out).await;
    assert!(bytes.is_empty(), "{}", String::from_utf8_lossy(&bytes));
    // The same way does show the own rows, so that nothing above is empty for another reason.
    let own_rows = copied_out(
        &mut session,
        "copy (select id from projects.client) to stdout",
    )
    .await;
    assert_eq!(String::from_utf8_lossy(&own_rows).trim(), mine.id);
    // PostgreSQL refuses COPY FROM into a table with policies, whoever's rows they are.
    let refused = session
        .copy_in_raw("copy projects.client (tenant_id, id, code) from stdin")
        .await;
    assert!(refused.is_err(), "COPY FROM was let in");
}

async fn copied_out(session: &mut sqlx::PgConnection, statement: &str) -> Vec<u8> {
    use futures::TryStreamExt as _;
    let stream = session.copy_out_raw(statement).await.expect("COPY begins");
    let chunks: Vec<_> = stream.try_collect().await.expect("COPY ends");
    chunks.concat()
}

#[tokio::test]
async fn a_partition_by_its_own_name_shows_nothing() {
    let own = Firm::new("Own").await;
    let consultant = own.hires("Kim").await;
    let project = own.creates_project("Apollo").await;
    own.logs_hour(&project.id, &consultant.id, 8).await;
    let mut admin = administrator().await;
    let partitions: Vec<String> = sqlx::query_scalar(
        "select c.oid::regclass::text from pg_class c join pg_inherits i on i.inhrelid = c.oid \
         where c.relkind = 'r' and i.inhparent = 'time_entries.time_entry'::regclass",
    )
    .fetch_all(&mut admin)
    .await
    .expect("the catalog is read");
    assert!(!partitions.is_empty(), "the big table has partitions");
    let mut session = serving("time_entries").await;
    as_tenant(&mut session, own.id).await;
    for partition in partitions {
        for statement in [
            format!("select * from {partition}"),
            format!("delete from {partition}"),
            format!("update {partition} set note = 'taken'"),
        ] {
            assert_eq!(touched(&mut session, &statement).await, 0, "{statement}");
        }
    }
}

#[tokio::test]
async fn a_context_ends_with_its_transaction_however_that_ends() {
    let own = Firm::new("Own").await;
    own.wins_client("North").await;
    let mut session = serving("projects").await;
    let count = "select count(*) from projects.client";
    let visible = async |session: &mut sqlx::PgConnection| -> i64 {
        sqlx::query_scalar(count)
            .fetch_one(session)
            .await
            .expect("a count, and no error")
    };
    assert_eq!(visible(&mut session).await, 0, "on a fresh connection");
    for end in ["commit", "rollback"] {
        let mut tx = session.begin().await.expect("begin");
        sqlx::query("select set_config('app.current_tenant_id', $1, true)")
            .bind(own.id.to_string())
            .execute(&mut *tx)
            .await
            .expect("the context is set");
        assert_eq!(visible(&mut tx).await, 1, "within the transaction");
        match end {
            "commit" => tx.commit().await.expect("commit"),
            _ => tx.rollback().await.expect("rollback"),
        }
        assert_eq!(visible(&mut session).await, 0, "after {end}");
    }
}

#[tokio::test]
async fn a_prepared_statement_shows_each_tenant_its_own_rows_ten_thousand_times() {
    let (one, two) = tokio::join!(Firm::new("One"), Firm::new("Two"));
    let (first, second) = tokio::join!(one.wins_client("North"), two.wins_client("South"));
    let nobody = TenantId::NONE;
    let expected = [
        (one.id, Some(first.id)),
        (two.id, Some(second.id)),
        (nobody, None),
    ];
    let mut session = serving("projects").await;
    // The same statement, prepared but once and planned once and for all, as it is when serving.
    let all =
        "select id::text as id from projects.client where tenant_id = app.current_tenant_id()";
    for round in 0..10_000_usize {
        let (tenant, id) = &expected[round % expected.len()];
        as_tenant(&mut session, *tenant).await;
        let rows = sqlx::query(all)
            .fetch_all(&mut session)
            .await
            .expect("the rows are read");
        let ids: Vec<String> = rows.iter().map(|row| row.get("id")).collect();
        assert_eq!(ids, id.iter().cloned().collect::<Vec<_>>(), "round {round}");
    }
}

#[tokio::test]
async fn neither_plans_nor_statistics_nor_sessions_show_anything_of_another_tenant() {
    let (own, other) = tokio::join!(Firm::new("Own"), Firm::new("Other"));
    let secret = other.wins_client("canary-of-statistics").await;
    let mut admin = administrator().await;
    sqlx::raw_sql("analyze projects.client; analyze time_entries.time_entry")
        .execute(&mut admin)
        .await
        .expect("the statistics are gathered");
    let mut session = serving("projects").await;
    as_tenant(&mut session, own.id).await;
    for statement in [
        "select * from pg_stats where schemaname = 'projects' and tablename = 'client'",
        "select * from pg_statistic limit 1",
        "select * from pg_stat_activity where usename <> current_user and query <> '' and query <> '<insufficient privilege>'",
        "select * from pg_sequences where schemaname = 'projects' and last_value is not null",
    ] {
        let rows = shown(&mut session, statement).await;
        assert_eq!(rows, 0, "{statement}");
    }
    let plan = format!(
        "explain (analyze, costs off, timing off, summary off) select * from projects.client where id = '{}'",
        secret.id
    );
    let lines: Vec<String> = sqlx::query_scalar(AssertSqlSafe(plan))
        .fetch_all(&mut session)
        .await
        .expect("a plan");
    let plan = lines.join("\n");
    assert!(!plan.contains("canary-of-statistics"), "{plan}");
    let actual = lines.first().map_or("", String::as_str);
    assert!(
        actual.contains("rows=0") || actual.contains("never executed"),
        "{plan}"
    );
}

#[tokio::test]
async fn what_one_tenant_deletes_leaves_nothing_for_another_that_takes_the_same_key() {
    let (first, second) = tokio::join!(Firm::new("First"), Firm::new("Second"));
    let key = kit::ctx::Clock::system().new_uuid().simple().to_string();
    let record = async |firm: &Firm, note: &str| {
        let person = firm.hires("Kim").await;
        let project = firm.creates_project("Apollo").await;
        let entry = proto::time_entries::v1::TimeEntry {
            external_id: key.clone(),
            note: note.to_owned(),
            ..firm.hour_on(&project.id, &person.id, 8)
        };
        let request = proto::time_entries::v1::CreateTimeEntryRequest {
            time_entry: Some(entry),
            request_id: String::new(),
        };
        let created = firm.time_entries().create_time_entry(request).await;
        created
            .expect("the key is free")
            .into_inner()
            .time_entry
            .expect("the time entry")
    };
    let old = record(&first, "the first tenant's").await;
    let request = proto::time_entries::v1::DeleteTimeEntryRequest {
        time_entry_id: old.id.clone(),
        ..Default::default()
    };
    first
        .time_entries()
        .delete_time_entry(request)
        .await
        .expect("the entry is deleted");
    let new = record(&second, "the second tenant's").await;
    assert_ne!(new.id, old.id);
    assert_eq!(
        (new.note.as_str(), new.etag.as_str()),
        ("the second tenant's", "1"),
        "it begins anew"
    );
    for (firm, id) in [(&first, &new.id), (&second, &old.id), (&first, &old.id)] {
        let request = proto::time_entries::v1::GetTimeEntryRequest {
            time_entry_id: id.clone(),
        };
        let answer = firm.time_entries().get_time_entry(request).await;
        assert_eq!(
            answer.expect_err("nothing of it is left").code(),
            tonic::Code::NotFound
        );
    }
    // The same key is free again where it was deleted.
    record(&first, "the first tenant's again").await;
}

#[tokio::test]
async fn every_table_without_a_tenant_is_known_to_hold_none_of_their_rows() {
    const TENANTLESS: [&str; 2] = ["relay_lease", "_migration"];
    let mut admin = administrator().await;
    let with_tenant: Vec<String> = tenant_tables(&mut admin)
        .await
        .iter()
        .map(super::tables::Table::qualified)
        .collect();
    let all: Vec<(String, String)> = sqlx::query_as(
        "select n.nspname::text, c.relname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace \
         where c.relkind in ('r', 'p', 'm', 'f') and n.nspname in \
         ('tenants', 'consultants', 'projects', 'time_entries', 'audit')",
    )
    .fetch_all(&mut admin)
    .await
    .expect("the catalog is read");
    let uncovered: Vec<String> = all
        .iter()
        .filter(|(_, name)| !TENANTLESS.contains(&name.as_str()))
        .map(|(schema, name)| format!("{schema}.{name}"))
        .filter(|name| !with_tenant.contains(name))
        .collect();
    assert!(
        uncovered.is_empty(),
        "tables without a tenant: {uncovered:?}"
    );
}
