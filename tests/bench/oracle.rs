//! Whether time tells what NOT_FOUND does not: ids of other firms beside random ones, asked in interleaved pairs.
//!
//! A cold call has a token and an id that the services have not seen; a warm one repeats both.
//! The bounds: medians apart by at most 50 us or 2 %, and a Kolmogorov-Smirnov distance of at most 0.062, which two
//! samples of 2,000 from one distribution pass in 999 of 1,000 cases. A ratio to a bound above 1 is a finding.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use proto::projects::v1::project_service_client::ProjectServiceClient;
use proto::projects::v1::{GetProjectRequest, Project, UpdateProjectRequest};
use proto::time_entries::v1::time_entry_service_client::TimeEntryServiceClient;
use proto::time_entries::v1::{DeleteTimeEntryRequest, GetTimeEntryRequest};
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Code, Request};
use uuid::Uuid;

use crate::Bench;
use crate::load::{connect, count, metadata};
use crate::report::{OURS, Report};
use crate::seed::Firm;
use crate::system::System;

/// Pairs of each figure.
const PAIRS: u64 = 2_000;
/// Pairs of ids that warm calls repeat.
const WARM_IDS: u64 = 20;
const BOUND: &str = "the bound";
const DISTANCE_BOUND: f64 = 0.062;

/// A call that names one id.
#[derive(Clone, Copy)]
enum Method {
    GetProject,
    UpdateProject,
    GetTimeEntry,
    DeleteTimeEntry,
}

const METHODS: [(Method, &str); 4] = [
    (Method::GetProject, "GetProject"),
    (Method::UpdateProject, "UpdateProject"),
    (Method::GetTimeEntry, "GetTimeEntry"),
    (Method::DeleteTimeEntry, "DeleteTimeEntry"),
];

impl Method {
    /// One of the ids of these firms, in the order of the firms; when all are through, from the beginning.
    fn id_of(self, firms: &[Arc<Firm>], index: u64) -> Option<Uuid> {
        let rows = |firm: &Firm| match self {
            Self::GetProject | Self::UpdateProject => firm.projects,
            Self::GetTimeEntry | Self::DeleteTimeEntry => firm.entries,
        };
        let all: u64 = firms.iter().map(|firm| rows(firm)).sum();
        let mut number = index.checked_rem(all)?;
        for firm in firms {
            if number < rows(firm) {
                return Some(match self {
                    Self::GetProject | Self::UpdateProject => firm.project(number),
                    Self::GetTimeEntry | Self::DeleteTimeEntry => firm.entry(number),
                });
            }
            number -= rows(firm);
        }
        None
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Cache {
    Cold,
    Warm,
}

/// Somebody of the last firm, who asks one call after the other on one connection.
struct Prober<'a> {
    system: &'a System,
    firm: Arc<Firm>,
    channel: Channel,
    warm: MetadataMap,
    tokens: u64,
}

/// Latencies of ids of other firms and of random ones, in seconds.
#[derive(Default)]
struct Samples {
    foreign: Vec<f64>,
    random: Vec<f64>,
}

/// Every method, cold and warm. `number` is the round's: ids of a cold call are of one round alone.
pub(crate) async fn round(
    bench: &Bench<'_>,
    number: u32,
    report: &mut Report,
) -> anyhow::Result<()> {
    let (own, others) = bench.firms.split_last().context("there are firms")?;
    let mut prober = Prober {
        system: bench.system,
        firm: Arc::clone(own),
        channel: connect(bench.system).await?,
        warm: metadata(bench.system, own.tenant, "prober", "admin")?,
        tokens: 0,
    };
    for (method, name) in METHODS {
        for (cache, word) in [(Cache::Cold, "cold"), (Cache::Warm, "warm")] {
            // The services end a connection that is minutes old.
            prober.channel = connect(bench.system).await?;
            let first = u64::from(number - 1) * PAIRS;
            let samples = prober.pairs(method, cache, others, first).await?;
            samples.record(&format!("NOT_FOUND of {name}, {word}"), report);
            bench.system.settle().await?;
        }
    }
    Ok(())
}

impl Prober<'_> {
    async fn pairs(
        &mut self,
        method: Method,
        cache: Cache,
        others: &[Arc<Firm>],
        first: u64,
    ) -> anyhow::Result<Samples> {
        let of_others = |index| method.id_of(others, index).context("there are other firms");
        let warm_ids: Vec<Uuid> = (0..WARM_IDS).map(|_| random_id()).collect();
        if cache == Cache::Warm {
            for (index, random) in (0..).zip(&warm_ids) {
                self.ask(method, cache, of_others(index)?).await?;
                self.ask(method, cache, *random).await?;
            }
        }
        let mut samples = Samples::default();
        for index in 0..PAIRS {
            let (foreign, random) = match cache {
                Cache::Cold => (of_others(first + index)?, random_id()),
                Cache::Warm => {
                    let place = usize::try_from(index % WARM_IDS)?;
                    let random = warm_ids.get(place).copied().context("a warm id")?;
                    (of_others(index % WARM_IDS)?, random)
                }
            };
            // Either comes first as often, by chance, so that neither gains by what the other left behind.
            if chance() & 1 == 0 {
                samples
                    .foreign
                    .push(self.ask(method, cache, foreign).await?);
                samples.random.push(self.ask(method, cache, random).await?);
            } else {
                samples.random.push(self.ask(method, cache, random).await?);
                samples
                    .foreign
                    .push(self.ask(method, cache, foreign).await?);
            }
        }
        Ok(samples)
    }

