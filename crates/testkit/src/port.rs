//! Loopback ports.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// A port on which nobody listens: connections are refused.
///
/// Another program may take it later, as with every port that is merely free; servers of ours should rather bind
/// port 0 themselves and tell the port.
pub fn closed() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    listener.local_addr().expect("a bound socket has an address")
}
