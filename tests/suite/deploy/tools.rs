//! The pinned tools and the files of the repository; whatever cannot be read or run is an error, never an empty answer.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::thread;

use anyhow::{Context as _, bail};
use serde_json::Value;

/// The top of the repository.
pub(super) fn repository() -> &'static Path {
    static REPOSITORY: LazyLock<PathBuf> =
        LazyLock::new(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    &REPOSITORY
}

/// The manifests of an overlay, as `kubectl apply --kustomize` would send them.
pub(super) fn build(overlay: &str) -> anyhow::Result<String> {
    let folder = repository().join("deploy/kubernetes").join(overlay);
    output(pinned("kubectl")?.arg("kustomize").arg(folder), "")
}

/// Fails unless every object fits the schema of its kind, without a field more.
pub(super) fn validate(manifests: &str) -> anyhow::Result<()> {
    output(
        python("kubernetes_validate")?.args(["--strict", "-"]),
        manifests,
    )?;
    Ok(())
}

pub(super) fn lint_dockerfile(dockerfile: &str) -> anyhow::Result<()> {
    output(pinned("hadolint")?.args(["--no-color", "-"]), dockerfile)?;
    Ok(())
}

/// The documents of a text.
pub(super) fn yaml(text: &str) -> anyhow::Result<Vec<Value>> {
    const CONVERT: &str =
        "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(sys.stdin))))";
    let mut convert = Command::new("python3");
    convert
        .env("PYTHONPATH", folder_of_tools()?)
        .args(["-c", CONVERT]);
    Ok(serde_json::from_str(&output(&mut convert, text)?)?)
}

/// What a program prints; its failure is an error with what it said.
pub(super) fn output(command: &mut Command, input: &str) -> anyhow::Result<String> {
    let name = command.get_program().display().to_string();
    // `secrets.sh` calls the pinned kubectl.
    let mut path = folder_of_tools()?.join("bin").into_os_string();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let mut child = command
        .env("PATH", path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {name}"))?;
    let mut stdin = child.stdin.take().context("stdin is piped")?;
    let done = thread::scope(|scope| {
        // A program may end before it has read all; its exit code tells then.
        scope.spawn(move || stdin.write_all(input.as_bytes()).ok());
        child.wait_with_output()
    })?;
    let printed = String::from_utf8(done.stdout)?;
    if !done.status.success() {
        bail!(
            "{name} fails: {printed}{}",
            String::from_utf8_lossy(&done.stderr)
        );
    }
    Ok(printed)
}

/// All files under a folder.
pub(super) fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in folder
        .read_dir()
        .with_context(|| format!("cannot list {}", folder.display()))?
    {
        let path = entry?.path();
        if path.is_dir() {
            files.append(&mut self::files(&path)?);
        } else {
            files.push(path);
        }
    }
    Ok(files)
}

pub(super) fn read(file: &Path) -> anyhow::Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

/// The variables that the code in a folder reads.
pub(super) fn declared_settings(folder: &str) -> anyhow::Result<BTreeSet<String>> {
    literals_after(folder, "env = \"")
}

/// The instruments of all services, as Prometheus spells them, without unit and kind.
pub(super) fn declared_metrics() -> anyhow::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for kind in ["_counter(\"", "_gauge(\"", "_histogram(\""] {
        names.append(&mut literals_after("services", kind)?);
    }
    Ok(names.iter().map(|name| name.replace('.', "_")).collect())
}

fn literals_after(folder: &str, opening: &str) -> anyhow::Result<BTreeSet<String>> {
    let mut literals = BTreeSet::new();
    for file in files(&repository().join(folder))? {
        if file.extension().is_some_and(|extension| extension == "rs") {
            let text = read(&file)?;
            let ends = text
                .split(opening)
                .skip(1)
                .filter_map(|rest| rest.split_once('"'));
            literals.extend(ends.map(|(literal, _)| literal.to_owned()));
        }
    }
    Ok(literals)
}

/// A folder as `catalyst keys` makes it, with worthless content; removed with the value.
pub(super) struct Keys(PathBuf);

impl Keys {
    pub(super) fn create(services: &BTreeSet<String>) -> anyhow::Result<Self> {
        let keys = Self(std::env::temp_dir().join(format!("catalyst-keys-{}", std::process::id())));
        let mut files = vec![
            "postgres/audit_operator".to_owned(),
            "nats/credentials/migrator.creds".to_owned(),
            "nats/credentials/operator.creds".to_owned(),
            "nats/credentials/sys.creds".to_owned(),
            "nats/credentials/auth-watch.creds".to_owned(),
            "workload/jwks.json".to_owned(),
            "issuer.json".to_owned(),
            "page-token.key".to_owned(),
            "database-admin-url".to_owned(),
            "cells/north".to_owned(),
            "cells-admin/north".to_owned(),
            "alert-webhook.secret".to_owned(),
            "audit/checkpoint.pem".to_owned(),
            "nats/credentials/audit-checkpoint.creds".to_owned(),
            "authorities/services.crt".to_owned(),
            "authorities/postgres.crt".to_owned(),
            "authorities/nats.crt".to_owned(),
        ];
        for service in services {
            let role = service.replace('-', "_");
            files.extend(["owner", "app", "relay"].map(|kind| format!("postgres/{role}_{kind}")));
            files.push(format!("nats/credentials/{service}.creds"));
            files.push(format!("workload/{service}.pem"));
        }
        for file in files {
            let file = keys.0.join(file);
            fs::create_dir_all(file.parent().context("a file is in a folder")?)?;
            fs::write(file, "worthless")?;
        }
        Ok(keys)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.0
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

fn pinned(program: &str) -> anyhow::Result<Command> {
    Ok(Command::new(folder_of_tools()?.join("bin").join(program)))
}

fn python(module: &str) -> anyhow::Result<Command> {
    let mut command = Command::new("python3");
    command
        .env("PYTHONPATH", folder_of_tools()?)
        .args(["-m", module]);
    Ok(command)
}

/// Installed once for all tests of the process.
fn folder_of_tools() -> anyhow::Result<&'static Path> {
    static FOLDER: LazyLock<Result<PathBuf, String>> = LazyLock::new(|| {
        let done = Command::new(repository().join(".ci/tools"))
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("cannot run .ci/tools: {error}"))?;
        if !done.status.success() {
            return Err(String::from_utf8_lossy(&done.stderr).into_owned());
        }
        Ok(PathBuf::from(String::from_utf8_lossy(&done.stdout).trim()))
    });
    FOLDER
        .as_deref()
        .map_err(|problem| anyhow::anyhow!("{problem}"))
}
