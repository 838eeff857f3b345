//! A connection to the deployment as one caller; every call carries its token, its tenant and a deadline.

use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use kit::TenantId;
use kit::wire::Plaintext;
use proto::audit::v1::audit_operator_service_client::AuditOperatorServiceClient;
use proto::audit::v1::audit_service_client::AuditServiceClient;
use proto::consultants::v1::consultant_service_client::ConsultantServiceClient;
use proto::projects::v1::project_service_client::ProjectServiceClient;
use proto::tenants::v1::tenant_service_client::TenantServiceClient;
use proto::time_entries::v1::time_entry_service_client::TimeEntryServiceClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status};

use super::bearer::Bearer;
use super::error::{Unavailable, Usage};

const DEADLINE: Duration = Duration::from_secs(10);
const CONNECT: Duration = Duration::from_secs(5);
/// A server that says nothing for this long is gone.
const SILENCE: Duration = Duration::from_secs(10);
/// A page of 500 audit records with their bodies stays below this.
const MAX_ANSWER_BYTES: usize = 32 * 1024 * 1024;

/// What a server is known by, what it is shown, and whether it may be called in plaintext.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Tls {
    /// File with the authorities (PEM) that the certificate of an https URL is verified by.
    #[arg(
        long,
        env = "CATALYST_TLS_CA_FILE",
        value_name = "FILE",
        global = true,
        help_heading = "Client"
    )]
    ca_file: Option<PathBuf>,
    /// File with the certificate chain (PEM) to show to a server that asks for one.
    #[arg(
        long,
        env = "CATALYST_TLS_CLIENT_CERT_FILE",
        value_name = "FILE",
        global = true,
        help_heading = "Client"
    )]
    client_cert_file: Option<PathBuf>,
    /// File with the private key (PEM) of that certificate.
    #[arg(
        long,
        env = "CATALYST_TLS_CLIENT_KEY_FILE",
        value_name = "FILE",
        global = true,
        help_heading = "Client"
    )]
    client_key_file: Option<PathBuf>,
    /// Send the token in plaintext beyond this machine. Only where something else encrypts it.
    #[arg(long, env = "CATALYST_ALLOW_PLAINTEXT", default_value_t = false, action = clap::ArgAction::Set,
          value_name = "BOOL", global = true, help_heading = "Client")]
    plaintext: bool,
}

impl Tls {
    /// Where plaintext may go.
    pub(super) fn plaintext(&self) -> Plaintext {
        Plaintext {
            allow_plaintext: self.plaintext,
        }
    }

    fn config(&self) -> anyhow::Result<ClientTlsConfig> {
        let read = |path: &Path| {
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
        };
        let authorities = self.ca_file.as_deref().ok_or_else(|| {
            Usage::new(
                "an https URL needs --ca-file: the authorities that its certificate is verified by",
            )
        })?;
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(authorities)?));
        match (&self.client_cert_file, &self.client_key_file) {
            (None, None) => Ok(tls),
            (Some(cert), Some(key)) => {
                Ok(tls.identity(Identity::from_pem(read(cert)?, read(key)?)))
            }
            _ => Err(Usage::new("--client-cert-file and --client-key-file go together").into()),
        }
    }
}

/// What the generated clients speak through.
pub(crate) type Wire = InterceptedService<Channel, Caller>;

/// Adds to each call who makes it.
#[derive(Clone)]
pub(crate) struct Caller {
    authorization: MetadataValue<Ascii>,
    tenant: MetadataValue<Ascii>,
    deadline: Option<Duration>,
}

impl Interceptor for Caller {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata_mut();
        metadata.insert("authorization", self.authorization.clone());
        metadata.insert("x-tenant-id", self.tenant.clone());
        if let Some(deadline) = self.deadline {
            request.set_timeout(deadline);
        }
        Ok(request)
    }
}

/// A connection as one caller.
#[derive(Clone)]
pub(crate) struct Client {
    /// The tenant that every call is made in.
    pub(crate) tenant: TenantId,
    wire: Wire,
    streams: Wire,
}

impl Client {
    pub(super) async fn connect(
        url: &str,
        tls: &Tls,
        token: &Bearer,
        tenant: TenantId,
    ) -> anyhow::Result<Self> {
        let mut authorization: MetadataValue<Ascii> =
            format!("Bearer {}", token.text()).parse().map_err(|_| {
                Usage::new("the token is not one line of ASCII: give it as it was issued")
            })?;
        authorization.set_sensitive(true);
        let caller = Caller {
            authorization,
            tenant: tenant.to_string().parse()?,
            deadline: Some(DEADLINE),
        };
        let channel = endpoint(url, tls)?
            .connect()
            .await
            .map_err(|error| not_reached(url, &error))?;
        let unbounded = Caller {
            deadline: None,
            ..caller.clone()
        };
        Ok(Self {
            tenant,
            wire: InterceptedService::new(channel.clone(), caller),
            streams: InterceptedService::new(channel, unbounded),
        })
    }

