//! A connection that breaks: a proxy before PostgreSQL or NATS that holds, delays and cuts what passes.
//!
//! Invariants: bytes pass unchanged, in order and at most once; what a cut kept from the other side is known exactly,
//! so a test knows whether an outcome was lost or the request was.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// What is done to all connections, those that are open already as well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Behavior {
    /// Everything passes.
    #[default]
    Pass,
    /// Nothing passes and nothing is read, until another behavior is set.
    Hold,
    /// Every piece, of at most 64 KiB, waits this long, each way.
    Delay(Duration),
    /// New connections end at once; those that are open go on.
    Refuse(Ending),
    /// The first connection that has passed so many bytes this way since now ends; then everything passes.
    CutAfter(Side, u64, Ending),
    /// The first connection whose client sends these bytes ends at this moment; then everything passes.
    CutAt(Vec<u8>, Moment, Ending),
}

/// A direction, by where the bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// From the client to the server.
    Server,
    /// From the server to the client.
    Client,
}

/// When a connection is cut whose client has sent the awaited bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Before the server gets them: the request is lost.
    Unsent,
    /// As soon as the server was sent them: nobody can know whether it acts on them.
    Sent,
    /// When the server answers, of which the client gets nothing: the outcome is lost.
    Answered,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// With a farewell (FIN): what was passed on before it is read.
    Close,
    /// With a reset (RST): the other side hears of an error.
    Reset,
}

/// What one connection has carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Carried {
    /// Bytes passed on to the server.
    pub(crate) to_server: u64,
    /// Bytes passed on to the client.
    pub(crate) to_client: u64,
    /// Whether it is still there.
    pub(crate) open: bool,
}

/// The proxy, which ends with all its connections when it is dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    control: Arc<Control>,
    _accepting: JoinSet<()>,
}

#[derive(Debug)]
struct Control {
    order: watch::Sender<Order>,
    /// Ends the connections that are open when it changes.
    cut: watch::Sender<Ending>,
    fired: AtomicUsize,
    connections: Mutex<Vec<Arc<Counters>>>,
}

/// A behavior with its number, since the same may be set again.
#[derive(Clone, Debug, Default)]
struct Order {
    number: u64,
    behavior: Behavior,
}

#[derive(Debug, Default)]
struct Counters {
    to_server: AtomicU64,
    to_client: AtomicU64,
    ended: AtomicU64,
}

impl Proxy {
    /// Listens on a loopback port for what goes to `server`.
    pub(crate) async fn start(server: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let control = Arc::new(Control {
            order: watch::Sender::default(),
            cut: watch::Sender::new(Ending::Close),
            fired: AtomicUsize::new(0),
            connections: Mutex::default(),
        });
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, server, Arc::clone(&control)));
        Ok(Self {
            address,
            control,
            _accepting: accepting,
        })
    }

    /// Where clients connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets what is done from now on.
    pub(crate) fn set(&self, behavior: Behavior) {
        self.control.order.send_modify(|order| {
            order.number += 1;
            order.behavior = behavior;
        });
    }

    /// Ends all connections that are open.
    pub(crate) fn cut(&self, ending: Ending) {
        self.control.cut.send_replace(ending);
    }

    /// How many connections were ended by [`Behavior::CutAfter`] and [`Behavior::CutAt`].
    pub(crate) fn fired(&self) -> usize {
        self.control.fired.load(Ordering::Relaxed)
    }

    /// Every connection so far, in the order of their coming.
    pub(crate) fn connections(&self) -> Vec<Carried> {
        let connections = self.control.connections.lock();
        let connections = connections.unwrap_or_else(PoisonError::into_inner);
        let carried = connections.iter().map(|counters| Carried {
            to_server: counters.to_server.load(Ordering::Relaxed),
            to_client: counters.to_client.load(Ordering::Relaxed),
            open: counters.ended.load(Ordering::Relaxed) == 0,
        });
        carried.collect()
    }
}

