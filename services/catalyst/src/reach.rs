//! How commands reach the rows of a deployment: the audit log of every tenant as the operator's role, the rows of each
//! service as its serving role, a tenant at a time, and what waits in its outbox as its relay's role.
//!
//! Invariant: rows of a service are read and written within one tenant's context, which the operator's role vouches for.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use audit::history;
use kit::cells::CellName;
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

/// The rows of one service in one cell.
pub(crate) struct Service {
    /// What is known of it.
    pub(crate) definition: Definition,
    /// Where the rows are.
    pub(crate) cell: CellName,
    /// Its rows, a tenant at a time.
    db: Db,
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
    /// Where its rows are.
    pub(crate) cell: CellName,
    /// The sequence of the last record of its log, when it was looked up.
    pub(crate) last_record: i64,
}

/// All of them.
pub(crate) struct Reach {
    /// The audit log of every tenant.
    pub(crate) log: ExemptDb,
    /// Every service of the deployment in every cell.
    services: Vec<Service>,
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
        let open = |definition: Definition, cell: &CellName, settings: &DatabaseSettings| {
            let schema = definition.schema;
            anyhow::Ok(Service {
                definition,
                cell: cell.clone(),
                db: Db::new(settings, schema, Wake::default(), tasks.clone())?,
                relay: ExemptDb::new(settings, &format!("{schema}_relay"), 1, tasks.clone())?,
            })
        };
        let shared = services::ALL.into_iter();
        let shared = shared.map(|definition| open(definition, &CellName::SHARED, &settings));
        let mut services: Vec<Service> = shared.collect::<anyhow::Result<_>>()?;
        for (cell, settings) in settings.dedicated()?.whole()? {
            for definition in services::in_cells() {
                services.push(open(definition, &cell, &settings)?);
            }
        }
        Ok(Self {
            log: ExemptDb::new(&settings, audit::OPERATOR, 1, tasks.clone())?,
            services,
            clock: Clock::system(),
        })
    }

    /// The tenants that have rows or a log, or the one that is named by slug or id.
    pub(crate) async fn tenants(&self, named: Option<&str>) -> anyhow::Result<Vec<Tenant>> {
        let mut log = self.log.reader().await?;
        let logs = history::tenants(&mut log).await?;
        drop(log);
        let shared = || CellName::SHARED;
        let mut found = BTreeMap::from([(TenantId::PLATFORM, (String::new(), shared()))]);
        found.extend(logs.iter().map(|(id, _)| (*id, (id.to_string(), shared()))));
        if let Some(tenants) = self.service(tenants::DEFINITION.schema, &CellName::SHARED) {
            let mut tx = self.begin(tenants, TenantId::PLATFORM).await?;
            let firms = tenants::firms(&mut tx).await?.into_iter();
            found.extend(firms.map(|firm| (firm.id, (firm.slug, firm.cell))));
        }
        for (reserved, name) in [(TenantId::PLATFORM, "platform"), (TenantId::NONE, "none")] {
            if let Some((known, _)) = found.get_mut(&reserved) {
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
            .filter(|(id, (name, _))| is_named(*id, name))
            .map(|(id, (name, cell))| Tenant {
                id,
                name,
                cell,
                last_record: last.get(&id).copied().unwrap_or_default(),
            })
            .collect();
        for tenant in &chosen {
            self.check(tenant)?;
        }
        match named {
            Some(named) if chosen.is_empty() => {
                let problem = format!("no tenant is named {named}: name one by its slug or id");
                Err(Usage::new(problem).into())
            }
            _ => Ok(chosen),
        }
    }

    /// The cells that firms are placed in.
    pub(crate) async fn cells(&self) -> anyhow::Result<BTreeSet<CellName>> {
        let tenants = self.service(tenants::DEFINITION.schema, &CellName::SHARED);
        let tenants = tenants.context("the service tenants has no rows here")?;
        let mut tx = self.begin(tenants, TenantId::PLATFORM).await?;
        let firms = tenants::firms(&mut tx).await?;
        Ok(firms.into_iter().map(|firm| firm.cell).collect())
    }

    /// The service with this schema, which is the noun of its events, where a tenant of this cell has its rows.
    pub(crate) fn service<'a>(&'a self, schema: &str, cell: &'a CellName) -> Option<&'a Service> {
        let mut services = self.of(cell);
        services.find(|service| service.definition.schema == schema)
    }

    /// Every service, where a tenant of this cell has its rows.
    pub(crate) fn of<'a>(&'a self, cell: &'a CellName) -> impl Iterator<Item = &'a Service> + 'a {
        let services = self.services.iter();
        services.filter(move |service| {
            service.cell == *cell || (service.cell.is_shared() && !service.definition.in_cells)
        })
    }

    /// Every service in every cell.
    pub(crate) fn services(&self) -> &[Service] {
        &self.services
    }

    /// Refuses a tenant whose cell is not among those that are reached.
    fn check(&self, tenant: &Tenant) -> Result<(), Usage> {
        if self
            .services
            .iter()
            .any(|service| service.cell == tenant.cell)
        {
            return Ok(());
        }
        Err(Usage::new(format!(
            "the rows of {} are in the cell {}: name the folder with its URL in CATALYST_CELLS_DIR",
            tenant.name, tenant.cell
        )))
    }

    /// A transaction on a service's rows of a tenant.
    pub(crate) async fn begin(&self, service: &Service, tenant: TenantId) -> anyhow::Result<Tx> {
        Ok(service.db.begin(&self.ctx(tenant)).await?)
    }

    fn ctx(&self, tenant: TenantId) -> Ctx {
        self.log.ctx_for(tenant, "catalyst", self.clock.clone())
    }
}
