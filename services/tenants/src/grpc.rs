//! The wire: authorize, convert, call, convert back.

use kit::cells::CellName;
use kit::change;
use kit::fields::{Fields, timestamp};
use kit::kit::Kit;
use kit::money::Currency;
use kit::once::Repeat;
use kit::plan::Plan;
use proto::tenants::v1 as pb;
use proto::tenants::v1::tenant_service_server::TenantService;
use tonic::{Request, Response, Status};

use crate::operations::{self, Placing, PlanChange, Suspension};
use crate::tenant::{self, Admission, FirmId, Profile, Tenant};
use crate::{events, permissions};

/// Serves the control plane.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) kit: Kit,
}

#[tonic::async_trait]
impl TenantService for Service {
    async fn create_tenant(
        &self,
        request: Request<pb::CreateTenantRequest>,
    ) -> Result<Response<pb::CreateTenantResponse>, Status> {
        let ctx = self.kit.authorize(&request, &permissions::CREATE).await?;
        let read = read_create(&self.kit, request.get_ref());
        let (repeat, admission) = self.kit.answer(&ctx, read).await?;
        let created = operations::create_tenant(&ctx, &self.kit.db, &repeat, admission).await;
        let tenant = self.kit.answer(&ctx, created).await?;
        Ok(Response::new(pb::CreateTenantResponse {
            tenant: Some(tenant.into()),
        }))
    }

    async fn get_tenant(
        &self,
        request: Request<pb::GetTenantRequest>,
    ) -> Result<Response<pb::GetTenantResponse>, Status> {
        let ctx = self.kit.authorize(&request, &permissions::GET).await?;
        let id = self
            .kit
            .answer(&ctx, read_id(&request.get_ref().tenant_id))
            .await?;
        let found = operations::get_tenant(&ctx, &self.kit.db, id).await;
        let tenant = self.kit.answer(&ctx, found).await?;
        Ok(Response::new(pb::GetTenantResponse {
            tenant: Some(tenant.into()),
        }))
    }

    async fn list_tenants(
        &self,
        request: Request<pb::ListTenantsRequest>,
    ) -> Result<Response<pb::ListTenantsResponse>, Status> {
        let ctx = self.kit.authorize(&request, &permissions::LIST).await?;
        let request = request.into_inner();
        let active = self.kit.answer(&ctx, read_state(request.state)).await?;
        let page = self
            .kit
            .pages
            .read(&ctx, request.page_size, &request.page_token, &active);
        let page = self.kit.answer(&ctx, page).await?;
        let rows = operations::list_tenants(&ctx, &self.kit.db, active, &page).await;
        let rows = self.kit.answer(&ctx, rows).await?;
        let finished = self.kit.pages.finish(
            &ctx,
            &page,
            rows,
            &active,
            |last| last.id.uuid(),
            Into::into,
        );
        let (tenants, next_page_token) = self.kit.answer(&ctx, finished).await?;
        Ok(Response::new(pb::ListTenantsResponse {
            tenants,
            next_page_token,
        }))
    }

    async fn suspend_tenant(
        &self,
        request: Request<pb::SuspendTenantRequest>,
    ) -> Result<Response<pb::SuspendTenantResponse>, Status> {
        let ctx = self.kit.authorize(&request, &permissions::SUSPEND).await?;
        let (repeat, suspension) = self
            .kit
            .answer(&ctx, read_suspend(request.get_ref()))
            .await?;
        let suspended = operations::suspend_tenant(&ctx, &self.kit.db, &repeat, suspension).await;
        let tenant = self.kit.answer(&ctx, suspended).await?;
        Ok(Response::new(pb::SuspendTenantResponse {
            tenant: Some(tenant.into()),
        }))
    }

    async fn resume_tenant(
        &self,
        request: Request<pb::ResumeTenantRequest>,
    ) -> Result<Response<pb::ResumeTenantResponse>, Status> {
        let ctx = self.kit.authorize(&request, &permissions::RESUME).await?;
        let (repeat, id, etag) = self
            .kit
            .answer(&ctx, read_resume(request.get_ref()))
            .await?;
        let resumed = operations::resume_tenant(&ctx, &self.kit.db, &repeat, id, etag).await;
        let tenant = self.kit.answer(&ctx, resumed).await?;
        Ok(Response::new(pb::ResumeTenantResponse {
            tenant: Some(tenant.into()),
        }))
    }

