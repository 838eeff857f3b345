//! Two runs beside each other: what changed, and whether the rounds of either reach into those of the other.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use anyhow::Context as _;
use comfy_table::{CellAlignment, Table, presets};
use serde::Deserialize;

use crate::goals::NOT_MEASURED;
use crate::report::number;

/// A report as it was written with `--json`.
#[derive(Deserialize)]
struct Written {
    title: String,
    figures: Vec<Figure>,
    #[serde(default)]
    goals: Vec<Goal>,
}

#[derive(Deserialize)]
struct Figure {
    measure: String,
    series: String,
    #[serde(flatten)]
    spread: Spread,
}

#[derive(Deserialize)]
struct Goal {
    id: String,
    what: String,
    verdict: String,
    #[serde(flatten)]
    spread: Spread,
}

/// Without numbers where nothing was measured.
#[derive(Clone, Copy, Deserialize)]
struct Spread {
    median: Option<f64>,
    min: Option<f64>,
    max: Option<f64>,
}

/// The table of all figures and goals that both files have.
pub(crate) fn compare(before: &Path, after: &Path) -> anyhow::Result<String> {
    let (before, after) = (read(before)?, read(after)?);
    let titles = format!("A: {}\nB: {}", before.title, after.title);
    let mut table = Table::new();
    table
        .load_style(presets::ASCII_MARKDOWN)
        .set_header(["measure", "series", "A", "B", "change", ""]);
    for column in [2, 3, 4] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let known: BTreeMap<_, _> = rows(before).collect();
    for (name, b) in rows(after) {
        let Some(a) = known.get(&name) else { continue };
        let change = match (a.median, b.median) {
            (None, None) => continue,
            (Some(from), Some(to)) => format!("{:+.1} %", (to / from - 1.0) * 100.0),
            _ => String::new(),
        };
        let apart = if apart(*a, b) { "*" } else { "" };
        let (measure, series) = name;
        table.add_row([
            &measure,
            &series,
            &told(a.median),
            &told(b.median),
            &change,
            apart,
        ]);
    }
    Ok(format!(
        "{titles}\n{table}\n* no round of one reached into the rounds of the other; - for ever"
    ))
}

fn read(file: &Path) -> anyhow::Result<Written> {
    let name = file.display();
    let opened = File::open(file).with_context(|| format!("cannot open {name}"))?;
    serde_json::from_reader(opened).with_context(|| format!("{name} is no report of the bench"))
}

fn rows(written: Written) -> impl Iterator<Item = ((String, String), Spread)> {
    let figures = written.figures.into_iter();
    let figures = figures.map(|figure| ((figure.measure, figure.series), figure.spread));
    let goals = written.goals.into_iter();
    let goals = goals.filter(|goal| goal.verdict != NOT_MEASURED);
    figures.chain(goals.map(|goal| {
        (
            (format!("{}: {}", goal.id, goal.what), String::new()),
            goal.spread,
        )
    }))
}

/// JSON knows no infinity: what takes for ever has no number there.
fn told(median: Option<f64>) -> String {
    median.map_or_else(|| "-".to_owned(), number)
}

fn apart(a: Spread, b: Spread) -> bool {
    if a.median.is_some() != b.median.is_some() {
        return true;
    }
    let above = |low: Option<f64>, high: Option<f64>| low.zip(high).is_some_and(|(l, h)| l > h);
    above(a.min, b.max) || above(b.min, a.max)
}
