//! The host: from settings and definitions to running services, and in order back to nothing.
//!
//! Start: migrations are applied? isolation holds? brokers sync? then servers, relays, subscribers, ready.
//! Stop: not serving, short wait, GOAWAY and drain, subscribers, relays, end.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use prost_reflect::DescriptorPool;
use tonic::service::Routes;
use tonic::transport::server::TcpIncoming;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tower::Layer;

use crate::abuse::Reports;
use crate::admin;
use crate::aggregate::Aggregate;
use crate::bus::{self, Bus, BusError};
use crate::cache::Caches;
use crate::cells::{Keeper, OtherCell};
use crate::connections::Connections;
use crate::ctx::Clock;
use crate::db::Db;
use crate::door::{Door, Doors};
use crate::gate::Gate;
use crate::kit::Kit;
use crate::limits::Limits;
use crate::migrate::{MigrateError, Sql};
use crate::page::Pages;
use crate::permission::Rpc;
use crate::readiness::{self, Readiness};
use crate::security::SecurityLog;
use crate::server::CallLayer;
use crate::settings::{DatabaseSettings, Settings, SettingsError};
use crate::start::{Methods, Opened, add_reflection, bind, keep_small, local, open};
use crate::subscriber::parking::Parking;
use crate::subscriber::{Consuming, Subscriber, Subscription};
use crate::tasks::Tasks;
use crate::usage::USAGE;
use crate::workload::Workload;

/// How long callers and balancers have to notice NOT_SERVING before connections are asked to go. A call that is made at
/// the moment of that request fails in clients that do not send it again by themselves, which is most of them.
const NOTICE: Duration = Duration::from_secs(1);
/// How long calls in flight may take to end after that.
const DRAIN: Duration = Duration::from_secs(4);
/// How long each of those who are left may take to go: calls that outlive their connections, subscribers, the rest.
const LEAVE: Duration = Duration::from_secs(1);

/// What is known of a service without running it: for migrations, permissions, topology and the doctor.
#[derive(Clone, Copy, Debug)]
pub struct Definition {
    /// `time-entries`: the name in commands, credentials and logs.
    pub name: &'static str,
    /// `time_entries`: the schema, the prefix of its roles and the noun of its subjects.
    pub schema: &'static str,
    /// Its migrations, numbered from [`migrate::FIRST_SERVICE_VERSION`].
    pub migrations: &'static [Sql],
    /// Full names of the gRPC services that it serves.
    pub grpc_services: &'static [&'static str],
    /// The permission of each of its RPCs.
    pub permissions: &'static [Rpc],
    /// Its durable consumers.
    pub subscriptions: &'static [Subscription],
    /// Login roles besides owner, app and relay.
    pub exempt_roles: &'static [&'static str],
    /// Policies that one tenant's context does not bound, besides the relay's.
    pub exemptions: &'static [Exemption],
    /// The tables of the aggregates whose events it emits.
    pub aggregates: &'static [Aggregate],
    /// Tables that count the versions of other services' aggregates.
    pub copies: &'static [&'static str],
    /// Whether a tenant's rows are in the tenant's cell; those of a service that serves the platform as a whole are all
    /// in the shared one.
    pub in_cells: bool,
}

/// A table that a role may reach across tenants, and why.
#[derive(Clone, Copy, Debug)]
pub struct Exemption {
    /// The role that the policy is for.
    pub role: &'static str,
    /// The table, without its schema.
    pub table: &'static str,
    /// The commands that it may: `select`, `insert`, `update`, `delete`.
    pub commands: &'static [&'static str],
    /// Why it is right.
    pub reason: &'static str,
}

/// A service wired up: what it serves and what it hears.
#[derive(Default)]
pub struct App {
    /// Its gRPC services.
    pub routes: tonic::service::RoutesBuilder,
    /// Who applies the events of each subscription of the definition, by durable name.
    pub subscribers: Vec<(&'static str, Arc<dyn Subscriber>)>,
}

/// Builds the app of one service from its kit.
pub type Build =
    Box<dyn FnOnce(Kit) -> Pin<Box<dyn Future<Output = Result<App, StartError>> + Send>> + Send>;

/// Why a process does not start. Each is one line.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting is at fault.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The broker cannot be used.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The database cannot be reached or read.
    #[error(
        "the database cannot be used by {service}: {reason}; check CATALYST_DATABASE_URL and the role's password file"
    )]
    Database {
        /// The service.
        service: &'static str,
        /// The chain of causes.
        reason: String,
    },
    /// The database is in use as another cell.
    #[error(transparent)]
    Cell(OtherCell),
    /// The schema is behind this binary.
    #[error("migrations are pending: {}; run `catalyst migrate`", .0.join(", "))]
    Pending(Vec<String>),
    /// The list of migrations could not be read.
    #[error(transparent)]
    Migrations(#[from] MigrateError),
    /// The database does not isolate tenants as it must.
    #[error(
        "{service} does not serve: {first} ({count} departures from isolation; run `catalyst doctor`)"
    )]
    Isolation {
        /// The service.
        service: &'static str,
        /// The first departure.
        first: String,
        /// How many there are.
        count: usize,
    },
    /// The role table does not match the contract.
    #[error("{service} does not serve: {departure}")]
    Permissions {
        /// The service.
        service: &'static str,
        /// The first departure.
        departure: String,
    },
    /// An address cannot be bound.
    #[error("cannot listen on {address}: {source}; choose another {variable}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The variable that holds it.
        variable: &'static str,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The tenant directory did not arrive.
    #[error(
        "{service} could not read the tenant directory from NATS within 10 s; run `catalyst migrate`, check its credentials"
    )]
    Directory {
        /// The service.
        service: &'static str,
    },
}

