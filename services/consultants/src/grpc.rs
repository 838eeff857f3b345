//! The wire: authorize, convert, call, convert back.

use kit::cache::Cache;
use kit::change;
use kit::fields::{Fields, timestamp};
use kit::kit::Kit;
use kit::once::Repeat;
use proto::consultants::v1 as pb;
use proto::consultants::v1::consultant_lookup_service_server::ConsultantLookupService;
use proto::consultants::v1::consultant_service_server::ConsultantService;
use tonic::{Request, Response, Status};

use crate::consultant::{Consultant, ConsultantId, MUTABLE, Profile};
use crate::operations::{self, Update};
use crate::{events, permissions};

/// Serves both gRPC services of the package.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) kit: Kit,
    pub(crate) consultants: Cache<Consultant>,
}

#[tonic::async_trait]
impl ConsultantService for Service {
    async fn create_consultant(
        &self,
        request: Request<pb::CreateConsultantRequest>,
    ) -> Result<Response<pb::CreateConsultantResponse>, Status> {
        let ctx = self.kit.authorize(&request, &permissions::CREATE).await?;
        let (repeat, profile) = self
            .kit
            .answer(&ctx, read_create(request.get_ref()))
            .await?;
        let created = operations::create_consultant(&ctx, &self.kit.db, &repeat, profile).await;
        let consultant = self.kit.answer(&ctx, created).await?;
        Ok(Response::new(pb::CreateConsultantResponse {
            consultant: Some(consultant.into()),
        }))
    }

    async fn get_consultant(
        &self,
        request: Request<pb::GetConsultantRequest>,
    ) -> Result<Response<pb::GetConsultantResponse>, Status> {
        let ctx = self.kit.authorize(&request, &permissions::GET).await?;
        let id = self
            .kit
            .answer(&ctx, read_id(&request.get_ref().consultant_id))
            .await?;
        let found = operations::get_consultant(&ctx, &self.kit.db, &self.consultants, id).await;
        let consultant = self.kit.answer(&ctx, found).await?;
        Ok(Response::new(pb::GetConsultantResponse {
            consultant: Some(consultant.into()),
        }))
    }

    async fn list_consultants(
        &self,
        request: Request<pb::ListConsultantsRequest>,
    ) -> Result<Response<pb::ListConsultantsResponse>, Status> {
        let ctx = self.kit.authorize(&request, &permissions::LIST).await?;
        let request = request.into_inner();
        let active = self.kit.answer(&ctx, read_state(request.state)).await?;
        let page = self
            .kit
            .pages
            .read(&ctx, request.page_size, &request.page_token, &active);
        let page = self.kit.answer(&ctx, page).await?;
        let rows = operations::list_consultants(&ctx, &self.kit.db, active, &page).await;
        let rows = self.kit.answer(&ctx, rows).await?;
        let finished = self.kit.pages.finish(
            &ctx,
            &page,
            rows,
            &active,
            |last| last.id.uuid(),
            Into::into,
        );
        let (consultants, next_page_token) = self.kit.answer(&ctx, finished).await?;
        Ok(Response::new(pb::ListConsultantsResponse {
            consultants,
            next_page_token,
        }))
    }

    async fn update_consultant(
        &self,
        request: Request<pb::UpdateConsultantRequest>,
    ) -> Result<Response<pb::UpdateConsultantResponse>, Status> {
        let ctx = self.kit.authorize(&request, &permissions::UPDATE).await?;
        let (repeat, update) = self
            .kit
            .answer(&ctx, read_update(request.get_ref()))
            .await?;
        let updated = operations::update_consultant(&ctx, &self.kit.db, &repeat, update).await;
        let consultant = self.kit.answer(&ctx, updated).await?;
        Ok(Response::new(pb::UpdateConsultantResponse {
            consultant: Some(consultant.into()),
        }))
    }

    async fn deactivate_consultant(
        &self,
        request: Request<pb::DeactivateConsultantRequest>,
    ) -> Result<Response<pb::DeactivateConsultantResponse>, Status> {
        let ctx = self
            .kit
            .authorize(&request, &permissions::DEACTIVATE)
            .await?;
        let (repeat, id, etag) = self
            .kit
            .answer(&ctx, read_deactivate(request.get_ref()))
            .await?;
        let deactivated =
            operations::deactivate_consultant(&ctx, &self.kit.db, &repeat, id, etag).await;
        let consultant = self.kit.answer(&ctx, deactivated).await?;
        Ok(Response::new(pb::DeactivateConsultantResponse {
            consultant: Some(consultant.into()),
        }))
    }
}

#[tonic::async_trait]
impl ConsultantLookupService for Service {
    /// A miss is the asking service's to record: it knows the user behind the call.
    async fn lookup_consultant(
        &self,
        request: Request<pb::LookupConsultantRequest>,
    ) -> Result<Response<pb::LookupConsultantResponse>, Status> {
        let ctx = self.kit.authorize(&request, &permissions::LOOKUP).await?;
        let id = self
            .kit
            .answer(&ctx, read_id(&request.get_ref().consultant_id))
            .await?;
        let found = operations::lookup_consultant(&ctx, &self.kit.db, id).await;
        let consultant = self.kit.answer_service(&ctx, found)?;
        let reference = pb::ConsultantReference {
            id: consultant.id.to_string(),
            state: events::state(&consultant).into(),
            version: consultant.version,
            code: consultant.profile.code,
            display_name: consultant.profile.display_name,
            subject: consultant.profile.subject.unwrap_or_default(),
        };
        Ok(Response::new(pb::LookupConsultantResponse {
            consultant: Some(reference),
        }))
    }
}

