//! What a soak must show: memory and descriptors do not grow, outboxes empty and do not bloat, no call fails.

use std::time::Duration;

use super::sample::Sample;
use crate::load::count;

/// How long memory may settle; in a short soak, half of it.
pub(super) const WARM_UP: Duration = Duration::from_mins(5);
/// Mebibytes a minute.
const SLOPE: f64 = 1.0;
const MORE_DESCRIPTORS: f64 = 8.0;
const OUTBOX_MIB: f64 = 64.0;
/// How soon after the last call the outboxes are empty.
pub(super) const EMPTY_WITHIN: Duration = Duration::from_secs(10);

/// One thing that must hold.
pub(super) struct Goal {
    pub(super) what: &'static str,
    pub(super) value: f64,
    pub(super) bound: String,
    pub(super) holds: bool,
}

/// All that must hold. `emptied` is how long the outboxes took to empty, none if they did not.
pub(super) fn goals(
    samples: &[Sample],
    failed: usize,
    warm_up: Duration,
    emptied: Option<Duration>,
) -> [Goal; 5] {
    let warm: Vec<&Sample> = samples
        .iter()
        .filter(|sample| sample.at >= warm_up)
        .collect();
    let memory = warm
        .iter()
        .map(|sample| (sample.minutes(), sample.resident_mib));
    let slope = slope(&memory.collect::<Vec<_>>());
    let quarter = warm.len().div_ceil(4);
    let most = |samples: &[&Sample]| {
        let descriptors = samples.iter().map(|sample| sample.descriptors);
        descriptors.fold(f64::NAN, f64::max)
    };
    let first = most(warm.get(..quarter).unwrap_or_default());
    let last = most(warm.get(warm.len() - quarter..).unwrap_or_default());
    let size = samples.last().map_or(f64::NAN, Sample::outbox_mib);
    [
        Goal {
            what: "growth of memory after the warm-up, MiB/min",
            value: slope,
            bound: format!("< {SLOPE}"),
            holds: slope < SLOPE,
        },
        Goal {
            what: "most descriptors of the last quarter, beyond those of the first",
            value: last - first,
            bound: format!("<= {MORE_DESCRIPTORS}"),
            holds: last - first <= MORE_DESCRIPTORS,
        },
        Goal {
            what: "outboxes with their indexes at the end, MiB",
            value: size,
            bound: format!("<= {OUTBOX_MIB}"),
            holds: size <= OUTBOX_MIB,
        },
        Goal {
            what: "outboxes empty after the last answer, s",
            value: emptied.map_or(f64::INFINITY, |time| time.as_secs_f64()),
            bound: format!("<= {}", EMPTY_WITHIN.as_secs()),
            holds: emptied.is_some_and(|time| time <= EMPTY_WITHIN),
        },
        Goal {
            what: "failed calls",
            value: count(failed),
            bound: "= 0".to_owned(),
            holds: failed == 0,
        },
    ]
}

/// Of the line with the least squares through these points; no number without two of them.
pub(super) fn slope(points: &[(f64, f64)]) -> f64 {
    let number = count(points.len());
    let middle = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / number;
    let (x, y) = (middle(|point| point.0), middle(|point| point.1));
    let (mut together, mut alone) = (0.0, 0.0);
    for point in points {
        together += (point.0 - x) * (point.1 - y);
        alone += (point.0 - x).powi(2);
    }
    together / alone
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(minute: u64, resident_mib: f64, descriptors: f64) -> Sample {
        Sample {
            at: Duration::from_mins(minute),
            resident_mib,
            descriptors,
            threads: 4.0,
            outboxes: Vec::new(),
            calls: 100.0,
            failed: 0.0,
            repeated: 0.0,
            p50: 1.0,
            p99: 2.0,
        }
    }

    fn held(samples: &[Sample], failed: usize, emptied: Option<Duration>) -> [bool; 5] {
        goals(samples, failed, WARM_UP, emptied).map(|goal| goal.holds)
    }

    fn minutes(of: impl Fn(u64) -> Sample) -> Vec<Sample> {
        (0..=30).map(of).collect()
    }

    const SOON: Option<Duration> = Some(Duration::from_secs(1));

    #[test]
    fn a_process_that_grows_while_it_warms_up_alone_is_sound() {
        let samples = minutes(|minute| {
            let more = f64::from(u8::try_from(minute.min(5)).unwrap_or(u8::MAX));
            sample(minute, 50.0 + 10.0 * more, 40.0 + more)
        });
        assert_eq!(held(&samples, 0, SOON), [true; 5]);
    }

    #[test]
    fn each_departure_is_found_by_its_goal() {
        let leak = minutes(|minute| {
            let more = f64::from(u8::try_from(minute).unwrap_or(u8::MAX));
            sample(minute, 50.0 + 1.5 * more, 40.0)
        });
        assert_eq!(held(&leak, 0, SOON), [false, true, true, true, true]);
        let open = minutes(|minute| {
            let more = if minute > 25 { 9.0 } else { 0.0 };
            sample(minute, 50.0, 40.0 + more)
        });
        assert_eq!(held(&open, 0, SOON), [true, false, true, true, true]);
        let steady = minutes(|minute| sample(minute, 50.0, 40.0));
        assert_eq!(held(&steady, 1, None), [true, true, true, false, false]);
    }

    #[test]
    fn what_too_few_points_show_is_not_held() {
        assert_eq!(held(&[], 0, SOON), [false, false, false, true, true]);
        assert!((slope(&[(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)]) - 2.0).abs() < 1e-9);
    }
}
