//! Credentials of tenants through the program's own commands: issued, listed, revoked, suspended with their tenant.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use async_nats::connection::State;
use async_nats::{Client, ConnectOptions};
use futures::StreamExt;
use harness::eventually;
use serde_json::Value;

use crate::binary::program::{Folder, Up};

fn nats_url(up: &Up) -> String {
    let text = std::fs::read_to_string(up.dir.join("running.json")).expect("it runs");
    let running: Value = serde_json::from_str(&text).expect("JSON");
    running["nats_url"].as_str().expect("a URL").to_owned()
}

async fn connect(up: &Up, file: &Path) -> Result<Client, async_nats::ConnectError> {
    let options = ConnectOptions::with_credentials_file(file).await;
    options.expect("credentials").connect(nats_url(up)).await
}

async fn is_cut_off(up: &Up, client: &Client, file: &Path) {
    eventually("the connection is cut", async || {
        (client.connection_state() != State::Connected).then_some(())
    })
    .await;
    assert!(
        connect(up, file).await.is_err(),
        "{} is let in again",
        file.display()
    );
}

/// Subscribes and hears a client being created.
async fn hears(up: &Up, client: &Client, tenant: &str, code: &str) {
    let listed = up.succeeds(&["tenants", "get", tenant, "--json"]);
    let listed: Value = serde_json::from_str(&listed).expect("JSON");
    let id = listed["id"].as_str().expect("an id");
    let subject = format!("catalyst.{id}.projects.client_created");
    let mut heard = client.subscribe(subject).await.expect("sent");
    client.flush().await.expect("sent");
    up.succeeds(&[
        "--tenant", tenant, "clients", "create", "--code", code, "--name", code,
    ]);
    let limit = std::time::Duration::from_secs(10);
    let message = tokio::time::timeout(limit, heard.next()).await;
    assert!(
        matches!(message, Ok(Some(_))),
        "{tenant} does not hear {code}"
    );
}

#[tokio::test]
async fn credentials_are_issued_listed_revoked_and_suspended_by_the_programs_commands() {
    let folder = Folder::new();
    let up = Up::start(&folder.0.join("data"), &[]).await;
    let issue = |tenant: &str, name: &str| {
        let file = folder.0.join(format!("{name}.creds"));
        let out = file.to_string_lossy().into_owned();
        up.succeeds(&[
            "tenants",
            "credentials",
            tenant,
            "--name",
            name,
            "--out",
            &out,
        ]);
        let mode = std::fs::metadata(&file)
            .expect("the file")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
        file
    };
    let (one, two) = (issue("acme", "one"), issue("acme", "two"));
    let other = issue("globex", "other");
    let listed = up.succeeds(&["tenants", "credentials", "list", "--json"]);
    let listed: Vec<Value> = listed
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let names: Vec<_> = listed.iter().map(|user| user["name"].as_str()).collect();
    assert_eq!(names, [Some("one"), Some("two"), Some("other")]);
    let first = connect(&up, &one).await.expect("it connects");
    let second = connect(&up, &two).await.expect("it connects");
    let third = connect(&up, &other).await.expect("it connects");

    let key = listed[0]["public_key"].as_str().expect("a key");
    up.succeeds(&["tenants", "credentials", "revoke", key]);
    is_cut_off(&up, &first, &one).await;
    hears(&up, &second, "acme", "NORTH").await;

    up.succeeds(&["tenants", "suspend", "acme", "--reason", "unpaid"]);
    is_cut_off(&up, &second, &two).await;
    let refused = up.run(&["tenants", "credentials", "acme"]);
    assert!(
        !refused.status.success(),
        "a suspended tenant was given credentials"
    );
    hears(&up, &third, "globex", "SOUTH").await;

    up.succeeds(&["tenants", "resume", "acme"]);
    let again = connect(&up, &two).await.expect("it is let in again");
    eventually("the firm is let in again", async || {
        let listed = up.run(&["--tenant", "acme", "clients", "list"]);
        listed.status.success().then_some(())
    })
    .await;
    hears(&up, &again, "acme", "EAST").await;
    assert!(connect(&up, &one).await.is_err(), "revoked is for good");
}
