//! A request as it arrives: bounded in time, size and memory before anything decodes it.
//!
//! Invariant: what has not arrived whole holds no place among the calls at work, and large messages together never
//! hold more than [`ROOM`]. Reports are shed before reads, reads before writes, and probes never.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body::{Frame, SizeHint};
use proto::common::v1::{ErrorReason, ProtocolAbuse};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::body::Body;
use tonic::{Code, Status};

use crate::abuse::Reports;
use crate::class::Class;
use crate::error::Verdict;
use crate::ids::TenantId;
use crate::limits::{Bill, Seat};
use crate::telemetry::{METRICS, shed_labels};

/// The largest request message, in bytes.
pub(crate) const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;
/// Calls that one process works on at the same time; more are shed.
const MAX_CALLS: usize = 1_024;
/// Reads are shed when so many calls are at work.
const READ_CALLS: usize = 820;
/// Reports are shed when so many calls are at work.
const REPORT_CALLS: usize = 614;
/// What large messages of all calls may hold together, in bytes.
const ROOM: usize = 32 * 1024 * 1024;
/// A message above this is large.
const LARGE: usize = 64 * 1024;
/// The bytes before a message: a flag and its length.
const PREFIX: u8 = 5;

/// How much a process works on at the same time.
#[derive(Clone, Debug)]
pub(crate) struct Capacity {
    calls: Arc<Semaphore>,
    room: Arc<Semaphore>,
}

impl Default for Capacity {
    fn default() -> Self {
        Self {
            calls: Arc::new(Semaphore::new(MAX_CALLS)),
            room: Arc::new(Semaphore::new(ROOM)),
        }
    }
}

/// The place of one call among those at work: of the process, and of its tenant once that is known.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    class: Class,
    held: Arc<Mutex<Held>>,
    tenant: Arc<OnceLock<TenantId>>,
    bill: Arc<OnceLock<Bill>>,
}

#[derive(Debug, Default)]
struct Held {
    permit: Option<OwnedSemaphorePermit>,
    seat: Option<Seat>,
}

impl Place {
    pub(crate) fn new(class: Class) -> Self {
        Self {
            class,
            held: Arc::default(),
            tenant: Arc::default(),
            bill: Arc::default(),
        }
    }

    /// Takes a place, or says that there is none.
    pub(crate) fn take(&self, capacity: &Capacity) -> Result<(), Status> {
        let most = match self.class {
            Class::Health => return Ok(()),
            Class::Write => MAX_CALLS,
            Class::Read => READ_CALLS,
            Class::Report => REPORT_CALLS,
        };
        let at_work = MAX_CALLS - capacity.calls.available_permits();
        let permit = Arc::clone(&capacity.calls).try_acquire_owned().ok();
        let permit = permit.filter(|_| at_work < most);
        if permit.is_none() {
            return Err(overloaded(
                self.class,
                "the server is at its limit of calls",
            ));
        }
        self.held().permit = permit;
        Ok(())
    }

    /// Notes whose call it is.
    pub(crate) fn is_of(&self, tenant: TenantId) {
        // The gate sees a call once.
        let _ = self.tenant.set(tenant);
    }

    /// Whose call it is; none before its token was verified.
    pub(crate) fn tenant(&self) -> Option<TenantId> {
        self.tenant.get().copied()
    }

    /// Keeps the call among those of its tenant for as long as it has its place.
    pub(crate) fn keep(&self, seat: Seat) {
        // The gate sees a call once.
        let _ = self.bill.set(seat.bill());
        self.held().seat = Some(seat);
    }

    /// Where its answer is charged, which it outlives its place for; none when it was not let in.
    pub(crate) fn bill(&self) -> Option<&Bill> {
        self.bill.get()
    }

