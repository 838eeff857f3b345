//! How each fault is done to the running system, at its moment, and undone again.

use std::time::Duration;

use anyhow::ensure;
use fastrand::Rng;
use tokio::time::sleep;

use crate::cells::{Cell, Fault, Moment};
use crate::program::{Armed, signal};
use crate::stack::{STOP_WITHIN, Server, Stack};
use crate::workload::Load;
use crate::{copies, cuts, storm, swizzle};

/// What a fault is done to, and with.
pub(crate) struct Scene<'a> {
    pub(crate) stack: &'a mut Stack,
    pub(crate) load: &'a Load,
    pub(crate) rng: Rng,
    /// How long what is stopped stays so.
    pub(crate) stopped: Duration,
    /// Events that the fault itself puts on the bus.
    pub(crate) forged: Vec<uuid::Uuid>,
}

/// Does a fault and undoes it; returns when everything that was taken away is back.
pub(crate) async fn inject(scene: &mut Scene<'_>, cell: Cell) -> anyhow::Result<()> {
    let Cell { fault, moment } = cell;
    match fault {
        Fault::KillService => kill_service(scene, moment).await,
        Fault::KillPostgres => kill_server(scene, moment, Server::Postgres).await,
        Fault::KillNats => kill_server(scene, moment, Server::Nats).await,
        Fault::CutNats => cuts::power(scene, moment, Server::Nats).await,
        Fault::CutPostgres => cuts::power(scene, moment, Server::Postgres).await,
        Fault::Part => cuts::part(scene, moment).await,
        Fault::CutCommit => cuts::commit(scene, moment).await,
        Fault::Fill => cuts::fill(scene, moment).await,
        Fault::Stop => stop(scene, moment).await,
        Fault::Duplicate => copies::duplicate(scene, moment).await,
        Fault::Reorder => reorder(scene, moment).await,
        Fault::Poison => copies::poison(scene).await,
        // The callers of its load do it.
        Fault::Cancel => scene.load.goes_on(100, Duration::from_secs(30)).await,
        Fault::Lose => copies::lose(scene, moment).await,
        Fault::Roll => roll(scene, moment).await,
        Fault::Storm => storm::reconnect(scene, moment).await,
        Fault::Swizzle => swizzle::swizzle(scene).await,
    }
}

impl Scene<'_> {
    /// A process that comes to the moment, and the moment armed there.
    pub(crate) fn arm(&mut self, moment: Moment) -> anyhow::Result<(String, Armed)> {
        let service = self
            .rng
            .choice(moment.services())
            .copied()
            .unwrap_or("projects");
        self.arm_at(moment, service)
    }

    fn arm_at(&mut self, moment: Moment, service: &str) -> anyhow::Result<(String, Armed)> {
        let failpoint = self
            .rng
            .choice(moment.failpoints())
            .copied()
            .unwrap_or_default();
        let name = format!("{service}-1");
        let armed = self.stack.program(&name)?.arm(failpoint)?;
        Ok((name, armed))
    }

    /// A little while, as chance says.
    pub(crate) async fn lull(&mut self) {
        let pause = Duration::from_millis(self.rng.u64(0..400));
        sleep(pause).await;
    }
}

async fn kill_service(scene: &mut Scene<'_>, moment: Moment) -> anyhow::Result<()> {
    let (name, armed) = scene.arm(moment)?;
    armed.reached().await?;
    scene.stack.program(&name)?.kill().await?;
    armed.release();
    scene.lull().await;
    let program = scene.stack.program(&name)?;
    program.restart()?;
    program.ready().await
}

async fn kill_server(scene: &mut Scene<'_>, moment: Moment, server: Server) -> anyhow::Result<()> {
    let (_, armed) = scene.arm(moment)?;
    armed.reached().await?;
    scene.stack.kill(server).await?;
    armed.release();
    scene.lull().await;
    scene.stack.restart(server).await
}

/// What is stopped is not dead: it comes back with what it held, and believes that no time has passed.
async fn stop(scene: &mut Scene<'_>, moment: Moment) -> anyhow::Result<()> {
    let server = match moment {
        Moment::M1 | Moment::M10 => Some(Server::Postgres),
        Moment::M2 | Moment::M7 => Some(Server::Nats),
        _ => None,
    };
    if let Some(server) = server {
        let (_, armed) = scene.arm(moment)?;
        armed.reached().await?;
        let pids = scene.stack.pids(server)?;
        signal(&pids, "STOP").await?;
        armed.release();
        sleep(scene.stopped).await;
        return signal(&pids, "CONT").await;
    }
    // Another replica takes over while the first believes that it still holds lease and events.
    let service = scene
        .rng
        .choice(moment.services())
        .copied()
        .unwrap_or("projects");
    let second = scene.stack.add(service, 2, &[])?;
    scene.stack.open(&second).await?;
    let (first, armed) = scene.arm_at(moment, service)?;
    armed.reached().await?;
    let pids = scene.stack.program(&first)?.pids();
    signal(&pids, "STOP").await?;
    armed.release();
    sleep(scene.stopped).await;
    signal(&pids, "CONT").await?;
    scene.load.goes_on(10, Duration::from_secs(30)).await?;
    scene.stack.retire(&second).await
}

/// Two consumers of one service: the first is held with what it has while the second goes on, and then catches up.
async fn reorder(scene: &mut Scene<'_>, moment: Moment) -> anyhow::Result<()> {
    let service = scene
        .rng
        .choice(moment.services())
        .copied()
        .unwrap_or("audit");
    let second = scene.stack.add(service, 2, &[])?;
    scene.stack.open(&second).await?;
    for _ in 0..3 {
        let (_, armed) = scene.arm_at(moment, service)?;
        armed.reached().await?;
        scene.load.goes_on(20, Duration::from_secs(30)).await?;
        armed.release();
    }
    scene.stack.retire(&second).await
}

/// Replaces every process by another, one after the other, as an orchestrator does; no call may fail.
async fn roll(scene: &mut Scene<'_>, moment: Moment) -> anyhow::Result<()> {
    let before = scene.load.failures();
    let services = [
        "tenants",
        "consultants",
        "projects",
        "time-entries",
        "audit",
    ];
    for service in services {
        let second = scene.stack.add(service, 2, &[])?;
        scene.stack.open(&second).await?;
        // The first one leaves in the middle of something, where it comes to the moment.
        let armed = if moment.services().contains(&service) {
            let (_, armed) = scene.arm_at(moment, service)?;
            armed.reached().await?;
            Some(armed)
        } else {
            None
        };
        let first = format!("{service}-1");
        scene.stack.close(&first);
        let leaving = async {
            let (status, took) = scene.stack.program(&first)?.terminate().await?;
            ensure!(status.success(), "{first} ended with {status}");
            ensure!(took < STOP_WITHIN, "{first} took {took:?} to end");
            anyhow::Ok(())
        };
        let held = async {
            sleep(Duration::from_millis(300)).await;
            if let Some(armed) = armed {
                armed.release();
            }
        };
        let (left, ()) = tokio::join!(leaving, held);
        left?;
        scene.stack.program(&first)?.restart()?;
        scene.stack.open(&first).await?;
        scene.stack.retire(&second).await?;
    }
    let failed = scene.load.failures() - before;
    ensure!(
        failed == 0,
        "{failed} calls failed in a rolling restart{}",
        scene.load.complaint()
    );
    Ok(())
}
