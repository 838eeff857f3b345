//! Verifying a log: offline from an export and online from the services, beside what reading the same takes.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use audit::chain::Head;
use audit::checkpoint::PublicKeys;
use audit::record::{Category, Entry, Log, Record, Resource};
use aws_lc_rs::digest;
use catalyst::trail::{self, Rules, StoredCheckpoints, Verdict};
use futures::TryStreamExt as _;
use kit::TenantId;
use kit::ctx::{Actor, Clock};
use prost::Message as _;
use proto::audit::v1 as pb;
use proto::audit::v1::audit_operator_service_client::AuditOperatorServiceClient;
use proto::common::v1::Severity;
use proto::time_entries::v1::TimeEntryCreated;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;
use tokio::sync::mpsc;
use tonic::metadata::MetadataMap;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Status};
use uuid::Uuid;

use crate::load::{connect, count, metadata};
use crate::report::{OURS, Report};
use crate::system::System;

const OFFLINE: &str = "verify a file, records/s";
const ONLINE: &str = "verify a deployment, records/s";
const EXPORT: &str = "export, records/s";
/// Records of one transaction.
const BATCH: usize = 10_000;
/// How long everything may take to be signed.
const PATIENCE: Duration = Duration::from_mins(5);

/// A tenant with a long log, all of it signed.
pub(crate) struct LongLog {
    tenant: TenantId,
    records: usize,
    rules: Rules,
    operator: MetadataMap,
    file: PathBuf,
}

/// Writes a log by the code of the service, as fast as the database takes it, and waits until it is signed.
pub(crate) async fn prepare(system: &System, records: usize) -> anyhow::Result<LongLog> {
    let clock = Clock::system();
    let tenant = TenantId::new(clock.new_uuid());
    let mut admin = system.admin().await?;
    let mut head = Head::START;
    let mut written = 0;
    while written < records {
        let size = BATCH.min(records - written);
        let entries = (0..size).map(|_| entry(&clock));
        let batch = head.append(tenant, Log::Tenant, clock.now(), entries);
        insert(&mut admin, &batch, &head).await?;
        written += size;
    }
    let jwks = std::fs::read_to_string(system.deployment.keys.checkpoint_jwks())?;
    let log = LongLog {
        tenant,
        records,
        rules: Rules {
            keys: PublicKeys::read(&jwks).context("the deployment has public keys")?,
            anchor: None,
            only: Some(tenant),
            patience: time::Duration::HOUR,
        },
        operator: metadata(system, TenantId::PLATFORM, "bench", "platform_operator")?,
        file: system.dir.join("trail.ndjson"),
    };
    let since = Instant::now();
    loop {
        export(system, &log).await?;
        let verdict = offline(&log)?;
        if verdict.logs.first().map(|it| it.signed_to) == i64::try_from(records).ok() {
            return Ok(log);
        }
        ensure!(since.elapsed() < PATIENCE, "the log is not signed");
    }
}

/// Each of the three, and what reading the same takes.
pub(crate) async fn round(
    system: &System,
    log: &LongLog,
    report: &mut Report,
) -> anyhow::Result<()> {
    let records = count(log.records);
    let mut timed = |measure, series, since: Instant| {
        report.record(measure, series, records / since.elapsed().as_secs_f64());
    };
    let since = Instant::now();
    export(system, log).await?;
    timed(EXPORT, OURS, since);
    let since = Instant::now();
    copy_out(system, log).await?;
    timed(EXPORT, "COPY of the same rows as superuser", since);

    let since = Instant::now();
    is_whole(log, &offline(log)?)?;
    timed(OFFLINE, OURS, since);
    let since = Instant::now();
    hash_file(log)?;
    timed(OFFLINE, "the file read and hashed once", since);

    let since = Instant::now();
    is_whole(log, &online(system, log).await?)?;
    timed(ONLINE, OURS, since);
    let since = Instant::now();
    copy_out(system, log).await?;
    timed(ONLINE, "COPY of the same rows as superuser", since);
    Ok(())
}

fn is_whole(log: &LongLog, verdict: &Verdict) -> anyhow::Result<()> {
    ensure!(verdict.is_good(), "the log is not good: {verdict:?}");
    ensure!(
        usize::try_from(verdict.records)? == log.records,
        "the log is not whole"
    );
    Ok(())
}

/// An entry as an import makes them.
fn entry(clock: &Clock) -> Entry {
    let id = clock.new_uuid();
    let body = TimeEntryCreated {
        project_id: id.to_string(),
        consultant_id: id.to_string(),
        ..TimeEntryCreated::default()
    };
    Entry {
        id: clock.new_uuid(),
        event_id: clock.new_uuid(),
        type_name: "catalyst.time_entries.v1.TimeEntryCreated".to_owned(),
        category: Category::Domain,
        severity: Severity::Info,
        actor: Actor::User("7e9f4d5a5f0f4c0f8c3f6c3a7e9f4d5a".to_owned()),
        source: "time_entries".to_owned(),
        aggregate_id: id,
        version: 1,
        resource: Some(Resource {
            kind: "time_entry".to_owned(),
            id: Some(id),
        }),
        // What the database keeps.
        occurred_at: clock.now(),
        traceparent: Some(format!("00-{}-00f067aa0ba902b7-01", id.simple())),
        body: body.encode_to_vec().into(),
    }
}

