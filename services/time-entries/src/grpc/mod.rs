//! The wire: authorize, convert, call, convert back.

mod chunks;
mod import;
mod summary;
mod time_entry;

use std::sync::Arc;

use futures::channel::mpsc;
use kit::kit::Kit;
use proto::time_entries::v1 as pb;
use proto::time_entries::v1::time_entry_service_server::TimeEntryService;
use tonic::{Request, Response, Status, Streaming};
use tracing::Instrument;

use crate::owners::Owners;
use crate::{operations, permissions};
use chunks::Chunks;

/// Serves the package.
#[derive(Clone)]
pub(crate) struct Service {
    kit: Kit,
    owners: Owners,
    chunks: Arc<Chunks>,
}

impl Service {
    pub(crate) fn new(kit: Kit, owners: Owners) -> Self {
        Self {
            kit,
            owners,
            chunks: Arc::new(Chunks::new()),
        }
    }
}

#[tonic::async_trait]
impl TimeEntryService for Service {
    type ImportTimeEntriesStream = mpsc::Receiver<Result<pb::ImportTimeEntriesResponse, Status>>;

    async fn create_time_entry(
        &self,
        request: Request<pb::CreateTimeEntryRequest>,
    ) -> Result<Response<pb::CreateTimeEntryResponse>, Status> {
        let ctx = self.kit.authorize(&request, &permissions::CREATE).await?;
        let (repeat, new) = self
            .kit
            .answer(&ctx, time_entry::read_create(request.get_ref()))
            .await?;
        let created =
            operations::create_time_entry(&ctx, &self.kit.db, &self.owners, &repeat, new).await;
        let entry = self.kit.answer(&ctx, created).await?;
        Ok(Response::new(pb::CreateTimeEntryResponse {
            time_entry: Some(entry.into()),
        }))
    }

    async fn get_time_entry(
        &self,
        request: Request<pb::GetTimeEntryRequest>,
    ) -> Result<Response<pb::GetTimeEntryResponse>, Status> {
        let ctx = self.kit.authorize(&request, &permissions::GET).await?;
        let id = self
            .kit
            .answer(&ctx, time_entry::read_id(&request.get_ref().time_entry_id))
            .await?;
        let found = operations::get_time_entry(&ctx, &self.kit.db, id).await;
        let entry = self.kit.answer(&ctx, found).await?;
        Ok(Response::new(pb::GetTimeEntryResponse {
            time_entry: Some(entry.into()),
        }))
    }

    async fn list_time_entries(
        &self,
        request: Request<pb::ListTimeEntriesRequest>,
    ) -> Result<Response<pb::ListTimeEntriesResponse>, Status> {
        let ctx = self.kit.authorize(&request, &permissions::LIST).await?;
        let request = request.into_inner();
        let filter = self
            .kit
            .answer(&ctx, time_entry::read_filter(&request))
            .await?;
        let page = self
            .kit
            .pages
            .read(&ctx, request.page_size, &request.page_token, &filter);
        let page = self.kit.answer(&ctx, page).await?;
        let rows = operations::list_time_entries(&ctx, &self.kit.db, &filter, &page).await;
        let rows = self.kit.answer(&ctx, rows).await?;
        let position = |last: &crate::time_entry::TimeEntry| (last.span.started_at, last.id.uuid());
        let pages = &self.kit.pages;
        let finished = pages.finish(&ctx, &page, rows, &filter, position, Into::into);
        let (time_entries, next_page_token) = self.kit.answer(&ctx, finished).await?;
        Ok(Response::new(pb::ListTimeEntriesResponse {
            time_entries,
            next_page_token,
        }))
    }

    async fn update_time_entry(
        &self,
        request: Request<pb::UpdateTimeEntryRequest>,
    ) -> Result<Response<pb::UpdateTimeEntryResponse>, Status> {
        let ctx = self.kit.authorize(&request, &permissions::UPDATE).await?;
        let (repeat, update) = self
            .kit
            .answer(&ctx, time_entry::read_update(request.get_ref()))
            .await?;
        let updated =
            operations::update_time_entry(&ctx, &self.kit.db, &self.owners, &repeat, update).await;
        let entry = self.kit.answer(&ctx, updated).await?;
        Ok(Response::new(pb::UpdateTimeEntryResponse {
            time_entry: Some(entry.into()),
        }))
    }

    async fn delete_time_entry(
        &self,
        request: Request<pb::DeleteTimeEntryRequest>,
    ) -> Result<Response<pb::DeleteTimeEntryResponse>, Status> {
        let ctx = self.kit.authorize(&request, &permissions::DELETE).await?;
        let (repeat, id, etag) = self
            .kit
            .answer(&ctx, time_entry::read_delete(request.get_ref()))
            .await?;
        let deleted = operations::delete_time_entry(&ctx, &self.kit.db, &repeat, id, etag).await;
        self.kit.answer(&ctx, deleted).await?;
        Ok(Response::new(pb::DeleteTimeEntryResponse {}))
    }

    /// The chunks are worked on in a task of their own: one that was begun ends even when the caller hangs up.
    async fn import_time_entries(
        &self,
        request: Request<Streaming<pb::ImportTimeEntriesRequest>>,
    ) -> Result<Response<Self::ImportTimeEntriesStream>, Status> {
        let ctx = self.kit.authorize(&request, &permissions::IMPORT).await?;
        let (metadata, extensions, chunks) = request.into_parts();
        let credentials = Request::from_parts(metadata, extensions, ());
        let (answers, answered) = mpsc::channel(0);
        let serving = import::serve(self.clone(), ctx.tenant(), credentials, chunks, answers);
        self.kit.tasks.spawn(serving.in_current_span());
        Ok(Response::new(answered))
    }

    async fn summarize_time_entries(
        &self,
        request: Request<pb::SummarizeTimeEntriesRequest>,
    ) -> Result<Response<pb::SummarizeTimeEntriesResponse>, Status> {
        let ctx = self
            .kit
            .authorize(&request, &permissions::SUMMARIZE)
            .await?;
        let request = request.into_inner();
        let selection = self
            .kit
            .answer(&ctx, summary::read_selection(&request))
            .await?;
        let page = self
            .kit
            .pages
            .read(&ctx, request.page_size, &request.page_token, &selection);
        let page = self.kit.answer(&ctx, page).await?;
        let rows = operations::summarize_time_entries(&ctx, &self.kit.db, &selection, &page).await;
        let rows = self.kit.answer(&ctx, rows).await?;
        let finished = self.kit.pages.finish(
            &ctx,
            &page,
            rows,
            &selection,
            |last| last.key.clone(),
            |sum| summary::row(selection.grouping, sum),
        );
        let (rows, next_page_token) = self.kit.answer(&ctx, finished).await?;
        Ok(Response::new(pb::SummarizeTimeEntriesResponse {
            rows,
            next_page_token,
        }))
    }
}
