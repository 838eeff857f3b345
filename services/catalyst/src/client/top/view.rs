//! What was seen of tenants, as rows in an order, and on a screen that is drawn over and over.

use std::collections::HashMap;
use std::time::Duration;

use console::{Term, style};
use serde::Serialize;

use super::scrape::{Sample, Totals};
use crate::client::output::printable;

/// The series of the tenants that have none of their own.
pub(super) const OTHER: &str = "other";

/// What the columns are called; each key that orders by one is in capitals.
pub(super) const COLUMNS: &[&str] = &[
    "tenant",
    "calls/s",
    "p50 ms",
    "p99 ms",
    "database",
    "events/s",
    "limited/s",
    "refused/s",
    "failed/s",
];

/// What rows are ordered by, the greatest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Order {
    /// Calls a second.
    Rate,
    /// The duration that one call in a hundred exceeds.
    P99,
    /// Time that connections to the database were held.
    Database,
    /// Events a second.
    Events,
    /// Calls a second that a limit stopped.
    Limited,
    /// Calls a second that failed.
    Failed,
}

/// One tenant between two looks.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Row {
    /// An id, or `other`.
    tenant_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    slug: Option<String>,
    calls_per_second: f64,
    /// Milliseconds; none without calls that were let in.
    p50: Option<f64>,
    p99: Option<f64>,
    /// Connections that it held on average.
    connections: f64,
    events_per_second: f64,
    limited_per_second: f64,
    refused_per_second: f64,
    failed_per_second: f64,
}

/// The rows of what was added within `time`; tenants that did nothing have none.
pub(super) fn rows(added: &Sample, time: Duration, slugs: &HashMap<String, String>) -> Vec<Row> {
    let seconds = time.as_secs_f64().max(0.001);
    let is_busy = |it: &&Totals| it.calls() + it.database + it.events > 0.0;
    added
        .iter()
        .filter(|(_, totals)| is_busy(totals))
        .map(|(tenant, totals)| Row {
            tenant_id: tenant.clone(),
            slug: slugs.get(tenant).cloned(),
            calls_per_second: totals.calls() / seconds,
            p50: totals.quantile(0.5).map(|it| it * 1_000.0),
            p99: totals.quantile(0.99).map(|it| it * 1_000.0),
            connections: totals.database / seconds,
            events_per_second: totals.events / seconds,
            limited_per_second: totals.limited / seconds,
            refused_per_second: totals.refused / seconds,
            failed_per_second: totals.failed / seconds,
        })
        .collect()
}

impl Order {
    /// The order that a key stands for.
    pub(super) fn of(key: char) -> Option<Self> {
        Some(match key {
            'r' => Self::Rate,
            'p' => Self::P99,
            'd' => Self::Database,
            'e' => Self::Events,
            'l' => Self::Limited,
            'f' => Self::Failed,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::P99 => "p99",
            Self::Database => "database",
            Self::Events => "events",
            Self::Limited => "limited",
            Self::Failed => "failed",
        }
    }

    /// The greatest first; what is the same in the order of the names.
    pub(super) fn sort(self, rows: &mut [Row]) {
        let value = |row: &Row| match self {
            Self::Rate => row.calls_per_second,
            Self::P99 => row.p99.unwrap_or_default(),
            Self::Database => row.connections,
            Self::Events => row.events_per_second,
            Self::Limited => row.limited_per_second,
            Self::Failed => row.failed_per_second,
        };
        rows.sort_by(|left, right| {
            value(right)
                .total_cmp(&value(left))
                .then_with(|| left.tenant_id.cmp(&right.tenant_id))
        });
    }
}

impl Row {
    /// One text for each column.
    pub(super) fn cells(&self) -> Vec<String> {
        let name = self.slug.as_ref().unwrap_or(&self.tenant_id);
        let millis = |it: Option<f64>| match it {
            None => "-".to_owned(),
            Some(it) if it.is_infinite() => "> 10000".to_owned(),
            Some(it) => format!("{it:.1}"),
        };
        let rate = |it: f64| format!("{it:.1}");
        vec![
            printable(name),
            rate(self.calls_per_second),
            millis(self.p50),
            millis(self.p99),
            format!("{:.2}", self.connections),
            rate(self.events_per_second),
            rate(self.limited_per_second),
            rate(self.refused_per_second),
            rate(self.failed_per_second),
        ]
    }
}

/// Draws the rows over what was drawn before.
pub(super) fn draw(
    term: &Term,
    rows: &[Row],
    order: Order,
    seen: usize,
    asked: usize,
) -> std::io::Result<()> {
    let (height, width) = term.size();
    let mut lines = vec![
        format!(
            "catalyst top: {seen} of {asked} processes, by {}",
            order.name()
        ),
        "order: r rate, p p99, d database (connections held), e events, l limited, f failed; q ends"
            .to_owned(),
        String::new(),
    ];
    lines.extend(aligned(rows));
    let width = usize::from(width).max(20);
    term.hide_cursor()?;
    term.move_cursor_to(0, 0)?;
    for (at, line) in lines
        .iter()
        .take(usize::from(height).saturating_sub(1))
        .enumerate()
    {
        let line: String = line.chars().take(width).collect();
        term.clear_line()?;
        if at == 3 {
            term.write_line(&style(line).reverse().to_string())?;
        } else {
            term.write_line(&line)?;
        }
    }
    term.clear_to_end_of_screen()
}

/// The header and the rows, every column as wide as its widest cell, numbers to the right.
fn aligned(rows: &[Row]) -> Vec<String> {
    let header: Vec<String> = COLUMNS.iter().map(|it| (*it).to_owned()).collect();
    let mut table = vec![header];
    table.extend(rows.iter().map(Row::cells));
    let widths: Vec<usize> = (0..COLUMNS.len())
        .map(|at| {
            let cells = table.iter().filter_map(|row| row.get(at));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let line = |row: &Vec<String>| {
        let cells = row
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(at, (cell, width))| {
                if at == 0 {
                    format!("{cell:<width$}")
                } else {
                    format!("{cell:>width$}")
                }
            });
        cells.collect::<Vec<_>>().join("  ")
    };
    table.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Sample {
        let of = |ok, limited| Totals {
            ok,
            limited,
            database: 1.0,
            buckets: vec![(0.001, ok), (f64::INFINITY, ok)],
            ..Totals::default()
        };
        Sample::from([
            ("quiet".to_owned(), Totals::default()),
            ("busy".to_owned(), of(100.0, 0.0)),
            ("stopped".to_owned(), of(10.0, 30.0)),
        ])
    }

    #[test]
    fn the_busiest_comes_first_by_what_is_asked_and_the_idle_not_at_all() {
        let slugs = HashMap::from([("busy".to_owned(), "acme".to_owned())]);
        let mut rows = rows(&sample(), Duration::from_secs(2), &slugs);
        let names = |rows: &[Row]| -> Vec<String> {
            rows.iter().map(|row| row.cells()[0].clone()).collect()
        };
        Order::Rate.sort(&mut rows);
        assert_eq!(names(&rows), ["acme", "stopped"]);
        Order::of('l').unwrap().sort(&mut rows);
        assert_eq!(names(&rows), ["stopped", "acme"]);
        let stopped = rows[0].cells();
        assert_eq!(stopped[1..5], ["20.0", "0.5", "1.0", "0.50"]);
        assert_eq!(stopped[6], "15.0");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = rows(&sample(), Duration::from_secs(1), &HashMap::new());
        let lines = aligned(&rows);
        let width = lines[0].chars().count();
        assert!(lines.iter().all(|line| line.chars().count() == width));
    }
}
