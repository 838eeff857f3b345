//! The generator of load beside another: the same `GetProject` with the same token, by as many callers over as many
//! connections, sent by our callers and by `h2load` to the same services. What ours reaches must not be more than another
//! finds; it is less by what ours costs, on the cores that the services need.

use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use kit::settings::LimitSettings;
use proto::projects::v1::{GetProjectRequest, GetProjectResponse};
use serde_json::{Value, json};
use tokio::process::Command;
use tonic::Status;

use crate::cores::Cores;
use crate::load::{CALLERS_PER_CONNECTION, Call, Caller, Callers, User, closed_loop};
use crate::report::{OURS, Report, Spread, number};
use crate::system::System;
use crate::wire::{GET_PROJECT, Wire, framed};
use crate::{Judged, Options, seed};

const CALLS: &str = "get of one project, calls/s";
const THEIRS: &str = "h2load";
const ROUNDS: usize = 3;
/// How much more than the other generator ours may reach.
const MOST: f64 = 1.15;

/// Both rates.
pub(crate) struct Check(Report);

/// Starts servers and services, and calls from both sides in turns.
pub(crate) async fn run(options: &Options, say: &(dyn Fn(&str) + Sync)) -> anyhow::Result<Check> {
    is_installed().await?;
    let (postgres, limits) = (options.postgres.clone(), LimitSettings::NONE);
    let system = System::start_apart(postgres, limits, Cores::shared()?, say).await?;
    let outcome = check(&system, options, say).await;
    say("stopping");
    system.conclude(outcome).await
}

async fn is_installed() -> anyhow::Result<()> {
    let version = Command::new(THEIRS).arg("--version").output().await;
    match version {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => bail!(
            "h2load is not in PATH: it comes with nghttp2 (apt-get install nghttp2-client, brew install nghttp2)"
        ),
        Err(error) => Err(error).context("h2load does not run"),
    }
}

async fn check(system: &System, options: &Options, say: &dyn Fn(&str)) -> anyhow::Result<Check> {
    say("loading the data");
    let firms = seed::load(system, options.profile, 0, say).await?;
    let callers = Callers::new(system, &firms, options.clients)?;
    let mut first = callers.so_many(1, |caller| caller).await?;
    let mut caller = first.pop().context("there is a caller")?;
    let user = caller.user()?;
    let asked = user.firm.project(caller.random(user.firm.projects));
    let asked = GetProjectRequest {
        project_id: asked.to_string(),
    };
    let answers = Same::of(caller, &user, &asked);
    let theirs = Theirs {
        url: format!("{}{GET_PROJECT}", system.url),
        body: system.dir.join("request.bin"),
        clients: options.clients,
        user: Arc::clone(&user),
        answer: framed(&answers.answer().await?).len(),
    };
    fs::write(&theirs.body, framed(&asked))?;

    let time = Duration::from_secs(options.seconds);
    let ours = async |time| {
        let each = callers.each(|caller| Same::of(caller, &user, &asked));
        closed_loop(each.await?, time).await
    };
    ours(Duration::from_secs(1)).await?;
    let mut report = Report::new(format!(
        "{}; {}; {} callers, {ROUNDS} rounds of {} s",
        system.description, options.profile, options.clients, options.seconds
    ));
    for round in 1..=ROUNDS {
        say(&format!("round {round} of {ROUNDS}: ours, then h2load"));
        let load = ours(time).await?;
        report.record(CALLS, OURS, load.per_second);
        report.record(CALLS, THEIRS, theirs.per_second(load.calls).await?);
    }
    Ok(Check(report))
}

/// One of our callers, who asks for one project only.
struct Same {
    wire: Wire,
    user: Arc<User>,
    asked: GetProjectRequest,
}

impl Same {
    fn of(caller: Caller, user: &Arc<User>, asked: &GetProjectRequest) -> Self {
        Self {
            wire: caller.wire,
            user: Arc::clone(user),
            asked: asked.clone(),
        }
    }

    async fn answer(&self) -> Result<GetProjectResponse, Status> {
        self.wire.call(&self.user, GET_PROJECT, &self.asked).await
    }
}

impl Call for Same {
    async fn call(&mut self) -> Result<(), Status> {
        match self.answer().await?.project {
            Some(project) if project.id == self.asked.project_id => Ok(()),
            _ => Err(Status::data_loss("the answer holds another project")),
        }
    }
}

