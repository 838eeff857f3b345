//! A caller without retries: one call, one connection, one deadline, and the answer as bytes.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use catalyst::keys::Issuer;
use harness::RawMessages;
use kit::TenantId;
use kit::ctx::Clock;
use tonic::client::Grpc;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

/// The deadline of a call, which the server is told.
pub(crate) const DEADLINE: Duration = Duration::from_secs(3);
/// How long the answer is waited for beyond that, before the caller goes away.
const GRACE: Duration = Duration::from_millis(500);
const CONNECT: Duration = Duration::from_secs(1);
/// Longer than any run.
const TOKEN_SECONDS: i64 = 86_400;

/// Where each service is called: what a load balancer knows. Callers share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lines(Arc<RwLock<BTreeMap<&'static str, Vec<Line>>>>);

/// A connection to one process.
#[derive(Clone, Debug)]
struct Line {
    program: String,
    channel: Channel,
}

impl Lines {
    /// From now on callers may come to this process.
    pub(crate) fn add(
        &self,
        service: &'static str,
        program: &str,
        url: &str,
    ) -> anyhow::Result<()> {
        let channel = connect(url)?;
        let mut lines = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let of_service = lines.entry(service).or_default();
        of_service.retain(|line| line.program != program);
        of_service.push(Line {
            program: program.to_owned(),
            channel,
        });
        Ok(())
    }

    /// From now on no new call goes to this process.
    pub(crate) fn remove(&self, program: &str) {
        let mut lines = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for of_service in lines.values_mut() {
            of_service.retain(|line| line.program != program);
        }
    }

    /// A connection to the service, to whichever process chance says.
    pub(crate) fn to(&self, service: &str, chance: usize) -> Option<Channel> {
        let lines = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let of_service = lines.get(service)?;
        let line = of_service.get(chance.checked_rem(of_service.len())?)?;
        Some(line.channel.clone())
    }
}

/// A connection of its own, made with the first call.
pub(crate) fn connect(url: &str) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::from_shared(url.to_owned())?;
    Ok(endpoint
        .tcp_nodelay(true)
        .connect_timeout(CONNECT)
        .connect_lazy())
}

/// What every call of `subject` carries.
pub(crate) fn metadata(
    issuer: &Issuer,
    tenant: TenantId,
    subject: &str,
    role: &str,
) -> anyhow::Result<MetadataMap> {
    let now = Clock::system().now();
    let token = issuer.token(subject, tenant, &[role], now, TOKEN_SECONDS)?;
    let mut metadata = MetadataMap::new();
    metadata.insert("authorization", format!("Bearer {token}").parse()?);
    metadata.insert("x-tenant-id", tenant.to_string().parse()?);
    Ok(metadata)
}

/// Calls `method` (`catalyst.projects.v1.ProjectService/GetProject`) once. Dropped, it is cancelled.
pub(crate) async fn call(
    channel: Channel,
    metadata: &MetadataMap,
    method: &str,
    message: Vec<u8>,
) -> Result<Vec<u8>, Status> {
    let attempt = async {
        let mut client = Grpc::new(channel);
        client
            .ready()
            .await
            .map_err(|error| Status::unavailable(format!("no connection: {error}")))?;
        let path = format!("/{method}")
            .parse()
            .map_err(|_| Status::invalid_argument("no path"))?;
        let mut request = Request::new(message);
        request.metadata_mut().clone_from(metadata);
        request.set_timeout(DEADLINE);
        let answer = client.unary(request, path, RawMessages).await?;
        Ok(answer.into_inner())
    };
    tokio::time::timeout(DEADLINE + GRACE, attempt)
        .await
        .unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer")))
}

/// Whether such an answer leaves open what became of the call, or asks for a repeat. What has a source was made on
/// this side, of a connection that failed.
pub(crate) fn is_open(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
        || matches!(
            status.code(),
            Code::Unavailable
                | Code::DeadlineExceeded
                | Code::Cancelled
                | Code::Unknown
                | Code::ResourceExhausted
                | Code::Aborted
        )
}
