//! The program as it runs in operation: its binary, built from this tree, and the environment of its processes.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use catalyst::deployment::Deployment;
use catalyst::keys::DEVELOPMENT_ISSUER;

static BINARY: OnceLock<PathBuf> = OnceLock::new();

/// The program, built from this tree in the profile that its caller has.
pub fn binary() -> &'static Path {
    BINARY.get_or_init(|| {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--package", "catalyst"]);
        build.args(["--bin", "catalyst"]);
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        let built = build.status().expect("cargo runs");
        assert!(built.success(), "the program does not build");
        let own = std::env::current_exe().expect("this program's path");
        let profile = own
            .ancestors()
            .skip(1)
            .find(|folder| !folder.ends_with("deps"));
        profile.expect("target/PROFILE").join("catalyst")
    })
}

/// What `catalyst serve` needs to be a process on these servers, on ports that the system chooses.
pub fn environment(deployment: &Deployment) -> Vec<(&'static str, String)> {
    let (stack, keys) = (&deployment.stack, &deployment.keys);
    let text = |path: PathBuf| path.to_string_lossy().into_owned();
    vec![
        ("CATALYST_LISTEN", "127.0.0.1:0".to_owned()),
        ("CATALYST_ADMIN_LISTEN", "127.0.0.1:0".to_owned()),
        ("CATALYST_DATABASE_URL", stack.database_url.clone()),
        ("CATALYST_DATABASE_PASSWORD_DIR", text(keys.password_dir())),
        ("CATALYST_NATS_URL", stack.nats_url.clone()),
        (
            "CATALYST_NATS_CREDENTIALS_DIR",
            text(stack.credentials_dir.clone()),
        ),
        ("CATALYST_NATS_MONITOR_URLS", stack.nats_monitor_url.clone()),
        ("CATALYST_AUTH_ISSUER", DEVELOPMENT_ISSUER.to_owned()),
        ("CATALYST_AUTH_JWKS", text(keys.issuer_jwks())),
        ("CATALYST_WORKLOAD_JWKS", text(keys.workload_jwks())),
        ("CATALYST_WORKLOAD_KEY_DIR", text(keys.workload_dir())),
        ("CATALYST_PAGE_TOKEN_KEY_FILE", text(keys.page_token_key())),
        (
            "CATALYST_AUDIT_CHECKPOINT_KEY_FILE",
            text(keys.checkpoint_key()),
        ),
        // They are opened at the start, and many processes share the server of the tests.
        ("CATALYST_DATABASE_MAX_CONNECTIONS", "4".to_owned()),
        ("CATALYST_LOG", "off".to_owned()),
    ]
}
