//! An export as a file: a header, the checkpoints, the records, a JSON object a line.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

use anyhow::Context as _;
use audit::export::{Exported, FORM, Header, Line, SignedLine};
use kit::TenantId;
use proto::audit::v1 as pb;
use time::OffsetDateTime;
use tokio::sync::mpsc;

use super::links::Batch;
use super::source::StoredCheckpoints;
use super::{Rules, Verdict};
use crate::client::error::Usage;

/// How much of a file one core takes at once.
const PIECE: usize = 1 << 20;

/// The file is no export that this program can read.
#[derive(Debug, thiserror::Error)]
#[error(
    "{path} is no export of audit logs, or it is cut off: make it with `catalyst audit export`"
)]
pub struct NoExport {
    path: String,
    #[source]
    source: anyhow::Error,
}

/// Writes an export through `write`: checkpoints that were read at `began`, then records as they come.
/// Returns the number of records.
pub async fn export(
    only: Option<TenantId>,
    began: OffsetDateTime,
    stored: StoredCheckpoints,
    mut received: mpsc::Receiver<anyhow::Result<Vec<pb::ExportedRecord>>>,
    mut write: impl FnMut(&[u8]) -> anyhow::Result<()>,
) -> anyhow::Result<u64> {
    let header = Header {
        form: FORM,
        time: began,
        tenant_id: only.map(TenantId::uuid),
        last_checkpoint: stored.last,
    };
    let mut text = Vec::new();
    put(&mut text, &Line::Export(header))?;
    for signed in stored.signed {
        put(&mut text, &Line::Checkpoint(SignedLine::from(signed)))?;
        if text.len() >= PIECE {
            write(&text)?;
            text.clear();
        }
    }
    let mut records = 0;
    while let Some(piece) = received.recv().await {
        for message in &piece? {
            let record = Exported::of(message).with_context(|| {
                format!(
                    "the service sent what is no record: {} of tenant {}",
                    message.sequence, message.tenant_id
                )
            })?;
            put(&mut text, &Line::Record(Box::new(record)))?;
            records += 1;
        }
        write(&text)?;
        text.clear();
    }
    write(&text)?;
    Ok(records)
}

fn put(text: &mut Vec<u8>, line: &Line<'_>) -> anyhow::Result<()> {
    serde_json::to_writer(&mut *text, line)?;
    text.push(b'\n');
    Ok(())
}

/// Verifies an export. Blocks.
pub fn verify_file(path: &Path, rules: &Rules, progress: &dyn Fn(u64)) -> anyhow::Result<Verdict> {
    let no_export = |source: anyhow::Error| NoExport {
        path: path.display().to_string(),
        source,
    };
    let (header, signed, pieces) = open(path).map_err(no_export)?;
    if let Some(tenant) = header.tenant_id.map(TenantId::new)
        && rules.only != Some(tenant)
    {
        let problem = format!(
            "{} is of the tenant {tenant} alone: verify that one",
            path.display()
        );
        return Err(Usage::new(problem).into());
    }
    let checked = rules.check(signed, Some(header.last_checkpoint));
    let verdict = rules.judge(checked, header.time, pieces, progress);
    Ok(verdict.map_err(no_export)?)
}

/// The header, the checkpoints, and the rest.
fn open(path: &Path) -> anyhow::Result<(Header, Vec<pb::SignedCheckpoint>, Pieces)> {
    let mut reader = BufReader::with_capacity(PIECE, File::open(path)?);
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line)?;
    let Line::Export(header) = serde_json::from_slice(&line)? else {
        anyhow::bail!("it does not begin with its header");
    };
    anyhow::ensure!(
        header.form == FORM,
        "it is of form {}, and this program reads form {FORM}",
        header.form
    );
    let mut signed = Vec::new();
    loop {
        line.clear();
        reader.read_until(b'\n', &mut line)?;
        if line.is_empty() || line.starts_with(br#"{"record""#) {
            break;
        }
        let Line::Checkpoint(checkpoint) = serde_json::from_slice(&line)? else {
            anyhow::bail!("it has two headers");
        };
        signed.push(checkpoint.into());
    }
    let pieces = Pieces {
        reader,
        before: Vec::new(),
        first: line,
    };
    Ok((header, signed, pieces))
}

/// The rest of a file in pieces of whole lines.
struct Pieces {
    reader: BufReader<File>,
    before: Vec<u8>,
    first: Vec<u8>,
}

impl Pieces {
    fn read(&mut self) -> std::io::Result<Vec<u8>> {
        let mut text = std::mem::take(&mut self.first);
        text.reserve(PIECE);
        let limit = u64::try_from(PIECE).unwrap_or(u64::MAX);
        self.reader.by_ref().take(limit).read_to_end(&mut text)?;
        if text.last().is_some_and(|byte| *byte != b'\n') {
            self.reader.read_until(b'\n', &mut text)?;
        }
        Ok(text)
    }
}

impl Iterator for Pieces {
    type Item = anyhow::Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        let text = match self.read() {
            Ok(text) if text.is_empty() => return None,
            Ok(text) => text,
            Err(error) => return Some(Err(error.into())),
        };
        let lines = text.strip_suffix(b"\n").unwrap_or(&text);
        let last = lines.rsplit(|byte| *byte == b'\n').next();
        let last = last.unwrap_or_default().to_vec();
        let before = std::mem::replace(&mut self.before, last);
        Some(Ok(Batch::Lines { before, text }))
    }
}
