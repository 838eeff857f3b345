//! One worker of the load: a caller of a firm, with aggregates that nobody else writes.
//!
//! Invariant: what it does next depends on its seed and on the answers alone; an aggregate with an open outcome is left
//! alone until it is known.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use fastrand::Rng;
use kit::TenantId;
use tonic::Status;
use tonic::metadata::MetadataMap;
use uuid::Uuid;

use crate::client::{self, is_open};
use crate::history::{Change, Firm, History, Noun, Operation, Outcome, Probe, ProbeKind, canaries};
use crate::wording::{Call, Place, Said, delete_entry};
use crate::workload::Ground;

/// How long an outcome may stay open, repeats included, before that is a breach.
const PATIENCE: Duration = Duration::from_secs(90);
/// How soon a worker sees that it may go on.
const PAUSE: Duration = Duration::from_millis(20);
/// Operations with an open outcome that a worker leaves for later.
const ASIDE: usize = 4;
/// A hasty caller goes away within so many microseconds: a call takes about as long.
const LONGEST_HASTE: u64 = 30_000;
/// Foreign ids that are known for probes.
const KNOWN: usize = 64;

/// An aggregate of a worker's own.
#[derive(Clone, Debug)]
struct Owned {
    noun: Noun,
    id: Uuid,
    version: i64,
    text: String,
    /// An operation on it has an open outcome.
    busy: bool,
}

pub(crate) struct Worker {
    ground: Arc<Ground>,
    firm: Firm,
    number: usize,
    metadata: MetadataMap,
    rng: Rng,
    owned: Vec<Owned>,
    calls: Vec<Call>,
    aside: Vec<usize>,
    count: u64,
    seen: History,
}

impl Worker {
    pub(crate) fn new(
        ground: &Arc<Ground>,
        firm: &Firm,
        number: usize,
        rng: Rng,
    ) -> anyhow::Result<Self> {
        let name = format!("worker-{number}");
        Ok(Self {
            metadata: client::metadata(&ground.issuer, firm.id, &name, "admin")?,
            ground: Arc::clone(ground),
            firm: firm.clone(),
            number,
            rng,
            owned: Vec::new(),
            calls: Vec::new(),
            aside: Vec::new(),
            count: 0,
            seen: History::default(),
        })
    }

