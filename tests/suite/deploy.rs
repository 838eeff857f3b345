//! The deployment as it is shipped: every overlay is built and held against the schemas of Kubernetes and our own rules.
//! A tool that is missing is installed by `.ci/tools`; nothing here passes because something could not be run.

mod rules;
mod tools;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use rules::{container, name, of_kind};
use tools::{output, read, repository, yaml};

/// Every folder of `deploy/kubernetes` that is applied.
const OVERLAYS: &[&str] = &["base", "overlays/development"];

#[test]
fn every_overlay_is_valid_for_kubernetes() -> anyhow::Result<()> {
    for overlay in OVERLAYS {
        tools::validate(&tools::build(overlay)?).with_context(|| format!("in {overlay}"))?;
    }
    Ok(())
}

#[test]
fn a_misspelled_field_is_not_valid() -> anyhow::Result<()> {
    let right = tools::build("base")?;
    let wrong = right.replace("readOnlyRootFilesystem:", "readOnlyRootFileSystem:");
    assert_ne!(right, wrong);
    assert!(tools::validate(&wrong).is_err());
    Ok(())
}

#[test]
fn every_kustomization_is_tested() -> anyhow::Result<()> {
    let kubernetes = repository().join("deploy/kubernetes");
    let files = tools::files(&kubernetes)?;
    let found: BTreeSet<_> = files
        .iter()
        .filter(|file| file.ends_with("kustomization.yaml"))
        .filter_map(|file| file.parent()?.strip_prefix(&kubernetes).ok())
        .collect();
    assert_eq!(found, OVERLAYS.iter().map(Path::new).collect());
    Ok(())
}

#[test]
fn every_service_is_deployed() -> anyhow::Result<()> {
    for overlay in OVERLAYS {
        let deployed: BTreeSet<_> = of_kind(&objects(overlay)?, "Deployment")
            .filter_map(|deployment| served(&container(deployment)["args"]))
            .collect();
        assert_eq!(deployed, services()?, "in {overlay}");
    }
    let compose = compose()?;
    let composed: BTreeSet<_> = rules::entries(&compose["services"])
        .filter_map(|(_, container)| served(&container["command"]))
        .collect();
    assert_eq!(composed, services()?, "in compose.yaml");
    Ok(())
}

#[test]
fn no_pod_has_more_rights_than_it_needs() -> anyhow::Result<()> {
    for overlay in OVERLAYS {
        assert_none(&rules::excessive_rights(&objects(overlay)?));
    }
    let base = objects("base")?;
    for (field, value) in [
        ("securityContext/runAsNonRoot", json!(false)),
        ("securityContext/runAsUser", json!(0)),
        ("securityContext/seccompProfile/type", json!("Unconfined")),
        ("automountServiceAccountToken", json!(true)),
        ("containers/0/securityContext/capabilities/drop", json!([])),
        (
            "containers/0/securityContext/readOnlyRootFilesystem",
            json!(false),
        ),
        (
            "containers/0/securityContext/allowPrivilegeEscalation",
            json!(true),
        ),
        ("containers/0/image", json!("catalyst:latest")),
        ("containers/0/resources/limits/memory", json!(null)),
    ] {
        assert_eq!(
            rules::excessive_rights(&planted(&base, field, value)?).len(),
            1,
            "{field}"
        );
    }
    Ok(())
}

#[test]
fn every_service_is_probed_and_given_time_to_drain() -> anyhow::Result<()> {
    let base = objects("base")?;
    assert_none(&rules::unprobed(&base));
    for (field, value) in [
        ("containers/0/startupProbe/httpGet/path", json!("/livez")),
        ("containers/0/readinessProbe/httpGet/path", json!("/livez")),
        ("containers/0/livenessProbe/httpGet/path", json!("/readyz")),
        ("terminationGracePeriodSeconds", json!(10)),
    ] {
        assert_eq!(
            rules::unprobed(&planted(&base, field, value)?).len(),
            1,
            "{field}"
        );
    }
    Ok(())
}

#[test]
fn every_service_survives_the_loss_of_a_node() -> anyhow::Result<()> {
    let base = objects("base")?;
    assert_none(&rules::fragile(&base));

    let without_budgets: Vec<_> = base
        .into_iter()
        .filter(|object| object["kind"] != "PodDisruptionBudget")
        .collect();
    assert_eq!(rules::fragile(&without_budgets).len(), services()?.len());
    Ok(())
}

#[test]
fn every_service_mounts_its_own_secrets_only() -> anyhow::Result<()> {
    let base = objects("base")?;
    assert_none(&rules::foreign_secrets(&base));
    for (field, value) in [
        ("volumes/0/secret/secretName", json!("migrate")),
        ("volumes/0/secret/defaultMode", json!(0o444)),
        ("volumes/0/secret/items", json!([])),
        (
            "volumes/0/secret/items/0",
            json!({ "key": "tenants_app", "path": "tenants_owner" }),
        ),
        (
            "volumes/0/secret/items/0",
            json!({ "key": "audit_owner", "path": "audit_owner" }),
        ),
        (
            "containers/0/envFrom",
            json!([{ "secretRef": { "name": "migrate" } }]),
        ),
    ] {
        let broken = planted(&base, field, value)?;
        assert_eq!(rules::foreign_secrets(&broken).len(), 1, "{field}");
    }
    Ok(())
}

