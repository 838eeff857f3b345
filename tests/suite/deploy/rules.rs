//! What holds for every manifest, as functions over the objects, so that each can be seen to fail on a planted fault.
//! They return findings, each of which names the object and the fault.
#![expect(
    clippy::indexing_slicing,
    reason = "a field that a JSON value lacks reads as null"
)]

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

const GRPC: u64 = 7400;
/// The seconds after which a process that was told to stop ends by itself.
const HARD_STOP: u64 = 15;
/// The keys that every service mounts beside those that carry its own name.
const SHARED_KEYS: &[&str] = &["page-token.key"];
const AUDIT_KEYS: &[&str] = &[
    "auth-watch.creds",
    "audit_operator",
    "alert-webhook.secret",
    "audit-checkpoint.creds",
    "checkpoint.pem",
];

pub(super) fn of_kind<'a>(objects: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    objects.iter().filter(move |object| object["kind"] == kind)
}

pub(super) fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

pub(super) fn entries(object: &Value) -> impl Iterator<Item = (&str, &Value)> {
    object
        .as_object()
        .into_iter()
        .flat_map(Map::iter)
        .map(|(key, value)| (key.as_str(), value))
}

/// The one container of a Deployment or Job.
pub(super) fn container(workload: &Value) -> &Value {
    &workload["spec"]["template"]["spec"]["containers"][0]
}

/// Whether an image is named with a version.
pub(super) fn has_version(image: &Value) -> bool {
    let version = image.as_str().and_then(|image| image.rsplit_once(':'));
    version.is_some_and(|(_, version)| version.starts_with(|first: char| first.is_ascii_digit()))
}

/// Rights of a pod beyond the restricted pod security standard, and what keeps one pod from starving others.
pub(super) fn excessive_rights(objects: &[Value]) -> Vec<String> {
    let mut findings = Vec::new();
    for workload in of_kind(objects, "Deployment").chain(of_kind(objects, "Job")) {
        let pod = &workload["spec"]["template"]["spec"];
        let mut demand = |holds: bool, what: &str| {
            if !holds {
                findings.push(format!("{}: {what}", name(workload)));
            }
        };
        let user = &pod["securityContext"];
        demand(user["runAsNonRoot"] == true, "may run as root");
        demand(
            user["runAsUser"].as_u64() > Some(0),
            "has no user that is seen not to be root",
        );
        demand(
            user["seccompProfile"]["type"] == "RuntimeDefault",
            "may make every system call",
        );
        demand(
            pod["automountServiceAccountToken"] == false,
            "has a token of the cluster",
        );
        demand(
            pod["containers"]
                .as_array()
                .is_some_and(|all| all.len() == 1),
            "has more containers than one",
        );
        let container = container(workload);
        let rights = &container["securityContext"];
        demand(
            rights["allowPrivilegeEscalation"] == false,
            "may gain privileges",
        );
        demand(
            rights["readOnlyRootFilesystem"] == true,
            "may write to its own image",
        );
        demand(
            rights["capabilities"] == json!({ "drop": ["ALL"] }),
            "has capabilities",
        );
        demand(
            has_version(&container["image"]),
            "has an image without a version",
        );
        let resources = &container["resources"];
        let sized = ["requests", "limits"].iter().all(|bound| {
            resources[bound]["cpu"].is_string() && resources[bound]["memory"].is_string()
        });
        demand(sized, "does not say what it needs of processor and memory");
    }
    findings
}

/// Services that Kubernetes could not tell ready from stuck, or would kill while they drain.
pub(super) fn unprobed(objects: &[Value]) -> Vec<String> {
    let mut findings = Vec::new();
    for deployment in of_kind(objects, "Deployment") {
        let container = container(deployment);
        for probe in ["startupProbe", "readinessProbe"] {
            if container[probe]["httpGet"]["path"] != "/readyz" {
                findings.push(format!("{}: no {probe} asks /readyz", name(deployment)));
            }
        }
        // One that drains is not ready, and must not be killed for it.
        if container["livenessProbe"]["httpGet"]["path"] != "/livez" {
            findings.push(format!(
                "{}: no livenessProbe asks /livez",
                name(deployment)
            ));
        }
        let grace = &deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"];
        if grace.as_u64() <= Some(HARD_STOP) {
            findings.push(format!(
                "{}: killed before its own hard stop",
                name(deployment)
            ));
        }
    }
    findings
}