/// The columns that differ between the records of this bench; the others are the same in all of them.
async fn insert(admin: &mut PgConnection, records: &[Record], head: &Head) -> anyhow::Result<()> {
    let first = records.first().context("a batch is not empty")?;
    let entries = || records.iter().map(|record| &record.entry);
    let ids = |id: fn(&Entry) -> Uuid| entries().map(id).collect::<Vec<_>>();
    let mut tx = admin.begin().await?;
    sqlx::query(
        "insert into audit.record (tenant_id, operator_only, sequence, id, event_id, type, category, severity, \
                actor_kind, actor_id, source, aggregate_id, version, resource_kind, resource_id, occurred_at, \
                recorded_at, traceparent, body, hash) \
         select $1, false, sequence, id, event_id, $2, 'domain', 1, 'user', $3, $4, aggregate_id, 1, 'time_entry', \
                aggregate_id, occurred_at, $5, traceparent, body, hash \
         from unnest($6::bigint[], $7::uuid[], $8::uuid[], $9::uuid[], $10::timestamptz[], $11::text[], \
                     $12::bytea[], $13::bytea[]) \
              as e (sequence, id, event_id, aggregate_id, occurred_at, traceparent, body, hash)",
    )
    .bind(first.tenant.uuid())
    .bind(&first.entry.type_name)
    .bind(first.entry.actor.id())
    .bind(&first.entry.source)
    .bind(first.recorded_at)
    .bind(records.iter().map(|it| it.sequence).collect::<Vec<_>>())
    .bind(ids(|it| it.id))
    .bind(ids(|it| it.event_id))
    .bind(ids(|it| it.aggregate_id))
    .bind(entries().map(|it| it.occurred_at).collect::<Vec<_>>())
    .bind(entries().map(|it| it.traceparent.as_deref()).collect::<Vec<_>>())
    .bind(entries().map(|it| &it.body[..]).collect::<Vec<_>>())
    .bind(records.iter().map(|it| it.hash.as_slice()).collect::<Vec<_>>())
    .execute(&mut *tx)
    .await?;
    sqlx::query(
        "insert into audit.chain (tenant_id, operator_only, last_sequence, last_hash) values ($1, false, $2, $3) \
         on conflict (tenant_id, operator_only) do update set last_sequence = $2, last_hash = $3",
    )
    .bind(first.tenant.uuid())
    .bind(head.sequence)
    .bind(head.hash.as_slice())
    .execute(&mut *tx)
    .await?;
    Ok(tx.commit().await?)
}

async fn checkpoints(system: &System) -> anyhow::Result<StoredCheckpoints> {
    let path = system
        .deployment
        .stack
        .credentials_dir
        .join("operator.creds");
    let client = async_nats::ConnectOptions::with_credentials_file(path)
        .await?
        .custom_inbox_prefix("_INBOX_operator")
        .connect(&system.deployment.stack.nats_url)
        .await?;
    trail::checkpoints(client).await
}

/// Reads the log as the operator.
async fn read(
    system: &System,
    log: &LongLog,
    sender: mpsc::Sender<anyhow::Result<Vec<pb::ExportedRecord>>>,
) -> anyhow::Result<()> {
    let operator = log.operator.clone();
    let call = move |mut request: Request<()>| -> Result<Request<()>, Status> {
        // The transport's own headers are in the metadata here, and stay.
        let mut headers = std::mem::take(request.metadata_mut()).into_headers();
        headers.extend(operator.clone().into_headers());
        *request.metadata_mut() = MetadataMap::from_headers(headers);
        Ok(request)
    };
    let line = InterceptedService::new(connect(system).await?, call);
    let service = AuditOperatorServiceClient::new(line).max_decoding_message_size(32 * 1024 * 1024);
    trail::records(service, log.tenant.to_string(), sender).await
}

/// Writes the export that is verified.
async fn export(system: &System, log: &LongLog) -> anyhow::Result<()> {
    let began = Clock::system().now();
    let stored = checkpoints(system).await?;
    let mut file = File::create(&log.file)?;
    let (sender, received) = mpsc::channel(8);
    let write = |block: &[u8]| Ok(file.write_all(block)?);
    let (read, written) = tokio::join!(
        read(system, log, sender),
        trail::export(Some(log.tenant), began, stored, received, write),
    );
    read?;
    ensure!(
        usize::try_from(written?)? == log.records,
        "the export is not whole"
    );
    Ok(())
}

fn offline(log: &LongLog) -> anyhow::Result<Verdict> {
    trail::verify_file(&log.file, &log.rules, &|_| {})
}

async fn online(system: &System, log: &LongLog) -> anyhow::Result<Verdict> {
    let began = Clock::system().now();
    let stored = checkpoints(system).await?;
    let (sender, received) = mpsc::channel(8);
    let rules = Rules {
        keys: log.rules.keys.clone(),
        anchor: None,
        ..log.rules
    };
    let judged =
        tokio::task::spawn_blocking(move || rules.verify(stored, began, received, &|_| {}));
    read(system, log, sender).await?;
    judged.await?
}

/// The least that anybody does who reads the rows.
async fn copy_out(system: &System, log: &LongLog) -> anyhow::Result<()> {
    let mut admin = system.admin().await?;
    let tenant = log.tenant;
    let copy = format!(
        "copy (select * from audit.record where tenant_id = '{tenant}' order by operator_only, sequence) to stdout (format binary)"
    );
    let mut rows = admin.copy_out_raw(&copy).await?;
    while rows.try_next().await?.is_some() {}
    Ok(())
}

/// The least that anybody does who verifies the file.
fn hash_file(log: &LongLog) -> anyhow::Result<()> {
    let mut file = File::open(&log.file)?;
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut piece = vec![0; 1 << 20];
    loop {
        let length = file.read(&mut piece)?;
        if length == 0 {
            std::hint::black_box(hash.finish());
            return Ok(());
        }
        hash.update(piece.get(..length).unwrap_or_default());
    }
}
