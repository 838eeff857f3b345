//! An Alertmanager: the real one where it is installed, else a receiver that checks and keeps what its API v2 takes.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, ensure};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use kit::ctx::Clock;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::free_port;

/// The names of the program, Debian's and its own.
const PROGRAMS: [&str; 2] = ["prometheus-alertmanager", "alertmanager"];

/// Where alerts can be looked up by the API v2.
#[derive(Clone, Debug)]
pub struct Alertmanager {
    /// Its base URL.
    pub url: String,
    /// What it is, for messages.
    pub what: &'static str,
    pid: Option<u32>,
}

type Kept = Arc<Mutex<BTreeMap<String, Value>>>;

impl Alertmanager {
    /// Starts one on a port of its own, with its storage in the folder.
    pub async fn start(dir: &Path) -> anyhow::Result<Self> {
        for program in PROGRAMS {
            let installed = Command::new(program).arg("--version").output();
            if installed.is_ok_and(|output| output.status.success()) {
                return Self::start_program(program, dir).await;
            }
        }
        Self::start_receiver().await
    }

    async fn start_program(program: &str, dir: &Path) -> anyhow::Result<Self> {
        let dir = dir.join("alertmanager");
        std::fs::create_dir(&dir)?;
        let config = dir.join("config.yml");
        std::fs::write(
            &config,
            "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n",
        )?;
        let port = free_port();
        let child = Command::new(program)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.path={}", dir.join("storage").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--cluster.listen-address=")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let url = format!("http://127.0.0.1:{port}");
        let ready = format!("{url}/-/ready");
        crate::eventually("the Alertmanager is ready", async || {
            let answer = reqwest::get(&ready).await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
        Ok(Self {
            url,
            what: "the real Alertmanager",
            pid: Some(child.id()),
        })
    }

    async fn start_receiver() -> anyhow::Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let router = Router::new()
            .route("/api/v2/alerts", get(list).post(take))
            .with_state(Kept::default());
        #[expect(
            clippy::disallowed_methods,
            reason = "lives as long as the test process"
        )]
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self {
            url,
            what: "a receiver of the API v2, since no Alertmanager is installed",
            pid: None,
        })
    }

    /// Its process, if it is one.
    pub fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// The alert with this id, while it fires there.
    pub async fn firing(&self, alert_id: &str) -> Option<Value> {
        let url = format!("{}/api/v2/alerts", self.url);
        let text = reqwest::get(url).await.ok()?.text().await.ok()?;
        let alerts: Vec<Value> = serde_json::from_str(&text).ok()?;
        alerts
            .into_iter()
            .find(|alert| alert.pointer("/labels/alert_id") == Some(&alert_id.into()))
    }
}

async fn list(State(kept): State<Kept>) -> String {
    let now = Clock::system().now();
    let kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    let fires = |alert: &&Value| instant(alert, "endsAt").is_ok_and(|end| end > now);
    Value::Array(kept.values().filter(fires).cloned().collect()).to_string()
}

async fn take(State(kept): State<Kept>, body: Bytes) -> StatusCode {
    let Ok(alerts) = serde_json::from_slice::<Vec<Value>>(&body) else {
        return StatusCode::BAD_REQUEST;
    };
    for alert in alerts {
        if check(&alert).is_err() {
            return StatusCode::BAD_REQUEST;
        }
        // The labels are the identity.
        let labels = alert.pointer("/labels").map(Value::to_string);
        kept.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(labels.unwrap_or_default(), alert);
    }
    StatusCode::OK
}

/// What the schema of the API v2 asks for: maps of text with a name among the labels, and instants in order.
fn check(alert: &Value) -> anyhow::Result<()> {
    for field in ["/labels", "/annotations"] {
        let map = alert.pointer(field).and_then(Value::as_object);
        let map = map.with_context(|| format!("{field} is missing"))?;
        ensure!(map.values().all(Value::is_string), "{field} is not of text");
    }
    let name = alert.pointer("/labels/alertname").and_then(Value::as_str);
    ensure!(name.is_some_and(|name| !name.is_empty()), "no alertname");
    ensure!(instant(alert, "startsAt")? <= instant(alert, "endsAt")?);
    Ok(())
}

fn instant(alert: &Value, field: &str) -> anyhow::Result<OffsetDateTime> {
    let text = alert.get(field).and_then(Value::as_str);
    Ok(OffsetDateTime::parse(
        text.context("no instant")?,
        &Rfc3339,
    )?)
}
