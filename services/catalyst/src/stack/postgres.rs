//! A private PostgreSQL: its data are made once, whole or not at all, and served on a loopback port.
//! Whatever killed the run before, the next start finds one postmaster or none, never two.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use data_encoding::HEXLOWER;
use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use super::files;
use super::locate::{PostgresInstallation, drop_root, postgres_owner};
use super::server::{self, Farewell, Server};

const SUPERUSER: &str = "postgres";
/// Long enough to replay the log of a busy server that was killed.
const READY_WITHIN: Duration = Duration::from_mins(2);
/// Fast shutdown, then immediate shutdown.
const FAREWELL: &Farewell = &[
    ("INT", Duration::from_secs(15)),
    ("QUIT", Duration::from_secs(5)),
];

/// A running PostgreSQL of our own; dropping it kills it, which loses no committed row of a durable one.
#[derive(Debug)]
pub struct Postgres {
    installation: PostgresInstallation,
    dir: PathBuf,
    durable: bool,
    port: u16,
    password: String,
    server: Server,
}

impl Postgres {
    /// Starts a server on the data in `dir`, an absolute path, making them if there are none.
    ///
    /// The caller holds the lock of the folder.
    /// A server that is not `durable` leaves out every sync: for tests.
    pub async fn start(
        installation: &PostgresInstallation,
        dir: &Path,
        durable: bool,
    ) -> anyhow::Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        own(dir)?;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
        can_enter(dir).await?;
        let password = password(dir)?;
        let data = dir.join("data");
        if data.exists() {
            end_leftovers(&data).await?;
        } else {
            initialize(installation, dir, &data, durable).await?;
        }
        let (port, server) = launch(installation, dir, durable, None, &password).await?;
        Ok(Self {
            installation: installation.clone(),
            dir: dir.to_owned(),
            durable,
            port,
            password,
            server,
        })
    }

    /// The URL of a database as superuser.
    pub fn admin_url(&self, database: &str) -> String {
        format!(
            "postgres://{SUPERUSER}:{}@127.0.0.1:{}/{database}?sslmode=disable",
            self.password, self.port
        )
    }

    /// The process id of the postmaster, until it has been seen to end.
    pub fn pid(&self) -> Option<u32> {
        self.server.pid()
    }

    /// Stops the server if it runs and starts it on the same port; URLs stay valid.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.stop().await?;
        let port = Some(self.port);
        (_, self.server) = launch(
            &self.installation,
            &self.dir,
            self.durable,
            port,
            &self.password,
        )
        .await?;
        Ok(())
    }

    /// Waits until the server ends by itself, and tells how.
    pub(super) async fn ended(&mut self) -> anyhow::Result<String> {
        self.server.ended().await
    }

    /// Ends the server in order: sessions are cut, transactions rolled back, a checkpoint written.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.server.stop(FAREWELL).await
    }
}

/// The major version that made the data in `dir`, if there are any.
pub(super) fn version_of_data(dir: &Path) -> anyhow::Result<Option<u32>> {
    files::read_if_present(&dir.join("data/PG_VERSION"))?
        .map(|text| {
            text.trim()
                .parse()
                .with_context(|| format!("{} holds no PostgreSQL data", dir.display()))
        })
        .transpose()
}

/// Starts the server on the port, or on a free one, and waits until it serves.
async fn launch(
    installation: &PostgresInstallation,
    dir: &Path,
    durable: bool,
    port: Option<u16>,
    password: &str,
) -> anyhow::Result<(u16, Server)> {
    let patience = Instant::now() + Duration::from_secs(10);
    loop {
        let port = port.map_or_else(server::free_port, Ok)?;
        match try_launch(installation, dir, durable, port, password).await {
            Ok(server) => return Ok((port, server)),
            // The port was taken in the meantime, or the last backends of a killed postmaster still leave.
            Err(error) if Instant::now() < patience => {
                tracing::warn!(%error, "starting PostgreSQL again");
                sleep(Duration::from_millis(500)).await;
            }
            Err(error) => return Err(error),
        }
    }
}

