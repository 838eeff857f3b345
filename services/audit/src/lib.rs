//! Audit: the log of everything that happened, the detection of attempts across tenants, and alerts.
//!
//! Hears every event, domain and security, and appends each to the log of its tenant, whole and chained by hashes.
//! Off the path of any request it finds out which missed ids are another tenant's, and tells the victim and the
//! operator. Emits `AlertRaised` and `AlertAcknowledged`.

pub mod record;
pub mod chain;
pub mod checkpoint;
pub mod export;
pub mod trail;
pub mod attempt;
pub mod happening;
pub mod flood;
pub mod rules;
pub mod alert;
pub mod summary;
mod settings;
mod sinks;
mod webhook;
mod alertmanager;
mod rulebook;
mod recorder;
mod subscribers;
mod promoter;
mod checkpointer;
mod sweeper;
mod deliverer;
mod operations;
mod store;
mod events;
pub mod permissions;
mod grpc;
mod error;

use std::sync::Arc;

use kit::aggregate::Aggregate;
use kit::db::ExemptDb;
use kit::events::Stream;
use kit::host::{App, Definition, Exemption, StartError};
use kit::kit::Kit;
use kit::shares::Shares;
use kit::subscriber::Subscription;
use proto::audit::v1::audit_operator_service_server::AuditOperatorServiceServer;
use proto::audit::v1::audit_service_server::AuditServiceServer;
use tokio::sync::Semaphore;

pub use crate::checkpointer::CheckpointSettings;
use crate::checkpointer::Checkpointer;
use crate::deliverer::Deliverer;
use crate::promoter::Promoter;
use crate::recorder::Recorder;
use crate::rulebook::Rulebook;
use crate::rules::file::BadRules;
use crate::rules::{RuleSet, SinkSpec};
pub use crate::settings::Settings;
use crate::subscribers::{OnDomainEvents, OnSecurityEvents};
use crate::sweeper::Sweeper;

pub use crate::store::history;

/// The role that one tenant's context does not bound.
pub const OPERATOR: &str = "audit_operator";
/// Its connections: the promoter's, the sweeper's, the checkpointer's, those of deliveries and of operators' reads.
const OPERATOR_CONNECTIONS: u32 = 6;
/// Exports that one process runs side by side.
const MAX_EXPORTS: usize = 2;
/// Watches that one process keeps open, and those of one tenant.
const MAX_WATCHES: usize = 512;
const MAX_WATCHES_OF_ONE: usize = 64;

/// What is known of this service without running it.
pub const DEFINITION: Definition = Definition {
    name: "audit",
    schema: "audit",
    migrations: &[
        (100, "record", include_str!("../migrations/0100_record.sql")),
        (
            101,
            "attempt",
            include_str!("../migrations/0101_attempt.sql"),
        ),
        (102, "alert", include_str!("../migrations/0102_alert.sql")),
        (
            103,
            "checkpoint",
            include_str!("../migrations/0103_checkpoint.sql"),
        ),
        (104, "flood", include_str!("../migrations/0104_flood.sql")),
        (
            105,
            "alert_rule",
            include_str!("../migrations/0105_alert_rule.sql"),
        ),
        (
            106,
            "counter",
            include_str!("../migrations/0106_counter.sql"),
        ),
        (
            107,
            "delivery",
            include_str!("../migrations/0107_delivery.sql"),
        ),
        (
            108,
            "flood_over",
            include_str!("../migrations/0108_flood_over.sql"),
        ),
    ],
    grpc_services: &[
        "catalyst.audit.v1.AuditService",
        "catalyst.audit.v1.AuditOperatorService",
    ],
    permissions: permissions::TABLE,
    subscriptions: &[
        Subscription {
            durable: "audit",
            stream: Stream::Domain,
            types: &[],
        },
        Subscription {
            durable: "audit-security",
            stream: Stream::Security,
            types: &[],
        },
    ],
    exempt_roles: &[OPERATOR],
    exemptions: &[
        Exemption {
            role: OPERATOR,
            table: "record",
            commands: &["select"],
            reason: "the operator reads the logs of all tenants, and both sides of an attempt across tenants",
        },
        Exemption {
            role: OPERATOR,
            table: "chain",
            commands: &["select"],
            reason: "a checkpoint says where the logs of all tenants end",
        },
        Exemption {
            role: OPERATOR,
            table: "registry",
            commands: &["select"],
            reason: "whose id a missed id is cannot be told within the tenant that missed it",
        },
        Exemption {
            role: OPERATOR,
            table: "miss",
            commands: &["select", "delete"],
            reason: "misses of all tenants are judged, and forgotten once they are",
        },
        Exemption {
            role: OPERATOR,
            table: "alert",
            commands: &["select", "update"],
            reason: "alerts of all tenants are delivered to the operator; only the columns of delivery are granted",
        },
        Exemption {
            role: OPERATOR,
            table: "offender",
            commands: &["select"],
            reason: "the operator sees who is behind an alert, whose tenant the alert does not know",
        },
        Exemption {
            role: OPERATOR,
            table: "delivery",
            commands: &["select", "insert", "update"],
            reason: "alerts of all tenants are delivered to the operator's sinks",
        },
        Exemption {
            role: OPERATOR,
            table: "flood",
            commands: &["select"],
            reason: "windows that are over are found in all tenants, and ended in each tenant's own context",
        },
        Exemption {
            role: OPERATOR,
            table: "counter",
            commands: &["select", "delete"],
            reason: "counts that can no longer reach a threshold are removed in all tenants",
        },
    ],
    aggregates: &[Aggregate {
        table: "alert",
        // Rows are counted into without an event; those are two: raised, acknowledged.
        version: "case state when 'acknowledged' then 2 else 1 end",
    }],
    copies: &[],
    in_cells: false,
};

