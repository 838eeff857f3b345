//! The identities against a real nats-server: what each may do works, everything else is refused.

use std::future::Future;
use std::time::Duration;

use async_nats::jetstream::{self, consumer::PullConsumer, kv, stream};
use async_nats::{Client, ConnectOptions, Event, Subscriber};
use futures::StreamExt as _;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use uuid::Uuid;

use super::*;
use crate::stack::locate::{self, NatsChoice};
use crate::stack::nats::Nats;
use crate::stack::tests::Folder;

const ACME: Uuid = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_000a);
const GLOBEX: Uuid = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_000b);

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), future)
        .await
        .expect("it did not happen within 10 s")
}

struct Bus {
    nats: Nats,
    folder: Folder,
}

impl Bus {
    async fn start() -> Self {
        let folder = Folder::new();
        let identities = Identities::load_or_create(&folder.path().join("identity")).unwrap();
        let server = locate::nats(NatsChoice::Auto, &|_| {}).await.unwrap();
        let nats = Nats::start(&server, &folder.path().join("nats"), &identities, true)
            .await
            .unwrap();
        Self { nats, folder }
    }

    /// A bus with the stream of events, a durable of projects that hears of consultants, and the bucket.
    async fn with_streams() -> Self {
        let bus = Self::start().await;
        let migrator = jetstream::new(bus.user("migrator").await.client);
        let all = |from: &str| format!("{from}.>");
        let events = migrator
            .create_stream(stream::Config {
                name: "CATALYST".into(),
                subjects: vec!["ingest.*.*.*".into()],
                subject_transform: Some(stream::SubjectTransform {
                    source: all("ingest"),
                    destination: all("catalyst"),
                }),
                republish: Some(stream::Republish {
                    source: all("catalyst"),
                    destination: all("catalyst"),
                    headers_only: false,
                }),
                ..stream::Config::default()
            })
            .await
            .unwrap();
        events
            .create_consumer(jetstream::consumer::pull::Config {
                durable_name: Some("projects".into()),
                filter_subject: "catalyst.*.consultants.*".into(),
                ..Default::default()
            })
            .await
            .unwrap();
        migrator
            .create_stream(stream::Config {
                name: "DEAD_LETTERS".into(),
                subjects: vec!["dead_letter.>".into()],
                ..stream::Config::default()
            })
            .await
            .unwrap();
        migrator
            .create_key_value(kv::Config {
                bucket: "tenants".into(),
                ..kv::Config::default()
            })
            .await
            .unwrap();
        bus
    }

    fn identity(&self) -> PathBuf {
        self.folder.path().join("identity")
    }

    async fn user(&self, name: &str) -> User {
        let file = self.identity().join(format!("credentials/{name}.creds"));
        let credentials = fs::read_to_string(file).unwrap();
        self.connect(&credentials, &format!("_INBOX_{name}"))
            .await
            .unwrap()
    }

    async fn tenant(&self, tenant: Uuid) -> User {
        let credentials = issue_tenant_credentials(&self.identity(), tenant, "a test").unwrap();
        self.connect(&credentials, "_INBOX_tenant").await.unwrap()
    }

    async fn connect(
        &self,
        credentials: &str,
        inbox: &str,
    ) -> Result<User, async_nats::ConnectError> {
        let (heard, events) = unbounded_channel();
        let client = ConnectOptions::with_credentials(credentials)
            .unwrap()
            .custom_inbox_prefix(inbox)
            .event_callback(move |event| {
                let _ = heard.send(event);
                async {}
            })
            .connect(self.nats.url())
            .await?;
        Ok(User { client, events })
    }
}

struct User {
    client: Client,
    events: UnboundedReceiver<Event>,
}

