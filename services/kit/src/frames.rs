//! The frames that arrive on a connection, counted: those that cost their sender nothing may not come at any rate.
//!
//! The HTTP/2 library bounds what floods make it keep, not what they make it do: it answers pings and settings for as
//! long as they come.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The client's first bytes, before its first frame.
const PREFACE: usize = 24;
/// The bytes before each frame: length, type, flags and stream.
const HEADER: u8 = 9;
const SECOND: Duration = Duration::from_secs(1);

/// What was seen of a connection, for whoever serves it.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    begun: AtomicBool,
    flooded: AtomicBool,
}

impl Seen {
    /// Whether HTTP/2 was begun.
    pub(crate) fn begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    /// Whether it was ended for the number of its frames.
    pub(crate) fn flooded(&self) -> bool {
        self.flooded.load(Ordering::Relaxed)
    }
}

/// A connection that fails when a flood comes in.
pub(crate) struct Counted<IO> {
    io: IO,
    frames: Frames,
    seen: Arc<Seen>,
}

impl<IO> Counted<IO> {
    pub(crate) fn new(io: IO) -> (Self, Arc<Seen>) {
        let seen = Arc::<Seen>::default();
        let counted = Self {
            io,
            frames: Frames::new(),
            seen: Arc::clone(&seen),
        };
        (counted, seen)
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Counted<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut me.io).poll_read(cx, buffer))?;
        let came = buffer.filled().get(before..).unwrap_or_default();
        if me.frames.take(came).is_err() {
            me.seen.flooded.store(true, Ordering::Relaxed);
            return Poll::Ready(Err(io::Error::other("too many frames in a second")));
        }
        if me.frames.preface == 0 {
            me.seen.begun.store(true, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Counted<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

/// Follows the frames through whatever pieces they come in.
#[derive(Debug)]
struct Frames {
    /// Bytes of the preface still to come.
    preface: usize,
    /// The header's first eight bytes; the ninth is of the stream, which is not looked at.
    header: u64,
    header_bytes: u8,
    /// Bytes of the frame still to come.
    payload: usize,
    since: Instant,
    resets: u32,
    pings: u32,
    settings: u32,
    window_updates: u32,
}

/// More of one kind came within a second than a connection may send.
#[derive(Debug)]
struct Flood;

impl Frames {
    fn new() -> Self {
        Self {
            preface: PREFACE,
            header: 0,
            header_bytes: 0,
            payload: 0,
            since: Instant::now(),
            resets: 0,
            pings: 0,
            settings: 0,
            window_updates: 0,
        }
    }

    fn take(&mut self, mut bytes: &[u8]) -> Result<(), Flood> {
        while let Some((first, rest)) = bytes.split_first() {
            let skip = if self.preface > 0 {
                &mut self.preface
            } else {
                &mut self.payload
            };
            if *skip > 0 {
                let taken = bytes.len().min(*skip);
                *skip -= taken;
                bytes = bytes.get(taken..).unwrap_or_default();
                continue;
            }
            bytes = rest;
            self.header_bytes += 1;
            if self.header_bytes < HEADER {
                self.header = self.header << 8 | u64::from(*first);
                continue;
            }
            let [l0, l1, l2, kind, ..] = self.header.to_be_bytes();
            self.payload = usize::try_from(u32::from_be_bytes([0, l0, l1, l2])).unwrap_or(0);
            (self.header, self.header_bytes) = (0, 0);
            self.count(kind)?;
        }
        Ok(())
    }

    /// How many of each kind may come within a second: far above what clients send that have a use for the answer.
    fn count(&mut self, kind: u8) -> Result<(), Flood> {
        if self.since.elapsed() >= SECOND {
            self.since = Instant::now();
            (self.resets, self.pings) = (0, 0);
            (self.settings, self.window_updates) = (0, 0);
        }
        let (count, limit) = match kind {
            3 => (&mut self.resets, 1_000),
            6 => (&mut self.pings, 10_000),
            // Priorities have no meaning any more and cost as much as settings.
            2 | 4 => (&mut self.settings, 100),
            8 => (&mut self.window_updates, 200_000),
            _ => return Ok(()),
        };
        *count += 1;
        if *count > limit { Err(Flood) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ping() -> Vec<u8> {
        let mut frame = vec![0, 0, 8, 6, 0, 0, 0, 0, 0];
        frame.extend([7; 8]);
        frame
    }

    fn begun() -> Frames {
        let mut frames = Frames::new();
        frames.take(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        frames
    }

    #[test]
    fn frames_are_counted_however_the_reads_cut_them() {
        for size in [1, 2, 5, 9, 17, 18, 100] {
            let mut frames = begun();
            // A payload that looks like frames is none.
            let mut bytes = vec![0, 0, 17, 0, 0, 0, 0, 0, 1];
            bytes.extend(ping());
            bytes.extend(ping().repeat(3));
            for piece in bytes.chunks(size) {
                frames.take(piece).unwrap();
            }
            assert_eq!(frames.pings, 3, "reads of {size}");
        }
    }

    #[test]
    fn a_flood_is_told_within_its_second_and_a_steady_flow_is_not() {
        let mut frames = begun();
        assert!(frames.take(&ping().repeat(10_000)).is_ok());
        frames.since -= SECOND;
        assert!(frames.take(&ping().repeat(10_000)).is_ok());
        assert!(frames.take(&ping()).is_err());
        let reset = [0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 8];
        assert!(begun().take(&reset.repeat(1_000)).is_ok());
        assert!(begun().take(&reset.repeat(1_001)).is_err());
    }
}
