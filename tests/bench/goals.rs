//! What the services have to reach on any machine, and whether a run did.
//!
//! Invariants: a goal is judged by the median of what the rounds of this run measured, each round by itself; what was
//! not measured is told as not measured, and never as held.

use std::fmt;

use comfy_table::{Table, presets};
use serde_json::{Value, json};

use crate::report::{OURS, Report, Spread, number};
use crate::{
    create, fair, get, idle, import, lag, list, overload, policies, refusal, relay, tail, tenants,
};

/// A figure of the report: its measure and its series.
type Figure = (&'static str, &'static str);

/// One thing to reach.
struct Goal {
    id: &'static str,
    what: &'static str,
    value: Of,
    bound: Bound,
}

/// What is judged, in each round.
enum Of {
    Figure(Figure),
    /// The first by the second.
    Ratio(Figure, Figure),
    /// The part of the second that the first falls short of it.
    Loss(Figure, Figure),
    /// What the first is more than the second, in MB, by 3,000 in KiB.
    EachOf3000(Figure, Figure),
}

#[derive(Clone, Copy)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// The verdict on a goal whose measure a run left out.
pub(crate) const NOT_MEASURED: &str = "not measured";

use Bound::{AtLeast, AtMost};
use Of::{EachOf3000, Loss, Ratio};

