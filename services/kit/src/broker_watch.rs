//! Hears whom the broker turns away, and puts it on record as it does with refused tokens: counted by source.
//!
//! The servers tell it in their system account, to a user that may hear that and nothing else. What a user that was let
//! in may not do they tell that user and their log alone.

use std::net::IpAddr;
use std::time::Duration;

use futures::StreamExt;
use proto::common::v1::AuthenticationFailure;
use serde::Deserialize;

use crate::bus::Bus;
use crate::security::{SecurityLog, Unverified};
use crate::settings::NatsSettings;
use crate::tasks::Tasks;

/// The user of the system account.
const USER: &str = "auth-watch";
/// Where every server of the cluster tells of a connection that it refused.
const REFUSALS: &str = "$SYS.SERVER.*.CLIENT.AUTH.ERR";

/// What a server tells, as far as it is put on record.
#[derive(Deserialize)]
struct Refusal {
    client: Client,
}

#[derive(Deserialize)]
struct Client {
    host: Option<IpAddr>,
}

/// Runs until the process stops. Replicas share the work: each refusal is counted by one of them.
pub(crate) async fn run(settings: NatsSettings, security: SecurityLog, tasks: Tasks) {
    let file = settings.nats_credentials_dir.join(format!("{USER}.creds"));
    if !file.exists() {
        tracing::warn!(file = %file.display(), "without these credentials, connections that NATS refuses are not put on record");
        return;
    }
    loop {
        tokio::select! {
            () = tasks.stopping() => return,
            outcome = hear(&settings, &security) => {
                if let Err(error) = outcome {
                    tracing::warn!(error = %error, "connections that NATS refuses are not put on record for now");
                }
            }
        }
        if !tasks.pause(Duration::from_secs(5)).await {
            return;
        }
    }
}

async fn hear(settings: &NatsSettings, security: &SecurityLog) -> Result<(), async_nats::Error> {
    let bus = Bus::connect(settings, USER).await?;
    let mut refusals = bus.share(REFUSALS.to_owned(), USER.to_owned()).await?;
    while let Some(message) = refusals.next().await {
        security.count_unverified(
            source(&message.payload),
            Unverified::Token(AuthenticationFailure::Broker),
        );
    }
    Ok(())
}

/// The address that the connection came from, if the server tells it.
fn source(payload: &[u8]) -> Option<IpAddr> {
    let refusal: Refusal = serde_json::from_slice(payload).ok()?;
    refusal.client.host
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_is_the_host_of_the_client() {
        let told = br#"{"type":"io.nats.server.advisory.v1.client_disconnect","client":{"host":"10.1.2.3","id":9},"reason":"Authentication Failure"}"#;
        assert_eq!(source(told), Some(IpAddr::from([10, 1, 2, 3])));
        assert_eq!(source(br#"{"client":{"host":"a name"}}"#), None);
        assert_eq!(source(b"{"), None);
    }
}
