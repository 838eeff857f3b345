//! A bus alone: a NATS server with the deployment's users, streams and durables, and no service on it.
//! A test may widen a user or change a stream there without harm to others.

use std::path::PathBuf;

use async_nats::{Client, ConnectOptions};
use catalyst::deployment::migrate_broker;
use catalyst::stack::NatsChoice;
use catalyst::stack::identity::{Identities, issue_tenant_credentials};
use catalyst::stack::locate;
use catalyst::stack::nats::Nats;
use data_encoding::BASE64URL_NOPAD;
use harness::world;
use kit::settings::NatsSettings;
use nkeys::{KeyPair, KeyPairType};
use serde_json::{Value, json};

/// It ends with the test.
pub(super) struct Lone {
    pub(super) settings: NatsSettings,
    pub(super) identity: PathBuf,
    pub(super) nats: Nats,
    folder: PathBuf,
}

impl Drop for Lone {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

impl Lone {
    pub(super) async fn start() -> Self {
        let folder = harness::temporary_folder().expect("a folder");
        let identity = folder.join("identity");
        let identities = Identities::load_or_create(&identity).expect("identities");
        let server = locate::nats(NatsChoice::Auto, &|_| {}).await;
        let server = server.expect("a nats-server");
        let nats = Nats::start(&server, &folder.join("nats"), &identities, true).await;
        let nats = nats.expect("it starts");
        let settings = NatsSettings {
            nats_url: nats.url(),
            nats_credentials_dir: identity.join("credentials"),
            nats_monitor_urls: vec![nats.monitor_url()],
            ..world().settings.nats.clone()
        };
        migrate_broker(&settings, 1).await.expect("streams");
        Self {
            settings,
            identity,
            nats,
            folder,
        }
    }

    /// Connects as a user of the deployment.
    pub(super) async fn user(&self, name: &str) -> Client {
        let options = kit::bus::options(&self.settings, name).await;
        let client = options.expect("credentials").connect(self.nats.url()).await;
        client.expect("it connects")
    }

    pub(super) fn of_tenant(&self, tenant: &str) -> ConnectOptions {
        let tenant = kit::TenantId::parse_strict(tenant).expect("a tenant id");
        let text = issue_tenant_credentials(&self.identity, tenant.uuid(), "suite");
        ConnectOptions::with_credentials(&text.expect("issued")).expect("credentials")
    }

    /// Puts credentials of `name`, in the services' account and with these permissions, into the folder.
    pub(super) fn widen(&self, name: &str, publish: &Value, subscribe: &Value) {
        let seed = |file: &str| {
            let path = self.identity.join("keys").join(file);
            std::fs::read_to_string(path).expect("a seed")
        };
        let account = KeyPair::from_seed(seed("account-catalyst.nk").trim()).expect("the account");
        let user = KeyPair::new(KeyPairType::User);
        let claims = json!({
            "iat": kit::ctx::Clock::system().now().unix_timestamp(),
            "iss": account.public_key(),
            "sub": user.public_key(),
            "jti": user.public_key(),
            "name": name,
            "nats": {
                "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1,
                "pub": publish, "sub": subscribe,
            },
        });
        let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let header = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
        let signed = format!("{}.{}", part(&header), part(&claims));
        let signature = account.sign(signed.as_bytes()).expect("it signs");
        let text = format!(
            "-----BEGIN NATS USER JWT-----\n{signed}.{}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
            BASE64URL_NOPAD.encode(&signature),
            user.seed().expect("a seed")
        );
        let path = self
            .settings
            .nats_credentials_dir
            .join(format!("{name}.creds"));
        std::fs::write(path, text).expect("written");
    }
}