const GOALS: [Goal; 35] = [
    Goal {
        id: "P1",
        what: "get, of context and select under one Sync",
        value: Ratio((get::CALLS, OURS), (get::CALLS, get::ONE_SYNC)),
        bound: AtLeast(0.50),
    },
    Goal {
        id: "P1",
        what: "get, services' CPU us/call",
        value: Of::Figure((get::CPU, OURS)),
        bound: AtMost(70.0),
    },
    Goal {
        id: "P2",
        what: "list of 50, of context and select under one Sync",
        value: Ratio((list::CALLS, OURS), (list::CALLS, get::ONE_SYNC)),
        bound: AtLeast(0.65),
    },
    Goal {
        id: "P2",
        what: "create, of both rows under one Sync",
        value: Ratio((create::CALLS, OURS), (create::CALLS, create::ONE_SYNC)),
        bound: AtLeast(0.60),
    },
    Goal {
        id: "P2b",
        what: "create of 64 callers, p99 times p50",
        value: Ratio((tail::CREATE[1], OURS), (tail::CREATE[0], OURS)),
        bound: AtMost(4.0),
    },
    Goal {
        id: "P2b",
        what: "list of 64 callers, p99 times p50",
        value: Ratio((tail::LIST[1], OURS), (tail::LIST[0], OURS)),
        bound: AtMost(4.0),
    },
    Goal {
        id: "P3",
        what: "get, of the same without policies",
        value: Ratio((policies::GET, OURS), (policies::GET, policies::OFF)),
        bound: AtLeast(0.95),
    },
    Goal {
        id: "P3",
        what: "list of 50, of the same without policies",
        value: Ratio((policies::LIST, OURS), (policies::LIST, policies::OFF)),
        bound: AtLeast(0.95),
    },
    Goal {
        id: "P3",
        what: "create, of the same without policies",
        value: Ratio((policies::CREATE, OURS), (policies::CREATE, policies::OFF)),
        bound: AtLeast(0.95),
    },
    Goal {
        id: "P4",
        what: "select under one Sync, times four round trips",
        value: Ratio(
            (get::CALLS, get::ONE_SYNC),
            (get::CALLS, get::FOUR_ROUND_TRIPS),
        ),
        bound: AtLeast(1.8),
    },
    Goal {
        id: "P5",
        what: "the part of a create that the outbox row costs, written",
        value: Loss(
            (create::CALLS, create::UNMOVED),
            (create::CALLS, create::NO_OUTBOX),
        ),
        bound: AtMost(0.25),
    },
    Goal {
        id: "P5",
        what: "the part of a create that the outbox row costs, written and moved",
        value: Loss(
            (create::CALLS, create::ONE_SYNC),
            (create::CALLS, create::NO_OUTBOX),
        ),
        bound: AtMost(0.25),
    },
    Goal {
        id: "P6",
        what: "relay, of atomic batches of 1,000",
        value: Ratio((relay::EVENTS, OURS), (relay::EVENTS, relay::BATCHES)),
        bound: AtLeast(0.60),
    },
    Goal {
        id: "P6",
        what: "relay, times publishing one by one",
        value: Ratio((relay::EVENTS, OURS), (relay::EVENTS, relay::ONE_BY_ONE)),
        bound: AtLeast(15.0),
    },
    Goal {
        id: "P6",
        what: "relay, times the rate of create",
        value: Ratio((relay::EVENTS, OURS), (create::CALLS, OURS)),
        bound: AtLeast(3.0),
    },
    Goal {
        id: "P7",
        what: "create to subscriber at a steady rate, p50, times commit and publish",
        value: Ratio((lag::MEDIAN, OURS), (lag::MEDIAN, lag::ALONE)),
        bound: AtMost(3.0),
    },
    Goal {
        id: "P7",
        what: "create to subscriber at a steady rate, p99, times p50 of commit and publish",
        value: Ratio((lag::SLOW, OURS), (lag::MEDIAN, lag::ALONE)),
        bound: AtMost(5.0),
    },
    Goal {
        id: "P8",
        what: "get, CPU of 300 firms times that of 30",
        value: Ratio(
            (tenants::GET, tenants::OF_300),
            (tenants::GET, tenants::OF_30),
        ),
        bound: AtMost(1.2),
    },
    Goal {
        id: "P8",
        what: "get, CPU of 3,000 firms times that of 300",
        value: Ratio((tenants::GET, OURS), (tenants::GET, tenants::OF_300)),
        bound: AtMost(1.7),
    },
    Goal {
        id: "P8",
        what: "list of 50, CPU of 300 firms times that of 30",
        value: Ratio(
            (tenants::LIST, tenants::OF_300),
            (tenants::LIST, tenants::OF_30),
        ),
        bound: AtMost(1.2),
    },
    Goal {
        id: "P8",
        what: "list of 50, CPU of 3,000 firms times that of 300",
        value: Ratio((tenants::LIST, OURS), (tenants::LIST, tenants::OF_300)),
        bound: AtMost(1.4),
    },
    Goal {
        id: "P8",
        what: "memory of one service for each idle firm, KiB",
        value: EachOf3000((idle::OWN, idle::WITH_MORE), (idle::OWN, OURS)),
        bound: AtMost(1.0),
    },
    Goal {
        id: "P10",
        what: "idle memory of one service, MB",
        value: Of::Figure((idle::MEMORY, OURS)),
        bound: AtMost(20.0),
    },
    Goal {
        id: "P10",
        what: "exec to first answer, ms",
        value: Of::Figure((idle::START, OURS)),
        bound: AtMost(100.0),
    },
    Goal {
        id: "P11",
        what: "refused get until on record, services' CPU times a good one's",
        value: Ratio((refusal::CPU, OURS), (refusal::CPU, refusal::GOOD)),
        bound: AtMost(1.5),
    },
    Goal {
        id: "P11",
        what: "refused get, calls/s of a create's",
        value: Ratio((refusal::CALLS, OURS), (refusal::CALLS, refusal::CREATE)),
        bound: AtLeast(0.6),
    },
    Goal {
        id: "P12",
        what: "import, of COPY of the same rows",
        value: Ratio((import::ROWS, OURS), (import::ROWS, import::COPY)),
        bound: AtLeast(0.5),
    },
    Goal {
        id: "L1",
        what: "calls of a firm past its limit that are let in, of the limit",
        value: Ratio((fair::ADMITTED, OURS), (fair::ADMITTED, fair::ITS_LIMIT)),
        bound: AtMost(1.02),
    },
    Goal {
        id: "L1",
        what: "p99 until told of a limit, ms",
        value: Of::Figure((fair::TOLD, OURS)),
        bound: AtMost(2.0),
    },
    Goal {
        id: "L2",
        what: "five times too many calls: calls done, of the most",
        value: Ratio((overload::DONE, OURS), (overload::DONE, overload::PEAK)),
        bound: AtLeast(0.9),
    },
    Goal {
        id: "L2",
        what: "the same, each by the time that one of its kind takes alone",
        value: Ratio((overload::WORK, OURS), (overload::WORK, overload::PEAK)),
        bound: AtLeast(0.9),
    },
    Goal {
        id: "L2",
        what: "five times too many calls: p99 of those done, times that of half the most",
        value: Ratio((overload::P99, OURS), (overload::P99, overload::BEFORE)),
        bound: AtMost(2.0),
    },
    Goal {
        id: "L2",
        what: "after it, s until nothing is refused",
        value: Of::Figure((overload::RECOVERY, OURS)),
        bound: AtMost(5.0),
    },
    Goal {
        id: "L3",
        what: "others' p99 beside a noisy firm, times that without it",
        value: Ratio((fair::P99, OURS), (fair::P99, fair::ALONE)),
        bound: AtMost(1.2),
    },
    Goal {
        id: "L3",
        what: "others' calls refused beside it",
        value: Of::Figure((fair::REFUSED, OURS)),
        bound: AtMost(0.0),
    },
];

