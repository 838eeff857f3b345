//! What the processes of a deployment tell of their tenants on `/metrics`, and what happened between two looks.

use std::collections::BTreeMap;

/// What one process has counted of a tenant since it started.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Totals {
    pub(super) ok: f64,
    pub(super) refused: f64,
    pub(super) limited: f64,
    pub(super) failed: f64,
    /// Seconds that connections to the database were held.
    pub(super) database: f64,
    pub(super) events: f64,
    /// Calls up to each upper bound in seconds, which are in rising order, the last one infinite.
    pub(super) buckets: Vec<(f64, f64)>,
}

/// By tenant: an id, or `other`.
pub(super) type Sample = BTreeMap<String, Totals>;

impl Totals {
    pub(super) fn calls(&self) -> f64 {
        self.ok + self.refused + self.limited + self.failed
    }

    /// Seconds within which this part of the calls that were let in had ended; none when there were none. Between two
    /// bounds it is a straight line; past the last one it is infinite.
    pub(super) fn quantile(&self, part: f64) -> Option<f64> {
        let (_, count) = *self.buckets.last()?;
        if count <= 0.0 {
            return None;
        }
        let wanted = count * part;
        let mut below = (0.0, 0.0);
        for &(bound, calls) in &self.buckets {
            if calls >= wanted {
                let (low, before) = below;
                if bound.is_infinite() || calls <= before {
                    return Some(bound);
                }
                return Some(low + (bound - low) * (wanted - before) / (calls - before));
            }
            below = (bound, calls);
        }
        None
    }

    /// What was added since `before`; a process that has started anew began at nothing.
    fn since(&self, before: Option<&Self>) -> Self {
        let Some(before) = before.filter(|before| before.calls() <= self.calls()) else {
            return self.clone();
        };
        let buckets = self.buckets.iter().map(|&(bound, calls)| {
            let mut known = before.buckets.iter();
            let earlier = known.find(|(it, _)| it.total_cmp(&bound).is_eq());
            (bound, calls - earlier.map_or(0.0, |(_, calls)| *calls))
        });
        Self {
            ok: self.ok - before.ok,
            refused: self.refused - before.refused,
            limited: self.limited - before.limited,
            failed: self.failed - before.failed,
            database: self.database - before.database,
            events: self.events - before.events,
            buckets: buckets.collect(),
        }
    }

    fn add(&mut self, other: &Self) {
        self.ok += other.ok;
        self.refused += other.refused;
        self.limited += other.limited;
        self.failed += other.failed;
        self.database += other.database;
        self.events += other.events;
        for &(bound, calls) in &other.buckets {
            match self
                .buckets
                .iter_mut()
                .find(|(it, _)| it.total_cmp(&bound).is_eq())
            {
                Some((_, sum)) => *sum += calls,
                None => self.buckets.push((bound, calls)),
            }
        }
        self.buckets
            .sort_by(|(left, _), (right, _)| left.total_cmp(right));
    }
}

/// What all processes did between two looks. One that was not seen before is left out: since when it counts is not known.
pub(super) fn between(before: &[Option<Sample>], now: &[Option<Sample>]) -> Sample {
    let mut sum = Sample::new();
    for (before, now) in before.iter().zip(now) {
        let (Some(before), Some(now)) = (before, now) else {
            continue;
        };
        for (tenant, totals) in now {
            let added = totals.since(before.get(tenant));
            sum.entry(tenant.clone()).or_default().add(&added);
        }
    }
    sum
}

/// Reads the series of tenants from Prometheus' text format; none when there are none, as of another program.
pub(super) fn parse(text: &str) -> Option<Sample> {
    let mut sample = Sample::new();
    for line in text.lines().filter(|it| it.starts_with("catalyst_tenant_")) {
        let Some(series) = Series::read(line) else {
            continue;
        };
        let Some(tenant) = series.label("tenant_id") else {
            continue;
        };
        let value = series.value;
        let totals = sample.entry(tenant.to_owned()).or_default();
        match (series.name, series.label("outcome")) {
            ("catalyst_tenant_calls_total", Some("ok")) => totals.ok = value,
            ("catalyst_tenant_calls_total", Some("refused")) => totals.refused = value,
            ("catalyst_tenant_calls_total", Some("limited")) => totals.limited = value,
            ("catalyst_tenant_calls_total", Some("failed")) => totals.failed = value,
            ("catalyst_tenant_database_seconds_total", _) => totals.database = value,
            ("catalyst_tenant_events_total", _) => totals.events = value,
            ("catalyst_tenant_call_seconds_bucket", _) => {
                if let Some(bound) = series.label("le").and_then(number) {
                    totals.buckets.push((bound, value));
                }
            }
            _ => {}
        }
    }
    (!sample.is_empty()).then_some(sample)
}

