//! Figures of all rounds, and the table of their medians, followed by that of the goals. A ratio is taken within each round, then its median.

use std::fmt;

use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};

use crate::goals;

/// The series of what the services reached; every other series of a measure is a limit beside it.
pub(crate) const OURS: &str = "ours";

/// Everything measured.
#[derive(Debug)]
pub(crate) struct Report {
    title: String,
    figures: Vec<Figure>,
}

/// One series of one measure, a value a round.
#[derive(Debug)]
struct Figure {
    measure: String,
    series: &'static str,
    values: Vec<f64>,
}

impl Report {
    pub(crate) fn new(title: String) -> Self {
        Self {
            title,
            figures: Vec::new(),
        }
    }

    /// Adds the value of this round. The measure names its unit.
    pub(crate) fn record(&mut self, measure: &str, series: &'static str, value: f64) {
        let known = self
            .figures
            .iter_mut()
            .find(|figure| (&*figure.measure, figure.series) == (measure, series));
        match known {
            Some(figure) => figure.values.push(value),
            None => self.figures.push(Figure {
                measure: measure.to_owned(),
                series,
                values: vec![value],
            }),
        }
    }

    pub(crate) fn json(&self) -> Value {
        let figures: Vec<Value> = self
            .figures
            .iter()
            .map(|figure| {
                let spread = Spread::of(figure.values.iter().copied());
                json!({
                    "measure": figure.measure,
                    "series": figure.series,
                    "median": spread.median,
                    "min": spread.min,
                    "max": spread.max,
                    "values": figure.values,
                })
            })
            .collect();
        json!({ "title": self.title, "figures": figures, "goals": goals::json(self) })
    }

    /// What each round measured; none if none did.
    pub(crate) fn values(&self, (measure, series): (&str, &str)) -> Option<&[f64]> {
        let mut figures = self.figures.iter();
        let found = figures.find(|figure| (&*figure.measure, figure.series) == (measure, series));
        found.map(|figure| &*figure.values)
    }

    fn limits(&self, ours: &Figure) -> impl Iterator<Item = &Figure> {
        self.figures
            .iter()
            .filter(|figure| figure.measure == ours.measure && figure.series != OURS)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(presets::ASCII_MARKDOWN).set_header([
            "measure",
            "ours",
            "(min..max)",
            "the limit beside it",
            "limit",
            "(min..max)",
            "ratio",
            "(min..max)",
        ]);
        for column in [1, 4, 6] {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        for ours in self.figures.iter().filter(|figure| figure.series == OURS) {
            let own = Spread::of(ours.values.iter().copied());
            let mut first = vec![ours.measure.clone(), number(own.median), own.range()];
            let limits: Vec<&Figure> = self.limits(ours).collect();
            if limits.is_empty() {
                table.add_row(first);
                continue;
            }
            for limit in limits {
                let raw = Spread::of(limit.values.iter().copied());
                let ratio = Spread::of(
                    ours.values
                        .iter()
                        .zip(&limit.values)
                        .map(|(ours, limit)| ours / limit),
                );
                let mut row = std::mem::replace(&mut first, vec![String::new(); 3]);
                row.extend([
                    limit.series.to_owned(),
                    number(raw.median),
                    raw.range(),
                    number(ratio.median),
                    ratio.range(),
                ]);
                table.add_row(row);
            }
        }
        write!(f, "{}\n{table}", self.title)?;
        match goals::table(self) {
            Some((goals, 0)) => write!(f, "\n\n{goals}"),
            Some((goals, others)) => {
                write!(f, "\n\n{goals}\n{others} goals are of other measures")
            }
            None => Ok(()),
        }
    }
}

/// Median and extremes of the rounds.
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    pub(crate) fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.collect();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        let last = sorted.len().saturating_sub(1);
        Self {
            median: f64::midpoint(at(last / 2), at(sorted.len() / 2)),
            min: at(0),
            max: at(last),
        }
    }

    pub(crate) fn range(&self) -> String {
        format!("{}..{}", number(self.min), number(self.max))
    }
}

pub(crate) fn number(value: f64) -> String {
    if value < 1.0 {
        format!("{value:.3}")
    } else if value < 100.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.0}")
    }
}
