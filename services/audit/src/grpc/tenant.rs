//! `AuditService`: a firm reads what happened in its tenant, and settles its alerts.

use proto::audit::v1 as pb;
use proto::audit::v1::audit_service_server::AuditService;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::watch::Watch;
use super::{Service, convert, read};
use crate::error::Error;
use crate::{operations, permissions};

#[tonic::async_trait]
impl AuditService for Service {
    async fn list_records(
        &self,
        request: Request<pb::ListRecordsRequest>,
    ) -> Result<Response<pb::ListRecordsResponse>, Status> {
        let ctx = self
            .kit
            .authorize(&request, &permissions::LIST_RECORDS)
            .await?;
        let request = request.into_inner();
        let filter = self
            .kit
            .answer(&ctx, read::filter(request.filter.as_ref()))
            .await?;
        let page = self
            .kit
            .pages
            .read(&ctx, request.page_size, &request.page_token, &filter);
        let page = self.kit.answer(&ctx, page).await?;
        let rows = operations::list_records(&ctx, &self.kit.db, &filter, &page).await;
        let rows = self.kit.answer(&ctx, rows).await?;
        let finished = self.kit.pages.finish(
            &ctx,
            &page,
            rows,
            &filter,
            |last| last.sequence,
            convert::record_for_tenant,
        );
        let (records, next_page_token) = self.kit.answer(&ctx, finished).await?;
        Ok(Response::new(pb::ListRecordsResponse {
            records,
            next_page_token,
        }))
    }

    type WatchRecordsStream = ReceiverStream<Result<pb::WatchRecordsResponse, Status>>;

    async fn watch_records(
        &self,
        request: Request<pb::WatchRecordsRequest>,
    ) -> Result<Response<Self::WatchRecordsStream>, Status> {
        let ctx = self
            .kit
            .authorize(&request, &permissions::WATCH_RECORDS)
            .await?;
        let (filter, after) = self
            .kit
            .answer(&ctx, read::watch(request.get_ref()))
            .await?;
        let permit = self.watches.take(Some(ctx.tenant()), 1);
        let permit = permit.ok_or(Error::TooManyWatches);
        let permit = self.kit.answer(&ctx, permit).await?;
        let after = match after {
            Some(sequence) => sequence,
            None => {
                self.kit
                    .answer(&ctx, operations::end_of_log(&ctx, &self.kit.db).await)
                    .await?
            }
        };
        let (sender, receiver) = tokio::sync::mpsc::channel(64);
        let (metadata, extensions, _) = request.into_parts();
        let watch = Watch {
            kit: self.kit.clone(),
            ctx,
            credentials: Request::from_parts(metadata, extensions, ()),
            filter,
            appended: self.recorder.listen(),
            sender,
        };
        self.kit.tasks.spawn(async move {
            watch.run(after).await;
            drop(permit);
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn list_alerts(
        &self,
        request: Request<pb::ListAlertsRequest>,
    ) -> Result<Response<pb::ListAlertsResponse>, Status> {
        let ctx = self
            .kit
            .authorize(&request, &permissions::LIST_ALERTS)
            .await?;
        let request = request.into_inner();
        let filter = self.kit.answer(&ctx, read::alerts(&request)).await?;
        let page = self
            .kit
            .pages
            .read(&ctx, request.page_size, &request.page_token, &filter);
        let page = self.kit.answer(&ctx, page).await?;
        let rows = operations::list_alerts(&ctx, &self.kit.db, &filter, &page).await;
        let rows = self.kit.answer(&ctx, rows).await?;
        let finished = self.kit.pages.finish(
            &ctx,
            &page,
            rows,
            &filter,
            |last| last.id.uuid(),
            Into::into,
        );
        let (alerts, next_page_token) = self.kit.answer(&ctx, finished).await?;
        Ok(Response::new(pb::ListAlertsResponse {
            alerts,
            next_page_token,
        }))
    }

    async fn acknowledge_alert(
        &self,
        request: Request<pb::AcknowledgeAlertRequest>,
    ) -> Result<Response<pb::AcknowledgeAlertResponse>, Status> {
        let ctx = self
            .kit
            .authorize(&request, &permissions::ACKNOWLEDGE_ALERT)
            .await?;
        let (repeat, read) = self
            .kit
            .answer(&ctx, read::acknowledge(request.get_ref()))
            .await?;
        let settled = operations::acknowledge_alert(
            &ctx,
            &self.kit.db,
            &repeat,
            read.alert_id,
            read.note,
            read.etag,
        )
        .await;
        let alert = self.kit.answer(&ctx, settled).await?;
        Ok(Response::new(pb::AcknowledgeAlertResponse {
            alert: Some(alert.into()),
        }))
    }
}
