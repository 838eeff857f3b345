//! What became of each mutant, as a table for people and as JSON for programs.

use std::fmt;
use std::time::Duration;

use comfy_table::{Table, presets};
use serde_json::{Value, json};

use crate::catalog::Mutant;

/// What became of a mutant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A test failed, and failed again when it was run alone.
    Killed,
    /// The tests did not end in time.
    TimedOut,
    /// No test noticed: the suite has a hole.
    Survived,
    /// Tests noticed, but the attestation of the running database did not.
    Unattested,
    /// No test noticed, as the catalog argues.
    Equivalent,
    /// A test that it names fails without it, too.
    Unsound,
    /// It breaks more than its control: nothing starts, or the tests end without a result.
    BreaksAll,
}

impl Outcome {
    /// Whether somebody noticed, or nobody needs to.
    pub(crate) fn is_good(self) -> bool {
        matches!(self, Self::Killed | Self::TimedOut | Self::Equivalent)
    }

    /// Whether the suite has a hole. What is neither this nor good is a fault of the catalog.
    pub(crate) fn is_hole(self) -> bool {
        matches!(self, Self::Survived | Self::Unattested)
    }

    /// In words.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Killed => "killed",
            Self::TimedOut => "killed by time-out",
            Self::Survived => "SURVIVED",
            Self::Unattested => "NOT ATTESTED",
            Self::Equivalent => "survived, as argued",
            Self::Unsound => "NOT TRIED, FAILS WITHOUT",
            Self::BreaksAll => "BREAKS ALL",
        }
    }
}

/// One mutant's row.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) control: String,
    pub(crate) outcome: Outcome,
    /// The tests that failed, or why there is no verdict.
    pub(crate) by: Vec<String>,
    pub(crate) took: Duration,
}

impl Line {
    /// What is said when it is done.
    pub(crate) fn progress(&self, number: usize, of: usize) -> String {
        let (name, outcome) = (&self.name, self.outcome.as_str());
        let by = shortened(&self.by);
        format!(
            "{number:>3} of {of}  {outcome}: {name} ({by}; {} s)",
            self.took.as_secs()
        )
    }
}

/// Everything that was run.
#[derive(Debug, Default)]
pub(crate) struct Report(pub(crate) Vec<Line>);

impl Report {
    pub(crate) fn json(&self) -> Value {
        let lines = self.0.iter().map(|line| {
            json!({
                "name": line.name,
                "control": line.control,
                "outcome": line.outcome.as_str(),
                "by": line.by,
                "seconds": line.took.as_secs(),
            })
        });
        lines.collect()
    }

    /// 0: each was noticed; 1: some were not; 2: some could not be tried.
    pub(crate) fn exit_code(&self) -> u8 {
        let any = |of: fn(Outcome) -> bool| self.0.iter().any(|line| of(line.outcome));
        if any(|outcome| !outcome.is_good() && !outcome.is_hole()) {
            2
        } else {
            u8::from(any(Outcome::is_hole))
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table
            .load_style(presets::ASCII_MARKDOWN)
            .set_header(["mutant", "control", "outcome", "by", "s"]);
        for line in &self.0 {
            table.add_row([
                line.name.clone(),
                line.control.clone(),
                line.outcome.as_str().to_owned(),
                shortened(&line.by),
                line.took.as_secs().to_string(),
            ]);
        }
        let good = self.0.iter().filter(|line| line.outcome.is_good()).count();
        write!(
            f,
            "{table}\n{good} of {} mutants were noticed",
            self.0.len()
        )
    }
}

/// The first name stands for all.
fn shortened(by: &[String]) -> String {
    match by {
        [] => String::new(),
        [one] => one.clone(),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
    }
}

/// What can be run.
pub(crate) fn listed(mutants: &[Mutant]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::ASCII_MARKDOWN)
        .set_header(["mutant", "control", "tests"]);
    for mutant in mutants {
        let tests: Vec<&str> = mutant.filters().collect();
        table.add_row([
            mutant.name.clone(),
            mutant.control.clone(),
            tests.join("\n"),
        ]);
    }
    table
}
