//! What a service checks before it serves, and the small tasks that run beside it.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use opentelemetry::KeyValue;
use prost_reflect::DescriptorPool;
use tokio::net::TcpListener;
use tonic::service::Routes;

use crate::attest;
use crate::bus::Bus;
use crate::cells::{CellName, OtherCell};
use crate::ctx::Clock;
use crate::db::Db;
use crate::directory::Directory;
use crate::error::chain;
use crate::host::{Definition, StartError};
use crate::isolation::expected;
use crate::limits::Limits;
use crate::migrate;
use crate::outbox::Wake;
use crate::permission;
use crate::pool::{ACQUIRE_LIMIT, Pool};
use crate::relay;
use crate::settings::Settings;
use crate::tasks::Tasks;
use crate::telemetry::METRICS;
use crate::token::Verifier;
use crate::turns::Asker;
use crate::usage::USAGE;

/// What one service needs, checked.
pub(crate) struct Opened {
    pub(crate) definition: Definition,
    pub(crate) pool: Pool,
    pub(crate) bus: Bus,
    pub(crate) directory: Directory,
    pub(crate) verifier: Arc<Verifier>,
}

/// Checks what one service needs: database, broker and keys, all at the same time, since a process that replaces
/// another one is waited for.
pub(crate) async fn open(
    settings: &Settings,
    definition: Definition,
    clock: &Clock,
    tasks: &Tasks,
) -> Result<Opened, StartError> {
    let service = definition.name;
    if let Some(departure) =
        permission::departures(definition.grpc_services, definition.permissions)
            .into_iter()
            .next()
    {
        return Err(StartError::Permissions { service, departure });
    }
    let database = async {
        let settings = &settings.database;
        let role = format!("{}_app", definition.schema);
        let pool = Pool::new(settings, &role, settings.database_max_connections)?;
        judge(&pool, &definition).await?;
        Ok::<_, StartError>(pool)
    };
    let bus = async {
        let bus = Bus::connect(&settings.nats, service).await?;
        let directory = Directory::start(bus.clone(), tasks);
        let loaded = tokio::time::timeout(Duration::from_secs(10), directory.loaded());
        let loaded = loaded.await;
        loaded.map_err(|_| StartError::Directory { service })?;
        Ok::<_, StartError>((bus, directory))
    };
    let verifier = Verifier::open(&settings.identity, service, clock.clone());
    // Of several faults always the same one is told.
    let (database, bus, verifier) = tokio::join!(database, bus, verifier);
    let (pool, (bus, directory), verifier) = (database?, bus?, verifier?);
    Ok(Opened {
        definition,
        pool,
        bus,
        directory,
        verifier,
    })
}

/// Refuses a database that is another cell, a schema that is behind, a session that is not the serving role, and any
/// departure from isolation.
pub(crate) async fn judge(pool: &Pool, definition: &Definition) -> Result<(), StartError> {
    let service = definition.name;
    let failed = |error: sqlx::Error| StartError::Database {
        service,
        reason: chain(&error),
    };
    let leased = pool.acquire(Asker::SERVICE, ACQUIRE_LIMIT).await;
    let mut lease = leased.map_err(|error| match OtherCell::of(&error) {
        Some(OtherCell { found: None, .. }) => {
            StartError::Pending(vec!["the name of the cell".to_owned()])
        }
        Some(other) => StartError::Cell(other.clone()),
        None => failed(error),
    })?;
    let pending = migrate::pending(lease.connection(), definition).await?;
    if !pending.is_empty() {
        return Err(StartError::Pending(pending));
    }
    let role = format!("{}_app", definition.schema);
    let mut findings = attest::attest_session(lease.connection(), &role)
        .await
        .map_err(failed)?;
    let expected = expected(&[*definition]);
    findings.extend(
        attest::attest_errors(lease.connection(), &expected)
            .await
            .map_err(failed)?,
    );
    lease.give_back();
    match findings.first() {
        None => Ok(()),
        Some(first) => Err(StartError::Isolation {
            service,
            first: format!("{}: {}", first.object, first.problem),
            count: findings.len(),
        }),
    }
}