    async fn change_tenant_plan(
        &self,
        request: Request<pb::ChangeTenantPlanRequest>,
    ) -> Result<Response<pb::ChangeTenantPlanResponse>, Status> {
        let ctx = self
            .kit
            .authorize(&request, &permissions::CHANGE_PLAN)
            .await?;
        let (repeat, change) = self
            .kit
            .answer(&ctx, read_change_plan(request.get_ref()))
            .await?;
        let changed = operations::change_tenant_plan(&ctx, &self.kit.db, &repeat, change).await;
        let tenant = self.kit.answer(&ctx, changed).await?;
        Ok(Response::new(pb::ChangeTenantPlanResponse {
            tenant: Some(tenant.into()),
        }))
    }

    async fn place_tenant(
        &self,
        request: Request<pb::PlaceTenantRequest>,
    ) -> Result<Response<pb::PlaceTenantResponse>, Status> {
        let ctx = self.kit.authorize(&request, &permissions::PLACE).await?;
        let read = read_place(&self.kit, request.get_ref());
        let (repeat, placing) = self.kit.answer(&ctx, read).await?;
        let placed = operations::place_tenant(&ctx, &self.kit.db, &repeat, placing).await;
        let tenant = self.kit.answer(&ctx, placed).await?;
        Ok(Response::new(pb::PlaceTenantResponse {
            tenant: Some(tenant.into()),
        }))
    }
}

fn read_id(text: &str) -> Result<FirmId, kit::Error> {
    let mut fields = Fields::new();
    let id = fields.id("tenant_id", text);
    fields.finish(id)
}

fn read_state(state: i32) -> Result<Option<bool>, kit::Error> {
    match pb::TenantState::try_from(state) {
        Ok(pb::TenantState::Unspecified) => Ok(None),
        Ok(pb::TenantState::Active) => Ok(Some(true)),
        Ok(pb::TenantState::Suspended) => Ok(Some(false)),
        Err(_) => Err(kit::Error::invalid(
            "state",
            "must be a known state, or none for all",
        )),
    }
}

fn read_create(
    kit: &Kit,
    request: &pb::CreateTenantRequest,
) -> Result<(Repeat, Admission), kit::Error> {
    let repeat = Repeat::of(&request.request_id, request)?;
    let mut fields = Fields::new();
    let tenant = request.tenant.clone().unwrap_or_default();
    let slug = read_slug(&mut fields, &tenant.slug);
    let display_name = fields.text("tenant.display_name", &tenant.display_name, 200);
    let time_zone = read_time_zone(&mut fields, &tenant.time_zone);
    let currency = read_currency(&mut fields, &tenant.currency_code);
    let plan = match tenant.plan {
        0 => Some(Plan::default()),
        plan => read_plan(&mut fields, "tenant.plan", plan),
    };
    let cell = match tenant.cell.as_str() {
        "" => Some(CellName::SHARED),
        cell => read_cell(kit, &mut fields, "tenant.cell", cell)?,
    };
    let active = match pb::TenantState::try_from(tenant.state) {
        Ok(pb::TenantState::Unspecified | pb::TenantState::Active) => true,
        Ok(pb::TenantState::Suspended) => false,
        Err(_) => {
            fields.reject(
                "tenant.state",
                "must be ACTIVE or SUSPENDED, or none for ACTIVE",
            );
            false
        }
    };
    let profile = slug.zip(display_name).zip(time_zone.zip(currency)).map(
        |((slug, display_name), (time_zone, currency))| Profile {
            slug,
            display_name,
            time_zone,
            currency,
        },
    );
    let admission = profile
        .zip(plan)
        .zip(cell)
        .map(|((profile, plan), cell)| Admission {
            profile,
            plan,
            cell,
            active,
        });
    Ok((repeat, fields.finish(admission)?))
}

/// A cell that this deployment has. The names are read anew, so that one that was just added can be used.
fn read_cell(
    kit: &Kit,
    fields: &mut Fields,
    field: &'static str,
    text: &str,
) -> Result<Option<CellName>, kit::Error> {
    let dedicated = kit.database.dedicated_names();
    let dedicated = dedicated.map_err(kit::Error::internal)?;
    let cell = CellName::parse(text).filter(|cell| cell.is_shared() || dedicated.contains(cell));
    if cell.is_none() {
        fields.reject(
            field,
            "must be `shared` or the name of a dedicated cell of this deployment",
        );
    }
    Ok(cell)
}

