//! `catalyst events rebuild`: a stream that was lost is there again, from the audit records, as it was.
//!
//! Each test has a deployment of its own: a database, a broker, and all services in this process.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Output, Stdio};

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::{AckPolicy, pull};
use catalyst::deployment::migrate_broker;
use catalyst::services;
use futures::StreamExt as _;
use harness::{Firm, binary, eventually, world};
use kit::bus::Bus;
use kit::ctx::Clock;
use kit::host::Host;
use kit::settings::Settings;
use serde_json::Value;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _};
use tonic::transport::{Channel, Endpoint};

use super::lone::Lone;
use crate::binary::own_database::OwnDatabase;

/// What consumers have made of events, counted and summed.
const EFFECTS: &[&str] = &[
    "select count(*)::bigint, coalesce(sum(version), 0)::bigint from projects.consultant",
    "select count(*)::bigint, coalesce(sum(version), 0)::bigint from time_entries.project",
    "select count(*)::bigint, coalesce(sum(version), 0)::bigint from time_entries.consultant",
    "select count(*)::bigint, coalesce(sum(sequence), 0)::bigint from audit.record",
];

/// An event as the stream has it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stored {
    subject: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Stored {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    fn id(&self) -> &str {
        self.header("ce-id")
    }
}

pub(super) struct Own {
    database: OwnDatabase,
    pub(super) lone: Lone,
    settings: Settings,
    pub(super) migrator: Bus,
}

impl Own {
    pub(super) async fn start() -> Self {
        let database = OwnDatabase::migrated().await;
        let lone = Lone::start().await;
        let mut settings = harness::settings();
        settings.database.database_url = database.url.clone();
        settings.nats = lone.settings.clone();
        let migrator = Bus::connect(&settings.nats, "migrator").await;
        Self {
            database,
            lone,
            settings,
            migrator: migrator.expect("the migrator connects"),
        }
    }

