//! Runs the program: built once for all tests, each run with a data folder of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use harness::{binary, free_address, world};
use tokio::process::Child;

/// A folder that goes with the test.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(harness::temporary_folder().expect("a folder"))
    }

    /// Processes that work below this folder.
    pub(crate) fn processes(&self) -> Vec<String> {
        self.found().map(|(_, line)| line).collect()
    }

    /// `kill -9` of the one process that has this in its command line.
    pub(crate) fn kill(&self, part: &str) {
        let found: Vec<_> = self.found().filter(|(_, it)| it.contains(part)).collect();
        let [(pid, _)] = found.as_slice() else {
            panic!("one process with {part}: {found:?}");
        };
        kill(pid);
    }

    /// Process ids and command lines of others than this process.
    fn found(&self) -> impl Iterator<Item = (String, String)> {
        let needle = self.0.to_string_lossy().into_owned();
        let own = std::process::id().to_string();
        let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        processes.filter_map(move |entry| {
            let pid = entry.file_name().to_string_lossy().into_owned();
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            (line.contains(&needle) && pid != own).then_some((pid, line))
        })
    }
}

fn kill(pid: &str) {
    drop(Command::new("kill").args(["-KILL", pid]).status());
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Ended here only when the test failed half way.
        for (pid, _) in self.found() {
            kill(&pid);
        }
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// A running `catalyst up`.
pub(crate) struct Up {
    pub(crate) child: Child,
    pub(crate) dir: PathBuf,
}

impl Up {
    /// Starts it on ports of its own and waits until it says that it is up.
    pub(crate) async fn start(dir: &Path, more: &[&str]) -> Self {
        drop(std::fs::remove_file(dir.join("running.json")));
        let log = std::fs::File::create(dir.with_extension("log")).expect("a log");
        let child = tokio::process::Command::new(binary())
            .arg("--data-dir")
            .arg(dir)
            .args([
                "up",
                "--listen",
                "127.0.0.1:0",
                "--admin-listen",
                "127.0.0.1:0",
            ])
            .args(more)
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("the program starts");
        let up = Self {
            child,
            dir: dir.to_owned(),
        };
        // A cold machine fetches the servers first.
        let spoken = harness::within(Duration::from_secs(90), async || {
            let text = up.said();
            (text.contains("Ctrl-C stops everything") || text.contains("error:")).then_some(())
        });
        spoken.await;
        assert!(up.said().contains("Catalyst is up."), "{}", up.said());
        up
    }

    /// All that it has said.
    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(self.dir.with_extension("log")).unwrap_or_default()
    }

    pub(crate) fn pid(&self) -> String {
        self.child.id().expect("it runs").to_string()
    }

    /// Sends a signal and waits for the end; the exit code, and how long it took.
    pub(crate) async fn signal(&mut self, signal: &str) -> (Option<i32>, Duration) {
        let since = std::time::Instant::now();
        Command::new("kill")
            .args([signal, &self.pid()])
            .status()
            .expect("kill runs");
        let ended = tokio::time::timeout(Duration::from_secs(20), self.child.wait()).await;
        let status = ended.expect("it ends within 20 s").expect("its status");
        (status.code(), since.elapsed())
    }

    /// Runs a command beside it.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        Command::new(binary())
            .arg("--data-dir")
            .arg(&self.dir)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("the program runs")
    }

    /// Runs a command that must succeed; what it printed.
    pub(crate) fn succeeds(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.success(),
            "catalyst {}: {error}",
            arguments.join(" ")
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

/// `catalyst serve` in the environment of the world's deployment, with some variables changed.
pub(crate) fn serve_command(service: &str, changes: &[(&str, &str)]) -> Command {
    let mut command = Command::new(binary());
    command.args(["serve", service]).env_clear();
    for (name, value) in &world().environment {
        command.env(name, value);
    }
    for (name, value) in changes {
        command.env(name, value);
    }
    command
}

/// `catalyst serve projects` on ports of its own, until it is dropped.
pub(crate) struct Serving {
    process: std::process::Child,
    pub(crate) listen: String,
    pub(crate) admin: String,
}

impl Serving {
    pub(crate) fn projects() -> Self {
        let (listen, admin) = (free_address().to_string(), free_address().to_string());
        let changes = [
            ("CATALYST_LISTEN", &*listen),
            ("CATALYST_ADMIN_LISTEN", &*admin),
        ];
        let process = serve_command("projects", &changes)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        Self {
            process,
            listen,
            admin,
        }
    }
}

// A test that fails leaves no process either.
impl Drop for Serving {
    fn drop(&mut self) {
        terminate(&self.process);
        self.process.wait().expect("it ends");
    }
}

pub(crate) fn terminate(process: &std::process::Child) {
    let pid = process.id().to_string();
    let told = Command::new("kill").args(["-TERM", &pid]).status();
    assert!(told.expect("kill runs").success());
}