    /// Gives the place to another call.
    pub(crate) fn leave(&self) {
        *self.held() = Held::default();
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The body of a request. The server reads it within the call's task, so a caller that never finishes its request
/// would otherwise hold the task for as long as its connection lives.
pub(crate) struct Arriving {
    body: Body,
    /// None for a stream of messages, which its handler bounds.
    end: Option<Pin<Box<tokio::time::Sleep>>>,
    messages: Messages,
    capacity: Capacity,
    /// Taken when the first message is whole; none when the call has its place already.
    place: Option<Place>,
    held: Option<OwnedSemaphorePermit>,
    reports: Reports,
    peer: Option<IpAddr>,
}

impl Arriving {
    /// One message, whole by `deadline`; then the call takes its `place`.
    pub(crate) fn one(
        body: Body,
        deadline: tokio::time::Instant,
        place: Place,
        capacity: Capacity,
        reports: Reports,
        peer: Option<IpAddr>,
    ) -> Self {
        Self {
            end: Some(Box::pin(tokio::time::sleep_until(deadline))),
            place: Some(place),
            ..Self::stream(body, capacity, reports, peer)
        }
    }

    /// Messages of a call that has its place.
    pub(crate) fn stream(
        body: Body,
        capacity: Capacity,
        reports: Reports,
        peer: Option<IpAddr>,
    ) -> Self {
        Self {
            body,
            end: None,
            messages: Messages::default(),
            capacity,
            place: None,
            held: None,
            reports,
            peer,
        }
    }

    fn look(&mut self, mut bytes: &[u8]) -> Result<(), Status> {
        while let Some(seen) = self.messages.next(&mut bytes) {
            match seen {
                Seen::Whole => {
                    if let Some(place) = self.place.take() {
                        place.take(&self.capacity)?;
                    }
                }
                Seen::Compressed => {
                    self.reports
                        .abuse(self.peer, ProtocolAbuse::MessageMalformed);
                    let message =
                        "a message is marked as compressed, but no grpc-encoding is named";
                    return Err(Verdict::new(
                        Code::Internal,
                        ErrorReason::MessageMalformed,
                        message,
                    )
                    .into_status());
                }
                Seen::Begins(length) if length > MAX_MESSAGE_BYTES => {
                    self.reports
                        .abuse(self.peer, ProtocolAbuse::MessageTooLarge);
                    return Err(too_large());
                }
                Seen::Begins(length) => {
                    self.held = None;
                    if length > LARGE {
                        let wanted = u32::try_from(length).unwrap_or(u32::MAX);
                        let held = Arc::clone(&self.capacity.room)
                            .try_acquire_many_owned(wanted)
                            .map_err(|_| {
                                // Only writes carry so much.
                                overloaded(
                                    Class::Write,
                                    "the server is at its limit of large messages",
                                )
                            })?;
                        self.held = Some(held);
                    }
                }
            }
        }
        Ok(())
    }
}

impl http_body::Body for Arriving {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            if let Some(Ok(frame)) = &frame
                && let Some(data) = frame.data_ref()
            {
                let data = data.clone();
                if let Err(refused) = self.look(&data) {
                    return Poll::Ready(Some(Err(refused)));
                }
            }
            return Poll::Ready(frame);
        }
        let Some(end) = &mut self.end else {
            return Poll::Pending;
        };
        ready!(end.as_mut().poll(cx));
        self.reports
            .abuse(self.peer, ProtocolAbuse::RequestUnfinished);
        let late = "the request did not arrive within its deadline";
        Poll::Ready(Some(Err(Verdict::new(
            Code::DeadlineExceeded,
            ErrorReason::DeadlineExceeded,
            late,
        )
        .into_status())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Finds where messages begin and end in the frames of a body.
#[derive(Debug, Default)]
struct Messages {
    prefix: u64,
    prefix_bytes: u8,
    remaining: usize,
}

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// A message of this length begins.
    Begins(usize),
    /// A message is marked as compressed. No method accepts a compression, so none has a name.
    Compressed,
    /// A message has arrived to its end.
    Whole,
}

impl Messages {
    /// The next thing to see in `bytes`, from which it takes what it has looked at.
    fn next(&mut self, bytes: &mut &[u8]) -> Option<Seen> {
        if self.prefix_bytes == PREFIX {
            let taken = self.remaining.min(bytes.len());
            bytes.advance(taken);
            self.remaining -= taken;
            if self.remaining > 0 {
                return None;
            }
            (self.prefix, self.prefix_bytes) = (0, 0);
            return Some(Seen::Whole);
        }
        while bytes.has_remaining() {
            self.prefix = self.prefix << 8 | u64::from(bytes.get_u8());
            self.prefix_bytes += 1;
            if self.prefix_bytes == PREFIX {
                if self.prefix >> 32 != 0 {
                    return Some(Seen::Compressed);
                }
                self.remaining = usize::try_from(self.prefix).unwrap_or(usize::MAX);
                return Some(Seen::Begins(self.remaining));
            }
        }
        None
    }
}

pub(crate) fn too_large() -> Status {
    let message = "the message is larger than a request may be: send it in parts";
    Verdict::new(
        Code::ResourceExhausted,
        ErrorReason::MessageTooLarge,
        message,
    )
    .with("limit_bytes", &MAX_MESSAGE_BYTES)
    .into_status()
}

fn overloaded(class: Class, message: &str) -> Status {
    METRICS.shed.add(1, &shed_labels("load", class.name()));
    Verdict::new(Code::ResourceExhausted, ErrorReason::Overloaded, message)
        .retry_after(Duration::from_millis(200))
        .into_status()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A body of which these frames come, and then nothing.
    struct Frames(Vec<&'static [u8]>);

    impl http_body::Body for Frames {
        type Data = Bytes;
        type Error = Status;
        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            if self.0.is_empty() {
                return Poll::Pending;
            }
            let next = Bytes::from_static(self.0.remove(0));
            Poll::Ready(Some(Ok(Frame::data(next))))
        }
    }

    fn arriving(frames: Vec<&'static [u8]>, place: Place, capacity: Capacity) -> Arriving {
        let deadline = tokio::time::Instant::now() + Duration::from_millis(20);
        let body = Body::new(Frames(frames));
        Arriving::one(body, deadline, place, capacity, Reports::default(), None)
    }

    async fn next(body: &mut Arriving) -> Result<Frame<Bytes>, Status> {
        let mut body = Pin::new(body);
        std::future::poll_fn(|cx| http_body::Body::poll_frame(body.as_mut(), cx))
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn a_request_that_never_ends_is_given_up_at_its_deadline() {
        let mut body = arriving(vec![], Place::new(Class::Write), Capacity::default());
        let error = next(&mut body).await.unwrap_err();
        assert_eq!(error.code(), Code::DeadlineExceeded);
    }

    #[tokio::test]
    async fn a_call_takes_its_place_when_its_message_is_whole_and_not_before() {
        let capacity = Capacity::default();
        let place = Place::new(Class::Write);
        let frames: Vec<&[u8]> = vec![&[0, 0, 0], &[0, 2, 7], &[7]];
        let mut body = arriving(frames, place.clone(), capacity.clone());
        for free in [MAX_CALLS, MAX_CALLS, MAX_CALLS - 1] {
            next(&mut body).await.unwrap();
            assert_eq!(capacity.calls.available_permits(), free);
        }
        place.leave();
        assert_eq!(capacity.calls.available_permits(), MAX_CALLS);
    }

    #[test]
    fn reports_are_shed_before_reads_reads_before_writes_and_probes_never() {
        let capacity = Capacity::default();
        let classes = [Class::Health, Class::Write, Class::Read, Class::Report];
        let mut at_work = Vec::new();
        for (calls, let_in) in [(0, 4), (REPORT_CALLS, 3), (READ_CALLS, 2), (MAX_CALLS, 1)] {
            while at_work.len() < calls {
                let place = Place::new(Class::Write);
                place.take(&capacity).unwrap();
                at_work.push(place);
            }
            let taken = classes.map(|class| Place::new(class).take(&capacity).is_ok());
            let expected = [0, 1, 2, 3].map(|at| at < let_in);
            assert_eq!(taken, expected, "{calls} at work");
        }
        at_work.clear();
        assert_eq!(capacity.calls.available_permits(), MAX_CALLS);
    }

    #[tokio::test]
    async fn a_length_beyond_the_limit_is_refused_before_its_bytes_are_read() {
        let mut body = arriving(
            vec![&[0, 0, 64, 0, 1]],
            Place::new(Class::Write),
            Capacity::default(),
        );
        let error = next(&mut body).await.unwrap_err();
        assert_eq!(error.code(), Code::ResourceExhausted);
    }

    #[tokio::test]
    async fn large_messages_share_a_room_and_small_ones_do_not_need_it() {
        let capacity = Capacity::default();
        let mut waiting = Vec::new();
        for _ in 0..ROOM / MAX_MESSAGE_BYTES {
            let mut body = arriving(
                vec![&[0, 0, 64, 0, 0]],
                Place::new(Class::Write),
                capacity.clone(),
            );
            next(&mut body).await.unwrap();
            waiting.push(body);
        }
        let large: &[u8] = &[0, 0, 1, 0, 1];
        let mut refused = arriving(vec![large], Place::new(Class::Write), capacity.clone());
        let error = next(&mut refused).await.unwrap_err();
        assert_eq!(error.code(), Code::ResourceExhausted);
        let mut small = arriving(
            vec![&[0, 0, 0, 0, 0]],
            Place::new(Class::Write),
            capacity.clone(),
        );
        next(&mut small).await.unwrap();
        waiting.pop();
        let mut again = arriving(vec![large], Place::new(Class::Write), capacity);
        next(&mut again).await.unwrap();
    }

    #[test]
    fn messages_are_found_however_the_frames_cut_them() {
        let bytes = [0, 0, 0, 0, 3, 9, 9, 9, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1];
        for size in 1..=bytes.len() {
            let mut messages = Messages::default();
            let mut seen = Vec::new();
            for frame in bytes.chunks(size) {
                let mut rest = frame;
                while let Some(next) = messages.next(&mut rest) {
                    let ends = next == Seen::Compressed;
                    seen.push(next);
                    if ends {
                        break;
                    }
                }
            }
            let expected = [
                Seen::Begins(3),
                Seen::Whole,
                Seen::Begins(0),
                Seen::Whole,
                Seen::Compressed,
            ];
            assert_eq!(seen, expected, "frames of {size}");
        }
    }
}
