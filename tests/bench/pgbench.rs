//! Limits of PostgreSQL: the `pgbench` of the running installation, with as many clients as the services have callers.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use secrecy::ExposeSecret as _;
use sqlx::postgres::PgConnectOptions;
use tokio::process::Command;

use crate::seed::{DIGITS_OF_FIRM, EXPONENT, FIRST_DIGITS, Firm};
use crate::system::System;

/// Runs scripts as the serving role of the projects service.
pub(crate) struct Pgbench {
    binary: PathBuf,
    options: PgConnectOptions,
    password: String,
    dir: PathBuf,
    /// Tenants and numbers of projects of all firms, as PostgreSQL writes arrays.
    tenants: String,
    projects: String,
    firms: usize,
    /// The context of [`ONE_FIRM`] for a whole session.
    session: String,
    clients: u16,
    seconds: u64,
    scripts: AtomicU32,
}

/// Statements that each client runs again and again. They may use what [`Pgbench`] says of a firm, which is chosen
/// anew each time, as often as the callers of the services choose it, and `:r`, a great number by chance. `:run` is of one
/// run alone, and `:i` begins at zero in each and belongs to one client.
pub(crate) struct Script {
    text: String,
    /// Whether all is about one firm, whose context the session has from its start.
    of_one_firm: bool,
}

/// Which firm that is, counted from one: greater than most, and no whale.
const ONE_FIRM: usize = 3;

impl Script {
    pub(crate) fn new(text: String) -> Self {
        Self {
            text,
            of_one_firm: false,
        }
    }

    /// A script for sessions that have one firm's context from their start.
    pub(crate) fn of_one_firm(text: String) -> Self {
        Self {
            text,
            of_one_firm: true,
        }
    }
}

/// What a run reached.
pub(crate) struct Run {
    pub(crate) per_second: f64,
    pub(crate) transactions: f64,
}

const ROLE: &str = "projects_app";

impl Pgbench {
    pub(crate) fn new(
        system: &System,
        firms: &[Arc<Firm>],
        clients: u16,
        seconds: u64,
    ) -> anyhow::Result<Self> {
        let server = std::fs::read_link(format!("/proc/{}/exe", system.postmaster))
            .context("cannot tell which program the running PostgreSQL is")?;
        let binary = server.with_file_name("pgbench");
        if !binary.is_file() {
            bail!(
                "{} is missing: install PostgreSQL's client programs of the same version",
                binary.display()
            );
        }
        let path = system.deployment.keys.password_dir().join(ROLE);
        let password = kit::settings::read_secret("CATALYST_DATABASE_PASSWORD_DIR", &path)?;
        let array = |of: &dyn Fn(&Firm) -> String| {
            let all: Vec<String> = firms.iter().map(|firm| of(firm)).collect();
            format!("'{{{}}}'", all.join(","))
        };
        let one = firms.get(ONE_FIRM - 1).context("there are firms")?;
        Ok(Self {
            binary,
            options: system.deployment.stack.database_url.parse()?,
            password: password.expose_secret().to_owned(),
            dir: system.dir.clone(),
            tenants: array(&|firm| firm.tenant.to_string()),
            projects: array(&|firm| firm.projects.to_string()),
            firms: firms.len(),
            session: format!("-c app.current_tenant_id={}", one.tenant),
            clients,
            seconds,
            scripts: AtomicU32::new(0),
        })
    }

    /// The tenant of the firm that is chosen: an element of a constant, which costs next to nothing.
    pub(crate) fn tenant(&self) -> String {
        format!("({}::uuid[])[:k::int]", self.tenants)
    }

    /// The context that a transaction needs to see the firm's rows.
    pub(crate) fn context(&self) -> String {
        let tenant = self.tenant();
        format!("select set_config('app.current_tenant_id', {tenant}::text, true);")
    }

    /// One of the firm's ids by chance, of a kind that it has one of for so many projects.
    pub(crate) fn id(&self, prefix: &str, projects: u64) -> String {
        let rows = format!("({}::bigint[])[:k::int] / {projects}", self.projects);
        let firm = format!("{FIRST_DIGITS} + (:k::bigint - 1) * {DIGITS_OF_FIRM}");
        format!("('{prefix}' || ({firm} + :r::bigint % ({rows}))::text)::uuid")
    }

