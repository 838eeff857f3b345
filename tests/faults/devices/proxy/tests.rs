//! The proxy does what it says, seen from both of its sides.

use std::io::ErrorKind;
use std::time::Instant;

use super::*;

/// A server that answers every piece of what it hears with the same bytes in capitals, and what it has heard.
struct Server {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<u8>>>,
    _serving: JoinSet<()>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, Arc::clone(&heard)));
        Self {
            address,
            heard,
            _serving: serving,
        }
    }

    fn heard(&self) -> String {
        String::from_utf8(self.heard.lock().unwrap().clone()).unwrap()
    }

    /// Waits until it has heard this in all.
    async fn hears(&self, all: &str) {
        harness::eventually("the server hears it", async || {
            (self.heard() == all).then_some(())
        })
        .await;
    }
}

async fn serve(listener: TcpListener, heard: Arc<Mutex<Vec<u8>>>) {
    let mut peers = JoinSet::new();
    while let Ok((mut peer, _)) = listener.accept().await {
        let heard = Arc::clone(&heard);
        peers.spawn(async move {
            let mut piece = [0; 1024];
            while let Ok(read @ 1..) = peer.read(&mut piece).await {
                heard.lock().unwrap().extend(&piece[..read]);
                let answer = piece[..read].to_ascii_uppercase();
                if peer.write_all(&answer).await.is_err() {
                    return;
                }
            }
        });
    }
}

async fn both() -> (Server, Proxy) {
    let server = Server::start().await;
    let proxy = Proxy::start(server.address).await.unwrap();
    (server, proxy)
}

async fn ask(client: &mut TcpStream, question: &str) -> std::io::Result<String> {
    client.write_all(question.as_bytes()).await?;
    let mut answer = vec![0; question.len()];
    client.read_exact(&mut answer).await?;
    Ok(String::from_utf8(answer).unwrap())
}

async fn connect(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(proxy.address()).await.unwrap()
}

#[tokio::test]
async fn what_passes_is_unchanged_and_counted_and_a_farewell_is_passed_on() {
    let (server, proxy) = both().await;
    let mut client = connect(&proxy).await;
    assert_eq!(ask(&mut client, "hello").await.unwrap(), "HELLO");
    assert_eq!(ask(&mut client, "again").await.unwrap(), "AGAIN");
    let carried = Carried {
        to_server: 10,
        to_client: 10,
        open: true,
    };
    assert_eq!(proxy.connections(), [carried]);
    client.shutdown().await.unwrap();
    assert_eq!(client.read(&mut [0; 9]).await.unwrap(), 0);
    assert_eq!(server.heard(), "helloagain");
    harness::eventually("the connection has ended", async || {
        proxy.connections().iter().all(|it| !it.open).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_is_held_passes_later_and_what_is_delayed_takes_its_time() {
    let (server, proxy) = both().await;
    let mut client = connect(&proxy).await;
    assert_eq!(ask(&mut client, "a").await.unwrap(), "A");
    proxy.set(Behavior::Hold);
    let asked = ask(&mut client, "held");
    let held = tokio::time::timeout(Duration::from_millis(300), asked).await;
    held.expect_err("it is held");
    assert_eq!(server.heard(), "a");
    proxy.set(Behavior::Pass);
    let mut answer = [0; 4];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HELD");

    proxy.set(Behavior::Delay(Duration::from_millis(100)));
    let since = Instant::now();
    assert_eq!(ask(&mut client, "late").await.unwrap(), "LATE");
    assert!(since.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn a_connection_is_cut_after_so_many_bytes_and_the_next_one_passes() {
    for (side, heard, answered) in [(Side::Server, "abc", "ABC"), (Side::Client, "abcde", "ABC")] {
        let (server, proxy) = both().await;
        let mut client = connect(&proxy).await;
        proxy.set(Behavior::CutAfter(side, 3, Ending::Close));
        client.write_all(b"abcde").await.unwrap();
        let mut answer = Vec::new();
        let _ = client.read_to_end(&mut answer).await;
        server.hears(heard).await;
        // What the server answers to a cut request may be cut off too.
        assert!(answered.as_bytes().starts_with(&answer), "{answer:?}");
        assert_eq!(proxy.fired(), 1);
        assert_eq!(
            ask(&mut connect(&proxy).await, "next").await.unwrap(),
            "NEXT"
        );
        assert_eq!(proxy.fired(), 1);
    }
}

#[tokio::test]
async fn a_cut_at_a_pattern_loses_the_request_or_its_outcome() {
    for (moment, possible) in [
        (Moment::Unsent, vec!["begin;co"]),
        (Moment::Sent, vec!["begin;co", "begin;commit;"]),
        (Moment::Answered, vec!["begin;commit;"]),
    ] {
        let (server, proxy) = both().await;
        let mut client = connect(&proxy).await;
        proxy.set(Behavior::CutAt(b"commit".to_vec(), moment, Ending::Reset));
        assert_eq!(ask(&mut client, "begin;").await.unwrap(), "BEGIN;");
        // What is awaited comes in two pieces.
        assert_eq!(ask(&mut client, "co").await.unwrap(), "CO");
        client.write_all(b"mmit;").await.unwrap();
        let lost = client.read(&mut [0; 9]).await.expect_err("it is cut");
        assert_eq!(lost.kind(), ErrorKind::ConnectionReset, "{moment:?}");
        assert_eq!(proxy.fired(), 1);
        let heard = server.heard();
        assert!(possible.contains(&heard.as_str()), "{moment:?}: {heard}");
        assert_eq!(
            ask(&mut connect(&proxy).await, "commit").await.unwrap(),
            "COMMIT"
        );
    }
}

#[tokio::test]
async fn connections_are_closed_reset_and_refused() {
    let (_server, proxy) = both().await;
    let (mut first, mut second) = (connect(&proxy).await, connect(&proxy).await);
    for client in [&mut first, &mut second] {
        assert_eq!(ask(client, "a").await.unwrap(), "A");
    }
    proxy.cut(Ending::Close);
    assert_eq!(first.read(&mut [0; 9]).await.unwrap(), 0);
    assert_eq!(second.read(&mut [0; 9]).await.unwrap(), 0);

    let mut third = connect(&proxy).await;
    assert_eq!(ask(&mut third, "a").await.unwrap(), "A");
    proxy.cut(Ending::Reset);
    let reset = third.read(&mut [0; 9]).await.expect_err("a reset");
    assert_eq!(reset.kind(), ErrorKind::ConnectionReset);

    let mut fourth = connect(&proxy).await;
    assert_eq!(ask(&mut fourth, "a").await.unwrap(), "A");
    proxy.set(Behavior::Refuse(Ending::Close));
    assert_eq!(connect(&proxy).await.read(&mut [0; 9]).await.unwrap(), 0);
    assert_eq!(ask(&mut fourth, "b").await.unwrap(), "B");
}
