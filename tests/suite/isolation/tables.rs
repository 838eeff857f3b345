//! Over every table of the live database, as the role that serves: one tenant's context reaches one tenant's rows.

use harness::world;
use kit::TenantId;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row};

use super::cases::Fixture;

/// Rows of these are gone as soon as they have been moved, applied, judged or counted; they are tried with a made-up row.
const IN_TRANSIT: &[&str] = &[
    "outbox",
    "security_outbox",
    "parked",
    "miss",
    "flood",
    "counter",
];
/// Services that hear nothing have an inbox that stays empty, and those that delete nothing have no tombstones.
const NEVER_FILLED: &[&str] = &[
    "audit.tombstone",
    "consultants.inbox",
    "consultants.tombstone",
    "tenants.tombstone",
];

pub(super) struct Table {
    schema: String,
    name: String,
}

impl Table {
    pub(super) fn qualified(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }
}

pub(super) async fn administrator() -> PgConnection {
    PgConnection::connect(&world().postgres_admin_url)
        .await
        .expect("the administrator connects")
}

/// Every table of the services that holds tenants' rows, partitions included.
pub(super) async fn tenant_tables(admin: &mut PgConnection) -> Vec<Table> {
    let rows = sqlx::query(
        "select n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace \
         join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped \
         where c.relkind in ('r', 'p') and n.nspname not in ('pg_catalog', 'information_schema') order by 1, 2",
    )
    .fetch_all(admin)
    .await
    .expect("the catalog is read");
    rows.iter()
        .map(|row| Table {
            schema: row.get(0),
            name: row.get(1),
        })
        .collect()
}

/// A session of the serving role of `schema`.
pub(super) async fn serving(schema: &str) -> PgConnection {
    let role = format!("{schema}_app");
    let password =
        std::fs::read_to_string(world().password_dir.join(&role)).expect("the role has a password");
    let options: PgConnectOptions = world().database_url.parse().expect("a URL");
    options
        .username(&role)
        .password(password.trim())
        .connect()
        .await
        .expect("the serving role connects")
}

pub(super) async fn as_tenant(session: &mut PgConnection, tenant: TenantId) {
    sqlx::query("select set_config('app.current_tenant_id', $1, false)")
        .bind(tenant.to_string())
        .execute(session)
        .await
        .expect("the context is set");
}

/// Rows that a statement touched or showed; none when the role may not run it or the policy refused it.
pub(super) async fn touched(session: &mut PgConnection, statement: &str) -> u64 {
    match sqlx::query(AssertSqlSafe(statement)).execute(session).await {
        Ok(done) => done.rows_affected(),
        Err(error) => {
            let code = error
                .as_database_error()
                .and_then(sqlx::error::DatabaseError::code)
                .map(std::borrow::Cow::into_owned);
            // insufficient_privilege, which a policy's refusal of a new row is as well
            assert_eq!(code.as_deref(), Some("42501"), "{statement}: {error}");
            0
        }
    }
}

#[tokio::test]
async fn the_serving_role_reaches_no_row_of_another_tenant_in_any_table() {
    let (own, other) = tokio::join!(Fixture::new("Own"), Fixture::new("Other"));
    let mut admin = administrator().await;
    let tables = tenant_tables(&mut admin).await;
    assert!(tables.len() > 20, "only {} tables were found", tables.len());
    for table in &tables {
        let name = table.qualified();
        let other_id = if table.schema == "tenants" {
            TenantId::PLATFORM
        } else {
            other.firm.id
        };
        let is_partition = table
            .name
            .rsplit_once("_p")
            .is_some_and(|(_, n)| n.len() == 2 && n.parse::<u8>().is_ok());
        if !IN_TRANSIT.contains(&table.name.as_str())
            && !NEVER_FILLED.contains(&name.as_str())
            && !is_partition
        {
            let count: i64 = sqlx::query_scalar(AssertSqlSafe(format!(
                "select count(*) from {name} where tenant_id = '{other_id}'"
            )))
            .fetch_one(&mut admin)
            .await
            .expect("the administrator counts");
            assert!(
                count > 0,
                "{name} has no row of the other tenant: make the fixture write one"
            );
        }
        let mut session = serving(&table.schema).await;
        as_tenant(&mut session, own.firm.id).await;
        for statement in [
            format!("select 1 from {name} where tenant_id = '{other_id}'"),
            format!("select 1 from {name} where tenant_id <> '{}'", own.firm.id),
            format!("update {name} set tenant_id = tenant_id where tenant_id = '{other_id}'"),
            format!("delete from {name} where tenant_id = '{other_id}'"),
        ] {
            assert_eq!(touched(&mut session, &statement).await, 0, "{statement}");
        }
    }
}

