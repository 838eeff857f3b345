//! `catalyst import`: a time log into a tenant, through the services' API and safe to repeat.
//!
//! The file is read twice: first for the clients, projects, consultants and assignments that it needs, then for its
//! entries, in constant memory. Invariant: every row that was read is accounted for once, or the import fails.

mod survey;
mod nouns;
mod entries;
mod lane;
mod tally;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::future::try_join_all;
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use proto::time_entries::v1 as pb;
use tokio::sync::mpsc;

use crate::client::ClientOptions;
use crate::client::connection::Client;
use crate::client::output::Output;

use super::Error;
use super::judge::{DEFAULT_MAX_HOURS, Judge};
use super::mapping::{Condition, Mapping};
use super::reader::{Record, Rows};
use super::rejects::Rejects;

use lane::Lane;
use nouns::Nouns;
use survey::Survey;
use tally::{Report, Tally};

/// Streams side by side; the entries of one consultant all take the same one, in the order of the file.
const LANES: usize = 4;
/// Chunks that wait for each lane.
const WAITING: usize = 2;

/// Import time entries from a CSV file, plain, gzip or xz. A repeat creates nothing twice.
#[derive(Debug, clap::Args)]
pub(crate) struct ImportOptions {
    /// The file.
    file: PathBuf,
    /// What its columns mean: a built-in mapping (cesaw) or a TOML file.
    #[arg(long, value_name = "NAME|FILE")]
    mapping: String,
    /// Only rows with this value in this column, in place of the mapping's filter; may be repeated.
    #[arg(long = "where", value_name = "COLUMN=VALUE")]
    conditions: Vec<Condition>,
    /// The longest entry that is believed.
    #[arg(long, value_name = "HOURS", default_value_t = DEFAULT_MAX_HOURS, value_parser = clap::value_parser!(u32).range(1..=744))]
    max_hours: u32,
    /// What to do with an entry that overlaps another one of the consultant.
    #[arg(long, default_value = "reject")]
    overlaps: Overlaps,
    /// Where rejected rows are written [default: the file's name with .rejects.csv, in the current folder].
    #[arg(long, value_name = "FILE")]
    rejects: Option<PathBuf>,
}

/// What to do with overlapping entries.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Overlaps {
    /// Reject them.
    Reject,
    /// Store them, marked.
    Keep,
}

impl From<Overlaps> for pb::OverlapPolicy {
    fn from(overlaps: Overlaps) -> Self {
        match overlaps {
            Overlaps::Reject => Self::Reject,
            Overlaps::Keep => Self::Keep,
        }
    }
}

impl ImportOptions {
    /// Imports the file and says what became of its rows.
    pub(crate) async fn run(self, client: &ClientOptions, out: &Output) -> anyhow::Result<()> {
        let source = Source::new(&self)?;
        // A file that cannot be read fails before anything is called.
        source.open()?;
        let client = client.in_tenant().await?;
        let started = Instant::now();

        let survey = survey(source.clone()).await?;
        let nouns = nouns::ensure(&client, &survey).await?;
        let made = nouns.made;
        let rejects_path = self
            .rejects
            .clone()
            .unwrap_or_else(|| default_rejects(&self.file));
        let (tally, rejects) = self
            .import(&client, source, survey.rows, nouns, &rejects_path)
            .await
            .context(
                "the import stopped; what is stored stays, and repeating the command creates nothing twice",
            )?;
        tally.check()?;
        Report::new(tally, made, rejects, started.elapsed()).print(out)
    }

    /// Reads the entries in a thread and stores them over the lanes; gives the counts and the rejects file.
    async fn import(
        &self,
        client: &Client,
        source: Source,
        rows: u64,
        nouns: Nouns,
        rejects_path: &Path,
    ) -> anyhow::Result<(Tally, PathBuf)> {
        let (file, judge) = source.open()?;
        let rejects = Arc::new(Mutex::new(Rejects::create(rejects_path, file.header())?));
        let progress = progress(
            rows,
            "{bar:40} {human_pos}/{human_len} rows, {rate}/s, {eta} left",
        );
        let mut senders = Vec::new();
        let mut lanes = Vec::new();
        for _ in 0..LANES {
            let (sender, chunks) = mpsc::channel(WAITING);
            senders.push(sender);
            lanes.push(
                Lane {
                    service: client.imports(),
                    chunks,
                    policy: self.overlaps.into(),
                    max_minutes: i32::try_from(self.max_hours * 60)?,
                    rejects: Arc::clone(&rejects),
                    progress: progress.clone(),
                }
                .run(),
            );
        }
        let reading = {
            let (rejects, progress) = (Arc::clone(&rejects), progress.clone());
            tokio::task::spawn_blocking(move || {
                entries::read(file, &judge, &nouns, senders, &rejects, &progress)
            })
        };
        // A lane that fails takes the others with it; the reader then finds no one to send to, and ends.
        let stored = try_join_all(lanes).await;
        let read = reading.await?;
        let mut tally = Tally::default();
        for part in stored? {
            tally.add(part);
        }
        tally.add(read?);
        progress.finish_and_clear();
        let rejects = Arc::into_inner(rejects).context("the rejects file is still in use")?;
        let rejects = rejects.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok((tally, rejects.finish()?))
    }
}

/// A file and how it is judged.
#[derive(Clone)]
struct Source {
    file: PathBuf,
    mapping: Mapping,
    max_hours: u32,
}

impl Source {
    fn new(options: &ImportOptions) -> Result<Self, Error> {
        let mut mapping = Mapping::find(&options.mapping)?;
        mapping.restrict(&options.conditions);
        Ok(Self {
            file: options.file.clone(),
            mapping,
            max_hours: options.max_hours,
        })
    }

    fn open(&self) -> Result<(Rows, Judge), Error> {
        let rows = Rows::open(&self.file, self.mapping.delimiter)?;
        let judge = Judge::new(&self.mapping, &rows, self.max_hours)?;
        Ok((rows, judge))
    }
}

/// The first reading.
async fn survey(source: Source) -> anyhow::Result<Survey> {
    let read = move || {
        let (mut rows, judge) = source.open()?;
        let progress = progress(rows.total_bytes(), "{bar:40} reading");
        let bytes = rows.bytes_read();
        let mut survey = Survey::default();
        let mut record = Record::default();
        while rows.read(&mut record)? {
            survey.add(judge.judge(&record));
            progress.set_position(bytes.load(Ordering::Relaxed));
        }
        progress.finish_and_clear();
        anyhow::Ok(survey)
    };
    tokio::task::spawn_blocking(read).await?
}

/// A bar on standard error, if that is a terminal.
fn progress(length: u64, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .with_key("rate", |state: &ProgressState, out: &mut dyn fmt::Write| {
            // Written into memory, which takes it.
            let _ = write!(out, "{:.0}", state.per_sec());
        });
    let bar = ProgressBar::new(length).with_style(style);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

fn default_rejects(file: &Path) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".rejects.csv");
    name.into()
}
