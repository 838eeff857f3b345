//! The attestation of isolation, shown a corpus of schemas: it names every hole and says nothing of a sound one.
//!
//! Each schema is `ledger.sql` with one change, made and rolled back in one transaction, and judged as the role that
//! serves: whoever needs more rights could not attest at start.

use std::str::FromStr as _;

use anyhow::Context as _;
use kit::attest::{self, ExemptRole, Expected, Finding, SchemaRules, SharedRows};
use kit::ctx::Clock;
use kit::host::Definition;
use kit::isolation;
use kit::migrate;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};

const LEDGER: &str = include_str!("attest/ledger.sql");
const SOUND: &str = include_str!("attest/sound.sql");
const HOLES: [&str; 4] = [
    include_str!("attest/holes/rows.sql"),
    include_str!("attest/holes/policies.sql"),
    include_str!("attest/holes/keys.sql"),
    include_str!("attest/holes/roles.sql"),
];

#[tokio::test]
async fn a_sound_schema_raises_nothing() -> anyhow::Result<()> {
    let scratch = Scratch::with_ledger().await?;
    let mut session = scratch.admin.connect().await?;
    let sound = changes(SOUND);
    let mut alarms = Vec::new();
    for change in &sound {
        let mut tx = session.begin().await?;
        let findings = scratch.attest_after(&mut tx, change).await?;
        tx.rollback().await?;
        if !findings.is_empty() {
            alarms.push(format!("{}: {findings:#?}", change.what));
        }
    }
    println!(
        "{} sound schemas, {} false alarms",
        sound.len(),
        alarms.len()
    );
    assert!(alarms.is_empty(), "{}", alarms.join("\n"));
    assert!(sound.len() >= 20, "{}", sound.len());
    session.close().await?;
    scratch.remove().await
}

#[tokio::test]
async fn a_fresh_session_of_the_serving_role_raises_nothing() -> anyhow::Result<()> {
    let scratch = Scratch::with_ledger().await?;
    let role = format!("{}_app", scratch.run);
    let mut session = scratch.session(&role).connect().await?;
    assert_eq!(attest::attest_session(&mut session, &role).await?, []);
    assert_eq!(attest::attest(&mut session, &scratch.ledger()).await?, []);
    session.close().await?;
    scratch.remove().await
}

/// What is named with SQL is gone once that SQL has run, and nothing else has come up.
#[tokio::test]
async fn every_hole_is_named_and_nothing_beside_it_and_its_sql_mends_it() -> anyhow::Result<()> {
    let scratch = Scratch::with_ledger().await?;
    let mut session = scratch.admin.connect().await?;
    let holes: Vec<_> = HOLES.into_iter().flat_map(changes).collect();
    let mut wrong = Vec::new();
    let mut mended = 0;
    for change in &holes {
        let mut tx = session.begin().await?;
        let findings = scratch.attest_after(&mut tx, change).await?;
        let mut rules: Vec<_> = findings.iter().map(|finding| finding.rule).collect();
        rules.sort_unstable();
        rules.dedup();
        if rules != change.raises {
            wrong.push(format!(
                "{}: {:?} and not {:?}: {findings:#?}",
                change.what, rules, change.raises
            ));
        }
        let remedies: Vec<_> = findings.iter().filter_map(Finding::sql).collect();
        if !remedies.is_empty() {
            match scratch.attest_mended(&mut tx, &remedies).await {
                Ok(left) => {
                    let stays = |finding: &&Finding| finding.sql().is_none();
                    let of = |finding: &Finding| (finding.rule, finding.object.clone());
                    let stay: Vec<_> = findings.iter().filter(stays).map(of).collect();
                    if left.iter().any(|finding| !stay.contains(&of(finding))) {
                        wrong.push(format!(
                            "{}: after {remedies:#?} still {left:#?}",
                            change.what
                        ));
                    }
                    mended += remedies.len();
                }
                Err(error) => {
                    wrong.push(format!("{}: {remedies:#?} fails: {error:#}", change.what));
                }
            }
        }
        tx.rollback().await?;
    }
    println!(
        "{} flawed schemas, {mended} departures mended, {} wrong",
        holes.len(),
        wrong.len()
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(
        holes.len() >= 40 && mended >= 100,
        "{} {mended}",
        holes.len()
    );
    session.close().await?;
    scratch.remove().await
}

#[test]
fn every_rule_is_shown_a_hole() {
    let holes: Vec<_> = HOLES.into_iter().flat_map(changes).collect();
    for rule in attest::rule_names() {
        let shown = holes.iter().any(|hole| hole.raises.contains(&rule));
        assert!(shown, "no hole raises {rule}");
    }
}

#[tokio::test]
async fn a_session_that_policies_do_not_bind_is_named() -> anyhow::Result<()> {
    let scratch = Scratch::with_ledger().await?;
    let role = format!("{}_app", scratch.run);
    let mut session = scratch.admin.clone().connect().await?;
    for (sql, raises) in [
        (
            "select".to_owned(),
            &["session-role", "session-unbound"][..],
        ),
        (
            format!("set role {role}"),
            &["session-role", "session-unbound"],
        ),
        (format!("set session authorization {role}"), &[]),
        (
            "set row_security = off".to_owned(),
            &["session-row-security"],
        ),
    ] {
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut session)
            .await?;
        let findings = attest::attest_session(&mut session, &role).await?;
        let rules: Vec<_> = findings.iter().map(|finding| finding.rule).collect();
        assert_eq!(rules, raises);
    }
    session.close().await?;
    scratch.remove().await
}

