//! Floods: what one principal causes over and over is recorded singly at first, then counted. Pure.
//!
//! The log is kept for ever, so whoever is refused two thousand times a second must not be able to fill it. For one
//! principal, type, severity and kind of resource the first [`Limits::first`] security events of a window are records of
//! their own; the others are counted in the window's row and become one record, `SecurityEventsAggregated`, when the
//! window is over. Where this is done, and why:
//!
//! - **Not on the path of a request.** Before the caller hears of a refusal its event is committed, each by itself:
//!   acknowledged means durable, and a miss names an id of its own, which may be another tenant's. The rows of the
//!   outbox go as soon as the relay has moved them. The limit of calls for each tenant bounds how many there are.
//! - **Where records are appended**, under the lock of the log and in the transaction of the inbox. Each event is
//!   either appended or counted, exactly once, whatever the order of arrival and however often it is delivered.
//! - **Windows are of arrival**, not of occurrence: what comes late counts into the window that is open then, so no
//!   aggregate that was written is ever wrong. The aggregate says when its events occurred.
//! - **Severity HIGH is not hidden.** Alert rules see every event before it is sifted, so that the alert's count is
//!   exact; an aggregate has the severity of its events and names up to a hundred of the resources. Every miss is
//!   judged, recorded singly or not.
//!
//! Invariant: over the records of a log, singles plus the counts of aggregates (plus those of windows that are open)
//! are the number of distinct events.

use std::collections::HashMap;

use kit::ctx::Actor;
use kit::fields::timestamp;
use prost::{Message, Name};
use proto::common::v1::{SecurityEventsAggregated, Severity};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::attempt::{SERVICE, derived_id};
use crate::happening::Happening;
use crate::record::{Category, Entry, Resource};

/// Ids of resources that an aggregate names.
const NAMED_RESOURCES: usize = 100;

/// How much of a flood is recorded singly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Events of a window that are records of their own.
    pub first: i64,
    /// How long a window is open.
    pub window: Duration,
}

/// What tells one stream of like events from another. Names a principal without saying so.
pub fn key(happening: &Happening, kind: &str) -> Uuid {
    keyed(happening, kind, &happening.source_address)
}

/// The key of callers that were not verified and are too many to be told apart by their addresses.
pub fn crowd_key(happening: &Happening, kind: &str) -> Option<Uuid> {
    (!happening.source_address.is_empty()).then(|| keyed(happening, kind, "*"))
}

fn keyed(happening: &Happening, kind: &str, source: &str) -> Uuid {
    let Happening {
        type_name,
        severity,
        ..
    } = happening;
    // Why tokens were refused tells an attack from a clock that is wrong; other reasons stay in the single records.
    let reason = if source.is_empty() {
        ""
    } else {
        happening.reason.as_str()
    };
    let name = [
        type_name.as_str(),
        severity.as_str_name(),
        &happening.principal(),
        kind,
        reason,
        source,
    ];
    derived_id("flood", name.join("\n").as_bytes())
}

/// A window: what has been recorded and counted of one stream of like events since it began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Of what.
    pub key: Uuid,
    /// The type of the events.
    pub type_name: String,
    /// Their severity.
    pub severity: Severity,
    /// The actor of their records.
    pub actor: Actor,
    /// The kind of resource that they name; empty for none.
    pub kind: String,
    /// The peer of callers that were not verified; empty for others.
    pub source_address: String,
    /// When the first event of the window arrived.
    pub began_at: OffsetDateTime,
    /// Events that have a record of their own.
    pub recorded: i64,
    /// Events that have none.
    pub counted: i64,
    /// The calls that the counted events stand for.
    pub calls: i64,
    /// When the first counted event occurred; means nothing while none is counted.
    pub first_at: OffsetDateTime,
    /// When the last counted event occurred; means nothing while none is counted.
    pub last_at: OffsetDateTime,
    /// Resources that counted events named, not all.
    pub resource_ids: Vec<Uuid>,
}

impl Window {
    fn open(key: Uuid, source_address: &str, entry: &Entry, now: OffsetDateTime) -> Self {
        Self {
            key,
            type_name: entry.type_name.clone(),
            severity: entry.severity,
            actor: entry.actor.clone(),
            kind: kind_of(entry).to_owned(),
            source_address: source_address.to_owned(),
            began_at: now,
            recorded: 0,
            counted: 0,
            calls: 0,
            first_at: entry.occurred_at,
            last_at: entry.occurred_at,
            resource_ids: Vec::new(),
        }
    }

    fn count(&mut self, happening: &Happening, entry: &Entry) {
        if self.counted == 0 {
            (self.first_at, self.last_at) = (entry.occurred_at, entry.occurred_at);
        }
        self.counted += 1;
        self.calls += happening.calls;
        self.first_at = self.first_at.min(entry.occurred_at);
        self.last_at = self.last_at.max(entry.occurred_at);
        let named = entry.resource.as_ref().and_then(|it| it.id);
        if let Some(id) = named
            && self.resource_ids.len() < NAMED_RESOURCES
            && !self.resource_ids.contains(&id)
        {
            self.resource_ids.push(id);
        }
    }

