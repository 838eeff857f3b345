//! Records every security event or counts it, raises alerts as the rules say, and keeps misses to be judged.

use kit::events::{Event, Stream};
use kit::subscriber::{Failure, Subscriber};
use kit::{Ctx, TenantId, Tx};
use prost::Name;
use proto::common::v1::ResourceNotFound;

use crate::flood::Sighting;
use crate::happening::Happening;
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
        let mut sightings = Vec::with_capacity(events.len());
        let mut happenings = Vec::with_capacity(events.len());
        for event in events {
            let entry = Entry::of(ctx.clock().new_uuid(), Stream::Security, event);
            let happening = Happening::of_entry(ctx.tenant(), &entry);
            happenings.push(happening.clone());
            sightings.push(Sighting { happening, entry });
        }
        // An operator may name every tenant's ids. Every miss of others is judged, recorded singly or not.
        if ctx.tenant() != TenantId::PLATFORM {
            let misses: Vec<Miss<'_>> = sightings.iter().filter_map(miss).collect();
            if !misses.is_empty() {
                store::attempts::insert_misses(tx, &misses, ctx.now()).await?;
            }
        }
        self.recorder
            .append_sifted(ctx, tx, Log::Tenant, sightings)
            .await?;
        self.recorder.alert(ctx, tx, &happenings, true).await?;
        Ok(())
    }

    fn applied(&self) {
        self.recorder.committed();
    }
}

fn miss(sighting: &Sighting) -> Option<Miss<'_>> {
    let Sighting { happening, entry } = sighting;
    if entry.type_name != ResourceNotFound::full_name() {
        return None;
    }
    let resource = entry.resource.as_ref()?;
    Some(Miss {
        event_id: entry.event_id,
        kind: &resource.kind,
        resource_id: resource.id?,
        actor: &entry.actor,
        method: happening.method.clone(),
        occurred_at: entry.occurred_at,
        traceparent: entry.traceparent.as_deref(),
    })
}
