//! What each tenant uses of a process, for `/metrics` and `catalyst top`.
//!
//! The busiest [`TOP`] tenants have series of their own, all others share the series `other`, so that ten thousand
//! tenants are no more series than sixty. What is counted goes to the series that its tenant has at that moment: every
//! series only rises while it is there, and `other` never falls.
//! These instruments are Prometheus's own and not OpenTelemetry's, which cannot forget a series.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use prometheus::{
    Counter, CounterVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts,
    Registry,
};
use tonic::Code;

use crate::ids::TenantId;

/// Tenants with series of their own.
const TOP: usize = 50;
/// Tenants that are looked at between two rankings; what more there are is not in the running.
const CANDIDATES: usize = 20_000;
/// Between two rankings.
const PERIOD: Duration = Duration::from_secs(10);
/// How much busier than one of the top another must be to take its place, so that two alike do not change places at
/// every look.
const CHALLENGE: f64 = 1.25;
/// What an earlier period counts for in the ranking.
const MEMORY: f64 = 0.5;
/// The tenants without series of their own.
const OTHER: &str = "other";

/// What the tenants of this process use.
pub(crate) static USAGE: LazyLock<Usage> = LazyLock::new(Usage::default);

/// How a call ended, as far as its tenant is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Ok,
    /// For the caller's own reasons.
    Refused,
    /// Because its tenant, or the process, had too much to do.
    Limited,
    /// For the deployment's reasons, or too late.
    Failed,
}

impl Outcome {
    const ALL: [Self; 4] = [Self::Ok, Self::Refused, Self::Limited, Self::Failed];

    pub(crate) fn of(code: Code) -> Self {
        match code {
            Code::Ok => Self::Ok,
            Code::ResourceExhausted => Self::Limited,
            Code::Internal
            | Code::Unavailable
            | Code::DeadlineExceeded
            | Code::Unknown
            | Code::DataLoss => Self::Failed,
            _ => Self::Refused,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Limited => "limited",
            Self::Failed => "failed",
        }
    }
}

pub(crate) struct Usage {
    calls: IntCounterVec,
    seconds: HistogramVec,
    database: CounterVec,
    events: IntCounterVec,
    top: RwLock<HashMap<TenantId, Arc<Series>>>,
    other: Arc<Series>,
    ranking: Mutex<Ranking>,
}

/// The series of one tenant, or of the others.
struct Series {
    calls: [IntCounter; 4],
    seconds: Histogram,
    database: Counter,
    events: IntCounter,
}

/// Who is busy.
struct Ranking {
    calls: HashMap<TenantId, f64>,
    due: Instant,
}

impl Default for Usage {
    #[expect(
        clippy::expect_used,
        reason = "names and labels are constants, which a test reads"
    )]
    fn default() -> Self {
        let opts = |name: &str, help: &str| Opts::new(name, help);
        let calls = IntCounterVec::new(
            opts(
                "catalyst_tenant_calls_total",
                "Calls by tenant and outcome; the busiest tenants by id, the rest as other.",
            ),
            &["tenant_id", "outcome"],
        )
        .expect("a name and labels");
        let seconds = HistogramVec::new(
            HistogramOpts::new(
                "catalyst_tenant_call_seconds",
                "Duration of calls that were let in, by tenant.",
            )
            .buckets(vec![
                0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512,
                1.024, 4.096, 10.0,
            ]),
            &["tenant_id"],
        )
        .expect("a name and labels");
        let database = CounterVec::new(
            opts(
                "catalyst_tenant_database_seconds_total",
                "Time that calls held connections to the database, by tenant.",
            ),
            &["tenant_id"],
        )
        .expect("a name and labels");
        let events = IntCounterVec::new(
            opts(
                "catalyst_tenant_events_total",
                "Domain events that were committed, by tenant.",
            ),
            &["tenant_id"],
        )
        .expect("a name and labels");
        let other = Arc::new(Series::new(&calls, &seconds, &database, &events, OTHER));
        Self {
            calls,
            seconds,
            database,
            events,
            top: RwLock::default(),
            other,
            ranking: Mutex::new(Ranking {
                calls: HashMap::new(),
                due: Instant::now() + PERIOD,
            }),
        }
    }
}

