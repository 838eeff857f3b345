//! A whole deployment on the embedded stack: servers, keys, migrations, topology and settings.
//! `catalyst up` and the tests start from here.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use kit::bus::Bus;
use kit::cells::{CellFolder, CellName};
use kit::error::chain;
use kit::host::Definition;
use kit::settings::{
    CacheSettings, CellSettings, DatabaseSettings, IdentitySettings, ListenSettings, NatsSettings,
    OutboxSettings, Settings, SettingsError,
};
use kit::wire::WireSettings;
use sqlx::postgres::PgConnectOptions;

use crate::keys::{DEVELOPMENT_ISSUER, Keys};
use crate::services;
use crate::stack::{Stack, StackOptions};

/// The setting that names the folder of the cells' administrators.
pub(crate) const CELLS_ADMIN_DIR: &str = "CATALYST_CELLS_ADMIN_DIR";

/// Servers that run, migrated and ready for services.
pub struct Deployment {
    /// The servers.
    pub stack: Stack,
    /// The secrets.
    pub keys: Keys,
}

impl Deployment {
    /// Starts the servers on the folder of `options` and brings database and broker up to date.
    pub async fn start(
        options: StackOptions,
        progress: &(dyn Fn(&str) + Sync),
    ) -> anyhow::Result<Self> {
        let keys_dir = options.dir.join("keys");
        let stack = Stack::start(options, progress).await?;
        let keys = Keys::load_or_create(&keys_dir, &services::ALL)?;
        let deployment = Self { stack, keys };
        progress("bringing the database up to date");
        let database = deployment.database_settings(1);
        let stack = &deployment.stack;
        migrate_database(
            &stack.postgres_admin_url,
            &database,
            &stack.cell_admin_urls(),
        )
        .await?;
        progress("bringing the broker up to date");
        migrate_broker(&deployment.nats_settings(), 1).await?;
        Ok(deployment)
    }

    /// Settings of a process on these servers, with gRPC on `listen`.
    pub fn settings(&self, listen: ListenSettings) -> Settings {
        Settings {
            listen,
            database: self.database_settings(12),
            nats: self.nats_settings(),
            outbox: OutboxSettings::default(),
            cache: CacheSettings::default(),
            identity: IdentitySettings {
                auth_issuer: DEVELOPMENT_ISSUER.to_owned(),
                auth_audience: "catalyst".to_owned(),
                auth_jwks: text(&self.keys.issuer_jwks()),
                workload_jwks: text(&self.keys.workload_jwks()),
                jwks_refresh_seconds: 30,
                jwks_refetch_seconds: 10,
                workload_key_dir: self.keys.workload_dir(),
                page_token_key_file: self.keys.page_token_key(),
            },
            wire: WireSettings::default(),
        }
    }

    /// Checkpoints of the audit logs, signed with the deployment's own key.
    pub fn checkpoint_settings(&self) -> audit::CheckpointSettings {
        audit::CheckpointSettings {
            audit_checkpoint_key_file: Some(self.keys.checkpoint_key()),
            ..Default::default()
        }
    }

    fn database_settings(&self, connections: u32) -> DatabaseSettings {
        let url = self.stack.database_url.clone();
        DatabaseSettings {
            cells: CellSettings {
                cells_dir: Some(self.stack.cells_dir.clone()),
                ..CellSettings::default()
            },
            ..DatabaseSettings::new(url, self.keys.password_dir(), connections)
        }
    }

    fn nats_settings(&self) -> NatsSettings {
        NatsSettings {
            nats_url: self.stack.nats_url.clone(),
            nats_credentials_dir: self.stack.credentials_dir.clone(),
            nats_monitor_urls: vec![self.stack.nats_monitor_url.clone()],
            allow_unsynced: false,
            nats_ca_file: None,
            nats_client_cert_file: None,
            nats_client_key_file: None,
        }
    }
}

/// Cells that could not be brought up to date, while all others were.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(|error| chain(error.as_ref())).collect::<Vec<_>>().join("; "))]
pub struct CellsBehind(Vec<anyhow::Error>);

impl CellsBehind {
    /// What became of the first of them.
    pub fn first(&self) -> Option<&anyhow::Error> {
        self.0.first()
    }
}

/// Roles and schemas as the administrator, then every schema's migrations as its owner: of all services in the shared
/// cell, of those that have rows in cells in each dedicated one, with the administrator's URL that goes by its name.
/// A dedicated cell that fails does not keep the others from it: what failed is told at the end.
pub async fn migrate_database(
    admin_url: &str,
    settings: &DatabaseSettings,
    admin_urls: &CellFolder<String>,
) -> anyhow::Result<()> {
    let variable = "CATALYST_DATABASE_ADMIN_URL";
    migrate_cell(
        &CellName::SHARED,
        &services::ALL,
        variable,
        admin_url,
        settings,
    )
    .await?;
    let dedicated = settings.dedicated()?;
    let placed: Vec<Definition> = services::in_cells().collect();
    let mut failed: Vec<anyhow::Error> = Vec::new();
    for (cell, settings) in &dedicated.cells {
        // What is wrong with its file is told below.
        if admin_urls.faults.contains_key(cell.as_str()) {
            continue;
        }
        let migrated = match admin_urls.cells.get(cell) {
            Some(url) => migrate_cell(cell, &placed, CELLS_ADMIN_DIR, url, settings).await,
            None => {
                let problem = format!("has no file {cell}: put the URL of its administrator there");
                Err(SettingsError::new(CELLS_ADMIN_DIR, problem).into())
            }
        };
        failed.extend(migrated.with_context(|| format!("the cell {cell}")).err());
    }
    let faults = dedicated.faults.into_values();
    failed.extend(faults.map(anyhow::Error::from));
    let faults = admin_urls.faults.values();
    failed.extend(faults.cloned().map(anyhow::Error::from));
    if failed.is_empty() {
        return Ok(());
    }
    Err(CellsBehind(failed).into())
}

async fn migrate_cell(
    cell: &CellName,
    definitions: &[Definition],
    variable: &'static str,
    admin_url: &str,
    settings: &DatabaseSettings,
) -> anyhow::Result<()> {
    let mut admin: PgConnectOptions = admin_url.parse().map_err(|_| {
        let problem = "is no PostgreSQL URL: use postgres://USER:PASSWORD@HOST:PORT/DATABASE";
        SettingsError::new(variable, problem)
    })?;
    if let Some(authorities) = &settings.database_ca_file {
        admin = kit::db::verified_by(admin, authorities)?;
    }
    kit::migrate::bootstrap(&admin, cell, &settings.database_password_dir, definitions).await?;
    for definition in definitions {
        let owner = kit::db::role_options(settings, &format!("{}_owner", definition.schema))?;
        kit::migrate::migrate(&owner, cell, definition).await?;
    }
    Ok(())
}

/// Streams, the tenant directory and durable consumers, as the migrator.
pub async fn migrate_broker(settings: &NatsSettings, replicas: usize) -> anyhow::Result<()> {
    let bus = Bus::connect(settings, "migrator").await?;
    kit::topology::apply(&bus, &services::ALL, replicas)
        .await
        .map_err(|error| anyhow::anyhow!("the broker refused the streams and consumers: {error}"))
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The folder of the development keys below a data folder.
pub fn keys_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("keys")
}
