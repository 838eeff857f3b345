//! `catalyst up`: everything on one machine, started, used by the README's commands, stopped and started again.

use std::time::Duration;

use super::program::{Folder, Up};

#[tokio::test]
async fn up_serves_the_commands_of_the_readme_and_stops_in_order() {
    let folder = Folder::new();
    let mut up = Up::start(&folder.0.join("data"), &[]).await;

    let token = up.succeeds(&["token", "--tenant", "acme", "--role", "admin"]);
    assert_eq!(token.trim().split('.').count(), 3, "{token}");
    let created = up.succeeds(&[
        "--tenant", "acme", "clients", "create", "--code", "NORTH", "--name", "North", "--json",
    ]);
    assert!(created.contains("\"code\":\"NORTH\""), "{created}");
    assert!(
        up.succeeds(&["--tenant", "acme", "clients", "list"])
            .contains("NORTH")
    );
    assert!(
        !up.succeeds(&["--tenant", "globex", "clients", "list"])
            .contains("NORTH")
    );
    up.succeeds(&["doctor"]);
    up.succeeds(&["permissions"]);

    let twice = up.run(&[
        "--tenant", "acme", "clients", "create", "--code", "NORTH", "--name", "N",
    ]);
    assert_eq!(twice.status.code(), Some(1));
    let unknown = up.run(&["--tenant", "nobody", "clients", "list"]);
    let said = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(
        !unknown.status.success() && said.contains("nobody"),
        "{said}"
    );
    let refused = up.run(&["--tenant", "acme", "--token", "nonsense", "clients", "list"]);
    assert_eq!(refused.status.code(), Some(77));

    let (code, took) = up.signal("-INT").await;
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(10), "the stop took {took:?}");
    assert_eq!(folder.processes(), Vec::<String>::new());
}

#[tokio::test]
async fn after_a_kill_the_next_start_finds_everything_as_it_was_acknowledged() {
    let folder = Folder::new();
    let mut up = Up::start(&folder.0.join("data"), &[]).await;
    up.succeeds(&[
        "--tenant", "acme", "clients", "create", "--code", "NORTH", "--name", "North",
    ]);
    up.signal("-KILL").await;

    let mut up = Up::start(&folder.0.join("data"), &[]).await;
    assert!(
        up.succeeds(&["--tenant", "acme", "clients", "list"])
            .contains("NORTH")
    );
    // What the killed consumer held is delivered again once its time to acknowledge is over.
    let trail = harness::within(Duration::from_secs(30), async || {
        let trail = up.succeeds(&["--tenant", "acme", "audit", "list"]);
        trail.contains("ClientCreated").then_some(())
    });
    assert!(
        trail.await.is_some(),
        "the event of before the kill is not on record"
    );
    let (code, _) = up.signal("-TERM").await;
    assert_eq!(code, Some(0));
    assert_eq!(folder.processes(), Vec::<String>::new());
}

#[tokio::test]
async fn a_server_that_is_killed_is_told_of_and_started_again() {
    let folder = Folder::new();
    let mut up = Up::start(&folder.0.join("data"), &["--cell", "west"]).await;
    let servers = [
        ("postgres/data -c", "PostgreSQL"),
        ("postgres-west/data -c", "PostgreSQL"),
        ("nats-server.json", "nats-server"),
    ];
    let mut tries = 0;
    for (part, name) in servers {
        let told = format!("{name} ended (signal: 9 (SIGKILL)) and is started again");
        let times = up.said().matches(&told).count();
        folder.kill(part);
        let again = harness::within(Duration::from_secs(30), async || {
            tries += 1;
            let code = format!("C-{tries}");
            let create = ["clients", "create", "--code", &code, "--name", "North"];
            let is_told = up.said().matches(&told).count() > times;
            let is_whole = up.run(&["doctor"]).status.success();
            let is_served = up.run(&[&["--tenant", "acme"], &create[..]].concat());
            (is_told && is_whole && is_served.status.success()).then_some(())
        });
        assert!(again.await.is_some(), "{}", up.said());
    }
    assert_eq!(up.signal("-INT").await.0, Some(0));
    assert_eq!(folder.processes(), Vec::<String>::new());
}

#[tokio::test]
async fn a_second_up_on_the_same_folder_says_so_and_harms_nothing() {
    let folder = Folder::new();
    let mut up = Up::start(&folder.0.join("data"), &[]).await;
    let second = up.run(&[
        "up",
        "--listen",
        "127.0.0.1:0",
        "--admin-listen",
        "127.0.0.1:0",
    ]);
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(
        !second.status.success() && said.contains("another catalyst is running"),
        "{said}"
    );
    up.succeeds(&["--tenant", "acme", "clients", "list"]);
    assert_eq!(up.signal("-INT").await.0, Some(0));
}
