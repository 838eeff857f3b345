//! What the runs came to: a table of cells, and for each that broke an invariant the seed that replays it.

use std::collections::BTreeMap;
use std::fmt;

use comfy_table::{CellAlignment, Table, presets};
use serde_json::json;

use crate::cells::Cell;
use crate::checker::Tally;
use crate::trial::{End, Trial};

/// Breaches that are shown of one run; all of them are in the JSON.
const SHOWN: usize = 5;

/// All runs so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) trials: Vec<Trial>,
}

/// The cells that there are.
pub(crate) fn listed() -> String {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(["cell", "fault", "moment", "short profile"]);
    for cell in Cell::all() {
        table.add_row([
            cell.to_string(),
            cell.fault.title().to_owned(),
            cell.moment.title().to_owned(),
            if cell.is_short() { "yes" } else { "" }.to_owned(),
        ]);
    }
    table.to_string()
}

/// How a run is made again.
pub(crate) fn replay(cell: Cell, seed: u64) -> String {
    if cell == Cell::SWIZZLE {
        return format!(
            "cargo run -p catalyst-tests --bin faults -- random --minutes 1 --seed {seed}"
        );
    }
    format!("cargo run -p catalyst-tests --bin faults -- run {cell} --seed {seed} --runs 1")
}

impl Report {
    /// 0 all held; 1 an invariant broke; 2 some could not be tried.
    pub(crate) fn exit_code(&self) -> u8 {
        let broke = |trial: &Trial| matches!(trial.end, End::Broke(_));
        let not_tried = |trial: &Trial| matches!(trial.end, End::NotTried(_));
        if self.trials.iter().any(broke) {
            1
        } else if self.trials.iter().any(not_tried) {
            2
        } else {
            0
        }
    }

    /// For programs.
    pub(crate) fn json(&self) -> serde_json::Value {
        json!({ "trials": self.trials })
    }
}

/// One line of the table.
#[derive(Default)]
struct Line {
    runs: u32,
    broke: u32,
    not_tried: u32,
    skipped: u32,
    tally: Tally,
    seconds: f64,
}

impl Line {
    fn add(&mut self, trial: &Trial) {
        self.runs += 1;
        self.tally.add(trial.tally);
        self.seconds += trial.times.sum().as_secs_f64();
        match trial.end {
            End::Held => {}
            End::Broke(_) => self.broke += 1,
            End::NotTried(_) => self.not_tried += 1,
            End::Skipped(_) => self.skipped += 1,
        }
    }

    fn words(&self, cell: String, what: String) -> Vec<String> {
        let tally = self.tally;
        let mut words = vec![cell, what, self.runs.to_string()];
        let numbers = [
            tally.acknowledged,
            tally.unknown,
            tally.duplicates,
            tally.lost,
            tally.doubled,
            tally.inverted,
            tally.canaries,
        ];
        words.extend(numbers.iter().map(u64::to_string));
        words.push(format!("{:.1}", self.seconds / f64::from(self.runs.max(1))));
        words.push(match (self.broke, self.not_tried, self.skipped) {
            (0, 0, 0) => "held".to_owned(),
            (0, 0, skipped) => format!("skipped: {skipped}"),
            (0, not_tried, _) => format!("not tried: {not_tried}"),
            (broke, ..) => format!("BROKE: {broke}"),
        });
        words
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines: BTreeMap<Cell, Line> = BTreeMap::new();
        let mut total = Line::default();
        for trial in &self.trials {
            lines.entry(trial.cell).or_default().add(trial);
            total.add(trial);
        }
        let mut table = Table::new();
        table.load_style(presets::ASCII_MARKDOWN);
        table.set_header([
            "cell",
            "fault, moment",
            "runs",
            "acked",
            "unknown",
            "duplicates",
            "lost",
            "doubled",
            "inverted",
            "canaries",
            "s/run",
            "",
        ]);
        for (cell, line) in lines {
            let what = format!("{}, {}", cell.fault.title(), cell.moment.title());
            table.add_row(line.words(cell.to_string(), what));
        }
        table.add_row(total.words("all".to_owned(), String::new()));
        for column in table.column_iter_mut().skip(2).take(9) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        writeln!(f, "{table}")?;
        for trial in &self.trials {
            match &trial.end {
                End::Held => {}
                End::Skipped(why) => writeln!(f, "\n{} was skipped: {why}", trial.cell)?,
                End::NotTried(why) => writeln!(f, "\n{} was not tried: {why}", trial.cell)?,
                End::Broke(breaches) => {
                    writeln!(f, "\n{} broke with seed {}:", trial.cell, trial.seed)?;
                    for breach in breaches.iter().take(SHOWN) {
                        writeln!(f, "  {}: {}", breach.invariant, breach.what)?;
                    }
                    if breaches.len() > SHOWN {
                        writeln!(f, "  and {} more", breaches.len() - SHOWN)?;
                    }
                    writeln!(f, "  again: {}", replay(trial.cell, trial.seed))?;
                }
            }
        }
        Ok(())
    }
}
