//! The wire: authorize, convert, call, convert back.

mod client;
mod project;

mod assignment;

use kit::cache::Cache;
use kit::kit::Kit;
use proto::projects::v1 as pb;
use proto::projects::v1::project_lookup_service_server::ProjectLookupService;
use proto::projects::v1::project_service_server::ProjectService;
use tonic::{Request, Response, Status};

use crate::consultant_lookup::ConsultantLookup;
use crate::project::Project;
use crate::{operations, permissions};

/// Serves both gRPC services of the package.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) kit: Kit,
    pub(crate) consultants: ConsultantLookup,
    pub(crate) projects: Cache<Project>,
}

#[tonic::async_trait]
impl ProjectService for Service {
    async fn create_client(
        &self,
        request: Request<pb::CreateClientRequest>,
    ) -> Result<Response<pb::CreateClientResponse>, Status> {
        let ctx = self
            .kit
            .authorize(&request, &permissions::CREATE_CLIENT)
            .await?;
        let (repeat, profile) = self
            .kit
            .answer(&ctx, client::read_create(request.get_ref()))
            .await?;
        let created = operations::create_client(&ctx, &self.kit.db, &repeat, profile).await;
        let client = self.kit.answer(&ctx, created).await?;
        Ok(Response::new(pb::CreateClientResponse {
            client: Some(client.into()),
        }))
    }

    async fn get_client(
        &self,
        request: Request<pb::GetClientRequest>,
    ) -> Result<Response<pb::GetClientResponse>, Status> {
        let ctx = self
            .kit
            .authorize(&request, &permissions::GET_CLIENT)
            .await?;
        let id = self
            .kit
            .answer(&ctx, client::read_id(&request.get_ref().client_id))
            .await?;
        let found = operations::get_client(&ctx, &self.kit.db, id).await;
        let client = self.kit.answer(&ctx, found).await?;
        Ok(Response::new(pb::GetClientResponse {
            client: Some(client.into()),
        }))
    }

    async fn list_clients(
        &self,
        request: Request<pb::ListClientsRequest>,
    ) -> Result<Response<pb::ListClientsResponse>, Status> {
        let ctx = self
            .kit
            .authorize(&request, &permissions::LIST_CLIENTS)
            .await?;
        let request = request.into_inner();
        let page = self
            .kit
            .pages
            .read(&ctx, request.page_size, &request.page_token, &());
        let page = self.kit.answer(&ctx, page).await?;
        let rows = operations::list_clients(&ctx, &self.kit.db, &page).await;
        let rows = self.kit.answer(&ctx, rows).await?;
        let finished =
            self.kit
                .pages
                .finish(&ctx, &page, rows, &(), |last| last.id.uuid(), Into::into);
        let (clients, next_page_token) = self.kit.answer(&ctx, finished).await?;
        Ok(Response::new(pb::ListClientsResponse {
            clients,
            next_page_token,
        }))
    }

    async fn update_client(
        &self,
        request: Request<pb::UpdateClientRequest>,
    ) -> Result<Response<pb::UpdateClientResponse>, Status> {
        let ctx = self
            .kit
            .authorize(&request, &permissions::UPDATE_CLIENT)
            .await?;
        let (repeat, update) = self
            .kit
            .answer(&ctx, client::read_update(request.get_ref()))
            .await?;
        let updated = operations::update_client(&ctx, &self.kit.db, &repeat, update).await;
        let client = self.kit.answer(&ctx, updated).await?;
        Ok(Response::new(pb::UpdateClientResponse {
            client: Some(client.into()),
        }))
    }

    async fn create_project(
        &self,
        request: Request<pb::CreateProjectRequest>,
    ) -> Result<Response<pb::CreateProjectResponse>, Status> {
        let ctx = self
            .kit
            .authorize(&request, &permissions::CREATE_PROJECT)
            .await?;
        let (repeat, new) = self
            .kit
            .answer(&ctx, project::read_create(request.get_ref()))
            .await?;
        let created = operations::create_project(&ctx, &self.kit.db, &repeat, new).await;
        let project = self.kit.answer(&ctx, created).await?;
        Ok(Response::new(pb::CreateProjectResponse {
            project: Some(project.into()),
        }))
    }

    async fn get_project(
        &self,
        request: Request<pb::GetProjectRequest>,
    ) -> Result<Response<pb::GetProjectResponse>, Status> {
        let ctx = self
            .kit
            .authorize(&request, &permissions::GET_PROJECT)
            .await?;
        let id = self
            .kit
            .answer(&ctx, project::read_id(&request.get_ref().project_id))
            .await?;
        let found = operations::get_project(&ctx, &self.kit.db, &self.projects, id).await;
        let project = self.kit.answer(&ctx, found).await?;
        Ok(Response::new(pb::GetProjectResponse {
            project: Some(project.into()),
        }))
    }

