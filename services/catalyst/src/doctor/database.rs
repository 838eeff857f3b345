//! The database: catalogs, policies and sessions, seen by each role that reaches rows.

use std::collections::BTreeSet;
use std::str::FromStr as _;

use kit::attest::{self, Expected, Finding, Severity};
use kit::cells::CellName;
use kit::error::chain;
use kit::host::Definition;
use kit::settings::{CellSettings, DatabaseSettings};
use kit::{db, isolation, migrate};
use sqlx::Connection as _;
use sqlx::postgres::{PgConnectOptions, PgConnection};

use super::Outcome;
use crate::reach::Reach;
use crate::services;

/// A database says that it is another cell.
pub(super) const OTHER_CELL: &str = "cell-mistaken";
/// A dedicated cell could not be judged.
pub(super) const UNJUDGED: &str = "cell-unjudged";
/// A migration of this binary is not applied.
pub(super) const PENDING: &str = "migrations-pending";

/// The schemas of all services in every cell, connected as every role of theirs that reaches rows.
pub(super) async fn services(settings: &DatabaseSettings) -> Outcome {
    let (mut roles, mut findings) = (0, Vec::new());
    let shared = CellName::SHARED;
    roles += cell(&shared, &services::ALL, settings, &mut findings).await?;
    let dedicated = settings.dedicated().map_err(|error| error.to_string())?;
    let placed: Vec<Definition> = services::in_cells().collect();
    let unjudged = |object: String, problem: String| Finding {
        rule: UNJUDGED,
        severity: Severity::Error,
        object,
        problem,
        remedy: "mend the file in CATALYST_CELLS_DIR, or the server, then run the doctor again"
            .to_owned(),
    };
    for (name, settings) in &dedicated.cells {
        let mut found = Vec::new();
        match cell(name, &placed, settings, &mut found).await {
            Ok(count) => roles += count,
            // The others are judged all the same.
            Err(error) => findings.push(unjudged(format!("the cell {name}"), error)),
        }
        findings.extend(found.into_iter().map(|finding| Finding {
            object: format!("{} in the cell {name}", finding.object),
            ..finding
        }));
    }
    for (file, fault) in &dedicated.faults {
        findings.push(unjudged(format!("the file {file}"), fault.to_string()));
    }
    match placed_in(settings).await {
        Ok(cells) => {
            let is_named = |cell: &CellName| {
                dedicated.cells.contains_key(cell) || dedicated.faults.contains_key(cell.as_str())
            };
            let unnamed = cells.iter().filter(|it| !it.is_shared() && !is_named(it));
            findings.extend(unnamed.map(|cell| {
                let problem = "firms are placed there, and CATALYST_CELLS_DIR has no file of it";
                unjudged(format!("the cell {cell}"), problem.to_owned())
            }));
        }
        Err(error) => {
            let problem = chain(error.as_ref());
            findings.push(unjudged("the cells that firms are in".to_owned(), problem));
        }
    }
    let schemas = services::ALL.len();
    let cells = match dedicated.cells.len() {
        0 => "the shared cell".to_owned(),
        dedicated => format!("{} cells", dedicated + 1),
    };
    Ok((
        format!(
            "{schemas} schemas in {cells} as {roles} roles, and the sessions that are connected"
        ),
        findings,
    ))
}

/// The cells that firms are placed in.
async fn placed_in(settings: &DatabaseSettings) -> anyhow::Result<BTreeSet<CellName>> {
    let shared = DatabaseSettings {
        cells: CellSettings::default(),
        ..settings.clone()
    };
    Reach::open(&shared)?.cells().await
}

