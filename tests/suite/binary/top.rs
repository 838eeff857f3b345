//! `catalyst top`: who uses a process is seen, under the name of the firm.

use std::process::Stdio;

use harness::{Caller, Firm, binary, eventually, world};
use proto::projects::v1 as projects;
use serde_json::Value;
use tonic::transport::Endpoint;

use super::program::serve_command;

#[tokio::test]
async fn top_shows_what_a_tenant_does_between_two_looks() {
    let firm = Firm::new("Topmost").await;
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
    let channel = Endpoint::from_shared(format!("http://{listen}"))
        .expect("a URL")
        .connect_lazy();
    let caller = Caller::clone(&firm).over(channel);
    let lists = async || {
        let request = projects::ListClientsRequest::default();
        caller.projects().list_clients(request).await.ok()
    };
    eventually("the process serves", lists).await;

    let token = harness::token_with(kit::TenantId::PLATFORM, "olga", &["platform_operator"]);
    let looking = tokio::process::Command::new(binary())
        .args(["top", "--count", "1", "--every", "1", "--json"])
        .args(["--metrics-urls", &format!("http://{admin}")])
        .args(["--url", &world().url, "--token", &token])
        .stdin(Stdio::null())
        .output();
    let calls = async {
        loop {
            lists().await;
        }
    };
    let output = tokio::select! {
        output = looking => output.expect("the program runs"),
        () = calls => unreachable!("calls go on"),
    };
    let pid = process.id().to_string();
    let told = std::process::Command::new("kill")
        .args(["-TERM", &pid])
        .status();
    assert!(told.expect("kill runs").success());
    process.wait().expect("it ends");

    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    let rows = text.lines().map(serde_json::from_str::<Value>);
    let rows: Vec<Value> = rows.collect::<Result<_, _>>().expect("lines of JSON");
    let id = firm.id.to_string();
    let row = rows
        .iter()
        .find(|row| row["tenantId"] == id.as_str())
        .unwrap_or_else(|| panic!("the firm is not there: {text}{error}"));
    let slug = row["slug"].as_str().expect("its name");
    assert!(slug.starts_with("topmost"), "{slug}");
    for figure in ["callsPerSecond", "p99", "connections"] {
        assert!(row[figure].as_f64().is_some_and(|it| it > 0.0), "{row}");
    }
    assert_eq!(row["limitedPerSecond"].as_f64(), Some(0.0));
}
