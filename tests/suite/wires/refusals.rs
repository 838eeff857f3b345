//! A process that would speak plaintext beyond this machine, or with certificates that do not fit, does not start.

use std::process::Output;

use super::certificates::{Authority, Folder};
use crate::binary::program::serve_command;

fn serve(changes: &[(&str, &str)]) -> Output {
    serve_command("projects", changes)
        .output()
        .expect("the program runs")
}

/// One line that names the variable and the remedy, and 64.
#[track_caller]
fn is_refused(changes: &[(&str, &str)], variable: &str, remedy: &str) {
    let output = serve(changes);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(64), "{changes:?}: {said}");
    assert_eq!(said.trim().lines().count(), 1, "more than one line: {said}");
    assert!(said.contains(&format!("{variable}: ")), "{said}");
    assert!(said.contains(remedy), "{said}");
}

#[tokio::test]
async fn plaintext_beyond_this_machine_is_refused_with_64_on_every_wire() {
    let far = "postgres://database.example:5432/catalyst";
    let weak = format!("{far}?sslmode=require");
    let unnamed = format!("{far}?sslmode=verify-ca");
    let plain = "CATALYST_ALLOW_PLAINTEXT=true";
    for (variable, value, remedy) in [
        ("CATALYST_LISTEN", "0.0.0.0:0", "CATALYST_TLS_CERT_FILE"),
        ("CATALYST_LISTEN", "[::]:0", plain),
        ("CATALYST_DATABASE_URL", far, "CATALYST_DATABASE_CA_FILE"),
        ("CATALYST_DATABASE_URL", &weak, "sslmode=verify-full"),
        ("CATALYST_DATABASE_URL", &unnamed, plain),
        ("CATALYST_NATS_URL", "nats://bus.example:4222", "tls://"),
        ("CATALYST_NATS_URL", "bus.example:4222", plain),
        (
            "CATALYST_NATS_URL",
            "tls://a.example:4222,nats://b.example:4222",
            "b.example",
        ),
        (
            "CATALYST_NATS_MONITOR_URLS",
            "http://bus.example:8222",
            "https://",
        ),
        (
            "CATALYST_AUTH_JWKS",
            "http://issuer.example/keys",
            "https URL",
        ),
        ("CATALYST_WORKLOAD_JWKS", "http://keys.example/keys", "file"),
        (
            "CATALYST_OTLP_ENDPOINT",
            "http://collector.example:4317",
            "https://",
        ),
        (
            "CATALYST_CONSULTANTS_URL",
            "http://consultants.example:7400",
            "https://",
        ),
    ] {
        is_refused(&[(variable, value)], variable, remedy);
    }
}

#[tokio::test]
async fn the_operators_word_allows_plaintext_but_never_for_key_sets() {
    is_refused(
        &[
            ("CATALYST_ALLOW_PLAINTEXT", "true"),
            ("CATALYST_AUTH_JWKS", "http://issuer.example/keys"),
        ],
        "CATALYST_AUTH_JWKS",
        "https URL",
    );
    // It gets further than the wires: to a broker that does not exist.
    let output = serve(&[
        ("CATALYST_ALLOW_PLAINTEXT", "true"),
        ("CATALYST_LISTEN", "0.0.0.0:0"),
        ("CATALYST_NATS_MONITOR_URLS", "http://bus.invalid:8222"),
    ]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(69), "{said}");
}

#[tokio::test]
async fn certificates_that_cannot_be_used_are_named_with_64() {
    let folder = Folder::new();
    let authority = Authority::new("own");
    let own = authority.writes(&folder.0, "own", &["localhost"]);
    let other = authority.writes(&folder.0, "other", &["localhost"]);
    let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
    let (cert, key) = (text(&own.cert), text(&own.key));
    let (other_key, missing) = (text(&other.key), text(&folder.0.join("missing")));
    let both = [
        ("CATALYST_TLS_CERT_FILE", cert.as_str()),
        ("CATALYST_TLS_KEY_FILE", key.as_str()),
    ];
    for (changes, variable, remedy) in [
        (vec![both[0]], "CATALYST_TLS_KEY_FILE", "go together"),
        (vec![both[1]], "CATALYST_TLS_CERT_FILE", "go together"),
        (
            vec![both[0], ("CATALYST_TLS_KEY_FILE", &other_key)],
            "CATALYST_TLS_KEY_FILE",
            "CATALYST_TLS_CERT_FILE",
        ),
        (
            vec![both[0], ("CATALYST_TLS_KEY_FILE", &cert)],
            "CATALYST_TLS_KEY_FILE",
            "PKCS#8",
        ),
        (
            vec![("CATALYST_TLS_CERT_FILE", &missing), both[1]],
            "CATALYST_TLS_CERT_FILE",
            "cannot read",
        ),
        (
            vec![both[0], both[1], ("CATALYST_TLS_CLIENT_CA_FILE", &key)],
            "CATALYST_TLS_CLIENT_CA_FILE",
            "no certificates",
        ),
        (
            vec![("CATALYST_TLS_CLIENT_CA_FILE", &cert)],
            "CATALYST_TLS_CLIENT_CA_FILE",
            "CATALYST_TLS_CERT_FILE",
        ),
        (
            vec![("CATALYST_TLS_CA_FILE", &missing)],
            "CATALYST_TLS_CA_FILE",
            "cannot read",
        ),
        (
            vec![("CATALYST_CONSULTANTS_URL", "https://localhost:1")],
            "CATALYST_TLS_CA_FILE",
            "CATALYST_CONSULTANTS_URL",
        ),
        (
            vec![both[0], both[1]],
            "CATALYST_CONSULTANTS_URL",
            "https://HOST:PORT",
        ),
        (
            vec![("CATALYST_DATABASE_CA_FILE", &cert)],
            "CATALYST_DATABASE_CA_FILE",
            "sslmode=verify-full",
        ),
        (
            vec![("CATALYST_NATS_CA_FILE", &missing)],
            "CATALYST_NATS_CA_FILE",
            "cannot read",
        ),
    ] {
        is_refused(&changes, variable, remedy);
    }
}