#[tokio::test]
async fn the_serving_role_writes_no_row_into_another_tenant() {
    let (own, other) = tokio::join!(Fixture::new("Own"), Fixture::new("Other"));
    let mut admin = administrator().await;
    for table in tenant_tables(&mut admin).await {
        let name = table.qualified();
        let sample: Option<serde_json::Value> = sqlx::query_scalar(AssertSqlSafe(format!(
            "select to_jsonb(t) from {name} t limit 1"
        )))
        .fetch_optional(&mut admin)
        .await
        .expect("the administrator reads");
        let mut row = sample.unwrap_or_else(|| serde_json::json!({}));
        row["tenant_id"] = other.firm.id.to_string().into();
        let columns: Vec<String> = sqlx::query_scalar(
            "select quote_ident(attname) from pg_attribute where attrelid = $1::regclass and attnum > 0 \
             and not attisdropped and attgenerated = '' and attidentity = '' order by attnum",
        )
        .bind(&name)
        .fetch_all(&mut admin)
        .await
        .expect("the catalog is read");
        let columns = columns.join(", ");
        let mut session = serving(&table.schema).await;
        as_tenant(&mut session, own.firm.id).await;
        let statement = format!(
            "insert into {name} ({columns}) select {columns} from jsonb_populate_record(null::{name}, '{}')",
            row.to_string().replace('\'', "''")
        );
        assert_eq!(touched(&mut session, &statement).await, 0, "{name}");
    }
}

#[tokio::test]
async fn without_a_context_every_table_is_empty() {
    Fixture::new("Own").await;
    let mut admin = administrator().await;
    for table in tenant_tables(&mut admin).await {
        let mut session = serving(&table.schema).await;
        let statement = format!("select 1 from {}", table.qualified());
        assert_eq!(touched(&mut session, &statement).await, 0, "{statement}");
        // After a transaction with a context the setting is '' and not null; that is no context either.
        let mut tx = session.begin().await.expect("begin");
        sqlx::query("select set_config('app.current_tenant_id', $1, true)")
            .bind(TenantId::PLATFORM.to_string())
            .execute(&mut *tx)
            .await
            .expect("the context is set");
        tx.commit().await.expect("commit");
        assert_eq!(
            touched(&mut session, &statement).await,
            0,
            "{statement} after a commit"
        );
    }
}

#[tokio::test]
async fn the_serving_role_can_neither_truncate_nor_leave_its_role() {
    let mut admin = administrator().await;
    for table in tenant_tables(&mut admin).await {
        let mut session = serving(&table.schema).await;
        let truncate = format!("truncate {}", table.qualified());
        let refused = sqlx::query(AssertSqlSafe(truncate))
            .execute(&mut session)
            .await
            .expect_err("a serving role may not truncate");
        let code = refused
            .as_database_error()
            .and_then(sqlx::error::DatabaseError::code);
        assert_eq!(code.as_deref(), Some("42501"), "{}", table.qualified());
        for statement in [
            "set role postgres".to_owned(),
            format!("set role {}_owner", table.schema),
        ] {
            let refused = sqlx::query(AssertSqlSafe(statement.clone()))
                .execute(&mut session)
                .await;
            assert!(refused.is_err(), "{} may {statement}", table.schema);
        }
    }
}

#[tokio::test]
async fn one_service_reaches_no_table_of_another() {
    let mut admin = administrator().await;
    let tables = tenant_tables(&mut admin).await;
    for schema in [
        "tenants",
        "consultants",
        "projects",
        "time_entries",
        "audit",
    ] {
        let mut session = serving(schema).await;
        for table in tables.iter().filter(|table| table.schema != schema) {
            let statement = format!("select 1 from {}", table.qualified());
            let refused = sqlx::query(AssertSqlSafe(statement.clone()))
                .execute(&mut session)
                .await;
            let code = refused.err().and_then(|e| {
                e.as_database_error()
                    .and_then(|e| e.code().map(std::borrow::Cow::into_owned))
            });
            assert_eq!(code.as_deref(), Some("42501"), "{schema}_app: {statement}");
        }
    }
}

/// Even an administrator, whom no policy binds, cannot make such a link: PostgreSQL checks keys without policies.
#[tokio::test]
async fn no_foreign_key_links_a_row_to_one_of_another_tenant() {
    let (own, other) = tokio::join!(Fixture::new("Own"), Fixture::new("Other"));
    let mut admin = administrator().await;
    let keys = sqlx::query(
        "select c.conrelid::regclass::text, quote_ident(a.attname), c.confrelid::regclass::text \
         from pg_constraint c join pg_namespace n on n.oid = c.connamespace \
         join pg_attribute a on a.attrelid = c.conrelid and a.attnum = any(c.conkey) and a.attname <> 'tenant_id' \
         where c.contype = 'f' and c.conparentid = 0 \
           and n.nspname in ('tenants', 'consultants', 'projects', 'time_entries', 'audit')",
    )
    .fetch_all(&mut admin)
    .await
    .expect("the catalog is read");
    assert!(keys.len() >= 5, "only {} keys were found", keys.len());
    for key in keys {
        let (from, column, to): (String, String, String) = (key.get(0), key.get(1), key.get(2));
        let link = format!(
            "update {from} set {column} = (select id from {to} where tenant_id = '{}' limit 1) where tenant_id = '{}'",
            other.firm.id, own.firm.id
        );
        let mut tx = admin.begin().await.expect("begin");
        let refused = sqlx::query(AssertSqlSafe(link.clone()))
            .execute(&mut *tx)
            .await
            .expect_err(&link);
        let code = refused
            .as_database_error()
            .and_then(sqlx::error::DatabaseError::code);
        assert_eq!(code.as_deref(), Some("23503"), "{link}: {refused}");
        tx.rollback().await.expect("rollback");
    }
}
