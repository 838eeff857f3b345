//! The one door to a tenant's rows: [`Db::begin`] opens a transaction that is bound to the context's tenant.
//!
//! Invariants: no [`Ctx`], no [`Tx`]; a connection goes back to the pool only after a confirmed COMMIT or ROLLBACK
//! and is closed otherwise, so that no borrower ever meets an open transaction or a leftover setting.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use data_encoding::BASE64URL_NOPAD;
use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{AssertSqlSafe, ConnectOptions as _, FromRow};

use crate::Error;
use crate::cache::Caches;
use crate::cells::{Cell, CellName, Cells};
use crate::class::Class;
use crate::ctx::Ctx;
use crate::events::Emitted;
use crate::failpoint;
use crate::ids::TenantId;
use crate::once::Claim;
use crate::outbox::{OutboxSql, Wake};
use crate::pool::{ACQUIRE_LIMIT, Pool, is_dead, silence};
use crate::session::Session;
use crate::settings::{DatabaseSettings, SettingsError, read_secret};
use crate::tasks::Tasks;
use crate::telemetry::{METRICS, shed_labels};
use crate::turns::Asker;
use crate::usage::USAGE;
use crate::{tls, wire};

/// The least characters of a password that those of dedicated cells are derived from: 128 bits of random base64.
const LEAST_KEY: usize = 22;

/// How long a command waits for a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// How long the database may take to say that it is there.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// The rows of one service, reached as its serving role in whichever cell they are.
#[derive(Clone)]
pub struct Db {
    cells: Cells,
    /// How long a call waits for a connection.
    wait: Duration,
    sql: Arc<OutboxSql>,
    tasks: Tasks,
    caches: Option<Caches>,
}

impl Db {
    /// A pool of connections as `<schema>_app` to one database, which holds every tenant that is asked for; connects on
    /// first use.
    pub fn new(
        settings: &DatabaseSettings,
        schema: &'static str,
        wake: Wake,
        tasks: Tasks,
    ) -> Result<Self, SettingsError> {
        let role = format!("{schema}_app");
        let pool = Pool::new(settings, &role, settings.database_max_connections)?;
        let cells = Cells::one(Cell::of_command(pool, wake));
        Ok(Self::within(cells, settings, schema, tasks))
    }

    /// The rows in these cells.
    pub(crate) fn within(
        cells: Cells,
        settings: &DatabaseSettings,
        schema: &'static str,
        tasks: Tasks,
    ) -> Self {
        Self {
            cells,
            wait: Duration::from_millis(settings.database_wait_milliseconds),
            sql: Arc::new(OutboxSql::new(schema)),
            tasks,
            caches: None,
        }
    }

    /// The same, whose writers tell these caches of what they change.
    pub(crate) fn telling(self, caches: Caches) -> Self {
        Self {
            caches: Some(caches),
            ..self
        }
    }

    /// Opens a transaction that sees and writes the rows of the context's tenant alone: one round trip.
    /// A mutation waits first, or is refused, when too many events wait for the broker. Tenants take turns; a call that
    /// waits too long for its own is [`Error::Busy`], and one whose caller has gone is [`Error::TooLate`].
    pub async fn begin(&self, ctx: &Ctx) -> Result<Tx, Error> {
        let cell = self.cells.of(ctx).await?;
        if let Some(pressure) = &cell.pressure {
            pressure.admit(ctx).await?;
        }
        // A typed UUID only: nothing that a caller wrote becomes part of a statement.
        let tenant = ctx.tenant();
        let statement: Arc<str> =
            format!("begin; set local app.current_tenant_id = '{tenant}'").into();
        let wait = self.wait_of(ctx)?;
        let opened = cell.pool.open(statement, Asker::of(ctx), wait).await;
        let lease = opened.map_err(|error| Self::waited(ctx, error))?;
        Ok(Tx {
            session: Session::new(lease, self.tasks.clone(), true).until(ctx.deadline()),
            db: self.clone(),
            cell,
            tenant,
            emitted: Vec::new(),
            claim: None,
        })
    }

