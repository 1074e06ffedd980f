//! How much each client address has of what is bounded, so that no one of them has all: connections, TLS
//! handshakes that run, tunnels.
//!
//! An IPv6 client has a whole network of 2⁶⁴ addresses: those count as one. Who is trusted is not counted
//! here, since they bring others; whom a trusted balancer names in the PROXY protocol is.
//!
//! Bounded: an address is known for as long as it has something here, and all of that belongs to a
//! connection, of which there are so many (`connections_max`).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is shared among addresses.
#[derive(Debug, Default)]
pub(crate) struct PerAddress {
    pub(crate) connections: Arc<Shares>,
    pub(crate) handshakes: Arc<Shares>,
    pub(crate) tunnels: Arc<Shares>,
}

/// How many of one thing each address has.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    held: Mutex<HashMap<IpAddr, usize>>,
}

/// One of what an address has; gives its place back when dropped.
#[derive(Debug)]
pub(crate) struct Share {
    /// None for a trusted hop, which brings others.
    counted: Option<(Arc<Shares>, IpAddr)>,
}

impl Share {
    /// A trusted hop's: it has no bound of its own.
    pub(crate) const fn of_a_trusted_hop() -> Self {
        Self { counted: None }
    }
}

impl Shares {
    /// A place for one more of this address; `None` when it has `max` already.
    pub(crate) fn take(self: &Arc<Self>, address: IpAddr, max: usize) -> Option<Share> {
        let place = place(address);
        let mut held = self.lock();
        let count = held.entry(place).or_default();
        if *count >= max {
            return None;
        }
        *count += 1;
        Some(Share {
            counted: Some((Arc::clone(self), place)),
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let Some((shares, place)) = &self.counted else {
            return;
        };
        let mut held = shares.lock();
        if let Some(count) = held.get_mut(place) {
            *count -= 1;
            if *count == 0 {
                held.remove(place);
            }
        }
    }
}

/// What of an address is one client's.
fn place(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_share_and_gives_it_back() {
        let shares = Arc::new(Shares::default());
        let take = |address: &str| shares.take(address.parse().unwrap(), 2);
        let held = [take("192.0.2.1"), take("::ffff:192.0.2.1")];
        assert!(held.iter().all(Option::is_some));
        assert!(take("192.0.2.1").is_none());
        assert!(take("192.0.2.2").is_some());
        let network = [take("2001:db8::1"), take("2001:db8::ffff:1")];
        assert!(network.iter().all(Option::is_some));
        assert!(take("2001:db8:0:0:1::").is_none());
        assert!(take("2001:db8:0:1::1").is_some());
        drop((held, network));
        assert!(take("192.0.2.1").is_some());
        assert!(shares.lock().is_empty(), "nobody is known who is not here");
    }
}
