//! The one place that prints: results on standard output, as tables for people or JSON lines for programs;
//! everything else on standard error.

use std::io::{self, ErrorKind, Write};

use anyhow::Context as _;
use comfy_table::{ContentArrangement, Table};
use comfy_table::{LineStyle, TableStyle};
use prost::{Message, Name};
use serde::Serialize;

use super::contract;

/// A rule below the header and nothing else.
const STYLE: TableStyle =
    TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

/// A message that people see as a row of a table.
pub(crate) trait Shown: Message + Name {
    /// What the columns are called.
    const COLUMNS: &'static [&'static str];

    /// One text for each column.
    fn cells(&self) -> Vec<String>;
}

/// Where results go.
#[derive(Debug)]
pub(crate) struct Output {
    json: bool,
    stdout: io::Stdout,
}

impl Output {
    /// Tables, or JSON lines.
    pub(crate) fn new(json: bool) -> Self {
        Self {
            json,
            stdout: io::stdout(),
        }
    }

    /// Whether a program reads.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// A line of text as it is.
    pub(crate) fn line(&self, text: &str) -> anyhow::Result<()> {
        self.print(text)
    }

    /// Any value on one line.
    pub(crate) fn json(&self, value: &impl Serialize) -> anyhow::Result<()> {
        self.print(&serde_json::to_string(value)?)
    }

    /// One message, for people with a line for each column.
    pub(crate) fn one<M: Shown>(&self, message: &M) -> anyhow::Result<()> {
        if self.json {
            return self.json(&contract::dynamic(message)?);
        }
        let mut table = new_table();
        for (column, cell) in M::COLUMNS.iter().zip(message.cells()) {
            table.add_row([(*column).to_owned(), printable(&cell)]);
        }
        self.print(&table.trim_fmt())
    }

    /// Messages, each a row or a line.
    pub(crate) fn list<M: Shown>(&self, messages: &[M]) -> anyhow::Result<()> {
        if self.json {
            for message in messages {
                self.json(&contract::dynamic(message)?)?;
            }
            return Ok(());
        }
        self.table(M::COLUMNS, messages.iter().map(Shown::cells))
    }

    /// A table, whatever the form that was asked for.
    pub(crate) fn table(
        &self,
        columns: &[&str],
        rows: impl IntoIterator<Item = Vec<String>>,
    ) -> anyhow::Result<()> {
        let mut table = new_table();
        table.set_header(columns.iter().copied());
        for row in rows {
            table.add_row(row.iter().map(|cell| printable(cell)));
        }
        self.print(&table.trim_fmt())
    }

    /// Lines as they are, many at once.
    pub(crate) fn block(&self, lines: &[u8]) -> anyhow::Result<()> {
        written(self.stdout.lock().write_all(lines))
    }

    fn print(&self, text: &str) -> anyhow::Result<()> {
        let mut stdout = self.stdout.lock();
        written(writeln!(stdout, "{text}").and_then(|()| stdout.flush()))
    }
}

fn written(outcome: io::Result<()>) -> anyhow::Result<()> {
    match outcome {
        // Whoever read has seen enough, as in `catalyst audit list | head`: nothing is left to do.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        written => written.context("cannot write to standard output"),
    }
}

/// Says something to people beside the results.
pub(crate) fn note(text: &str) {
    // Nothing can be done about a closed terminal.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Says why the command failed.
pub(crate) fn error(text: &str) {
    note(&format!("error: {text}"));
}

/// Text from elsewhere without what a terminal would obey.
pub(super) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

fn new_table() -> Table {
    let mut table = Table::new();
    table
        .load_style(STYLE)
        .set_content_arrangement(ContentArrangement::Dynamic);
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_elsewhere_cannot_steer_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\r\nc\u{9b}d"), "a [2Jb  c d");
    }
}
