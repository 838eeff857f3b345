//! Reading one project: `GetProject` beside the ways in which PostgreSQL can be asked for the row under its policy.

use std::time::Duration;

use proto::projects::v1::{GetProjectRequest, GetProjectResponse};
use tokio::time::sleep;
use tonic::Status;

use crate::Bench;
use crate::cpu::Used;
use crate::load::{Call, Caller, closed_loop};
use crate::pgbench::{Pgbench, Script, together};
use crate::report::{OURS, Report};
use crate::seed::PROJECT_PREFIX;
use crate::wire::GET_PROJECT;

pub(crate) const CALLS: &str = "get, calls/s";
pub(crate) const CPU: &str = "get, services' CPU us/call";
/// Limits, as the report calls them.
pub(crate) const ONE_SYNC: &str = "context and select, one Sync";
pub(crate) const FOUR_ROUND_TRIPS: &str = "four round trips";
/// The columns that the projects service reads of a project.
pub(crate) const COLUMNS: &str = "id, client_id, code, display_name, billable, budget_minutes, budget_minor, \
    budget_currency, start_date, end_date, archived, version, created_at, updated_at";

/// A way to read under the policy, and how it is called in the report.
#[derive(Clone, Copy)]
enum Way {
    /// The tenant is a setting of the session, so that a call is the statement alone: what RLS itself costs.
    SessionContext,
    OneSync,
    FourRoundTrips,
    Function,
}

const WAYS: [Way; 4] = [
    Way::SessionContext,
    Way::OneSync,
    Way::FourRoundTrips,
    Way::Function,
];

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::SessionContext => "bare select",
            Self::OneSync => ONE_SYNC,
            Self::FourRoundTrips => FOUR_ROUND_TRIPS,
            Self::Function => "function, one statement",
        }
    }

    /// A script that reads a project by chance, and wraps the statement as `around` says.
    fn script(self, pgbench: &Pgbench, around: impl Fn(&str) -> String) -> Script {
        let (tenant, context) = (pgbench.tenant(), pgbench.context());
        let id = pgbench.id(PROJECT_PREFIX, 1);
        let row = around(&format!(
            "select {COLUMNS} from projects.project where tenant_id = {tenant} and id = {id}"
        ));
        let text = match self {
            Self::SessionContext => return Script::of_one_firm(format!("{row};\n")),
            Self::OneSync => together(&[&context, &format!("{row};")]),
            Self::FourRoundTrips => format!("begin;\n{context}\n{row};\ncommit;\n"),
            Self::Function => {
                around(&format!(
                    "select {COLUMNS} from projects.bench_get_project({tenant}, {id})"
                )) + ";\n"
            }
        };
        Script::new(text)
    }
}

/// Makes the function, sees that every way reads its row, and lets the services open their connections.
pub(crate) async fn prepare(bench: &Bench<'_>) -> anyhow::Result<()> {
    // It restores the caller's context at its end, and can do nothing that its caller could not.
    let function = "
        set role projects_owner;
        create function projects.bench_get_project(tenant uuid, project uuid) returns setof projects.project
            language plpgsql volatile security invoker rows 1
            set app.current_tenant_id = ''
        as $$
        begin
            perform set_config('app.current_tenant_id', tenant::text, true);
            return query select * from projects.project as p where p.tenant_id = tenant and p.id = project;
        end
        $$;
        revoke execute on function projects.bench_get_project from public;
        grant execute on function projects.bench_get_project to projects_app;";
    let mut admin = bench.system.admin().await?;
    sqlx::raw_sql(function).execute(&mut admin).await?;
    for way in WAYS {
        let script = way.script(&bench.pgbench, |row| {
            format!("select 1 / count(*) from ({row}) as found")
        });
        bench.pgbench.check(&script).await?;
    }
    closed_loop(callers(bench).await?, Duration::from_secs(1))
        .await
        .map(drop)
}

async fn callers(bench: &Bench<'_>) -> anyhow::Result<Vec<GetProject>> {
    bench.callers.each(GetProject::of).await
}

/// Our calls, then each way, for the time of a round.
pub(crate) async fn round(bench: &Bench<'_>, report: &mut Report) -> anyhow::Result<()> {
    let callers = callers(bench).await?;
    let before = Used::now(bench.system.postmaster);
    let load = closed_loop(callers, bench.time).await?;
    let used = Used::now(bench.system.postmaster).since(before);
    let micros = |time: Duration, calls: f64| time.as_secs_f64() * 1e6 / calls;
    report.record(CALLS, OURS, load.per_second);
    report.record("get, p50 ms", OURS, load.percentile(50));
    report.record("get, p99 ms", OURS, load.percentile(99));
    report.record(CPU, OURS, micros(used.services, load.calls));
    report.record(
        "get, PostgreSQL's CPU us/call",
        OURS,
        micros(used.postgres, load.calls),
    );
    for way in WAYS {
        let before = Used::now(bench.system.postmaster);
        let run = bench
            .pgbench
            .run(&way.script(&bench.pgbench, str::to_owned))
            .await?;
        // A backend that just ends could be counted neither as itself nor by the postmaster that waits for it.
        sleep(Duration::from_millis(100)).await;
        let used = Used::now(bench.system.postmaster).since(before);
        report.record(CALLS, way.name(), run.per_second);
        report.record(
            "get, PostgreSQL's CPU us/call",
            way.name(),
            micros(used.postgres, run.transactions),
        );
    }
    Ok(())
}

/// A caller of this.
pub(crate) struct GetProject {
    caller: Caller,
}

impl GetProject {
    pub(crate) fn of(caller: Caller) -> Self {
        Self { caller }
    }
}

impl Call for GetProject {
    async fn call(&mut self) -> Result<(), Status> {
        let user = self.caller.user()?;
        let number = self.caller.random(user.firm.projects);
        let asked = user.firm.project(number).to_string();
        let request = GetProjectRequest {
            project_id: asked.clone(),
        };
        let wire = &self.caller.wire;
        let answer: GetProjectResponse = wire.call(&user, GET_PROJECT, &request).await?;
        match answer.project {
            Some(project) if project.id == asked => Ok(()),
            _ => Err(Status::data_loss("the answer holds another project")),
        }
    }
}
