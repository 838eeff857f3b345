//! What the number of tenants costs: the same calls spread over 30, over 300 and over 3,000 firms of one size.

use std::sync::Arc;

use anyhow::Context as _;

use crate::Bench;
use crate::create::CreateProject;
use crate::get::GetProject;
use crate::load::{Call, Caller, Callers, closed_loop};
use crate::report::{OURS, Report};
use crate::seed::Firm;

const GET: &str = "get of 3,000 firms, calls/s";
const CREATE: &str = "create of 3,000 firms, calls/s";
/// So many of the firms are called, and how the report calls it; the most are ours, the fewer are the limits.
const PARTS: [(usize, &str); 3] = [(3_000, OURS), (300, "of 300 firms"), (30, "of 30 firms")];

/// Get, then create, each of every number of firms for the time of a round.
pub(crate) async fn round(
    bench: &Bench<'_>,
    clients: u16,
    report: &mut Report,
) -> anyhow::Result<()> {
    for (number, series) in PARTS {
        let firms = bench.firms.get(..number).context("there are 3,000 firms")?;
        let get = reach(bench, firms, clients, GetProject::of).await?;
        report.record(GET, series, get);
        let create = reach(bench, firms, clients, CreateProject::of).await?;
        report.record(CREATE, series, create);
    }
    Ok(())
}

async fn reach<C: Call>(
    bench: &Bench<'_>,
    firms: &[Arc<Firm>],
    clients: u16,
    client: impl Fn(Caller) -> C,
) -> anyhow::Result<f64> {
    let callers = Callers::new(bench.system, firms, clients)?;
    let load = closed_loop(callers.each(client).await?, bench.time).await?;
    bench.system.settle().await?;
    Ok(load.per_second)
}
