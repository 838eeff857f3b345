//! Signs where the logs end, and puts it where who writes the logs cannot change it.
//!
//! Invariant: a log is signed only if it goes on from what was signed of it before; one that does not is left as it
//! was signed, and told of, while the others go on. Replicas sign by turns: an entry is stored only after the last one
//! that its signer has read, so none is signed twice and a crash between signing and storing leaves nothing behind.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use kit::ctx::Actor;
use kit::db::ExemptDb;
use kit::error::chain;
use kit::host::StartError;
use kit::ledger::{Appended, CHECKPOINTS, Ledger};
use kit::settings::{SettingsError, read_secret};
use kit::{Kit, TenantId};
use opentelemetry::global;
use opentelemetry::metrics::{Counter, Gauge};
use prost::Message;
use proto::audit::v1 as pb;
use proto::common::v1::{AuditLogDiverged, Severity};
use secrecy::ExposeSecret;
use time::OffsetDateTime;
use tokio::sync::watch;

use crate::attempt::SERVICE;
use crate::chain::Head;
use crate::checkpoint::{LogKey, MAX_HEADS, SigningKey, Tip};
use crate::error::Error;
use crate::store;

/// So many records are signed before their time.
const MANY_RECORDS: i64 = 1_000;
/// Between two looks at the ends of the logs.
const LOOK: Duration = Duration::from_secs(1);
/// Between two looks that something appended asks for.
const BREATH: Duration = Duration::from_millis(250);
/// When nothing moves, a checkpoint says so after so many intervals: its absence is then a sign by itself.
const IDLE_INTERVALS: i32 = 10;
/// After so many checkpoints all heads are signed again, so that whoever starts need not read further back.
const COMPLETE_AFTER: i64 = 1_000;
/// A log that diverged is told of again after this.
const TOLD_FOR: time::Duration = time::Duration::HOUR;

/// How checkpoints are made.
#[derive(Clone, Debug, clap::Args)]
pub struct CheckpointSettings {
    /// File with the key that signs checkpoints of the audit logs: PKCS#8 in PEM, P-256. Required by audit.
    #[arg(long, env = "CATALYST_AUDIT_CHECKPOINT_KEY_FILE")]
    pub audit_checkpoint_key_file: Option<PathBuf>,
    /// Seconds after which a log that has moved is signed at the latest; after 1,000 records it is signed before.
    #[arg(long, env = "CATALYST_AUDIT_CHECKPOINT_SECONDS", default_value_t = 60,
          value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub audit_checkpoint_seconds: u32,
}

impl Default for CheckpointSettings {
    fn default() -> Self {
        Self {
            audit_checkpoint_key_file: None,
            audit_checkpoint_seconds: 60,
        }
    }
}

struct Metrics {
    age: Gauge<f64>,
    signed: Counter<u64>,
    diverged: Gauge<u64>,
}

static METRICS: LazyLock<Metrics> = LazyLock::new(|| {
    let meter = global::meter("catalyst");
    Metrics {
        age: meter
            .f64_gauge("catalyst.audit.checkpoint.age")
            .with_unit("s")
            .build(),
        signed: meter.u64_counter("catalyst.audit.checkpoints").build(),
        diverged: meter.u64_gauge("catalyst.audit.logs_diverged").build(),
    }
});

/// The task. Replicas run it side by side.
pub(crate) struct Checkpointer {
    key: SigningKey,
    interval: time::Duration,
    ledger: Ledger,
    exempt: ExemptDb,
    kit: Kit,
    appended: watch::Receiver<()>,
    tip: Tip,
    /// What was signed last of each log.
    signed: BTreeMap<LogKey, Head>,
    told: HashMap<LogKey, OffsetDateTime>,
}

impl Checkpointer {
    /// Reads the key and connects as the user that may publish checkpoints and nothing else.
    pub(crate) async fn open(
        settings: &CheckpointSettings,
        kit: &Kit,
        exempt: ExemptDb,
        appended: watch::Receiver<()>,
    ) -> Result<Self, StartError> {
        let variable = "CATALYST_AUDIT_CHECKPOINT_KEY_FILE";
        let path = settings.audit_checkpoint_key_file.as_ref().ok_or_else(|| {
            SettingsError::new(
                variable,
                "is required: name the key that `catalyst keys` puts into audit/checkpoint.pem",
            )
        })?;
        let pem = read_secret(variable, path)?;
        let key = SigningKey::from_pem(pem.expose_secret()).ok_or_else(|| {
            SettingsError::new(
                variable,
                format!("{} is no P-256 private key in PKCS#8 PEM", path.display()),
            )
        })?;
        Ok(Self {
            key,
            interval: time::Duration::seconds(settings.audit_checkpoint_seconds.into()),
            ledger: Ledger::connect(&kit.nats, CHECKPOINTS).await?,
            exempt,
            kit: kit.clone(),
            appended,
            tip: Tip::default(),
            signed: BTreeMap::new(),
            told: HashMap::new(),
        })
    }

