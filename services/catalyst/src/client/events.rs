//! `catalyst events`: what the bus says, decoded by the contract.

use std::future::ready;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use async_nats::{ConnectErrorKind, ConnectOptions, Event, HeaderMap, Message};
use clap::Subcommand;
use data_encoding::BASE64URL_NOPAD;
use futures::StreamExt as _;
use prost_reflect::DynamicMessage;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::mpsc;

use super::error::{Forbidden, Unavailable};
use super::output::{Output, note, printable};
use super::{ClientOptions, contract, dead_letters};
use crate::rebuild::RebuildOptions;
use crate::reconcile::ReconcileOptions;
use crate::up;

/// What can be done with events.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show events as they happen, until Ctrl-C: of the tenant that --tenant or --creds names, or of all.
    Tail {
        /// Security events as well; operators only.
        #[arg(long)]
        security: bool,
        #[command(flatten)]
        bus: BusOptions,
    },
    /// Events that a consumer set aside.
    #[command(subcommand)]
    DeadLetters(dead_letters::Command),
    /// Compare each aggregate's version in its service with the last that the audit records have: of one tenant, or of
    /// all. For where the settings and secrets of the deployment are; reads only.
    ///
    /// Exit codes: 0 sound; 78 departures, each told; 69 the database cannot be reached; 64 bad usage or setting.
    Reconcile(ReconcileOptions),
    /// Publish again what the stream of domain events has lost, from the audit records: the same events with the same
    /// ids, in their order. For where the settings and secrets of the deployment are; may be run any number of times.
    ///
    /// A stream that is gone is made by `catalyst migrate` first. Events go through the outboxes of the services that
    /// emitted them, ahead of what waits there, so the services must run for it to end. Consumers that have applied an
    /// event know it by its id.
    Rebuild(RebuildOptions),
}

/// Where the bus is, and as whom to listen.
#[derive(Debug, clap::Args)]
pub(crate) struct BusOptions {
    /// NATS servers [default: those of the running `catalyst up`].
    #[arg(long, env = "CATALYST_NATS_URL", value_name = "URL")]
    nats_url: Option<String>,
    /// Credentials file of a tenant or an operator [default: the operator's of the data folder].
    #[arg(long, env = "CATALYST_NATS_CREDS", value_name = "FILE")]
    creds: Option<PathBuf>,
    /// File with the authorities (PEM) that a tls URL of NATS is verified by [default: the system's].
    #[arg(long, env = "CATALYST_NATS_CA_FILE", value_name = "FILE")]
    nats_ca_file: Option<PathBuf>,
}

/// A connection, and what goes wrong on it later.
pub(super) struct Connection {
    pub(super) client: async_nats::Client,
    events: mpsc::UnboundedReceiver<Event>,
    /// The tenant that the credentials are bound to.
    tenant: Option<String>,
}

