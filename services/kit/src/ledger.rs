//! A stream that is only ever appended to, by one user of the broker that may do nothing else.
//!
//! Invariant: an entry is stored only directly after the last one that its writer has seen, so that of two writers one
//! is told to look again, and no answer that was lost leads to a second entry.

use async_nats::HeaderMap;
use async_nats::jetstream::stream::{RawMessageErrorKind, Stream};
use bytes::Bytes;

use crate::Error;
use crate::bus::{Bus, BusError};
use crate::settings::NatsSettings;

/// `wrong last sequence`: another writer was first.
const WRONG_LAST_SEQUENCE: u32 = 10_071;

/// Which stream, under which subject, by whom.
#[derive(Clone, Copy, Debug)]
pub struct LedgerName {
    /// The stream.
    pub stream: &'static str,
    /// The only subject of the stream.
    pub subject: &'static str,
    /// The user that appends.
    pub user: &'static str,
}

/// The signed checkpoints of the audit logs.
pub const CHECKPOINTS: LedgerName = LedgerName {
    stream: "AUDIT_CHECKPOINTS",
    subject: "audit_checkpoint",
    user: "audit-checkpoint",
};

/// Whether an entry was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It was, and is synced.
    Stored,
    /// Others were stored since: read them first.
    Behind,
}

/// A connection of the user that appends.
#[derive(Clone, Debug)]
pub struct Ledger {
    bus: Bus,
    name: LedgerName,
}

impl Ledger {
    /// Connects with the user's own credentials file.
    pub async fn connect(settings: &NatsSettings, name: LedgerName) -> Result<Self, BusError> {
        let bus = Bus::connect(settings, name.user).await?;
        Ok(Self { bus, name })
    }

    /// The sequence of the last entry; 0 when there is none.
    pub async fn last(&self) -> Result<u64, Error> {
        let stream = self.stream().await?;
        Ok(stream.cached_info().state.last_sequence)
    }

    /// The entries with these sequences; none in the place of one that is gone.
    pub async fn read(
        &self,
        sequences: impl IntoIterator<Item = u64>,
    ) -> Result<Vec<(u64, Option<Bytes>)>, Error> {
        let stream = self.stream().await?;
        let mut entries = Vec::new();
        for sequence in sequences {
            let entry = match stream.get_raw_message(sequence).await {
                Ok(message) => Some(message.payload),
                Err(error) if matches!(error.kind(), RawMessageErrorKind::NoMessageFound) => None,
                Err(error) => return Err(unavailable(error)),
            };
            entries.push((sequence, entry));
        }
        Ok(entries)
    }

    /// Appends an entry directly after `last`. After an error it is unknown whether it was stored: read again.
    pub async fn append(&self, last: u64, entry: Vec<u8>) -> Result<Appended, Error> {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Expected-Last-Sequence", last.to_string().as_str());
        headers.insert("Nats-Expected-Stream", self.name.stream);
        let answer = self
            .bus
            .request(self.name.subject.to_owned(), headers, entry.into())
            .await
            .map_err(unavailable)?;
        match answer.error {
            Some(refusal) if refusal.err_code == WRONG_LAST_SEQUENCE => Ok(Appended::Behind),
            Some(refusal) => Err(Error::internal(format!(
                "the broker refused an entry of {}: {}",
                self.name.stream, refusal.description
            ))),
            None if answer.stream.is_none() => Err(Error::internal(
                "the broker's answer to an entry is no acknowledgement",
            )),
            None => Ok(Appended::Stored),
        }
    }

    async fn stream(&self) -> Result<Stream, Error> {
        let stream = self.bus.jetstream().get_stream(self.name.stream).await;
        stream.map_err(unavailable)
    }
}

fn unavailable(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Unavailable {
        what: "the broker",
        source: Box::new(error),
    }
}
