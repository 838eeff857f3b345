//! The embedded stack: a private PostgreSQL and a private nats-server under one folder, started and stopped together.
//! They are the real servers, set up as in production: passwords, operator mode, streams that sync.

mod bundle;
mod files;
pub mod identity;
pub mod locate;
pub mod nats;
pub mod postgres;
mod server;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use sqlx::migrate::MigrateDatabase as _;
use tokio::time::sleep;

use identity::Identities;
use kit::cells::{CellFolder, CellName};
use locate::PostgresInstallation;
pub use locate::{NatsChoice, PostgresChoice};
use nats::Nats;
use postgres::Postgres;

const DATABASE: &str = "catalyst";
/// What the name of a dedicated cell's folder begins with.
const CELL_DIR: &str = "postgres-";

/// Before a server that ended is started again: one that ends at once must not take a whole core.
const PAUSE: Duration = Duration::from_secs(1);

/// What to start, and where.
#[derive(Clone, Debug)]
pub struct StackOptions {
    /// The folder that holds all data and keys; one stack at a time.
    pub dir: PathBuf,
    /// Which PostgreSQL.
    pub postgres: PostgresChoice,
    /// Which nats-server.
    pub nats: NatsChoice,
    /// Whether PostgreSQL syncs what it commits; without, for tests. NATS always syncs.
    pub durable: bool,
    /// Dedicated cells to start beside the shared one, each on a server of its own; those that the folder has already are
    /// started as well.
    pub cells: Vec<CellName>,
}

/// Both servers, running; dropping it kills them, `stop` ends them in order.
pub struct Stack {
    /// The database as superuser, password included.
    pub postgres_admin_url: String,
    /// The database without user, for services that bring their own roles.
    pub database_url: String,
    /// Where NATS clients connect.
    pub nats_url: String,
    /// Where nats-server answers its monitoring requests.
    pub nats_monitor_url: String,
    /// The folder of the bus's keys, as the functions of [`identity`] want it.
    pub identity_dir: PathBuf,
    /// The folder of `<user>.creds`.
    pub credentials_dir: PathBuf,
    /// None when the database was given as a URL.
    pub postgres: Option<Postgres>,
    /// The servers of the dedicated cells.
    pub cells: BTreeMap<CellName, Postgres>,
    /// The folder of the URLs of their databases.
    pub cells_dir: PathBuf,
    /// The server of the bus.
    pub nats: Nats,
    _lock: File,
}

impl Stack {
    /// Starts both servers on the data in the folder, making what is missing.
    ///
    /// What a killed run left behind is ended first; a living one makes this fail.
    pub async fn start(
        options: StackOptions,
        progress: &(dyn Fn(&str) + Sync),
    ) -> anyhow::Result<Self> {
        let dir = &options.dir;
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        // The servers work in folders of their own.
        let dir = dir.canonicalize()?;
        let lock = files::lock_folder(&dir)?;
        let identities = Identities::load_or_create(&dir.join("identity"))?;
        let (postgres_dir, nats_dir) = (dir.join("postgres"), dir.join("nats"));
        let cells_dir = cells_dir(&dir);
        fs::create_dir_all(&cells_dir)?;
        let mut wanted = options.cells;
        wanted.extend(cells_of(&dir)?);
        leave_to_others(&dir, &cells_dir, &wanted)?;
        let nats_server = locate::nats(options.nats, progress).await?;
        let (installation, given_url) = match options.postgres {
            PostgresChoice::Url(url) => (None, url),
            choice => {
                let major = postgres::version_of_data(&postgres_dir)?;
                let installation = locate::postgres(&choice, major, progress).await?;
                (Some(installation), String::new())
            }
        };
        progress("starting the servers");
        let postgres = async {
            let Some(installation) = &installation else {
                return anyhow::Ok(None);
            };
            let postgres = Postgres::start(installation, &postgres_dir, options.durable).await?;
            create_database(&postgres.admin_url(DATABASE)).await?;
            Ok(Some(postgres))
        };
        let nats = Nats::start(&nats_server, &nats_dir, &identities, true);
        let cells = start_cells(&dir, wanted, installation.as_ref(), options.durable);
        let (postgres, nats, cells) = tokio::try_join!(postgres, nats, cells)?;
        for (cell, server) in &cells {
            let url = without_user(&server.admin_url(DATABASE))?;
            files::write_secret(&cells_dir.join(cell.as_str()), &url)?;
        }
        let postgres_admin_url = postgres
            .as_ref()
            .map_or(given_url, |postgres| postgres.admin_url(DATABASE));
        Ok(Self {
            database_url: without_user(&postgres_admin_url)?,
            postgres_admin_url,
            nats_url: nats.url(),
            nats_monitor_url: nats.monitor_url(),
            identity_dir: dir.join("identity"),
            credentials_dir: identities.credentials_dir().to_owned(),
            postgres,
            cells,
            cells_dir,
            nats,
            _lock: lock,
        })
    }

