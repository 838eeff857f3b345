//! A deployment of its own whose PostgreSQL logs the plan of every statement, with firms of very different size.
//!
//! Invariant: the rows are there and analyzed before a service connects, so that no plan is made for empty tables; and
//! autovacuum is off, so that none is made anew while it is measured.

use std::path::Path;

use catalyst::deployment::Deployment;
use catalyst::services;
use harness::{Caller, OwnDeployment, Webhook, eventually, within};
use kit::TenantId;
use kit::host::Host;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _};
use tonic::transport::{Channel, Endpoint};
use uuid::Uuid;

/// How many firms there are.
const FIRMS: u16 = 120;
/// The number of the whale.
pub(super) const WHALE: u16 = 1;
/// What the whale has; the median of the firms has 55.
const WHALE_UNITS: u32 = 10_000;

/// What stays the same for every session: each statement's plan, with what it read, and the parameters of each call.
const LOGGED: &str = "
    load 'auto_explain';
    alter system set autovacuum = off;
    alter system set logging_collector = on;
    alter system set log_destination = 'jsonlog';
    alter system set log_directory = 'log';
    alter system set log_filename = 'plans';
    alter system set log_rotation_size = 0;
    alter system set log_statement = 'all';
    alter system set log_parameter_max_length = 64;
    alter system set session_preload_libraries = 'auto_explain';
    alter system set auto_explain.log_min_duration = 0;
    alter system set auto_explain.log_analyze = on;
    alter system set auto_explain.log_buffers = on;
    alter system set auto_explain.log_timing = off;
    alter system set auto_explain.log_settings = on;
    alter system set auto_explain.log_format = json;
    alter system set auto_explain.log_nested_statements = on;
    alter role postgres set log_statement = 'none';
    alter role postgres set auto_explain.log_min_duration = -1;";

/// The running deployment.
pub(super) struct Ground {
    own: OwnDeployment,
    pub(super) settings: kit::settings::Settings,
    /// The sink of all alerts.
    pub(super) webhook: Webhook,
    channel: Channel,
    host: Host,
}

/// The id of a kind of thing of a firm, as `seed.sql` makes it.
pub(super) fn id(kind: u32, firm: u16, number: u32) -> String {
    format!("{kind:08x}-0000-7000-8{firm:03}-{number:012}")
}

/// The tenant of a firm.
pub(super) fn tenant(firm: u16) -> TenantId {
    let id = Uuid::parse_str(&id(0xa, firm, 0)).expect("an id");
    TenantId::new(id)
}

impl Ground {
    /// Starts servers, loads the rows, and starts all services.
    pub(super) async fn start() -> Self {
        let own = OwnDeployment::start(Vec::new(), prepare).await;
        let deployment = &own.deployment;

        let webhook = Webhook::start(&deployment.keys.webhook_secret()).await;
        let webhook = webhook.expect("it listens");
        let mut settings = harness::settings();
        let from = deployment.settings(settings.listen.clone());
        settings.database = from.database;
        // One, whose plans are made for the smallest firm, and whose caches are warm when the measure begins.
        settings.database.database_max_connections = 1;
        settings.nats = from.nats;
        let mut of_services = services::ServiceSettings {
            checkpoints: audit::CheckpointSettings {
                audit_checkpoint_seconds: 1,
                ..deployment.checkpoint_settings()
            },
            ..Default::default()
        };
        of_services.audit.audit_flood_window_seconds = std::num::NonZeroU16::MIN;
        of_services.audit.alert_webhook_url = Some(webhook.url.clone());
        of_services.audit.alert_webhook_secret_file = Some(deployment.keys.webhook_secret());
        let names: Vec<&str> = services::ALL.iter().map(|it| it.name).collect();
        let host = harness::host_with(&settings, &names, &of_services).await;
        let host = host.expect("the services start");
        let url = format!("http://{}", host.address);
        Self {
            channel: Endpoint::from_shared(url).expect("a URL").connect_lazy(),
            own,
            settings,
            webhook,
            host,
        }
    }

