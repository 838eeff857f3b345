//! `catalyst events dead-letters`: what consumers set aside, and a second chance for it.
//!
//! A replayed event reaches every consumer again; those that have applied it know it by its id and do nothing.

use anyhow::Context as _;
use async_nats::HeaderMap;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{RawMessageErrorKind, Stream};
use clap::Subcommand;
use kit::events;
use serde::Serialize;
use time::format_description::well_known::Rfc3339;

use super::ClientOptions;
use super::error::{Unavailable, Usage};
use super::events::{BusOptions, Connection, Line};
use super::output::{Output, note};

const STREAM: &str = "DEAD_LETTERS";

/// What can be done with dead letters.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List them, newest first.
    List {
        /// Show at most this many.
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
        #[command(flatten)]
        bus: BusOptions,
    },
    /// Publish them again, oldest first, after the cause is mended. What was set aside behind an event is applied
    /// once that event is.
    Replay {
        /// Their sequences, as listed.
        #[arg(required = true)]
        sequences: Vec<u64>,
        #[command(flatten)]
        bus: BusOptions,
    },
}

/// A dead letter as it is shown.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Letter {
    sequence: u64,
    set_aside: String,
    consumer: String,
    reason: String,
    event: Line,
}

impl Command {
    pub(super) async fn run(self, client: &ClientOptions, out: &Output) -> anyhow::Result<()> {
        match self {
            Self::List { limit, bus } => {
                let letters = list(&open(&bus.connect(client).await?).await?, limit).await?;
                show(&letters, out)
            }
            Self::Replay { mut sequences, bus } => {
                // In the order in which they were set aside, which is that of each aggregate.
                sequences.sort_unstable();
                sequences.dedup();
                let connection = bus.connect(client).await?;
                let stream = open(&connection).await?;
                for sequence in sequences {
                    let message = read(&stream, sequence).await?.with_context(|| {
                        format!("there is no dead letter {sequence}: `catalyst events dead-letters list` shows them")
                    })?;
                    replay(&connection, message).await?;
                    note(&format!("{sequence} is published again"));
                }
                Ok(())
            }
        }
    }
}

async fn open(connection: &Connection) -> anyhow::Result<Stream> {
    let jetstream = async_nats::jetstream::new(connection.client.clone());
    jetstream.get_stream(STREAM).await.map_err(|error| {
        Unavailable::new(format!(
            "the stream of dead letters cannot be read ({error}): give an operator's credentials, and run `catalyst migrate` if it is new"
        ))
        .into()
    })
}

async fn list(stream: &Stream, limit: usize) -> anyhow::Result<Vec<Letter>> {
    let state = &stream.cached_info().state;
    let mut letters = Vec::new();
    // An empty stream counts from 0, where no message is.
    for sequence in (state.first_sequence.max(1)..=state.last_sequence).rev() {
        if letters.len() == limit {
            break;
        }
        if let Some(message) = read(stream, sequence).await? {
            letters.push(Letter::of(&message));
        }
    }
    Ok(letters)
}

/// None where the stream has a gap.
async fn read(stream: &Stream, sequence: u64) -> anyhow::Result<Option<StreamMessage>> {
    match stream.get_raw_message(sequence).await {
        Ok(message) => Ok(Some(message)),
        Err(error) if matches!(error.kind(), RawMessageErrorKind::NoMessageFound) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read the dead letter {sequence}")),
    }
}

fn show(letters: &[Letter], out: &Output) -> anyhow::Result<()> {
    if out.is_json() {
        return letters.iter().try_for_each(|letter| out.json(letter));
    }
    let rows = letters.iter().map(|letter| {
        vec![
            letter.sequence.to_string(),
            letter.set_aside.clone(),
            letter.consumer.clone(),
            letter.event.tenant.clone(),
            letter.event.r#type.clone(),
            letter.event.id.clone(),
            letter.reason.clone(),
        ]
    });
    let columns = [
        "seq",
        "set aside",
        "consumer",
        "tenant",
        "type",
        "event",
        "reason",
    ];
    out.table(&columns, rows)
}

impl Letter {
    fn of(message: &StreamMessage) -> Self {
        let text = |name: &str| {
            let value = message.headers.get(name);
            value.map_or_else(String::new, |value| value.as_str().to_owned())
        };
        Self {
            sequence: message.sequence,
            set_aside: message.time.format(&Rfc3339).unwrap_or_default(),
            consumer: text("dead-letter-consumer"),
            reason: text("dead-letter-reason"),
            event: Line::of(Some(&message.headers), &message.payload),
        }
    }
}

/// Publishes the event under the subject that it first had, and waits until it is stored.
async fn replay(connection: &Connection, message: StreamMessage) -> anyhow::Result<()> {
    let subject = first_subject(&message.subject)?;
    let mut headers = HeaderMap::new();
    for (name, values) in message.headers.iter() {
        let is_own = name.to_string().starts_with("dead-letter-");
        for value in values.iter().filter(|_| !is_own) {
            headers.append(name.clone(), value.clone());
        }
    }
    // No `Nats-Msg-Id`: the stream would take it for a repeat and store nothing.
    let answer = connection
        .client
        .request_with_headers(subject, headers, message.payload)
        .await
        .context("the event may not have been stored: replay it again")?;
    let answer: serde_json::Value = serde_json::from_slice(&answer.payload)?;
    match answer.get("error") {
        None => Ok(()),
        Some(error) => anyhow::bail!("the stream refuses the event: {error}"),
    }
}

/// `dead_letter.audit.catalyst.<tenant>.projects.project_created` was `ingest.<tenant>.projects.project_created`,
/// and `dead_letter.audit.security.<tenant>.rate_limited` was `ingest_security.<tenant>.rate_limited`.
fn first_subject(subject: &str) -> anyhow::Result<String> {
    let mut words = subject.splitn(4, '.');
    if let (Some("dead_letter"), Some(_), Some(heard), Some(rest)) =
        (words.next(), words.next(), words.next(), words.next())
    {
        let streams = [events::Stream::Domain, events::Stream::Security];
        if let Some(stream) = streams.iter().find(|stream| stream.heard() == heard) {
            return Ok(format!("{}.{rest}", stream.ingest()));
        }
    }
    Err(Usage::new(format!(
        "{subject} is no event of a stream: it cannot be published again"
    ))
    .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_goes_back_to_where_it_was_published() {
        assert_eq!(
            first_subject("dead_letter.audit.catalyst.0190.projects.project_created").unwrap(),
            "ingest.0190.projects.project_created"
        );
        assert_eq!(
            first_subject("dead_letter.audit.security.0190.rate_limited").unwrap(),
            "ingest_security.0190.rate_limited"
        );
        assert!(first_subject("dead_letter.audit.overlong").is_err());
        assert!(first_subject("catalyst.0190.projects.project_created").is_err());
    }
}