/// Hears the wake-ups that standby relays of the cell pass on.
pub(crate) async fn hear_wakes(
    bus: Bus,
    service: &'static str,
    cell: CellName,
    wake: Wake,
    tasks: Tasks,
) {
    let own = relay::wake_of(&cell);
    let Ok(mut wakes) = bus.subscribe(relay::wake_subject(service)).await else {
        return;
    };
    loop {
        tokio::select! {
            () = tasks.stopping() => return,
            heard = wakes.next() => match heard {
                Some(heard) if heard.payload == own => wake.wake(),
                Some(_) => {}
                None => return,
            },
        }
    }
}

/// Keeps per-tenant state bounded and tells how much of each pool is in use.
pub(crate) async fn keep_small(limits: Limits, db: Db, service: &'static str, tasks: Tasks) {
    while tasks.pause(Duration::from_secs(5)).await {
        limits.forget_quiet();
        USAGE.rank_when_due();
        for cell in db.cells().all() {
            let labels = [
                KeyValue::new("service", service),
                KeyValue::new("cell", cell.name.to_string()),
            ];
            METRICS
                .pool_in_use
                .record(u64::from(cell.pool.in_use()), &labels);
        }
    }
}

/// The RPCs that this process serves, by their full names.
#[derive(Debug)]
pub(crate) struct Methods {
    known: HashSet<String>,
    /// Those whose request is a stream: its end is not awaited before the call is answered.
    client_streaming: HashSet<String>,
    /// Those whose answer is one, which flows on after the deadline of its head.
    server_streaming: HashSet<String>,
}

impl Methods {
    /// Health, and reflection where it is served.
    pub(crate) fn outside_the_contract(reflection: bool) -> Self {
        let versions: &[&str] = if reflection { &["v1", "v1alpha"] } else { &[] };
        let reflection: Vec<String> = versions
            .iter()
            .map(|version| {
                format!("grpc.reflection.{version}.ServerReflection/ServerReflectionInfo")
            })
            .collect();
        let health = ["Check", "Watch", "List"].map(|name| format!("grpc.health.v1.Health/{name}"));
        Self {
            known: health.into_iter().chain(reflection.clone()).collect(),
            client_streaming: reflection.into_iter().collect(),
            server_streaming: HashSet::new(),
        }
    }

    /// Those of a service of the contract.
    pub(crate) fn add(&mut self, grpc_services: &[&str]) {
        let Ok(pool) = DescriptorPool::decode(proto::DESCRIPTOR_SET) else {
            return;
        };
        for service in grpc_services
            .iter()
            .filter_map(|name| pool.get_service_by_name(name))
        {
            for method in service.methods() {
                let name = format!("{}/{}", service.full_name(), method.name());
                if method.is_client_streaming() {
                    self.client_streaming.insert(name.clone());
                }
                if method.is_server_streaming() {
                    self.server_streaming.insert(name.clone());
                }
                self.known.insert(name);
            }
        }
    }

    /// Whether this is the name of a method that is served, to the letter.
    pub(crate) fn is_served(&self, method: &str) -> bool {
        self.known.contains(method)
    }

    /// Whether the call is over with its answer's head.
    pub(crate) fn is_unary(&self, method: &str) -> bool {
        !self.client_streaming.contains(method) && !self.server_streaming.contains(method)
    }

    /// Whether the request is a stream.
    pub(crate) fn is_client_streaming(&self, method: &str) -> bool {
        self.client_streaming.contains(method)
    }
}

/// Adds server reflection, in the current form and in the one that older tools speak.
pub(crate) fn add_reflection(mut routes: Routes) -> Routes {
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    if let Ok(service) = builder().build_v1() {
        routes = routes.add_service(service);
    }
    if let Ok(service) = builder().build_v1alpha() {
        routes = routes.add_service(service);
    }
    routes
}

/// Binds a listener, or names the variable that holds the address.
pub(crate) async fn bind(
    address: SocketAddr,
    variable: &'static str,
) -> Result<TcpListener, StartError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| StartError::Listen {
            address,
            variable,
            source,
        })
}

/// The address in use, port included.
pub(crate) fn local(listener: &TcpListener, asked: SocketAddr) -> SocketAddr {
    listener.local_addr().unwrap_or(asked)
}