/// Services with one replica, or with none that a drain of nodes has to spare.
pub(super) fn fragile(objects: &[Value]) -> Vec<String> {
    let budgets: Vec<_> = of_kind(objects, "PodDisruptionBudget")
        .map(|budget| &budget["spec"]["selector"])
        .collect();
    let mut findings = Vec::new();
    for deployment in of_kind(objects, "Deployment") {
        if deployment["spec"]["replicas"].as_u64() < Some(2) {
            findings.push(format!("{}: one replica", name(deployment)));
        }
        let pod = &deployment["spec"]["template"]["metadata"]["labels"];
        if !budgets.iter().any(|selector| selects(selector, pod)) {
            findings.push(format!("{}: no disruption budget", name(deployment)));
        }
    }
    findings
}

/// Services that can read a secret which is not theirs.
pub(super) fn foreign_secrets(objects: &[Value]) -> Vec<String> {
    let mut findings = Vec::new();
    for deployment in of_kind(objects, "Deployment") {
        let service = name(deployment);
        let mut report = |what: String| findings.push(format!("{service}: {what}"));
        for volume in list(&deployment["spec"]["template"]["spec"]["volumes"]) {
            let secret = &volume["secret"];
            if secret.is_null() {
                continue;
            }
            if secret["secretName"] == "cells" {
                // URLs without a password, the same for all services; whole, so that a cell that is added arrives.
                if secret["optional"] != true || secret["defaultMode"] != 0o400 {
                    report(
                        "does not start without dedicated cells, or shows others where they are"
                            .to_owned(),
                    );
                }
                continue;
            }
            let is_certificate = secret["secretName"] == format!("{service}-tls");
            if secret["secretName"] != service && !is_certificate {
                report(format!("mounts the secret {}", secret["secretName"]));
            }
            if secret["defaultMode"] != 0o400 {
                report("has secrets that others in the container may read".to_owned());
            }
            // Without a list of items every key would be mounted, those of tomorrow too.
            if list(&secret["items"]).is_empty() {
                report("does not say which keys it mounts".to_owned());
            }
            for item in list(&secret["items"]) {
                let key = item["key"].as_str().unwrap_or_default();
                let owned = if is_certificate {
                    ["tls.crt", "tls.key"].contains(&key)
                } else {
                    owned_keys(service).contains(key)
                };
                if item["path"] != key || !owned {
                    report(format!("mounts the key {key} as {}", item["path"]));
                }
            }
        }
        let container = container(deployment);
        let sources = list(&container["envFrom"])
            .iter()
            .map(|source| &source["secretRef"]);
        let variables = list(&container["env"])
            .iter()
            .map(|it| &it["valueFrom"]["secretKeyRef"]);
        if sources.chain(variables).any(|secret| !secret.is_null()) {
            report("has a secret in its environment".to_owned());
        }
    }
    findings
}

/// Settings by which something would be spoken in plaintext beyond a pod.
pub(super) fn plaintext(objects: &[Value]) -> Vec<String> {
    let settings: BTreeMap<&str, &str> = of_kind(objects, "ConfigMap")
        .flat_map(|object| entries(&object["data"]))
        .filter_map(|(name, value)| Some((name, value.as_str()?)))
        .collect();
    let of = |name: &str| settings.get(name).copied().unwrap_or_default();
    if of("CATALYST_ALLOW_PLAINTEXT") == "true" {
        return vec!["CATALYST_ALLOW_PLAINTEXT is true".to_owned()];
    }
    let mut findings = Vec::new();
    for name in [
        "CATALYST_TLS_CERT_FILE",
        "CATALYST_TLS_KEY_FILE",
        "CATALYST_TLS_CA_FILE",
        "CATALYST_NATS_CA_FILE",
        "CATALYST_DATABASE_CA_FILE",
    ] {
        if of(name).is_empty() {
            findings.push(format!("{name} is missing"));
        }
    }
    for (name, value) in &settings {
        let plain = value.contains("http://") || value.contains("nats://");
        let unverified = value.contains("postgres://") && !value.ends_with("?sslmode=verify-full");
        if plain || unverified {
            findings.push(format!("{name} is {value}"));
        }
    }
    findings
}

/// The secrets and keys that a Deployment mounts.
pub(super) fn mounted_secrets(deployment: &Value) -> Vec<(&str, &str)> {
    let volumes = list(&deployment["spec"]["template"]["spec"]["volumes"]);
    volumes
        .iter()
        .map(|volume| &volume["secret"])
        .flat_map(|secret| {
            list(&secret["items"])
                .iter()
                .filter_map(|item| Some((secret["secretName"].as_str()?, item["key"].as_str()?)))
        })
        .collect()
}

/// Which service may call which, by what the policies of both allow; a pod that no policy selects is open.
pub(super) fn ways(objects: &[Value]) -> Vec<(&str, &str)> {
    let services: Vec<_> = of_kind(objects, "Deployment")
        .map(|it| (name(it), &it["spec"]["template"]["metadata"]["labels"]))
        .collect();
    let mut ways = Vec::new();
    for (from, caller) in &services {
        for (to, called) in &services {
            if from != to
                && allows(objects, ("Egress", "egress", "to"), caller, called)
                && allows(objects, ("Ingress", "ingress", "from"), called, caller)
            {
                ways.push((*from, *to));
            }
        }
    }
    ways
}