impl Control {
    /// Lets one connection, and no other, take the cut that it was set for.
    fn fire(&self, number: u64) -> bool {
        let fired = self.order.send_if_modified(|order| {
            let fires = order.number == number && order.behavior != Behavior::Pass;
            if fires {
                order.behavior = Behavior::Pass;
            }
            fires
        });
        if fired {
            self.fired.fetch_add(1, Ordering::Relaxed);
        }
        fired
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, control: Arc<Control>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                connections.spawn(connection(client, server, Arc::clone(&control)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(mut client: TcpStream, server: SocketAddr, control: Arc<Control>) {
    let counters = Arc::new(Counters::default());
    {
        let connections = control.connections.lock();
        let mut connections = connections.unwrap_or_else(PoisonError::into_inner);
        connections.push(Arc::clone(&counters));
    }
    let refused = match control.order.borrow().behavior {
        Behavior::Refuse(ending) => Some(ending),
        _ => None,
    };
    if let Some(ending) = refused {
        end(&client, ending);
    } else if let Ok(mut server) = TcpStream::connect(server).await {
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let ending = carry(&mut client, &mut server, &control, &counters).await;
        end(&client, ending);
        end(&server, ending);
    }
    drop(client);
    counters.ended.store(1, Ordering::Relaxed);
}

/// Without a reset the socket says farewell when it is dropped.
fn end(stream: &TcpStream, ending: Ending) {
    if ending == Ending::Reset {
        // Fails when the connection is gone already.
        let _ = stream.set_zero_linger();
    }
}

/// Carries both ways until both sides have ended, or a cut.
async fn carry(
    client: &mut TcpStream,
    server: &mut TcpStream,
    control: &Control,
    counters: &Counters,
) -> Ending {
    let mut cut = control.cut.subscribe();
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    // Set when the client has sent what a cut waits for: from then on it gets nothing more.
    let awaits_answer = watch::Sender::new(None);
    let up = Pump {
        from: from_client,
        to: to_server,
        side: Side::Server,
        passed: &counters.to_server,
        control,
        order: control.order.subscribe(),
        awaits_answer: &awaits_answer,
    };
    let down = Pump {
        from: from_server,
        to: to_client,
        side: Side::Client,
        passed: &counters.to_client,
        control,
        order: control.order.subscribe(),
        awaits_answer: &awaits_answer,
    };
    let both = async {
        let (up, down) = (up.run(), down.run());
        tokio::pin!(up, down);
        // A farewell of one side leaves the other way open; a cut or an error ends both.
        tokio::select! {
            ended = &mut up => match ended {
                Some(ending) => ending,
                None => down.await.unwrap_or(Ending::Close),
            },
            ended = &mut down => match ended {
                Some(ending) => ending,
                None => up.await.unwrap_or(Ending::Close),
            },
        }
    };
    tokio::select! {
        ending = both => ending,
        _ = cut.changed() => *cut.borrow(),
    }
}

/// One way of a connection.
struct Pump<'a> {
    from: ReadHalf<'a>,
    to: WriteHalf<'a>,
    side: Side,
    passed: &'a AtomicU64,
    control: &'a Control,
    order: watch::Receiver<Order>,
    awaits_answer: &'a watch::Sender<Option<Ending>>,
}

impl Pump<'_> {
    /// None when this side has said farewell, which was passed on; else how the connection ends.
    async fn run(mut self) -> Option<Ending> {
        let mut piece = vec![0; 64 * 1024];
        // The end of what was seen, as long as may be the beginning of what is awaited.
        let mut seen: Vec<u8> = Vec::new();
        // By the number of the order to cut.
        let mut counted = (0, 0);
        loop {
            self.may_pass().await;
            let read = match self.from.read(&mut piece).await {
                Ok(0) => {
                    let _ = self.to.shutdown().await;
                    return None;
                }
                Ok(read) => read,
                Err(_) => return Some(Ending::Reset),
            };
            self.may_pass().await;
            let bytes = piece.get(..read).unwrap_or_default();
            let awaited = *self.awaits_answer.borrow();
            if let (Side::Client, Some(ending)) = (self.side, awaited) {
                return Some(ending);
            }
            let Order { number, behavior } = self.order.borrow().clone();
            match &behavior {
                Behavior::Delay(time) => sleep(*time).await,
                Behavior::CutAfter(side, most, ending) if *side == self.side => {
                    let before = if counted.0 == number { counted.1 } else { 0 };
                    let left = usize::try_from(most.saturating_sub(before));
                    if let Some(last) = bytes.get(..left.unwrap_or(usize::MAX))
                        && self.control.fire(number)
                    {
                        let _ = self.pass(last).await;
                        return Some(*ending);
                    }
                    counted = (number, before + bytes.len() as u64);
                }
                Behavior::CutAt(pattern, moment, ending) if self.side == Side::Server => {
                    seen.extend(bytes);
                    let found = seen
                        .windows(pattern.len().max(1))
                        .any(|window| window == pattern);
                    if found && self.control.fire(number) {
                        match moment {
                            Moment::Unsent => return Some(*ending),
                            Moment::Sent => {
                                let _ = self.pass(bytes).await;
                                return Some(*ending);
                            }
                            Moment::Answered => {
                                self.awaits_answer.send_replace(Some(*ending));
                            }
                        }
                    }
                    let end = seen.len().saturating_sub(pattern.len().saturating_sub(1));
                    seen.drain(..end);
                }
                _ => seen.clear(),
            }
            if self.pass(bytes).await.is_err() {
                return Some(Ending::Reset);
            }
        }
    }

    async fn pass(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.to.write_all(bytes).await?;
        self.passed.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Returns when nothing is held.
    async fn may_pass(&mut self) {
        let passes = |order: &Order| order.behavior != Behavior::Hold;
        // Fails when the proxy is gone, and with it this connection.
        let _ = self.order.wait_for(passes).await;
    }
}

#[cfg(test)]
mod tests;
