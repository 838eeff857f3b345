//! The connection of one service to the broker, and what must be true of the broker before it is trusted.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::{Client, ConnectOptions, HeaderMap, jetstream};
use bytes::Bytes;
use serde::Deserialize;

use crate::settings::{NatsSettings, SettingsError};
use crate::tls;
use crate::wire::nats_urls;

/// Older servers lose streams or check permissions wrongly; atomic batches need 2.12.
const VERSION_FLOOR: (u64, u64, u64) = (2, 14, 3);

/// Why the broker cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// A setting is at fault.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// No connection.
    #[error(
        "cannot connect to NATS at {url} as {user}: {source}; check CATALYST_NATS_URL and the credentials file"
    )]
    Connect {
        /// The address tried.
        url: String,
        /// The NATS user.
        user: String,
        /// The client's reason.
        #[source]
        source: async_nats::ConnectError,
    },
    /// A monitoring endpoint does not answer, so nothing is known of how that server stores.
    #[error("cannot read {url}/varz: {source}; check CATALYST_NATS_MONITOR_URLS")]
    Monitor {
        /// The endpoint.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The server acknowledges before it has synced.
    #[error(
        "the NATS server {name} does not sync every write: a power cut would lose acknowledged events; \
         set `sync_interval: always` in its jetstream block, or CATALYST_ALLOW_UNSYNCED=true for development"
    )]
    Unsynced {
        /// The server's name.
        name: String,
    },
    /// The server is too old.
    #[error("the NATS server {name} has version {version}: 2.14.3 or later is needed")]
    TooOld {
        /// The server's name.
        name: String,
        /// The version that it reports.
        version: String,
    },
}

/// A service's connection to the broker.
#[derive(Clone, Debug)]
pub struct Bus {
    client: Client,
    jetstream: jetstream::Context,
}

impl Bus {
    /// Connects as `user` with its credentials file; the client reconnects by itself from then on.
    /// Replies come to an inbox that only this user may hear.
    pub async fn connect(settings: &NatsSettings, user: &str) -> Result<Self, BusError> {
        let options = options(settings, user).await?;
        let client = options
            .max_reconnects(None)
            .reconnect_delay_callback(pause_before)
            .connect(urls(settings))
            .await
            .map_err(|source| BusError::Connect {
                url: settings.nats_url.clone(),
                user: user.to_owned(),
                source,
            })?;
        let jetstream = jetstream::new(client.clone());
        Ok(Self { client, jetstream })
    }

    /// The JetStream API, for consumers and the key-value bucket.
    pub fn jetstream(&self) -> &jetstream::Context {
        &self.jetstream
    }