    async fn list_projects(
        &self,
        request: Request<pb::ListProjectsRequest>,
    ) -> Result<Response<pb::ListProjectsResponse>, Status> {
        let ctx = self
            .kit
            .authorize(&request, &permissions::LIST_PROJECTS)
            .await?;
        let request = request.into_inner();
        let filter = self
            .kit
            .answer(&ctx, project::read_filter(&request))
            .await?;
        let page = self
            .kit
            .pages
            .read(&ctx, request.page_size, &request.page_token, &filter);
        let page = self.kit.answer(&ctx, page).await?;
        let rows = operations::list_projects(&ctx, &self.kit.db, filter, &page).await;
        let rows = self.kit.answer(&ctx, rows).await?;
        let finished = self.kit.pages.finish(
            &ctx,
            &page,
            rows,
            &filter,
            |last| last.id.uuid(),
            Into::into,
        );
        let (projects, next_page_token) = self.kit.answer(&ctx, finished).await?;
        Ok(Response::new(pb::ListProjectsResponse {
            projects,
            next_page_token,
        }))
    }

    async fn update_project(
        &self,
        request: Request<pb::UpdateProjectRequest>,
    ) -> Result<Response<pb::UpdateProjectResponse>, Status> {
        let ctx = self
            .kit
            .authorize(&request, &permissions::UPDATE_PROJECT)
            .await?;
        let (repeat, update) = self
            .kit
            .answer(&ctx, project::read_update(request.get_ref()))
            .await?;
        let updated = operations::update_project(&ctx, &self.kit.db, &repeat, update).await;
        let project = self.kit.answer(&ctx, updated).await?;
        Ok(Response::new(pb::UpdateProjectResponse {
            project: Some(project.into()),
        }))
    }

    async fn archive_project(
        &self,
        request: Request<pb::ArchiveProjectRequest>,
    ) -> Result<Response<pb::ArchiveProjectResponse>, Status> {
        let ctx = self
            .kit
            .authorize(&request, &permissions::ARCHIVE_PROJECT)
            .await?;
        let (repeat, id, etag) = self
            .kit
            .answer(&ctx, project::read_archive(request.get_ref()))
            .await?;
        let archived = operations::archive_project(&ctx, &self.kit.db, &repeat, id, etag).await;
        let project = self.kit.answer(&ctx, archived).await?;
        Ok(Response::new(pb::ArchiveProjectResponse {
            project: Some(project.into()),
        }))
    }

    async fn assign_consultant(
        &self,
        request: Request<pb::AssignConsultantRequest>,
    ) -> Result<Response<pb::AssignConsultantResponse>, Status> {
        let ctx = self
            .kit
            .authorize(&request, &permissions::ASSIGN_CONSULTANT)
            .await?;
        let (repeat, plan) = self
            .kit
            .answer(&ctx, assignment::read_assign(request.get_ref()))
            .await?;
        let assigned =
            operations::assign_consultant(&ctx, &self.kit.db, &self.consultants, &repeat, plan)
                .await;
        let assignment = self.kit.answer(&ctx, assigned).await?;
        Ok(Response::new(pb::AssignConsultantResponse {
            assignment: Some(assignment.into()),
        }))
    }

    async fn unassign_consultant(
        &self,
        request: Request<pb::UnassignConsultantRequest>,
    ) -> Result<Response<pb::UnassignConsultantResponse>, Status> {
        let ctx = self
            .kit
            .authorize(&request, &permissions::UNASSIGN_CONSULTANT)
            .await?;
        let (repeat, id, etag) = self
            .kit
            .answer(&ctx, assignment::read_unassign(request.get_ref()))
            .await?;
        let unassigned =
            operations::unassign_consultant(&ctx, &self.kit.db, &repeat, id, etag).await;
        self.kit.answer(&ctx, unassigned).await?;
        Ok(Response::new(pb::UnassignConsultantResponse {}))
    }

    async fn list_assignments(
        &self,
        request: Request<pb::ListAssignmentsRequest>,
    ) -> Result<Response<pb::ListAssignmentsResponse>, Status> {
        let ctx = self
            .kit
            .authorize(&request, &permissions::LIST_ASSIGNMENTS)
            .await?;
        let request = request.into_inner();
        let filter = self
            .kit
            .answer(&ctx, assignment::read_filter(&request))
            .await?;
        let page = self
            .kit
            .pages
            .read(&ctx, request.page_size, &request.page_token, &filter);
        let page = self.kit.answer(&ctx, page).await?;
        let rows = operations::list_assignments(&ctx, &self.kit.db, filter, &page).await;
        let rows = self.kit.answer(&ctx, rows).await?;
        let finished = self.kit.pages.finish(
            &ctx,
            &page,
            rows,
            &filter,
            |last| last.id.uuid(),
            Into::into,
        );
        let (assignments, next_page_token) = self.kit.answer(&ctx, finished).await?;
        Ok(Response::new(pb::ListAssignmentsResponse {
            assignments,
            next_page_token,
        }))
    }
}

#[tonic::async_trait]
impl ProjectLookupService for Service {
    /// A miss is the asking service's to record: it knows the user behind the call.
    async fn lookup_project(
        &self,
        request: Request<pb::LookupProjectRequest>,
    ) -> Result<Response<pb::LookupProjectResponse>, Status> {
        let ctx = self
            .kit
            .authorize(&request, &permissions::LOOKUP_PROJECT)
            .await?;
        let id = self
            .kit
            .answer(&ctx, project::read_id(&request.get_ref().project_id))
            .await?;
        let found = operations::lookup_project(&ctx, &self.kit.db, id).await;
        let project = self.kit.answer_service(&ctx, found)?;
        Ok(Response::new(pb::LookupProjectResponse {
            project: Some(project.into()),
        }))
    }
}
