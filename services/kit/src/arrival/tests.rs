//! How a request is looked at while it arrives.

use std::num::NonZeroU32;

use http_body_util::BodyExt as _;

use super::*;
use crate::limits::Limits;
use crate::plan::Plan;
use crate::settings::LimitSettings;

/// A body of which these frames come, and then its end, or nothing.
struct Frames {
    frames: Vec<&'static [u8]>,
    ends: bool,
}

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = Status;
    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.frames.is_empty() {
            return if self.ends {
                Poll::Ready(None)
            } else {
                Poll::Pending
            };
        }
        let next = Bytes::from_static(self.frames.remove(0));
        Poll::Ready(Some(Ok(Frame::data(next))))
    }
}

fn arriving(frames: Vec<&'static [u8]>, place: Place, capacity: Capacity) -> Arriving {
    let deadline = tokio::time::Instant::now() + Duration::from_millis(20);
    let ends = false;
    let body = Body::new(Frames { frames, ends });
    Arriving::one(body, deadline, place, capacity, Sender::default())
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
async fn a_call_takes_its_place_when_its_request_has_ended_and_not_before() {
    let capacity = Capacity::default();
    let place = Place::new(Class::Write);
    let frames: Vec<&[u8]> = vec![&[0, 0, 0], &[0, 2, 7], &[7]];
    let mut body = arriving(frames.clone(), place.clone(), capacity.clone());
    for _ in &frames {
        next(&mut body).await.unwrap();
        assert_eq!(capacity.calls.available_permits(), MAX_CALLS);
    }
    // Whole, and not ended: it is given up like one that is not whole.
    let error = next(&mut body).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    assert_eq!(capacity.calls.available_permits(), MAX_CALLS);

    body.body = Body::new(Frames { frames, ends: true });
    while let Some(frame) = body.frame().await {
        frame.unwrap();
    }
    assert_eq!(capacity.calls.available_permits(), MAX_CALLS - 1);
    place.leave();
    assert_eq!(capacity.calls.available_permits(), MAX_CALLS);
}

#[tokio::test(start_paused = true)]
async fn a_message_of_a_stream_that_never_ends_is_given_up_and_the_time_between_two_is_not_counted()
{
    let (first, half): (&[u8], &[u8]) = (&[0, 0, 0, 0, 1, 7], &[0, 0, 0]);
    let streamed = |frames| {
        let body = Body::new(Frames {
            frames,
            ends: false,
        });
        Arriving::stream(body, Capacity::default(), Sender::default())
    };
    let mut between = streamed(vec![first]);
    next(&mut between).await.unwrap();
    let waited = tokio::time::timeout(MESSAGE * 2, next(&mut between)).await;
    assert!(waited.is_err());
    let mut unfinished = streamed(vec![first, half]);
    next(&mut unfinished).await.unwrap();
    next(&mut unfinished).await.unwrap();
    let began = tokio::time::Instant::now();
    let error = next(&mut unfinished).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    assert_eq!(began.elapsed().as_secs(), MESSAGE.as_secs());
}

#[test]
fn a_stream_that_has_left_its_place_takes_no_other_of_its_tenants_calls() {
    let limits = Limits::new(LimitSettings {
        tenant_calls_per_second: NonZeroU32::MAX,
        tenant_concurrent_calls: NonZeroU32::MIN,
    });
    let admit = || limits.admit(TenantId::PLATFORM, Plan::Standard);
    let place = Place::new(Class::Read);
    place.keep(admit().unwrap());
    assert!(admit().is_err());
    place.leave();
    // Let in once more, as a stream is.
    place.keep(admit().unwrap());
    assert!(admit().is_ok());
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
async fn large_messages_of_one_share_a_part_of_the_room_and_small_ones_do_not_need_it() {
    let capacity = Capacity::default();
    let of = |frames| arriving(frames, Place::new(Class::Write), capacity.clone());
    let mut waiting = Vec::new();
    for _ in 0..ROOM / 4 / MAX_MESSAGE_BYTES {
        let mut body = of(vec![&[0, 0, 64, 0, 0]]);
        next(&mut body).await.unwrap();
        waiting.push(body);
    }
    let large: &[u8] = &[0, 0, 1, 0, 1];
    let error = next(&mut of(vec![large])).await.unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted);
    // Nobody knows who sends those; who is known has a part of its own.
    let tenant = Some(TenantId::PLATFORM);
    assert!(capacity.room.take(tenant, MAX_MESSAGE_BYTES).is_some());
    next(&mut of(vec![&[0, 0, 0, 0, 0]])).await.unwrap();
    waiting.pop();
    next(&mut of(vec![large])).await.unwrap();
}

#[tokio::test]
async fn a_large_message_keeps_its_room_until_its_request_has_ended() {
    static MESSAGE: [u8; 5 + LARGE + 1] = {
        let mut message = [0; 5 + LARGE + 1];
        (message[2], message[4]) = (1, 1);
        message
    };
    let capacity = Capacity::default();
    let frames: Vec<&[u8]> = vec![&MESSAGE];
    let mut body = arriving(frames, Place::new(Class::Write), capacity.clone());
    next(&mut body).await.unwrap();
    // It is decoded now, and waits in memory for its end.
    let _late = next(&mut body).await.unwrap_err();
    assert!(capacity.room.take(None, ROOM / 4).is_none());
    drop(body);
    assert!(capacity.room.take(None, ROOM / 4).is_some());
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