    /// Whether the connection stands now.
    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == async_nats::connection::State::Connected
    }

    /// The number of the connection that stands now: another one may have missed what was said between them.
    pub(crate) fn connection(&self) -> Option<u64> {
        let connects = || self.client.statistics().connects.load(Ordering::Acquire);
        self.is_connected().then(connects)
    }

    /// Subscribes to a core subject.
    pub async fn subscribe(
        &self,
        subject: String,
    ) -> Result<async_nats::Subscriber, async_nats::SubscribeError> {
        self.client.subscribe(subject).await
    }

    /// Subscribes to a core subject as one of a group, of which one hears each message.
    pub async fn share(
        &self,
        subject: String,
        group: String,
    ) -> Result<async_nats::Subscriber, async_nats::SubscribeError> {
        self.client.queue_subscribe(subject, group).await
    }

    /// Sends without waiting for anything; for wake-ups and inner messages of a batch alone.
    #[expect(
        clippy::disallowed_methods,
        reason = "the relay's and the wake-up's way out; operations emit through Tx"
    )]
    pub(crate) async fn send(
        &self,
        subject: String,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<(), async_nats::PublishError> {
        self.client
            .publish_with_headers(subject, headers, body)
            .await
    }

    /// Publishes and awaits the stream's answer, which may be an error of JetStream.
    pub(crate) async fn request(
        &self,
        subject: String,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<PublishAnswer, async_nats::RequestError> {
        let message = self
            .client
            .request_with_headers(subject, headers, body)
            .await?;
        Ok(serde_json::from_slice(&message.payload).unwrap_or_default())
    }

    /// Waits until everything sent is on its way.
    pub async fn flush(&self) {
        if let Err(error) = self.client.flush().await {
            tracing::debug!(error = %error, "the broker connection could not be flushed");
        }
    }
}

/// How long an attempt to connect waits, of which the first is number one: that one not at all, since a process that starts
/// is waited for, and the longer the more have failed.
fn pause_before(attempt: usize) -> Duration {
    let failed = u32::try_from(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
    let pause = Duration::from_millis(50).saturating_mul(failed);
    pause.min(Duration::from_secs(1))
}

/// How to connect as `user`: its credentials file, and an inbox that only this user may hear.
pub async fn options(settings: &NatsSettings, user: &str) -> Result<ConnectOptions, BusError> {
    let path = settings.nats_credentials_dir.join(format!("{user}.creds"));
    let options = ConnectOptions::with_credentials_file(&path)
        .await
        .map_err(|error| {
            SettingsError::new(
                "CATALYST_NATS_CREDENTIALS_DIR",
                format!("cannot read {}: {error}", path.display()),
            )
        })?;
    Ok(secured(options, settings)?
        .name(format!("catalyst-{user}"))
        .custom_inbox_prefix(format!("_INBOX_{user}"))
        .connection_timeout(Duration::from_secs(3))
        .request_timeout(Some(Duration::from_secs(5))))
}

/// The servers of a deployment, as a client takes them.
pub fn urls(settings: &NatsSettings) -> Vec<&str> {
    nats_urls(settings).collect()
}

/// The options with what the server is known by. Both files are read anew at each connection.
fn secured(
    mut options: ConnectOptions,
    settings: &NatsSettings,
) -> Result<ConnectOptions, SettingsError> {
    let is_tls = nats_urls(settings).any(|url| url.starts_with("tls://"));
    if is_tls {
        // For the servers of the cluster as well that the first one tells of, whose addresses have no scheme.
        options = options.require_tls(true);
    }
    if let Some(path) = &settings.nats_ca_file {
        if !is_tls {
            return Err(SettingsError::new(
                "CATALYST_NATS_CA_FILE",
                "has no effect: write tls:// in CATALYST_NATS_URL",
            ));
        }
        tls::check_authorities("CATALYST_NATS_CA_FILE", path)?;
        options = options.add_root_certificates(path.clone());
    }
    if let (Some(cert), Some(key)) = (
        &settings.nats_client_cert_file,
        &settings.nats_client_key_file,
    ) {
        options = options.add_client_certificate(cert.clone(), key.clone());
    }
    Ok(options)
}

fn authorities(path: &Path) -> Result<Vec<reqwest::Certificate>, SettingsError> {
    let variable = "CATALYST_NATS_CA_FILE";
    tls::check_authorities(variable, path)?;
    let pem = std::fs::read(path).unwrap_or_default();
    reqwest::Certificate::from_pem_bundle(&pem)
        .map_err(|error| SettingsError::new(variable, error.to_string()))
}

/// What a stream answers to a publication.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct PublishAnswer {
    /// The stream that stored it.
    pub(crate) stream: Option<String>,
    /// The refusal.
    pub(crate) error: Option<PublishRefusal>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct PublishRefusal {
    #[serde(default)]
    pub(crate) err_code: u32,
    #[serde(default)]
    pub(crate) description: String,
}

#[derive(Deserialize)]
struct Varz {
    #[serde(default)]
    server_name: String,
    version: String,
    jetstream: Option<VarzJetStream>,
}

#[derive(Deserialize)]
struct VarzJetStream {
    config: Option<VarzJetStreamConfig>,
}

#[derive(Deserialize)]
struct VarzJetStreamConfig {
    #[serde(default)]
    sync_always: bool,
}

/// Reads every server's monitoring endpoint and refuses one that is too old or does not sync.
/// `sync_interval` still shows two minutes there when syncing is always on, so `sync_always` is what counts.
pub async fn check_brokers(settings: &NatsSettings) -> Result<(), BusError> {
    let mut http = reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(3));
    if let Some(path) = &settings.nats_ca_file {
        http = http.tls_certs_only(authorities(path)?);
    } else if settings
        .nats_monitor_urls
        .iter()
        .all(|url| url.starts_with("http://"))
    {
        // The authorities of this machine take milliseconds and megabytes to read.
        http = http.tls_certs_only([]);
    }
    let http = http.build().map_err(|source| BusError::Monitor {
        url: "the HTTP client".to_owned(),
        source,
    })?;
    for url in &settings.nats_monitor_urls {
        let url = url.trim_end_matches('/');
        let read = async {
            http.get(format!("{url}/varz"))
                .send()
                .await?
                .error_for_status()?
                .json::<Varz>()
                .await
        };
        let varz = read.await.map_err(|source| BusError::Monitor {
            url: url.to_owned(),
            source,
        })?;
        let name = if varz.server_name.is_empty() {
            url.to_owned()
        } else {
            varz.server_name
        };
        if parse_version(&varz.version) < VERSION_FLOOR {
            return Err(BusError::TooOld {
                name,
                version: varz.version,
            });
        }
        let synced = varz
            .jetstream
            .and_then(|js| js.config)
            .is_some_and(|config| config.sync_always);
        if !synced && !settings.allow_unsynced {
            return Err(BusError::Unsynced { name });
        }
        if !synced {
            tracing::warn!(nats.server = %name, "the broker does not sync every write: a power cut loses events");
        }
    }
    Ok(())
}

fn parse_version(text: &str) -> (u64, u64, u64) {
    let mut numbers = text.split(['.', '-']).map(|part| part.parse().unwrap_or(0));
    (
        numbers.next().unwrap_or(0),
        numbers.next().unwrap_or(0),
        numbers.next().unwrap_or(0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_attempt_to_connect_does_not_wait() {
        let waits = [1, 2, 3, 21, 22, usize::MAX].map(|attempt| pause_before(attempt).as_millis());
        assert_eq!(waits, [0, 50, 100, 1_000, 1_000, 1_000]);
    }
}