    /// All services, and a way to them.
    pub(super) async fn serve(&self) -> (Host, Channel) {
        let names: Vec<&str> = services::ALL.iter().map(|it| it.name).collect();
        let host = harness::host(&self.settings, &names)
            .await
            .expect("it serves");
        let url = format!("http://{}", host.address);
        let channel = Endpoint::from_shared(url).expect("a URL").connect_lazy();
        (host, channel)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command
            .args(["--json", "events"])
            .args(arguments)
            .env("CATALYST_DATABASE_URL", &self.database.url)
            .env("CATALYST_DATABASE_PASSWORD_DIR", &world().password_dir)
            .env("CATALYST_NATS_URL", self.lone.nats.url())
            .env(
                "CATALYST_NATS_CREDENTIALS_DIR",
                &self.lone.settings.nats_credentials_dir,
            )
            .env("CATALYST_NATS_MONITOR_URLS", self.lone.nats.monitor_url())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a command of `catalyst events` to its end.
    async fn events(&self, arguments: &[&str]) -> Output {
        let mut command = self.command(arguments);
        let run = tokio::task::spawn_blocking(move || command.output());
        run.await.expect("it runs").expect("the program runs")
    }

    /// Runs one that must succeed; its last line.
    async fn tally(&self, arguments: &[&str]) -> Value {
        let output = self.events(arguments).await;
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {error}");
        last_line(&output)
    }

    async fn loses_the_stream(&self) {
        let deleted = self.migrator.jetstream().delete_stream("CATALYST").await;
        assert!(deleted.expect("the migrator may").success);
    }

    async fn migrates(&self) {
        let made = migrate_broker(&self.settings.nats, 1).await;
        made.expect("streams and durables are made again");
    }

    /// Everything that the stream holds, in its order.
    async fn stored(&self) -> Vec<Stored> {
        let jetstream = self.migrator.jetstream();
        let stream = jetstream.get_stream("CATALYST").await.expect("the stream");
        let name = format!("suite-{}", Clock::system().new_uuid().simple());
        let config = pull::Config {
            name: Some(name),
            ack_policy: AckPolicy::None,
            memory_storage: true,
            ..pull::Config::default()
        };
        let reader = stream.create_consumer(config).await.expect("a reader");
        let pending = usize::try_from(reader.cached_info().num_pending).expect("few");
        let messages = reader.fetch().max_messages(pending.max(1)).messages().await;
        let messages: Vec<_> = messages.expect("messages").collect().await;
        let stored: Vec<Stored> = messages
            .into_iter()
            .map(|message| {
                let message = message.expect("a message");
                Stored {
                    subject: message.subject.to_string(),
                    headers: attributes(message.headers.as_ref().expect("headers")),
                    body: message.payload.to_vec(),
                }
            })
            .collect();
        assert_eq!(stored.len(), pending);
        stored
    }

    /// Waits until every consumer has had everything.
    pub(super) async fn is_consumed(&self) {
        for definition in &services::ALL {
            for subscription in definition.subscriptions {
                let jetstream = self.migrator.jetstream();
                eventually("everything is consumed", async || {
                    let stream = jetstream
                        .get_stream(subscription.stream.name())
                        .await
                        .ok()?;
                    let info = stream.consumer_info(subscription.durable).await.ok()?;
                    (info.num_pending == 0 && info.num_ack_pending == 0).then_some(())
                })
                .await;
            }
        }
    }

    async fn effects(&self) -> Vec<(i64, i64)> {
        let mut admin = PgConnection::connect(&self.database.admin_url)
            .await
            .expect("connected");
        let mut effects = Vec::new();
        for sql in EFFECTS {
            let read = sqlx::query_as(AssertSqlSafe(*sql)).fetch_one(&mut admin);
            effects.push(read.await.expect("the effects are read"));
        }
        admin.close().await.expect("closed");
        effects
    }

    /// How many events wait in the outbox of projects.
    async fn waiting(&self) -> i64 {
        let mut admin = PgConnection::connect(&self.database.admin_url)
            .await
            .expect("connected");
        let count = sqlx::query_scalar("select count(*) from projects.outbox");
        let count = count.fetch_one(&mut admin).await.expect("it is counted");
        admin.close().await.expect("closed");
        count
    }

    pub(super) async fn end(self, host: Host) {
        host.stop().await;
        self.database.remove().await;
    }
}

fn attributes(headers: &HeaderMap) -> BTreeMap<String, String> {
    let all = headers.iter().map(|(name, values)| {
        let values: Vec<&str> = values.iter().map(async_nats::HeaderValue::as_str).collect();
        (name.to_string(), values.join(","))
    });
    // What the broker itself says of the message differs: when it was stored, in which batch.
    all.filter(|(name, _)| name == "Nats-Msg-Id" || !name.starts_with("Nats-"))
        .collect()
}

fn last_line(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(text.lines().last().unwrap_or_default()).expect("JSON")
}

/// The ids of each aggregate's events, in the order of the stream.
fn by_aggregate(stored: &[Stored]) -> BTreeMap<&str, Vec<&str>> {
    let mut orders: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for event in stored {
        orders
            .entry(event.header("ce-subject"))
            .or_default()
            .push(event.id());
    }
    orders
}

/// A firm with some of everything, each with several versions.
async fn works(channel: Channel) -> Firm {
    let firm = Firm::over(channel, "Rebuilt").await;
    let kim = firm.hires("Kim").await;
    let apollo = firm.creates_project("Apollo").await;
    firm.deletes_some(&apollo.id, &kim.id).await;
    firm.logs_hour(&apollo.id, &kim.id, 9).await;
    let request = proto::projects::v1::ArchiveProjectRequest {
        project_id: apollo.id,
        ..Default::default()
    };
    let archived = firm.projects().archive_project(request).await;
    archived.expect("the project is archived");
    firm
}

#[tokio::test]
async fn a_lost_stream_is_rebuilt_as_it_was_and_changes_no_effect() {
    let own = Own::start().await;
    let (host, channel) = own.serve().await;
    let firm = works(channel).await;
    own.tally(&["reconcile"]).await;
    own.is_consumed().await;
    let before = own.stored().await;
    let effects = own.effects().await;
    assert_eq!(own.tally(&["rebuild"]).await["missing"], 0);

    own.loses_the_stream().await;
    let refused = own.events(&["rebuild"]).await;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(69), "{said}");
    assert!(said.contains("catalyst migrate"), "{said}");
    own.migrates().await;
    let dry = own.tally(&["rebuild", "--dry-run"]).await;
    assert_eq!(
        (&dry["missing"], &dry["written"]),
        (&before.len().into(), &0.into())
    );
    let tally = own.tally(&["rebuild"]).await;
    assert_eq!(
        (&tally["held"], &tally["missing"], &tally["written"]),
        (&0.into(), &before.len().into(), &before.len().into())
    );
    let after = own.stored().await;
    let sorted = |stored: &[Stored]| {
        let events = stored.iter().map(|it| (it.id().to_owned(), it.clone()));
        events.collect::<BTreeMap<_, _>>()
    };
    assert_eq!(after.len(), before.len());
    assert_eq!(sorted(&after), sorted(&before));
    assert_eq!(by_aggregate(&after), by_aggregate(&before));
    own.is_consumed().await;
    assert_eq!(own.effects().await, effects);