/// What a file of alert rules says, with the sinks that the settings name beside its own; no secret is read.
pub fn check_rules(settings: &Settings, text: &str) -> Result<RuleSet, BadRules> {
    rules::file::parse(text, &named_sinks(settings))
}

/// The sinks that rules may route to by the settings alone. One that is not complete ends the start, not the check.
fn named_sinks(settings: &Settings) -> Vec<SinkSpec> {
    sinks::of_settings(settings).unwrap_or_default()
}

/// Wires the service and starts its tasks: the judging of misses, the end of floods, the signing of checkpoints, the
/// delivery of alerts, and the look at the file of rules.
pub async fn build(
    settings: &Settings,
    checkpoints: &CheckpointSettings,
    kit: Kit,
) -> Result<App, StartError> {
    let rulebook = Rulebook::open(settings, kit.wire.plaintext)?;
    let rules = rulebook.listen();
    let limits = settings.flood_limits();
    let recorder = Recorder::new(rules.clone(), limits);
    kit.watch_broker();
    let exempt = ExemptDb::new(
        &kit.database,
        OPERATOR,
        OPERATOR_CONNECTIONS,
        kit.tasks.clone(),
    )?;

    let checkpointer =
        Checkpointer::open(checkpoints, &kit, exempt.clone(), recorder.listen()).await?;
    kit.tasks.spawn(checkpointer.run());

    let promoter = Promoter {
        exempt: exempt.clone(),
        db: kit.db.clone(),
        recorder: recorder.clone(),
        clock: kit.clock.clone(),
        tasks: kit.tasks.clone(),
    };
    let sweeper = Sweeper {
        exempt: exempt.clone(),
        db: kit.db.clone(),
        recorder: recorder.clone(),
        limits,
        clock: kit.clock.clone(),
        tasks: kit.tasks.clone(),
    };
    let deliverer = Deliverer {
        exempt: exempt.clone(),
        rules,
        recorder: recorder.clone(),
        clock: kit.clock.clone(),
        tasks: kit.tasks.clone(),
    };
    kit.tasks.spawn(promoter.run());
    kit.tasks.spawn(sweeper.run());
    kit.tasks.spawn(deliverer.run());
    kit.tasks.spawn(rulebook.run(kit.tasks.clone()));

    let mut app = App::default();
    app.subscribers.push((
        "audit",
        Arc::new(OnDomainEvents {
            recorder: recorder.clone(),
        }),
    ));
    app.subscribers.push((
        "audit-security",
        Arc::new(OnSecurityEvents {
            recorder: recorder.clone(),
        }),
    ));
    let service = grpc::Service {
        kit,
        exempt,
        recorder,
        watches: Shares::new(MAX_WATCHES, MAX_WATCHES_OF_ONE),
        exports: Arc::new(Semaphore::new(MAX_EXPORTS)),
    };
    app.routes
        .add_service(AuditServiceServer::new(service.clone()))
        .add_service(AuditOperatorServiceServer::new(service));
    Ok(app)
}
