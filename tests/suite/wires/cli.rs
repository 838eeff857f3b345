//! The command line over TLS: it believes the right server alone, shows its certificate, and says what is wrong.

use std::path::Path;
use std::process::Output;

use harness::{Firm, binary, host, settings, token_with};

use super::certificates::{Authority, Folder};

/// Lists the firm's consultants at a URL, with further arguments.
async fn lists(firm: &Firm, url: &str, more: &[(&str, &Path)]) -> Output {
    let mut command = tokio::process::Command::new(binary());
    command
        .env_clear()
        .args([
            "--url",
            url,
            "--token",
            &token_with(firm.id, "kim", &["admin"]),
        ])
        .args(["consultants", "list"]);
    for (name, path) in more {
        command.arg(name).arg(path);
    }
    command.output().await.expect("the program runs")
}

#[tokio::test]
async fn the_command_line_calls_over_tls_and_says_why_it_does_not() {
    let folder = Folder::new();
    let firm = Firm::new("Commanding").await;
    let (authority, callers) = (Authority::new("own"), Authority::new("callers"));
    let server = authority.writes(&folder.0, "server", &["localhost"]);
    let mut settings = settings();
    settings.wire.tls_cert_file = Some(server.cert);
    settings.wire.tls_key_file = Some(server.key);
    settings.wire.tls_client_ca_file = Some(callers.file(&folder.0, "callers.crt"));
    let host = host(&settings, &["consultants"]).await.expect("it starts");
    let url = format!("https://localhost:{}", host.address.port());
    let trusted = authority.file(&folder.0, "authority.crt");
    let foreign = Authority::new("foreign").file(&folder.0, "foreign.crt");
    let own = callers.writes(&folder.0, "own", &["kim"]);
    let shown = [
        ("--ca-file", trusted.as_path()),
        ("--client-cert-file", own.cert.as_path()),
        ("--client-key-file", own.key.as_path()),
    ];

    let listed = lists(&firm, &url, &shown).await;
    let said = String::from_utf8_lossy(&listed.stderr).into_owned();
    assert_eq!(listed.status.code(), Some(0), "{said}");

    let doubted = [("--ca-file", foreign.as_path()), shown[1], shown[2]];
    let plain = url.replace("https://", "http://");
    let far = "http://catalyst.example:7400";
    for (url, more, code, names) in [
        (url.as_str(), &doubted[..], 69, "certificate"),
        (url.as_str(), &shown[..1], 69, ""),
        (url.as_str(), &[][..], 64, "--ca-file"),
        (url.as_str(), &shown[..2], 64, "--client-key-file"),
        (plain.as_str(), &[][..], 69, ""),
        (far, &[][..], 64, "CATALYST_ALLOW_PLAINTEXT"),
    ] {
        let refused = lists(&firm, url, more).await;
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(code), "{url} {more:?}: {said}");
        assert!(said.contains(names), "{said}");
    }
    host.stop().await;
}
