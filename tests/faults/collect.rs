//! Gathers the evidence of a run: rows as superuser, streams as the migrator, and the verdict on the audit logs.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::{self, Message};
use futures::StreamExt as _;
use kit::TenantId;
use kit::events::Stream;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row as _};
use uuid::Uuid;

use crate::evidence::{Evidence, Recorded, Reference, Row, Stored};
use crate::history::{Firm, History, Noun, canaries};
use crate::stack::Stack;

/// How long a refusal may take to be on record.
const RECORDED_WITHIN: Duration = Duration::from_secs(20);
/// Messages that are asked for at once.
const PIECE: usize = 1_000;

impl Noun {
    /// Its own table, and the column of its text.
    fn table(self) -> (&'static str, &'static str) {
        match self {
            Self::Client => ("projects.client", "display_name"),
            Self::Project => ("projects.project", "display_name"),
            Self::Consultant => ("consultants.consultant", "display_name"),
            Self::TimeEntry => ("time_entries.time_entry", "note"),
        }
    }

    /// Where others keep it.
    fn kept(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Client | Self::TimeEntry => &[],
            Self::Project => &[("time-entries", "time_entries.project")],
            Self::Consultant => &[
                ("projects", "projects.consultant"),
                ("time-entries", "time_entries.consultant"),
            ],
        }
    }
}

/// Everything that the system holds of the firms of a run; `unsettled` is what did not come to rest.
pub(crate) async fn evidence(
    stack: &Stack,
    history: &History,
    unsettled: Vec<String>,
) -> anyhow::Result<Evidence> {
    let mut found = Evidence {
        unsettled,
        ..Evidence::default()
    };
    let mut admin = stack.admin().await?;
    let tenants: Vec<Uuid> = history.firms.iter().map(|firm| firm.id.uuid()).collect();
    for noun in Noun::ALL {
        found.rows.extend(rows(&mut admin, &tenants, noun).await?);
        for (keeper, table) in noun.kept() {
            found
                .references
                .extend(kept(&mut admin, &tenants, noun, keeper, table).await?);
        }
    }
    wait_for_refusals(&mut admin, &tenants, history).await?;
    found.records = records(&mut admin, &tenants).await?;
    let idle = "select count(*) from pg_stat_activity \
                where state like 'idle in transaction%' and usename like '%\\_app' \
                  and state_change < now() - interval '2 seconds'";
    found.open_transactions = sqlx::query_scalar(idle).fetch_one(&mut admin).await?;
    for message in stream(stack, Stream::Domain, &history.firms).await? {
        // What audit tells of alerts follows from refusals, and no caller writes it.
        if !message.subject.contains(".audit.") {
            found.stream.extend(stored(&message));
        }
    }
    for message in stream(stack, Stream::Security, &history.firms).await? {
        let Some(tenant) = tenant_of(&message) else {
            continue;
        };
        let told = canaries(&message.payload);
        found
            .security_canaries
            .extend(told.into_iter().map(|canary| (tenant, canary)));
    }
    found.trail = stack
        .run(&["audit", "verify"])
        .await
        .err()
        .map(|error| format!("{error:#}"));
    Ok(found)
}

async fn rows(admin: &mut PgConnection, tenants: &[Uuid], noun: Noun) -> anyhow::Result<Vec<Row>> {
    let (table, text) = noun.table();
    let sql: Arc<str> =
        format!("select tenant_id, id, version, {text} from {table} where tenant_id = any($1)")
            .into();
    let rows: Vec<(Uuid, Uuid, i64, String)> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(tenants)
        .fetch_all(admin)
        .await?;
    let rows = rows.into_iter().map(|(tenant, id, version, text)| Row {
        tenant: TenantId::new(tenant),
        noun,
        id,
        version,
        text,
    });
    Ok(rows.collect())
}

async fn kept(
    admin: &mut PgConnection,
    tenants: &[Uuid],
    noun: Noun,
    keeper: &'static str,
    table: &str,
) -> anyhow::Result<Vec<Reference>> {
    let sql: Arc<str> =
        format!("select tenant_id, id, version from {table} where tenant_id = any($1)").into();
    let rows: Vec<(Uuid, Uuid, i64)> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(tenants)
        .fetch_all(admin)
        .await?;
    let kept = rows.into_iter().map(|(tenant, id, version)| Reference {
        keeper,
        tenant: TenantId::new(tenant),
        noun,
        id,
        version,
    });
    Ok(kept.collect())
}