    /// What was left out of the log, as its record; none when nothing was.
    pub fn aggregate(&self, id: Uuid) -> Option<Entry> {
        if self.counted == 0 {
            return None;
        }
        let body = SecurityEventsAggregated {
            severity: self.severity.into(),
            r#type: self.type_name.clone(),
            count: self.counted,
            calls: self.calls,
            kind: self.kind.clone(),
            resource_ids: self.resource_ids.iter().map(Uuid::to_string).collect(),
            source_address: self.source_address.clone(),
            window_start: Some(timestamp(self.began_at)),
            first_occur_time: Some(timestamp(self.first_at)),
            last_occur_time: Some(timestamp(self.last_at)),
        };
        let resource = Resource {
            kind: self.kind.clone(),
            id: None,
        };
        Some(Entry {
            id,
            event_id: id,
            type_name: SecurityEventsAggregated::full_name(),
            category: Category::Security,
            severity: self.severity,
            actor: self.actor.clone(),
            source: SERVICE.to_owned(),
            aggregate_id: id,
            version: 1,
            resource: (!self.kind.is_empty()).then_some(resource),
            occurred_at: self.last_at,
            traceparent: None,
            body: body.encode_to_vec().into(),
        })
    }
}

/// The kind of resource of an entry; empty for none.
pub fn kind_of(entry: &Entry) -> &str {
    entry
        .resource
        .as_ref()
        .map_or("", |resource| resource.kind.as_str())
}

/// An event with its entry for one log.
#[derive(Clone, Debug)]
pub struct Sighting {
    /// Who did what.
    pub happening: Happening,
    /// What would be appended.
    pub entry: Entry,
}

impl Sighting {
    /// The keys of windows that it may count into.
    pub fn keys(&self) -> impl Iterator<Item = Uuid> {
        let kind = kind_of(&self.entry);
        let crowd = crowd_key(&self.happening, kind);
        [Some(key(&self.happening, kind)), crowd]
            .into_iter()
            .flatten()
    }
}

/// The open windows of one log while a batch passes through them.
#[derive(Debug)]
pub struct Sieve {
    limits: Limits,
    now: OffsetDateTime,
    windows: HashMap<Uuid, Window>,
    /// Windows that callers who were not verified may still open.
    room: usize,
}

impl Sieve {
    /// Takes the windows as stored; `room` bounds those that addresses may add.
    pub fn new(
        limits: Limits,
        now: OffsetDateTime,
        windows: impl IntoIterator<Item = Window>,
        room: usize,
    ) -> Self {
        let windows = windows.into_iter().map(|window| (window.key, window));
        Self {
            limits,
            now,
            windows: windows.collect(),
            room,
        }
    }

    /// What is to be appended for an event, in order: the aggregate of a window that is over, and the event itself
    /// unless it is counted.
    pub fn pass(&mut self, sighting: Sighting, mut new_id: impl FnMut() -> Uuid) -> Vec<Entry> {
        let Sighting { happening, entry } = sighting;
        let kind = kind_of(&entry);
        let own = key(&happening, kind);
        let crowd = crowd_key(&happening, kind).filter(|_| !self.windows.contains_key(&own));
        let (key, source) = match crowd {
            Some(crowd) if self.room == 0 => (crowd, ""),
            Some(_) => {
                self.room -= 1;
                (own, happening.source_address.as_str())
            }
            None => (own, happening.source_address.as_str()),
        };
        let mut appended = Vec::new();
        let now = self.now;
        let window = self
            .windows
            .entry(key)
            .or_insert_with(|| Window::open(key, source, &entry, now));
        if now - window.began_at >= self.limits.window {
            appended.extend(window.aggregate(new_id()));
            *window = Window::open(key, source, &entry, now);
        }
        if window.recorded < self.limits.first {
            window.recorded += 1;
            appended.push(entry);
        } else {
            window.count(&happening, &entry);
        }
        appended
    }

