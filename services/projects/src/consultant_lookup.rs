//! Asks the consultants service for a consultant whose events have not arrived here.

use kit::Ctx;
use kit::kit::Kit;
use kit::settings::SettingsError;
use kit::workload::{self, Workload};
use proto::consultants::v1 as pb;
use proto::consultants::v1::consultant_lookup_service_client::ConsultantLookupServiceClient;
use tonic::transport::Channel;

use crate::consultant::{Consultant, ConsultantId};
use crate::error::Error;

/// The way to the consultants service, in the name of this one.
#[derive(Clone)]
pub(crate) struct ConsultantLookup {
    client: ConsultantLookupServiceClient<Channel>,
    workload: Workload,
}

impl ConsultantLookup {
    /// Connects on first use. Without a URL, to the address of this process.
    pub(crate) fn open(url: Option<&str>, kit: &Kit) -> Result<Self, SettingsError> {
        let channel = kit.channel("CATALYST_CONSULTANTS_URL", url)?;
        Ok(Self {
            client: ConsultantLookupServiceClient::new(channel),
            workload: kit.workload.clone(),
        })
    }

    /// The consultant of the context's tenant. Not to be called within a transaction.
    #[tracing::instrument(name = "projects.look_up_consultant", skip_all, fields(consultant.id = %id))]
    pub(crate) async fn look_up(&self, ctx: &Ctx, id: ConsultantId) -> Result<Consultant, Error> {
        let message = pb::LookupConsultantRequest {
            consultant_id: id.to_string(),
        };
        let request = self.workload.request(ctx, "consultants", message)?;
        let answer = self.client.clone().lookup_consultant(request).await;
        let response = workload::found("the consultants service", answer)?;
        let found = response
            .and_then(|response| response.consultant)
            .ok_or(Error::ConsultantNotFound(id))?;
        let active = found.state() == pb::ConsultantState::Active;
        Ok(Consultant {
            id,
            code: found.code,
            display_name: found.display_name,
            active,
            version: found.version,
        })
    }
}