impl BusOptions {
    pub(super) async fn connect(&self, options: &ClientOptions) -> anyhow::Result<Connection> {
        let data_dir = options.data_dir()?;
        let url = match &self.nats_url {
            Some(url) => url.clone(),
            None => up::Running::read(&data_dir)?.nats_url,
        };
        options.tls.plaintext().check_nats_urls(&url)?;
        let path = self
            .creds
            .clone()
            .unwrap_or_else(|| data_dir.join("identity/credentials/operator.creds"));
        let creds = read_credentials(&path)?;
        let tenant = tenant_of(&creds);
        let (sender, events) = mpsc::unbounded_channel();
        let mut connecting = ConnectOptions::with_credentials(&creds)
            .with_context(|| format!("{} holds no NATS credentials", path.display()))?
            .name("catalyst-cli")
            .connection_timeout(Duration::from_secs(5))
            .event_callback(move |event| {
                // The receiver goes with the command.
                let _ = sender.send(event);
                ready(())
            });
        // For the servers of the cluster as well that the first one tells of.
        connecting = connecting.require_tls(url.contains("tls://"));
        if let Some(authorities) = &self.nats_ca_file {
            connecting = connecting.add_root_certificates(authorities.clone());
        }
        if tenant.is_none() {
            connecting = connecting.custom_inbox_prefix("_INBOX_operator");
        }
        let servers: Vec<&str> = url.split(',').map(str::trim).collect();
        let client = connecting.connect(servers).await.map_err(|error| match error.kind() {
            ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
                anyhow::Error::new(Forbidden::new(format!(
                    "NATS refuses {}: it was revoked or belongs to another deployment",
                    path.display()
                )))
            }
            _ => Unavailable::new(format!(
                "NATS does not answer at {url} ({error}): start it with `catalyst up`, or name another with --nats-url"
            ))
            .into(),
        })?;
        Ok(Connection {
            client,
            events,
            tenant,
        })
    }
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, client: &ClientOptions, out: &Output) -> anyhow::Result<()> {
        match self {
            Self::Tail { security, bus } => {
                let mut connection = bus.connect(client).await?;
                let tenant = match (&client.tenant, &connection.tenant) {
                    (Some(name), _) => Some(client.find_tenant(name).await?.to_string()),
                    (None, bound) => bound.clone(),
                };
                tokio::select! {
                    ended = tail(&mut connection, tenant.as_deref(), security, out) => ended,
                    stopped = tokio::signal::ctrl_c() => Ok(stopped?),
                }
            }
            Self::DeadLetters(command) => command.run(client, out).await,
            Self::Reconcile(options) => options.run(client, out).await,
            Self::Rebuild(options) => options.run(client, out).await,
        }
    }
}

async fn tail(
    connection: &mut Connection,
    tenant: Option<&str>,
    security: bool,
    out: &Output,
) -> anyhow::Result<()> {
    let subjects = subjects(tenant, security);
    let mut heard = futures::stream::SelectAll::new();
    for subject in &subjects {
        heard.push(connection.client.subscribe(subject.clone()).await?);
    }
    connection.client.flush().await?;
    note(&format!("hearing {}; Ctrl-C ends it", subjects.join(", ")));
    loop {
        tokio::select! {
            Some(message) = heard.next() => Line::read(&message).print(out)?,
            Some(event) = connection.events.recv() => match event {
                Event::ServerError(error) => {
                    return Err(Forbidden::new(refusal(&error.to_string())).into());
                }
                Event::Disconnected => note("the connection to NATS is lost: events are missed until it is back"),
                Event::SlowConsumer(_) => note("events come faster than they are shown: some are missed"),
                _ => {}
            },
            else => return Ok(()),
        }
    }
}

fn refusal(error: &str) -> String {
    if error.contains("Permissions Violation") {
        format!("NATS refuses this listener: {error}; a tenant may hear itself alone")
    } else {
        format!("NATS cut this listener off: {error}; ask the operator for new credentials")
    }
}

fn subjects(tenant: Option<&str>, security: bool) -> Vec<String> {
    let words: &[&str] = if security {
        &["catalyst", "security"]
    } else {
        &["catalyst"]
    };
    words
        .iter()
        .map(|word| match tenant {
            Some(tenant) => format!("{word}.{tenant}.>"),
            None => format!("{word}.>"),
        })
        .collect()
}

fn read_credentials(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| {
        format!(
            "cannot read the credentials {}: name a file with --creds, or the folder of `catalyst up` with --data-dir",
            path.display()
        )
    })
}

/// The tenant that the token in a credentials file is tagged with.
fn tenant_of(creds: &str) -> Option<String> {
    let token = creds.lines().find(|line| line.starts_with("ey"))?;
    let payload = BASE64URL_NOPAD
        .decode(token.split('.').nth(1)?.as_bytes())
        .ok()?;
    let claims: Value = serde_json::from_slice(&payload).ok()?;
    let tags = claims.get("nats")?.get("tags")?.as_array()?;
    tags.iter()
        .find_map(|tag| tag.as_str()?.strip_prefix("tenant:"))
        .map(str::to_owned)
}

