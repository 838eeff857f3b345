//! What the number of tenants costs: the same calls spread over 30, over 300 and over 3,000 firms of one size.

use std::sync::Arc;

use anyhow::Context as _;

use crate::Bench;
use crate::cpu::Used;
use crate::get::GetProject;
use crate::list::ListProjects;
use crate::load::{Call, Caller, Callers, closed_loop};
use crate::report::{OURS, Report};
use crate::seed::Firm;

const GET_CALLS: &str = "get of 3,000 firms, calls/s";
const LIST_CALLS: &str = "list of 50 of 3,000 firms, calls/s";
/// Processor time of the services and of PostgreSQL together.
pub(crate) const GET: &str = "get of 3,000 firms, CPU us/call";
pub(crate) const LIST: &str = "list of 50 of 3,000 firms, CPU us/call";
pub(crate) const OF_300: &str = "of 300 firms";
pub(crate) const OF_30: &str = "of 30 firms";
/// So many of the firms are called, and how the report calls it; the most are ours, the fewer are the limits.
const PARTS: [(usize, &str); 3] = [(3_000, OURS), (300, OF_300), (30, OF_30)];

/// Get, then list, each of every number of firms for the time of a round.
pub(crate) async fn round(
    bench: &Bench<'_>,
    clients: u16,
    report: &mut Report,
) -> anyhow::Result<()> {
    for (number, series) in PARTS {
        let firms = bench.firms.get(..number).context("there are 3,000 firms")?;
        let get = reach(bench, firms, clients, GetProject::of).await?;
        report.record(GET_CALLS, series, get.per_second);
        report.record(GET, series, get.micros);
        let list = reach(bench, firms, clients, ListProjects::of).await?;
        report.record(LIST_CALLS, series, list.per_second);
        report.record(LIST, series, list.micros);
    }
    Ok(())
}

struct Reached {
    per_second: f64,
    micros: f64,
}

async fn reach<C: Call>(
    bench: &Bench<'_>,
    firms: &[Arc<Firm>],
    clients: u16,
    client: impl Fn(Caller) -> C,
) -> anyhow::Result<Reached> {
    let callers = Callers::new(bench.system, firms, clients)?;
    let callers = callers.each(client).await?;
    let before = Used::now(bench.system.postmaster);
    let load = closed_loop(callers, bench.time).await?;
    let used = Used::now(bench.system.postmaster).since(before);
    let used = used.services + used.postgres;
    Ok(Reached {
        per_second: load.per_second,
        micros: used.as_secs_f64() * 1e6 / load.calls,
    })
}
