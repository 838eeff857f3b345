//! Calls from one service to another: a short-lived workload token that names the service and delegates one tenant.

use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::Error;
use crate::ctx::Ctx;
use crate::server::MAX_DEADLINE;
use crate::settings::{IdentitySettings, SettingsError};
use crate::telemetry;
use crate::tls::{self, ClientTls};
use crate::token::{WORKLOAD_ISSUER, WORKLOAD_TYPE};

/// How long another service may take to answer, whoever waits here.
const LIMIT: Duration = Duration::from_secs(3);
/// What of the caller's remaining time the other service has, so that its answer is still of use here.
const SHARE: f64 = 0.9;
/// Seconds that a token lives: longer than any call, shorter than a leak matters.
const LIFETIME: i64 = 60;

/// The identity of a service of this deployment.
#[derive(Clone)]
pub struct Workload {
    key: EncodingKey,
    service: &'static str,
}

impl std::fmt::Debug for Workload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workload")
            .field("service", &self.service)
            .finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    tenant_id: String,
    iat: i64,
    exp: i64,
}

impl Workload {
    pub(crate) fn open(
        settings: &IdentitySettings,
        service: &'static str,
    ) -> Result<Self, SettingsError> {
        let variable = "CATALYST_WORKLOAD_KEY_DIR";
        let path = settings.workload_key_dir.join(format!("{service}.pem"));
        let pem = std::fs::read(&path).map_err(|error| {
            SettingsError::new(variable, format!("cannot read {}: {error}", path.display()))
        })?;
        let key = EncodingKey::from_ec_pem(&pem).map_err(|_| {
            SettingsError::new(
                variable,
                format!("{} is no P-256 private key in PKCS#8 PEM", path.display()),
            )
        })?;
        Ok(Self { key, service })
    }

    /// A request to `audience` in the name of this service for the context's tenant, with the trace of the call and
    /// most of what is left of its time.
    pub fn request<T>(&self, ctx: &Ctx, audience: &str, message: T) -> Result<Request<T>, Error> {
        let limit = ctx.remaining(MAX_DEADLINE).mul_f64(SHARE).min(LIMIT);
        if limit.is_zero() {
            return Err(Error::TooLate);
        }
        let now = ctx.clock().now().unix_timestamp();
        let tenant_id = ctx.tenant().to_string();
        let claims = Claims {
            iss: WORKLOAD_ISSUER,
            sub: self.service,
            aud: audience,
            tenant_id: tenant_id.clone(),
            iat: now,
            exp: now + LIFETIME,
        };
        let mut header = Header::new(Algorithm::ES256);
        header.typ = Some(WORKLOAD_TYPE.to_owned());
        header.kid = Some(self.service.to_owned());
        let token = jsonwebtoken::encode(&header, &claims, &self.key).map_err(Error::internal)?;
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        metadata.insert(
            "authorization",
            format!("Bearer {token}").parse().map_err(Error::internal)?,
        );
        metadata.insert("x-tenant-id", tenant_id.parse().map_err(Error::internal)?);
        if let Some(traceparent) = telemetry::current_traceparent() {
            metadata.insert("traceparent", traceparent.parse().map_err(Error::internal)?);
        }
        request.set_timeout(limit);
        Ok(request)
    }
}

/// A channel to another service that connects on first use and again after each loss.
pub(crate) fn channel(
    variable: &'static str,
    url: &str,
    tls: Option<&Arc<ClientTls>>,
) -> Result<Channel, SettingsError> {
    let is_no_url = || SettingsError::new(variable, "is no URL: use https://HOST:PORT");
    let origin: Uri = url.parse().map_err(|_| is_no_url())?;
    let authority = origin.authority().ok_or_else(is_no_url)?;
    let endpoint = Endpoint::from_shared(format!("http://{authority}"))
        .map_err(|_| is_no_url())?
        .connect_timeout(std::time::Duration::from_secs(2))
        .http2_keep_alive_interval(std::time::Duration::from_secs(20))
        .keep_alive_while_idle(true);
    match (origin.scheme_str(), tls) {
        (Some("http"), _) => Ok(endpoint.connect_lazy()),
        (Some("https"), Some(tls)) => Ok(tls::channel(endpoint, origin, Arc::clone(tls))),
        (Some("https"), None) => Err(SettingsError::new(
            "CATALYST_TLS_CA_FILE",
            format!("is missing: {variable} is an https URL, whose certificate is verified by it"),
        )),
        _ => Err(is_no_url()),
    }
}

/// What the answer of another service means for the caller of this one: absence is absence, too much to do is that here
/// as well, all else is a fault of ours or a dependency that does not answer.
pub fn found<T>(
    what: &'static str,
    answer: Result<tonic::Response<T>, Status>,
) -> Result<Option<T>, Error> {
    match answer {
        Ok(response) => Ok(Some(response.into_inner())),
        Err(status) if status.code() == tonic::Code::NotFound => Ok(None),
        Err(status) if status.code() == tonic::Code::ResourceExhausted => Err(Error::Busy),
        Err(status)
            if matches!(
                status.code(),
                tonic::Code::Unavailable
                    | tonic::Code::DeadlineExceeded
                    | tonic::Code::Cancelled
                    | tonic::Code::Unknown
            ) =>
        {
            Err(Error::Unavailable {
                what,
                source: Box::new(status),
            })
        }
        Err(status) => Err(Error::internal(status)),
    }
}
