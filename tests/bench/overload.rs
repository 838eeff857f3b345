//! Overload: all firms together ask for five times what the services can do, none of them past a limit of its own. What is
//! done is done in time, the rest is told at once to come back, and afterwards all is as before.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use tonic::{Code, Status};

use crate::fair::{Line, create, get, is_write, lines, make, neighbor, open_loop};
use crate::load::{Call, closed_loop, count, told};
use crate::report::{OURS, Report};
use crate::seed::Firm;
use crate::system::System;

/// Firms that call, over a connection each: as many as have the standard plan when there is little data.
const FIRMS: usize = 11;
/// Callers of each firm, when the most is sought that the services can do.
const CALLERS: u64 = 4;
/// Times the most.
const OVER: f64 = 5.0;
const HALF: f64 = 0.5;

pub(crate) const DONE: &str = "overload: calls done, calls/s";
pub(crate) const WORK: &str =
    "overload: calls done, each by the time that one of its kind takes alone";
pub(crate) const PEAK: &str = "the most of closed loops";
pub(crate) const P50: &str = "overload: p50 of calls done, ms";
pub(crate) const P99: &str = "overload: p99 of calls done, ms";
pub(crate) const BEFORE: &str = "at half the most";
pub(crate) const RECOVERY: &str = "overload: s until nothing is refused, at half the most";
pub(crate) const FAILED: &str = "overload: calls that failed otherwise";

/// The most, half of it, five times as much, and half again.
pub(crate) async fn round(
    system: &System,
    firms: &[Arc<Firm>],
    time: Duration,
    report: &mut Report,
) -> anyhow::Result<()> {
    let ordinary = firms.iter().filter(|firm| firm.is_ordinary());
    let lines = lines(system, ordinary.take(FIRMS)).await?;
    // Writes go before reads, so that a count of calls alone would call it a loss that more of them are done.
    let [reads, writes, most] = [
        most(&lines, time, get).await?,
        most(&lines, time, create).await?,
        most(&lines, time, neighbor).await?,
    ];
    let work = |of_reads: f64, of_writes: f64| of_reads / reads + of_writes / writes;
    system.settle().await?;
    let before = open_loop(&lines, rate(most * HALF), time, neighbor).await?;
    if let Some(status) = before.refusals.first() {
        bail!("a call is refused although there are few: {status}");
    }
    // Those that still wait are part of what there is to recover from.
    let over = make(&lines, rate(most * OVER), time, neighbor).await?;
    let after = open_loop(&lines, rate(most * HALF), time, neighbor).await?;
    let over = over.ended().await?;
    system.settle().await?;

    let seconds = time.as_secs_f64();
    let offered = over.ok.calls + over.refused.calls;
    report.record("overload: calls made, calls/s", OURS, offered / seconds);
    let done = count(over.in_time.len()) / seconds;
    let written = over.in_time.iter().filter(|number| is_write(**number));
    let written = count(written.count()) / seconds;
    report.record(DONE, OURS, done);
    report.record(DONE, PEAK, most);
    report.record("overload: writes of those, calls/s", OURS, written);
    report.record("overload: writes of those, calls/s", PEAK, most / 5.0);
    report.record(WORK, OURS, work(done - written, written));
    report.record(WORK, PEAK, work(most * 4.0 / 5.0, most / 5.0));
    for (percent, measure) in [(50, P50), (99, P99)] {
        report.record(measure, OURS, over.ok.percentile(percent));
        report.record(measure, BEFORE, before.ok.percentile(percent));
    }
    for (percent, measure) in [
        (50, "overload: p50 until told to come back, ms"),
        (99, "overload: p99 until told to come back, ms"),
    ] {
        report.record(measure, OURS, over.refused.percentile(percent));
    }
    let is_shed = |status: &&Status| status.code() == Code::ResourceExhausted;
    let all = over.refusals.iter().chain(&after.refusals);
    let otherwise: Vec<&Status> = all.filter(|status| !is_shed(status)).collect();
    if let Some(status) = otherwise.first() {
        // Nobody is there to read it if this fails.
        let _ = writeln!(
            std::io::stderr(),
            "a call failed otherwise: {}",
            told(status)
        );
    }
    report.record(FAILED, OURS, count(otherwise.len()));
    report.record(RECOVERY, OURS, after.last_refusal.as_secs_f64());
    Ok(())
}

/// The most calls a second of closed loops.
async fn most<F>(
    lines: &[Line],
    time: Duration,
    call: impl Fn(Line, u64) -> F + Clone + Send + 'static,
) -> anyhow::Result<f64>
where
    F: Future<Output = Result<(), Status>> + Send + 'static,
{
    let callers = lines.iter().flat_map(|line| {
        let of_line = 0..CALLERS;
        of_line.map(|number| Caller {
            line: line.clone(),
            number,
            call: call.clone(),
        })
    });
    Ok(closed_loop(callers.collect(), time).await?.per_second)
}

/// Calls a second, as a whole number.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate that a machine reaches"
)]
fn rate(per_second: f64) -> u32 {
    (per_second as u32).max(1)
}

/// Calls again as soon as it is answered.
struct Caller<C> {
    line: Line,
    number: u64,
    call: C,
}

impl<C, F> Call for Caller<C>
where
    C: Fn(Line, u64) -> F + Send + 'static,
    F: Future<Output = Result<(), Status>> + Send + 'static,
{
    async fn call(&mut self) -> Result<(), Status> {
        self.number += 1;
        (self.call)(self.line.clone(), self.number).await
    }
}
