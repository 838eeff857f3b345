//! Every aggregate of a tenant, by id, with all that is known of it: sorted streams of rows, tombstones and records,
//! merged page by page.
//!
//! Invariant: a page is a short transaction of its own, so nothing is held up and no more than a page of each stream is
//! in memory. What changes meanwhile therefore looks like a departure, until it is looked at again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use audit::history::{self, Recorded};
use kit::aggregate::{self, Aggregate, TOMBSTONES};
use uuid::Uuid;

use super::judge::{Departure, Look, Version};
use crate::reach::{Reach, Service, Tenant};

/// Rows of a stream that are read at once.
const PAGE: i64 = 2_000;

/// Where a stream comes from.
enum Source<'a> {
    /// Rows of a service's table, or its tombstones.
    Versions(&'a Service, &'a Aggregate),
    Records,
}

/// What of it is read.
#[derive(Clone, Copy)]
enum Piece<'a> {
    /// The page after an id.
    After(Uuid),
    These(&'a [Uuid]),
}

/// What a stream says of an id.
enum Fact {
    Row(Version),
    Tombstone(Version),
    Recorded(Recorded),
}

/// A stream in the order of ids, and the page of it that was read.
struct Feed<'a> {
    source: Source<'a>,
    page: VecDeque<(Uuid, Fact)>,
    /// The last id that was read.
    after: Uuid,
    ended: bool,
}

/// All streams of a tenant.
pub(super) struct Comparison<'a> {
    reach: &'a Reach,
    tenant: &'a Tenant,
    feeds: Vec<Feed<'a>>,
}

impl<'a> Comparison<'a> {
    pub(super) fn new(reach: &'a Reach, tenant: &'a Tenant) -> Self {
        Self {
            reach,
            tenant,
            feeds: sources(reach, tenant).map(Feed::new).collect(),
        }
    }

    /// The next aggregate, with what is wrong with it if something is.
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<Option<Departure>>> {
        for feed in &mut self.feeds {
            feed.fill(self.reach, self.tenant).await?;
        }
        let heads = self.feeds.iter().filter_map(Feed::head);
        let Some(id) = heads.min() else {
            return Ok(None);
        };
        let mut look = Look::default();
        for feed in &mut self.feeds {
            if feed.head() == Some(id)
                && let Some((_, fact)) = feed.page.pop_front()
            {
                look.add(fact);
            }
        }
        Ok(Some(Departure::of(id, look)))
    }
}

/// Looks at some aggregates of a tenant once more: those that still do not hold together, and those of them that have an
/// event in an outbox.
pub(super) async fn look_again(
    reach: &Reach,
    tenant: &Tenant,
    ids: &[Uuid],
) -> anyhow::Result<(Vec<Departure>, BTreeSet<Uuid>)> {
    let mut looks: BTreeMap<Uuid, Look> = BTreeMap::new();
    let mut waiting = BTreeSet::new();
    for source in sources(reach, tenant) {
        if matches!(source, Source::Records) {
            waiting = in_outboxes(reach, tenant, ids).await?;
        }
        for (id, fact) in source.read(reach, tenant, Piece::These(ids)).await? {
            looks.entry(id).or_default().add(fact);
        }
    }
    let looks = looks.into_iter();
    let departures = looks.filter_map(|(id, look)| Departure::of(id, look));
    Ok((departures.collect(), waiting))
}

async fn in_outboxes(
    reach: &Reach,
    tenant: &Tenant,
    ids: &[Uuid],
) -> anyhow::Result<BTreeSet<Uuid>> {
    let mut waiting = BTreeSet::new();
    for service in reach.of(&tenant.cell) {
        let mut relay = service.relay.reader().await?;
        let schema = service.definition.schema;
        waiting.extend(aggregate::waiting(&mut relay, schema, tenant.id, ids).await?);
    }
    Ok(waiting)
}

/// Rows before records: what is written in between is ahead of the rows, and no longer when it is looked at again.
fn sources<'a>(reach: &'a Reach, tenant: &'a Tenant) -> impl Iterator<Item = Source<'a>> {
    let of_services = reach.of(&tenant.cell).flat_map(|service| {
        let tables = service.definition.aggregates.iter().chain([&TOMBSTONES]);
        tables.map(move |aggregate| Source::Versions(service, aggregate))
    });
    of_services.chain([Source::Records])
}

impl<'a> Feed<'a> {
    fn new(source: Source<'a>) -> Self {
        Self {
            source,
            page: VecDeque::new(),
            after: Uuid::nil(),
            ended: false,
        }
    }

    fn head(&self) -> Option<Uuid> {
        self.page.front().map(|(id, _)| *id)
    }

    async fn fill(&mut self, reach: &Reach, tenant: &Tenant) -> anyhow::Result<()> {
        if self.ended || !self.page.is_empty() {
            return Ok(());
        }
        let page = Piece::After(self.after);
        self.page = self.source.read(reach, tenant, page).await?.into();
        match self.page.back() {
            Some((last, _)) => self.after = *last,
            None => self.ended = true,
        }
        Ok(())
    }
}

impl Source<'_> {
    async fn read(
        &self,
        reach: &Reach,
        tenant: &Tenant,
        piece: Piece<'_>,
    ) -> anyhow::Result<Vec<(Uuid, Fact)>> {
        let Self::Versions(service, aggregate) = self else {
            let mut log = reach.log.reader().await?;
            let recorded = match piece {
                Piece::After(after) => {
                    history::aggregates(&mut log, tenant.id, after, PAGE).await?
                }
                Piece::These(ids) => history::aggregates_of(&mut log, tenant.id, ids).await?,
            };
            let recorded = recorded.into_iter();
            return Ok(recorded.map(|it| (it.id, Fact::Recorded(it))).collect());
        };
        let mut tx = reach.begin(service, tenant.id).await?;
        let rows = match piece {
            Piece::After(after) => aggregate.list(&mut tx, after, PAGE).await?,
            Piece::These(ids) => aggregate.get(&mut tx, ids).await?,
        };
        let fact = |number| {
            let version = Version {
                service: service.definition.schema,
                table: aggregate.table,
                number,
            };
            if aggregate.table == TOMBSTONES.table {
                Fact::Tombstone(version)
            } else {
                Fact::Row(version)
            }
        };
        let rows = rows.into_iter();
        Ok(rows.map(|(id, number)| (id, fact(number))).collect())
    }
}

impl Look {
    fn add(&mut self, fact: Fact) {
        match fact {
            Fact::Row(version) => self.row = Some(version),
            Fact::Tombstone(version) => self.tombstone = Some(version),
            Fact::Recorded(recorded) => self.recorded = Some(recorded),
        }
    }
}