/// An event as it is shown; what an envelope lacks stays empty.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Line {
    pub(super) time: String,
    pub(super) tenant: String,
    pub(super) r#type: String,
    pub(super) id: String,
    pub(super) subject: String,
    pub(super) version: String,
    pub(super) actor: String,
    body: Option<DynamicMessage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    undecodable: Option<String>,
}

impl Line {
    fn read(message: &Message) -> Self {
        Self::of(message.headers.as_ref(), &message.payload)
    }

    pub(super) fn of(headers: Option<&HeaderMap>, payload: &[u8]) -> Self {
        let text = |name: &str| {
            let value = headers.and_then(|headers| headers.get(name));
            value.map_or_else(String::new, |value| value.as_str().to_owned())
        };
        let r#type = text("ce-type");
        let decoded = contract::decode(&r#type, payload);
        Self {
            time: text("ce-time"),
            tenant: text("ce-tenantid"),
            id: text("ce-id"),
            subject: text("ce-subject"),
            version: text("ce-sequence"),
            actor: format!("{}:{}", text("ce-authtype"), text("ce-authid")),
            undecodable: decoded.as_ref().err().map(|error| format!("{error:#}")),
            body: decoded.ok(),
            r#type,
        }
    }

    fn print(&self, out: &Output) -> anyhow::Result<()> {
        if out.is_json() {
            return out.json(self);
        }
        let body = match (&self.body, &self.undecodable) {
            (Some(body), _) => serde_json::to_string(body)?,
            (None, Some(why)) => why.clone(),
            (None, None) => String::new(),
        };
        let Self {
            time,
            tenant,
            r#type,
            subject,
            version,
            actor,
            ..
        } = self;
        let line = format!("{time}  {tenant}  {type}  {subject}#{version}  {actor}  {body}");
        out.line(&printable(&line))
    }
}

#[cfg(test)]
mod tests {
    use prost::{Message as _, Name as _};
    use proto::projects::v1::ProjectCreated;

    use super::*;

    #[test]
    fn a_listener_of_one_tenant_asks_for_its_subjects_alone() {
        assert_eq!(subjects(Some("0190"), false), ["catalyst.0190.>"]);
        assert_eq!(subjects(None, true), ["catalyst.>", "security.>"]);
    }

    #[test]
    fn the_tenant_of_credentials_is_read_from_their_token() {
        let claims = r#"{"nats":{"tags":["x","tenant:0190b5a4-9c3e-7e51-8f7a-2f4f7a5b6c7d"]}}"#;
        let creds = format!(
            "-----BEGIN NATS USER JWT-----\neyJ0.{}.sig\n------END\n",
            BASE64URL_NOPAD.encode(claims.as_bytes())
        );
        assert_eq!(
            tenant_of(&creds).as_deref(),
            Some("0190b5a4-9c3e-7e51-8f7a-2f4f7a5b6c7d")
        );
        assert_eq!(tenant_of("nothing"), None);
    }

    #[test]
    fn an_event_is_shown_decoded() {
        let body = ProjectCreated {
            code: "APOLLO".to_owned(),
            ..Default::default()
        };
        let mut headers = HeaderMap::new();
        headers.insert("ce-type", ProjectCreated::full_name().as_str());
        let line = Line::of(Some(&headers), &body.encode_to_vec());
        let json = serde_json::to_value(&line).unwrap();
        assert_eq!(json["body"]["code"], "APOLLO");
        assert_eq!(json["type"], "catalyst.projects.v1.ProjectCreated");
    }

    #[test]
    fn what_cannot_be_decoded_is_shown_with_the_reason() {
        let line = Line::of(None, b"x");
        assert!(line.body.is_none());
        assert!(line.undecodable.unwrap().contains("not in the contract"));
    }
}
