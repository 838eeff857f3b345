//! Limits of PostgreSQL: the `pgbench` of the running installation, with as many clients as the services have callers.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, bail};
use secrecy::ExposeSecret as _;
use sqlx::postgres::PgConnectOptions;
use tokio::process::Command;

use crate::seed::Firm;
use crate::system::System;

/// Runs scripts as the serving role of the projects service.
pub(crate) struct Pgbench {
    binary: PathBuf,
    options: PgConnectOptions,
    password: String,
    dir: PathBuf,
    variables: Vec<String>,
    session: String,
    clients: u16,
    seconds: u64,
    scripts: AtomicU32,
}

/// Statements that each client runs again and again. They may use `:tenant` and `:client` of a firm, and `:first` and
/// `:last`, the digits of its projects.
pub(crate) struct Script {
    text: String,
    /// Whether the session has the firm's context from its start.
    has_context: bool,
}

impl Script {
    pub(crate) fn new(text: String) -> Self {
        Self {
            text,
            has_context: false,
        }
    }

    /// A script for sessions that have the firm's context from their start.
    pub(crate) fn with_context(text: String) -> Self {
        Self {
            text,
            has_context: true,
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
        firm: &Firm,
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
        let (first, last) = firm.project_digits();
        let variables = [
            format!("--define=tenant={}", firm.tenant),
            format!("--define=client={}", firm.client()),
            format!("--define=first={first}"),
            format!("--define=last={last}"),
        ];
        Ok(Self {
            binary,
            options: system.deployment.stack.database_url.parse()?,
            password: password.expose_secret().to_owned(),
            dir: system.dir.clone(),
            variables: variables.into(),
            session: format!("-c app.current_tenant_id={}", firm.tenant),
            clients,
            seconds,
            scripts: AtomicU32::new(0),
        })
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
        std::fs::write(&file, &script.text)?;
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
            .arg("--file")
            .arg(&file)
            .args(&self.variables)
            .args(self.options.get_database())
            .env_clear()
            .env("PGPASSWORD", &self.password)
            .env("PGSSLMODE", "disable")
            .kill_on_drop(true);
        if script.has_context {
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

/// The context that a transaction needs to see rows of `:tenant`.
pub(crate) const CONTEXT: &str = "select set_config('app.current_tenant_id', :tenant, true);";

/// Statements that are sent together, under one Sync, and are one transaction.
pub(crate) fn together(statements: &[&str]) -> String {
    format!(
        "\\startpipeline\n{}\n\\endpipeline\n",
        statements.join("\n")
    )
}
