//! Attests that a PostgreSQL database isolates tenants: a rule engine over the catalogs and the live roles.
//!
//! It knows no names of its own, so it can judge any schema that bounds rows by a tenant column and a context
//! function. It needs no rights beyond reading the catalogs, so a service attests with the role that serves.
//! Invariant: nothing is changed; all that is read is read in one transaction, which is rolled back.

mod boundary;
mod catalog;
mod expression;
mod keys;
mod live;
mod policies;
mod probes;
mod roles;
mod session;
mod tables;
mod why;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

pub use live::attest_live;
pub use session::attest_session;
pub use why::{Explained, explained, why};

use catalog::Rule;

/// What a database is expected to be.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// The schemas that are judged. Together they should be all that hold tenants' rows.
    pub schemas: Vec<SchemaRules>,
    /// The column that says whose a row is; a not null uuid in every table that is not listed as tenantless.
    pub tenant_column: String,
    /// The function that gives the tenant of the running transaction, as SQL names it, without parentheses.
    pub context_function: String,
    /// The setting that the function reads.
    pub setting: String,
    /// Settings that every role which reaches rows begins its sessions with, by name.
    #[serde(default)]
    pub role_settings: BTreeMap<String, String>,
}

/// What one schema is expected to be.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SchemaRules {
    /// The schema.
    pub schema: String,
    /// The role that owns the schema and all in it, and never serves.
    pub owner: String,
    /// The role that serves requests, bound to one tenant at a time.
    pub app: String,
    /// What roles may reach across tenants. A role named here may have rights in the schema as the serving one may.
    #[serde(default)]
    pub exempt: Vec<ExemptRole>,
    /// Tables without tenants' rows, each with the reason.
    #[serde(default)]
    pub tenantless: Vec<(String, String)>,
    /// Tables with rows that every tenant may read, and none may write.
    #[serde(default)]
    pub shared: Vec<SharedRows>,
    /// Functions that run with the rights of their owner, as `schema.name(types)`, each with the reason.
    #[serde(default)]
    pub definers: Vec<(String, String)>,
}

/// A table that a role may reach across tenants.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExemptRole {
    /// The role; the serving one as well.
    pub role: String,
    /// The table, without its schema.
    pub table: String,
    /// The commands: `select`, `insert`, `update`, `delete`.
    pub commands: Vec<String>,
    /// Why it is right.
    pub reason: String,
}

/// Rows of a table that every tenant may read.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SharedRows {
    /// The table, without its schema.
    pub table: String,
    /// The tenant that shared rows belong to; none: their tenant is null.
    pub tenant: Option<Uuid>,
    /// Why it is right.
    pub reason: String,
}

/// How much a departure weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It opens a hole, or hides one: do not serve.
    Error,
    /// It costs speed, or prepares a hole for a later change.
    Warning,
}

/// One departure from what is expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The stable name of the rule, such as `rls-not-forced`.
    pub rule: &'static str,
    /// How much it weighs.
    pub severity: Severity,
    /// The table, role, function or schema at fault.
    pub object: String,
    /// What is wrong with it.
    pub problem: String,
    /// SQL that mends it as it stands, if it ends with a semicolon; else what to do.
    pub remedy: String,
}

impl Finding {
    /// The SQL that mends it, if that is all there is to do.
    pub fn sql(&self) -> Option<&str> {
        self.remedy.ends_with(';').then_some(&*self.remedy)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            rule,
            object,
            problem,
            remedy,
            ..
        } = self;
        write!(f, "{object}: {problem} ({rule}); {remedy}")
    }
}

/// Judges the schemas: one statement over the catalogs, then probes of how context and tables behave in this session.
///
/// The session must be outside any tenant, its role allowed to use the schema of the context function. Tables that its
/// role may read are probed: without a context they show no row. A superuser's session leaves that out, since policies
/// do not bind it.
pub async fn attest(
    connection: &mut PgConnection,
    expected: &Expected,
) -> Result<Vec<Finding>, sqlx::Error> {
    judge(connection, expected, rules().collect()).await
}

/// As [`attest`], by the rules alone whose departures forbid to serve: what a service asks at start.
pub async fn attest_errors(
    connection: &mut PgConnection,
    expected: &Expected,
) -> Result<Vec<Finding>, sqlx::Error> {
    let errors = rules().filter(|rule| rule.severity == Severity::Error);
    judge(connection, expected, errors.collect()).await
}

async fn judge(
    connection: &mut PgConnection,
    expected: &Expected,
    rules: Vec<&'static Rule>,
) -> Result<Vec<Finding>, sqlx::Error> {
    let mut tx = connection.begin().await?;
    // Full names in what the catalogs print, nobody's object in place of a catalog's, no compilation of a long query.
    sqlx::raw_sql(
        "set local transaction_read_only = on; set local search_path = pg_catalog, pg_temp; set local jit = off;
         set local row_security = on",
    )
    .execute(&mut *tx)
    .await?;
    let mut findings = catalog::run(&mut tx, expected, &rules).await?;
    findings.extend(probes::run(&mut tx, expected).await?);
    tx.rollback().await?;
    Ok(findings)
}

/// The names of all rules that [`attest`] decides by, so that a test can show each of them a fault.
pub fn rule_names() -> Vec<&'static str> {
    rules().map(|rule| rule.id).chain(probes::RULES).collect()
}

fn rules() -> impl Iterator<Item = &'static Rule> {
    [tables::RULES, policies::RULES, keys::RULES, roles::RULES]
        .into_iter()
        .flatten()
}
