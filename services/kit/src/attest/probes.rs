//! What the catalogs cannot tell: how the context function and the tables behave in this session.
//!
//! Everything runs in a transaction that the caller rolls back, each probe below a savepoint of its own.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Either};

use super::{Expected, Finding, Severity, boundary, catalog};

/// Any tenant will do: no row is read in its name.
const SOME_TENANT: &str = "5a3c7f0e-9d1b-4c2a-8e6f-1b2d3c4e5f60";

/// The rules that only a probe can decide.
pub(super) const RULES: [&str; 4] = [
    "context-leftover",
    "context-behavior",
    boundary::RULE,
    "open-without-context",
];

pub(super) fn departure(
    rule: &'static str,
    object: &str,
    problem: String,
    remedy: &str,
) -> Finding {
    Finding {
        rule,
        severity: Severity::Error,
        object: object.to_owned(),
        problem,
        remedy: remedy.to_owned(),
    }
}

/// Probes the context, then the tables of tenants that this session may read: outside a context they show nothing.
pub(super) async fn run(
    connection: &mut PgConnection,
    expected: &Expected,
) -> Result<Vec<Finding>, sqlx::Error> {
    let mut findings = leftover(connection, expected).await?;
    if findings.is_empty() {
        findings = context(connection, expected).await?;
    }
    if findings.is_empty() {
        findings = boundary::run(connection, expected).await?;
        findings.extend(tables(connection, expected).await?);
    }
    Ok(findings)
}

async fn leftover(
    connection: &mut PgConnection,
    expected: &Expected,
) -> Result<Vec<Finding>, sqlx::Error> {
    let left: Option<String> = sqlx::query_scalar("select nullif(current_setting($1, true), '')")
        .bind(&expected.setting)
        .persistent(false)
        .fetch_one(connection)
        .await?;
    let finding = left.map(|_| {
        departure(
            "context-leftover",
            &expected.setting,
            "the session is in a tenant outside any transaction".to_owned(),
            "set it with set_config(…, true) inside a transaction, and look for a preset of role or server",
        )
    });
    Ok(finding.into_iter().collect())
}

/// No context: null. The `''` that a commit leaves behind: null. A tenant: that tenant.
async fn context(
    connection: &mut PgConnection,
    expected: &Expected,
) -> Result<Vec<Finding>, sqlx::Error> {
    let states: [(&str, Option<&str>, Option<&str>); 3] = [
        ("no context", None, None),
        ("the context ''", Some(""), None),
        ("a tenant", Some(SOME_TENANT), Some(SOME_TENANT)),
    ];
    let call = format!("select {}()::text", expected.context_function);
    let mut findings = Vec::new();
    for (state, set, wanted) in states {
        let mut probe = connection.begin().await?;
        if let Some(tenant) = set {
            sqlx::query("select set_config($1, $2, true)")
                .bind(&expected.setting)
                .bind(tenant)
                .persistent(false)
                .execute(&mut *probe)
                .await?;
        }
        let given = sqlx::query_scalar(AssertSqlSafe(call.clone()))
            .persistent(false)
            .fetch_one(&mut *probe)
            .await;
        let given: Either<Option<String>, String> = refusal(given)?;
        probe.rollback().await?;
        let problem = match given {
            Either::Left(tenant) if tenant.as_deref() == wanted => continue,
            Either::Left(None) => format!("with {state} it gives null"),
            Either::Left(Some(tenant)) => format!("with {state} it gives {tenant}"),
            Either::Right(message) => format!("with {state} it fails: {message}"),
        };
        findings.push(departure(
            "context-behavior",
            &expected.context_function,
            problem,
            "return nullif(current_setting('…', true), '')::uuid and nothing else",
        ));
    }
    Ok(findings)
}

async fn tables(
    connection: &mut PgConnection,
    expected: &Expected,
) -> Result<Vec<Finding>, sqlx::Error> {
    let Some(statement) = catalog::probe_of_tables(connection, expected).await? else {
        return Ok(Vec::new());
    };
    let mut probe = connection.begin().await?;
    let open = sqlx::query_scalar(AssertSqlSafe(statement))
        .persistent(false)
        .fetch_all(&mut *probe)
        .await;
    let open: Either<Vec<String>, String> = refusal(open)?;
    probe.rollback().await?;
    let remedy =
        "compare the tenant column with the context function alone, in every policy of the table";
    Ok(match open {
        Either::Left(objects) => {
            let problem = || "shows rows outside any tenant".to_owned();
            objects
                .iter()
                .map(|object| departure("open-without-context", object, problem(), remedy))
                .collect()
        }
        Either::Right(message) => {
            let problem = format!("a read outside any tenant fails: {message}");
            vec![departure(
                "open-without-context",
                "tables of tenants",
                problem,
                remedy,
            )]
        }
    })
}

/// The server's refusal is an answer here; only a broken connection is an error.
pub(super) fn refusal<T>(answer: Result<T, sqlx::Error>) -> Result<Either<T, String>, sqlx::Error> {
    match answer {
        Ok(answer) => Ok(Either::Left(answer)),
        Err(sqlx::Error::Database(refused)) => Ok(Either::Right(refused.message().to_owned())),
        Err(error) => Err(error),
    }
}
