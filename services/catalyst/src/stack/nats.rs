//! A private nats-server in operator mode, its streams synced to disk before they acknowledge.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use super::files;
use super::identity::Identities;
use super::server::{self, Farewell, Server};

/// Long enough to read back large streams.
const READY_WITHIN: Duration = Duration::from_mins(1);
/// Written at each start; its path marks the server in the list of processes.
const CONFIG: &str = "nats-server.json";
const FAREWELL: &Farewell = &[("TERM", Duration::from_secs(10))];

/// A running nats-server of our own; dropping it kills it, which loses no acknowledged message of a synced one.
#[derive(Debug)]
pub struct Nats {
    binary: PathBuf,
    dir: PathBuf,
    port: u16,
    monitor_port: u16,
    server: Server,
}

impl Nats {
    /// Starts a server with its streams in `dir`, an absolute path, whose lock the caller holds.
    ///
    /// Without `sync_always` a power cut takes acknowledged streams with it, and the services refuse the server.
    pub async fn start(
        binary: &Path,
        dir: &Path,
        identities: &Identities,
        sync_always: bool,
    ) -> anyhow::Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        server::end_leftovers("nats-server", &dir.join(CONFIG), FAREWELL).await?;
        let patience = Instant::now() + Duration::from_secs(10);
        loop {
            let (port, monitor_port) = (server::free_port()?, server::free_port()?);
            let mut config = identities.server_settings(&dir.join("accounts").to_string_lossy());
            let own = json!({
                "server_name": "catalyst",
                "listen": format!("127.0.0.1:{port}"),
                "http": format!("127.0.0.1:{monitor_port}"),
                "jetstream": {
                    "store_dir": dir.join("jetstream"),
                    "sync_interval": if sync_always { "always" } else { "2m" },
                },
            });
            if let (Some(config), Some(own)) = (config.as_object_mut(), own.as_object()) {
                config.extend(own.clone());
            }
            // JSON is a subset of the server's own language.
            files::write_public(&dir.join(CONFIG), &serde_json::to_string_pretty(&config)?)?;
            match launch(binary, dir, monitor_port).await {
                Ok(server) => {
                    return Ok(Self {
                        binary: binary.to_owned(),
                        dir: dir.to_owned(),
                        port,
                        monitor_port,
                        server,
                    });
                }
                // A port was taken in the meantime.
                Err(error) if Instant::now() < patience => {
                    tracing::warn!(%error, "starting nats-server again");
                    sleep(Duration::from_millis(500)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Where clients connect.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Where the server answers `/healthz`, `/jsz` and `/varz`.
    pub fn monitor_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.monitor_port)
    }

    /// The process id, until the server has been seen to end.
    pub fn pid(&self) -> Option<u32> {
        self.server.pid()
    }

    /// Stops the server if it runs and starts it on the same ports; URLs stay valid.
    ///
    /// Accounts are read again as they were at `start`; changes pushed since are in its resolver's folder.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.stop().await?;
        self.server = launch(&self.binary, &self.dir, self.monitor_port).await?;
        Ok(())
    }

    /// Waits until the server ends by itself, and tells how.
    pub(super) async fn ended(&mut self) -> anyhow::Result<String> {
        self.server.ended().await
    }

    /// Ends the server in order.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.server.stop(FAREWELL).await
    }
}

async fn launch(binary: &Path, dir: &Path, monitor_port: u16) -> anyhow::Result<Server> {
    let mut command = Command::new(binary);
    command
        .arg("--config")
        .arg(dir.join(CONFIG))
        .current_dir(dir);
    let mut server = Server::spawn("nats-server", command, &dir.join("nats-server.log"))?;
    // A proxy of the environment has no business on the loopback address.
    let http = reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(2))
        .build()?;
    let health = format!("http://127.0.0.1:{monitor_port}/healthz");
    server
        .ready(READY_WITHIN, async || {
            let answer = http.get(&health).send().await;
            answer.is_ok_and(|answer| answer.status().is_success())
        })
        .await?;
    Ok(server)
}
