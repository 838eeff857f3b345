//! The audit trail outside the service: read from the services and the broker, kept in a file, verified on all cores.
//!
//! What is judged is decided in the audit crate; here is only how its pieces get there, in order.

mod links;
mod source;
mod file;

use audit::checkpoint::{Anchor, ChainFault, Checked, Checkpoints, PublicKeys};
use audit::trail::{LogReport, Trail};
use kit::TenantId;
use proto::audit::v1 as pb;
use time::OffsetDateTime;

pub use file::{NoExport, export, verify_file};
pub use links::Batch;
pub use source::{StoredCheckpoints, checkpoints, records};

/// What a verification goes by.
#[derive(Debug)]
pub struct Rules {
    /// The keys whose signatures count.
    pub keys: PublicKeys,
    /// A checkpoint that was kept from an earlier verification.
    pub anchor: Option<Anchor>,
    /// The one tenant that is verified; none for all.
    pub only: Option<TenantId>,
    /// How long a record may be without a checkpoint past it.
    pub patience: time::Duration,
}

/// What a verification found.
#[derive(Debug)]
pub struct Verdict {
    /// What is wrong with the checkpoints.
    pub chain: Vec<ChainFault>,
    /// Each log, by tenant.
    pub logs: Vec<LogReport>,
    /// How many records were read.
    pub records: u64,
    /// How many checkpoints were read.
    pub checkpoints: u64,
    /// The last good checkpoint: keep it as the anchor of the next verification.
    pub last: Option<Anchor>,
}

impl Verdict {
    /// Whether nothing is wrong.
    pub fn is_good(&self) -> bool {
        self.chain.is_empty() && self.logs.iter().all(|log| log.bad.is_none())
    }
}

impl Rules {
    /// Judges checkpoints; `last` is the number of the last that the broker had.
    fn check(
        &self,
        signed: impl IntoIterator<Item = pb::SignedCheckpoint>,
        last: Option<i64>,
    ) -> Checked {
        let mut chain = Checkpoints::new(&self.keys, self.anchor.as_ref(), self.only);
        for checkpoint in signed {
            chain.check(&checkpoint);
        }
        chain.finish(last)
    }

    /// Judges batches of records, in their order, after checkpoints that were read before them at `began`.
    fn judge(
        &self,
        mut checked: Checked,
        began: OffsetDateTime,
        batches: impl Iterator<Item = anyhow::Result<Batch>>,
        progress: &dyn Fn(u64),
    ) -> anyhow::Result<Verdict> {
        let trail = Trail::new(&mut checked, began - self.patience);
        let (logs, records) = links::judge(trail, batches, progress)?;
        Ok(Verdict {
            chain: checked.faults,
            logs,
            records,
            checkpoints: checked.count,
            last: checked.last,
        })
    }

    /// Verifies records as they are received, after checkpoints that were read at `began`. Blocks: it is for a thread
    /// of its own.
    pub fn verify(
        &self,
        stored: StoredCheckpoints,
        began: OffsetDateTime,
        mut received: tokio::sync::mpsc::Receiver<anyhow::Result<Vec<pb::ExportedRecord>>>,
        progress: &dyn Fn(u64),
    ) -> anyhow::Result<Verdict> {
        let checked = self.check(stored.signed, Some(stored.last));
        let mut before = None;
        let batches = std::iter::from_fn(|| {
            let records = received.blocking_recv()?;
            Some(records.map(|records| Batch::of_records(&mut before, records)))
        });
        self.judge(checked, began, batches, progress)
    }
}
