//! A second process of all services on the same database and broker, for what only other settings show.

use std::num::NonZeroU32;

use catalyst::services;
use kit::ctx::Clock;
use kit::host::Host;
use kit::settings::Settings;
use tonic::transport::Endpoint;

use crate::{Caller, world};

/// The replica. It serves, but hears no events, so that it takes no event of other tests with it when it ends.
pub struct Replica {
    /// Where it serves gRPC.
    pub url: String,
    host: Host,
}

impl Replica {
    /// Starts one that lets each tenant call `per_second` times a second.
    pub async fn with_rate(per_second: NonZeroU32) -> Self {
        Self::with(|settings| settings.listen.limits.tenant_calls_per_second = per_second).await
    }

    /// Starts one with settings of its own.
    pub async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = world().settings.clone();
        // The server of the tests has no room for a second process of full size.
        settings.database.database_max_connections = 2;
        change(&mut settings);
        let mut services = services::all(&world().services);
        for (definition, _) in &mut services {
            definition.subscriptions = &[];
        }
        let registry = prometheus::Registry::new();
        let host = Host::start(&settings, services, registry, Clock::system())
            .await
            .expect("the replica starts");
        Self {
            url: format!("http://{}", host.address),
            host,
        }
    }

    /// The same caller, at the replica.
    pub fn called_by(&self, caller: &Caller) -> Caller {
        let endpoint = Endpoint::from_shared(self.url.clone()).expect("the replica's URL");
        caller.clone().over(endpoint.connect_lazy())
    }

    /// Stops it in order.
    pub async fn stop(self) {
        self.host.stop().await;
    }
}
