//! Tries operations on the bus as one user, and sees what the server refuses.
//!
//! Nothing that is tried has an effect, allowed or not: a message is no JSON, so that no request of JetStream's takes
//! it; it expects a stream that is not there, so that no stream stores it; and it names no reply. A subscription ends
//! with the trial.

use std::collections::HashSet;
use std::future::ready;
use std::time::Duration;

use anyhow::{Context as _, bail};
use async_nats::{Client, ConnectOptions, Event, HeaderMap, Subscriber};
use futures::StreamExt as _;
use kit::ctx::Clock;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::operations::{Operation, Verb};

/// Operations between two round trips: the client keeps 128 refusals for its listener and drops further ones.
const AT_ONCE: usize = 40;
/// How long the server may take to come to the end of what was sent.
const PATIENCE: Duration = Duration::from_secs(10);
/// The group that is subscribed in.
const GROUP: &str = "trial";
/// The beginning of a JSON object, and no more.
const BODY: &str = "{";

/// Tries each operation; whether the server let it pass, in the same order.
pub async fn try_all(
    options: ConnectOptions,
    servers: &[&str],
    operations: &[Operation],
) -> anyhow::Result<Vec<bool>> {
    let (sender, refusals) = mpsc::unbounded_channel();
    let options = options.event_callback(move |event| {
        if let Event::ServerError(error) = event {
            // The receiver goes with the trial.
            let _ = sender.send(error.to_string());
        }
        ready(())
    });
    let client = options.connect(servers).await?;
    let mut connection = Connection { client, refusals };
    let mut passed = Vec::with_capacity(operations.len());
    for some in operations.chunks(AT_ONCE) {
        passed.extend(connection.try_some(some).await?);
    }
    Ok(passed)
}

struct Connection {
    client: Client,
    refusals: mpsc::UnboundedReceiver<String>,
}

impl Connection {
    async fn try_some(&mut self, operations: &[Operation]) -> anyhow::Result<Vec<bool>> {
        let mut subscriptions = Vec::new();
        for operation in operations {
            let subject = operation.subject.clone();
            match operation.verb {
                Verb::Hear => subscriptions.push(self.client.subscribe(subject).await?),
                Verb::Share => {
                    let group = GROUP.to_owned();
                    subscriptions.push(self.client.queue_subscribe(subject, group).await?);
                }
                Verb::Say => self.say(subject).await?,
            }
        }
        let refused = self.round_trip().await?;
        Ok(operations
            .iter()
            .map(|operation| !refused.contains(&refusal(operation.verb, &operation.subject)))
            .collect())
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "what is tried is the server's refusal; no stream takes the message"
    )]
    async fn say(&self, subject: String) -> anyhow::Result<()> {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Expected-Stream", "NOTHING");
        self.client
            .publish_with_headers(subject, headers, BODY.into())
            .await?;
        Ok(())
    }

    /// What the server has refused since the last time, once it has come to the end of what was sent.
    ///
    /// It comes last to a subject of our own: it either refuses it, to hear or to say, or lets the message through.
    async fn round_trip(&mut self) -> anyhow::Result<HashSet<String>> {
        let last = format!("trial.{}", Clock::system().new_uuid().simple());
        let mut echo = self.client.subscribe(last.clone()).await?;
        self.say(last.clone()).await?;
        let own = [Verb::Hear, Verb::Say].map(|verb| refusal(verb, &last));
        timeout(PATIENCE, self.refusals_until(&own, &mut echo))
            .await
            .context("the server does not answer")?
    }

    async fn refusals_until(
        &mut self,
        own: &[String],
        echo: &mut Subscriber,
    ) -> anyhow::Result<HashSet<String>> {
        let mut refused = HashSet::new();
        loop {
            tokio::select! {
                told = self.refusals.recv() => {
                    let Some(told) = told else { bail!("the connection is gone") };
                    let told = plain(&told);
                    if own.contains(&told) {
                        return Ok(refused);
                    }
                    refused.insert(told);
                }
                Some(_) = echo.next() => {
                    // Refusals reach us by another way than messages, and may be a little behind.
                    while let Ok(Some(told)) = timeout(Duration::from_millis(200), self.refusals.recv()).await {
                        refused.insert(plain(&told));
                    }
                    return Ok(refused);
                }
            }
        }
    }
}

/// A refusal as [`refusal`] spells it.
fn plain(told: &str) -> String {
    told.trim_start_matches("nats: ").to_lowercase()
}

/// What the server says when it refuses, in lowercase.
fn refusal(verb: Verb, subject: &str) -> String {
    let told = match verb {
        Verb::Hear => format!("Permissions Violation for Subscription to \"{subject}\""),
        Verb::Share => {
            format!(
                "Permissions Violation for Subscription to \"{subject}\" using queue \"{GROUP}\""
            )
        }
        Verb::Say => format!("Permissions Violation for Publish to \"{subject}\""),
    };
    told.to_lowercase()
}
