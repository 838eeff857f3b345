//! What a process exports is what the alerts of the deployment watch, under the names and labels that they use.

use std::time::Duration;

use harness::within;

use super::program::Serving;

/// Each series as Prometheus sees it: its name, and labels that it carries.
const WATCHED: [(&str, &[&str]); 10] = [
    (
        "catalyst_outbox_depth",
        &["outbox=\"outbox\"", "service=\"projects\""],
    ),
    (
        "catalyst_outbox_depth",
        &["outbox=\"security_outbox\"", "service=\"projects\""],
    ),
    (
        "catalyst_outbox_age_seconds",
        &["outbox=\"outbox\"", "service=\"projects\""],
    ),
    ("catalyst_outbox_slowed_total", &["service=\"projects\""]),
    ("catalyst_consumer_lag", &["consumer=\"projects\""]),
    (
        "catalyst_consumer_redelivered_total",
        &["consumer=\"projects\""],
    ),
    (
        "catalyst_consumer_dead_letters_total",
        &["consumer=\"projects\""],
    ),
    ("catalyst_consumer_parked_total", &["consumer=\"projects\""]),
    ("catalyst_server_shed_total", &["reason=\"load\""]),
    (
        "catalyst_server_shed_total",
        &["reason=\"outbox\"", "service=\"projects\""],
    ),
];

#[tokio::test]
async fn a_process_exports_what_the_alerts_watch_from_its_start() {
    let process = Serving::projects();
    let url = format!("http://{}/metrics", process.admin);
    let mut text = String::new();
    let complete = within(Duration::from_secs(30), async || {
        text = reqwest::get(&url).await.ok()?.text().await.ok()?;
        let is_there = |(name, labels): &(&str, &[&str])| {
            text.lines().any(|line| {
                line.starts_with(&format!("{name}{{"))
                    && labels.iter().all(|label| line.contains(label))
            })
        };
        WATCHED.iter().all(is_there).then_some(())
    })
    .await;
    assert!(
        complete.is_some(),
        "of what is watched, this is there: {text}"
    );
}
