//! Faults of what the servers stand on and are reached by: power, room, networks, connections.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use fastrand::Rng;
use tokio::time::sleep;

use crate::cells::Moment;
use crate::devices::net::{Fault, Harm};
use crate::devices::power;
use crate::devices::proxy::{Behavior, Ending, Moment as Cut, Proxy, Side};
use crate::inject::Scene;
use crate::program::signal;
use crate::stack::{NotPermitted, Server, port_of};

/// Connections that are cut in a run.
const CUTS: usize = 8;
/// A network that was parted must be mended before the callers' patience ends.
const PARTED: Duration = Duration::from_secs(6);

/// The power of a server's disk is cut: what was not synced is gone, and the server with it.
pub(crate) async fn power(
    scene: &mut Scene<'_>,
    moment: Moment,
    server: Server,
) -> anyhow::Result<()> {
    if scene.stack.devices.volume(server).is_none() {
        let why = power::available().err().unwrap_or_default();
        return Err(NotPermitted(why).into());
    }
    let (_, armed) = scene.arm(moment)?;
    armed.reached().await?;
    let volume = scene
        .stack
        .devices
        .volume(server)
        .context("there is no volume")?;
    volume.cut()?;
    // The machine is off: nothing of the server is left.
    signal(&scene.stack.pids(server)?, "KILL").await?;
    armed.release();
    scene.lull().await;
    let volume = scene
        .stack
        .devices
        .volume(server)
        .context("there is no volume")?;
    volume.restore().await?;
    scene.stack.restart(server).await
}

/// The disk of a server is full for a while.
pub(crate) async fn fill(scene: &mut Scene<'_>, moment: Moment) -> anyhow::Result<()> {
    let server = match moment {
        Moment::M2 | Moment::M3 => Server::Nats,
        _ => Server::Postgres,
    };
    let (_, armed) = scene.arm(moment)?;
    armed.reached().await?;
    scene
        .stack
        .devices
        .disk(server)
        .context("there is no disk")?
        .fill()?;
    armed.release();
    sleep(scene.stopped.min(PARTED)).await;
    scene
        .stack
        .devices
        .disk(server)
        .context("there is no disk")?
        .free()?;
    // Both stop by themselves when they can no longer write, and somebody starts them once there is room.
    scene.stack.restart(server).await
}

/// The network between a service and a server is broken for a while.
pub(crate) async fn part(scene: &mut Scene<'_>, moment: Moment) -> anyhow::Result<()> {
    let servers = &scene.stack.deployment.stack;
    let port = match moment {
        Moment::M1 | Moment::M10 => port_of(&servers.database_url)?,
        _ => port_of(&servers.nats_url)?,
    };
    let harms = [
        Harm::Drop,
        Harm::DropToHub,
        Harm::DropToNode,
        Harm::Reset,
        Harm::Lose(20),
    ];
    let harm = scene.rng.choice(harms).unwrap_or(Harm::Drop);
    let (name, armed) = scene.arm(moment)?;
    armed.reached().await?;
    let service = name.trim_end_matches("-1").to_owned();
    let break_it = |scene: &Scene<'_>, fault| {
        let network = scene.stack.devices.network.as_ref();
        network
            .context("there is no network")?
            .node(&service)?
            .set(fault)
    };
    break_it(scene, Some(Fault::on_port(harm, port)))?;
    armed.release();
    sleep(scene.stopped.min(PARTED)).await;
    break_it(scene, None)
}

/// Connections to the database end at COMMIT: before the server has it, when it has it, or when it answers.
pub(crate) async fn commit(scene: &mut Scene<'_>, moment: Moment) -> anyhow::Result<()> {
    let service = scene
        .rng
        .choice(moment.services())
        .copied()
        .unwrap_or("projects");
    let url = scene.stack.deployment.stack.database_url.clone();
    let port = port_of(&url)?;
    let proxy = Proxy::start(([127, 0, 0, 1], port).into()).await?;
    let through = url.replacen(
        &format!(":{port}"),
        &format!(":{}", proxy.address().port()),
        1,
    );
    let second = scene
        .stack
        .add(service, 2, &[("CATALYST_DATABASE_URL", through)])?;
    scene.stack.open(&second).await?;
    // Its callers and its events come to the one behind the proxy alone.
    let first = format!("{service}-1");
    scene.stack.close(&first);
    let pids = scene.stack.program(&first)?.pids();
    signal(&pids, "STOP").await?;
    for number in 1..=CUTS {
        let behavior = cut(&mut scene.rng);
        proxy.set(behavior.clone());
        let fired = harness::within(Duration::from_secs(20), async || {
            (proxy.fired() >= number).then_some(())
        });
        let in_time = fired.await.is_some();
        ensure!(
            in_time,
            "{behavior:?} met nothing in {} bytes",
            carried(&proxy)
        );
        scene.lull().await;
    }
    // And once so slow that all wait, then so dead that all are refused.
    proxy.set(Behavior::Delay(Duration::from_millis(20)));
    scene.lull().await;
    proxy.set(Behavior::Refuse(Ending::Reset));
    proxy.cut(Ending::Reset);
    scene.lull().await;
    proxy.set(Behavior::Pass);
    signal(&pids, "CONT").await?;
    scene.stack.open(&first).await?;
    scene.stack.retire(&second).await
}

/// At COMMIT in most cases, else anywhere in what is said.
fn cut(rng: &mut Rng) -> Behavior {
    let ending = rng
        .choice([Ending::Close, Ending::Reset])
        .unwrap_or(Ending::Reset);
    if rng.u32(0..4) == 0 {
        let side = rng
            .choice([Side::Server, Side::Client])
            .unwrap_or(Side::Client);
        return Behavior::CutAfter(side, rng.u64(100..5_000), ending);
    }
    let moment = rng
        .choice([Cut::Unsent, Cut::Sent, Cut::Answered])
        .unwrap_or(Cut::Sent);
    Behavior::CutAt(b"commit".to_vec(), moment, ending)
}

/// Bytes that the open connections have carried, both ways.
fn carried(proxy: &Proxy) -> u64 {
    let open = proxy.connections().into_iter().filter(|it| it.open);
    open.map(|it| it.to_server + it.to_client).sum()
}