    /// Runs until the process stops.
    pub(crate) async fn run(mut self) {
        let tasks = self.kit.tasks.clone();
        while !tasks.is_stopping() {
            if let Err(error) = self.round().await {
                tracing::warn!(error = %chain(&error), "no checkpoint could be made and it will be tried again");
            }
            let now = self.kit.clock.now();
            if let Some(time) = self.tip.time {
                METRICS.age.record((now - time).as_seconds_f64(), &[]);
            }
            tokio::select! {
                () = tasks.stopping() => return,
                () = tokio::time::sleep(LOOK) => {}
                Ok(()) = self.appended.changed() => { tasks.pause(BREATH).await; }
            }
        }
    }

    /// Reads what others signed, looks where the logs end, and signs if it is time.
    async fn round(&mut self) -> Result<(), Error> {
        self.catch_up().await?;
        let ends = store::heads::all(&mut self.exempt.reader().await?).await?;
        let (moved, diverged) = self.judge(&ends).await?;
        METRICS
            .diverged
            .record(u64::try_from(diverged.len()).unwrap_or(u64::MAX), &[]);
        let now = self.kit.clock.now();
        for (key, found) in diverged {
            self.tell(key, found, now).await?;
        }
        if self.is_due(&moved, now) {
            self.sign(moved, now).await?;
        }
        Ok(())
    }

    /// Goes on to the last checkpoint that is stored, whoever signed it.
    async fn catch_up(&mut self) -> Result<(), Error> {
        let last = self.ledger.last().await?;
        let known = u64::try_from(self.tip.number).unwrap_or_default();
        if last == known {
            return Ok(());
        }
        if last < known {
            let problem = format!(
                "the checkpoints end at {last}, and {known} was stored: the stream was removed or replaced"
            );
            return Err(kit::Error::internal(problem).into());
        }
        let from = if known == 0 {
            self.beginning(last).await?
        } else {
            known + 1
        };
        // In pieces: a start reads a thousand.
        for (number, entry) in self.ledger.read(from..=last).await? {
            self.take(number, entry.as_deref().unwrap_or_default());
        }
        Ok(())
    }

    /// From which checkpoint on every log is found at least once.
    async fn beginning(&self, last: u64) -> Result<u64, Error> {
        let entries = self.ledger.read([last]).await?;
        let complete_from = entries
            .iter()
            .filter_map(|(_, entry)| entry.as_deref())
            .filter_map(|entry| pb::SignedCheckpoint::decode(entry).ok())
            .filter_map(|signed| pb::Checkpoint::decode(signed.checkpoint.as_slice()).ok())
            .find_map(|checkpoint| u64::try_from(checkpoint.complete_from).ok());
        Ok(complete_from.unwrap_or_default().max(1))
    }

    /// Takes what is stored as a checkpoint. Verifiers judge signatures; who may publish here is the broker's matter.
    fn take(&mut self, number: u64, entry: &[u8]) {
        let signed = pb::SignedCheckpoint::decode(entry).unwrap_or_else(|_| {
            tracing::error!(
                checkpoint.number = number,
                "what is stored among the checkpoints is none"
            );
            pb::SignedCheckpoint::default()
        });
        let number = i64::try_from(number).unwrap_or(i64::MAX);
        let heads = self.tip.move_to(number, &signed);
        self.signed.extend(heads);
    }