impl Usage {
    /// Puts the series on `/metrics`.
    pub(crate) fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        registry.register(Box::new(self.calls.clone()))?;
        registry.register(Box::new(self.seconds.clone()))?;
        registry.register(Box::new(self.database.clone()))?;
        registry.register(Box::new(self.events.clone()))
    }

    /// Counts a call. One that was not let in has no duration of interest: it would hide those that were.
    pub(crate) fn called(&self, tenant: TenantId, outcome: Outcome, took: Duration) {
        {
            let mut ranking = self.ranking.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(calls) = ranking.calls.get_mut(&tenant) {
                *calls += 1.0;
            } else if ranking.calls.len() < CANDIDATES {
                ranking.calls.insert(tenant, 1.0);
            }
        }
        let series = self.series(tenant);
        let [ok, refused, limited, failed] = &series.calls;
        match outcome {
            Outcome::Ok => ok.inc(),
            Outcome::Refused => refused.inc(),
            Outcome::Limited => limited.inc(),
            Outcome::Failed => failed.inc(),
        }
        if outcome != Outcome::Limited {
            series.seconds.observe(took.as_secs_f64());
        }
    }

    /// Counts the time that a connection was held; in no tenant's name it counts for nobody.
    pub(crate) fn held(&self, tenant: Option<TenantId>, time: Duration) {
        if let Some(tenant) = tenant {
            self.series(tenant).database.inc_by(time.as_secs_f64());
        }
    }

    /// Counts events of a transaction that was committed.
    pub(crate) fn emitted(&self, tenant: TenantId, events: usize) {
        let events = u64::try_from(events).unwrap_or(u64::MAX);
        self.series(tenant).events.inc_by(events);
    }

    /// Decides who has series of its own, when it is time to.
    pub(crate) fn rank_when_due(&self) {
        let mut ranking = self.ranking.lock().unwrap_or_else(PoisonError::into_inner);
        if Instant::now() < ranking.due {
            return;
        }
        ranking.due = Instant::now() + PERIOD;
        self.rank(&mut ranking.calls);
    }

    fn rank(&self, calls: &mut HashMap<TenantId, f64>) {
        let mut top = self.top.write().unwrap_or_else(PoisonError::into_inner);
        let mut order: Vec<(TenantId, f64)> = calls
            .iter()
            .map(|(tenant, calls)| {
                let lead = if top.contains_key(tenant) {
                    CHALLENGE
                } else {
                    1.0
                };
                (*tenant, calls * lead)
            })
            .collect();
        order.sort_by(|(left_id, left), (right_id, right)| {
            right.total_cmp(left).then(left_id.cmp(right_id))
        });
        order.truncate(TOP);
        top.retain(|tenant, _| {
            let stays = order.iter().any(|(it, _)| it == tenant);
            if !stays {
                self.forget(&tenant.to_string());
            }
            stays
        });
        for (tenant, _) in order {
            top.entry(tenant).or_insert_with(|| self.open(tenant));
        }
        calls.retain(|_, calls| {
            *calls *= MEMORY;
            *calls >= MEMORY
        });
    }

    fn series(&self, tenant: TenantId) -> Arc<Series> {
        let top = self.top.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(series) = top.get(&tenant) {
            return Arc::clone(series);
        }
        let has_room = top.len() < TOP;
        drop(top);
        if !has_room {
            return Arc::clone(&self.other);
        }
        let mut top = self.top.write().unwrap_or_else(PoisonError::into_inner);
        if top.len() >= TOP && !top.contains_key(&tenant) {
            return Arc::clone(&self.other);
        }
        Arc::clone(top.entry(tenant).or_insert_with(|| self.open(tenant)))
    }

    fn open(&self, tenant: TenantId) -> Arc<Series> {
        let (calls, seconds) = (&self.calls, &self.seconds);
        let (database, events) = (&self.database, &self.events);
        let tenant = tenant.to_string();
        Arc::new(Series::new(calls, seconds, database, events, &tenant))
    }

    fn forget(&self, tenant: &str) {
        // A series that is not there is as good as forgotten.
        for outcome in Outcome::ALL {
            drop(self.calls.remove_label_values(&[tenant, outcome.name()]));
        }
        drop(self.seconds.remove_label_values(&[tenant]));
        drop(self.database.remove_label_values(&[tenant]));
        drop(self.events.remove_label_values(&[tenant]));
    }
}

