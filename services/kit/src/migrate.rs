//! Bootstrap and migrations of one database: roles, schemas, the kit's tables and each service's own.
//!
//! Run by `catalyst migrate`, never by a serving process: serving roles own nothing. A server that finds migrations
//! pending refuses to start.

use std::borrow::Cow;
use std::path::Path;

use secrecy::ExposeSecret;
use sqlx::migrate::{Migrate, Migration, MigrationType, Migrator};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection, Row, SqlSafeStr};

use crate::cells::{CellName, OtherCell};
use crate::db::{connect, role_password};
use crate::host::Definition;
use crate::settings::SettingsError;

/// Why the database could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// A setting is at fault.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The database is in use as another cell.
    #[error(transparent)]
    OtherCell(#[from] OtherCell),
    /// The database refused a step.
    #[error("{step}: {source}")]
    Step {
        /// What was being done.
        step: String,
        /// The refusal.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

fn step<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
    what: impl Into<String>,
) -> impl FnOnce(E) -> MigrateError {
    let step = what.into();
    move |source| MigrateError::Step {
        step,
        source: source.into(),
    }
}

/// Versions below this are the kit's; a service's own files begin here.
pub const FIRST_SERVICE_VERSION: i64 = 100;

const KIT: &[(i64, &str, &str)] = &[
    (2, "outbox", include_str!("../migrations/0002_outbox.sql")),
    (3, "inbox", include_str!("../migrations/0003_inbox.sql")),
    (4, "request", include_str!("../migrations/0004_request.sql")),
    (
        5,
        "tombstone",
        include_str!("../migrations/0005_tombstone.sql"),
    ),
    (
        6,
        "fair_outbox",
        include_str!("../migrations/0006_fair_outbox.sql"),
    ),
    (7, "parked", include_str!("../migrations/0007_parked.sql")),
];

const APP_FUNCTION: &str = include_str!("../migrations/0001_app.sql");

/// What the comment that names a cell begins with.
const NAMED: &str = "the cell ";

/// A migration file of a service, for its [`Definition`].
pub type Sql = (i64, &'static str, &'static str);

/// Every login role of a service, with whether it serves requests.
fn roles(definition: &Definition) -> Vec<(String, bool)> {
    let schema = definition.schema;
    let mut roles = vec![
        (format!("{schema}_owner"), false),
        (format!("{schema}_app"), true),
        (format!("{schema}_relay"), true),
    ];
    roles.extend(
        definition
            .exempt_roles
            .iter()
            .map(|role| ((*role).to_owned(), true)),
    );
    roles
}

/// Which cell the database says that it is, in the comment on the schema of the context; none before it was named.
pub async fn cell_of(connection: &mut PgConnection) -> Result<Option<CellName>, sqlx::Error> {
    // In the simple protocol: one round trip of each new connection.
    let question =
        "select obj_description(n.oid, 'pg_namespace') from pg_namespace n where n.nspname = 'app'";
    let row = sqlx::raw_sql(question).fetch_optional(connection).await?;
    let comment: Option<String> = row.map(|row| row.try_get(0)).transpose()?.flatten();
    let name = comment.as_deref().and_then(|it| it.strip_prefix(NAMED));
    Ok(name.and_then(CellName::parse))
}

/// Refuses a database that says that it is another cell.
async fn refuse_other(connection: &mut PgConnection, cell: &CellName) -> Result<(), MigrateError> {
    let found = cell_of(connection).await;
    match found.map_err(step("read the cell's name"))? {
        found @ Some(_) if found.as_ref() != Some(cell) => {
            let expected = cell.clone();
            Err(OtherCell { expected, found }.into())
        }
        _ => Ok(()),
    }
}

/// Creates what only an administrator may: the name of the cell, extensions, roles with their passwords, schemas, the
/// context function. Idempotent; passwords are set to what the folder holds. A database that is another cell is refused.
pub async fn bootstrap(
    admin: &PgConnectOptions,
    cell: &CellName,
    password_dir: &Path,
    definitions: &[Definition],
) -> Result<(), MigrateError> {
    let mut connection = connect(&admin.clone().disable_statement_logging())
        .await
        .map_err(step("connect as administrator"))?;
    refuse_other(&mut connection, cell).await?;
    let database: String = sqlx::query_scalar("select quote_ident(current_database())")
        .fetch_one(&mut connection)
        .await
        .map_err(step("read the database's name"))?;
    let mut script = vec![format!(
        "set client_min_messages = warning;\n\
         create extension if not exists btree_gist;\n\
         create schema if not exists app;\n\
         comment on schema app is '{NAMED}{cell}';\n\
         revoke create on schema public from public;\n\
         revoke temporary on database {database} from public;\n"
    )];
    for definition in definitions {
        for (role, serves) in roles(definition) {
            let password = role_password(password_dir, cell, &role)?;
            script.push(role_script(&role, password.expose_secret(), &database));
            script.push(role_settings(&role, serves));
        }
        let schema = definition.schema;
        script.push(format!(
            "create schema if not exists {schema} authorization {schema}_owner;\n"
        ));
        // A function's `set` clause on a setting that no extension declares takes a right, which only this role needs.
        script.push(format!(
            "grant set on parameter app.current_tenant_id to {schema}_owner;\n"
        ));
        for (role, _) in roles(definition) {
            script.push(format!("grant usage on schema {schema} to {role};\n"));
        }
    }
    script.push(APP_FUNCTION.to_owned());
    let script = script.concat();
    sqlx::raw_sql(AssertSqlSafe(script))
        .execute(&mut connection)
        .await
        .map_err(step("create roles and schemas"))?;
    connection
        .close()
        .await
        .map_err(step("close the administrator's connection"))
}

fn role_script(role: &str, password: &str, database: &str) -> String {
    let password = password.replace('\'', "''");
    format!(
        "do $$ begin \
             if not exists (select from pg_roles where rolname = '{role}') then create role {role}; end if; \
         end $$;\n\
         alter role {role} with login nosuperuser nobypassrls nocreaterole nocreatedb noreplication noinherit \
             password '{password}';\n\
         grant connect on database {database} to {role};\n\
         grant usage on schema app to {role};\n"
    )
}

/// Partitioned tables are planned anew at every call without the first, and jit costs more than a short query takes.
/// The time-outs bound what a call whose caller has gone may still hold.
fn role_settings(role: &str, serves: bool) -> String {
    if !serves {
        return format!("alter role {role} set lock_timeout = '2s';\n");
    }
    // A relay's statements are planned while its outbox is empty, when reading all of it looks cheapest. It waits for no
    // disk: a lease or a removal that a power cut takes back is fenced by its holder, or published again under the same
    // ids; what the relay relies on, the broker has on disk.
    let of_relay = if role.ends_with("_relay") {
        format!(
            "alter role {role} set enable_seqscan = 'off';\n\
             alter role {role} set synchronous_commit = 'off';\n"
        )
    } else {
        String::new()
    };
    format!(
        "{of_relay}\
         alter role {role} set plan_cache_mode = 'force_generic_plan';\n\
         alter role {role} set jit = 'off';\n\
         alter role {role} set statement_timeout = '9s';\n\
         alter role {role} set lock_timeout = '5s';\n\
         alter role {role} set idle_in_transaction_session_timeout = '5s';\n"
    )
}

/// The migrations of a service: the kit's tables in its schema, then its own.
fn migrator(definition: &Definition) -> Migrator {
    let kit = KIT.iter().map(|(version, name, sql)| {
        let sql = sql.replace("{schema}", definition.schema);
        Migration::new(
            *version,
            Cow::Borrowed(*name),
            MigrationType::Simple,
            AssertSqlSafe(sql).into_sql_str(),
            false,
        )
    });
    let own = definition.migrations.iter().map(|(version, name, sql)| {
        Migration::new(
            *version,
            Cow::Borrowed(*name),
            MigrationType::Simple,
            (*sql).into_sql_str(),
            false,
        )
    });
    let mut migrator = Migrator::with_migrations(kit.chain(own).collect());
    migrator.dangerous_set_table_name(format!("{}._migration", definition.schema));
    migrator
}

/// Applies what is pending in the cell, as the schema's owner.
pub async fn migrate(
    owner: &PgConnectOptions,
    cell: &CellName,
    definition: &Definition,
) -> Result<(), MigrateError> {
    let mut connection = connect_owner(owner, definition).await?;
    refuse_other(&mut connection, cell).await?;
    migrator(definition)
        .run(&mut connection)
        .await
        .map_err(step(format!("migrate the schema {}", definition.schema)))?;
    // Serving roles read the applied versions, to refuse a start with pending ones.
    let schema = definition.schema;
    let grant = format!("grant select on {schema}._migration to {schema}_app");
    sqlx::raw_sql(AssertSqlSafe(grant))
        .execute(&mut connection)
        .await
        .map_err(step("grant the list of migrations"))?;
    connection
        .close()
        .await
        .map_err(step("close the owner's connection"))
}

async fn connect_owner(
    owner: &PgConnectOptions,
    definition: &Definition,
) -> Result<PgConnection, MigrateError> {
    connect(&owner.clone().disable_statement_logging())
        .await
        .map_err(step(format!(
            "connect as {}_owner (its URL and the administrator's must lead to the same database)",
            definition.schema
        )))
}

/// Names of migrations that this binary has and the database has not. A database without the schema has none of them.
pub async fn pending(
    connection: &mut PgConnection,
    definition: &Definition,
) -> Result<Vec<String>, MigrateError> {
    let migrator = migrator(definition);
    let applied: std::collections::HashSet<i64> = connection
        .list_applied_migrations(&format!("{}._migration", definition.schema))
        .await
        .map_err(step(
            "read the applied migrations; run `catalyst migrate` first",
        ))?
        .into_iter()
        .map(|migration| migration.version)
        .collect();
    Ok(migrator
        .iter()
        .filter(|migration| !applied.contains(&migration.version))
        .map(|migration| {
            format!(
                "{}/{:04}_{}",
                definition.schema, migration.version, migration.description
            )
        })
        .collect())
}