/// As each serving role, what `catalyst doctor` asks of a deployment.
#[tokio::test]
async fn the_database_of_the_running_system_raises_nothing() -> anyhow::Result<()> {
    let world = harness::world();
    for definition in &catalyst::services::ALL {
        let role = format!("{}_app", definition.schema);
        let password = std::fs::read_to_string(world.password_dir.join(&role))?;
        let options: PgConnectOptions = world.database_url.parse()?;
        let options = options.username(&role).password(password.trim());
        let mut session = options.disable_statement_logging().connect().await?;
        assert_eq!(attest::attest_session(&mut session, &role).await?, []);
        let mut findings =
            attest::attest(&mut session, &isolation::expected(&[*definition])).await?;
        findings.retain(|finding| finding.severity == attest::Severity::Error);
        assert_eq!(findings, []);
        session.close().await?;
    }
    Ok(())
}

/// What every service has in its schema passes for a service that adds nothing.
#[tokio::test]
async fn the_tables_of_the_kit_raise_nothing() -> anyhow::Result<()> {
    let scratch = Scratch::new().await?;
    // The definition of a service is static; its roles are the server's, so their names are this run's alone.
    let schema: &'static str = Box::leak(scratch.run.clone().into_boxed_str());
    let definition = Definition {
        name: schema,
        schema,
        migrations: &[],
        grpc_services: &[],
        permissions: &[],
        subscriptions: &[],
        exempt_roles: &[],
        exemptions: &[],
        aggregates: &[],
        copies: &[],
        in_cells: false,
    };
    let passwords = harness::temporary_folder()?;
    for role in ["owner", "app", "relay"] {
        std::fs::write(passwords.join(format!("{schema}_{role}")), "ledger")?;
    }
    migrate::bootstrap(
        &scratch.admin,
        &kit::cells::CellName::SHARED,
        &passwords,
        &[definition],
    )
    .await?;
    let owner = scratch.session(&format!("{schema}_owner"));
    migrate::migrate(&owner, &kit::cells::CellName::SHARED, &definition).await?;
    std::fs::remove_dir_all(passwords)?;

    let expected = isolation::expected(&[definition]);
    for role in [format!("{schema}_app"), format!("{schema}_relay")] {
        let mut session = scratch.session(&role).connect().await?;
        assert_eq!(attest::attest(&mut session, &expected).await?, []);
        session.close().await?;
    }
    scratch.remove().await
}

/// A change of the corpus.
struct Change {
    what: &'static str,
    raises: Vec<&'static str>,
    sql: &'static str,
}

fn changes(corpus: &'static str) -> Vec<Change> {
    corpus
        .split("\n-- change: ")
        .skip(1)
        .map(|text| {
            let (what, sql) = text.split_once('\n').unwrap_or((text, ""));
            let first = sql.lines().next().unwrap_or_default();
            let mut raises: Vec<_> = first
                .strip_prefix("-- raises: ")
                .map(|rules| rules.split(", ").collect())
                .unwrap_or_default();
            raises.sort_unstable();
            Change { what, raises, sql }
        })
        .collect()
}

/// A database of its own in the test server. Its name is also the prefix of its roles, since those are the server's.
struct Scratch {
    run: String,
    admin: PgConnectOptions,
    server: PgConnectOptions,
}

