//! Runs of cells whose services have networks of their own: by this very program once more, in the hub of a network.

use std::fs;
use std::process::Stdio;

use anyhow::{Context as _, ensure};
use serde::Deserialize;

use crate::Wanted;
use crate::cells::Cell;
use crate::devices::net::Network;
use crate::ground::NODES;
use crate::trial::Trial;

/// What the program in the hub writes.
#[derive(Deserialize)]
struct Written {
    trials: Vec<Trial>,
}

/// Runs cells in the hub of a new network.
pub(crate) async fn run(
    cells: &[Cell],
    wanted: &Wanted,
    runs: u64,
    first: u64,
) -> anyhow::Result<Vec<Trial>> {
    let network = Network::create(&NODES)?;
    let dir = harness::temporary_folder()?;
    let json = dir.join("trials.json");
    let mut command = network.command(std::env::current_exe()?);
    command
        .arg("run")
        .args(cells.iter().map(ToString::to_string))
        .args(["--network", network.name()])
        .args(["--profile", wanted.profile.name()])
        .args(["--runs", &runs.to_string(), "--seed", &first.to_string()])
        .args(["--postgres", &format!("{:?}", wanted.postgres)])
        .arg("--json")
        .arg(&json)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let ended = command.status().await.context("cannot run in a network")?;
    // Held, broken or not tried; anything else is no run.
    let ran = matches!(ended.code(), Some(0..=2)) && json.exists();
    ensure!(ran, "the runs in a network ended with {ended}");
    let written: Written = serde_json::from_slice(&fs::read(&json)?)?;
    fs::remove_dir_all(&dir)?;
    Ok(written.trials)
}
