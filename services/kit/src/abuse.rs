//! What peers do on the wire that no correct client does: counted, and on record each second.

use std::net::IpAddr;

use opentelemetry::KeyValue;
use proto::common::v1::ProtocolAbuse;

use crate::security::{SecurityLog, Unverified};
use crate::telemetry::METRICS;

/// Where the server of a process tells what it saw. Without a service there is nowhere to record it but the metrics.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reports {
    log: Option<SecurityLog>,
}

impl Reports {
    /// The log of any one service will do: what is recorded is of the process.
    pub(crate) fn new(log: SecurityLog) -> Self {
        Self { log: Some(log) }
    }

    /// A peer broke the rules of the transport.
    pub(crate) fn abuse(&self, peer: Option<IpAddr>, abuse: ProtocolAbuse) {
        let kind = abuse.as_str_name().trim_start_matches("PROTOCOL_ABUSE_");
        METRICS
            .abuses
            .add(1, &[KeyValue::new("abuse", kind.to_lowercase())]);
        self.count(peer, Unverified::Transport(abuse));
    }

    /// A peer called what is not served.
    pub(crate) fn unknown_method(&self, peer: Option<IpAddr>) {
        METRICS
            .abuses
            .add(1, &[KeyValue::new("abuse", "unknown_method")]);
        self.count(peer, Unverified::UnknownMethod);
    }

    fn count(&self, peer: Option<IpAddr>, what: Unverified) {
        if let Some(log) = &self.log {
            log.count_unverified(peer, what);
        }
    }
}
