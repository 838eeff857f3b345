//! Ports for processes that must be told theirs: for those of tests that start again where they were.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// Below the range that the kernel gives to outgoing connections, or one of them could take the port of a process
/// that is away.
const PORTS: Range<u16> = 15_000..32_000;

/// A port of 127.0.0.1 that is free, and that this process gives to nobody else: who gets it listens there only later.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let port = std::iter::repeat_with(|| fastrand::u16(PORTS))
        .take(1_000)
        .find(|port| !given.contains(port) && TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a port between 15000 and 32000 on 127.0.0.1 is free");
    given.insert(port);
    port
}

/// [`free_port`], as a process is told it.
pub fn free_address() -> SocketAddr {
    ([127, 0, 0, 1], free_port()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_given_the_port_of_another() {
        let mut given = BTreeSet::new();
        // A thousand of seventeen thousand would meet thirty times.
        assert!((0..1_000).all(|_| given.insert(free_port())));
    }
}
