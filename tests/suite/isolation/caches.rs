//! What services remember between calls: each place is listed with what keeps one tenant's from another, and a place that
//! is not listed fails.

use std::path::Path;

/// The file, what is remembered there, and why no tenant meets another's.
const REMEMBERED: &[(&str, &str, &str)] = &[
    (
        "kit/src/token.rs",
        "verified tokens",
        "keyed by the hash of the whole token, which names its tenant",
    ),
    (
        "kit/src/jwks.rs",
        "public keys",
        "of issuers; nothing of a tenant",
    ),
    (
        "kit/src/directory.rs",
        "states, plans and cells of tenants",
        "keyed by tenant; says active or suspended, a plan, the name of a cell, and no more",
    ),
    (
        "kit/src/cells.rs",
        "the dedicated cells",
        "keyed by the cell's name; which one is a tenant's is the directory's word",
    ),
    (
        "kit/src/security.rs",
        "counts of refusals",
        "keyed by tenant, or by address where no tenant is verified",
    ),
    (
        "kit/src/cache.rs",
        "resources that were read a moment ago",
        "keyed by the tenant of the context, its kind and its id; no key is made without a context",
    ),
    (
        "consultants/src/grpc.rs",
        "consultants that were read a moment ago",
        "the kit's cache; every role that may ask is shown the same",
    ),
    (
        "projects/src/grpc/mod.rs",
        "projects that were read a moment ago",
        "the kit's cache; every role that may ask is shown the same",
    ),
    (
        "kit/src/limits.rs",
        "rates of calls, and calls at work",
        "keyed by tenant",
    ),
    (
        "kit/src/shares.rs",
        "how much of what is bounded each tenant has",
        "keyed by tenant; a number",
    ),
    (
        "time-entries/src/grpc/chunks.rs",
        "whose imports are at work",
        "keyed by tenant; a lock around nothing",
    ),
    (
        "kit/src/usage.rs",
        "what tenants use",
        "keyed by tenant; for operators alone",
    ),
    (
        "kit/src/connections.rs",
        "counts of connections",
        "keyed by address, before anyone is verified; a count",
    ),
];

/// Types that remember things under a key.
const KEYED: [&str; 6] = [
    "Cache<",
    "HashMap<",
    "BTreeMap<",
    "DashMap<",
    "KeyedRateLimiter<",
    "LruCache<",
];

/// A line that keeps such a type in a struct or a static, as against using one for the length of a call.
fn remembers(line: &str) -> bool {
    let code = line.trim_start();
    let is_kept = code.contains("Mutex<")
        || code.contains("RwLock<")
        || (code.contains("Cache<") && !code.contains("&Cache<"))
        || code.contains("DashMap<")
        || code.contains("KeyedRateLimiter<")
        || code.starts_with("static ");
    is_kept
        && !code.starts_with("//")
        && !code.starts_with("fn ")
        && KEYED.iter().any(|it| code.contains(it))
}

fn sources(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|it| it == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn everything_that_is_remembered_between_calls_says_what_keeps_tenants_apart() {
    let services = Path::new(env!("CARGO_MANIFEST_DIR")).join("../services");
    let mut met = Vec::new();
    for service in [
        "kit",
        "tenants",
        "consultants",
        "projects",
        "time-entries",
        "audit",
    ] {
        let mut files = Vec::new();
        sources(&services.join(service).join("src"), &mut files);
        for file in files {
            let text = std::fs::read_to_string(&file).expect("a source");
            if !text.lines().any(remembers) {
                continue;
            }
            let name = file.strip_prefix(&services).expect("below the services");
            met.push(name.to_string_lossy().into_owned());
        }
    }
    for file in &met {
        assert!(
            REMEMBERED.iter().any(|(known, _, _)| known == file),
            "{file} remembers something under a key: say in suite/isolation/caches.rs what keeps tenants apart"
        );
    }
    for (file, what, _) in REMEMBERED {
        assert!(
            met.iter().any(|name| name == file),
            "{file} remembers no {what}"
        );
    }
}
