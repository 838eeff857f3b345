//! What became of the rows of an import, in numbers that must add up.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::nouns::Made;
use crate::client::output::Output;
use crate::client::time_entries::hours;

/// Counts of rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Tally {
    pub(super) read: u64,
    pub(super) filtered: u64,
    pub(super) created: u64,
    pub(super) kept_overlapping: u64,
    pub(super) already_there: u64,
    /// By the reason's code.
    pub(super) rejected: BTreeMap<String, u64>,
    /// Of the rows that were stored.
    pub(super) worked_minutes: i64,
}

impl Tally {
    pub(super) fn reject(&mut self, reason: &str) {
        *self.rejected.entry(reason.to_owned()).or_default() += 1;
    }

    /// Adds the counts of another part of the import.
    pub(super) fn add(&mut self, part: Self) {
        let Self {
            read,
            filtered,
            created,
            kept_overlapping,
            already_there,
            rejected,
            worked_minutes,
        } = part;
        self.read += read;
        self.filtered += filtered;
        self.created += created;
        self.kept_overlapping += kept_overlapping;
        self.already_there += already_there;
        for (reason, rows) in rejected {
            *self.rejected.entry(reason).or_default() += rows;
        }
        self.worked_minutes += worked_minutes;
    }

    /// Fails unless every row that was read became exactly one thing.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let accounted = self.filtered
            + self.created
            + self.kept_overlapping
            + self.already_there
            + self.rejected.values().sum::<u64>();
        anyhow::ensure!(
            accounted == self.read,
            "{} rows were read and {accounted} accounted for, which is a fault of this program: \
             compare the tenant's entries with the file before you rely on them",
            self.read
        );
        Ok(())
    }
}

/// What an import ends with.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    #[serde(flatten)]
    tally: Tally,
    /// Nouns that were not there before.
    made: Made,
    rejects_file: PathBuf,
    seconds: f64,
    /// Of those that the filter let through.
    rows_per_second: f64,
}

impl Report {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a rate for people; files have fewer rows than a float has digits"
    )]
    pub(super) fn new(tally: Tally, made: Made, rejects_file: PathBuf, elapsed: Duration) -> Self {
        let seconds = elapsed.as_secs_f64();
        let rows = tally.read - tally.filtered;
        Self {
            tally,
            made,
            rejects_file,
            seconds,
            rows_per_second: rows as f64 / seconds.max(0.001),
        }
    }

    pub(super) fn print(&self, out: &Output) -> anyhow::Result<()> {
        if out.is_json() {
            return out.json(self);
        }
        let tally = &self.tally;
        let mut rows = vec![
            ("read".to_owned(), tally.read),
            ("created".to_owned(), tally.created),
            (
                "kept although overlapping".to_owned(),
                tally.kept_overlapping,
            ),
            ("already there".to_owned(), tally.already_there),
            ("filtered out".to_owned(), tally.filtered),
        ];
        for (reason, count) in &tally.rejected {
            rows.push((format!("rejected: {reason}"), *count));
        }
        let cells = rows
            .into_iter()
            .map(|(what, count)| vec![what, format!("{count:>10}")]);
        out.table(&["what became of the rows", "      rows"], cells)?;
        let Made {
            clients,
            projects,
            consultants,
            assignments,
        } = self.made;
        out.line(&format!(
            "\n{} h worked are stored ({} minutes)\n\
             new: {clients} clients, {projects} projects, {consultants} consultants, {assignments} assignments\n\
             {:.1} s, {:.0} rows a second\n\
             rejected rows are in {}",
            hours(tally.worked_minutes),
            tally.worked_minutes,
            self.seconds,
            self.rows_per_second,
            self.rejects_file.display(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_row_that_is_not_accounted_for_fails_the_import() {
        let mut tally = Tally {
            read: 3,
            created: 1,
            filtered: 1,
            ..Tally::default()
        };
        assert!(tally.check().is_err());
        tally.reject("too_long");
        tally.check().unwrap();
        tally.already_there += 1;
        assert!(tally.check().is_err());
    }

    proptest! {
        #[test]
        fn parts_add_up_to_the_whole_in_any_order(rows in proptest::collection::vec((0_usize..4, 0_u8..6), 0..200)) {
            let mut whole = Tally::default();
            let mut parts = vec![Tally::default(); 4];
            for (part, outcome) in rows {
                for tally in [&mut whole, &mut parts[part]] {
                    tally.read += 1;
                    match outcome {
                        0 => tally.created += 1,
                        1 => tally.kept_overlapping += 1,
                        2 => tally.already_there += 1,
                        3 => tally.filtered += 1,
                        4 => tally.reject("too_long"),
                        _ => tally.reject("ragged_row"),
                    }
                    tally.worked_minutes += i64::from(outcome);
                }
            }
            let mut sum = Tally::default();
            for part in parts.into_iter().rev() {
                sum.add(part);
            }
            sum.check().unwrap();
            prop_assert_eq!(sum, whole);
        }
    }
}
