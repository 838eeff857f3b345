//! A way to PostgreSQL that counts what is sent over it: a proxy that reads each message of the protocol's front end and
//! passes it on as it is.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use kit::tasks::Tasks;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// The codes of the first message that ask for encryption, in place of the protocol's version.
const ENCRYPTION: [u32; 2] = [80_877_103, 80_877_104];

/// The proxy. It lives as long as its runtime.
pub(super) struct Meter {
    /// What is reached through it, as `postgres://HOST:PORT/DATABASE`.
    pub(super) url: String,
    sent: Sent,
}

/// A message of the front end that makes the server answer or plan.
pub(super) struct Message {
    /// Of the connection.
    pub(super) role: String,
    /// `S` for Sync, `Q` for Query, `P` for Parse.
    pub(super) kind: char,
    /// The statement of a Query or a Parse.
    pub(super) text: String,
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.role, self.kind, self.text)
    }
}

type Sent = Arc<Mutex<Vec<Message>>>;

impl Meter {
    /// Starts one before the server of this URL.
    pub(super) async fn before(url: &str) -> Self {
        let authority = url.split('/').nth(2).expect("an authority").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address: SocketAddr = listener.local_addr().expect("an address");
        let meter = Self {
            url: url.replacen(&authority, &address.to_string(), 1),
            sent: Sent::default(),
        };
        let sent = Arc::clone(&meter.sent);
        let tasks = Tasks::new();
        tasks.clone().spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (authority, sent) = (authority.clone(), Arc::clone(&sent));
                tasks.spawn(async move {
                    // Either side may go at any time: then the connection has ended.
                    let _ = pass_on(client, &authority, &sent).await;
                });
            }
        });
        meter
    }

    /// What was sent since the last time, in its order.
    pub(super) fn take(&self) -> Vec<Message> {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut sent)
    }
}

/// A connection from its start to its end.
async fn pass_on(client: TcpStream, server: &str, sent: &Sent) -> std::io::Result<()> {
    let server = TcpStream::connect(server).await?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
    }
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let role = loop {
        let first = read_body(&mut from_client).await?;
        let length = u32::try_from(first.len() + 4).unwrap_or_default();
        to_server.write_all(&length.to_be_bytes()).await?;
        to_server.write_all(&first).await?;
        let (code, rest) = first.split_at(4);
        let code = code.try_into().map(u32::from_be_bytes).unwrap_or_default();
        if !ENCRYPTION.contains(&code) {
            break parameter(rest, "user");
        }
        let answer = from_server.read_u8().await?;
        assert_eq!(answer, b'N', "what is encrypted cannot be counted");
        to_client.write_u8(answer).await?;
    };
    tokio::select! {
        done = copy(&mut from_server, &mut to_client) => done.map(drop),
        done = count(&mut from_client, &mut to_server, &role, sent) => done,
    }
}

/// Counts a message before the server has it, so that whoever has the answer finds it counted.
async fn count(
    client: &mut OwnedReadHalf,
    server: &mut OwnedWriteHalf,
    role: &str,
    sent: &Sent,
) -> std::io::Result<()> {
    loop {
        let kind = client.read_u8().await?;
        let body = read_body(client).await?;
        let text = match kind {
            b'Q' => text(&body),
            // The name of the statement stands before it.
            b'P' => body
                .iter()
                .position(|byte| *byte == 0)
                .map(|end| text(&body[end + 1..]))
                .unwrap_or_default(),
            _ => String::new(),
        };
        if matches!(kind, b'S' | b'Q' | b'P') {
            let message = Message {
                role: role.to_owned(),
                kind: kind.into(),
                text,
            };
            let mut sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
            sent.push(message);
        }
        let mut whole = vec![kind];
        let length = u32::try_from(body.len() + 4).unwrap_or_default();
        whole.extend(length.to_be_bytes());
        whole.extend(body);
        server.write_all(&whole).await?;
    }
}

/// What follows a length, which counts itself.
async fn read_body(from: &mut OwnedReadHalf) -> std::io::Result<Vec<u8>> {
    let length = from.read_u32().await?;
    let mut body = vec![
        0;
        usize::try_from(length)
            .unwrap_or_default()
            .saturating_sub(4)
    ];
    from.read_exact(&mut body).await?;
    Ok(body)
}

/// The text before the first zero.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0);
    String::from_utf8_lossy(&bytes[..end.unwrap_or(bytes.len())]).into_owned()
}

/// A parameter of the first message: names and values in turns, each with a zero at its end.
fn parameter(bytes: &[u8], name: &str) -> String {
    let words: Vec<String> = bytes.split(|byte| *byte == 0).map(text).collect();
    let pair = words.chunks(2).find(|pair| pair[0] == name);
    pair.expect("the role is named")[1].clone()
}