    /// How long the refusal took, in seconds.
    async fn ask(&mut self, method: Method, cache: Cache, id: Uuid) -> anyhow::Result<f64> {
        let metadata = match cache {
            Cache::Warm => self.warm.clone(),
            Cache::Cold => {
                self.tokens += 1;
                let subject = format!("prober-{:x}-{}", chance(), self.tokens);
                metadata(self.system, self.firm.tenant, &subject, "admin")?
            }
        };
        let id = id.to_string();
        let mut projects = ProjectServiceClient::new(self.channel.clone());
        let mut entries = TimeEntryServiceClient::new(self.channel.clone());
        let sent;
        let refused = match method {
            Method::GetProject => {
                let request = GetProjectRequest { project_id: id };
                sent = Instant::now();
                projects.get_project(with(metadata, request)).await.err()
            }
            Method::UpdateProject => {
                let project = Project {
                    id,
                    display_name: "Mine".to_owned(),
                    ..Project::default()
                };
                let request = UpdateProjectRequest {
                    project: Some(project),
                    update_mask: Some(prost_types::FieldMask {
                        paths: vec!["display_name".to_owned()],
                    }),
                    ..UpdateProjectRequest::default()
                };
                sent = Instant::now();
                projects.update_project(with(metadata, request)).await.err()
            }
            Method::GetTimeEntry => {
                let request = GetTimeEntryRequest { time_entry_id: id };
                sent = Instant::now();
                entries.get_time_entry(with(metadata, request)).await.err()
            }
            Method::DeleteTimeEntry => {
                let request = DeleteTimeEntryRequest {
                    time_entry_id: id,
                    ..DeleteTimeEntryRequest::default()
                };
                sent = Instant::now();
                entries
                    .delete_time_entry(with(metadata, request))
                    .await
                    .err()
            }
        };
        let took = sent.elapsed();
        let code = refused.map(|status| status.code());
        ensure!(code == Some(Code::NotFound), "an id of nobody's: {code:?}");
        Ok(took.as_secs_f64())
    }
}

impl Samples {
    fn record(mut self, measure: &str, report: &mut Report) {
        self.foreign.sort_by(f64::total_cmp);
        self.random.sort_by(f64::total_cmp);
        let (foreign, random) = (median(&self.foreign), median(&self.random));
        let bound = Duration::from_micros(50).as_secs_f64().max(0.02 * random);
        let medians = format!("{measure}: p50 ms");
        report.record(&medians, OURS, foreign * 1e3);
        report.record(&medians, "a random id", random * 1e3);
        let apart = format!("{measure}: medians apart, us");
        report.record(&apart, OURS, (foreign - random).abs() * 1e6);
        report.record(&apart, BOUND, bound * 1e6);
        let distance = format!("{measure}: Kolmogorov-Smirnov D");
        report.record(&distance, OURS, distance_of(&self.foreign, &self.random));
        report.record(&distance, BOUND, DISTANCE_BOUND);
    }
}

fn with<T>(metadata: MetadataMap, message: T) -> Request<T> {
    let mut request = Request::new(message);
    *request.metadata_mut() = metadata;
    request
}

fn chance() -> u128 {
    let mut bytes = [0; 16];
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    u128::from_ne_bytes(bytes)
}

/// Of the form that the services make.
fn random_id() -> Uuid {
    // The bits of version and variant.
    let marks = 0xf << 76 | 0x3 << 62;
    Uuid::from_u128(chance() & !marks | 0x7 << 76 | 0x2 << 62)
}

fn median(sorted: &[f64]) -> f64 {
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The greatest difference of the two empirical distributions.
fn distance_of(left: &[f64], right: &[f64]) -> f64 {
    let share = |sorted: &[f64], value: f64| {
        count(sorted.partition_point(|sample| *sample <= value)) / count(sorted.len())
    };
    let values = left.iter().chain(right);
    values
        .map(|value| (share(left, *value) - share(right, *value)).abs())
        .fold(0.0, f64::max)
}