/// A refusal is durable before its answer, and on record a little later. A seed makes the same names in other firms,
/// where one that was run before has left them.
async fn wait_for_refusals(
    admin: &mut PgConnection,
    tenants: &[Uuid],
    history: &History,
) -> anyhow::Result<()> {
    let answered = history.probes.iter().filter(|probe| probe.answer.is_some());
    let actors: Vec<&str> = answered.map(|probe| probe.actor.as_str()).collect();
    let wanted = i64::try_from(actors.len())?;
    let count = "select count(distinct actor_id) from audit.record \
                 where actor_id = any($1) and tenant_id = any($2)";
    let recorded = harness::within(RECORDED_WITHIN, async || {
        let found = sqlx::query_scalar::<_, i64>(count)
            .bind(&actors)
            .bind(tenants)
            .fetch_one(&mut *admin)
            .await;
        found.is_ok_and(|found| found >= wanted).then_some(())
    });
    // What is missing then is found by the checker, by name.
    recorded.await;
    Ok(())
}

async fn records(admin: &mut PgConnection, tenants: &[Uuid]) -> anyhow::Result<Vec<Recorded>> {
    let sql = "select tenant_id, operator_only, sequence, event_id, type, category, actor_id, \
                      aggregate_id, version, body \
               from audit.record where tenant_id = any($1)";
    let mut rows = sqlx::query(sql).bind(tenants).fetch(admin);
    let mut records = Vec::new();
    while let Some(row) = rows.next().await {
        let row = row?;
        let body: Vec<u8> = row.try_get("body")?;
        records.push(Recorded {
            tenant: TenantId::new(row.try_get("tenant_id")?),
            operator_only: row.try_get("operator_only")?,
            sequence: row.try_get("sequence")?,
            event: row.try_get("event_id")?,
            type_name: row.try_get("type")?,
            is_domain: row.try_get::<String, _>("category")? == "domain",
            actor: row.try_get("actor_id")?,
            aggregate: row.try_get("aggregate_id")?,
            version: row.try_get("version")?,
            canaries: canaries(&body),
        });
    }
    Ok(records)
}

/// All messages of the firms on a stream, in its order.
pub(crate) async fn stream(
    stack: &Stack,
    stream: Stream,
    firms: &[Firm],
) -> anyhow::Result<Vec<Message>> {
    let filters = firms
        .iter()
        .map(|firm| format!("{}.{}.>", stream.heard(), firm.id));
    messages(stack, stream.name(), filters.collect()).await
}

/// All messages of a stream under these subjects, in its order.
pub(crate) async fn messages(
    stack: &Stack,
    stream: &str,
    subjects: Vec<String>,
) -> anyhow::Result<Vec<Message>> {
    let config = pull::Config {
        ack_policy: AckPolicy::None,
        deliver_policy: DeliverPolicy::All,
        filter_subjects: subjects,
        inactive_threshold: Duration::from_secs(30),
        memory_storage: true,
        ..pull::Config::default()
    };
    let failed =
        |error: &dyn std::fmt::Display| anyhow::anyhow!("{stream} cannot be read: {error}");
    let of_stream = migrator(stack)
        .await?
        .get_stream(stream)
        .await
        .map_err(|it| failed(&it))?;
    let mut consumer = of_stream
        .create_consumer(config)
        .await
        .map_err(|it| failed(&it))?;
    let mut found = Vec::new();
    while consumer.info().await?.num_pending > 0 {
        let mut piece = consumer.fetch().max_messages(PIECE).messages().await?;
        while let Some(message) = piece.next().await {
            found.push(message.map_err(|it| failed(&it))?);
        }
    }
    // Left there, it would look like a consumer that is behind.
    let name = consumer.cached_info().name.clone();
    let deleted = of_stream.delete_consumer(&name).await;
    deleted.map_err(|it| failed(&it))?;
    Ok(found)
}

/// JetStream with the migrator's rights.
pub(crate) async fn migrator(stack: &Stack) -> anyhow::Result<jetstream::Context> {
    Ok(jetstream::new(bus(stack, "migrator").await?))
}

/// A connection to the bus as one of its users.
pub(crate) async fn bus(stack: &Stack, user: &str) -> anyhow::Result<async_nats::Client> {
    let servers = &stack.deployment.stack;
    let path = servers.credentials_dir.join(format!("{user}.creds"));
    let options = async_nats::ConnectOptions::with_credentials_file(path).await?;
    let options = options.custom_inbox_prefix(format!("_INBOX_{user}"));
    Ok(options.connect(&servers.nats_url).await?)
}

fn stored(message: &Message) -> Option<Stored> {
    let headers = message.headers.as_ref()?;
    let uuid = |name: &str| headers.get(name)?.as_str().parse::<Uuid>().ok();
    Some(Stored {
        sequence: message.info().ok()?.stream_sequence,
        tenant: tenant_of(message)?,
        event: uuid("ce-id")?,
        aggregate: uuid("ce-subject")?,
        version: headers.get("ce-sequence")?.as_str().parse().ok()?,
        canaries: canaries(&message.payload),
    })
}

fn tenant_of(message: &Message) -> Option<TenantId> {
    TenantId::parse_strict(message.subject.split('.').nth(1)?)
}
