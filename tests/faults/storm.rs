//! Many callers that lose their connections at once, and all come back at once.

use std::time::Duration;

use anyhow::ensure;
use kit::TenantId;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::cells::Moment;
use crate::client::{self, call};
use crate::history::Noun;
use crate::inject::Scene;

const CALLERS: usize = 500;
/// All of them must have been answered again by then.
const BACK_WITHIN: Duration = Duration::from_secs(30);

/// Five hundred callers with a connection each lose the service and come back.
pub(crate) async fn reconnect(scene: &mut Scene<'_>, moment: Moment) -> anyhow::Result<()> {
    let url = scene.stack.program("projects-1")?.url.clone();
    let tenant = scene
        .load
        .ground
        .firms
        .first()
        .map_or(TenantId::NONE, |firm| firm.id);
    let metadata = client::metadata(&scene.load.ground.issuer, tenant, "storm", "admin")?;
    let list = Noun::Client.list();
    let mut channels = Vec::new();
    for _ in 0..CALLERS {
        channels.push(client::connect(&url)?);
    }
    let answered = async |within: Duration| {
        let deadline = Instant::now() + within;
        let mut callers = JoinSet::new();
        for channel in channels.clone() {
            let (metadata, list) = (metadata.clone(), list.clone());
            callers.spawn(async move {
                while Instant::now() < deadline {
                    let message = list.message.clone();
                    if call(channel.clone(), &metadata, list.method, message)
                        .await
                        .is_ok()
                    {
                        return true;
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                false
            });
        }
        callers
            .join_all()
            .await
            .into_iter()
            .filter(|it| *it)
            .count()
    };
    let at_first = answered(BACK_WITHIN).await;
    ensure!(
        at_first == CALLERS,
        "only {at_first} of {CALLERS} callers were ever answered"
    );

    let armed = scene
        .stack
        .program("projects-1")?
        .arm(moment.failpoints().last().copied().unwrap_or_default())?;
    armed.reached().await?;
    let program = scene.stack.program("projects-1")?;
    program.kill().await?;
    armed.release();
    program.restart()?;
    let (ready, back) = tokio::join!(program.ready(), answered(BACK_WITHIN));
    ready?;
    ensure!(
        back == CALLERS,
        "only {back} of {CALLERS} callers came back"
    );
    Ok(())
}
