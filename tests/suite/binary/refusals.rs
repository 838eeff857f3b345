//! A process that may not serve says why in one line and exits with the documented code.

use std::process::Output;

use catalyst::stack::NatsChoice;
use catalyst::stack::identity::Identities;
use catalyst::stack::locate;
use catalyst::stack::nats::Nats;

use super::own_database::OwnDatabase;
use super::program::{Folder, serve_command};

fn serve(service: &str, changes: &[(&str, &str)]) -> Output {
    serve_command(service, changes)
        .output()
        .expect("the program runs")
}

fn is_refused(output: &Output, code: i32, names: &str) {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert_eq!(said.trim().lines().count(), 1, "more than one line: {said}");
    assert!(said.contains(names), "{said}");
}

#[tokio::test]
async fn a_bad_setting_is_named_with_64() {
    for (name, value) in [
        ("CATALYST_DATABASE_PASSWORD_DIR", "/nonexistent"),
        ("CATALYST_NATS_CREDENTIALS_DIR", "/nonexistent"),
        ("CATALYST_AUTH_JWKS", "/nonexistent"),
        ("CATALYST_WORKLOAD_KEY_DIR", "/nonexistent"),
        ("CATALYST_PAGE_TOKEN_KEY_FILE", "/nonexistent"),
        ("CATALYST_DATABASE_URL", "nonsense"),
    ] {
        is_refused(&serve("consultants", &[(name, value)]), 64, name);
    }
}

#[tokio::test]
async fn a_service_that_does_not_exist_is_named_with_64() {
    is_refused(&serve("payroll", &[]), 64, "payroll");
}

#[tokio::test]
async fn servers_that_are_away_end_the_start_with_69() {
    let away = serve(
        "consultants",
        &[("CATALYST_NATS_MONITOR_URLS", "http://127.0.0.1:1")],
    );
    is_refused(&away, 69, "http://127.0.0.1:1");
    let away = serve(
        "consultants",
        &[("CATALYST_DATABASE_URL", "postgres://127.0.0.1:1/catalyst")],
    );
    is_refused(&away, 69, "database");
}

#[tokio::test]
async fn a_broker_that_does_not_sync_is_refused_with_78() {
    let folder = Folder::new();
    let server = locate::nats(NatsChoice::Auto, &|_| {})
        .await
        .expect("a nats-server");
    let identities = Identities::load_or_create(&folder.0.join("identity")).expect("keys");
    let dir = folder.0.join("nats");
    let mut nats = Nats::start(&server, &dir, &identities, false)
        .await
        .expect("it starts");
    let refused = serve(
        "consultants",
        &[("CATALYST_NATS_MONITOR_URLS", &nats.monitor_url())],
    );
    is_refused(&refused, 78, "sync_interval");
    nats.stop().await.expect("it stops");
}

#[tokio::test]
async fn pending_migrations_and_departures_from_isolation_are_refused_with_78() {
    let copy = OwnDatabase::migrated().await;
    let here = [("CATALYST_DATABASE_URL", copy.url.as_str())];

    copy.execute("alter table consultants.consultant no force row level security")
        .await;
    is_refused(&serve("consultants", &here), 78, "consultants.consultant");
    copy.execute("alter table consultants.consultant force row level security")
        .await;

    copy.execute("delete from consultants._migration where version = 100")
        .await;
    is_refused(
        &serve("consultants", &here),
        78,
        "consultants/0100_consultant",
    );
    copy.remove().await;
}
