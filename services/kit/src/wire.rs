//! How the process speaks over the network: its certificates, and where plaintext may go.
//!
//! Invariant: nothing is sent or served in plaintext beyond this machine unless the operator has said so in words;
//! the keys that tell who is who never are.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use sqlx::postgres::{PgConnectOptions, PgSslMode};

use crate::settings::{DatabaseSettings, IdentitySettings, NatsSettings, Settings, SettingsError};

/// Certificates of the gRPC server and of calls to other services. Files are read again when they change.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct WireSettings {
    /// File with the certificate chain (PEM) of the gRPC server. None: plaintext, for this machine alone.
    #[arg(long, env = "CATALYST_TLS_CERT_FILE")]
    pub tls_cert_file: Option<PathBuf>,
    /// File with the private key (PEM) of that certificate.
    #[arg(long, env = "CATALYST_TLS_KEY_FILE")]
    pub tls_key_file: Option<PathBuf>,
    /// File with the authorities (PEM) of client certificates: a caller without one of theirs gets no connection.
    #[arg(long, env = "CATALYST_TLS_CLIENT_CA_FILE")]
    pub tls_client_ca_file: Option<PathBuf>,
    /// File with the authorities (PEM) that other services' certificates are verified by.
    #[arg(long, env = "CATALYST_TLS_CA_FILE")]
    pub tls_ca_file: Option<PathBuf>,
    /// File with the certificate chain (PEM) that this process calls other services with.
    #[arg(long, env = "CATALYST_TLS_CLIENT_CERT_FILE")]
    pub tls_client_cert_file: Option<PathBuf>,
    /// File with the private key (PEM) of that certificate.
    #[arg(long, env = "CATALYST_TLS_CLIENT_KEY_FILE")]
    pub tls_client_key_file: Option<PathBuf>,
    /// Where plaintext may go.
    #[command(flatten)]
    pub plaintext: Plaintext,
}

/// Where plaintext may go: over the loopback addresses, and beyond only when that is said.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct Plaintext {
    /// Allow plaintext beyond this machine. Only where something else encrypts it, such as a mesh.
    #[arg(long, env = "CATALYST_ALLOW_PLAINTEXT", default_value_t = false, action = clap::ArgAction::Set)]
    pub allow_plaintext: bool,
}

impl Settings {
    /// Refuses every wire that would carry plaintext beyond this machine. The admin address is exempt: probes and
    /// scrapers reach it, and it tells numbers and no tenant's rows.
    pub fn check_wires(&self) -> Result<(), SettingsError> {
        let plaintext = self.wire.plaintext;
        plaintext.check_listen(self.listen.listen, self.wire.tls_cert_file.is_some())?;
        plaintext.check_database(&self.database)?;
        plaintext.check_nats(&self.nats)?;
        check_key_sets(&self.identity)
    }
}

impl Plaintext {
    fn check_listen(self, listen: SocketAddr, encrypted: bool) -> Result<(), SettingsError> {
        if encrypted || self.allow_plaintext || listen.ip().is_loopback() {
            return Ok(());
        }
        Err(SettingsError::new(
            "CATALYST_LISTEN",
            format!(
                "{listen} would be served in plaintext beyond this machine: set CATALYST_TLS_CERT_FILE and \
                 CATALYST_TLS_KEY_FILE, or CATALYST_ALLOW_PLAINTEXT=true where something else encrypts"
            ),
        ))
    }

    /// Refuses a database that is reached in plaintext, or without being known by its certificate and name.
    pub fn check_database(self, settings: &DatabaseSettings) -> Result<(), SettingsError> {
        self.check_database_url("CATALYST_DATABASE_URL", &settings.database_url)
    }

    /// As [`Plaintext::check_database`], for the URL of any role.
    pub fn check_database_url(
        self,
        variable: &'static str,
        url: &str,
    ) -> Result<(), SettingsError> {
        let options = database_options(variable, url)?;
        let host = options.get_host();
        let near = options.get_socket().is_some() || host.starts_with('/') || is_this_machine(host);
        if near || is_verified(&options) || self.allow_plaintext {
            return Ok(());
        }
        Err(SettingsError::new(
            variable,
            format!(
                "PostgreSQL at {host} would be reached without verified TLS: add ?sslmode=verify-full to the URL and \
                 set CATALYST_DATABASE_CA_FILE, or CATALYST_ALLOW_PLAINTEXT=true where something else encrypts"
            ),
        ))
    }

    /// Refuses a broker, or a monitoring endpoint whose word on syncing is trusted, that is reached in plaintext.
    pub fn check_nats(self, settings: &NatsSettings) -> Result<(), SettingsError> {
        self.check_nats_urls(&settings.nats_url)?;
        for url in &settings.nats_monitor_urls {
            self.check_url("CATALYST_NATS_MONITOR_URLS", url)?;
        }
        Ok(())
    }

