//! NATS over TLS: a real server with a certificate, believed by the right authority and name alone.

use std::path::Path;
use std::time::Duration;

use catalyst::stack::NatsChoice;
use catalyst::stack::identity::Identities;
use catalyst::stack::locate;
use harness::{free_port, within};
use kit::bus::{Bus, BusError, check_brokers};
use kit::settings::NatsSettings;
use serde_json::json;
use tokio::process::{Child, Command};

use super::certificates::{Authority, Folder};

/// A nats-server with TLS for clients and for monitoring.
struct Server {
    child: Child,
    port: u16,
    monitor: u16,
    identities: Identities,
}

impl Server {
    /// Starts one whose certificate is for `localhost`; with `callers`, it asks clients for theirs.
    async fn start(folder: &Path, authority: &Authority, callers: Option<&Authority>) -> Self {
        let program = locate::nats(NatsChoice::Auto, &|_| {})
            .await
            .expect("a nats-server");
        let identities = Identities::load_or_create(&folder.join("identity")).expect("keys");
        let own = authority.writes(folder, "nats", &["localhost"]);
        let mut tls = json!({"cert_file": own.cert, "key_file": own.key});
        if let Some(callers) = callers {
            tls["ca_file"] = json!(callers.file(folder, "callers.crt"));
            tls["verify"] = json!(true);
        }
        let (port, monitor) = (free_port(), free_port());
        let mut config = identities.server_settings(&folder.join("accounts").to_string_lossy());
        config["listen"] = json!(format!("127.0.0.1:{port}"));
        config["https"] = json!(format!("127.0.0.1:{monitor}"));
        config["jetstream"] =
            json!({"store_dir": folder.join("jetstream"), "sync_interval": "always"});
        config["tls"] = tls;
        let path = folder.join("server.json");
        std::fs::write(&path, config.to_string()).expect("written");
        let log = std::fs::File::create(folder.join("nats.log")).expect("a log");
        let child = Command::new(program)
            .arg("--config")
            .arg(&path)
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("it starts");
        let server = Self {
            child,
            port,
            monitor,
            identities,
        };
        let listens = within(Duration::from_secs(20), async || {
            tokio::net::TcpStream::connect(("127.0.0.1", port))
                .await
                .ok()
        });
        assert!(
            listens.await.is_some(),
            "{}",
            std::fs::read_to_string(folder.join("nats.log")).unwrap_or_default()
        );
        server
    }

    fn settings(&self, scheme: &str, host: &str) -> NatsSettings {
        NatsSettings {
            nats_url: format!("{scheme}://{host}:{}", self.port),
            nats_credentials_dir: self.identities.credentials_dir().to_owned(),
            nats_monitor_urls: vec![format!("https://{host}:{}", self.monitor)],
            allow_unsynced: false,
            nats_ca_file: None,
            nats_client_cert_file: None,
            nats_client_key_file: None,
        }
    }

    async fn end(mut self) {
        self.child.kill().await.expect("it ends");
    }
}

async fn connects(settings: &NatsSettings) -> bool {
    match Bus::connect(settings, "projects").await {
        Ok(bus) => bus.is_connected(),
        Err(BusError::Connect { .. }) => false,
        Err(other) => panic!("not the wire: {other}"),
    }
}

#[tokio::test]
async fn a_broker_is_believed_by_its_authority_and_its_name_alone() {
    let folder = Folder::new();
    let (authority, other) = (Authority::new("own"), Authority::new("other"));
    let server = Server::start(&folder.0, &authority, None).await;
    let trusted = authority.file(&folder.0, "authority.crt");
    let foreign = other.file(&folder.0, "foreign.crt");

    let mut settings = server.settings("tls", "localhost");
    assert!(!connects(&settings).await, "the system trusts it");
    settings.nats_ca_file = Some(foreign);
    assert!(!connects(&settings).await, "another authority's is trusted");
    assert!(check_brokers(&settings).await.is_err());
    settings.nats_ca_file = Some(trusted.clone());
    assert!(connects(&settings).await);
    check_brokers(&settings).await.expect("its monitor answers");

    let mut by_address = server.settings("tls", "127.0.0.1");
    by_address.nats_ca_file = Some(trusted);
    assert!(!connects(&by_address).await, "another name is trusted");
    assert!(check_brokers(&by_address).await.is_err());
    server.end().await;
}

#[tokio::test]
async fn a_broker_that_offers_plaintext_alone_is_refused_where_tls_was_said() {
    let folder = Folder::new();
    let authority = Authority::new("own");
    let world = harness::world();
    let settings = NatsSettings {
        nats_url: world
            .nats_url
            .replace("nats://127.0.0.1", "tls://localhost"),
        nats_credentials_dir: world.credentials_dir.clone(),
        nats_monitor_urls: Vec::new(),
        allow_unsynced: false,
        nats_ca_file: Some(authority.file(&folder.0, "authority.crt")),
        nats_client_cert_file: None,
        nats_client_key_file: None,
    };
    assert!(!connects(&settings).await);
}

#[tokio::test]
async fn a_broker_that_asks_for_certificates_gets_the_one_of_the_settings() {
    let folder = Folder::new();
    let (authority, callers) = (Authority::new("own"), Authority::new("callers"));
    let server = Server::start(&folder.0, &authority, Some(&callers)).await;
    let mut settings = server.settings("tls", "localhost");
    settings.nats_ca_file = Some(authority.file(&folder.0, "authority.crt"));
    assert!(!connects(&settings).await, "none is enough");
    let foreign = authority.writes(&folder.0, "foreign", &["client"]);
    settings.nats_client_cert_file = Some(foreign.cert);
    settings.nats_client_key_file = Some(foreign.key);
    assert!(!connects(&settings).await, "a foreign one is enough");
    let own = callers.writes(&folder.0, "client", &["client"]);
    settings.nats_client_cert_file = Some(own.cert);
    settings.nats_client_key_file = Some(own.key);
    assert!(connects(&settings).await);
    server.end().await;
}
