//! Records every security event, raises alerts for the severe ones, and keeps misses to be judged.

use kit::events::{Event, Stream};
use kit::subscriber::{Failure, Subscriber};
use kit::{Ctx, TenantId, Tx};
use prost::{Message, Name};
use proto::common::v1::ResourceNotFound;

use crate::alert::Trigger;
use crate::record::{Entry, Log};
use crate::recorder::Recorder;
use crate::store;
use crate::store::attempts::Miss;

pub(crate) struct OnSecurityEvents {
    pub(crate) recorder: Recorder,
}

#[tonic::async_trait]
impl Subscriber for OnSecurityEvents {
    async fn apply(&self, ctx: &Ctx, tx: &mut Tx, events: &[Event]) -> Result<(), Failure> {
        let entries = events
            .iter()
            .map(|event| Entry::of(ctx.clock().new_uuid(), Stream::Security, event));
        let records = self.recorder.append(ctx, tx, Log::Tenant, entries).await?;
        let entries = || records.iter().map(|record| &record.entry);
        // An operator may name every tenant's ids.
        if ctx.tenant() != TenantId::PLATFORM {
            let misses: Vec<Miss<'_>> = entries().filter_map(miss).collect();
            if !misses.is_empty() {
                store::attempts::insert_misses(tx, &misses, ctx.now()).await?;
            }
        }
        self.recorder
            .alert(ctx, tx, &Trigger::of_entries(ctx.tenant(), entries()))
            .await?;
        Ok(())
    }

    fn applied(&self) {
        self.recorder.committed();
    }
}

fn miss(entry: &Entry) -> Option<Miss<'_>> {
    if entry.type_name != ResourceNotFound::full_name() {
        return None;
    }
    let resource = entry.resource.as_ref()?;
    Some(Miss {
        event_id: entry.event_id,
        kind: &resource.kind,
        resource_id: resource.id?,
        actor: &entry.actor,
        method: ResourceNotFound::decode(entry.body.clone()).ok()?.method,
        occurred_at: entry.occurred_at,
        traceparent: entry.traceparent.as_deref(),
    })
}
