//! What a process exports is what the alerts of the deployment watch, under the names and labels that they use.

use std::process::Stdio;
use std::time::Duration;

use harness::within;

use super::program::serve_command;

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
    let port = || {
        let listener = std::net::TcpListener::bind("127.0.0.1:0");
        let address = listener.and_then(|listener| listener.local_addr());
        address.expect("a port").to_string()
    };
    let (listen, admin) = (port(), port());
    let changes = [
        ("CATALYST_LISTEN", &*listen),
        ("CATALYST_ADMIN_LISTEN", &*admin),
    ];
    let mut process = serve_command("projects", &changes)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    let url = format!("http://{admin}/metrics");
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
    let pid = process.id().to_string();
    let told = std::process::Command::new("kill")
        .args(["-TERM", &pid])
        .status();
    assert!(told.expect("kill runs").success());
    process.wait().expect("it ends");
    assert!(
        complete.is_some(),
        "of what is watched, this is there: {text}"
    );
}