    /// Works until the load stops, and then settles what is open.
    pub(crate) async fn run(mut self) -> History {
        while !self.ground.stopping.load(Ordering::Relaxed) {
            if self.ground.paused.load(Ordering::Relaxed) {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            self.step().await;
            if self.aside.len() > ASIDE {
                self.settle_oldest().await;
            }
        }
        while !self.aside.is_empty() {
            self.settle_oldest().await;
        }
        self.seen
    }

    async fn step(&mut self) {
        match self.rng.u32(0..100) {
            0..30 => self.create().await,
            30..62 => self.update().await,
            62..68 => self.delete().await,
            68..76 => self.repeat().await,
            76..90 => self.read().await,
            90..95 => self.probe(ProbeKind::OtherTenant).await,
            _ => self.probe(ProbeKind::ForeignId).await,
        }
    }

    fn uuid(&mut self) -> Uuid {
        uuid::Builder::from_random_bytes(self.rng.u128(..).to_be_bytes()).into_uuid()
    }

    /// A text that no other write has, with the firm's canary in it.
    fn text(&mut self) -> (String, String) {
        self.count += 1;
        let (canary, number, count) = (&self.firm.canary, self.number, self.count);
        (
            format!("{canary}-{number}-{count}"),
            format!("{canary} {number} {count}"),
        )
    }

    fn one_of(&mut self, is_wanted: impl Fn(&Owned) -> bool) -> Option<usize> {
        let wanted: Vec<usize> = (0..)
            .zip(&self.owned)
            .filter(|(_, owned)| !owned.busy && is_wanted(owned))
            .map(|(index, _)| index)
            .collect();
        self.rng.choice(wanted)
    }

    fn id_of(&mut self, noun: Noun) -> Option<Uuid> {
        let index = self.one_of(|owned| owned.noun == noun)?;
        self.owned.get(index).map(|owned| owned.id)
    }

    async fn create(&mut self) {
        let wished = self.rng.choice(Noun::ALL).unwrap_or(Noun::Client);
        let mut place = Place::default();
        let noun = match wished {
            Noun::Project => match self.id_of(Noun::Client) {
                Some(client) => {
                    place.client = client;
                    Noun::Project
                }
                None => Noun::Client,
            },
            Noun::TimeEntry => match (self.id_of(Noun::Project), self.id_of(Noun::Consultant)) {
                (Some(project), Some(consultant)) => {
                    place.project = project;
                    place.consultant = consultant;
                    // Consultants are this worker's own, so its count is enough to keep their hours apart.
                    place.hour = i64::try_from(self.count).unwrap_or_default();
                    Noun::TimeEntry
                }
                _ => Noun::Consultant,
            },
            noun => noun,
        };
        let (code, text) = self.text();
        let request_id = self.uuid();
        let call = noun.create(place, &code, &text, request_id);
        let operation = self.operation(noun, Change::Create, Uuid::nil(), 1, text, request_id);
        self.write(call, operation).await;
    }

    async fn update(&mut self) {
        let Some(index) = self.one_of(|_| true) else {
            return self.create().await;
        };
        let (_, text) = self.text();
        let request_id = self.uuid();
        let with_etag = self.rng.bool();
        let Some(owned) = self.owned.get_mut(index) else {
            return;
        };
        owned.busy = true;
        let (noun, id, version) = (owned.noun, owned.id, owned.version);
        let call = noun.update(id, with_etag.then_some(version), &text, request_id);
        let operation = self.operation(noun, Change::Update, id, version + 1, text, request_id);
        self.write(call, operation).await;
    }

    async fn delete(&mut self) {
        let Some(index) = self.one_of(|owned| owned.noun == Noun::TimeEntry) else {
            return self.create().await;
        };
        let request_id = self.uuid();
        let Some(owned) = self.owned.get_mut(index) else {
            return;
        };
        owned.busy = true;
        let (id, version) = (owned.id, owned.version + 1);
        let call = delete_entry(id, request_id);
        let change = Change::Delete;
        let operation = self.operation(
            Noun::TimeEntry,
            change,
            id,
            version,
            String::new(),
            request_id,
        );
        self.write(call, operation).await;
    }

    fn operation(
        &self,
        noun: Noun,
        change: Change,
        aggregate: Uuid,
        version: i64,
        text: String,
        request_id: Uuid,
    ) -> Operation {
        Operation {
            tenant: self.firm.id,
            noun,
            change,
            aggregate,
            version,
            text,
            request_id,
            attempts: 0,
            unknown: 0,
            outcome: Outcome::Unknown,
            answered: None,
            first: None,
            other_answers: 0,
        }
    }

    async fn write(&mut self, call: Call, operation: Operation) {
        self.calls.push(call);
        self.seen.operations.push(operation);
        let index = self.calls.len() - 1;
        self.attempt(index).await;
        if self.is_open(index) {
            if self.rng.bool() {
                self.aside.push(index);
            } else {
                self.settle(index).await;
            }
        }
    }

    fn is_open(&self, index: usize) -> bool {
        let operation = self.seen.operations.get(index);
        operation.is_some_and(|operation| operation.outcome == Outcome::Unknown)
    }

    async fn settle_oldest(&mut self) {
        if !self.aside.is_empty() {
            let index = self.aside.remove(0);
            self.settle(index).await;
        }
    }

    /// Repeats an operation as it stands until its outcome is known.
    async fn settle(&mut self, index: usize) {
        let since = Instant::now();
        while self.is_open(index) && since.elapsed() < PATIENCE {
            let pause = Duration::from_millis(self.rng.u64(20..250));
            tokio::time::sleep(pause).await;
            self.attempt(index).await;
        }
    }

    async fn attempt(&mut self, index: usize) {
        let Some(call) = self.calls.get(index).cloned() else {
            return;
        };
        let answer = self.call(&call, self.metadata.clone()).await;
        let Some(operation) = self.seen.operations.get_mut(index) else {
            return;
        };
        operation.attempts += 1;
        match answer {
            Ok(answer) => {
                let was_open = operation.outcome == Outcome::Unknown;
                take_answer(operation, &answer);
                if was_open {
                    self.ground.acknowledged.fetch_add(1, Ordering::Relaxed);
                    let operation = operation.clone();
                    self.own(&operation);
                }
            }
            Err(status) if is_open(&status) => {
                // A repeat of what was acknowledged may fail as any call.
                if operation.outcome == Outcome::Unknown {
                    operation.unknown += 1;
                }
            }
            Err(status) => {
                operation.outcome = Outcome::Refused(status.code(), status.message().to_owned());
            }
        }
    }

    /// An acknowledged write is what the worker goes on from.
    fn own(&mut self, done: &Operation) {
        match done.change {
            Change::Create => {
                self.owned.push(Owned {
                    noun: done.noun,
                    id: done.aggregate,
                    version: 1,
                    text: done.text.clone(),
                    busy: false,
                });
                let mut known = self
                    .ground
                    .known
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                if known.len() < KNOWN {
                    known.push((done.tenant, done.noun, done.aggregate));
                }
            }
            Change::Update => {
                let of_id = self
                    .owned
                    .iter_mut()
                    .find(|owned| owned.id == done.aggregate);
                if let Some(owned) = of_id {
                    owned.version = done.version;
                    owned.text.clone_from(&done.text);
                    owned.busy = false;
                }
            }
            Change::Delete => self.owned.retain(|owned| owned.id != done.aggregate),
        }
    }

    /// Makes an acknowledged call again: it must change nothing and have the first answer.
    async fn repeat(&mut self) {
        let recent = self.calls.len().saturating_sub(20)..self.calls.len();
        let done: Vec<usize> = recent
            .filter(|index| {
                let operation = self.seen.operations.get(*index);
                operation.is_some_and(|operation| operation.outcome == Outcome::Ok)
            })
            .collect();
        match self.rng.choice(done) {
            Some(index) => self.attempt(index).await,
            None => self.create().await,
        }
    }

    async fn read(&mut self) {
        let Some(index) = self.one_of(|_| true) else {
            return self.create().await;
        };
        let Some(owned) = self.owned.get(index).cloned() else {
            return;
        };
        if self.rng.u32(0..4) == 0 {
            let listed = self.call(&owned.noun.list(), self.metadata.clone()).await;
            self.seen.reads += u64::from(listed.is_ok());
            return;
        }
        let call = owned.noun.get(owned.id);
        let answer = match self.call(&call, self.metadata.clone()).await {
            Ok(answer) => answer,
            Err(status) if is_open(&status) => return,
            Err(status) => {
                let (noun, id, code) = (owned.noun, owned.id, status.code());
                let what = format!("{noun:?} {id} is acknowledged, and reads as {code:?}");
                self.seen.stale_reads.push(what);
                return;
            }
        };
        self.seen.reads += 1;
        let said = owned.noun.said(&answer);
        let right = |said: &Said| {
            said.id == owned.id && said.version == owned.version && said.text == owned.text
        };
        if !said.as_ref().is_some_and(right) {
            self.seen
                .stale_reads
                .push(format!("{owned:?} reads as {said:?}"));
        }
    }

    /// Tries to cross the line to another firm, in a name of its own.
    async fn probe(&mut self, kind: ProbeKind) {
        let actor = format!("probe-{}", self.uuid().simple());
        let Ok(mut metadata) = client::metadata(&self.ground.issuer, self.firm.id, &actor, "admin")
        else {
            return;
        };
        let call = match kind {
            ProbeKind::OtherTenant => {
                let others = self.ground.firms.iter().map(|firm| firm.id);
                let others: Vec<TenantId> = others.filter(|id| *id != self.firm.id).collect();
                let Some(claimed) = self.rng.choice(others) else {
                    return;
                };
                let Ok(claimed) = claimed.to_string().parse() else {
                    return;
                };
                metadata.insert("x-tenant-id", claimed);
                self.rng.choice(Noun::ALL).unwrap_or(Noun::Client).list()
            }
            ProbeKind::ForeignId => {
                let known = self
                    .ground
                    .known
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .clone();
                let foreign = known
                    .into_iter()
                    .filter(|(tenant, ..)| *tenant != self.firm.id);
                let foreign: Vec<_> = foreign.collect();
                let Some((_, noun, id)) = self.rng.choice(foreign) else {
                    return;
                };
                noun.get(id)
            }
        };
        let answer = match self.call(&call, metadata).await {
            Ok(_) => Some(tonic::Code::Ok),
            Err(status) if is_open(&status) => None,
            Err(status) => Some(status.code()),
        };
        self.seen.probes.push(Probe {
            tenant: self.firm.id,
            actor,
            kind,
            answer,
        });
    }

    /// One call; whatever comes back is searched for what is not this firm's.
    async fn call(&mut self, call: &Call, metadata: MetadataMap) -> Result<Vec<u8>, Status> {
        let Some(channel) = self.ground.lines.to(call.service, self.rng.usize(..)) else {
            return Err(Status::unavailable("no process of this service is up"));
        };
        let calling = client::call(channel, &metadata, call.method, call.message.clone());
        let answer = if self.ground.hasty && self.rng.bool() {
            let patience = Duration::from_micros(self.rng.u64(0..LONGEST_HASTE));
            let answer = tokio::time::timeout(patience, calling).await;
            answer.unwrap_or_else(|_| Err(Status::cancelled("the caller went away")))
        } else {
            calling.await
        };
        if let Err(status) = &answer
            && is_open(status)
        {
            self.ground.failures.fetch_add(1, Ordering::Relaxed);
            let what = format!("{}: {:?}: {}", call.method, status.code(), status.message());
            let mut failed = self
                .ground
                .failed
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            *failed = Some(what);
        }
        let said = match &answer {
            Ok(message) => canaries(message),
            Err(status) => {
                let mut said = canaries(status.message().as_bytes());
                said.extend(canaries(status.details()));
                said
            }
        };
        let foreign = said
            .into_iter()
            .filter(|canary| *canary != self.firm.canary);
        let what =
            foreign.map(|canary| format!("{} told {} of {canary}", call.method, self.firm.id));
        self.seen.foreign_canaries.extend(what);
        answer
    }
}

/// Keeps the first answer, and counts others.
fn take_answer(operation: &mut Operation, answer: &[u8]) {
    operation.outcome = Outcome::Ok;
    let mut hasher = DefaultHasher::new();
    answer.hash(&mut hasher);
    let digest = hasher.finish();
    match operation.first {
        None => operation.first = Some(digest),
        Some(first) if first != digest => operation.other_answers += 1,
        Some(_) => return,
    }
    if operation.change != Change::Delete && operation.answered.is_none() {
        let said = operation.noun.said(answer);
        operation.answered = Some(said.as_ref().map_or(0, |said| said.version));
        if operation.change == Change::Create {
            operation.aggregate = said.map_or(Uuid::nil(), |said| said.id);
        }
    }
}
