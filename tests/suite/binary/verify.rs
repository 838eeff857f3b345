//! `catalyst audit export` and `verify` as programs run them: their files and their exit codes.

use std::path::Path;
use std::process::{Command, Output};

use harness::{Firm, binary, token_with, within, world};
use kit::TenantId;

use super::program::Folder;

fn run(firm: &Firm, arguments: &[&str]) -> Output {
    let world = world();
    let token = token_with(TenantId::PLATFORM, "operator", &["platform_operator"]);
    Command::new(binary())
        .args(["--json", "--url", &world.url, "--token", &token])
        .args(["--tenant", &firm.id.to_string(), "audit"])
        .args(arguments)
        .env(
            "CATALYST_AUDIT_CHECKPOINT_PUBLIC_KEYS",
            &world.checkpoint_jwks,
        )
        .env("CATALYST_NATS_URL", &world.nats_url)
        .env(
            "CATALYST_NATS_CREDS",
            world.credentials_dir.join("operator.creds"),
        )
        .output()
        .expect("the program runs")
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The findings, a JSON value a line.
fn findings(output: &Output) -> Vec<serde_json::Value> {
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path of text")
}

#[tokio::test]
async fn a_trail_is_exported_verified_and_named_where_it_is_bad() {
    let firm = Firm::new("Inspected").await;
    firm.creates_project("Apollo").await;
    let folder = Folder::new();
    let anchor = folder.0.join("anchor.json");
    let verified = within(std::time::Duration::from_secs(30), async || {
        let output = run(&firm, &["verify", "--save-anchor", path(&anchor)]);
        assert_eq!(code(&output), Some(0), "{}", told(&output));
        let log = findings(&output).remove(0);
        (log["records"].as_i64() >= Some(2) && log["signedTo"] == log["records"]).then_some(output)
    })
    .await
    .expect("everything is signed");
    let summary = findings(&verified).pop().expect("a summary");
    assert_eq!(summary["good"], true, "{summary}");

    let output = run(&firm, &["verify", "--anchor", path(&anchor)]);
    assert_eq!(code(&output), Some(0), "{}", told(&output));

    let exported = run(&firm, &["export"]);
    assert_eq!(code(&exported), Some(0), "{}", told(&exported));
    let file = folder.0.join("export.ndjson");
    let text = String::from_utf8(exported.stdout).expect("text");
    std::fs::write(&file, &text).expect("written");
    let good = run(&firm, &["verify", "--file", path(&file)]);
    assert_eq!(code(&good), Some(0), "{}", told(&good));

    let forged = text.replacen(
        "catalyst.projects.v1.ClientCreated",
        "catalyst.projects.v1.ClientUpdated",
        1,
    );
    assert_ne!(forged, text);
    std::fs::write(&file, &forged).expect("written");
    let bad = run(&firm, &["verify", "--file", path(&file)]);
    assert_eq!(code(&bad), Some(78), "{}", told(&bad));
    let log = findings(&bad).remove(0);
    assert_eq!(log["tenantId"], firm.id.to_string());
    assert_eq!(
        (&log["bad"]["sequence"], &log["bad"]["code"]),
        (&1.into(), &"changed".into()),
        "{log}"
    );
    assert!(
        told(&bad).contains("record 1 of the tenant log"),
        "{}",
        told(&bad)
    );

    // What cannot be checked is no finding.
    std::fs::write(&file, &text[..text.len() / 2]).expect("written");
    assert_eq!(
        code(&run(&firm, &["verify", "--file", path(&file)])),
        Some(65)
    );
    let nowhere = run(&firm, &["verify", "--nats-url", "nats://127.0.0.1:9"]);
    assert_eq!(code(&nowhere), Some(69), "{}", told(&nowhere));
    let keyless = run(&firm, &["verify", "--key", "/nowhere"]);
    assert_eq!(code(&keyless), Some(64), "{}", told(&keyless));
}
