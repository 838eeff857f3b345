//! Further processes' worth of services, in this process: on the world's servers, with settings of the test's own.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU16, Ordering};

use catalyst::services;
use kit::ctx::Clock;
use kit::host::{Host, StartError};
use kit::settings::Settings;

use crate::world;

/// Settings of a process beside the world's: the same servers and keys, other ports.
pub fn settings() -> Settings {
    let mut settings = world().settings.clone();
    settings.listen.reflection = false;
    settings.database.database_max_connections = 4;
    settings
}

/// Starts services by their names, as one more process would.
pub async fn host(settings: &Settings, names: &[&str]) -> Result<Host, StartError> {
    host_with(settings, names, &world().services).await
}

/// As [`host`], with settings of single services.
pub async fn host_with(
    settings: &Settings,
    names: &[&str],
    own: &services::ServiceSettings,
) -> Result<Host, StartError> {
    let services = names
        .iter()
        .map(|name| services::service(name, own).expect("a service"))
        .collect();
    Host::start(
        settings,
        services,
        prometheus::Registry::new(),
        Clock::system(),
    )
    .await
}

/// An address of this machine that no other test calls from, so that what is counted by source is this test's.
pub fn own_source() -> IpAddr {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    [127, 77, high, low].into()
}
