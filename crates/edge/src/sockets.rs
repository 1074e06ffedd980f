//! Listening sockets: bound here, given by a service manager, or handed over by the node before.
//!
//! A socket that was given keeps the connections that the kernel holds for it, so that nobody is turned
//! away while one process ends and another begins.
//!
//! Invariant: what was given is listened on or told of, never lost in silence.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that the kernel holds for one socket before we take them.
const BACKLOG: i32 = 1024;

/// Sockets that listen already, by their addresses. Of one address there may be several: one for each
/// thread of the node before.
#[derive(Debug, Default)]
pub struct Given(BTreeMap<SocketAddr, Vec<TcpListener>>);

impl Given {
    /// Sockets that listen already.
    ///
    /// # Errors
    /// One of them has no address: it is no socket that listens.
    pub fn of(sockets: impl IntoIterator<Item = TcpListener>) -> io::Result<Self> {
        let mut given = Self::default();
        given.add(sockets)?;
        Ok(given)
    }

    /// More of them.
    ///
    /// # Errors
    /// As [`Given::of`].
    pub fn add(&mut self, sockets: impl IntoIterator<Item = TcpListener>) -> io::Result<()> {
        for socket in sockets {
            let at = socket.local_addr()?;
            self.0.entry(at).or_default().push(socket);
        }
        Ok(())
    }

    /// The addresses of those that were not taken.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.0.keys().copied()
    }

    /// Takes those of an address.
    pub fn take(&mut self, address: SocketAddr) -> Option<Vec<TcpListener>> {
        self.0.remove(&address)
    }
}

/// The sockets of one address for so many threads, each to be listened on by one or more of them, and
/// the address with the port that was chosen.
pub(crate) fn for_threads(
    given: &mut Given,
    address: SocketAddr,
    threads: usize,
) -> io::Result<(SocketAddr, Vec<Vec<TcpListener>>)> {
    let sockets = match given.take(address) {
        Some(sockets) => sockets,
        None => bind(address, threads)?,
    };
    let bound = match sockets.first() {
        Some(socket) => socket.local_addr()?,
        None => address,
    };
    Ok((bound, dealt(sockets, threads)?))
}

/// Deals sockets out to threads: every thread has one, and every socket has a thread. What is shared
/// is one socket with several descriptors.
fn dealt(sockets: Vec<TcpListener>, threads: usize) -> io::Result<Vec<Vec<TcpListener>>> {
    let mut hands: Vec<Vec<TcpListener>> = (0..threads).map(|_| Vec::new()).collect();
    let count = sockets.len();
    for (n, hand) in hands.iter_mut().enumerate().skip(count) {
        let shared = sockets.get(n % count.max(1));
        hand.extend(shared.map(TcpListener::try_clone).transpose()?);
    }
    for (n, socket) in sockets.into_iter().enumerate() {
        socket.set_nonblocking(true)?;
        hands[n % threads].push(socket);
    }
    Ok(hands)
}

/// One socket for each thread, all on one address: the kernel spreads connections over them.
fn bind(address: SocketAddr, threads: usize) -> io::Result<Vec<TcpListener>> {
    is_free(address)?;
    // A port of 0 is chosen once, and then shared by all.
    let first = bind_one(address)?;
    let bound = first.local_addr()?;
    let mut sockets = vec![first];
    for _ in 1..threads {
        sockets.push(bind_one(bound)?);
    }
    Ok(sockets)
}

/// Whether nobody listens there. Our own sockets share their port, and so they would with another
/// node of the same user: two nodes, perhaps of different policies, would each get a part of the
/// connections, and nobody would be told.
fn is_free(address: SocketAddr) -> io::Result<()> {
    socket(address)?.bind(&address.into())
}

fn bind_one(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(address)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any() -> SocketAddr {
        "127.0.0.1:0".parse().unwrap()
    }

    #[test]
    fn every_thread_has_a_socket_and_every_socket_a_thread() {
        for (sockets, threads) in [(1, 1), (1, 3), (3, 1), (2, 3), (3, 2), (2, 2)] {
            let (address, first) = for_threads(&mut Given::default(), any(), sockets).unwrap();
            let mut given = Given::of(first.into_iter().flatten()).unwrap();
            let (at, hands) = for_threads(&mut given, address, threads).unwrap();
            assert_eq!((at, hands.len()), (address, threads));
            assert!(
                hands.iter().all(|hand| !hand.is_empty()),
                "{sockets} {threads}"
            );
            let all: usize = hands.iter().map(Vec::len).sum();
            assert_eq!(all, sockets.max(threads));
            assert_eq!(given.addresses().count(), 0);
        }
    }

    #[test]
    fn a_port_that_another_listens_on_is_not_shared() {
        let (address, first) = for_threads(&mut Given::default(), any(), 2).unwrap();
        let second = for_threads(&mut Given::default(), address, 2);
        assert_eq!(second.unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        for_threads(&mut Given::default(), address, 2).unwrap();
    }
}