    /// Reads at most one row of the context's tenant in one round trip, for hot reads: `sql` selects from a database
    /// function that takes the tenant as `$1` and `id` as `$2`, sets the context and reads under it.
    /// Outside such a function a table shows no row: it fails closed. (Measured: half again as many calls a second as
    /// begin, select and rollback, for two thirds of the processor time; the simple protocol with literals saves the
    /// round trips too, and spends what it saves on planning every call.)
    pub async fn read_one<R>(
        &self,
        ctx: &Ctx,
        sql: &'static str,
        id: uuid::Uuid,
    ) -> Result<Option<R>, Error>
    where
        R: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        let cell = self.cells.of(ctx).await?;
        let mut retried = false;
        loop {
            let wait = self.wait_of(ctx)?;
            let leased = cell.pool.acquire(Asker::of(ctx), wait).await;
            let lease = leased.map_err(|error| Self::waited(ctx, error))?;
            let mut session = Session::new(lease, self.tasks.clone(), false).until(ctx.deadline());
            let found = sqlx::query_as(sql)
                .bind(ctx.tenant().uuid())
                .bind(id)
                .fetch_optional(&mut session)
                .await;
            match found {
                // An idle connection that died with its server; a read may simply be tried on a new one.
                Err(error) if !retried && is_dead(&error) => retried = true,
                found => return Ok(found?),
            }
        }
    }

    /// How long a connection may be waited for in this context. What an event causes has nobody who waits for it.
    fn wait_of(&self, ctx: &Ctx) -> Result<Duration, Error> {
        if ctx.method().is_empty() {
            return Ok(ACQUIRE_LIMIT);
        }
        match ctx.remaining(self.wait) {
            Duration::ZERO => Err(Error::TooLate),
            wait => Ok(wait),
        }
    }

    /// What it means that there was no connection in time: a call is shed, or its own deadline was nearer; what an event
    /// causes is tried again.
    fn waited(ctx: &Ctx, error: sqlx::Error) -> Error {
        match error {
            sqlx::Error::PoolTimedOut if ctx.method().is_empty() => error.into(),
            sqlx::Error::PoolTimedOut if ctx.remaining(Duration::MAX).is_zero() => Error::TooLate,
            sqlx::Error::PoolTimedOut => {
                let class = Class::of(ctx.method()).name();
                METRICS.shed.add(1, &shed_labels("database", class));
                Error::Busy
            }
            error => error.into(),
        }
    }

    /// Whether the shared cell answers, shortly.
    pub(crate) async fn answers(&self) -> bool {
        self.cells.shared().pool.answers(ANSWER_LIMIT).await
    }

    /// Where the rows are.
    pub(crate) fn cells(&self) -> &Cells {
        &self.cells
    }
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Db")
            .field("schema", &self.sql.schema())
            .finish_non_exhaustive()
    }
}

/// A database role that one tenant's context does not bound: the relay, and an operator's reads.
/// Each such role has policies of its own for the few tables it needs, and `catalyst doctor` holds the list.
#[derive(Clone)]
pub struct ExemptDb {
    pool: Pool,
    tasks: Tasks,
}

impl ExemptDb {
    /// A pool of at most `connections` connections as the named role.
    pub fn new(
        settings: &DatabaseSettings,
        role: &str,
        connections: u32,
        tasks: Tasks,
    ) -> Result<Self, SettingsError> {
        Ok(Self {
            pool: Pool::new(settings, role, connections)?,
            tasks,
        })
    }

    /// Opens a transaction without a tenant.
    pub async fn begin(&self) -> Result<ExemptTx, Error> {
        let begin = "begin".into();
        let lease = self.pool.open(begin, Asker::SERVICE, ACQUIRE_LIMIT).await?;
        Ok(ExemptTx {
            session: Session::new(lease, self.tasks.clone(), true),
        })
    }

