//! Refusing: what a call costs that names another firm's project, with the security events that it causes, beside the
//! same call about a project of one's own, and beside a create.

use proto::projects::v1::{GetProjectRequest, GetProjectResponse};
use tonic::{Code, Status};

use crate::Bench;
use crate::cpu::Used;
use crate::create::CreateProject;
use crate::get::GetProject;
use crate::load::{Call, Caller, closed_loop};
use crate::report::{OURS, Report};
use crate::wire::GET_PROJECT;

pub(crate) const CALLS: &str = "refused get, calls/s";
pub(crate) const CPU: &str = "refused get until on record, services' CPU us/call";
const CPU_OF_CALLS: &str = "refused get, services' CPU us/call";
/// Limits, as the report calls them.
pub(crate) const GOOD: &str = "get of one's own";
pub(crate) const CREATE: &str = "create";

/// Refused calls, good ones and creates, each for the time of a round.
pub(crate) async fn round(bench: &Bench<'_>, report: &mut Report) -> anyhow::Result<()> {
    let refused = loop_of(bench, RefusedGet::of).await?;
    let good = loop_of(bench, GetProject::of).await?;
    let create = loop_of(bench, CreateProject::of).await?;
    report.record(CALLS, OURS, refused.per_second);
    report.record(CALLS, GOOD, good.per_second);
    report.record(CALLS, CREATE, create.per_second);
    report.record(CPU, OURS, refused.micros_in_all);
    report.record(CPU, GOOD, good.micros_in_all);
    report.record(CPU_OF_CALLS, OURS, refused.micros);
    report.record(CPU_OF_CALLS, GOOD, good.micros);
    Ok(())
}

struct Reached {
    per_second: f64,
    /// Processor time of the services for each call, while callers call.
    micros: f64,
    /// The same, until every event that the calls caused is on record.
    micros_in_all: f64,
}

async fn loop_of<C: Call>(
    bench: &Bench<'_>,
    client: impl Fn(Caller) -> C,
) -> anyhow::Result<Reached> {
    let callers = bench.callers.each(client).await?;
    let before = Used::now(bench.system.postmaster);
    let load = closed_loop(callers, bench.time).await?;
    let used = || Used::now(bench.system.postmaster).since(before).services;
    let micros = used().as_secs_f64() * 1e6 / load.calls;
    bench.system.settle().await?;
    Ok(Reached {
        per_second: load.per_second,
        micros,
        micros_in_all: used().as_secs_f64() * 1e6 / load.calls,
    })
}

struct RefusedGet {
    caller: Caller,
}

impl RefusedGet {
    fn of(caller: Caller) -> Self {
        Self { caller }
    }
}

impl Call for RefusedGet {
    async fn call(&mut self) -> Result<(), Status> {
        let user = self.caller.user()?;
        let mut other = self.caller.user()?;
        while other.firm.tenant == user.firm.tenant {
            other = self.caller.user()?;
        }
        let number = self.caller.random(other.firm.projects);
        let request = GetProjectRequest {
            project_id: other.firm.project(number).to_string(),
        };
        let wire = &self.caller.wire;
        match wire.call(&user, GET_PROJECT, &request).await {
            Err(status) if status.code() == Code::NotFound => Ok(()),
            Err(status) => Err(status),
            Ok(GetProjectResponse { .. }) => {
                Err(Status::data_loss("another firm's project was shown"))
            }
        }
    }
}