    /// The logs that go on from what was signed and have moved, and those that do not go on, with their ends.
    async fn judge(
        &self,
        ends: &[(LogKey, Head)],
    ) -> Result<(Vec<(LogKey, Head)>, Vec<(LogKey, Head)>), Error> {
        let by_key: HashMap<LogKey, Head> = ends.iter().copied().collect();
        let moved: Vec<(LogKey, Head)> = ends
            .iter()
            .filter(|(key, end)| self.signed.get(key) != Some(end))
            .copied()
            .collect();
        let places: Vec<(LogKey, i64)> = moved
            .iter()
            .flat_map(|(key, end)| {
                let signed = self.signed.get(key).map(|signed| (*key, signed.sequence));
                signed.into_iter().chain([(*key, end.sequence)])
            })
            .collect();
        let mut stored = HashMap::new();
        if !places.is_empty() {
            let read = store::heads::hashes(&mut self.exempt.reader().await?, &places).await?;
            stored.extend(read.into_iter().map(|(key, at)| ((key, at.sequence), at)));
        }
        let is_stored = |key: LogKey, head: &Head| stored.get(&(key, head.sequence)) == Some(head);
        let (moved, mut diverged): (Vec<_>, Vec<_>) = moved.into_iter().partition(|(key, end)| {
            is_stored(*key, end)
                && self
                    .signed
                    .get(key)
                    .is_none_or(|signed| signed.sequence < end.sequence && is_stored(*key, signed))
        });
        let gone = self.signed.keys().filter(|key| !by_key.contains_key(key));
        diverged.extend(gone.map(|key| (*key, Head::START)));
        Ok((moved, diverged))
    }

    fn is_due(&self, moved: &[(LogKey, Head)], now: OffsetDateTime) -> bool {
        let Some(last) = self.tip.time else {
            return true;
        };
        let records: i64 = moved
            .iter()
            .map(|(key, end)| end.sequence - self.signed.get(key).map_or(0, |it| it.sequence))
            .sum();
        let since = now - last;
        records >= MANY_RECORDS
            || (records > 0 && since >= self.interval)
            || since >= self.interval * IDLE_INTERVALS
    }

    /// Signs and stores where logs ended, in as many checkpoints as they need; ends when another replica was first.
    async fn sign(&mut self, moved: Vec<(LogKey, Head)>, now: OffsetDateTime) -> Result<(), Error> {
        let begins_complete = self.tip.number + 1;
        let is_complete =
            self.tip.number == 0 || begins_complete - self.tip.complete_from >= COMPLETE_AFTER;
        let heads: Vec<(LogKey, Head)> = if is_complete {
            let mut all = self.signed.clone();
            all.extend(moved);
            all.into_iter().collect()
        } else {
            moved
        };
        let mut pieces: Vec<&[(LogKey, Head)]> = heads.chunks(MAX_HEADS).collect();
        if pieces.is_empty() {
            pieces.push(&[]);
        }
        let last_piece = pieces.len() - 1;
        for (i, piece) in pieces.into_iter().enumerate() {
            // Only with the last piece is everything there.
            let complete_from = if is_complete && i == last_piece {
                begins_complete
            } else {
                self.tip.complete_from.max(1)
            };
            let checkpoint = self.tip.next(now, piece, complete_from);
            let signed = self.key.sign(&checkpoint).map_err(kit::Error::internal)?;
            let last = u64::try_from(self.tip.number).unwrap_or_default();
            let entry = signed.encode_to_vec();
            match self.ledger.append(last, entry.clone()).await? {
                Appended::Behind => return Ok(()),
                Appended::Stored => self.take(last + 1, &entry),
            }
            METRICS.signed.add(1, &[]);
        }
        Ok(())
    }

    /// Says that a log is not what was signed: to the operator, by an event that alerts.
    async fn tell(&mut self, key: LogKey, found: Head, now: OffsetDateTime) -> Result<(), Error> {
        if self
            .told
            .get(&key)
            .is_some_and(|told| now - *told < TOLD_FOR)
        {
            return Ok(());
        }
        let signed = self.signed.get(&key).map_or(0, |head| head.sequence);
        tracing::error!(tenant.id = %key.tenant, log.operator_only = key.log.is_operator_only(), log.signed = signed, log.found = found.sequence, "a log of audit does not go on from its last checkpoint and is not signed: run `catalyst audit verify`");
        let event = AuditLogDiverged {
            severity: Severity::High.into(),
            log_tenant_id: key.tenant.to_string(),
            operator_only: key.log.is_operator_only(),
            signed_sequence: signed,
            found_sequence: found.sequence,
            checkpoint_number: self.tip.number,
        };
        self.kit
            .raise(
                TenantId::PLATFORM,
                Actor::Service(SERVICE.to_owned()),
                &event,
            )
            .await?;
        self.told.insert(key, now);
        Ok(())
    }
}