    /// The control plane.
    pub(crate) fn tenants(&self) -> TenantServiceClient<Wire> {
        TenantServiceClient::new(self.wire.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    /// People.
    pub(crate) fn consultants(&self) -> ConsultantServiceClient<Wire> {
        ConsultantServiceClient::new(self.wire.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    /// Clients, projects, assignments.
    pub(crate) fn projects(&self) -> ProjectServiceClient<Wire> {
        ProjectServiceClient::new(self.wire.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    /// Recorded time.
    pub(crate) fn time_entries(&self) -> TimeEntryServiceClient<Wire> {
        TimeEntryServiceClient::new(self.wire.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    /// Imports, which take as long as they take.
    pub(crate) fn imports(&self) -> TimeEntryServiceClient<Wire> {
        TimeEntryServiceClient::new(self.streams.clone())
            .max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    /// The tenant's log and alerts.
    pub(crate) fn audit(&self) -> AuditServiceClient<Wire> {
        AuditServiceClient::new(self.wire.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    /// Watches of the log, which have no end.
    pub(crate) fn watches(&self) -> AuditServiceClient<Wire> {
        AuditServiceClient::new(self.streams.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    /// The logs and alerts of all tenants.
    pub(crate) fn audit_operator(&self) -> AuditOperatorServiceClient<Wire> {
        AuditOperatorServiceClient::new(self.wire.clone())
            .max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    /// Exports of whole logs, which take as long as they take.
    pub(crate) fn exports(&self) -> AuditOperatorServiceClient<Wire> {
        AuditOperatorServiceClient::new(self.streams.clone())
            .max_decoding_message_size(MAX_ANSWER_BYTES)
    }
}

fn endpoint(url: &str, tls: &Tls) -> anyhow::Result<Endpoint> {
    let is_tls = url.starts_with("https://");
    if !is_tls && !url.starts_with("http://") {
        let problem = format!("{url} is no URL of a server: write it like http://127.0.0.1:7400");
        return Err(Usage::new(problem).into());
    }
    let mut endpoint = Endpoint::from_shared(url.to_owned())
        .map_err(|_| {
            Usage::new(format!(
                "{url} is no URL: write it like http://127.0.0.1:7400"
            ))
        })?
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(SILENCE)
        .keep_alive_timeout(SILENCE)
        .tcp_nodelay(true);
    if is_tls {
        endpoint = endpoint
            .tls_config(tls.config()?)
            .context("the files of certificates or the key cannot be used")?;
    } else {
        tls.plaintext().check_url("CATALYST_URL", url)?;
    }
    Ok(endpoint)
}

/// A server whose certificate is not the right one is there all the same.
fn not_reached(url: &str, error: &tonic::transport::Error) -> Unavailable {
    let mut cause = error.source();
    while let Some(found) = cause {
        if let Some(io) = found.downcast_ref::<std::io::Error>()
            && let Some(tls) = io
                .get_ref()
                .and_then(|it| it.downcast_ref::<rustls::Error>())
        {
            return Unavailable::new(format!(
                "no TLS with {url}: {tls}; check --ca-file, the name in the URL and the client certificate"
            ));
        }
        cause = found.source();
    }
    Unavailable::nothing_at(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_that_cannot_be_used_is_a_usage_error() {
        for url in ["127.0.0.1:7400", "nats://x:1", "http://", "https://x:1"] {
            let error = endpoint(url, &Tls::default()).err().unwrap();
            assert_eq!(super::super::exit_code(&error), 64, "{url}: {error}");
        }
    }

    #[test]
    fn a_token_goes_beyond_this_machine_in_plaintext_only_when_that_is_said() {
        let far = |plaintext| {
            let tls = Tls {
                plaintext,
                ..Default::default()
            };
            endpoint("http://catalyst.example:7400", &tls)
        };
        let refused = far(false).err().unwrap();
        assert!(refused.to_string().contains("CATALYST_ALLOW_PLAINTEXT"));
        assert!(far(true).is_ok());
        assert!(endpoint("http://localhost:7400", &Tls::default()).is_ok());
    }
}
