//! A deployment of its own with dedicated cells, each on a PostgreSQL of its own.

use std::ops::Deref;
use std::path::PathBuf;

use async_nats::ConnectOptions;
use async_nats::jetstream;
use catalyst::deployment::Deployment;
use catalyst::services;
use harness::{Caller, Firm, OwnDeployment};
use kit::cells::CellName;
use kit::events::Stream;
use kit::host::Host;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _};
use tonic::transport::{Channel, Endpoint};

/// Connections that a service may have in all dedicated cells together, and in one of them.
pub(super) const ROOM: u32 = 4;
pub(super) const ROOM_OF_ONE: u32 = 4;

/// The running deployment.
pub(super) struct Ground {
    own: OwnDeployment,
    pub(super) channel: Channel,
    pub(super) host: Host,
}

impl Deref for Ground {
    type Target = Deployment;

    fn deref(&self) -> &Deployment {
        &self.own.deployment
    }
}

pub(super) fn named(cell: &str) -> CellName {
    CellName::parse(cell).expect("a name")
}

/// All services in one process.
async fn process(deployment: &Deployment) -> (Host, Channel) {
    let mut settings = harness::settings();
    let own = deployment.settings(settings.listen.clone());
    settings.database = own.database;
    settings.database.cells.cell_max_connections = ROOM_OF_ONE;
    settings.database.cells.cells_max_connections = ROOM;
    settings.database.database_wait_milliseconds = 10_000;
    settings.nats = own.nats;
    let names: Vec<&str> = services::ALL.iter().map(|it| it.name).collect();
    let of_services = services::ServiceSettings {
        checkpoints: deployment.checkpoint_settings(),
        ..Default::default()
    };
    let host = harness::host_with(&settings, &names, &of_services).await;
    let host = host.expect("the services start");
    let url = Endpoint::from_shared(format!("http://{}", host.address));
    (host, url.expect("a URL").connect_lazy())
}

impl Ground {
    pub(super) async fn start(cells: &[&str]) -> Self {
        let cells = cells.iter().map(|cell| named(cell)).collect();
        let own = OwnDeployment::start(cells, async |_| {}).await;
        let (host, channel) = process(&own.deployment).await;
        Self { own, channel, host }
    }

    /// A new firm whose rows are in the cell.
    pub(super) async fn firm(&self, cell: &str) -> Firm {
        Firm::placed(self.channel.clone(), "placed", cell).await
    }

    /// An operator of the platform.
    pub(super) fn operator(&self) -> Caller {
        Caller::operator().over(self.channel.clone())
    }

    /// The file that says where a cell is.
    pub(super) fn file_of(&self, cell: &str) -> PathBuf {
        self.stack.cells_dir.join(cell)
    }

    /// What a question to a cell's database finds, as superuser.
    pub(super) async fn asks(&self, cell: &str, question: &str) -> i64 {
        let url = match self.stack.cell_admin_urls().cells.get(&named(cell)) {
            Some(url) => url.clone(),
            None => self.stack.postgres_admin_url.clone(),
        };
        let mut admin = PgConnection::connect(&url).await.expect("connected");
        let asked = sqlx::query_scalar(AssertSqlSafe(question.to_owned()));
        let found = asked.fetch_one(&mut admin).await.expect("asked");
        admin.close().await.expect("closed");
        found
    }

    /// Changes something in a cell's database, as superuser.
    pub(super) async fn does(&self, cell: &str, statement: &str) {
        let mut admin = self.owner(cell).await;
        let done = sqlx::raw_sql(AssertSqlSafe(statement.to_owned()));
        done.execute(&mut admin).await.expect("done");
        admin.close().await.expect("closed");
    }

    /// A connection to a cell's database as its superuser.
    pub(super) async fn owner(&self, cell: &str) -> PgConnection {
        let url = self.stack.cell_admin_urls().cells[&named(cell)].clone();
        PgConnection::connect(&url).await.expect("connected")
    }

    /// One more process of all services.
    pub(super) async fn another_process(&self) -> (Host, Channel) {
        process(self).await
    }

    /// The settings of its processes.
    pub(super) fn database_settings(&self) -> kit::settings::DatabaseSettings {
        let settings = self.settings(harness::settings().listen);
        settings.database
    }

    /// Connections of the serving roles in a cell.
    pub(super) async fn connections(&self, cell: &str) -> i64 {
        let of = "select count(*) from pg_stat_activity where usename ~ '_app$'";
        self.asks(cell, of).await
    }

    /// Tells once more of the last project of a firm, as a new event.
    pub(super) async fn repeats_event(&self, tenant: kit::TenantId) {
        let words = format!("{tenant}.projects.project_created");
        let jetstream = jetstream::new(self.user("migrator").await);
        let stream = jetstream.get_stream(Stream::Domain.name()).await;
        let heard = format!("{}.{words}", Stream::Domain.heard());
        let stream = stream.expect("the stream");
        let event = stream.get_last_raw_message_by_subject(&heard).await;
        let event = event.expect("the event");
        // The broker's own headers are of the message that it was, perhaps one of a batch.
        let told = event.headers.iter();
        let told = told.filter(|(name, _)| !name.to_string().starts_with("Nats-"));
        let told = told.flat_map(|(name, values)| values.iter().map(move |value| (name, value)));
        let mut headers = async_nats::HeaderMap::new();
        for (name, value) in told {
            headers.append(name.clone(), value.clone());
        }
        let id = kit::ctx::Clock::system().new_uuid().to_string();
        headers.insert("Nats-Msg-Id", id.as_str());
        headers.insert("ce-id", id.as_str());
        let subject = format!("{}.{words}", Stream::Domain.ingest());
        let operator = self.user("operator").await;
        let sent = operator.request_with_headers(subject, headers, event.payload);
        let stored = sent.await.expect("the stream answers").payload;
        let stored = String::from_utf8_lossy(&stored).into_owned();
        assert!(!stored.contains("error"), "{stored}");
    }

    async fn user(&self, name: &str) -> async_nats::Client {
        let stack = &self.stack;
        let credentials = stack.credentials_dir.join(format!("{name}.creds"));
        let options = ConnectOptions::with_credentials_file(credentials).await;
        let options = options.expect("credentials");
        let options = options.custom_inbox_prefix(format!("_INBOX_{name}"));
        options.connect(&stack.nats_url).await.expect("connected")
    }

    /// Ends a cell's server, at once.
    pub(super) async fn stops(&mut self, cell: &str) {
        let server = self.own.deployment.stack.cells.get_mut(&named(cell));
        let stopped = server.expect("a cell").stop().await;
        stopped.expect("it stops");
    }

    /// Starts it again, where it was.
    pub(super) async fn starts(&mut self, cell: &str) {
        let server = self.own.deployment.stack.cells.get_mut(&named(cell));
        let started = server.expect("a cell").restart().await;
        started.expect("it starts");
    }

    /// The doctor with what a process has whose operator has forgotten the folder of the cells.
    pub(super) fn doctor_names_cells_that_it_was_not_shown(&self) {
        let judged = std::process::Command::new(harness::binary())
            .args(["doctor", "--only", "database", "--json"])
            .env_clear()
            .envs(harness::environment(self))
            .output()
            .expect("the program runs");
        let said = String::from_utf8_lossy(&judged.stdout);
        assert_eq!(judged.status.code(), Some(1), "{said}");
        for cell in super::CELLS {
            let named = format!("\"object\":\"the cell {cell}\"");
            assert!(said.contains(&named), "{said}");
        }
    }

    pub(super) async fn end(self) {
        self.host.stop().await;
        self.own.end(|_| ()).await;
    }
}