    /// A connection for single statements, each a transaction of its own.
    pub async fn reader(&self) -> Result<Session, Error> {
        let lease = self.pool.acquire(Asker::SERVICE, ACQUIRE_LIMIT).await?;
        Ok(Session::new(lease, self.tasks.clone(), false))
    }

    /// A context in the name of `service` for a tenant that a row of this role names: the holder of an exempt role
    /// already sees that tenant, so it vouches for it.
    pub fn ctx_for(&self, tenant: TenantId, service: &str, clock: crate::ctx::Clock) -> Ctx {
        Ctx::of_event(
            tenant,
            crate::ctx::Actor::Service(service.to_owned()),
            clock,
        )
    }

    /// The context of an operator's call in a tenant that the call names: whoever may reach every tenant's rows by this
    /// role may act in one of them.
    pub fn ctx_in(&self, tenant: TenantId, caller: &Ctx) -> Ctx {
        caller.in_tenant(tenant)
    }
}

impl fmt::Debug for ExemptDb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExemptDb").finish_non_exhaustive()
    }
}

/// The password of a role in a cell: what the folder holds, which in a dedicated cell is the key of what is used. Whoever
/// owns that database is told its passwords, and learns nothing of another's, unless the key is so short that it can be
/// guessed: then it is refused.
pub(crate) fn role_password(
    folder: &Path,
    cell: &CellName,
    role: &str,
) -> Result<SecretString, SettingsError> {
    let (variable, file) = ("CATALYST_DATABASE_PASSWORD_DIR", folder.join(role));
    let password = read_secret(variable, &file)?;
    if cell.is_shared() {
        return Ok(password);
    }
    if password.expose_secret().len() < LEAST_KEY {
        let problem = format!(
            "{} holds less than {LEAST_KEY} characters, and whoever runs the cell {cell} could guess it from the password \
             that is derived from it: put a long random one there and run the migration",
            file.display()
        );
        return Err(SettingsError::new(variable, problem));
    }
    let key = hmac::Key::new(hmac::HMAC_SHA256, password.expose_secret().as_bytes());
    let tag = hmac::sign(&key, format!("password in the cell {cell}").as_bytes());
    Ok(BASE64URL_NOPAD.encode(tag.as_ref()).into())
}

/// Connects as these options say, and not for longer than a server that answers takes: the driver has no bound of its own.
pub async fn connect(options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    let connecting = options.connect();
    let connected = tokio::time::timeout(CONNECT_LIMIT, connecting).await;
    connected.unwrap_or_else(|_| Err(silence()))
}

/// Connection options for a role, its password read from the folder of the settings.
pub fn role_options(
    settings: &DatabaseSettings,
    role: &str,
) -> Result<PgConnectOptions, SettingsError> {
    let password = role_password(&settings.database_password_dir, &settings.cell, role)?;
    let mut options = wire::database_options("CATALYST_DATABASE_URL", &settings.database_url)?;
    if let Some(authorities) = &settings.database_ca_file {
        options = verified_by(options, authorities)?;
    }
    Ok(options
        .username(role)
        .password(password.expose_secret())
        .application_name(role))
}

/// The options with these authorities, which count only where the URL asks for verification.
pub fn verified_by(
    options: PgConnectOptions,
    authorities: &Path,
) -> Result<PgConnectOptions, SettingsError> {
    let variable = "CATALYST_DATABASE_CA_FILE";
    if !wire::is_verified(&options) {
        return Err(SettingsError::new(
            variable,
            "has no effect: add ?sslmode=verify-full to the URL of the database",
        ));
    }
    tls::check_authorities(variable, authorities)?;
    Ok(options.ssl_root_cert(authorities))
}

/// A transaction bound to one tenant. Dropped without [`Tx::commit`], it rolls back and emits nothing.
pub struct Tx {
    session: Session,
    db: Db,
    cell: Arc<Cell>,
    tenant: TenantId,
    emitted: Vec<Emitted>,
    claim: Option<Claim>,
}

