//! The services that own projects and consultants, asked for what their events have not told here yet.

use futures::{StreamExt, TryStreamExt, stream};
use kit::Ctx;
use kit::kit::Kit;
use kit::settings::SettingsError;
use kit::workload::{self, Workload};
use kit::{Db, Tx};
use proto::consultants::v1 as consultants;
use proto::consultants::v1::consultant_lookup_service_client::ConsultantLookupServiceClient;
use proto::projects::v1 as projects;
use proto::projects::v1::project_lookup_service_client::ProjectLookupServiceClient;
use tonic::transport::Channel;
use uuid::Uuid;

use crate::Settings;
use crate::error::Error;
use crate::reference::{Consultant, ConsultantId, Named, Project, ProjectId, References};
use crate::store;

/// Look-ups under way at the same time: an import may name many ids that are new here.
const CONCURRENT: usize = 16;

/// The way to the owners, in the name of this service.
#[derive(Clone)]
pub(crate) struct Owners {
    projects: ProjectLookupServiceClient<Channel>,
    consultants: ConsultantLookupServiceClient<Channel>,
    workload: Workload,
}

impl Owners {
    /// Connects on first use. An owner without a URL is in this very process.
    pub(crate) fn open(settings: &Settings, kit: &Kit) -> Result<Self, SettingsError> {
        let projects = kit.channel("CATALYST_PROJECTS_URL", settings.projects_url.as_deref())?;
        let consultants = kit.channel(
            "CATALYST_CONSULTANTS_URL",
            settings.consultants_url.as_deref(),
        )?;
        Ok(Self {
            projects: ProjectLookupServiceClient::new(projects),
            consultants: ConsultantLookupServiceClient::new(consultants),
            workload: kit.workload.clone(),
        })
    }

    /// Opens a transaction, with what is known of all that is named. What is missing here is asked of its owner,
    /// before the transaction that keeps the answer begins; what is missing there as well stays missing.
    pub(crate) async fn begin(
        &self,
        ctx: &Ctx,
        db: &Db,
        named: &Named,
    ) -> Result<(Tx, References), Error> {
        let mut tx = db.begin(ctx).await?;
        if named.is_empty() {
            return Ok((tx, References::default()));
        }
        let mut known = store::reference::find(&mut tx, named).await?;
        let unknown = named.unknown_to(&known);
        if unknown.is_empty() {
            return Ok((tx, known));
        }
        drop(tx);
        let told = self.look_up(ctx, &unknown).await?;
        let mut tx = db.begin(ctx).await?;
        store::reference::upsert(&mut tx, &told).await?;
        known.add(told);
        Ok((tx, known))
    }

    #[tracing::instrument(name = "time_entries.look_up", skip_all)]
    async fn look_up(&self, ctx: &Ctx, unknown: &Named) -> Result<References, Error> {
        let projects: Vec<_> = unknown
            .projects
            .iter()
            .map(|id| self.project(ctx, *id))
            .collect();
        let consultants: Vec<_> = unknown
            .consultants
            .iter()
            .map(|id| self.consultant(ctx, *id))
            .collect();
        let (projects, consultants) = futures::try_join!(
            stream::iter(projects)
                .buffer_unordered(CONCURRENT)
                .try_collect::<Vec<_>>(),
            stream::iter(consultants)
                .buffer_unordered(CONCURRENT)
                .try_collect::<Vec<_>>(),
        )?;
        let mut told = References::default();
        projects
            .into_iter()
            .flatten()
            .for_each(|project| told.add_project(project));
        consultants
            .into_iter()
            .flatten()
            .for_each(|consultant| told.add_consultant(consultant));
        Ok(told)
    }

    async fn project(&self, ctx: &Ctx, id: ProjectId) -> Result<Option<Project>, Error> {
        let message = projects::LookupProjectRequest {
            project_id: id.to_string(),
        };
        let request = self.workload.request(ctx, "projects", message)?;
        let answer = self.projects.clone().lookup_project(request).await;
        let Some(told) =
            workload::found("the projects service", answer)?.and_then(|answer| answer.project)
        else {
            return Ok(None);
        };
        Ok(Some(Project {
            id,
            client_id: Uuid::try_parse(&told.client_id).map_err(kit::Error::internal)?,
            active: told.state() == projects::ProjectState::Active,
            code: told.code,
            display_name: told.display_name,
            billable: told.billable,
            version: told.version,
        }))
    }

    async fn consultant(&self, ctx: &Ctx, id: ConsultantId) -> Result<Option<Consultant>, Error> {
        let message = consultants::LookupConsultantRequest {
            consultant_id: id.to_string(),
        };
        let request = self.workload.request(ctx, "consultants", message)?;
        let answer = self.consultants.clone().lookup_consultant(request).await;
        let Some(told) = workload::found("the consultants service", answer)?
            .and_then(|answer| answer.consultant)
        else {
            return Ok(None);
        };
        Ok(Some(Consultant {
            id,
            active: told.state() == consultants::ConsultantState::Active,
            code: told.code,
            display_name: told.display_name,
            subject: Some(told.subject).filter(|subject| !subject.is_empty()),
            version: told.version,
        }))
    }
}
