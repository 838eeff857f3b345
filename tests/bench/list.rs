//! Reading a page of 50 projects: `ListProjects` beside the same statement.

use proto::projects::v1::{ListProjectsRequest, ListProjectsResponse};
use tonic::Status;

use crate::Bench;
use crate::get::{COLUMNS, ONE_SYNC};
use crate::load::{Call, Caller, closed_loop};
use crate::pgbench::{Pgbench, Script, together};
use crate::report::{OURS, Report};
use crate::wire::LIST_PROJECTS;

const PAGE: usize = 50;
pub(crate) const CALLS: &str = "list of 50, calls/s";

/// One row more than the page, as the service reads it to know whether another page follows.
fn script(pgbench: &Pgbench, around: impl Fn(&str) -> String) -> Script {
    let none = "00000000-0000-0000-0000-000000000000";
    let rows = format!(
        "select {COLUMNS} from projects.project where tenant_id = {} and id > '{none}' order by id limit {}",
        pgbench.tenant(),
        PAGE + 1
    );
    Script::new(together(&[
        &pgbench.context(),
        &format!("{};", around(&rows)),
    ]))
}

/// Sees that the script reads a page.
pub(crate) async fn prepare(bench: &Bench<'_>) -> anyhow::Result<()> {
    let full = script(&bench.pgbench, |rows| {
        format!(
            "select 1 / (count(*) / {}) from ({rows}) as found",
            PAGE + 1
        )
    });
    bench.pgbench.check(&full).await
}

/// Our calls, then the statement alone, for the time of a round.
pub(crate) async fn round(bench: &Bench<'_>, report: &mut Report) -> anyhow::Result<()> {
    let load = closed_loop(bench.callers.each(ListProjects::of).await?, bench.time).await?;
    report.record(CALLS, OURS, load.per_second);
    let run = bench
        .pgbench
        .run(&script(&bench.pgbench, str::to_owned))
        .await?;
    report.record(CALLS, ONE_SYNC, run.per_second);
    Ok(())
}

/// A caller of this.
pub(crate) struct ListProjects {
    caller: Caller,
}

impl ListProjects {
    pub(crate) fn of(caller: Caller) -> Self {
        Self { caller }
    }
}

impl Call for ListProjects {
    async fn call(&mut self) -> Result<(), Status> {
        let page_size = i32::try_from(PAGE).unwrap_or_default();
        let request = ListProjectsRequest {
            page_size,
            ..ListProjectsRequest::default()
        };
        let (user, wire) = (self.caller.user()?, &self.caller.wire);
        let page: ListProjectsResponse = wire.call(&user, LIST_PROJECTS, &request).await?;
        if page.projects.len() == PAGE && !page.next_page_token.is_empty() {
            Ok(())
        } else {
            Err(Status::data_loss("the answer is no full page"))
        }
    }
}