    /// As [`Plaintext::check_nats`], for clients that ask no monitoring endpoint.
    pub fn check_nats_urls(self, urls: &str) -> Result<(), SettingsError> {
        for url in urls.split(',').map(str::trim) {
            let (scheme, rest) = url.split_once("://").unwrap_or(("nats", url));
            if !matches!(scheme, "tls" | "wss") {
                self.check_host(
                    "CATALYST_NATS_URL",
                    "NATS",
                    host_of(rest),
                    "write tls:// and set CATALYST_NATS_CA_FILE",
                )?;
            }
        }
        Ok(())
    }

    /// Refuses an http URL beyond this machine.
    pub fn check_url(self, variable: &'static str, url: &str) -> Result<(), SettingsError> {
        match url.trim().split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => {
                self.check_host(variable, url, host_of(rest), "write https://")
            }
            _ => Ok(()),
        }
    }

    fn check_host(
        self,
        variable: &'static str,
        what: &str,
        host: &str,
        remedy: &str,
    ) -> Result<(), SettingsError> {
        if self.allow_plaintext || is_this_machine(host) {
            return Ok(());
        }
        Err(SettingsError::new(
            variable,
            format!(
                "{what} would be spoken to in plaintext beyond this machine, at {host}: {remedy}, or set \
                 CATALYST_ALLOW_PLAINTEXT=true where something else encrypts"
            ),
        ))
    }
}

/// Whoever can change a key set on its way can be anyone, so no mesh and no word of the operator is enough here.
fn check_key_sets(settings: &IdentitySettings) -> Result<(), SettingsError> {
    for (variable, source) in [
        ("CATALYST_AUTH_JWKS", &settings.auth_jwks),
        ("CATALYST_WORKLOAD_JWKS", &settings.workload_jwks),
    ] {
        let Some(rest) = source.strip_prefix("http://") else {
            continue;
        };
        if !is_this_machine(host_of(rest)) {
            return Err(SettingsError::new(
                variable,
                format!(
                    "{source} would be read in plaintext: use an https URL, or a file that something you trust writes"
                ),
            ));
        }
    }
    Ok(())
}

/// The options that a PostgreSQL URL stands for.
pub(crate) fn database_options(
    variable: &'static str,
    url: &str,
) -> Result<PgConnectOptions, SettingsError> {
    PgConnectOptions::from_str(url).map_err(|_| {
        SettingsError::new(
            variable,
            "is not a PostgreSQL URL: use postgres://HOST:PORT/DATABASE",
        )
    })
}

/// Whether the server must prove by its certificate that it is the one that the URL names.
pub(crate) fn is_verified(options: &PgConnectOptions) -> bool {
    matches!(options.get_ssl_mode(), PgSslMode::VerifyFull)
}

/// The broker's addresses.
pub(crate) fn nats_urls(settings: &NatsSettings) -> impl Iterator<Item = &str> {
    settings.nats_url.split(',').map(str::trim)
}

/// The host in what follows `scheme://`.
fn host_of(rest: &str) -> &str {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    match host.strip_prefix('[').and_then(|host| host.split_once(']')) {
        Some((address, _)) => address,
        None => host.split(':').next().unwrap_or_default(),
    }
}

/// Whether nothing sent there leaves this machine.
pub fn is_this_machine(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_loopback_addresses_are_this_machine() {
        for host in ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost"] {
            assert!(is_this_machine(host), "{host}");
        }
        for host in [
            "0.0.0.0",
            "::",
            "10.0.0.1",
            "127.0.0.1.example",
            "localhost.example",
            "",
        ] {
            assert!(!is_this_machine(host), "{host}");
        }
    }

    #[test]
    fn the_host_is_what_is_connected_to_and_not_what_stands_before_it() {
        for (rest, host) in [
            ("nats:4222", "nats"),
            ("127.0.0.1@far:4222", "far"),
            ("u:p@far/127.0.0.1", "far"),
            ("[::1]:4222", "::1"),
            ("far?x=@localhost", "far"),
        ] {
            assert_eq!(host_of(rest), host, "{rest}");
        }
    }

    #[test]
    fn http_far_away_needs_the_operators_word() {
        let check = |allow_plaintext, url| {
            Plaintext { allow_plaintext }
                .check_url("VARIABLE", url)
                .is_ok()
        };
        assert!(check(false, "http://localhost:1/x"));
        assert!(check(false, "https://far/x"));
        assert!(!check(false, "http://far/x"));
        assert!(!check(false, " HTTP://far/x"));
        assert!(check(true, "http://far/x"));
    }
}
