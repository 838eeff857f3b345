//! Importing time entries: `ImportTimeEntries` beside COPY of the same rows and outbox rows.
//! One stream or connection a firm; a thousand rows a chunk, and each chunk a transaction.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use data_encoding::HEXLOWER;
use kit::ctx::Clock;
use prost::Message as _;
use prost_types::Timestamp;
use proto::time_entries::v1::time_entry_service_client::TimeEntryServiceClient;
use proto::time_entries::v1::{
    ImportOutcome, ImportRow, ImportTimeEntriesRequest, OverlapPolicy, TimeEntryCreated,
};
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::task::JoinSet;
use tonic::Request;

use crate::Bench;
use crate::load::{connect, count, metadata};
use crate::report::{OURS, Report};
use crate::seed::{Entry, Firm};

pub(crate) const ROWS: &str = "import, rows/s";
/// The limit, as the report calls it.
pub(crate) const COPY: &str = "COPY as superuser";
const CHUNK: u64 = 1_000;
/// So many import at the same time, the greatest ones.
const FIRMS: usize = 4;

/// Our streams, then COPY, for the time of a round.
pub(crate) async fn round(bench: &Bench<'_>, report: &mut Report) -> anyhow::Result<()> {
    report.record(ROWS, OURS, imports(bench).await?);
    bench.system.settle().await?;
    report.record(ROWS, COPY, copies(bench).await?);
    bench.system.settle().await
}

/// Rows per second.
async fn imports(bench: &Bench<'_>) -> anyhow::Result<f64> {
    let started = Instant::now();
    let mut running = JoinSet::new();
    for firm in bench.firms.iter().take(FIRMS) {
        let mut client = TimeEntryServiceClient::new(connect(bench.system).await?);
        let (firm, time) = (Arc::clone(firm), bench.time);
        let metadata = metadata(bench.system, firm.tenant, "bench", "admin")?;
        running.spawn(async move {
            let chunks =
                std::iter::from_fn(move || (started.elapsed() < time).then(|| chunk(&firm)));
            let mut request = Request::new(tokio_stream::iter(chunks));
            *request.metadata_mut() = metadata;
            let mut answers = client.import_time_entries(request).await?.into_inner();
            let mut rows = 0;
            while let Some(answer) = answers.message().await? {
                for row in &answer.results {
                    ensure!(
                        row.outcome() == ImportOutcome::Created,
                        "a row was not stored: {}",
                        row.message
                    );
                }
                rows += answer.results.len();
            }
            Ok(rows)
        });
    }
    per_second(running, started).await
}

fn chunk(firm: &Firm) -> ImportTimeEntriesRequest {
    let at = |time: OffsetDateTime| {
        Some(Timestamp {
            seconds: time.unix_timestamp(),
            nanos: 0,
        })
    };
    let rows = firm.new_entries(CHUNK).map(|entry| ImportRow {
        external_id: external_id(&entry),
        project_id: entry.project.to_string(),
        consultant_id: entry.consultant.to_string(),
        started_at: at(entry.started_at),
        ended_at: at(entry.ended_at),
        time_zone: "UTC".to_owned(),
        billable: Some(true),
        ..ImportRow::default()
    });
    ImportTimeEntriesRequest {
        rows: rows.collect(),
        overlap_policy: OverlapPolicy::Reject.into(),
        ..ImportTimeEntriesRequest::default()
    }
}

/// Rows per second.
async fn copies(bench: &Bench<'_>) -> anyhow::Result<f64> {
    let started = Instant::now();
    let mut running = JoinSet::new();
    for firm in bench.firms.iter().take(FIRMS) {
        let (firm, time) = (Arc::clone(firm), bench.time);
        let mut connection = bench.system.admin().await?;
        running.spawn(async move {
            let mut rows = 0;
            while started.elapsed() < time {
                rows += copy_chunk(&mut connection, &firm)
                    .await
                    .context("COPY fails")?;
            }
            connection.close().await?;
            Ok(rows)
        });
    }
    per_second(running, started).await
}

async fn copy_chunk(connection: &mut PgConnection, firm: &Firm) -> anyhow::Result<usize> {
    let (mut entries, mut events) = (String::new(), String::new());
    let clock = Clock::system();
    for entry in firm.new_entries(CHUNK) {
        let id = clock.new_uuid();
        let (tenant, external_id, day) = (
            firm.tenant,
            external_id(&entry),
            entry.started_at.date().to_string(),
        );
        let Entry {
            project,
            consultant,
            started_at,
            ended_at,
            ..
        } = entry;
        let [started_at, ended_at, now] =
            [started_at, ended_at, clock.now()].map(|time| time.format(&Rfc3339));
        let (started_at, ended_at, now) = (started_at?, ended_at?, now?);
        writeln!(
            entries,
            "{tenant}\t{id}\t{project}\t{consultant}\t{started_at}\t{ended_at}\t0\t15\t{day}\tUTC\ttrue\t\t{external_id}\tfalse\t1\t{now}\t{now}"
        )?;
        let event = TimeEntryCreated {
            time_entry_id: id.to_string(),
            project_id: project.to_string(),
            consultant_id: consultant.to_string(),
            worked_on: day,
            worked_minutes: 15,
            billable: true,
            external_id,
            overlap_kept: false,
        };
        let event_id = clock.new_uuid();
        let body = HEXLOWER.encode(&event.encode_to_vec());
        writeln!(
            events,
            "{tenant}\t{event_id}\tcatalyst.time_entries.v1.TimeEntryCreated\t{id}\t1\t{now}\tuser\tbench\t\\N\t\\\\x{body}"
        )?;
    }
    let mut transaction = connection.begin().await?;
    let rows = copy(
        &mut transaction,
        "copy time_entries.time_entry (tenant_id, id, project_id, consultant_id, started_at, ended_at, break_minutes, \
         worked_minutes, worked_on, time_zone, billable, note, external_id, overlap_kept, version, created_at, \
         updated_at) from stdin",
        entries,
    )
    .await?;
    copy(
        &mut transaction,
        "copy time_entries.outbox (tenant_id, event_id, type, aggregate_id, version, occurred_at, actor_kind, \
         actor_id, traceparent, body) from stdin",
        events,
    )
    .await?;
    transaction.commit().await?;
    Ok(rows)
}

async fn copy(
    connection: &mut PgConnection,
    statement: &'static str,
    lines: String,
) -> anyhow::Result<usize> {
    let mut copy = connection.copy_in_raw(statement).await?;
    copy.send(lines.into_bytes()).await?;
    Ok(usize::try_from(copy.finish().await?)?)
}

async fn per_second(
    mut running: JoinSet<anyhow::Result<usize>>,
    started: Instant,
) -> anyhow::Result<f64> {
    let mut rows = 0;
    while let Some(ended) = running.join_next().await {
        rows += ended??;
    }
    let elapsed: Duration = started.elapsed();
    Ok(count(rows) / elapsed.as_secs_f64())
}

fn external_id(entry: &Entry) -> String {
    format!("bench-{}", entry.number)
}
