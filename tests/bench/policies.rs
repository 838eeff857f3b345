//! What row-level security costs a caller: the same calls with the policies of the projects service and without.
//!
//! Invariant: however the round ends, the policies are on again afterwards.

use std::time::Duration;

use anyhow::ensure;
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use crate::Bench;
use crate::create::CreateProject;
use crate::get::GetProject;
use crate::list::ListProjects;
use crate::load::{Call, Caller, closed_loop};
use crate::report::{OURS, Report};

pub(crate) const GET: &str = "get under policies, calls/s";
pub(crate) const LIST: &str = "list under policies, calls/s";
pub(crate) const CREATE: &str = "create under policies, calls/s";
/// The limit, as the report calls it.
pub(crate) const OFF: &str = "policies off";
/// In turns, and each as often first, so that neither has the better weather. All of one last for the time of a round.
const TURNS: [bool; 8] = [true, false, false, true, false, true, true, false];
const TURNS_OF_EACH: u32 = 4;
/// Statements are planned anew after each change; nobody counts that.
const WARM_UP: Duration = Duration::from_millis(200);

/// Get, list and create, each with policies and without.
pub(crate) async fn round(bench: &Bench<'_>, report: &mut Report) -> anyhow::Result<()> {
    let mut admin = bench.system.admin().await?;
    let outcome = compare(bench, &mut admin, report).await;
    let restored = switch(&mut admin, true).await;
    outcome.and(restored)
}

async fn compare(
    bench: &Bench<'_>,
    admin: &mut PgConnection,
    report: &mut Report,
) -> anyhow::Result<()> {
    in_turns(bench, admin, GetProject::of, GET, report).await?;
    in_turns(bench, admin, ListProjects::of, LIST, report).await?;
    in_turns(bench, admin, CreateProject::of, CREATE, report).await
}

async fn in_turns<C: Call>(
    bench: &Bench<'_>,
    admin: &mut PgConnection,
    client: impl Fn(Caller) -> C,
    measure: &str,
    report: &mut Report,
) -> anyhow::Result<()> {
    let (mut on, mut off) = (0.0, 0.0);
    for policies in TURNS {
        switch(admin, policies).await?;
        closed_loop(bench.callers.each(&client).await?, WARM_UP).await?;
        let callers = bench.callers.each(&client).await?;
        let load = closed_loop(callers, bench.time / TURNS_OF_EACH).await?;
        if policies {
            on += load.per_second;
        } else {
            off += load.per_second;
        }
        // Also because a change waits for every transaction that uses the table.
        bench.system.settle().await?;
    }
    report.record(measure, OURS, on / f64::from(TURNS_OF_EACH));
    report.record(measure, OFF, off / f64::from(TURNS_OF_EACH));
    Ok(())
}

/// Table by table, so that no two locks are held at once.
async fn switch(admin: &mut PgConnection, on: bool) -> anyhow::Result<()> {
    let (action, wrong) = if on {
        ("enable", "not")
    } else {
        ("disable", "")
    };
    let tables = format!(
        "select oid::regclass::text from pg_class \
         where relnamespace = 'projects'::regnamespace and relkind in ('r', 'p') and relforcerowsecurity \
               and {wrong} relrowsecurity"
    );
    let changed: Vec<String> = sqlx::query_scalar(AssertSqlSafe(tables.clone()))
        .fetch_all(&mut *admin)
        .await?;
    for table in changed {
        let change = format!("alter table {table} {action} row level security");
        sqlx::raw_sql(AssertSqlSafe(change))
            .execute(&mut *admin)
            .await?;
    }
    let left: Vec<String> = sqlx::query_scalar(AssertSqlSafe(tables))
        .fetch_all(&mut *admin)
        .await?;
    ensure!(left.is_empty(), "policies did not change: {left:?}");
    Ok(())
}