impl Goal {
    /// What the rounds reached; none if a round did not measure it.
    fn reached(&self, report: &Report) -> Option<Spread> {
        let of_both = |(a, b): (Figure, Figure), of: &dyn Fn(f64, f64) -> f64| {
            let (a, b) = (report.values(a)?, report.values(b)?);
            (a.len() == b.len()).then(|| Spread::of(a.iter().zip(b).map(|(a, b)| of(*a, *b))))
        };
        match self.value {
            Of::Figure(figure) => Some(Spread::of(report.values(figure)?.iter().copied())),
            Ratio(a, b) => of_both((a, b), &|a, b| a / b),
            Loss(a, b) => of_both((a, b), &|a, b| 1.0 - a / b),
            EachOf3000(a, b) => of_both((a, b), &|a, b| (a - b) * 1e6 / 1_024.0 / 3_000.0),
        }
    }
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            AtLeast(least) => value >= least,
            AtMost(most) => value <= most,
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AtLeast(least) => write!(f, ">= {least}"),
            AtMost(most) => write!(f, "<= {most}"),
        }
    }
}

fn verdict(bound: Bound, reached: Option<&Spread>) -> &'static str {
    match reached {
        Some(spread) if bound.holds(spread.median) => "held",
        Some(_) => "NOT held",
        None => NOT_MEASURED,
    }
}

/// The goals that the run measured, for people, and how many it did not; none when it measured none.
pub(crate) fn table(report: &Report) -> Option<(Table, usize)> {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header([
        "goal",
        "what",
        "median",
        "(min..max)",
        "goal",
        "verdict",
    ]);
    let mut left_out = 0;
    for goal in &GOALS {
        let Some(reached) = goal.reached(report) else {
            left_out += 1;
            continue;
        };
        table.add_row([
            goal.id,
            goal.what,
            &number(reached.median),
            &reached.range(),
            &goal.bound.to_string(),
            verdict(goal.bound, Some(&reached)),
        ]);
    }
    (left_out < GOALS.len()).then_some((table, left_out))
}

/// The same for programs.
pub(crate) fn json(report: &Report) -> Value {
    let goals = GOALS.iter().map(|goal| {
        let reached = goal.reached(report);
        json!({
            "id": goal.id,
            "what": goal.what,
            "median": reached.as_ref().map(|spread| spread.median),
            "min": reached.as_ref().map(|spread| spread.min),
            "max": reached.as_ref().map(|spread| spread.max),
            "goal": goal.bound.to_string(),
            "verdict": verdict(goal.bound, reached.as_ref()),
        })
    });
    goals.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_judged_by_the_median_and_the_unmeasured_is_not_held() {
        let mut report = Report::new(String::new());
        for (ours, limit) in [(40.0, 100.0), (50.0, 100.0), (90.0, 100.0)] {
            report.record(get::CALLS, OURS, ours);
            report.record(get::CALLS, get::ONE_SYNC, limit);
        }
        let goals = json(&report);
        let verdicts: Vec<_> = goals.as_array().into_iter().flatten().collect();
        let of = |index: usize, key: &str| verdicts.get(index).and_then(|goal| goal.get(key));
        assert_eq!(of(0, "median"), Some(&json!(0.5)));
        assert_eq!(of(0, "verdict"), Some(&json!("held")));
        assert_eq!(of(1, "verdict"), Some(&json!("not measured")));
        report.record(get::CPU, OURS, 71.0);
        let goals = json(&report);
        assert_eq!(goals.pointer("/1/verdict"), Some(&json!("NOT held")));
    }
}
