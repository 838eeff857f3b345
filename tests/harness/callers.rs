//! Callers: a token and tenant metadata on every call.

use kit::TenantId;
use kit::ctx::Clock;
use proto::audit::v1::audit_operator_service_client::AuditOperatorServiceClient;
use proto::audit::v1::audit_service_client::AuditServiceClient;
use proto::consultants::v1::consultant_service_client::ConsultantServiceClient;
use proto::projects::v1::project_service_client::ProjectServiceClient;
use proto::tenants::v1::tenant_service_client::TenantServiceClient;
use proto::time_entries::v1::time_entry_service_client::TimeEntryServiceClient;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::world;

/// A channel whose calls carry the caller's metadata.
type Line = InterceptedService<Channel, Caller>;

/// Who calls: metadata that goes with each call.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The tenant of the token.
    pub tenant: TenantId,
    metadata: MetadataMap,
    channel: Channel,
}

impl Interceptor for Caller {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        // The transport's own headers are in the metadata here, and stay.
        let mut headers = std::mem::take(request.metadata_mut()).into_headers();
        headers.extend(self.metadata.clone().into_headers());
        *request.metadata_mut() = MetadataMap::from_headers(headers);
        Ok(request)
    }
}

/// A token of the development issuer for `subject` with `roles`.
pub fn token_with(tenant: TenantId, subject: &str, roles: &[&str]) -> String {
    world()
        .issuer
        .token(subject, tenant, roles, Clock::system().now(), 3_600)
        .expect("the issuer signs")
}

/// A connection to the world from an address of the test's own.
pub fn channel_from(source: std::net::IpAddr) -> Channel {
    Endpoint::from_shared(world().url.clone())
        .expect("the world's URL")
        .local_address(Some(source))
        .connect_lazy()
}

/// A workload token, signed with the service's own key.
fn workload_token(service: &str, audience: &str, tenant: TenantId) -> String {
    let now = Clock::system().now().unix_timestamp();
    let claims = serde_json::json!({
        "iss": "catalyst-workload", "sub": service, "aud": audience, "tenant_id": tenant.to_string(),
        "iat": now, "exp": now + 60,
    });
    workload_token_of(service, &claims)
}

/// A workload token of these claims, signed with the service's own key.
pub fn workload_token_of(service: &str, claims: &serde_json::Value) -> String {
    let pem = std::fs::read(world().workload_dir.join(format!("{service}.pem")))
        .expect("the service has a key");
    let key = jsonwebtoken::EncodingKey::from_ec_pem(&pem).expect("a P-256 key");
    let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::ES256);
    header.typ = Some("catalyst-workload+jwt".to_owned());
    header.kid = Some(service.to_owned());
    jsonwebtoken::encode(&header, claims, &key).expect("the key signs")
}

impl Caller {
    /// A user of `tenant` with `roles`.
    pub fn user(tenant: TenantId, subject: &str, roles: &[&str]) -> Self {
        Self::bare(tenant)
            .with_token(&token_with(tenant, subject, roles))
            .with("x-tenant-id", &tenant.to_string())
    }

    /// A platform operator.
    pub fn operator() -> Self {
        Self::user(TenantId::PLATFORM, "operator", &["platform_operator"])
    }

    /// A service of this deployment that calls `audience` in the name of `tenant`.
    pub fn service(service: &str, audience: &str, tenant: TenantId) -> Self {
        let token = workload_token(service, audience, tenant);
        Self::bare(tenant)
            .with_token(&token)
            .with("x-tenant-id", &tenant.to_string())
    }

    /// A caller that sends no metadata at all.
    pub fn bare(tenant: TenantId) -> Self {
        let channel = Endpoint::from_shared(world().url.clone())
            .expect("the world's URL")
            .connect_lazy();
        Self {
            tenant,
            metadata: MetadataMap::new(),
            channel,
        }
    }

    /// The same caller on another connection.
    #[must_use]
    pub fn over(mut self, channel: Channel) -> Self {
        self.channel = channel;
        self
    }

    /// The same caller with this bearer token in place of its own.
    #[must_use]
    pub fn with_token(mut self, token: &str) -> Self {
        self.metadata.insert(
            "authorization",
            format!("Bearer {token}").parse().expect("a token is ASCII"),
        );
        self
    }

    /// The same caller with one more value of a metadata key.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: &str) -> Self {
        self.metadata
            .append(key, value.parse().expect("ASCII metadata"));
        self
    }

    /// The same caller with one more value of a binary metadata key, which ends in `-bin`.
    #[must_use]
    pub fn with_bin(mut self, key: &'static str, value: &[u8]) -> Self {
        self.metadata
            .append_bin(key, MetadataValue::from_bytes(value));
        self
    }

    /// The same caller without a metadata key.
    #[must_use]
    pub fn without(mut self, key: &str) -> Self {
        self.metadata.remove(key);
        self
    }

    /// The metadata that goes with each call.
    pub fn metadata(&self) -> &MetadataMap {
        &self.metadata
    }

    /// The connection without metadata.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    fn line(&self) -> Line {
        InterceptedService::new(self.channel.clone(), self.clone())
    }

    /// `TenantService`.
    pub fn tenants(&self) -> TenantServiceClient<Line> {
        TenantServiceClient::new(self.line())
    }

    /// `ConsultantService`.
    pub fn consultants(&self) -> ConsultantServiceClient<Line> {
        ConsultantServiceClient::new(self.line())
    }

    /// `ProjectService`.
    pub fn projects(&self) -> ProjectServiceClient<Line> {
        ProjectServiceClient::new(self.line())
    }

    /// `TimeEntryService`.
    pub fn time_entries(&self) -> TimeEntryServiceClient<Line> {
        TimeEntryServiceClient::new(self.line())
    }

    /// `AuditService`.
    pub fn audit(&self) -> AuditServiceClient<Line> {
        AuditServiceClient::new(self.line())
    }

    /// `AuditOperatorService`.
    pub fn audit_operator(&self) -> AuditOperatorServiceClient<Line> {
        AuditOperatorServiceClient::new(self.line())
    }
}