impl Tx {
    /// The tenant that the database lets this transaction see.
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// Adds an event to the transaction: its outbox row is written with the commit, or not at all.
    /// Write the aggregate's row first: its lock is what orders the events of one aggregate.
    pub fn emit(&mut self, event: Emitted) {
        self.emitted.push(event);
    }

    pub(crate) fn set_claim(&mut self, claim: Claim) {
        self.claim = Some(claim);
    }

    pub(crate) fn sql(&self) -> Arc<OutboxSql> {
        Arc::clone(&self.db.sql)
    }

    /// Writes the outbox rows and the remembered answer, then commits. Nothing is durable before this returns `Ok`.
    /// An error after COMMIT was sent leaves the outcome unknown: the caller repeats with the same `request_id`.
    pub async fn commit(mut self) -> Result<(), Error> {
        let sql = self.sql();
        let emitted = std::mem::take(&mut self.emitted);
        let wakes = !emitted.is_empty();
        if wakes {
            sql.insert(&mut self.session, self.tenant, &emitted).await?;
            failpoint::reach("before_commit").await;
        }
        if self.claim.take().is_some_and(|claim| !claim.is_answered()) {
            return Err(Error::internal(
                "a claimed request_id was committed without an answer",
            ));
        }
        self.session.commit().await?;
        if wakes {
            USAGE.emitted(self.tenant, emitted.len());
            if let Some(caches) = &self.db.caches {
                for event in &emitted {
                    caches.told(self.tenant, event.aggregate_id, event.version);
                }
            }
            failpoint::reach("after_commit").await;
            self.cell.wake.wake();
        }
        Ok(())
    }

    pub(crate) fn claim_mut(&mut self) -> Option<&mut Claim> {
        self.claim.as_mut()
    }
}

impl fmt::Debug for Tx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tx")
            .field("tenant", &self.tenant)
            .finish_non_exhaustive()
    }
}

/// A transaction of an exempt role. Dropped without [`ExemptTx::commit`], it rolls back.
pub struct ExemptTx {
    session: Session,
}

impl ExemptTx {
    /// Commits.
    pub async fn commit(mut self) -> Result<(), Error> {
        self.session.commit().await
    }
}

impl fmt::Debug for ExemptTx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExemptTx").finish_non_exhaustive()
    }
}

impl Deref for Tx {
    type Target = Session;
    fn deref(&self) -> &Session {
        &self.session
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut Session {
        &mut self.session
    }
}

impl Deref for ExemptTx {
    type Target = Session;
    fn deref(&self) -> &Session {
        &self.session
    }
}

impl DerefMut for ExemptTx {
    fn deref_mut(&mut self) -> &mut Session {
        &mut self.session
    }
}

/// A statement whose text names a schema that the code, never a caller, chose.
pub(crate) fn schema_sql(text: &Arc<str>) -> AssertSqlSafe<Arc<str>> {
    AssertSqlSafe(Arc::clone(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_of_a_cell_is_derived_from_one_that_can_be_guessed() {
        let folder = std::env::temp_dir().join(format!(
            "catalyst-{}",
            crate::ctx::Clock::system().new_uuid()
        ));
        std::fs::create_dir(&folder).unwrap();
        let cell = CellName::parse("north").unwrap();
        let of = |password: &str, cell: &CellName| {
            std::fs::write(folder.join("projects_app"), password).unwrap();
            let password = role_password(&folder, cell, "projects_app");
            password.map(|it| it.expose_secret().to_owned())
        };
        let long = "a".repeat(LEAST_KEY);
        let derived = of(&long, &cell).unwrap();
        assert_ne!(derived, long);
        assert_ne!(
            derived,
            of(&long, &CellName::parse("south").unwrap()).unwrap()
        );
        let refused = of(&long[1..], &cell).unwrap_err().to_string();
        assert!(
            refused.contains("projects_app holds less than 22"),
            "{refused}"
        );
        assert_eq!(of("short", &CellName::SHARED).unwrap(), "short");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
