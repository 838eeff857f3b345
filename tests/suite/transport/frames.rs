//! HTTP/2 by hand: a peer that sends whatever frames a test likes, and reads what comes back.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RESET: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

/// A frame as it came.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

impl Frame {
    /// The reason of a RST_STREAM (its first word) or of a GOAWAY (its second).
    pub(super) fn reason(&self) -> Option<u32> {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        let word = self.payload.get(at..at + 4)?;
        Some(u32::from_be_bytes(word.try_into().ok()?))
    }
}

/// How a connection ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// The reason of the last GOAWAY, if one came.
    pub(super) reason: Option<u32>,
    /// Whether the server closed the connection.
    pub(super) closed: bool,
}

/// One end of a connection.
pub(super) struct Peer {
    stream: TcpStream,
    read: Vec<u8>,
    /// Whether the server's settings and pings are answered, as they must be.
    pub(super) answers: bool,
}

impl Peer {
    /// Connects from an address of this machine, and sends nothing.
    pub(super) async fn silent(server: SocketAddr, from: &str) -> std::io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(from.parse().expect("an address"), 0))?;
        Ok(Self {
            stream: socket.connect(server).await?,
            read: Vec::new(),
            answers: false,
        })
    }

    /// Connects and begins HTTP/2 with these settings.
    pub(super) async fn begin(server: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let mut peer = Self::silent(server, "127.0.0.2").await.expect("connected");
        let mut payload = Vec::new();
        for (name, value) in settings {
            payload.extend(name.to_be_bytes());
            payload.extend(value.to_be_bytes());
        }
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(frame(SETTINGS, 0, 0, &payload));
        peer.send(&bytes).await.expect("begun");
        peer.answers = true;
        peer
    }

    /// Sends bytes; an error when the server has closed.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        // Who floods does not wait for a server that has stopped reading.
        tokio::time::timeout(Duration::from_secs(10), self.stream.write_all(bytes))
            .await
            .map_err(std::io::Error::other)?
    }

    /// The next frame; none when nothing comes in time, an error when the connection is at its end.
    pub(super) async fn frame(&mut self, limit: Duration) -> std::io::Result<Option<Frame>> {
        let until = tokio::time::Instant::now() + limit;
        loop {
            if let Some(frame) = self.parsed() {
                if self.answers && frame.flags & ACK == 0 {
                    let answer = match frame.kind {
                        SETTINGS => Some(self::frame(SETTINGS, ACK, 0, &[])),
                        PING => Some(self::frame(PING, ACK, 0, &frame.payload)),
                        _ => None,
                    };
                    if let Some(answer) = answer {
                        self.send(&answer).await?;
                    }
                }
                return Ok(Some(frame));
            }
            let read = self.stream.read_buf(&mut self.read);
            let Ok(read) = tokio::time::timeout_at(until, read).await else {
                return Ok(None);
            };
            if read? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn parsed(&mut self) -> Option<Frame> {
        let header = self.read.get(..9)?;
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
        let end = 9 + usize::try_from(length).ok()?;
        let stream = u32::from_be_bytes([header[5], header[6], header[7], header[8]]);
        let frame = Frame {
            kind: header[3],
            flags: header[4],
            stream,
            payload: self.read.get(9..end)?.to_vec(),
        };
        self.read.drain(..end);
        Some(frame)
    }

    /// The first frame that fits, if it comes in time.
    pub(super) async fn awaits(
        &mut self,
        limit: Duration,
        fits: impl Fn(&Frame) -> bool,
    ) -> Option<Frame> {
        let until = tokio::time::Instant::now() + limit;
        loop {
            let left = until.checked_duration_since(tokio::time::Instant::now())?;
            match self.frame(left).await {
                Ok(Some(frame)) if fits(&frame) => return Some(frame),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return None,
            }
        }
    }

    /// Reads to the end of the connection, or of the time.
    pub(super) async fn ends(&mut self, limit: Duration) -> Ended {
        let until = tokio::time::Instant::now() + limit;
        let mut reason = None;
        loop {
            let left = until.saturating_duration_since(tokio::time::Instant::now());
            match self.frame(left).await {
                Ok(Some(frame)) if frame.kind == GOAWAY => reason = frame.reason(),
                Ok(Some(_)) => {}
                Ok(None) => {
                    return Ended {
                        reason,
                        closed: false,
                    };
                }
                Err(_) => {
                    return Ended {
                        reason,
                        closed: true,
                    };
                }
            }
        }
    }
}

/// A frame's bytes.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short payload");
    let mut bytes = length.to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Headers in HPACK: literals that no table keeps.
pub(super) fn block(headers: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in headers {
        bytes.push(0);
        for text in [name, value] {
            length(text.len(), &mut bytes);
            bytes.extend(text.as_bytes());
        }
    }
    bytes
}

/// A number with a prefix of seven bits.
fn length(mut number: usize, bytes: &mut Vec<u8>) {
    if number < 127 {
        bytes.push(u8::try_from(number).expect("below 127"));
        return;
    }
    bytes.push(127);
    number -= 127;
    while number >= 128 {
        bytes.push(u8::try_from(number % 128).expect("below 128") | 128);
        number /= 128;
    }
    bytes.push(u8::try_from(number).expect("below 128"));
}

/// The head of a call.
pub(super) fn call(method: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let path = format!("/{method}");
    let mut headers = vec![
        (":method", "POST"),
        (":scheme", "http"),
        (":path", &path),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    headers.extend(more);
    block(&headers)
}

/// A message as gRPC frames it.
pub(super) fn message(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("a short message");
    let mut framed = vec![0];
    framed.extend(length.to_be_bytes());
    framed.extend(bytes);
    framed
}