    let again = own.tally(&["rebuild"]).await;
    assert_eq!(
        (&again["held"], &again["missing"], &again["written"]),
        (&before.len().into(), &0.into(), &0.into())
    );
    // The services go on as if nothing had been.
    firm.wins_client("After").await;
    let sound = own.tally(&["reconcile"]).await;
    assert_eq!(
        (&sound["sound"], &sound["onTheirWay"]),
        (&true.into(), &0.into())
    );
    own.end(host).await;
}

#[tokio::test]
async fn what_was_recorded_is_published_ahead_of_what_waited_while_the_stream_was_lost() {
    let own = Own::start().await;
    let (host, channel) = own.serve().await;
    let firm = Firm::over(channel, "Ordered").await;
    let client = firm.wins_client("First").await;
    own.tally(&["reconcile"]).await;
    let before = own.stored().await;

    own.loses_the_stream().await;
    for name in ["Second", "Third"] {
        let request = proto::projects::v1::UpdateClientRequest {
            client: Some(proto::projects::v1::Client {
                id: client.id.clone(),
                display_name: name.to_owned(),
                ..Default::default()
            }),
            update_mask: Some(prost_types::FieldMask {
                paths: vec!["display_name".to_owned()],
            }),
            ..Default::default()
        };
        let renamed = firm.projects().update_client(request).await;
        renamed.expect("the client is renamed");
    }
    host.stop().await;
    assert_eq!(own.waiting().await, 2);
    own.migrates().await;
    let rebuilding = own.command(&["rebuild"]).spawn().expect("it starts");
    eventually("the events are written", async || {
        (own.waiting().await == 3).then_some(())
    })
    .await;
    // Another run meets what waits already, adds nothing, and says what it waits for.
    let mut second = own.command(&["rebuild"]).spawn().expect("it starts");
    let said = BufReader::new(second.stderr.take().expect("its errors"));
    let said = tokio::task::spawn_blocking(move || said.lines().next());
    let said = said
        .await
        .expect("it is read")
        .expect("a line")
        .expect("text");
    assert!(said.contains("start the services"), "{said}");
    assert_eq!(own.waiting().await, 3);

    let (host, _) = own.serve().await;
    for (run, written) in [(rebuilding, before.len()), (second, 0)] {
        let ended = tokio::task::spawn_blocking(move || run.wait_with_output());
        let output = ended.await.expect("it ends").expect("its output");
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(last_line(&output)["written"], written);
    }

    own.tally(&["reconcile"]).await;
    let after = own.stored().await;
    let versions: Vec<&str> = after
        .iter()
        .filter(|event| event.header("ce-subject") == client.id)
        .map(|event| event.header("ce-sequence"))
        .collect();
    assert_eq!(versions, ["1", "2", "3"]);
    let ids: BTreeSet<&str> = after.iter().map(Stored::id).collect();
    assert_eq!(
        (ids.len(), after.len()),
        (before.len() + 2, before.len() + 2)
    );
    own.end(host).await;
}
