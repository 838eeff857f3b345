//! Reads a time log and judges every row of it; no verdict depends on a service, so the same file always gets the same ones.

use std::{io, path::PathBuf};

mod columns;
pub mod instant;
pub mod judge;
pub mod mapping;
pub mod reader;
pub mod rejects;
pub mod row;
pub(crate) mod run;
mod span;

/// Why an import cannot go on at all; what is wrong with a single row is a [`row::Reject`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The mapping file could not be opened or is not text.
    #[error(
        "cannot read the mapping {}: check the path, or name a built-in mapping ({builtins})", path.display()
    )]
    MappingFile {
        /// The file as given.
        path: PathBuf,
        /// The names that need no file.
        builtins: String,
        /// What the system said.
        source: io::Error,
    },
    /// The mapping is not TOML, or a key is unknown, missing or of the wrong type.
    #[error("the mapping {name} is not valid: correct the key that follows")]
    MappingSyntax {
        /// The file or the built-in name.
        name: String,
        /// Names the line and the key.
        source: Box<toml::de::Error>,
    },
    /// A key of the mapping has a value that cannot work.
    #[error("the mapping {name}, key `{key}`: {problem}")]
    MappingKey {
        /// The file or the built-in name.
        name: String,
        /// The dotted key.
        key: String,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// A condition of the command line is not `column=value`.
    #[error(
        "the condition \"{text}\" names no column: write it as column=value, for example organization=A"
    )]
    Condition {
        /// The condition as given.
        text: String,
    },
    /// The time log could not be opened.
    #[error("cannot open {}: check the path and that the file may be read", path.display())]
    Open {
        /// The file as given.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The time log broke off: damaged compression, a failing disk, a quote that is never closed.
    #[error("cannot read {} from line {line} on: repair the file or get a whole copy", path.display())]
    Read {
        /// The file as given.
        path: PathBuf,
        /// The line at which the unreadable row starts.
        line: u64,
        /// What the system or the decoder said.
        source: io::Error,
    },
    /// The time log is not comma-separated text.
    #[error("{} is {what}: {remedy}", path.display())]
    NotCsv {
        /// The file as given.
        path: PathBuf,
        /// What it is instead.
        what: &'static str,
        /// What to do about it.
        remedy: &'static str,
    },
    /// The mapping names columns that the time log does not have.
    #[error(
        "{} has no column {missing}: name one of those that it has in the mapping: {existing}", path.display()
    )]
    UnknownColumn {
        /// The file as given.
        path: PathBuf,
        /// Each missing column with the key that names it.
        missing: String,
        /// The columns in the order of the file.
        existing: String,
    },
    /// The mapping names a column that the time log has more than once.
    #[error("{} has more than one column \"{column}\": rename all but one of them", path.display())]
    DoubleColumn {
        /// The file as given.
        path: PathBuf,
        /// The name that occurs more than once.
        column: String,
    },
    /// The rejects file could not be written.
    #[error("cannot write the rejects file {}: check that the folder exists and has room", path.display())]
    Rejects {
        /// The rejects file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
