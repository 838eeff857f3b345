//! A request as it arrives: bounded in time, size and memory before anything decodes it.
//!
//! Invariant: a request that has not arrived to its end holds no place among the calls at work, and large messages
//! together never hold more than [`ROOM`], those of one tenant a quarter of it. Reports are shed before reads, reads
//! before writes, and probes never.

#[cfg(test)]
mod tests;

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::HeaderValue;
use http_body::{Frame, SizeHint};
use proto::common::v1::{ErrorReason, ProtocolAbuse};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::body::Body;
use tonic::{Code, Status};

use crate::abuse::Reports;
use crate::class::Class;
use crate::door::Doors;
use crate::error::Verdict;
use crate::ids::TenantId;
use crate::limits::{Bill, Seat};
use crate::shares::{Share, Shares};
use crate::telemetry::{METRICS, shed_labels};

/// The largest request message, in bytes.
pub(crate) const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;
/// Calls that one process works on at the same time; more are shed.
pub(crate) const MAX_CALLS: usize = 1_024;
/// Reads are shed when so many calls are at work.
const READ_CALLS: usize = 820;
/// Reports are shed when so many calls are at work.
const REPORT_CALLS: usize = 614;
/// What large messages of all calls may hold together, in bytes.
const ROOM: usize = 32 * 1024 * 1024;
/// A message above this is large.
const LARGE: usize = 64 * 1024;
/// How long a message of a stream may take from its first byte to its last.
const MESSAGE: Duration = Duration::from_secs(10);
/// The bytes before a message: a flag and its length.
const PREFIX: u8 = 5;

/// How much a process works on at the same time.
#[derive(Clone, Debug)]
pub(crate) struct Capacity {
    calls: Arc<Semaphore>,
    room: Shares,
}

impl Default for Capacity {
    fn default() -> Self {
        Self {
            calls: Arc::new(Semaphore::new(MAX_CALLS)),
            room: Shares::new(ROOM, ROOM / 4),
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
    /// It goes on as a stream, which is let in again and again and has no place any more.
    has_left: bool,
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
        let mut held = self.held();
        if !held.has_left {
            held.seat = Some(seat);
        }
    }

    /// Where its answer is charged, which it outlives its place for; none when it was not let in.
    pub(crate) fn bill(&self) -> Option<&Bill> {
        self.bill.get()
    }

    /// Gives the place to another call.
    pub(crate) fn leave(&self) {
        *self.held() = Held {
            has_left: true,
            ..Held::default()
        };
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who sends a request, as far as that is known while it arrives.
#[derive(Debug, Default)]
pub(crate) struct Sender {
    pub(crate) peer: Option<IpAddr>,
    pub(crate) reports: Reports,
    pub(crate) doors: Arc<Doors>,
    pub(crate) method: Arc<str>,
    pub(crate) authorization: Option<HeaderValue>,
}

impl Sender {
    fn abuse(&self, abuse: ProtocolAbuse) {
        self.reports.abuse(self.peer, abuse);
    }

    /// None unless its token was verified before.
    fn tenant(&self) -> Option<TenantId> {
        let authorization = self.authorization.as_ref()?;
        self.doors.remembers(&self.method, authorization)
    }
}

/// The body of a request. The server reads it within the call's task, so a caller that never finishes its request
/// would otherwise hold the task for as long as its connection lives.
pub(crate) struct Arriving {
    body: Body,
    /// When it must have arrived; of a stream, the message that is on its way.
    end: Option<Pin<Box<tokio::time::Sleep>>>,
    /// The handler bounds how long nothing comes between two messages.
    is_stream: bool,
    messages: Messages,
    capacity: Capacity,
    /// Taken when all of it is there; none when the call has its place already.
    place: Option<Place>,
    held: Option<Share>,
    sender: Sender,
}

impl Arriving {
    /// One message, there to its end by `deadline`; then the call takes its `place`.
    pub(crate) fn one(
        body: Body,
        deadline: tokio::time::Instant,
        place: Place,
        capacity: Capacity,
        sender: Sender,
    ) -> Self {
        Self {
            end: Some(Box::pin(tokio::time::sleep_until(deadline))),
            is_stream: false,
            place: Some(place),
            ..Self::stream(body, capacity, sender)
        }
    }

    /// Messages of a call that has its place.
    pub(crate) fn stream(body: Body, capacity: Capacity, sender: Sender) -> Self {
        Self {
            body,
            end: None,
            is_stream: true,
            messages: Messages::default(),
            capacity,
            place: None,
            held: None,
            sender,
        }
    }

    /// Of a stream, the message before has been taken when the next is asked for. One that is alone waits, decoded, for
    /// the end of its request.
    fn goes_on(&mut self) {
        if self.is_stream && self.messages.is_between() {
            self.held = None;
        }
    }

    /// All of it is there. The decoder reads to here before the handler begins: a place that was taken with the last
    /// byte of the message would be held by who never says that it was the last.
    fn is_there(&mut self) -> Result<(), Status> {
        let place = self.place.take();
        place.map_or(Ok(()), |place| place.take(&self.capacity))
    }

    fn look(&mut self, mut bytes: &[u8]) -> Result<(), Status> {
        while let Some(seen) = self.messages.next(&mut bytes) {
            match seen {
                Seen::Whole if self.is_stream => self.end = None,
                Seen::Whole => {}
                Seen::Compressed => {
                    self.sender.abuse(ProtocolAbuse::MessageMalformed);
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
                    self.sender.abuse(ProtocolAbuse::MessageTooLarge);
                    return Err(too_large());
                }
                Seen::Begins(length) => {
                    self.held = None;
                    if length > LARGE {
                        let held = self.capacity.room.take(self.sender.tenant(), length);
                        self.held = Some(held.ok_or_else(|| {
                            // Only writes carry so much.
                            overloaded(Class::Write, "the server is at its limit of large messages")
                        })?);
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
        self.goes_on();
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            let looked = match &frame {
                Some(Ok(frame)) => match frame.data_ref().cloned() {
                    Some(data) => self.look(&data),
                    None => self.is_there(),
                },
                Some(Err(_)) => Ok(()),
                None => self.is_there(),
            };
            return Poll::Ready(match looked {
                Ok(()) => frame,
                Err(refused) => Some(Err(refused)),
            });
        }
        if self.end.is_none() && !self.messages.is_between() {
            self.end = Some(Box::pin(tokio::time::sleep(MESSAGE)));
        }
        let Some(end) = &mut self.end else {
            return Poll::Pending;
        };
        ready!(end.as_mut().poll(cx));
        self.sender.abuse(ProtocolAbuse::RequestUnfinished);
        let late = if self.is_stream {
            "a message of the stream did not arrive within 10 s of its first byte"
        } else {
            "the request did not arrive within its deadline"
        };
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
    /// Whether nothing of the next message has come.
    fn is_between(&self) -> bool {
        self.prefix_bytes == 0
    }

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