fn read_place(
    kit: &Kit,
    request: &pb::PlaceTenantRequest,
) -> Result<(Repeat, Placing), kit::Error> {
    let repeat = Repeat::of(&request.request_id, request)?;
    let mut fields = Fields::new();
    let id = fields.id("tenant_id", &request.tenant_id);
    let cell = read_cell(kit, &mut fields, "cell", &request.cell)?;
    let etag = fields.etag(&request.etag);
    let placing = id.zip(cell).map(|(id, cell)| Placing { id, etag, cell });
    Ok((repeat, fields.finish(placing)?))
}

fn read_plan(fields: &mut Fields, field: &'static str, plan: i32) -> Option<Plan> {
    let plan = pb::TenantPlan::try_from(plan).ok().and_then(Plan::of);
    if plan.is_none() {
        fields.reject(field, "must be SMALL, STANDARD or LARGE");
    }
    plan
}

fn read_slug(fields: &mut Fields, text: &str) -> Option<String> {
    let slug = Some(text).filter(|text| tenant::is_slug(text));
    if slug.is_none() {
        fields.reject(
            "tenant.slug",
            "must be 3 to 63 lowercase letters, digits and inner hyphens, beginning with a letter",
        );
    }
    slug.map(str::to_owned)
}

fn read_time_zone(fields: &mut Fields, name: &str) -> Option<String> {
    let time_zone = tenant::time_zone(name);
    if time_zone.is_none() {
        fields.reject(
            "tenant.time_zone",
            "must be an IANA time zone, such as Europe/Vienna",
        );
    }
    time_zone
}

fn read_currency(fields: &mut Fields, code: &str) -> Option<Currency> {
    let currency = Currency::parse(code);
    if currency.is_none() {
        fields.reject(
            "tenant.currency_code",
            "must be an ISO 4217 code of three capital letters",
        );
    }
    currency
}

fn read_suspend(request: &pb::SuspendTenantRequest) -> Result<(Repeat, Suspension), kit::Error> {
    let repeat = Repeat::of(&request.request_id, request)?;
    let mut fields = Fields::new();
    let id = fields.id("tenant_id", &request.tenant_id);
    let reason = fields.text("reason", &request.reason, 500);
    let etag = fields.etag(&request.etag);
    let suspension = id
        .zip(reason)
        .map(|(id, reason)| Suspension { id, etag, reason });
    Ok((repeat, fields.finish(suspension)?))
}

fn read_resume(
    request: &pb::ResumeTenantRequest,
) -> Result<(Repeat, FirmId, Option<i64>), kit::Error> {
    let repeat = Repeat::of(&request.request_id, request)?;
    let mut fields = Fields::new();
    let id = fields.id("tenant_id", &request.tenant_id);
    let etag = fields.etag(&request.etag);
    Ok((repeat, fields.finish(id)?, etag))
}

fn read_change_plan(
    request: &pb::ChangeTenantPlanRequest,
) -> Result<(Repeat, PlanChange), kit::Error> {
    let repeat = Repeat::of(&request.request_id, request)?;
    let mut fields = Fields::new();
    let id = fields.id("tenant_id", &request.tenant_id);
    let plan = read_plan(&mut fields, "plan", request.plan);
    let etag = fields.etag(&request.etag);
    let change = id.zip(plan).map(|(id, plan)| PlanChange { id, etag, plan });
    Ok((repeat, fields.finish(change)?))
}

impl From<Tenant> for pb::Tenant {
    fn from(tenant: Tenant) -> Self {
        let state = events::state(&tenant);
        let plan = events::plan(tenant.plan);
        Self {
            id: tenant.id.to_string(),
            slug: tenant.profile.slug,
            display_name: tenant.profile.display_name,
            time_zone: tenant.profile.time_zone,
            currency_code: tenant.profile.currency.as_str().to_owned(),
            state: state.into(),
            plan: plan.into(),
            cell: tenant.placement.cell.to_string(),
            etag: change::etag(tenant.version),
            create_time: Some(timestamp(tenant.created_at)),
            update_time: Some(timestamp(tenant.updated_at)),
        }
    }
}
