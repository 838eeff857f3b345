//! What the system holds at the end of a run, read past every policy: rows, streams, logs, and what is still under way.

use kit::TenantId;
use uuid::Uuid;

use crate::history::Noun;

/// A row of a service's own table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) tenant: TenantId,
    pub(crate) noun: Noun,
    pub(crate) id: Uuid,
    pub(crate) version: i64,
    pub(crate) text: String,
}

/// What a service keeps of another's aggregate: the effect of a consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) keeper: &'static str,
    pub(crate) tenant: TenantId,
    pub(crate) noun: Noun,
    pub(crate) id: Uuid,
    pub(crate) version: i64,
}

/// A message of the stream of domain events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) sequence: u64,
    /// By the subject.
    pub(crate) tenant: TenantId,
    pub(crate) event: Uuid,
    pub(crate) aggregate: Uuid,
    pub(crate) version: i64,
    pub(crate) canaries: Vec<String>,
}

/// A record of the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recorded {
    pub(crate) tenant: TenantId,
    pub(crate) operator_only: bool,
    pub(crate) sequence: i64,
    pub(crate) event: Uuid,
    pub(crate) type_name: String,
    pub(crate) is_domain: bool,
    pub(crate) actor: String,
    pub(crate) aggregate: Uuid,
    pub(crate) version: i64,
    pub(crate) canaries: Vec<String>,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Evidence {
    pub(crate) rows: Vec<Row>,
    pub(crate) references: Vec<Reference>,
    pub(crate) stream: Vec<Stored>,
    pub(crate) records: Vec<Recorded>,
    /// Canaries of others in what subscribers of a tenant hear of security events: the tenant, and the canary.
    pub(crate) security_canaries: Vec<(TenantId, String)>,
    /// What had not come to rest when the time for it was over: outbox rows, unapplied events.
    pub(crate) unsettled: Vec<String>,
    /// What the verifier of the audit logs says against them.
    pub(crate) trail: Option<String>,
    /// Sessions left inside a transaction by the services.
    pub(crate) open_transactions: i64,
}