impl Series {
    fn new(
        calls: &IntCounterVec,
        seconds: &HistogramVec,
        database: &CounterVec,
        events: &IntCounterVec,
        tenant: &str,
    ) -> Self {
        let calls = Outcome::ALL.map(|it| calls.with_label_values(&[tenant, it.name()]));
        Self {
            calls,
            seconds: seconds.with_label_values(&[tenant]),
            database: database.with_label_values(&[tenant]),
            events: events.with_label_values(&[tenant]),
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn tenant(number: u128) -> TenantId {
        TenantId::new(Uuid::from_u128(number))
    }

    fn call(usage: &Usage, number: u128, times: u32) {
        for _ in 0..times {
            usage.called(tenant(number), Outcome::Ok, Duration::from_millis(1));
        }
    }

    fn rank(usage: &Usage) {
        let mut ranking = usage.ranking.lock().unwrap();
        usage.rank(&mut ranking.calls);
    }

    fn counted(usage: &Usage, tenant: &str) -> Option<f64> {
        let registry = Registry::new();
        usage.register(&registry).unwrap();
        let families = registry.gather();
        let calls = families
            .iter()
            .find(|family| family.name() == "catalyst_tenant_calls_total")?;
        let of_tenant = calls.get_metric().iter().filter(|metric| {
            let mut labels = metric.get_label().iter();
            labels.any(|label| label.value() == tenant)
        });
        let counts: Vec<f64> = of_tenant.map(|it| it.get_counter().get_value()).collect();
        (!counts.is_empty()).then(|| counts.iter().sum())
    }

    #[test]
    fn ten_thousand_tenants_are_a_bounded_number_of_series() {
        let usage = Usage::default();
        for number in 1..=10_000 {
            call(&usage, number, 1);
        }
        rank(&usage);
        let registry = Registry::new();
        usage.register(&registry).unwrap();
        let series: usize = registry
            .gather()
            .iter()
            .map(|family| family.get_metric().len())
            .sum();
        assert_eq!(series, (TOP + 1) * (Outcome::ALL.len() + 3));
        assert_eq!(counted(&usage, OTHER), Some(9_950.0));
    }

    #[test]
    fn a_busy_tenant_takes_the_place_of_a_quiet_one_and_nothing_is_counted_twice() {
        let usage = Usage::default();
        for number in 1..=u128::try_from(TOP).unwrap() {
            call(&usage, number, 2);
        }
        call(&usage, 777, 100);
        assert_eq!(counted(&usage, OTHER), Some(100.0));
        rank(&usage);
        call(&usage, 777, 5);
        assert_eq!(counted(&usage, &tenant(777).to_string()), Some(5.0));
        assert_eq!(counted(&usage, OTHER), Some(100.0));
    }

    #[test]
    fn a_tenant_that_is_hardly_busier_does_not_take_a_place() {
        let usage = Usage::default();
        for number in 1..=u128::try_from(TOP).unwrap() {
            call(&usage, number, 10);
        }
        call(&usage, 777, 11);
        rank(&usage);
        assert_eq!(counted(&usage, &tenant(777).to_string()), None);
    }

    #[test]
    fn the_quiet_are_forgotten() {
        let usage = Usage::default();
        call(&usage, 1, 1);
        for _ in 0..3 {
            rank(&usage);
        }
        assert!(usage.ranking.lock().unwrap().calls.is_empty());
        assert_eq!(counted(&usage, &tenant(1).to_string()), None);
    }
}
