//! Finds the columns of a mapping in the header of a file and reads their fields; a `Column` that a finished header gave is in the file, once.

use std::str;

use super::{
    Error,
    mapping::OneOrMany,
    reader::{Record, Rows},
    row::{Fault, Reason},
};

/// Finds columns by name and remembers those that are missing, so that all are reported at once.
pub(super) struct Header<'r> {
    rows: &'r Rows,
    names: Vec<String>,
    missing: Vec<String>,
    double: Option<String>,
}

impl<'r> Header<'r> {
    pub(super) fn new(rows: &'r Rows) -> Self {
        let names = rows
            .header()
            .iter()
            .map(|name| String::from_utf8_lossy(name).trim().to_owned())
            .collect();
        Self {
            rows,
            names,
            missing: Vec::new(),
            double: None,
        }
    }

    pub(super) fn find(&mut self, key: &str, column: &str) -> Column {
        let mut found = self
            .names
            .iter()
            .enumerate()
            .filter(|(_, name)| *name == column)
            .map(|(index, _)| index);
        let index = found.next();
        if found.next().is_some() {
            self.double = Some(column.to_owned());
        }
        if index.is_none() {
            self.missing.push(format!("\"{column}\" (`{key}`)"));
        }
        Column {
            name: column.to_owned(),
            index: index.unwrap_or(usize::MAX),
        }
    }

    pub(super) fn find_all(&mut self, key: &str, columns: &OneOrMany) -> Vec<Column> {
        columns
            .values()
            .iter()
            .map(|column| self.find(key, column))
            .collect()
    }

    pub(super) fn find_some(&mut self, key: &str, column: Option<&str>) -> Option<Column> {
        column.map(|column| self.find(key, column))
    }

    /// No column that was looked for is missing or there twice.
    pub(super) fn complete(self) -> Result<(), Error> {
        let path = self.rows.path().to_owned();
        if !self.missing.is_empty() {
            return Err(Error::UnknownColumn {
                path,
                missing: self.missing.join(", "),
                existing: self.names.join(", "),
            });
        }
        match self.double {
            Some(column) => Err(Error::DoubleColumn { path, column }),
            None => Ok(()),
        }
    }
}

/// A column of the file.
#[derive(Debug)]
pub(super) struct Column {
    name: String,
    pub(super) index: usize,
}

impl Column {
    /// Without the white space around it.
    pub(super) fn text<'r>(&self, record: &'r Record) -> Result<&'r str, Fault> {
        let field = record.get(self.index).unwrap_or_default();
        str::from_utf8(field).map(str::trim).map_err(|_| {
            (
                Reason::NotUtf8,
                format!(
                    "\"{}\" in {} is not UTF-8: save the file as UTF-8",
                    String::from_utf8_lossy(field),
                    self.name
                ),
            )
        })
    }

    pub(super) fn required<'r>(&self, record: &'r Record) -> Result<&'r str, Fault> {
        match self.text(record)? {
            "" => Err((
                Reason::MissingField,
                format!("{} is empty: fill it in", self.name),
            )),
            text => Ok(text),
        }
    }
}

/// The text of a column that the mapping may leave out; empty if it does.
pub(super) fn optional<'r>(record: &'r Record, column: Option<&Column>) -> Result<&'r str, Fault> {
    column.map_or(Ok(""), |column| column.text(record))
}

#[cfg(test)]
mod tests {
    use super::{
        super::{judge::Judge, mapping, reader},
        *,
    };

    #[test]
    fn all_columns_that_the_file_does_not_have_are_named_with_those_that_it_has() {
        let mapping =
            mapping::tests::mapping("filter = { organization = \"A\" }", "note = \"memo\"")
                .unwrap();
        let rows = reader::tests::rows("id,client,project,person,begin,end\n", b',').unwrap();
        let error = Judge::new(&mapping, &rows, 24).unwrap_err().to_string();
        for part in [
            "log.csv",
            "\"start\" (`columns.started_at`)",
            "\"memo\" (`columns.note`)",
            "\"organization\" (`filter`)",
            "begin, end",
        ] {
            assert!(error.contains(part), "{part}: {error}");
        }
    }

    #[test]
    fn a_column_that_is_there_twice_is_refused_only_if_it_is_used() {
        let mapping = mapping::tests::mapping("", "").unwrap();
        let judge =
            |header: &str| Judge::new(&mapping, &reader::tests::rows(header, b',').unwrap(), 24);
        judge("id,client,project,person,start,end,x,x\n").unwrap();
        assert!(
            judge("id,client,project,person,start,end,id\n")
                .unwrap_err()
                .to_string()
                .contains("\"id\"")
        );
    }
}