#[test]
fn the_secrets_script_makes_every_key_that_is_mounted_and_no_other() -> anyhow::Result<()> {
    let keys = tools::Keys::create(&services()?)?;
    let script = repository().join("deploy/kubernetes/secrets.sh");
    let printed = yaml(&output(Command::new(script).arg(keys.folder()), "")?)?;
    let made: BTreeSet<_> = of_kind(&printed, "Secret")
        .flat_map(|secret| rules::entries(&secret["data"]).map(|(key, _)| (name(secret), key)))
        .collect();
    let base = objects("base")?;
    let mounted: BTreeSet<_> = of_kind(&base, "Deployment")
        .flat_map(rules::mounted_secrets)
        // Certificates come from an authority of the cluster.
        .filter(|(secret, _)| !secret.ends_with("-tls"))
        .collect();
    let migration: BTreeSet<_> = made
        .iter()
        .copied()
        .filter(|(secret, _)| *secret == "migrate")
        .collect();
    // Where dedicated cells are is mounted whole.
    let cells = BTreeSet::from([("cells", "north"), ("cells-admin", "north")]);
    assert_eq!(made, &(&mounted | &migration) | &cells);
    assert!(migration.contains(&("migrate", "database-admin-url")));
    assert!(migration.contains(&("migrate", "time_entries_owner")));
    Ok(())
}

#[test]
fn nothing_leaves_a_pod_in_plaintext_unless_the_overlay_says_so() -> anyhow::Result<()> {
    let base = objects("base")?;
    assert_none(&rules::plaintext(&base));
    for (setting, value) in [
        ("CATALYST_NATS_URL", "nats://nats.nats.svc:4222"),
        ("CATALYST_DATABASE_URL", "postgres://db:5432/catalyst"),
        ("CATALYST_PROJECTS_URL", "http://projects:7400"),
        ("CATALYST_TLS_KEY_FILE", ""),
        ("CATALYST_ALLOW_PLAINTEXT", "true"),
    ] {
        let mut broken = base.clone();
        let wires = broken
            .iter_mut()
            .find(|object| object["kind"] == "ConfigMap" && name(object).starts_with("wires-"))
            .context("the base has wires")?;
        wires["data"][setting] = json!(value);
        assert_eq!(rules::plaintext(&broken).len(), 1, "{setting}");
    }
    assert_eq!(
        rules::plaintext(&objects("overlays/development")?),
        ["CATALYST_ALLOW_PLAINTEXT is true"]
    );
    Ok(())
}

#[test]
fn services_reach_each_other_only_where_one_asks_the_other() -> anyhow::Result<()> {
    for overlay in OVERLAYS {
        let objects = objects(overlay)?;
        let ways = rules::ways(&objects);
        assert_eq!(
            ways,
            [
                ("projects", "consultants"),
                ("time-entries", "consultants"),
                ("time-entries", "projects"),
            ]
        );
        let unprotected: Vec<_> = objects
            .into_iter()
            .filter(|object| object["kind"] != "NetworkPolicy")
            .collect();
        assert_eq!(rules::ways(&unprotected).len(), 5 * 4);
    }
    Ok(())
}

#[test]
fn only_alerts_leave_the_cluster() -> anyhow::Result<()> {
    for overlay in OVERLAYS {
        assert_eq!(rules::open_policies(&objects(overlay)?), ["alerts-out"]);
    }
    let anyone =
        json!({ "kind": "NetworkPolicy", "metadata": { "name": "x" }, "spec": { "egress": [{}] } });
    assert_eq!(rules::open_policies(&[anyone]), ["x"]);
    Ok(())
}

#[test]
fn every_setting_named_in_deploy_exists() -> anyhow::Result<()> {
    let declared = tools::declared_settings("services")?;
    for file in tools::files(&repository().join("deploy"))? {
        let named = rules::settings(&read(&file)?);
        let unknown: Vec<_> = named.difference(&declared).collect();
        assert!(
            unknown.is_empty(),
            "{} names {unknown:?}, which nothing reads",
            file.display()
        );
    }
    Ok(())
}

#[test]
fn every_setting_of_a_service_is_explained_to_its_operator() -> anyhow::Result<()> {
    let explained = rules::settings(&read(&repository().join("deploy/README.md"))?);
    let mut declared = tools::declared_settings("services/kit")?;
    ensure!(
        declared.contains("CATALYST_DATABASE_URL"),
        "the kit's settings were not found"
    );
    for service in services()? {
        declared.append(&mut tools::declared_settings(&format!(
            "services/{service}"
        ))?);
    }
    let missing: Vec<_> = declared.difference(&explained).collect();
    assert!(
        missing.is_empty(),
        "deploy/README.md does not explain {missing:?}"
    );
    Ok(())
}