/// Running services of one process.
pub struct Host {
    /// Where gRPC is served.
    pub address: SocketAddr,
    /// Where metrics and probes are served.
    pub admin_address: SocketAddr,
    health: HealthReporter,
    serving: Vec<&'static str>,
    readiness: Readiness,
    stop_servers: tokio_util::sync::CancellationToken,
    servers: Tasks,
    calls: Tasks,
    subscribers: Tasks,
    watchers: Tasks,
    background: Tasks,
}

impl Host {
    /// Checks everything that must hold, then serves. Nothing is left running after an error.
    pub async fn start(
        settings: &Settings,
        services: Vec<(Definition, Build)>,
        registry: prometheus::Registry,
        clock: Clock,
    ) -> Result<Self, StartError> {
        settings.check_wires()?;
        let tls = settings.wire.server()?;
        let listener = bind(settings.listen.listen, "CATALYST_LISTEN").await?;
        let admin_listener = bind(settings.listen.admin_listen, "CATALYST_ADMIN_LISTEN").await?;
        let address = local(&listener, settings.listen.listen);
        let admin_address = local(&admin_listener, settings.listen.admin_listen);

        let (health, health_service) = tonic_health::server::health_reporter();
        let host = Self {
            address,
            admin_address,
            health,
            serving: services
                .iter()
                .flat_map(|(definition, _)| definition.grpc_services)
                .copied()
                .collect(),
            readiness: Readiness::default(),
            stop_servers: tokio_util::sync::CancellationToken::new(),
            servers: Tasks::new(),
            calls: Tasks::new(),
            subscribers: Tasks::new(),
            watchers: Tasks::new(),
            background: Tasks::new(),
        };
        if let Err(error) = USAGE.register(&registry) {
            tracing::warn!(error = %error, "what tenants use is not on /metrics");
        }
        let mut routes = Routes::new(health_service);
        let mut methods = Methods::outside_the_contract(settings.listen.reflection);
        let mut reports = Reports::default();
        let mut doors = Doors::default();
        let limits = Limits::new(settings.listen.limits.clone());
        let started = async {
            let definitions = services.iter().map(|(definition, _)| *definition);
            let opening = definitions.map(|it| open(settings, it, &clock, &host.background));
            // Nothing is published before it is known that the brokers sync.
            let brokers = bus::check_brokers(&settings.nats);
            let (brokers, opened) = tokio::join!(brokers, join_all(opening));
            brokers?;
            let opened: Vec<Opened> = opened.into_iter().collect::<Result<_, _>>()?;
            let opened = opened.into_iter().zip(services);
            let starting = opened.map(|(opened, (_, build))| {
                host.start_service(settings, opened, build, address, &limits, &clock)
            });
            try_join_all(starting).await
        };
        let started = match started.await {
            Ok(started) => started,
            Err(error) => {
                host.stop().await;
                return Err(error);
            }
        };
        for (grpc_services, app, security, door) in started {
            doors.add(grpc_services, &door);
            reports = Reports::new(security);
            let router = std::mem::take(routes.axum_router_mut())
                .merge(app.into_axum_router().reset_fallback());
            *routes.axum_router_mut() = router;
            methods.add(grpc_services);
        }
        if settings.listen.reflection {
            routes = add_reflection(routes);
        }
        let (tasks, stop) = (host.servers.clone(), host.stop_servers.clone());
        let connections = Connections::new(&settings.listen.connections, tls, reports, tasks, stop);
        let layer = CallLayer::new(
            host.calls.clone(),
            methods,
            doors,
            connections.reports.clone(),
        );
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let serving = connections.serve(incoming, layer.layer(routes.prepare()));
        host.servers.spawn(serving);
        let (readiness, stop) = (host.readiness.clone(), host.stop_servers.clone());
        let admin = admin::serve(admin_listener, registry, readiness, stop);
        host.servers.spawn(admin);
        for service in &host.serving {
            host.health
                .set_service_status(*service, ServingStatus::Serving)
                .await;
        }
        host.readiness.set(true);
        Ok(host)
    }