async fn try_launch(
    installation: &PostgresInstallation,
    dir: &Path,
    durable: bool,
    port: u16,
    password: &str,
) -> anyhow::Result<Server> {
    let mut settings = vec![
        "listen_addresses=127.0.0.1".to_owned(),
        format!("port={port}"),
        // A socket would bind the length of the folder's path.
        "unix_socket_directories=".to_owned(),
        "max_connections=200".to_owned(),
        "timezone=UTC".to_owned(),
        "log_timezone=UTC".to_owned(),
    ];
    if installation.has_extension("pg_stat_statements") {
        settings.push("shared_preload_libraries=pg_stat_statements".to_owned());
    }
    if !durable {
        settings.extend(
            ["fsync", "synchronous_commit", "full_page_writes"].map(|name| format!("{name}=off")),
        );
    }
    let mut postgres = command(installation, dir, "postgres");
    postgres.arg("-D").arg(dir.join("data"));
    for setting in settings {
        postgres.arg("-c").arg(setting);
    }
    let mut server = Server::spawn("PostgreSQL", postgres, &dir.join("postgres.log"))?;
    // The password is ours alone: whoever accepts it is the server just started.
    let connect = PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(port)
        .username(SUPERUSER)
        .password(password)
        .database("postgres")
        .ssl_mode(PgSslMode::Disable);
    server
        .ready(READY_WITHIN, async || connect.connect().await.is_ok())
        .await?;
    Ok(server)
}

/// Makes the data beside their place and moves them there when they are complete.
async fn initialize(
    installation: &PostgresInstallation,
    dir: &Path,
    data: &Path,
    durable: bool,
) -> anyhow::Result<()> {
    let partial = dir.join("data.partial");
    server::end_leftovers("initdb", &partial, &[]).await?;
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    let mut initdb = command(installation, dir, "initdb");
    initdb
        .arg("-D")
        .arg(&partial)
        .args(["-U", SUPERUSER, "--auth=scram-sha-256", "--encoding=UTF8"])
        .arg("--pwfile")
        .arg(dir.join("password"))
        .arg("--no-instructions");
    // Both sort by code point, on every machine alike.
    if installation.major >= 17 {
        initdb.args([
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--locale=C",
        ]);
    } else {
        initdb.args(["--locale=C", "--lc-ctype=C.UTF-8"]);
    }
    if !durable {
        initdb.arg("--no-sync");
    }
    let output = initdb.output().await.context("cannot run initdb")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("initdb fails: {}", said.trim().replace('\n', "; "));
    }
    fs::rename(&partial, data)?;
    Ok(())
}

/// A program of the installation, run by the owner of the data, out of reach of `PG…` variables.
fn command(installation: &PostgresInstallation, dir: &Path, program: &str) -> Command {
    let mut command = Command::new(installation.bin.join(program));
    drop_root(&mut command)
        .current_dir(dir)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

async fn end_leftovers(data: &Path) -> anyhow::Result<()> {
    server::end_leftovers("postgres", data, FAREWELL).await?;
    // PostgreSQL itself copes with a dead number in its file, but takes a stranger that was given it for a postmaster.
    let file = data.join("postmaster.pid");
    let text = files::read_if_present(&file)?.unwrap_or_default();
    let pid = text.lines().next().unwrap_or_default().trim();
    if !pid.is_empty() && Path::new("/proc").join(pid).exists() {
        fs::remove_file(&file)?;
    }
    Ok(())
}

/// The superuser's password, made at the first start.
fn password(dir: &Path) -> anyhow::Result<String> {
    let file = dir.join("password");
    let password = if let Some(password) = files::read_if_present(&file)? {
        password
    } else {
        let password = HEXLOWER.encode(&files::random_bytes::<24>()?);
        files::write_secret(&file, &password)?;
        password
    };
    own(&file)?;
    Ok(password)
}

fn own(path: &Path) -> anyhow::Result<()> {
    if let Some(owner) = postgres_owner() {
        chown(path, Some(owner), Some(owner))
            .with_context(|| format!("cannot give {} to PostgreSQL's user", path.display()))?;
    }
    Ok(())
}

/// Fails with a remedy when the user that runs PostgreSQL cannot reach the folder.
async fn can_enter(dir: &Path) -> anyhow::Result<()> {
    let mut probe = Command::new("true");
    drop_root(&mut probe).current_dir(dir);
    match probe.status().await {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => bail!(
            "root runs PostgreSQL as the user nobody, who cannot enter {}: choose a folder below one that is open to all, such as /var/lib",
            dir.display()
        ),
        _ => Ok(()),
    }
}
