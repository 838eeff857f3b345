//! A serving process: telemetry, services, signals, and an end in order.

use std::time::Duration;

use kit::ctx::Clock;
use kit::host::{Build, Definition, Host};
use kit::settings::{Settings, TelemetrySettings};
use kit::telemetry::Telemetry;
use tokio::signal::unix::{SignalKind, signal};

/// After this the process ends whatever is still running.
const HARD_STOP: Duration = Duration::from_secs(15);
/// How long the collector may take with the last traces; with the longest stop before it, it stays within 10 s.
const FLUSH: Duration = Duration::from_secs(1);

/// Serves until SIGTERM or Ctrl-C; a second one ends the process at once.
pub async fn run(
    settings: &Settings,
    telemetry: &TelemetrySettings,
    services: Vec<(Definition, Build)>,
) -> anyhow::Result<()> {
    let telemetry = kit::telemetry::start(telemetry)?;
    let outcome = async {
        let host = Host::start(settings, services, telemetry.registry(), Clock::system()).await?;
        tracing::info!(grpc.address = %host.address, admin.address = %host.admin_address, "ready");
        stop_signal().await?;
        stop_within(host.stop()).await
    }
    .await;
    flush(telemetry).await;
    outcome
}

/// Sends the last traces, if the collector takes them in time.
pub async fn flush(telemetry: Telemetry) {
    if tokio::time::timeout(FLUSH, telemetry.flush())
        .await
        .is_err()
    {
        tracing::warn!("the last traces could not be sent in time");
    }
}

/// Resolves with SIGTERM or Ctrl-C.
pub async fn stop_signal() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Waits for an orderly stop, at most [`HARD_STOP`] and not beyond a second signal.
pub async fn stop_within(stop: impl Future<Output = ()>) -> anyhow::Result<()> {
    tokio::select! {
        () = stop => Ok(()),
        () = tokio::time::sleep(HARD_STOP) => anyhow::bail!("the stop took longer than {} s and was cut short", HARD_STOP.as_secs()),
        again = stop_signal() => {
            again?;
            anyhow::bail!("stopped at once by a second signal")
        }
    }
}