/// One database; how many roles were looked through.
async fn cell(
    name: &CellName,
    definitions: &[Definition],
    settings: &DatabaseSettings,
    findings: &mut Vec<Finding>,
) -> Result<usize, String> {
    let expected = isolation::expected(definitions);
    let mut roles = 0;
    for definition in definitions {
        for role in serving_roles(&expected, definition.schema) {
            let options = db::role_options(settings, &role).map_err(|error| error.to_string())?;
            let mut connection = connect(&options, &role).await?;
            if role == format!("{}_app", definition.schema) {
                let found = migrate::cell_of(&mut connection).await;
                let found = found.map_err(|error| format!("as {role}: {}", chain(&error)))?;
                if found.as_ref() != Some(name) {
                    let says = found.map_or("none".to_owned(), |found| found.to_string());
                    findings.push(Finding {
                        rule: OTHER_CELL,
                        severity: Severity::Error,
                        object: definition.schema.to_owned(),
                        problem: format!(
                            "the database says that it is the cell {says}, not {name}"
                        ),
                        remedy: "give each cell its own URL, then run `catalyst migrate`"
                            .to_owned(),
                    });
                }
                let pending = migrate::pending(&mut connection, definition).await;
                let pending = pending.map_err(|error| chain(&error))?;
                findings.extend(pending.into_iter().map(|migration| Finding {
                    rule: PENDING,
                    severity: Severity::Error,
                    object: definition.schema.to_owned(),
                    problem: format!("{migration} is not applied"),
                    remedy: "run `catalyst migrate`".to_owned(),
                }));
            }
            add(findings, judge(&mut connection, &role, &expected).await?);
            close(connection, &role).await?;
            roles += 1;
        }
    }
    Ok(roles)
}

/// Schemas of somebody else, connected as their serving role.
pub(super) async fn schemas(expected: &Expected, url: &str) -> Outcome {
    let options = PgConnectOptions::from_str(url).map_err(|_| {
        "the URL is none of PostgreSQL: use postgres://USER:PASSWORD@HOST/DATABASE".to_owned()
    })?;
    let mut findings = Vec::new();
    let roles: BTreeSet<&str> = expected
        .schemas
        .iter()
        .map(|schema| schema.app.as_str())
        .collect();
    for role in roles {
        let mut connection = connect(&options, role).await?;
        add(&mut findings, judge(&mut connection, role, expected).await?);
        close(connection, role).await?;
    }
    Ok((format!("{} schemas", expected.schemas.len()), findings))
}

async fn judge(
    connection: &mut PgConnection,
    role: &str,
    expected: &Expected,
) -> Result<Vec<Finding>, String> {
    let failed = |error: sqlx::Error| format!("as {role}: {}", chain(&error));
    let mut findings = attest::attest_session(connection, role)
        .await
        .map_err(failed)?;
    findings.extend(attest::attest(connection, expected).await.map_err(failed)?);
    findings.extend(
        attest::attest_live(connection, expected)
            .await
            .map_err(failed)?,
    );
    Ok(findings)
}

/// The catalogs look the same to every role.
fn add(findings: &mut Vec<Finding>, more: Vec<Finding>) {
    for finding in more {
        if !findings.contains(&finding) {
            findings.push(finding);
        }
    }
}

/// The serving role of a schema, then those of its exemptions.
fn serving_roles(expected: &Expected, schema: &str) -> Vec<String> {
    let mut roles = Vec::new();
    for rules in expected
        .schemas
        .iter()
        .filter(|rules| rules.schema == schema)
    {
        roles.push(rules.app.clone());
        let exempt: BTreeSet<&str> = rules
            .exempt
            .iter()
            .map(|exempt| exempt.role.as_str())
            .collect();
        roles.extend(
            exempt
                .into_iter()
                .filter(|role| *role != rules.app)
                .map(str::to_owned),
        );
    }
    roles
}

async fn connect(options: &PgConnectOptions, role: &str) -> Result<PgConnection, String> {
    db::connect(options)
        .await
        .map_err(|error| format!("cannot connect as {role}: {}", chain(&error)))
}

async fn close(connection: PgConnection, role: &str) -> Result<(), String> {
    let closed = connection.close().await;
    closed.map_err(|error| format!("as {role}: {}", chain(&error)))
}
