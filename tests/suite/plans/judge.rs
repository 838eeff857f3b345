//! Who pays how much for a statement, and who pays too much.
//!
//! Invariant: each execution is judged by itself, so that a cheap call hides no dear one of the same statement; and by
//! what it costs the others on the whole, so that dear calls of theirs are no measure.

use std::collections::{BTreeMap, BTreeSet};

use super::log::Execution;

/// How much more than the median firm the worst one may read for each row.
const MOST: f64 = 3.0;
/// What any statement may read for each row, whoever runs it; for those that are for all firms, or for the platform
/// alone, there is no firm to compare with. A new time entry goes into nine indexes and is thirty pages.
const MOST_OF_ALL: f64 = 40.0;
/// Pages that a statement may read whatever it returns. The descent of a B-tree is three pages, one more in a partition
/// ten times as large; a new row goes into as many as nine indexes and now and then splits a page of one; and rows that
/// were just deleted stay in an index until it is vacuumed. When the whale's rows are read in vain it is far more: they
/// fill more than a hundred pages of every table.
const FLOOR: f64 = 80.0;

/// Below so many firms a median says nothing.
const FEW: usize = 3;

/// What a statement read for those who ran it.
#[derive(Clone, Debug)]
pub(super) struct Judgement {
    pub(super) sql: String,
    /// The worst execution.
    pub(super) worst: Execution,
    /// Pages for each row: the median over firms, each with all its executions.
    pub(super) median: f64,
    /// For how many firms it ran.
    pub(super) firms: usize,
}

impl Judgement {
    /// How many times the median the worst execution read for each row.
    pub(super) fn ratio(&self) -> f64 {
        each_row(&self.worst) / self.median
    }

    /// Whether it read enough, for enough firms, that its ratio says something.
    pub(super) fn is_compared(&self) -> bool {
        self.worst.buffers > FLOOR && self.firms >= FEW
    }

    /// Whether that is more than a statement may.
    pub(super) fn is_a_cliff(&self) -> bool {
        let is_uneven = self.is_compared() && self.ratio() > MOST;
        let is_dear = self.worst.buffers > FLOOR && each_row(&self.worst) > MOST_OF_ALL;
        is_uneven || is_dear
    }

    /// What is told of it.
    pub(super) fn told(&self) -> String {
        let Execution {
            buffers,
            rows,
            firm,
            ..
        } = &self.worst;
        let of = firm.map_or("all firms".to_owned(), |firm| format!("firm {firm}"));
        format!(
            "{:.1} x the median of {:.2} pages a row: {buffers} pages for {rows} rows of {of}, among {}: {}",
            self.ratio(),
            self.median,
            self.firms,
            self.sql
        )
    }
}

fn each_row(execution: &Execution) -> f64 {
    execution.buffers / execution.rows
}

/// Judges every statement, the worst first.
pub(super) fn judge<'a>(executions: impl Iterator<Item = &'a Execution>) -> Vec<Judgement> {
    let mut by_statement: BTreeMap<&str, Vec<&Execution>> = BTreeMap::new();
    for execution in executions {
        by_statement
            .entry(&execution.sql)
            .or_default()
            .push(execution);
    }
    let mut judged: Vec<Judgement> = by_statement
        .values()
        .filter_map(|all| of_one(all))
        .collect();
    judged.sort_by(|a, b| b.ratio().total_cmp(&a.ratio()));
    judged
}

fn of_one(all: &[&Execution]) -> Option<Judgement> {
    let known: BTreeSet<u16> = all.iter().filter_map(|it| it.firm).collect();
    let mut groups: BTreeMap<usize, (f64, f64)> = BTreeMap::new();
    for (place, execution) in all.iter().enumerate() {
        let group = match execution.firm {
            Some(firm) if known.len() >= FEW => usize::from(firm),
            None if known.len() >= FEW => continue,
            _ => place,
        };
        let (buffers, rows) = groups.entry(group).or_default();
        *buffers += execution.buffers;
        *rows += execution.rows;
    }
    let costs = groups.into_values().map(|(buffers, rows)| buffers / rows);
    let mut costs: Vec<f64> = costs.collect();
    costs.sort_by(f64::total_cmp);
    let median = costs.get(costs.len() / 2)?.max(f64::EPSILON);
    // What reads less than the floor is no cliff, so it is not what is shown.
    let by_cost = |a: &&&Execution, b: &&&Execution| {
        let key = |it: &Execution| (it.buffers > FLOOR, each_row(it));
        key(a)
            .partial_cmp(&key(b))
            .unwrap_or(std::cmp::Ordering::Equal)
    };
    // A session that was opened meanwhile reads a hundred pages of the catalogs for a row that goes into eight indexes.
    let is_known = |firm: Option<u16>| all.iter().any(|it| it.firm == firm && !it.is_first);
    let judged = all.iter().filter(|it| !it.is_first || !is_known(it.firm));
    let worst = judged.max_by(by_cost)?;
    Some(Judgement {
        sql: worst.sql.clone(),
        worst: (*worst).clone(),
        median,
        firms: known.len(),
    })
}
