//! Creating a project: `CreateProject` beside the same rows written by `pgbench`, each with its outbox row.
//! The relays run all the while, as in service: they move the rows of both.

use anyhow::Context as _;
use data_encoding::HEXLOWER;
use kit::ctx::Clock;
use prost::Message as _;
use proto::projects::v1::{
    CreateProjectRequest, CreateProjectResponse, Project, ProjectCreated, ProjectState,
};
use tonic::Status;

use crate::Bench;
use crate::get::COLUMNS;
use crate::load::{Call, Caller, closed_loop};
use crate::pgbench::{Pgbench, Script, together};
use crate::report::{OURS, Report};
use crate::seed::{CLIENT_PREFIX, Firm, PROJECTS_PER_CLIENT};
use crate::wire::CREATE_PROJECT;

pub(crate) const CALLS: &str = "create, calls/s";
/// Limits, as the report calls them.
pub(crate) const ONE_SYNC: &str = "both rows, one Sync";
pub(crate) const UNMOVED: &str = "both rows, no relay, one Sync";
pub(crate) const NO_OUTBOX: &str = "no outbox row, one Sync";

/// The context and the row, the row and its event, the commit: together, also with an event
/// that nobody moves and without one, or one after the other.
pub(crate) fn scripts(pgbench: &Pgbench, firm: &Firm) -> [(&'static str, Script); 4] {
    // Fifteen digits that never come twice and rise, as the ids of the services do: random ones would cost more.
    let choose = "\\set i :i + 1\n\
                  \\set n 100000000000000 + :run * 10000000000 + :client_id * 10000000 + :i\n";
    let id = "('00000009-0000-7000-8' || :n::text)::uuid";
    let (tenant, context) = (pgbench.tenant(), pgbench.context());
    let client = pgbench.id(CLIENT_PREFIX, PROJECTS_PER_CLIENT);
    let row = format!(
        "insert into projects.project (tenant_id, {COLUMNS}) \
         values ({tenant}, {id}, {client}, 'N-' || :n::text, 'New', true, null, null, null, null, null, false, 1, now(), now());"
    );
    let event = |outbox| {
        format!(
            "insert into projects.{outbox} \
             (tenant_id, event_id, type, aggregate_id, version, occurred_at, actor_kind, actor_id, traceparent, body) \
         values ({tenant}, {id}, 'catalyst.projects.v1.ProjectCreated', {id}, 1, now(), 'user', 'bench', null, \
                 decode('{}', 'hex'));",
            HEXLOWER.encode(&body(firm))
        )
    };
    let (outbox, unmoved) = (event("outbox"), event("bench_outbox"));
    let one = together(&["begin;", &context, &row, &outbox, "commit;"]);
    let written = together(&["begin;", &context, &row, &unmoved, "commit;"]);
    let bare = together(&["begin;", &context, &row, "commit;"]);
    let three = together(&["begin;", &context]) + &together(&[&row, &outbox]) + "commit;\n";
    [
        (ONE_SYNC, Script::new(format!("{choose}{one}"))),
        (UNMOVED, Script::new(format!("{choose}{written}"))),
        (NO_OUTBOX, Script::new(format!("{choose}{bare}"))),
        (
            "both rows, three round trips",
            Script::new(format!("{choose}{three}")),
        ),
    ]
}

/// An event of the right size.
pub(crate) fn body(firm: &Firm) -> Vec<u8> {
    ProjectCreated {
        project_id: firm.project(0).to_string(),
        client_id: firm.client(0).to_string(),
        code: firm.project(0).simple().to_string(),
        display_name: "New".to_owned(),
        state: ProjectState::Active.into(),
        billable: true,
    }
    .encode_to_vec()
}

/// Makes an outbox like the real one, but for the relay, which does not know it.
pub(crate) async fn prepare(bench: &Bench<'_>) -> anyhow::Result<()> {
    let table = "
        set role projects_owner;
        create table projects.bench_outbox (like projects.outbox including all);
        alter table projects.bench_outbox enable row level security;
        alter table projects.bench_outbox force row level security;
        create policy tenant_isolation on projects.bench_outbox for insert to projects_app
            with check (tenant_id = app.current_tenant_id());
        grant insert on projects.bench_outbox to projects_app;";
    let mut admin = bench.system.admin().await?;
    sqlx::raw_sql(table).execute(&mut admin).await?;
    Ok(())
}

/// Our calls, then each script, for the time of a round.
pub(crate) async fn round(bench: &Bench<'_>, report: &mut Report) -> anyhow::Result<()> {
    let load = closed_loop(bench.callers.each(CreateProject::of).await?, bench.time).await?;
    report.record(CALLS, OURS, load.per_second);
    report.record("create, p50 ms", OURS, load.percentile(50));
    report.record("create, p99 ms", OURS, load.percentile(99));
    bench.system.settle().await?;
    let firm = bench.firms.first().context("there is a firm")?;
    let mut admin = bench.system.admin().await?;
    sqlx::raw_sql("truncate projects.bench_outbox")
        .execute(&mut admin)
        .await?;
    for (name, script) in scripts(&bench.pgbench, firm) {
        report.record(CALLS, name, bench.pgbench.run(&script).await?.per_second);
        bench.system.settle().await?;
    }
    Ok(())
}

/// A caller of this.
pub(crate) struct CreateProject {
    caller: Caller,
}

impl CreateProject {
    pub(crate) fn of(caller: Caller) -> Self {
        Self { caller }
    }
}

impl Call for CreateProject {
    async fn call(&mut self) -> Result<(), Status> {
        let user = self.caller.user()?;
        let number = self.caller.random(user.firm.clients());
        let project = Project {
            client_id: user.firm.client(number).to_string(),
            code: Clock::system().new_uuid().simple().to_string(),
            display_name: "New".to_owned(),
            billable: true,
            ..Project::default()
        };
        let request = CreateProjectRequest {
            project: Some(project),
            ..CreateProjectRequest::default()
        };
        let wire = &self.caller.wire;
        let answer = wire.call(&user, CREATE_PROJECT, &request).await;
        answer.map(|_: CreateProjectResponse| ())
    }
}
