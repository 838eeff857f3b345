//! One running export: it sends records as they are stored, until the last.

use kit::db::ExemptDb;
use kit::fields::timestamp;
use kit::{Ctx, Kit, TenantId};
use prost::Message;
use proto::audit::v1 as pb;
use tokio::sync::mpsc;
use tonic::Status;

use crate::operations;
use crate::store::export::ExportRow;
use crate::store::records::OperatorPosition;

/// A message is sent when it has grown to this: the client's limit is far above it, whatever the bodies are.
const MESSAGE_BYTES: usize = 512 * 1024;

pub(super) struct Export {
    pub(super) kit: Kit,
    pub(super) ctx: Ctx,
    pub(super) exempt: ExemptDb,
    pub(super) tenant: Option<TenantId>,
    pub(super) sender: mpsc::Sender<Result<pb::ExportRecordsResponse, Status>>,
}

impl Export {
    /// Sends all records after a position, or why it ends before the last.
    pub(super) async fn run(&self, after: OperatorPosition) {
        let ended = tokio::select! {
            ended = self.send_after(after) => ended,
            () = self.kit.draining() => Err(self.kit.shutting_down()),
            () = self.sender.closed() => return,
        };
        if let Err(status) = ended {
            // Waits for room: an export that is cut short must not look whole.
            let _ = self.sender.send(Err(status)).await;
        }
    }

    async fn send_after(&self, after: OperatorPosition) -> Result<(), Status> {
        let mut rows = self.piece(after).await?;
        while let Some(last) = rows.last() {
            // The database reads on while this piece is sent.
            let next = self.piece(last.position());
            let (next, ()) = tokio::try_join!(next, self.send_piece(rows))?;
            rows = next;
        }
        Ok(())
    }

    async fn piece(&self, after: OperatorPosition) -> Result<Vec<ExportRow>, Status> {
        let rows = operations::export_records(&self.exempt, self.tenant, after).await;
        self.kit.answer(&self.ctx, rows).await
    }

    async fn send_piece(&self, rows: Vec<ExportRow>) -> Result<(), Status> {
        let mut message = pb::ExportRecordsResponse::default();
        let mut bytes = 0;
        for row in rows {
            let record = pb::ExportedRecord::from(row);
            bytes += record.encoded_len();
            message.records.push(record);
            if bytes >= MESSAGE_BYTES {
                self.send(std::mem::take(&mut message)).await?;
                bytes = 0;
            }
        }
        if message.records.is_empty() {
            return Ok(());
        }
        self.send(message).await
    }

    async fn send(&self, message: pb::ExportRecordsResponse) -> Result<(), Status> {
        let sent = self.sender.send(Ok(message)).await;
        sent.map_err(|_| Status::cancelled("the caller has gone"))
    }
}

impl From<ExportRow> for pb::ExportedRecord {
    fn from(row: ExportRow) -> Self {
        Self {
            tenant_id: row.tenant_id.to_string(),
            operator_only: row.operator_only,
            sequence: row.sequence,
            record_time: Some(timestamp(row.recorded_at)),
            id: row.id.to_string(),
            event_id: row.event_id.to_string(),
            r#type: row.r#type,
            category: row.category,
            severity: row.severity.into(),
            actor_type: row.actor_kind,
            actor_id: row.actor_id,
            source: row.source,
            aggregate_id: row.aggregate_id.to_string(),
            version: row.version,
            resource_kind: row.resource_kind,
            resource_id: row.resource_id.map(|id| id.to_string()).unwrap_or_default(),
            occur_time: Some(timestamp(row.occurred_at)),
            traceparent: row.traceparent,
            body: row.body,
            hash: row.hash,
        }
    }
}