impl User {
    #[expect(
        clippy::disallowed_methods,
        reason = "the test asks what the server lets through"
    )]
    async fn says(&self, subject: &str) {
        self.client
            .publish(subject.to_owned(), "x".into())
            .await
            .unwrap();
    }

    /// Subscribes, and waits until the server has taken note.
    async fn hears(&self, subject: &str) -> Subscriber {
        let subscriber = self.client.subscribe(subject.to_owned()).await.unwrap();
        self.round_trip().await;
        subscriber
    }

    /// Returns when the server has worked off all that was sent before.
    async fn round_trip(&self) {
        let subject = "$JS.API.INFO.round.trip";
        // Nobody answers or it is forbidden; either way the server comes to it last.
        let answer = self.client.request(subject, "".into());
        let _ = tokio::time::timeout(Duration::from_millis(300), answer).await;
    }

    async fn is_refused_to_say(&mut self, subject: &str) {
        self.says(subject).await;
        self.sees(&format!(
            "Permissions Violation for Publish to \"{subject}\""
        ))
        .await;
    }

    async fn is_refused_to_hear(&mut self, subject: &str) {
        let _subscriber = self.client.subscribe(subject.to_owned()).await.unwrap();
        self.sees(&format!(
            "Permissions Violation for Subscription to \"{subject}\""
        ))
        .await;
    }

    async fn sees(&mut self, what: &str) {
        soon(async {
            loop {
                let event = self.events.recv().await.expect("the connection is gone");
                if event
                    .to_string()
                    .to_lowercase()
                    .contains(&what.to_lowercase())
                {
                    return;
                }
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_tenant_hears_its_own_events_and_no_others() {
    let bus = Bus::with_streams().await;
    let projects = bus.user("projects").await;
    let mut acme = bus.tenant(ACME).await;
    let mut events = acme.hears(&format!("catalyst.{ACME}.projects.*")).await;

    projects
        .says(&format!("ingest.{GLOBEX}.projects.project_created"))
        .await;
    projects
        .says(&format!("ingest.{ACME}.projects.project_created"))
        .await;

    let event = soon(events.next()).await.unwrap();
    assert_eq!(
        event.subject.as_str(),
        format!("catalyst.{ACME}.projects.project_created")
    );
    for foreign in [
        &format!("catalyst.{GLOBEX}.>"),
        "catalyst.*.projects.*",
        "catalyst.>",
        ">",
        "_INBOX.>",
    ] {
        acme.is_refused_to_hear(foreign).await;
    }
}

#[tokio::test]
async fn a_tenant_can_say_nothing_and_ask_nothing() {
    let bus = Bus::with_streams().await;
    let mut acme = bus.tenant(ACME).await;
    for subject in [
        &format!("catalyst.{ACME}.projects.project_created"),
        &format!("ingest.{ACME}.projects.project_created"),
        "anything",
        "$JS.API.INFO",
        "$JS.API.STREAM.INFO.CATALYST",
        "$JS.API.CONSUMER.MSG.NEXT.CATALYST.projects",
        "$JS.ACK.CATALYST.projects.1.1.1.1.1",
        "$SYS.REQ.CLAIMS.UPDATE",
    ] {
        acme.is_refused_to_say(subject).await;
    }
}

#[tokio::test]
async fn a_service_cannot_speak_for_another_nor_hear_its_replies() {
    let bus = Bus::with_streams().await;
    let mut projects = bus.user("projects").await;
    for subject in [
        &format!("ingest.{ACME}.audit.entry_appended"),
        &format!("catalyst.{ACME}.projects.project_created"),
        "dead_letter.audit.x",
        "relay.audit",
        "$KV.tenants.acme",
        "$JS.API.STREAM.DELETE.CATALYST",
        "$JS.API.CONSUMER.CREATE.CATALYST.mine",
        "$JS.API.CONSUMER.MSG.NEXT.CATALYST.audit",
        "$JS.ACK.CATALYST.audit.1.1.1.1.1",
        "$SYS.REQ.CLAIMS.UPDATE",
    ] {
        projects.is_refused_to_say(subject).await;
    }
    for subject in [
        "_INBOX_audit.>",
        "_INBOX.>",
        "catalyst.>",
        "security.>",
        "relay.audit",
        ">",
    ] {
        projects.is_refused_to_hear(subject).await;
    }
}

#[tokio::test]
async fn a_service_reads_its_durable() {
    let bus = Bus::with_streams().await;
    let projects = jetstream::new(bus.user("projects").await.client);
    let durable: PullConsumer = soon(projects.get_consumer_from_stream("projects", "CATALYST"))
        .await
        .unwrap();
    let consultants = bus.user("consultants").await;
    consultants
        .says(&format!("ingest.{ACME}.consultants.consultant_created"))
        .await;
    consultants
        .says(&format!("ingest.{ACME}.consultants.consultant_updated"))
        .await;

    let mut messages = durable
        .stream()
        .max_messages_per_batch(1)
        .messages()
        .await
        .unwrap();
    let first = soon(messages.next()).await.unwrap().unwrap();
    first.double_ack().await.unwrap();
    let second = soon(messages.next()).await.unwrap().unwrap();
    second
        .double_ack_with(jetstream::AckKind::Term)
        .await
        .unwrap();
}

#[tokio::test]
async fn an_operator_reads_and_replays_dead_letters_and_can_remove_nothing() {
    let bus = Bus::with_streams().await;
    let mut operator = bus.user("operator").await;
    let mut events = operator.hears("catalyst.>").await;
    let audit = bus.user("audit").await;
    audit.says(&format!("dead_letter.audit.{ACME}.x")).await;

    let client = jetstream::new(operator.client.clone());
    let letters = soon(client.get_stream("DEAD_LETTERS")).await.unwrap();
    let consumer = soon(letters.create_consumer(jetstream::consumer::pull::Config {
        name: Some("reader".into()),
        ack_policy: jetstream::consumer::AckPolicy::None,
        ..Default::default()
    }))
    .await
    .unwrap();
    let mut messages = consumer.messages().await.unwrap();
    let letter = soon(messages.next()).await.unwrap().unwrap();
    let sequence = letter.info().unwrap().stream_sequence;
    soon(letters.get_raw_message(sequence)).await.unwrap();
    soon(letters.delete_consumer("reader")).await.unwrap();

    operator
        .says(&format!("ingest.{ACME}.projects.project_created"))
        .await;
    soon(events.next()).await.unwrap();
    for subject in [
        "$JS.API.STREAM.MSG.DELETE.DEAD_LETTERS",
        "$JS.API.STREAM.PURGE.DEAD_LETTERS",
        "$JS.API.CONSUMER.DELETE.CATALYST.projects",
        "$KV.tenants.acme",
    ] {
        operator.is_refused_to_say(subject).await;
    }
}

#[tokio::test]
async fn every_service_watches_the_bucket_of_tenants_across_a_restart_of_the_server() {
    let mut bus = Bus::with_streams().await;
    let tenants = jetstream::new(bus.user("tenants").await.client);
    let writer = soon(tenants.get_key_value("tenants")).await.unwrap();
    let revision = soon(writer.create("acme", "active".into())).await.unwrap();
    let mut watches = Vec::new();
    for service in [
        "tenants",
        "consultants",
        "projects",
        "time-entries",
        "audit",
    ] {
        let service = jetstream::new(bus.user(service).await.client);
        let bucket = soon(service.get_key_value("tenants")).await.unwrap();
        let entry = soon(bucket.entry("acme")).await.unwrap().unwrap();
        assert_eq!(entry.value, "active");
        let mut watch = soon(bucket.watch_with_history(">")).await.unwrap();
        assert_eq!(soon(watch.next()).await.unwrap().unwrap().value, "active");
        watches.push(watch);
    }

    let suspends = async {
        bus.nats.restart().await.unwrap();
        // The client connects again by itself; the update may be stored although its answer is lost.
        while writer
            .update("acme", "suspended".into(), revision)
            .await
            .is_err()
        {
            let entry = writer.entry("acme").await;
            if entry.is_ok_and(|entry| entry.is_some_and(|entry| entry.revision > revision)) {
                break;
            }
        }
    };
    let learn = watches.into_iter().map(|mut watch| async move {
        // A watch reports what it missed and goes on.
        while !matches!(watch.next().await, Some(Ok(entry)) if entry.value == "suspended") {}
    });
    soon(futures::future::join(
        suspends,
        futures::future::join_all(learn),
    ))
    .await;
}

#[tokio::test]
async fn a_revoked_user_is_cut_off_and_stays_out() {
    let mut bus = Bus::start().await;
    let identity = bus.identity();
    let mut users = Vec::new();
    // Several within one second: a token that is no newer than the last must not be dropped.
    for name in ["one", "two", "three"] {
        let credentials = issue_tenant_credentials(&identity, ACME, name).unwrap();
        let user = bus.connect(&credentials, "_INBOX_tenant").await.unwrap();
        users.push((credentials, user));
    }
    let mut other = bus.tenant(ACME).await;
    let issued = tenant_users(&identity).unwrap();
    for user in issued.iter().take(3) {
        revoke_tenant_user(&identity, &bus.nats.url(), &user.public_key)
            .await
            .unwrap();
    }
    for (credentials, user) in &mut users {
        user.sees("disconnected").await;
        assert!(bus.connect(credentials, "_INBOX_tenant").await.is_err());
    }
    assert!(
        tenant_users(&identity)
            .unwrap()
            .iter()
            .take(3)
            .all(|user| user.revoked_at.is_some())
    );
    other.is_refused_to_hear("catalyst.>").await;

    bus.nats.restart().await.unwrap();
    let (revoked, _) = users.first().unwrap();
    assert!(bus.connect(revoked, "_INBOX_tenant").await.is_err());
    bus.tenant(ACME).await;
}

#[test]
fn the_tag_of_a_tenant_comes_from_its_id_alone() {
    let folder = Folder::new();
    Identities::load_or_create(folder.path()).unwrap();
    let credentials = issue_tenant_credentials(folder.path(), ACME, "tenant:*").unwrap();
    let jwt = credentials.lines().nth(1).unwrap();
    let claims = jwt.split('.').nth(1).unwrap();
    let claims = data_encoding::BASE64URL_NOPAD
        .decode(claims.as_bytes())
        .unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(claims["name"], "tenant:*");
    assert_eq!(claims["nats"]["tags"], json!([format!("tenant:{ACME}")]));
}

#[test]
fn keys_last_and_secrets_are_readable_by_their_owner_alone() {
    let folder = Folder::new();
    let first = Identities::load_or_create(folder.path()).unwrap();
    let second = Identities::load_or_create(folder.path()).unwrap();
    assert_eq!(first.system_account(), second.system_account());
    assert!(first.account_jwts().keys().eq(second.account_jwts().keys()));
    for secret in [
        "keys/operator.nk",
        "keys/tenants-signing.nk",
        "credentials/sys.creds",
    ] {
        let mode = fs::metadata(folder.path().join(secret))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{secret}");
    }
}
