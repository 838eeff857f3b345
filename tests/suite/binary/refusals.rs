//! A process that may not serve says why in one line and exits with the documented code.

use std::process::Output;

use catalyst::stack::NatsChoice;
use catalyst::stack::identity::Identities;
use catalyst::stack::locate;
use catalyst::stack::nats::Nats;
use harness::world;
use serde_json::json;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

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

// The program is awaited on one thread while the endpoint answers on another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_too_old_is_refused_with_78() {
    // What Debian's nats-server says of itself, but for its syncing.
    let (old, _serving) = monitor(json!({
        "server_name": "old",
        "version": "2.9.10",
        "jetstream": { "config": { "sync_always": true } },
    }))
    .await;
    let refused = serve("consultants", &[("CATALYST_NATS_MONITOR_URLS", &old)]);
    is_refused(&refused, 78, "old has version 2.9.10: 2.14.3 or later");
    // Each of several servers is asked.
    let both = format!("{},{old}", world().nats_monitor_url);
    let refused = serve("consultants", &[("CATALYST_NATS_MONITOR_URLS", &both)]);
    is_refused(&refused, 78, "2.9.10");
}

// The program is awaited on one thread while its database answers on another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_too_old_is_refused_with_78() {
    let (old, _serving) = older_database().await;
    let refused = serve("consultants", &[("CATALYST_DATABASE_URL", &old)]);
    is_refused(&refused, 78, "PostgreSQL 15.17 has known faults");
}

#[tokio::test]
async fn an_address_that_is_taken_is_named_with_64() {
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    for name in ["CATALYST_LISTEN", "CATALYST_ADMIN_LISTEN"] {
        is_refused(&serve("consultants", &[(name, &address)]), 64, name);
    }
}

// The program is awaited on one thread while the endpoint answers on another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_told_in_the_order_of_the_start() {
    let away = "postgres://127.0.0.1:1/catalyst";
    let (old, _serving) = monitor(json!({ "server_name": "old", "version": "2.9.10" })).await;
    let mut wrong = vec![
        ("CATALYST_LISTEN", "0.0.0.0:0"),
        ("CATALYST_NATS_MONITOR_URLS", &old),
        ("CATALYST_DATABASE_URL", away),
        ("CATALYST_NATS_URL", "nats://127.0.0.1:1"),
    ];
    // Settings before servers, brokers before the database, the database before the bus.
    for (code, names) in [(64, "CATALYST_LISTEN"), (78, "2.9.10"), (69, "database")] {
        is_refused(&serve("consultants", &wrong), code, names);
        wrong.remove(0);
    }
    is_refused(&serve("consultants", &wrong), 69, "CATALYST_NATS_URL");

    // What the schema lacks before how it isolates.
    let copy = OwnDatabase::migrated().await;
    copy.execute(
        "alter table consultants.consultant no force row level security; \
         delete from consultants._migration where version = 100",
    )
    .await;
    let here = [("CATALYST_DATABASE_URL", copy.url.as_str())];
    is_refused(&serve("consultants", &here), 78, "migrations are pending");
    copy.remove().await;
}

/// The world's database behind a door where it says that it is 15.17, for as long as the second value is kept.
async fn older_database() -> (String, JoinSet<()>) {
    let server = world().database_url.clone();
    let address = server
        .trim_start_matches("postgres://")
        .split('/')
        .next()
        .expect("an address")
        .to_owned();
    let mut admin = PgConnection::connect(&world().postgres_admin_url)
        .await
        .expect("connected");
    let asked = "select current_setting('server_version_num')::int4";
    let version: i32 = sqlx::query_scalar(asked)
        .fetch_one(&mut admin)
        .await
        .expect("its version");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let here = listener.local_addr().expect("its address").to_string();
    let url = server.replace(&address, &here);
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(&address).await.expect("the database");
            connections.spawn(says_it_is_older(client, server, version));
        }
    });
    (url, serving)
}

/// Carries one connection, and in the database's answers one version for another.
async fn says_it_is_older(client: TcpStream, server: TcpStream, version: i32) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let asks = async { tokio::io::copy(&mut from_client, &mut to_server).await };
    let answers = async {
        let mut bytes = vec![0; 64 * 1024];
        loop {
            let length = from_server.read(&mut bytes).await?;
            let answer = bytes.get_mut(..length).unwrap_or_default();
            if answer.is_empty() {
                return Ok(());
            }
            let found = answer
                .windows(4)
                .position(|window| window == version.to_be_bytes());
            if let Some(at) = found {
                answer[at..at + 4].copy_from_slice(&150_017_i32.to_be_bytes());
            }
            to_client.write_all(answer).await?;
        }
    };
    // Whoever leaves first ends both ways.
    let _: Result<(), std::io::Error> = tokio::select! {
        asked = asks => asked.map(|_| ()),
        answered = answers => answered,
    };
}

/// A monitoring endpoint that says this of its server, for as long as the second value is kept.
async fn monitor(varz: serde_json::Value) -> (String, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("its address"));
    let answer = async move || varz.to_string();
    let router = axum::Router::new().route("/varz", axum::routing::get(answer));
    let mut serving = JoinSet::new();
    serving.spawn(async move { axum::serve(listener, router).await.expect("it serves") });
    (url, serving)
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
