//! The slowest calls: creates and lists of many more callers than there are connections to the database.
//! A call that is shed counts as one that takes for ever.

use crate::Bench;
use crate::create::CreateProject;
use crate::list::ListProjects;
use crate::load::{Load, crowded_loop};
use crate::report::{OURS, Report};

/// Callers at the same time, whatever `--clients` says.
const CALLERS: u16 = 64;
pub(crate) const CREATE: [&str; 3] = [
    "create of 64 callers, p50 ms",
    "create of 64 callers, p99 ms",
    "create of 64 callers, shed %",
];
pub(crate) const LIST: [&str; 3] = [
    "list of 64 callers, p50 ms",
    "list of 64 callers, p99 ms",
    "list of 64 callers, shed %",
];

/// Creates, then lists, each for the time of a round.
pub(crate) async fn round(bench: &Bench<'_>, report: &mut Report) -> anyhow::Result<()> {
    let creates = bench.callers.so_many(CALLERS, CreateProject::of).await?;
    record(CREATE, &crowded_loop(creates, bench.time).await?, report);
    bench.system.settle().await?;
    let lists = bench.callers.so_many(CALLERS, ListProjects::of).await?;
    record(LIST, &crowded_loop(lists, bench.time).await?, report);
    Ok(())
}

fn record([median, slowest, shed]: [&str; 3], load: &Load, report: &mut Report) {
    report.record(median, OURS, load.percentile(50));
    report.record(slowest, OURS, load.percentile(99));
    report.record(shed, OURS, load.shed());
}
