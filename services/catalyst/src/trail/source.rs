//! Where the trail is read from: checkpoints from the broker itself, records from the service.

use std::time::Duration;

use anyhow::Context as _;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use futures::StreamExt as _;
use kit::ctx::Clock;
use kit::ledger::CHECKPOINTS;
use prost::Message as _;
use proto::audit::v1 as pb;
use proto::audit::v1::audit_operator_service_client::AuditOperatorServiceClient;
use tokio::sync::mpsc;
use tonic::Status;
use tonic::body::Body;
use tonic::client::GrpcService;

use crate::client::Backoff;
use crate::client::error::{Refused, Unavailable, is_transient};

/// Checkpoints that are asked for at once.
const PIECE: usize = 500;
/// A reader that went away is forgotten by the broker after this.
const FORGOTTEN: Duration = Duration::from_secs(30);

/// What the broker has.
#[derive(Debug, Default)]
pub struct StoredCheckpoints {
    /// In their order; what is no signed checkpoint is an empty one.
    pub signed: Vec<pb::SignedCheckpoint>,
    /// The number of the last, whether it is still there or not.
    pub last: i64,
}

/// Reads all checkpoints from the broker, without the audit service.
pub async fn checkpoints(client: async_nats::Client) -> anyhow::Result<StoredCheckpoints> {
    let jetstream = async_nats::jetstream::new(client);
    let stream = jetstream.get_stream(CHECKPOINTS.stream).await.map_err(|error| {
        Unavailable::new(format!(
            "the checkpoints cannot be read ({error}): give an operator's credentials, and run `catalyst migrate` if they are new"
        ))
    })?;
    let last = stream.cached_info().state.last_sequence;
    let mut stored = StoredCheckpoints {
        signed: Vec::new(),
        last: i64::try_from(last).unwrap_or(i64::MAX),
    };
    if stream.cached_info().state.messages == 0 {
        return Ok(stored);
    }
    let name = format!("verify-{}", Clock::system().new_uuid().simple());
    let config = pull::Config {
        name: Some(name.clone()),
        ack_policy: AckPolicy::None,
        deliver_policy: DeliverPolicy::All,
        inactive_threshold: FORGOTTEN,
        memory_storage: true,
        ..pull::Config::default()
    };
    let failed = |error: &dyn std::fmt::Display| {
        Unavailable::new(format!("the checkpoints cannot be read: {error}"))
    };
    let consumer = stream
        .create_consumer(config)
        .await
        .map_err(|error| failed(&error))?;
    let mut read = 0;
    while read < last {
        let fetched = consumer.fetch().max_messages(PIECE).messages().await;
        let mut messages = fetched.map_err(|error| failed(&error))?;
        let before = read;
        while let Some(message) = messages.next().await {
            let message = message.map_err(|error| failed(&error))?;
            read = message
                .info()
                .map_err(|error| failed(&error))?
                .stream_sequence;
            if read <= last {
                let signed = pb::SignedCheckpoint::decode(message.payload.clone());
                stored.signed.push(signed.unwrap_or_default());
            }
        }
        if read == before {
            // The last ones are gone; the chain shows which.
            break;
        }
    }
    // It would be forgotten soon anyway.
    let _ = stream.delete_consumer(&name).await;
    Ok(stored)
}

/// Sends every record of a tenant, or of all, to `sender`; an export that breaks goes on after the last record.
pub async fn records<T>(
    mut service: AuditOperatorServiceClient<T>,
    tenant_id: String,
    sender: mpsc::Sender<anyhow::Result<Vec<pb::ExportedRecord>>>,
) -> anyhow::Result<()>
where
    T: GrpcService<Body>,
    T::Error: Into<tonic::codegen::StdError>,
    T::ResponseBody: tonic::codegen::Body<Data = prost::bytes::Bytes> + Send + 'static,
    <T::ResponseBody as tonic::codegen::Body>::Error: Into<tonic::codegen::StdError> + Send,
{
    let mut backoff = Backoff::new();
    let mut after = None;
    loop {
        let request = pb::ExportRecordsRequest {
            tenant_id: tenant_id.clone(),
            after: after.clone(),
        };
        let ended: Result<(), Status> = async {
            let mut pieces = service.export_records(request).await?.into_inner();
            while let Some(piece) = pieces.message().await? {
                backoff.succeeded();
                if let Some(last) = piece.records.last() {
                    after = Some(pb::RecordPosition {
                        tenant_id: last.tenant_id.clone(),
                        operator_only: last.operator_only,
                        sequence: last.sequence,
                    });
                }
                if sender.send(Ok(piece.records)).await.is_err() {
                    // Whoever took the records has failed, and says why.
                    return Ok(());
                }
            }
            Ok(())
        }
        .await;
        let Err(status) = ended else { return Ok(()) };
        if !is_transient(&status) || !backoff.wait().await {
            return Err(Refused::from(status)).context("the records cannot be read to their end");
        }
    }
}