    /// Wires one service: kit, app, relays, consumers.
    async fn start_service(
        &self,
        settings: &Settings,
        opened: Opened,
        build: Build,
        address: SocketAddr,
        limits: &Limits,
        clock: &Clock,
    ) -> Result<(&'static [&'static str], Routes, SecurityLog, Door), StartError> {
        let Opened {
            definition,
            pool,
            bus,
            directory,
            verifier,
        } = opened;
        let service = definition.name;
        let database = &settings.database;
        let kept = pool.clone();
        let background = self.background.clone();
        self.background.spawn(async move {
            tokio::select! {
                () = kept.keep_up() => {}
                () = background.stopping() => {}
            }
        });
        let caches = Caches::new(settings.cache.cache_entries, bus.clone());
        let hearing =
            caches
                .clone()
                .listen(bus.clone(), definition.schema, self.background.clone());
        self.background.spawn(hearing);
        let keeper = Keeper {
            settings: DatabaseSettings {
                plaintext: settings.wire.plaintext,
                ..database.clone()
            },
            outbox: settings.outbox.clone(),
            definition,
            bus: bus.clone(),
            clock: clock.clone(),
            tasks: self.background.clone(),
        };
        let cells = keeper.open(pool, &directory).await?;
        let security = SecurityLog::start(cells.clone(), clock.clone(), &self.background);
        let door = Door {
            verifier: Arc::clone(&verifier),
            directory: directory.clone(),
            cells: cells.clone(),
            table: definition.permissions,
        };
        let db = Db::within(cells, database, definition.schema, self.background.clone())
            .telling(caches.clone());
        self.watchers.spawn(readiness::watch_database(
            db.clone(),
            definition,
            self.readiness.clone(),
            self.health.clone(),
            self.watchers.clone(),
        ));
        self.background
            .spawn(Arc::clone(&verifier).refresh(self.background.clone()));
        self.background.spawn(keep_small(
            limits.clone(),
            db.clone(),
            service,
            self.background.clone(),
        ));

        let kit = Kit {
            db: db.clone(),
            caches,
            pages: Pages::open(&settings.identity)?,
            workload: Workload::open(&settings.identity, service)?,
            bus: bus.clone(),
            directory: directory.clone(),
            clock: clock.clone(),
            tasks: self.background.clone(),
            draining: self.stop_servers.clone(),
            database: settings.database.clone(),
            nats: settings.nats.clone(),
            address,
            wire: settings.wire.clone(),
            tls: settings.wire.client()?,
            gate: Gate {
                verifier,
                directory,
                security: security.clone(),
                clock: clock.clone(),
                table: definition.permissions,
                limits: limits.clone(),
            },
            security: security.clone(),
        };
        let app = build(kit).await?;

        self.start_consumers(&definition, &app, &db, &bus, &security, clock);
        tracing::info!(service, "service started");
        Ok((
            definition.grpc_services,
            app.routes.routes(),
            security,
            door,
        ))
    }

    fn start_consumers(
        &self,
        definition: &Definition,
        app: &App,
        db: &Db,
        bus: &Bus,
        security: &SecurityLog,
        clock: &Clock,
    ) {
        let contract = DescriptorPool::decode(proto::DESCRIPTOR_SET).unwrap_or_default();
        for subscription in definition.subscriptions {
            let Some((_, subscriber)) = app
                .subscribers
                .iter()
                .find(|(durable, _)| *durable == subscription.durable)
            else {
                continue;
            };
            let consuming = Consuming {
                service: definition.name,
                subscription: *subscription,
                subscriber: Arc::clone(subscriber),
                db: db.clone(),
                bus: bus.clone(),
                security: security.clone(),
                clock: clock.clone(),
                tasks: self.subscribers.clone(),
                contract: contract.clone(),
                parking: Parking::new(definition.schema, subscription.durable),
            };
            self.subscribers.spawn(consuming.run());
        }
    }

    /// Stops in order. Bounded: what is not done within about 9 s is abandoned, and what was not acknowledged to a
    /// caller or the broker is done again by a repeat or another replica.
    pub async fn stop(self) {
        self.readiness.set(false);
        // What they say of health is the past from here on.
        self.watchers.stop(Duration::from_millis(100)).await;
        // The empty name is the process as a whole: what a probe asks for.
        self.health
            .set_service_status("", ServingStatus::NotServing)
            .await;
        for service in &self.serving {
            self.health
                .set_service_status(*service, ServingStatus::NotServing)
                .await;
        }
        if !self.servers.is_stopping() {
            tokio::time::sleep(NOTICE).await;
        }
        // Without its status a health watch ends, and does not hold the drain.
        let mut health = self.health.clone();
        health.clear_service_status("").await;
        for service in &self.serving {
            health.clear_service_status(service).await;
        }
        self.stop_servers.cancel();
        let drained = self.servers.stop(DRAIN).await;
        let ended = self.calls.stop(LEAVE).await;
        if !drained || !ended {
            tracing::warn!(
                "calls were still running at the end of the drain; their outcome is unknown to their callers"
            );
        }
        self.subscribers.stop(LEAVE).await;
        if !self.background.stop(LEAVE).await {
            tracing::warn!("some tasks were still running at the end of the stop");
        }
        tracing::info!("stopped");
    }
}