impl Scratch {
    async fn new() -> anyhow::Result<Self> {
        let server =
            PgConnectOptions::from_str(&harness::admin_url().await)?.disable_statement_logging();
        let run = format!("attest_{}", Clock::system().new_uuid().simple());
        execute(
            &mut server.connect().await?,
            &format!("create database {run}"),
        )
        .await?;
        let admin = server.clone().database(&run);
        Ok(Self { run, admin, server })
    }

    async fn with_ledger() -> anyhow::Result<Self> {
        let scratch = Self::new().await?;
        let ledger = LEDGER.replace("{run}", &scratch.run);
        execute(&mut scratch.admin.connect().await?, &ledger).await?;
        Ok(scratch)
    }

    fn session(&self, role: &str) -> PgConnectOptions {
        self.admin.clone().username(role).password("ledger")
    }

    fn ledger(&self) -> Expected {
        let exempt = |role: &str, table: &str, commands: &[&str], reason: &str| ExemptRole {
            role: format!("{}_{role}", self.run),
            table: table.to_owned(),
            commands: commands.iter().map(|&command| command.to_owned()).collect(),
            reason: reason.to_owned(),
        };
        let shared = |table: &str, tenant: Option<&str>| SharedRows {
            table: table.to_owned(),
            tenant: tenant.map(|tenant| tenant.parse().expect("a tenant")),
            reason: "every tenant reads them".to_owned(),
        };
        Expected {
            schemas: vec![SchemaRules {
                schema: "ledger".to_owned(),
                owner: format!("{}_owner", self.run),
                app: format!("{}_app", self.run),
                exempt: vec![
                    exempt(
                        "app",
                        "tenant",
                        &["select", "insert", "update", "delete"],
                        "the control plane",
                    ),
                    exempt(
                        "relay",
                        "outbox",
                        &["select", "delete"],
                        "the relay moves all rows",
                    ),
                ],
                tenantless: vec![(
                    "feature_flag".to_owned(),
                    "the same for all tenants".to_owned(),
                )],
                shared: vec![
                    shared(
                        "industry_code",
                        Some("00000000-0000-7000-8000-000000000001"),
                    ),
                    shared("template", None),
                ],
                definers: vec![(
                    "ledger.server_day()".to_owned(),
                    "the clock of the server".to_owned(),
                )],
            }],
            role_settings: [("jit".to_owned(), "off".to_owned())].into(),
            tenant_column: "tenant_id".to_owned(),
            context_function: "app.current_tenant_id".to_owned(),
            setting: "app.current_tenant_id".to_owned(),
        }
    }

    /// Makes the change in the administrator's transaction and judges as the role that serves.
    async fn attest_after(
        &self,
        tx: &mut PgConnection,
        change: &Change,
    ) -> anyhow::Result<Vec<Finding>> {
        let sql = change.sql.replace("{run}", &self.run);
        execute(tx, &sql).await.context(change.what)?;
        self.attest_as_app(tx).await.context(change.what)
    }

    async fn attest_mended(
        &self,
        tx: &mut PgConnection,
        remedies: &[&str],
    ) -> anyhow::Result<Vec<Finding>> {
        let mut mending = tx.begin().await?;
        execute(&mut mending, "reset session authorization").await?;
        for remedy in remedies {
            execute(&mut mending, remedy)
                .await
                .with_context(|| (*remedy).to_owned())?;
        }
        let findings = self.attest_as_app(&mut mending).await?;
        mending.rollback().await?;
        Ok(findings)
    }

    async fn attest_as_app(&self, tx: &mut PgConnection) -> anyhow::Result<Vec<Finding>> {
        execute(
            tx,
            &format!("set local session authorization {}_app", self.run),
        )
        .await?;
        Ok(attest::attest(tx, &self.ledger()).await?)
    }

    async fn remove(self) -> anyhow::Result<()> {
        let mut session = self.server.connect().await?;
        execute(
            &mut session,
            &format!("drop database {} with (force)", self.run),
        )
        .await?;
        let roles: Vec<String> =
            sqlx::query_scalar("select rolname::text from pg_roles where starts_with(rolname, $1)")
                .bind(&self.run)
                .fetch_all(&mut session)
                .await?;
        for role in roles {
            execute(
                &mut session,
                &format!("drop owned by {role}; drop role {role}"),
            )
            .await?;
        }
        Ok(session.close().await?)
    }
}

async fn execute(session: &mut PgConnection, sql: &str) -> anyhow::Result<()> {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(session)
        .await?;
    Ok(())
}