/// The other generator.
struct Theirs {
    url: String,
    body: PathBuf,
    clients: u16,
    user: Arc<User>,
    /// Bytes of the body of each answer.
    answer: usize,
}

impl Theirs {
    /// So many calls, as many at a time as ours, each of which must have been answered with the project.
    async fn per_second(&self, calls: f64) -> anyhow::Result<f64> {
        let connections = usize::from(self.clients).div_ceil(CALLERS_PER_CONNECTION);
        let streams = usize::from(self.clients) / connections;
        ensure!(
            connections * streams == usize::from(self.clients),
            "{} callers cannot be spread evenly over {connections} connections",
            self.clients
        );
        let threads = std::thread::available_parallelism()?.get();
        let mut command = Command::new(THEIRS);
        command
            .arg(format!("--requests={calls:.0}"))
            .arg(format!("--clients={connections}"))
            .arg(format!("--max-concurrent-streams={streams}"))
            .arg(format!("--threads={}", threads.min(connections)))
            .arg("--data")
            .arg(&self.body)
            .args(["-H", "content-type: application/grpc", "-H", "te: trailers"]);
        for (name, value) in self.user.headers()? {
            command.args(["-H", &format!("{name}: {value}")]);
        }
        let output = command
            .arg(&self.url)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = output.await?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "h2load fails: {text}");
        let told = Told::of(&text).with_context(|| format!("h2load is not understood: {text}"))?;
        // The status of a call stands behind its body, where h2load does not look; a refusal has no body.
        let expected = told.succeeded * crate::load::count(self.answer);
        let all = (told.succeeded - calls).abs() < 1.0 && (told.data - expected).abs() < 1.0;
        ensure!(all, "h2load did not get {calls} answers: {text}");
        Ok(told.per_second)
    }
}

/// What h2load tells.
#[derive(Debug, PartialEq)]
struct Told {
    per_second: f64,
    succeeded: f64,
    /// Bytes of all bodies.
    data: f64,
}

impl Told {
    fn of(text: &str) -> Option<Self> {
        let line = |start: &str| text.lines().find_map(|line| line.strip_prefix(start));
        let part = |line: &str, end: &str| {
            let part = line.split(", ").find_map(|part| part.strip_suffix(end))?;
            // The number, or the exact one in parentheses.
            let number = part.split_whitespace().last()?;
            number.trim_matches(['(', ')']).parse().ok()
        };
        Some(Self {
            per_second: part(line("finished in ")?, " req/s")?,
            succeeded: part(line("requests: ")?, " succeeded")?,
            data: part(line("traffic: ")?, " data")?,
        })
    }
}

impl Check {
    /// Ours by theirs, in the median of the rounds.
    fn ratio(&self) -> f64 {
        let rates = |series| self.0.values((CALLS, series)).unwrap_or_default();
        let rounds = rates(OURS).iter().zip(rates(THEIRS));
        Spread::of(rounds.map(|(ours, theirs)| ours / theirs)).median
    }

    fn holds(&self) -> bool {
        self.ratio() <= MOST
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.holds() { "held" } else { "NOT held" };
        let ratio = number(self.ratio());
        write!(
            f,
            "{}\n\nours, of h2load's: {ratio}, goal <= {MOST}: {verdict}",
            self.0
        )
    }
}

impl Judged for Check {
    fn json(&self) -> Value {
        json!({ "report": self.0.json(), "ratio": self.ratio(), "goal": MOST, "held": self.holds() })
    }

    fn verdict(&self) -> anyhow::Result<()> {
        ensure!(
            self.holds(),
            "our callers reach more than h2load: they do not do the same"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_h2load_tells_is_understood() {
        let text = "starting benchmark...\n\
            finished in 1.52s, 6578.95 req/s, 1.67MB/s\n\
            requests: 10000 total, 10000 started, 10000 done, 9998 succeeded, 2 failed, 0 errored, 0 timeout\n\
            status codes: 9998 2xx, 0 3xx, 2 4xx, 0 5xx\n\
            traffic: 2.54MB (2663424) total, 273.44KB (280000) headers (space savings 85.71%), 1.96MB (2055000) data\n";
        let told = Told {
            per_second: 6_578.95,
            succeeded: 9_998.0,
            data: 2_055_000.0,
        };
        assert_eq!(Told::of(text), Some(told));
        assert_eq!(Told::of("finished in 1.52s"), None);
    }
}
