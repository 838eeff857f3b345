//! A cell that answers, and whose owner has locked what its consumers write.

use std::time::{Duration, Instant};

use harness::within;
use sqlx::{Connection as _, Executor as _};

use super::ground::Ground;
use super::placed::Placed;
use super::{IN_TIME, of_cell};

/// Enough that trying each of them, for five seconds, is worse than waiting for the cell.
const EVENTS: i64 = 20;
/// Until each has failed often enough to be tried by itself.
const LOCKED: Duration = Duration::from_secs(30);
/// Beyond what one turn of the locked cell takes: its events together, and one of them.
const PATIENCE: Duration = Duration::from_secs(25);

pub(super) async fn a_locked_cell_costs_its_firms_alone(ground: &Ground, placed: &[Placed]) {
    let locked = of_cell(placed, "east")[0];
    let mut owner = ground.owner("east").await;
    let mut lock = owner.begin().await.expect("begun");
    lock.execute("lock table time_entries.inbox in access exclusive mode")
        .await
        .expect("locked");
    for _ in 0..EVENTS {
        locked.firm.creates_project("locked").await;
    }
    let other = of_cell(placed, "shared")[0];
    let since = Instant::now();
    while since.elapsed() < LOCKED {
        let project = other.firm.creates_project("meanwhile").await.id;
        let of = format!("select count(*) from time_entries.project where id = '{project}'");
        let heard = async || (ground.asks("shared", &of).await == 1).then_some(());
        let heard = within(PATIENCE, heard).await;
        heard.expect("an event of the shared cell does not wait for a locked one");
    }
    lock.rollback().await.expect("unlocked");
    owner.close().await.expect("closed");
    let of = "select count(*) from time_entries.project where display_name = 'locked'";
    let heard = async || (ground.asks("east", of).await == EVENTS).then_some(());
    let heard = within(IN_TIME * 5, heard).await;
    heard.expect("the cell's own events are applied once it is not locked any more");
}