    /// Someone of a firm.
    pub(super) fn user(&self, firm: u16, subject: &str, roles: &[&str]) -> Caller {
        Caller::user(tenant(firm), subject, roles).over(self.channel.clone())
    }

    /// Waits until every service lets a firm in.
    pub(super) async fn lets_in(&self, firm: u16) {
        let admin = self.user(firm, "admin", &["admin"]);
        eventually("the firm is let in", async || {
            for list in [
                "catalyst.projects.v1.ProjectService/ListClients",
                "catalyst.consultants.v1.ConsultantService/ListConsultants",
                "catalyst.time_entries.v1.TimeEntryService/ListTimeEntries",
                "catalyst.audit.v1.AuditService/ListAlerts",
            ] {
                let answer = harness::probe(&admin, list, Vec::new()).await;
                (answer.code == tonic::Code::Ok).then_some(())?;
            }
            Some(())
        })
        .await;
    }

    /// An operator of the platform.
    pub(super) fn operator(&self) -> Caller {
        Caller::operator().over(self.channel.clone())
    }

    /// A connection as superuser, of which nothing is logged.
    pub(super) async fn admin(&self) -> PgConnection {
        connect(&self.own.deployment.stack.postgres_admin_url).await
    }

    /// Waits until every event is published and has been heard, but for those that are tried again.
    pub(super) async fn settles(&self) {
        let waiting = services::ALL.map(|it| {
            format!(
                "exists (select from {0}.outbox) or exists (select from {0}.security_outbox)",
                it.schema
            )
        });
        let waiting = format!("select {}", waiting.join(" or "));
        let monitor = format!(
            "{}/jsz?consumers=true",
            self.own.deployment.stack.nats_monitor_url
        );
        let http = reqwest::Client::builder()
            .no_proxy()
            .build()
            .expect("a client");
        let mut admin = self.admin().await;
        let settled = within(std::time::Duration::from_secs(30), async || {
            let asked = sqlx::query_scalar(AssertSqlSafe(waiting.clone())).fetch_one(&mut admin);
            let waits: bool = asked.await.expect("asked");
            let answer = http.get(&monitor).send().await.ok()?.bytes().await.ok()?;
            let jsz = serde_json::from_slice(&answer).ok()?;
            (!waits && harness::unconsumed(&jsz) == 0).then_some(())
        });
        settled.await.expect("everything is heard");
    }

    /// Waits until the sink of alerts has refused one.
    pub(super) async fn is_refused_by_the_sink(&self) {
        eventually("a delivery is refused", async || {
            (!self.webhook.refused().is_empty()).then_some(())
        })
        .await;
    }

    /// Puts a line into the log.
    pub(super) async fn marks(&self, line: &str) {
        let mut admin = self.admin().await;
        for sql in [
            "set log_statement = 'all'".to_owned(),
            format!("select '{line}'"),
        ] {
            let told = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut admin).await;
            told.expect("the administrator may");
        }
    }

    /// Ends everything; what PostgreSQL logged.
    pub(super) async fn end(self) -> String {
        self.host.stop().await;
        let log = |dir: &Path| std::fs::read_to_string(dir.join("postgres/data/log/plans.json"));
        self.own.end(log).await.expect("the log")
    }
}

/// Makes PostgreSQL log what it is for, and loads the rows.
async fn prepare(deployment: &mut Deployment) {
    let url = deployment.stack.postgres_admin_url.clone();
    let mut admin = connect(&url).await;
    for setting in LOGGED.split_terminator(';') {
        let set = sqlx::raw_sql(setting).execute(&mut admin).await;
        set.expect("the administrator may");
    }
    admin.close().await.expect("closed");
    let postgres = deployment.stack.postgres.as_mut().expect("one of our own");
    postgres.restart().await.expect("it starts again");
    let seed = format!(include_str!("seed.sql"), firms = FIRMS, whale = WHALE_UNITS);
    execute(&url, &seed).await;
    execute(&url, "vacuum analyze").await;
}

async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.expect("connected")
}

async fn execute(url: &str, sql: &str) {
    let mut admin = connect(url).await;
    let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
    done.execute(&mut admin)
        .await
        .expect("the administrator may");
    admin.close().await.expect("closed");
}