    /// The windows as they are to be stored.
    pub fn into_windows(self) -> Vec<Window> {
        self.windows.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use kit::TenantId;
    use proptest::prelude::*;
    use proto::common::v1::{AuthenticationFailed, PermissionDenied};

    use super::*;

    const ACME: TenantId = TenantId::new(Uuid::from_u128(1));
    const LIMITS: Limits = Limits {
        first: 3,
        window: Duration::MINUTE,
    };

    fn sighting(n: u128, type_name: String, actor: &str, source: &str, calls: i64) -> Sighting {
        let entry = Entry {
            id: Uuid::from_u128(n),
            event_id: Uuid::from_u128(n),
            type_name,
            category: Category::Security,
            severity: Severity::Low,
            actor: Actor::User(actor.to_owned()),
            source: "projects".to_owned(),
            aggregate_id: Uuid::from_u128(n),
            version: 1,
            resource: None,
            occurred_at: at(i64::try_from(n).unwrap()),
            traceparent: None,
            body: Vec::new().into(),
        };
        let mut happening = Happening::of_entry(ACME, &entry);
        source.clone_into(&mut happening.source_address);
        happening.calls = calls;
        Sighting { happening, entry }
    }

    fn denied(n: u128, actor: &str) -> Sighting {
        sighting(n, PermissionDenied::full_name(), actor, "", 1)
    }

    fn at(second: i64) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + Duration::seconds(second)
    }

    fn counts(entries: &[Entry]) -> i64 {
        let of = |entry: &Entry| {
            if entry.type_name == SecurityEventsAggregated::full_name() {
                SecurityEventsAggregated::decode(entry.body.clone())
                    .unwrap()
                    .count
            } else {
                1
            }
        };
        entries.iter().map(of).sum()
    }

    #[test]
    fn the_first_are_recorded_and_the_others_become_one_record_of_the_next_window() {
        let mut sieve = Sieve::new(LIMITS, at(0), [], 0);
        let mut appended = Vec::new();
        for n in 0..10 {
            appended.extend(sieve.pass(denied(n, "kim"), Uuid::nil));
        }
        assert_eq!(appended.len(), 3);
        let mut later = Sieve::new(LIMITS, at(60), sieve.into_windows(), 0);
        let next = later.pass(denied(99, "kim"), || Uuid::from_u128(7));
        assert_eq!(next.len(), 2);
        let aggregate = SecurityEventsAggregated::decode(next[0].body.clone()).unwrap();
        assert_eq!((aggregate.count, aggregate.calls), (7, 7));
        assert_eq!(
            (aggregate.first_occur_time, aggregate.last_occur_time),
            (Some(timestamp(at(3))), Some(timestamp(at(9))))
        );
        assert_eq!(next[0].actor, Actor::User("kim".to_owned()));
        assert_eq!(next[1].event_id, Uuid::from_u128(99));
    }

    #[test]
    fn another_principal_type_severity_or_kind_has_a_window_of_its_own() {
        let first = denied(1, "kim");
        let mut severe = denied(1, "kim");
        severe.happening.severity = Severity::High;
        let other_type = sighting(1, AuthenticationFailed::full_name(), "kim", "", 1);
        let keys = [
            key(&first.happening, ""),
            key(&denied(1, "lee").happening, ""),
            key(&severe.happening, ""),
            key(&other_type.happening, ""),
            key(&first.happening, "project"),
        ];
        assert_eq!(keys.iter().collect::<HashSet<_>>().len(), keys.len());
        assert_eq!(key(&denied(9, "kim").happening, ""), keys[0]);
    }

    #[test]
    fn addresses_beyond_the_room_share_one_window() {
        let mut sieve = Sieve::new(LIMITS, at(0), [], 2);
        for n in 0..100 {
            let address = format!("192.0.2.{n}");
            let failed = sighting(n, AuthenticationFailed::full_name(), "", &address, 5);
            sieve.pass(failed, Uuid::nil);
        }
        let windows = sieve.into_windows();
        assert_eq!(windows.len(), 3);
        let crowd = windows.iter().find(|it| it.source_address.is_empty());
        let crowd = crowd.unwrap();
        assert_eq!((crowd.recorded, crowd.counted, crowd.calls), (3, 95, 475));
    }

    proptest! {
        #[test]
        fn every_event_is_recorded_or_counted_once_in_any_order_and_however_often_it_is_delivered(
            deliveries in prop::collection::vec((0u128..60, 0i64..40, 1usize..8), 1..120)
        ) {
            let mut stored: HashMap<Uuid, Window> = HashMap::new();
            let mut inbox = HashSet::new();
            let mut log = Vec::new();
            let mut clock = 0;
            for (n, pause, batch) in deliveries {
                clock += pause;
                let mut sieve = Sieve::new(LIMITS, at(clock), stored.into_values(), 0);
                // A delivery brings a run of events, some of them again.
                for event in n..n + batch as u128 {
                    if inbox.insert(event) {
                        let actor = if event % 3 == 0 { "kim" } else { "lee" };
                        log.extend(sieve.pass(denied(event, actor), Uuid::nil));
                    }
                }
                stored = sieve.into_windows().into_iter().map(|it| (it.key, it)).collect();
            }
            for window in stored.values() {
                prop_assert!(window.recorded <= LIMITS.first);
                log.extend(window.aggregate(Uuid::nil()));
            }
            prop_assert_eq!(counts(&log), i64::try_from(inbox.len()).unwrap());
        }
    }
}