/// Policies that open a way to or from any address, or anybody.
pub(super) fn open_policies(objects: &[Value]) -> Vec<&str> {
    let open = |rule: &Value| {
        let peers = [&rule["from"], &rule["to"]].map(list).concat();
        let unbound = |peer: &Value| {
            !peer["ipBlock"].is_null()
                || [&peer["podSelector"], &peer["namespaceSelector"]]
                    .iter()
                    .all(|selector| list_of_terms(selector).is_empty())
        };
        peers.is_empty() || peers.iter().any(unbound)
    };
    of_kind(objects, "NetworkPolicy")
        .filter(|policy| {
            let spec = &policy["spec"];
            [&spec["ingress"], &spec["egress"]]
                .map(list)
                .concat()
                .iter()
                .any(open)
        })
        .map(name)
        .collect()
}

/// Names of settings in a text of any kind.
pub(super) fn settings(text: &str) -> BTreeSet<String> {
    const PREFIX: &str = "CATALYST_";
    let tails = text.split(PREFIX).skip(1).map(|rest| {
        let end = rest
            .find(|c: char| !(c.is_ascii_uppercase() || c == '_'))
            .unwrap_or(rest.len());
        rest.split_at(end).0
    });
    tails
        .filter(|tail| !tail.is_empty())
        .map(|tail| format!("{PREFIX}{tail}"))
        .collect()
}

/// Metrics of ours in an expression that no instrument makes.
pub(super) fn unmeasured(expression: &str, measured: &BTreeSet<String>) -> Vec<String> {
    const SUFFIXES: &[&str] = &[
        "",
        "_total",
        "_seconds",
        "_seconds_bucket",
        "_seconds_count",
        "_seconds_sum",
    ];
    let known: BTreeSet<_> = measured
        .iter()
        .flat_map(|name| SUFFIXES.iter().map(move |end| format!("{name}{end}")))
        .collect();
    // A label's name stands before `=`, within braces.
    let selectors = expression
        .split('{')
        .filter_map(|part| part.rsplit('}').next());
    selectors
        .flat_map(|part| part.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')))
        .filter(|word| word.starts_with("catalyst_") || word.starts_with("rpc_"))
        .filter(|word| !known.contains(*word))
        .map(str::to_owned)
        .collect()
}

fn owned_keys(service: &str) -> BTreeSet<String> {
    let role = service.replace('-', "_");
    let mut keys = BTreeSet::from([
        format!("{role}_app"),
        format!("{role}_relay"),
        format!("{service}.creds"),
        format!("{service}.pem"),
    ]);
    keys.extend(SHARED_KEYS.iter().map(ToString::to_string));
    if service == "audit" {
        keys.extend(AUDIT_KEYS.iter().map(ToString::to_string));
    }
    keys
}

/// Whether the policies that select a pod allow gRPC with a peer in the same namespace.
fn allows(objects: &[Value], way: (&str, &str, &str), pod: &Value, peer: &Value) -> bool {
    let (kind, rules, peers) = way;
    let mut policies = of_kind(objects, "NetworkPolicy")
        .map(|policy| &policy["spec"])
        .filter(|spec| list(&spec["policyTypes"]).iter().any(|it| it == kind))
        .filter(|spec| selects(&spec["podSelector"], pod))
        .peekable();
    policies.peek().is_none()
        || policies.flat_map(|spec| list(&spec[rules])).any(|rule| {
            let ports = list(&rule["ports"]);
            let port = ports.is_empty() || ports.iter().any(|it| it["port"] == GRPC);
            let all = list(&rule[peers]);
            let in_namespace = |it: &Value| {
                it["namespaceSelector"].is_null()
                    && it["ipBlock"].is_null()
                    && selects(&it["podSelector"], peer)
            };
            port && (all.is_empty() || all.iter().any(in_namespace))
        })
}

/// Whether a label selector matches; one without terms matches everything.
fn selects(selector: &Value, labels: &Value) -> bool {
    let expressions = list(&selector["matchExpressions"]).iter().all(|term| {
        let label = &labels[term["key"].as_str().unwrap_or_default()];
        list(&term["values"]).contains(label) == (term["operator"] == "In")
    });
    expressions && entries(&selector["matchLabels"]).all(|(key, value)| labels[key] == *value)
}

fn list_of_terms(selector: &Value) -> Vec<Value> {
    let labels = entries(&selector["matchLabels"]).map(|(key, _)| json!(key));
    labels
        .chain(list(&selector["matchExpressions"]).iter().cloned())
        .collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
