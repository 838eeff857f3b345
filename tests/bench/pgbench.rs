//! Limits of PostgreSQL: the `pgbench` of the running installation, with as many clients as the services have callers.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, bail};
use secrecy::ExposeSecret as _;
use sqlx::postgres::PgConnectOptions;
use tokio::process::Command;

use crate::system::System;

/// Runs scripts as the serving role of the projects service.
pub(crate) struct Pgbench {
    binary: PathBuf,
    options: PgConnectOptions,
    password: String,
    dir: PathBuf,
    clients: u16,
    seconds: u64,
    scripts: AtomicU32,
}

/// What a run reached.
pub(crate) struct Run {
    pub(crate) per_second: f64,
    pub(crate) transactions: f64,
}

const ROLE: &str = "projects_app";

impl Pgbench {
    pub(crate) fn new(system: &System, clients: u16, seconds: u64) -> anyhow::Result<Self> {
        let server = std::fs::read_link(format!("/proc/{}/exe", system.postmaster))
            .context("cannot tell which program the running PostgreSQL is")?;
        let binary = server.with_file_name("pgbench");
        if !binary.is_file() {
            bail!("{} is missing: install PostgreSQL's client programs of the same version", binary.display());
        }
        let path = system.deployment.keys.password_dir().join(ROLE);
        let password = kit::settings::read_secret("CATALYST_DATABASE_PASSWORD_DIR", &path)?;
        Ok(Self {
            binary,
            options: system.deployment.stack.database_url.parse()?,
            password: password.expose_secret().to_owned(),
            dir: system.dir.clone(),
            clients,
            seconds,
            scripts: AtomicU32::new(0),
        })
    }

    /// Runs a script for the time of a round.
    pub(crate) async fn run(&self, script: &str, variables: &[(&str, &str)]) -> anyhow::Result<Run> {
        let time = ["--time".to_owned(), self.seconds.to_string(), "--client".to_owned(), self.clients.to_string()];
        let output = self.start(script, variables, &time, "").await?;
        let after = |label: &str| -> anyhow::Result<f64> {
            let line = output.lines().find_map(|line| line.strip_prefix(label));
            let text = line.and_then(|rest| rest.split_whitespace().next());
            text.and_then(|text| text.parse().ok()).with_context(|| format!("pgbench told no `{label}`: {output}"))
        };
        Ok(Run {
            per_second: after("tps = ")?,
            transactions: after("number of transactions actually processed: ")?,
        })
    }

    /// Runs a script once, by one client: for statements that divide by zero when they read the wrong number of rows.
    pub(crate) async fn check(&self, script: &str, variables: &[(&str, &str)]) -> anyhow::Result<()> {
        let once = ["--transactions", "1", "--client", "1"].map(str::to_owned);
        self.start(script, variables, &once, "").await.map(drop)
    }

    async fn start(
        &self,
        script: &str,
        variables: &[(&str, &str)],
        amount: &[String],
        session: &str,
    ) -> anyhow::Result<String> {
        let number = self.scripts.fetch_add(1, Ordering::Relaxed);
        let file = self.dir.join(format!("script-{number}.sql"));
        std::fs::write(&file, script)?;
        let threads = usize::from(self.clients).min(std::thread::available_parallelism()?.get());
        let mut command = Command::new(&self.binary);
        command
            .args(["--no-vacuum", "--protocol=prepared"])
            .args(["--host", self.options.get_host(), "--port", &self.options.get_port().to_string()])
            .args(["--username", ROLE, "--jobs", &threads.to_string()])
            .args(amount)
            .arg("--file")
            .arg(&file)
            .args(variables.iter().map(|(name, value)| format!("--define={name}={value}")))
            .args(self.options.get_database())
            .env_clear()
            .env("PGPASSWORD", &self.password)
            .env("PGSSLMODE", "disable")
            .env("PGOPTIONS", session)
            .kill_on_drop(true);
        let output = command.output().await.context("cannot run pgbench")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() || errors.contains("aborted") {
            bail!("pgbench fails: {}\n{script}", errors.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// The context that a transaction needs to see rows of `:tenant`.
pub(crate) const CONTEXT: &str = "select set_config('app.current_tenant_id', :tenant, true);";

/// Statements that are sent together, under one Sync, and are one transaction.
pub(crate) fn together(statements: &[&str]) -> String {
    format!("\\startpipeline\n{}\n\\endpipeline\n", statements.join("\n"))
}
