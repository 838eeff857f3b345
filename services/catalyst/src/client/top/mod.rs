//! `catalyst top`: which tenants use how much of the deployment, look by look, from the `/metrics` of its processes.

mod scrape;
mod terminal;
mod view;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use console::{Key, Term};
use futures::future::join_all;
use reqwest::Url;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::error::{Unavailable, Usage};
use super::output::{Output, note};
use super::{ClientOptions, all_tenants};
use crate::up;
use scrape::{Sample, between, parse};
use terminal::{QUIT, Terminal};
use view::{Order, Row, rows};

/// How long a process may take to tell its metrics.
const ANSWER: Duration = Duration::from_secs(2);
/// Names are asked for again for tenants that are new, but not more often.
const NAMES: Duration = Duration::from_secs(30);

/// What is looked at, and how.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Admin addresses of the processes of the deployment, separated by commas: http://HOST:7401
    /// [default: the running `catalyst up`].
    #[arg(
        long,
        env = "CATALYST_METRICS_URLS",
        value_name = "URL",
        value_delimiter = ','
    )]
    metrics_urls: Vec<String>,
    /// Seconds between two looks.
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    every: u64,
    /// What the busiest is the busiest by; in a terminal, a key changes it.
    #[arg(long, default_value = "rate")]
    sort: Order,
    /// Show at most this many tenants.
    #[arg(long, value_name = "N", default_value_t = 30)]
    limit: usize,
    /// End after so many looks.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

impl Options {
    /// Looks until it is told to end.
    pub(crate) async fn run(self, client: &ClientOptions, out: &Output) -> anyhow::Result<()> {
        let urls = self.urls(client)?;
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(ANSWER)
            .build()?;
        let term = Term::stdout();
        let first = look(&http, &urls).await;
        if first.iter().all(Option::is_none) {
            return Err(nothing_at(&urls).into());
        }
        // Before the terminal changes, or a signal in between would leave it changed.
        let told_to_end = ToldToEnd::listen()?;
        let terminal = if term.is_term() && !out.is_json() {
            Some(Terminal::open(term)?)
        } else {
            None
        };
        self.watch(client, out, terminal, told_to_end, (http, urls), first)
            .await
    }

    /// Looks again and again; on a terminal, or line by line.
    async fn watch(
        &self,
        client: &ClientOptions,
        out: &Output,
        mut terminal: Option<Terminal>,
        mut told_to_end: ToldToEnd,
        (http, urls): (reqwest::Client, Vec<Url>),
        first: Vec<Option<Sample>>,
    ) -> anyhow::Result<()> {
        let mut names = Names::default();
        let mut order = self.sort;
        let mut before = first;
        let mut since = Instant::now();
        let mut ticks = tokio::time::interval(Duration::from_secs(self.every));
        ticks.tick().await;
        let mut shown: Vec<Row> = Vec::new();
        let mut looks = 0;
        loop {
            let is_look = tokio::select! {
                _ = ticks.tick() => true,
                key = key(terminal.as_mut()) => match key {
                    Key::Char(QUIT) => break,
                    Key::Char(key) => {
                        order = Order::of(key).unwrap_or(order);
                        false
                    }
                    _ => false,
                },
                () = told_to_end.recv() => break,
            };
            if is_look {
                let now = look(&http, &urls).await;
                let added = between(&before, &now);
                names.learn(client, added.keys()).await;
                shown = rows(&added, since.elapsed(), &names.slugs);
                (before, since) = (now, Instant::now());
                looks += 1;
            }
            order.sort(&mut shown);
            let visible = shown.get(..self.limit).unwrap_or(&shown);
            if let Some(terminal) = &terminal {
                let missing = before.iter().filter(|it| it.is_none()).count();
                let seen = urls.len() - missing;
                view::draw(terminal.term(), visible, order, seen, urls.len())?;
            } else if is_look && out.is_json() {
                visible.iter().try_for_each(|row| out.json(row))?;
            } else if is_look {
                out.table(view::COLUMNS, visible.iter().map(Row::cells))?;
            }
            if self.count.is_some_and(|count| looks >= count) {
                break;
            }
        }
        Ok(())
    }

    fn urls(&self, client: &ClientOptions) -> anyhow::Result<Vec<Url>> {
        let given = if self.metrics_urls.is_empty() {
            let running = up::Running::read(&client.data_dir()?).map_err(|error| {
                Unavailable::new(format!(
                    "{error:#}, or name the admin addresses of a deployment with --metrics-urls"
                ))
            })?;
            vec![running.admin_url]
        } else {
            self.metrics_urls.clone()
        };
        let urls = given.iter().map(|given| {
            let url = Url::parse(given).and_then(|url| url.join("/metrics"));
            let problem = || format!("{given} is no URL: write it like http://127.0.0.1:7401");
            url.map_err(|_| Usage::new(problem()).into())
        });
        urls.collect()
    }
}

/// Ctrl-C and SIGTERM, heard from the beginning, whether one looks or waits.
struct ToldToEnd {
    interrupted: Signal,
    terminated: Signal,
}

impl ToldToEnd {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupted: signal(SignalKind::interrupt())?,
            terminated: signal(SignalKind::terminate())?,
        })
    }

    /// Resolves with the first of them.
    async fn recv(&mut self) {
        tokio::select! {
            _ = self.interrupted.recv() => {}
            _ = self.terminated.recv() => {}
        }
    }
}

/// Resolves when a key is pressed, which is never without a terminal.
async fn key(terminal: Option<&mut Terminal>) -> Key {
    match terminal {
        Some(terminal) => terminal.key().await,
        None => std::future::pending().await,
    }
}

/// Asks every process; one that does not answer is none.
async fn look(http: &reqwest::Client, urls: &[Url]) -> Vec<Option<Sample>> {
    let asked = urls.iter().map(async |url| {
        let answer = http.get(url.clone()).send().await.ok()?;
        let text = answer.error_for_status().ok()?.text().await.ok()?;
        parse(&text)
    });
    join_all(asked).await
}

fn nothing_at(urls: &[Url]) -> Unavailable {
    let asked: Vec<&str> = urls.iter().map(Url::as_str).collect();
    Unavailable::new(format!(
        "no metrics of tenants at {}: name the admin addresses with --metrics-urls",
        asked.join(", ")
    ))
}

/// Slugs of tenants by their ids, where an operator's token is at hand.
#[derive(Default)]
struct Names {
    slugs: HashMap<String, String>,
    asked: Option<Instant>,
}

impl Names {
    async fn learn(&mut self, client: &ClientOptions, tenants: impl Iterator<Item = &String>) {
        let mut tenants = tenants.filter(|tenant| *tenant != view::OTHER);
        let is_new = tenants.any(|tenant| !self.slugs.contains_key(tenant));
        if !is_new || self.asked.is_some_and(|asked| asked.elapsed() < NAMES) {
            return;
        }
        let is_first = self.asked.replace(Instant::now()).is_none();
        let listed = async { all_tenants(&client.as_operator().await?).await };
        match listed.await {
            Ok(tenants) => {
                let named = tenants.into_iter().map(|tenant| (tenant.id, tenant.slug));
                self.slugs = named.collect();
                let platform = kit::TenantId::PLATFORM.to_string();
                self.slugs.insert(platform, "(platform)".to_owned());
            }
            Err(error) if is_first => note(&format!("tenants are shown by their ids: {error:#}")),
            Err(_) => {}
        }
    }
}