    /// Starts each server again that ends by itself, on its port and data, and tells how it ended; ends with the reason
    /// why one could not be started.
    pub async fn keep(&mut self, tell: &(dyn Fn(&str) + Sync)) -> anyhow::Result<()> {
        let databases = self.postgres.iter_mut().chain(self.cells.values_mut());
        let databases = databases.map(async |server| -> anyhow::Result<Infallible> {
            loop {
                tell(&server.ended().await?);
                sleep(PAUSE).await;
                server.restart().await?;
            }
        });
        let mut nats = async || -> anyhow::Result<Infallible> {
            loop {
                tell(&self.nats.ended().await?);
                sleep(PAUSE).await;
                self.nats.restart().await?;
            }
        };
        let databases = futures::future::try_join_all(databases);
        tokio::try_join!(databases, nats()).map(drop)
    }

    /// Ends both servers in order; the folder can be started again.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let postgres = async {
            match &mut self.postgres {
                Some(postgres) => postgres.stop().await,
                None => Ok(()),
            }
        };
        let cells = self.cells.values_mut().map(Postgres::stop);
        let cells = futures::future::try_join_all(cells);
        let (postgres, nats, cells) = tokio::join!(postgres, self.nats.stop(), cells);
        cells.map(drop).and(postgres).and(nats)
    }

    /// The database of each dedicated cell as superuser.
    pub fn cell_admin_urls(&self) -> CellFolder<String> {
        let cells = self.cells.iter();
        CellFolder {
            cells: cells
                .map(|(cell, server)| (cell.clone(), server.admin_url(DATABASE)))
                .collect(),
            faults: BTreeMap::new(),
        }
    }
}

/// The folder of the URLs of the dedicated cells of a stack.
pub(crate) fn cells_dir(dir: &Path) -> PathBuf {
    dir.join("cells")
}

fn cell_dir(dir: &Path, cell: &CellName) -> PathBuf {
    dir.join(format!("{CELL_DIR}{cell}"))
}

/// The cells that the stack has made before.
fn cells_of(dir: &Path) -> anyhow::Result<Vec<CellName>> {
    let mut cells = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        cells.extend(name.strip_prefix(CELL_DIR).and_then(CellName::parse));
    }
    Ok(cells)
}

/// Refuses a URL that the stack did not write: it would be lost.
fn leave_to_others(dir: &Path, cells_dir: &Path, wanted: &[CellName]) -> anyhow::Result<()> {
    for entry in fs::read_dir(cells_dir)? {
        let file = entry?.file_name();
        let file = file.to_string_lossy();
        if file.starts_with('.') {
            continue;
        }
        let own = CellName::parse(&file).filter(|cell| wanted.contains(cell));
        anyhow::ensure!(
            own.is_some_and(|cell| cell_dir(dir, &cell).exists()),
            "{} is of no cell that was made here: move it away, and make a cell with --cell",
            cells_dir.join(file.as_ref()).display()
        );
    }
    Ok(())
}

async fn start_cells(
    dir: &Path,
    wanted: Vec<CellName>,
    installation: Option<&PostgresInstallation>,
    durable: bool,
) -> anyhow::Result<BTreeMap<CellName, Postgres>> {
    let wanted: BTreeSet<CellName> = wanted.into_iter().collect();
    let started = wanted.into_iter().map(async |cell| {
        anyhow::ensure!(
            !cell.is_shared(),
            "the shared cell is always there: name others"
        );
        let installation = installation
            .context("cells need a PostgreSQL that can be started: use no URL for --postgres")?;
        let folder = cell_dir(dir, &cell);
        let server = Postgres::start(installation, &folder, durable).await?;
        create_database(&server.admin_url(DATABASE)).await?;
        Ok((cell, server))
    });
    let started = futures::future::try_join_all(started).await?;
    Ok(started.into_iter().collect())
}

/// Where a stack lives when nobody says otherwise: the user's data folder, or `/var/lib` for root,
/// whose home PostgreSQL's user may not enter.
pub fn default_dir() -> anyhow::Result<PathBuf> {
    if files::running_as_root() {
        return Ok("/var/lib/catalyst".into());
    }
    let of_variable = |name| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    of_variable("XDG_DATA_HOME")
        .or_else(|| of_variable("HOME").map(|home| home.join(".local/share")))
        .map(|data| data.join("catalyst"))
        .context("there is no folder for data: set XDG_DATA_HOME or HOME, or name one")
}

async fn create_database(url: &str) -> anyhow::Result<()> {
    if !sqlx::Postgres::database_exists(url).await? {
        sqlx::Postgres::create_database(url).await?;
    }
    Ok(())
}

fn without_user(url: &str) -> anyhow::Result<String> {
    let mut url = reqwest::Url::parse(url).context("the URL of PostgreSQL cannot be read")?;
    url.set_password(None)
        .and_then(|()| url.set_username(""))
        .map_err(|()| anyhow::anyhow!("the URL of PostgreSQL names no host"))?;
    Ok(url.into())
}
