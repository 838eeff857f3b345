//! The ends of all logs, and hashes at given places of them, for the operator's role.

use kit::TenantId;
use kit::session::Session;
use uuid::Uuid;

use crate::chain::Head;
use crate::checkpoint::LogKey;
use crate::error::Error;
use crate::record::Log;

type Row = (Uuid, bool, i64, [u8; 32]);

fn read((tenant, operator_only, sequence, hash): Row) -> (LogKey, Head) {
    let key = LogKey {
        tenant: TenantId::new(tenant),
        log: Log::from_operator_only(operator_only),
    };
    (key, Head { sequence, hash })
}

/// Where every log ends.
#[tracing::instrument(name = "db.chain.list_of_all", skip_all)]
pub(crate) async fn all(session: &mut Session) -> Result<Vec<(LogKey, Head)>, Error> {
    let rows: Vec<Row> = sqlx::query_as(
        "select tenant_id, operator_only, last_sequence, last_hash from audit.chain where last_sequence > 0",
    )
    .fetch_all(session)
    .await?;
    Ok(rows.into_iter().map(read).collect())
}

/// The records at these places that are there, with their hashes.
#[tracing::instrument(name = "db.record.hashes", skip_all)]
pub(crate) async fn hashes(
    session: &mut Session,
    places: &[(LogKey, i64)],
) -> Result<Vec<(LogKey, Head)>, Error> {
    let tenants: Vec<Uuid> = places.iter().map(|(key, _)| key.tenant.uuid()).collect();
    let logs: Vec<bool> = places
        .iter()
        .map(|(key, _)| key.log.is_operator_only())
        .collect();
    let sequences: Vec<i64> = places.iter().map(|(_, sequence)| *sequence).collect();
    let rows: Vec<Row> = sqlx::query_as(
        "select r.tenant_id, r.operator_only, r.sequence, r.hash \
         from unnest($1::uuid[], $2::bool[], $3::bigint[]) as p (tenant_id, operator_only, sequence) \
         join audit.record r on r.tenant_id = p.tenant_id and r.operator_only = p.operator_only \
             and r.sequence = p.sequence",
    )
    .bind(tenants)
    .bind(logs)
    .bind(sequences)
    .fetch_all(session)
    .await?;
    Ok(rows.into_iter().map(read).collect())
}