#[test]
fn a_setting_is_found_wherever_it_is_named() {
    let text = "{name: CATALYST_LOG, value: x}\nCATALYST_LISTEN=1, and every `CATALYST_…`";
    let found: Vec<_> = rules::settings(text).into_iter().collect();
    assert_eq!(found, ["CATALYST_LISTEN", "CATALYST_LOG"]);
}

#[test]
fn the_rules_of_alerts_that_are_deployed_are_the_built_in_ones() -> anyhow::Result<()> {
    let deployed = read(&repository().join("deploy/kubernetes/base/alert-rules.toml"))?;
    assert_eq!(deployed, audit::rules::file::DEFAULT);
    Ok(())
}

#[test]
fn every_metric_that_an_alert_watches_is_measured() -> anyhow::Result<()> {
    let measured = tools::declared_metrics()?;
    ensure!(
        measured.contains("catalyst_relay_lag"),
        "the kit's instruments were not found"
    );
    let alerts = yaml(&read(
        &repository().join("deploy/observability/alerts.yaml"),
    )?)?;
    let rules = alerts
        .first()
        .and_then(|it| it.pointer("/groups/0/rules"))
        .context("no rules")?;
    for expression in rules
        .as_array()
        .into_iter()
        .flatten()
        .map(|rule| &rule["expr"])
    {
        let expression = expression.as_str().context("an alert has an expression")?;
        assert_none(&rules::unmeasured(expression, &measured));
    }
    assert_eq!(
        rules::unmeasured("rate(catalyst_relay_lags_total[5m])", &measured).len(),
        1
    );
    Ok(())
}

#[test]
fn the_dockerfile_passes_its_linter() -> anyhow::Result<()> {
    let dockerfile = read(&repository().join("deploy/Dockerfile"))?;
    tools::lint_dockerfile(&dockerfile)?;
    assert!(tools::lint_dockerfile(&dockerfile.replace("rust:1.95-bookworm", "rust")).is_err());
    Ok(())
}

#[test]
fn the_image_is_built_with_the_rust_of_the_workspace() -> anyhow::Result<()> {
    let manifest = read(&repository().join("Cargo.toml"))?;
    let version = manifest
        .lines()
        .find_map(|line| line.strip_prefix("rust-version = \"")?.strip_suffix('"'))
        .context("the workspace names its Rust")?;
    let dockerfile = read(&repository().join("deploy/Dockerfile"))?;
    assert!(dockerfile.contains(&format!("\nFROM rust:{version}-")));
    Ok(())
}

#[test]
fn every_image_of_compose_has_a_version() -> anyhow::Result<()> {
    for (service, container) in rules::entries(&compose()?["services"]) {
        assert!(
            rules::has_version(&container["image"]),
            "{service}: {}",
            container["image"]
        );
    }
    assert!(!rules::has_version(&json!("postgres")));
    assert!(!rules::has_version(&json!("nats:latest")));
    Ok(())
}

#[test]
fn nats_syncs_before_it_acknowledges() -> anyhow::Result<()> {
    let config = read(&repository().join("deploy/nats/common.conf"))?;
    assert!(
        config
            .lines()
            .any(|line| line.trim() == "sync_interval: always")
    );
    Ok(())
}

fn objects(overlay: &str) -> anyhow::Result<Vec<Value>> {
    yaml(&tools::build(overlay)?)
}

fn compose() -> anyhow::Result<Value> {
    let documents = yaml(&read(&repository().join("deploy/compose.yaml"))?)?;
    documents
        .into_iter()
        .next()
        .context("compose.yaml is empty")
}

/// The folders of the services, which are also their names.
fn services() -> anyhow::Result<BTreeSet<String>> {
    let mut services = BTreeSet::new();
    for folder in repository().join("services").read_dir()? {
        services.insert(folder?.file_name().to_string_lossy().into_owned());
    }
    for other in ["kit", "catalyst"] {
        ensure!(services.remove(other), "services/{other} was not found");
    }
    Ok(services)
}

/// The service that a container's arguments start.
fn served(arguments: &Value) -> Option<String> {
    match arguments.as_array()?.as_slice() {
        [verb, service] if verb == "serve" => service.as_str().map(str::to_owned),
        _ => None,
    }
}

/// The objects with one field of the first Deployment's pod changed.
fn planted(objects: &[Value], field: &str, value: Value) -> anyhow::Result<Vec<Value>> {
    let mut objects = objects.to_vec();
    let field = format!("/spec/template/spec/{field}");
    let place = objects
        .iter_mut()
        .find(|object| object["kind"] == "Deployment")
        .and_then(|deployment| deployment.pointer_mut(&field))
        .with_context(|| format!("no Deployment has {field}"))?;
    *place = value;
    Ok(objects)
}

#[track_caller]
fn assert_none(findings: &[String]) {
    assert!(findings.is_empty(), "{}", findings.join("\n"));
}
