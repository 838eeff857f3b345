//! How commands reach the rows of a deployment: the audit log of every tenant as the operator's role, the rows of each
//! service as its serving role, a tenant at a time, and what waits in its outbox as its relay's role.
//!
//! Invariant: rows of a service are read and written within one tenant's context, which the operator's role vouches for.

use std::collections::BTreeMap;

use audit::history;
use kit::ctx::{Clock, Ctx};
use kit::db::{Db, ExemptDb};
use kit::host::Definition;
use kit::outbox::Wake;
use kit::settings::DatabaseSettings;
use kit::tasks::Tasks;
use kit::{TenantId, Tx};
use uuid::Uuid;

use crate::client::error::Usage;
use crate::services;

/// The rows of one service.
pub(crate) struct Service {
    /// What is known of it.
    pub(crate) definition: Definition,
    /// Its rows, a tenant at a time.
    pub(crate) db: Db,
    /// Its outbox.
    pub(crate) relay: ExemptDb,
}

/// A tenant that has rows or a log.
#[derive(Clone, Debug)]
pub(crate) struct Tenant {
    /// Whose rows.
    pub(crate) id: TenantId,
    /// Its slug; without one, its id.
    pub(crate) name: String,
    /// The sequence of the last record of its log, when it was looked up.
    pub(crate) last_record: i64,
}

/// All of them.
pub(crate) struct Reach {
    /// The audit log of every tenant.
    pub(crate) log: ExemptDb,
    /// Every service of the deployment.
    pub(crate) services: Vec<Service>,
    /// Time and ids.
    pub(crate) clock: Clock,
}

impl Reach {
    /// Connects on first use, with one connection for each role.
    pub(crate) fn open(settings: &DatabaseSettings) -> anyhow::Result<Self> {
        let settings = DatabaseSettings {
            database_max_connections: 1,
            ..settings.clone()
        };
        let tasks = Tasks::new();
        let services = services::ALL.into_iter().map(|definition| {
            let schema = definition.schema;
            anyhow::Ok(Service {
                definition,
                db: Db::new(&settings, schema, Wake::default(), tasks.clone())?,
                relay: ExemptDb::new(&settings, &format!("{schema}_relay"), 1, tasks.clone())?,
            })
        });
        Ok(Self {
            log: ExemptDb::new(&settings, audit::OPERATOR, 1, tasks.clone())?,
            services: services.collect::<anyhow::Result<_>>()?,
            clock: Clock::system(),
        })
    }

    /// The tenants that have rows or a log, or the one that is named by slug or id.
    pub(crate) async fn tenants(&self, named: Option<&str>) -> anyhow::Result<Vec<Tenant>> {
        let mut log = self.log.reader().await?;
        let logs = history::tenants(&mut log).await?;
        drop(log);
        let mut found = BTreeMap::from([(TenantId::PLATFORM, String::new())]);
        found.extend(logs.iter().map(|(id, _)| (*id, id.to_string())));
        if let Some(tenants) = self.service(tenants::DEFINITION.schema) {
            let mut tx = self.begin(tenants, TenantId::PLATFORM).await?;
            found.extend(tenants::firms(&mut tx).await?);
        }
        for (reserved, name) in [(TenantId::PLATFORM, "platform"), (TenantId::NONE, "none")] {
            if let Some(known) = found.get_mut(&reserved) {
                name.clone_into(known);
            }
        }
        let last: BTreeMap<TenantId, i64> = logs.into_iter().collect();
        let id = named.and_then(|name| Uuid::try_parse(name).ok());
        let is_named = |tenant: TenantId, name: &str| match (named, id) {
            (None, _) => true,
            (Some(_), Some(id)) => tenant.uuid() == id,
            (Some(named), None) => name == named,
        };
        let chosen: Vec<Tenant> = found
            .into_iter()
            .filter(|(id, name)| is_named(*id, name))
            .map(|(id, name)| Tenant {
                id,
                name,
                last_record: last.get(&id).copied().unwrap_or_default(),
            })
            .collect();
        match named {
            Some(named) if chosen.is_empty() => {
                let problem = format!("no tenant is named {named}: name one by its slug or id");
                Err(Usage::new(problem).into())
            }
            _ => Ok(chosen),
        }
    }

    /// The service with this schema, which is the noun of its events.
    pub(crate) fn service(&self, schema: &str) -> Option<&Service> {
        let mut services = self.services.iter();
        services.find(|service| service.definition.schema == schema)
    }

    /// A transaction on a service's rows of a tenant.
    pub(crate) async fn begin(&self, service: &Service, tenant: TenantId) -> anyhow::Result<Tx> {
        Ok(service.db.begin(&self.ctx(tenant)).await?)
    }

    fn ctx(&self, tenant: TenantId) -> Ctx {
        self.log.ctx_for(tenant, "catalyst", self.clock.clone())
    }
}
