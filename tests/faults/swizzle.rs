//! A random schedule: some things are taken away one after the other, and brought back in another order.

use std::time::Duration;

use tokio::time::sleep;

use crate::inject::Scene;
use crate::program::signal;
use crate::stack::Server;

/// What can be taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Thing {
    Server(Server),
    Service(&'static str),
}

/// How it is.
enum Taken {
    Killed(Thing),
    Stopped(Vec<u32>),
}

/// Takes two to four things away and brings them back.
pub(crate) async fn swizzle(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let mut things = vec![Thing::Server(Server::Postgres), Thing::Server(Server::Nats)];
    things.extend(
        [
            "tenants",
            "consultants",
            "projects",
            "time-entries",
            "audit",
        ]
        .map(Thing::Service),
    );
    scene.rng.shuffle(&mut things);
    things.truncate(scene.rng.usize(2..=4));
    let mut taken = Vec::new();
    for thing in things {
        let pids = match thing {
            Thing::Server(server) => scene.stack.pids(server)?,
            Thing::Service(service) => scene.stack.program(&format!("{service}-1"))?.pids(),
        };
        if scene.rng.bool() {
            signal(&pids, "STOP").await?;
            taken.push(Taken::Stopped(pids));
        } else {
            match thing {
                Thing::Server(server) => scene.stack.kill(server).await?,
                Thing::Service(service) => {
                    scene.stack.program(&format!("{service}-1"))?.kill().await?;
                }
            }
            taken.push(Taken::Killed(thing));
        }
        pause(scene).await;
    }
    scene.rng.shuffle(&mut taken);
    let mut services = Vec::new();
    for taken in taken {
        match taken {
            Taken::Stopped(pids) => signal(&pids, "CONT").await?,
            Taken::Killed(Thing::Server(server)) => scene.stack.restart(server).await?,
            Taken::Killed(Thing::Service(service)) => {
                scene.stack.program(&format!("{service}-1"))?.restart()?;
                services.push(service);
            }
        }
        pause(scene).await;
    }
    // One that came back before what it needs has ended again, and is started until it stays.
    for service in services {
        scene
            .stack
            .program(&format!("{service}-1"))?
            .revive()
            .await?;
    }
    Ok(())
}

async fn pause(scene: &mut Scene<'_>) {
    let pause = Duration::from_millis(scene.rng.u64(0..3_000));
    sleep(pause).await;
}
