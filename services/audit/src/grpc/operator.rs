//! `AuditOperatorService`: the operator reads the records and alerts of all tenants.

use std::sync::Arc;

use kit::TenantId;
use proto::audit::v1 as pb;
use proto::audit::v1::audit_operator_service_server::AuditOperatorService;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::export::Export;
use super::{Service, convert, read};
use crate::error::Error;
use crate::{operations, permissions};

#[tonic::async_trait]
impl AuditOperatorService for Service {
    async fn list_tenant_records(
        &self,
        request: Request<pb::ListTenantRecordsRequest>,
    ) -> Result<Response<pb::ListTenantRecordsResponse>, Status> {
        let ctx = self
            .kit
            .authorize(&request, &permissions::LIST_TENANT_RECORDS)
            .await?;
        let request = request.into_inner();
        let tenant = self
            .kit
            .answer(&ctx, read::optional_tenant(&request.tenant_id))
            .await?;
        let filter = self
            .kit
            .answer(&ctx, read::filter(request.filter.as_ref()))
            .await?;
        let bound = (tenant.map(TenantId::uuid), &filter);
        let page = self
            .kit
            .pages
            .read(&ctx, request.page_size, &request.page_token, &bound);
        let page = self.kit.answer(&ctx, page).await?;
        let rows = operations::list_tenant_records(&self.exempt, tenant, &filter, &page).await;
        let rows = self.kit.answer(&ctx, rows).await?;
        let pages = &self.kit.pages;
        let finished = pages.finish(
            &ctx,
            &page,
            rows,
            &bound,
            |last| {
                let record = &last.record;
                (
                    record.tenant.uuid(),
                    record.log.is_operator_only(),
                    record.sequence,
                )
            },
            Into::into,
        );
        let (records, next_page_token) = self.kit.answer(&ctx, finished).await?;
        Ok(Response::new(pb::ListTenantRecordsResponse {
            records,
            next_page_token,
        }))
    }

    type ExportRecordsStream = ReceiverStream<Result<pb::ExportRecordsResponse, Status>>;

    async fn export_records(
        &self,
        request: Request<pb::ExportRecordsRequest>,
    ) -> Result<Response<Self::ExportRecordsStream>, Status> {
        let ctx = self
            .kit
            .authorize(&request, &permissions::EXPORT_RECORDS)
            .await?;
        let (tenant, after) = self
            .kit
            .answer(&ctx, read::export(request.get_ref()))
            .await?;
        let permit = Arc::clone(&self.exports)
            .try_acquire_owned()
            .map_err(|_| Error::TooManyExports);
        let permit = self.kit.answer(&ctx, permit).await?;
        let (sender, receiver) = tokio::sync::mpsc::channel(4);
        let export = Export {
            kit: self.kit.clone(),
            ctx,
            exempt: self.exempt.clone(),
            tenant,
            sender,
        };
        self.kit.tasks.spawn(async move {
            export.run(after).await;
            drop(permit);
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn list_tenant_alerts(
        &self,
        request: Request<pb::ListTenantAlertsRequest>,
    ) -> Result<Response<pb::ListTenantAlertsResponse>, Status> {
        let ctx = self
            .kit
            .authorize(&request, &permissions::LIST_TENANT_ALERTS)
            .await?;
        let request = request.into_inner();
        let tenant = self
            .kit
            .answer(&ctx, read::optional_tenant(&request.tenant_id))
            .await?;
        let filter = self
            .kit
            .answer(&ctx, read::alerts_of_tenants(&request))
            .await?;
        let bound = (tenant.map(TenantId::uuid), &filter);
        let page = self
            .kit
            .pages
            .read(&ctx, request.page_size, &request.page_token, &bound);
        let page = self.kit.answer(&ctx, page).await?;
        let rows = operations::list_tenant_alerts(&self.exempt, tenant, &filter, &page).await;
        let rows = self.kit.answer(&ctx, rows).await?;
        let finished = self.kit.pages.finish(
            &ctx,
            &page,
            rows,
            &bound,
            |last| last.alert.id.uuid(),
            Into::into,
        );
        let (alerts, next_page_token) = self.kit.answer(&ctx, finished).await?;
        Ok(Response::new(pb::ListTenantAlertsResponse {
            alerts,
            next_page_token,
        }))
    }

    async fn acknowledge_tenant_alert(
        &self,
        request: Request<pb::AcknowledgeTenantAlertRequest>,
    ) -> Result<Response<pb::AcknowledgeTenantAlertResponse>, Status> {
        let ctx = self
            .kit
            .authorize(&request, &permissions::ACKNOWLEDGE_TENANT_ALERT)
            .await?;
        let (repeat, tenant, read) = self
            .kit
            .answer(&ctx, read::acknowledge_of_tenant(request.get_ref()))
            .await?;
        let theirs = self.exempt.ctx_in(tenant, &ctx);
        let settled = operations::acknowledge_alert(
            &theirs,
            &self.kit.db,
            &repeat,
            read.alert_id,
            read.note,
            read.etag,
        )
        .await;
        // A miss is the operator's, not the tenant's.
        let alert = self.kit.answer(&ctx, settled).await?;
        let alert = pb::TenantAlert {
            tenant_id: convert::tenant_text(tenant),
            alert: Some(alert.into()),
            parties: None,
        };
        Ok(Response::new(pb::AcknowledgeTenantAlertResponse {
            alert: Some(alert),
        }))
    }
}
