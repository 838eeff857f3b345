//! What is beside the database: the brokers' versions and syncing, and the key sets of users and services.

use kit::attest::{Finding, Severity};
use kit::bus::{self, BusError};
use kit::settings::NatsSettings;

use super::Outcome;
use super::settings::KeySources;
use crate::services;

/// A broker is older than the floor.
pub(super) const VERSION: &str = "broker-version";
/// A broker acknowledges before it has synced.
pub(super) const UNSYNCED: &str = "broker-unsynced";
/// A key set cannot be read, or lacks a key.
pub(super) const KEYS: &str = "keys-unusable";

/// Each server of the bus, by its monitoring endpoint.
pub(super) async fn brokers(settings: &NatsSettings) -> Outcome {
    let mut findings = Vec::new();
    for url in &settings.nats_monitor_urls {
        let one = NatsSettings {
            nats_monitor_urls: vec![url.clone()],
            // What is allowed is still said.
            allow_unsynced: false,
            ..settings.clone()
        };
        let Err(error) = bus::check_brokers(&one).await else {
            continue;
        };
        let (rule, severity, remedy) = match &error {
            BusError::TooOld { .. } => (
                VERSION,
                Severity::Error,
                "upgrade nats-server to 2.14.3 or later",
            ),
            BusError::Unsynced { .. } if settings.allow_unsynced => (
                UNSYNCED,
                Severity::Warning,
                "set `sync_interval: always` in its jetstream block",
            ),
            BusError::Unsynced { .. } => (
                UNSYNCED,
                Severity::Error,
                "set `sync_interval: always` in its jetstream block",
            ),
            _ => return Err(error.to_string()),
        };
        let (BusError::TooOld { name, .. } | BusError::Unsynced { name }) = &error else {
            return Err(error.to_string());
        };
        findings.push(Finding {
            rule,
            severity,
            object: name.clone(),
            problem: match &error {
                BusError::TooOld { version, .. } => format!("has version {version}"),
                _ => "does not sync every write before it acknowledges it".to_owned(),
            },
            remedy: remedy.to_owned(),
        });
    }
    let servers = settings.nats_monitor_urls.len();
    Ok((
        format!("version and syncing of {servers} servers"),
        findings,
    ))
}

/// Both key sets, read as a service reads them at start; that of the services has a key for each.
pub(super) async fn keys(sources: &KeySources) -> Outcome {
    let mut findings = Vec::new();
    let mut unusable = |object: &str, problem: String, remedy: String| {
        findings.push(Finding {
            rule: KEYS,
            severity: Severity::Error,
            object: object.to_owned(),
            problem,
            remedy,
        });
    };
    if let Err(error) = kit::key_ids("CATALYST_AUTH_JWKS", &sources.users).await {
        let remedy = format!("make the issuer's key set readable at {}", sources.users);
        unusable("CATALYST_AUTH_JWKS", error.problem, remedy);
    }
    match kit::key_ids("CATALYST_WORKLOAD_JWKS", &sources.workloads).await {
        Err(error) => {
            let remedy = format!(
                "make the services' key set readable at {}",
                sources.workloads
            );
            unusable("CATALYST_WORKLOAD_JWKS", error.problem, remedy);
        }
        Ok(ids) => {
            for service in services::ALL.iter().map(|definition| definition.name) {
                if !ids.iter().any(|id| id == service) {
                    let remedy = format!("add the public key of {service} with the kid {service}");
                    unusable(
                        "CATALYST_WORKLOAD_JWKS",
                        format!("has no key of {service}"),
                        remedy,
                    );
                }
            }
        }
    }
    Ok(("the key sets of users and services".to_owned(), findings))
}