/// `name{label="value",…} value`. None of our labels holds a quote or a comma.
struct Series<'a> {
    name: &'a str,
    labels: &'a str,
    value: f64,
}

impl<'a> Series<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let (name, rest) = line.split_once('{')?;
        let (labels, value) = rest.split_once('}')?;
        Some(Self {
            name,
            labels,
            value: number(value.trim())?,
        })
    }

    fn label(&self, name: &str) -> Option<&'a str> {
        let mut labels = self.labels.split(',').filter_map(|it| it.split_once('='));
        let (_, value) = labels.find(|(it, _)| *it == name)?;
        Some(value.trim_matches('"'))
    }
}

fn number(text: &str) -> Option<f64> {
    match text {
        "+Inf" => Some(f64::INFINITY),
        text => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
# HELP catalyst_tenant_calls_total Calls
catalyst_tenant_calls_total{outcome="ok",tenant_id="a"} 90
catalyst_tenant_calls_total{outcome="limited",tenant_id="a"} 10
catalyst_tenant_call_seconds_bucket{tenant_id="a",le="0.001"} 45
catalyst_tenant_call_seconds_bucket{tenant_id="a",le="0.002"} 90
catalyst_tenant_call_seconds_bucket{tenant_id="a",le="+Inf"} 90
catalyst_tenant_call_seconds_sum{tenant_id="a"} 0.1
catalyst_tenant_database_seconds_total{tenant_id="a"} 0.5
catalyst_tenant_events_total{tenant_id="other"} 7
rpc_server_duration_seconds_bucket{le="1"} 1
"#;

    #[test]
    fn series_of_tenants_are_read_and_those_of_others_are_not() {
        let sample = parse(TEXT).unwrap();
        let a = &sample["a"];
        assert_eq!((a.ok, a.limited, a.database), (90.0, 10.0, 0.5));
        assert_eq!((sample.len(), sample["other"].events), (2, 7.0));
        assert_eq!(parse("up 1\n"), None);
    }

    #[test]
    fn a_quantile_lies_between_its_bounds_and_past_the_last_is_infinite() {
        let a = &parse(TEXT).unwrap()["a"];
        assert_eq!(a.quantile(0.5), Some(0.001));
        let p99 = a.quantile(0.99).unwrap();
        assert!((0.0019..0.002).contains(&p99), "{p99}");
        assert_eq!(Totals::default().quantile(0.5), None);
        let slow = Totals {
            buckets: vec![(1.0, 0.0), (f64::INFINITY, 3.0)],
            ..Totals::default()
        };
        assert_eq!(slow.quantile(0.5), Some(f64::INFINITY));
    }

    #[test]
    fn processes_are_added_up_and_one_that_started_anew_began_at_nothing() {
        let before = parse(TEXT).unwrap();
        let mut more = before.clone();
        let a = more.get_mut("a").unwrap();
        a.ok += 5.0;
        a.buckets[2].1 += 5.0;
        let anew = Sample::from([(
            "a".to_owned(),
            Totals {
                ok: 2.0,
                ..Totals::default()
            },
        )]);
        let unseen = Some(anew.clone());
        let added = between(
            &[Some(before.clone()), Some(before), None],
            &[Some(more), Some(anew), unseen],
        );
        assert_eq!((added["a"].ok, added["a"].limited), (7.0, 0.0));
        assert_eq!(added["a"].buckets.last(), Some(&(f64::INFINITY, 5.0)));
        assert_eq!((added.len(), added["other"].events), (2, 0.0));
    }
}
