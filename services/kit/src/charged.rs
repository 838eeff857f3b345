//! The answer to a call, which its tenant is charged for.
//!
//! Whoever hangs up, or waits for a short time only, pays as well: the work is done. A stream has no end at which it could
//! be charged, and would leave its tenant's calls nothing, so it is slowed to what its tenant may have.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::FutureExt as _;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use tonic::Status;
use tonic::body::Body;

use crate::limits::Bill;

/// An answer that is charged as it is read.
pub(crate) struct Charged {
    body: Body,
    bill: Bill,
    sent: usize,
    is_stream: bool,
    pause: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Charged {
    /// Of one message, which is there as soon as it is asked for, or of many.
    pub(crate) fn new(body: Body, bill: Bill, is_stream: bool) -> Self {
        Self {
            body,
            bill,
            sent: 0,
            is_stream,
            pause: None,
        }
    }

    fn charge(&mut self, bytes: usize) {
        self.bill.charge(self.sent, bytes);
        self.sent += bytes;
    }
}

impl http_body::Body for Charged {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.charge(data.len());
            if self.is_stream {
                let pause = self.bill.pause();
                self.pause = (!pause.is_zero()).then(|| Box::pin(tokio::time::sleep(pause)));
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Charged {
    fn drop(&mut self) {
        if self.is_stream || self.sent > 0 {
            return;
        }
        // Nobody has read it.
        if let Some(Some(Ok(frame))) = self.body.frame().now_or_never() {
            self.charge(frame.data_ref().map_or(0, Bytes::len));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use http_body_util::{Full, StreamBody};

    use super::*;
    use crate::ids::TenantId;
    use crate::limits::Limits;
    use crate::plan::Plan;
    use crate::settings::LimitSettings;

    /// Ten calls at once.
    fn limits() -> Limits {
        Limits::new(LimitSettings {
            tenant_calls_per_second: NonZeroU32::MIN.saturating_add(9),
            tenant_concurrent_calls: NonZeroU32::MIN.saturating_add(99),
        })
    }

    fn bill(limits: &Limits) -> Bill {
        let seat = limits.admit(TenantId::NONE, Plan::Standard);
        seat.unwrap().bill()
    }

    fn is_past_its_limit(limits: &Limits) -> bool {
        limits.admit(TenantId::NONE, Plan::Standard).is_err()
    }

    fn message() -> Bytes {
        Bytes::from(vec![0; 90 * 1024])
    }

    #[test]
    fn an_answer_that_nobody_reads_is_charged_too() {
        let limits = limits();
        let body = Body::new(Full::new(message()).map_err(|never| match never {}));
        drop(Charged::new(body, bill(&limits), false));
        assert!(is_past_its_limit(&limits));
    }

    #[tokio::test]
    async fn an_answer_is_charged_once() {
        let limits = limits();
        let body = Body::new(Full::new(message()).map_err(|never| match never {}));
        let mut body = Charged::new(body, bill(&limits), false);
        assert!(body.frame().await.unwrap().is_ok());
        assert!(is_past_its_limit(&limits));
        let (bill, owed) = (body.bill.clone(), body.bill.pause());
        drop(body);
        assert!(bill.pause() <= owed);
    }

    #[tokio::test]
    async fn a_stream_that_sends_much_waits_for_its_tenant() {
        let limits = limits();
        let pieces = [message(), message()].map(|it| Ok::<_, Status>(Frame::data(it)));
        let body = Body::new(StreamBody::new(futures::stream::iter(pieces)));
        let mut body = Charged::new(body, bill(&limits), true);
        assert!(body.frame().await.unwrap().is_ok());
        assert!(body.frame().now_or_never().is_none());
        assert!(body.frame().await.unwrap().is_ok());
    }
}