fn read_id(text: &str) -> Result<ConsultantId, kit::Error> {
    let mut fields = Fields::new();
    let id = fields.id("consultant_id", text);
    fields.finish(id)
}

fn read_state(state: i32) -> Result<Option<bool>, kit::Error> {
    match pb::ConsultantState::try_from(state) {
        Ok(pb::ConsultantState::Unspecified) => Ok(None),
        Ok(pb::ConsultantState::Active) => Ok(Some(true)),
        Ok(pb::ConsultantState::Inactive) => Ok(Some(false)),
        Err(_) => Err(kit::Error::invalid(
            "state",
            "must be a known state, or none for all",
        )),
    }
}

fn read_create(request: &pb::CreateConsultantRequest) -> Result<(Repeat, Profile), kit::Error> {
    let repeat = Repeat::of(&request.request_id, request)?;
    let mut fields = Fields::new();
    let consultant = request.consultant.clone().unwrap_or_default();
    let profile = read_profile(&mut fields, &consultant, MUTABLE);
    Ok((repeat, fields.finish(Some(profile))?))
}

fn read_update(request: &pb::UpdateConsultantRequest) -> Result<(Repeat, Update), kit::Error> {
    let repeat = Repeat::of(&request.request_id, request)?;
    let mut fields = Fields::new();
    let consultant = request.consultant.clone().unwrap_or_default();
    let id = fields.id("consultant.id", &consultant.id);
    let etag = fields.etag(&consultant.etag);
    let named = fields.mask(request.update_mask.as_ref(), MUTABLE, |name| match name {
        "code" => !consultant.code.is_empty(),
        "display_name" => !consultant.display_name.is_empty(),
        "email" => !consultant.email.is_empty(),
        "subject" => !consultant.subject.is_empty(),
        "job_title" => !consultant.job_title.is_empty(),
        "weekly_capacity_minutes" => consultant.weekly_capacity_minutes != 0,
        "cost_rate" => consultant.cost_rate.is_some(),
        "bill_rate" => consultant.bill_rate.is_some(),
        _ => false,
    });
    let wished = read_profile(&mut fields, &consultant, &named);
    let update = id.map(|id| Update {
        id,
        etag,
        named,
        wished,
    });
    Ok((repeat, fields.finish(update)?))
}

fn read_deactivate(
    request: &pb::DeactivateConsultantRequest,
) -> Result<(Repeat, ConsultantId, Option<i64>), kit::Error> {
    let repeat = Repeat::of(&request.request_id, request)?;
    let mut fields = Fields::new();
    let id = fields.id("consultant_id", &request.consultant_id);
    let etag = fields.etag(&request.etag);
    Ok((repeat, fields.finish(id)?, etag))
}

/// Reads the fields of `names`; the others keep an empty value that nobody looks at.
fn read_profile(fields: &mut Fields, consultant: &pb::Consultant, names: &[&str]) -> Profile {
    let reads = |name: &str| names.contains(&name);
    let mut profile = Profile {
        code: String::new(),
        display_name: String::new(),
        email: None,
        subject: None,
        job_title: String::new(),
        weekly_capacity_minutes: consultant.weekly_capacity_minutes,
        cost_rate: None,
        bill_rate: None,
    };
    if reads("code") {
        profile.code = fields
            .code("consultant.code", &consultant.code, 64)
            .unwrap_or_default();
    }
    if reads("display_name") {
        profile.display_name = fields
            .text("consultant.display_name", &consultant.display_name, 200)
            .unwrap_or_default();
    }
    if reads("email") {
        profile.email = fields.optional_email("consultant.email", &consultant.email);
    }
    if reads("subject") {
        let subject = fields.optional_text("consultant.subject", &consultant.subject, 255);
        profile.subject = subject.filter(|subject| !subject.is_empty());
    }
    if reads("job_title") {
        profile.job_title = fields
            .optional_text("consultant.job_title", &consultant.job_title, 200)
            .unwrap_or_default();
    }
    if reads("weekly_capacity_minutes")
        && !(0..=10_080).contains(&consultant.weekly_capacity_minutes)
    {
        fields.reject(
            "consultant.weekly_capacity_minutes",
            "must be between 0 and 10080",
        );
    }
    if reads("cost_rate") {
        profile.cost_rate =
            fields.optional_money("consultant.cost_rate", consultant.cost_rate.as_ref());
    }
    if reads("bill_rate") {
        profile.bill_rate =
            fields.optional_money("consultant.bill_rate", consultant.bill_rate.as_ref());
    }
    profile
}

impl From<Consultant> for pb::Consultant {
    fn from(consultant: Consultant) -> Self {
        let state = events::state(&consultant);
        Self {
            id: consultant.id.to_string(),
            code: consultant.profile.code,
            display_name: consultant.profile.display_name,
            email: consultant.profile.email.unwrap_or_default(),
            subject: consultant.profile.subject.unwrap_or_default(),
            job_title: consultant.profile.job_title,
            weekly_capacity_minutes: consultant.profile.weekly_capacity_minutes,
            cost_rate: consultant.profile.cost_rate.map(Into::into),
            bill_rate: consultant.profile.bill_rate.map(Into::into),
            state: state.into(),
            etag: change::etag(consultant.version),
            create_time: Some(timestamp(consultant.created_at)),
            update_time: Some(timestamp(consultant.updated_at)),
        }
    }
}
