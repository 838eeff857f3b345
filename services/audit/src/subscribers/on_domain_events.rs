//! Records every domain event, each aggregate's in the order of its versions, learns from it whose id is whose, and raises
//! alerts where rules ask for it.

use std::collections::{BTreeMap, HashMap};

use kit::events::{Event, Stream};
use kit::subscriber::{Failure, Subscriber};
use kit::{Ctx, TenantId, Tx};
use uuid::Uuid;

use crate::happening::Happening;
use crate::record::{Entry, Log, Record};
use crate::recorder::Recorder;
use crate::store;

pub(crate) struct OnDomainEvents {
    pub(crate) recorder: Recorder,
}

#[tonic::async_trait]
impl Subscriber for OnDomainEvents {
    async fn apply(&self, ctx: &Ctx, tx: &mut Tx, events: &[Event]) -> Result<(), Failure> {
        let entries = events
            .iter()
            .map(|event| Entry::of(ctx.clock().new_uuid(), Stream::Domain, event));
        let records = self.recorder.append(ctx, tx, Log::Tenant, entries).await?;
        // What the platform has is no firm's: no id of it can be attempted.
        if ctx.tenant() != TenantId::PLATFORM {
            store::attempts::register(tx, &kinds(&records)).await?;
        }
        if self.recorder.asks_for_domain_events() {
            let happenings: Vec<Happening> = records
                .iter()
                .map(|record| Happening::of_entry(ctx.tenant(), &record.entry))
                .collect();
            self.recorder.alert(ctx, tx, &happenings, true).await?;
        }
        Ok(())
    }

    async fn last_versions(
        &self,
        tx: &mut Tx,
        aggregates: &[Uuid],
    ) -> Result<Option<HashMap<Uuid, i64>>, Failure> {
        Ok(Some(store::records::last_versions(tx, aggregates).await?))
    }

    fn applied(&self) {
        self.recorder.committed();
    }
}

fn kinds(records: &[Record]) -> BTreeMap<Uuid, &str> {
    let resources = records
        .iter()
        .filter_map(|record| record.entry.resource.as_ref());
    resources
        .filter_map(|resource| Some((resource.id?, resource.kind.as_str())))
        .collect()
}