    /// Runs a script for the time of a round.
    pub(crate) async fn run(&self, script: &Script) -> anyhow::Result<Run> {
        let amount = [
            format!("--time={}", self.seconds),
            format!("--client={}", self.clients),
        ];
        let output = self.start(script, &amount).await?;
        let after = |label: &str| -> anyhow::Result<f64> {
            let line = output.lines().find_map(|line| line.strip_prefix(label));
            let text = line.and_then(|rest| rest.split_whitespace().next());
            text.and_then(|text| text.parse().ok())
                .with_context(|| format!("pgbench told no `{label}`: {output}"))
        };
        Ok(Run {
            per_second: after("tps = ")?,
            transactions: after("number of transactions actually processed: ")?,
        })
    }

    /// Runs a script for the time of a round, by one client alone; how long each transaction took.
    pub(crate) async fn alone(&self, script: &Script) -> anyhow::Result<Vec<Duration>> {
        let logs = self.dir.join("alone");
        std::fs::create_dir(&logs)?;
        let amount = [
            format!("--time={}", self.seconds),
            "--client=1".to_owned(),
            "--log".to_owned(),
            format!("--log-prefix={}", logs.join("log").display()),
        ];
        self.start(script, &amount).await?;
        let mut took = Vec::new();
        for log in std::fs::read_dir(&logs)? {
            for line in std::fs::read_to_string(log?.path())?.lines() {
                // Client, number of the transaction, microseconds, and more.
                let micros = line.split_whitespace().nth(2);
                let micros = micros.and_then(|micros| micros.parse().ok());
                took.push(Duration::from_micros(
                    micros.with_context(|| format!("pgbench logs `{line}`"))?,
                ));
            }
        }
        std::fs::remove_dir_all(&logs)?;
        Ok(took)
    }

    /// Runs a script once: for statements that divide by zero when they read the wrong number of rows.
    pub(crate) async fn check(&self, script: &Script) -> anyhow::Result<()> {
        self.start(
            script,
            &["--transactions=1", "--client=1"].map(str::to_owned),
        )
        .await
        .map(drop)
    }

    async fn start(&self, script: &Script, amount: &[String]) -> anyhow::Result<String> {
        let number = self.scripts.fetch_add(1, Ordering::Relaxed);
        let file = self.dir.join(format!("script-{number}.sql"));
        let firm = if script.of_one_firm {
            ONE_FIRM.to_string()
        } else {
            format!("random_zipfian(1, {}, {EXPONENT})", self.firms)
        };
        let text = &script.text;
        std::fs::write(
            &file,
            format!("\\set k {firm}\n\\set r random(0, 1000000000)\n{text}"),
        )?;
        let threads = usize::from(self.clients).min(std::thread::available_parallelism()?.get());
        let mut command = Command::new(&self.binary);
        command
            .args(["--no-vacuum", "--protocol=prepared"])
            .args([
                "--host",
                self.options.get_host(),
                "--port",
                &self.options.get_port().to_string(),
            ])
            .args(["--username", ROLE, "--jobs", &threads.to_string()])
            .args(amount)
            .arg(format!("--define=run={number}"))
            .arg("--define=i=0")
            .arg("--file")
            .arg(&file)
            .args(self.options.get_database())
            .env_clear()
            .env("PGPASSWORD", &self.password)
            .env("PGSSLMODE", "disable")
            .kill_on_drop(true);
        if script.of_one_firm {
            command.env("PGOPTIONS", &self.session);
        }
        let output = command.output().await.context("cannot run pgbench")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() || errors.contains("aborted") {
            bail!("pgbench fails: {}\n{}", errors.trim(), script.text);
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// Statements that are sent together, under one Sync, and are one transaction.
pub(crate) fn together(statements: &[&str]) -> String {
    format!(
        "\\startpipeline\n{}\n\\endpipeline\n",
        statements.join("\n")
    )
}
