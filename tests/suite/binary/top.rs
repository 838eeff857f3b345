//! `catalyst top`: who uses a process is seen, under the name of the firm, and the terminal is left as it was found.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use harness::{Caller, Firm, binary, eventually, world};
use proto::projects::v1 as projects;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};
use serde_json::Value;
use tonic::transport::Endpoint;

use super::program::{Serving, terminate};

/// A process that serves the firm, and where it tells its metrics.
struct Served {
    _process: Serving,
    admin: String,
    caller: Caller,
}

impl Served {
    async fn start(firm: &Firm) -> Self {
        let process = Serving::projects();
        let channel = Endpoint::from_shared(format!("http://{}", process.listen))
            .expect("a URL")
            .connect_lazy();
        let served = Self {
            admin: format!("http://{}", process.admin),
            caller: Caller::clone(firm).over(channel),
            _process: process,
        };
        eventually("the process serves", async || served.lists().await).await;
        served
    }

    async fn lists(&self) -> Option<()> {
        let request = projects::ListClientsRequest::default();
        let listed = self.caller.projects().list_clients(request).await;
        listed.ok().map(|_| ())
    }
}

#[tokio::test]
async fn top_shows_what_a_tenant_does_between_two_looks() {
    let firm = Firm::new("Topmost").await;
    let served = Served::start(&firm).await;
    let token = harness::token_with(kit::TenantId::PLATFORM, "olga", &["platform_operator"]);
    let looking = tokio::process::Command::new(binary())
        .args(["top", "--count", "1", "--every", "1", "--json"])
        .args(["--metrics-urls", &served.admin])
        .args(["--url", &world().url, "--token", &token])
        .stdin(Stdio::null())
        .output();
    let calls = async {
        loop {
            served.lists().await;
        }
    };
    let output = tokio::select! {
        output = looking => output.expect("the program runs"),
        () = calls => unreachable!("calls go on"),
    };
    drop(served);

    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    let rows = text.lines().map(serde_json::from_str::<Value>);
    let rows: Vec<Value> = rows.collect::<Result<_, _>>().expect("lines of JSON");
    let id = firm.id.to_string();
    let row = rows
        .iter()
        .find(|row| row["tenantId"] == id.as_str())
        .unwrap_or_else(|| panic!("the firm is not there: {text}{error}"));
    let slug = row["slug"].as_str().expect("its name");
    assert!(slug.starts_with("topmost"), "{slug}");
    for figure in ["callsPerSecond", "p99", "connections"] {
        assert!(row[figure].as_f64().is_some_and(|it| it > 0.0), "{row}");
    }
    assert_eq!(row["limitedPerSecond"].as_f64(), Some(0.0));
}

/// A terminal that is no window: what is typed, and what the programs on it see.
fn terminal() -> (File, File) {
    let typed = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&typed).expect("it is ours");
    unlockpt(&typed).expect("it can be opened");
    let name = ptsname(&typed, Vec::new()).expect("its name");
    let seen = File::options()
        .read(true)
        .write(true)
        .open(name.to_str().expect("a path"));
    (File::from(typed), seen.expect("it opens"))
}

/// Whether a line that is typed is edited and shown, as a shell leaves it.
fn is_for_lines(terminal: &File) -> bool {
    let modes = tcgetattr(terminal).expect("its modes").local_modes;
    modes.contains(LocalModes::ICANON | LocalModes::ECHO)
}

#[tokio::test]
async fn top_leaves_the_terminal_as_it_was_however_it_ends() {
    let firm = Firm::new("Terminal").await;
    let served = Served::start(&firm).await;
    for how in ["q", "\u{3}", "a signal"] {
        let (typed, seen) = terminal();
        assert!(is_for_lines(&seen));
        let own = || OwnedFd::from(seen.try_clone().expect("the terminal"));
        let mut top = Command::new(binary())
            .args(["top", "--every", "1", "--metrics-urls", &served.admin])
            .args(["--url", &world().url])
            .stdin(own())
            .stdout(own())
            .stderr(own())
            .spawn()
            .expect("the program starts");
        // Read to the end, or it would wait for its reader.
        let mut reading = typed.try_clone().expect("the terminal");
        let reader = std::thread::spawn(move || {
            let mut shown = Vec::new();
            // It ends with an error when nobody has it open any more.
            let _ = reading.read_to_end(&mut shown);
            String::from_utf8_lossy(&shown).into_owned()
        });
        let hears = async || (!is_for_lines(&seen)).then_some(());
        eventually("top hears keys", hears).await;
        match how {
            "a signal" => terminate(&top),
            key => (&typed).write_all(key.as_bytes()).expect("it is typed"),
        }
        let ended = async || top.try_wait().expect("it is ours");
        let status = eventually("top ends", ended).await;
        assert!(status.success(), "{how}: {status}");
        assert!(is_for_lines(&seen), "after {how}");
        drop((seen, typed));
        let shown = reader.join().expect("it reads");
        assert!(
            shown.ends_with("\u{1b}[?25h"),
            "the cursor is hidden after {how}: {shown}"
        );
    }
    drop(served);
}
