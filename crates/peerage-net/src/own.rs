//! Where this endpoint can be reached, as far as it knows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Mutex;

use peerage_wire::Address;
use peerage_wire::limits::MAX_ADDRESSES;

use crate::scratch::lock;
use crate::votes::{Observed, Votes};

/// The addresses of an endpoint, the best for a stranger first: announced ones, those that others saw, and where it
/// listens.
#[derive(Debug)]
pub(crate) struct Own {
    announced: Vec<Address>,
    /// Without wildcards.
    listening: Vec<Address>,
    /// What sockets are bound to, wildcards included.
    sockets: Vec<SocketAddr>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    votes: Votes,
    addresses: Vec<Address>,
}

impl Own {
    /// An endpoint that listens there and announces that.
    pub(crate) fn new(bound: &[Address], announced: Vec<Address>, votes: usize) -> Self {
        let sockets: Vec<_> = bound.iter().filter_map(socket_of).collect();
        let mut listening = Vec::new();
        for address in bound {
            let reachable = match socket_of(address).filter(|socket| socket.ip().is_unspecified()) {
                Some(socket) => Address::tcp(SocketAddr::new(outward(socket.ip()), socket.port())),
                None => address.clone(),
            };
            push_new(&mut listening, reachable);
        }
        let mut addresses = Vec::new();
        announced.iter().chain(&listening).for_each(|address| push_new(&mut addresses, address.clone()));
        let state = Mutex::new(State { votes: Votes::new(votes), addresses });
        Self { announced, listening, sockets, state }
    }

    pub(crate) fn addresses(&self) -> Vec<Address> {
        lock(&self.state).addresses.clone()
    }

    pub(crate) fn candidates(&self) -> Vec<Observed> {
        lock(&self.state).votes.candidates()
    }

    /// Whom we dialled at `voter` sees us there; whether our addresses change by it. Who announces addresses knows
    /// better, and only counts.
    pub(crate) fn observed(&self, voter: IpAddr, seen: &Address) -> bool {
        let Some(seen) = socket_of(seen) else { return false };
        let mut state = lock(&self.state);
        state.votes.vote(voter, seen.ip());
        if !self.announced.is_empty() {
            return false;
        }
        let mut addresses = Vec::new();
        for ip in state.votes.elected() {
            for socket in self.sockets.iter().filter(|socket| serves(socket.ip(), ip)) {
                // The port that the dial came from is its own; a router that lets strangers in does so by ours.
                push_new(&mut addresses, Address::tcp(SocketAddr::new(ip, socket.port())));
            }
        }
        self.listening.iter().for_each(|address| push_new(&mut addresses, address.clone()));
        addresses.truncate(MAX_ADDRESSES);
        if addresses == state.addresses {
            return false;
        }
        tracing::debug!(addresses = addresses.len(), "others see this endpoint elsewhere than before");
        state.addresses = addresses;
        true
    }
}

fn push_new(addresses: &mut Vec<Address>, address: Address) {
    if !addresses.contains(&address) {
        addresses.push(address);
    }
}

/// What a TCP address says, when that is a number and no name.
pub(crate) fn socket_of(address: &Address) -> Option<SocketAddr> {
    (address.scheme() == "tcp").then(|| address.rest().parse().ok()).flatten()
}

/// Whether a socket bound there could be reached at `seen`.
fn serves(bound: IpAddr, seen: IpAddr) -> bool {
    bound.is_ipv4() == seen.is_ipv4() && (bound.is_unspecified() || bound.is_loopback() == seen.is_loopback())
}

/// This machine's address towards the rest of the world, of the same family; the loopback's where there is no way out.
/// A datagram socket that is connected picks its source address, and sends nothing; the addresses are those set aside
/// for documentation (RFC 5737, RFC 3849), which the default route covers.
fn outward(wildcard: IpAddr) -> IpAddr {
    let (away, home): (IpAddr, IpAddr) = match wildcard {
        IpAddr::V4(_) => (Ipv4Addr::new(192, 0, 2, 1).into(), Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(_) => (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(), Ipv6Addr::LOCALHOST.into()),
    };
    let source = || {
        let socket = UdpSocket::bind((wildcard, 0))?;
        socket.connect((away, 9))?;
        socket.local_addr()
    };
    source().ok().map(|source| source.ip()).filter(|ip| !ip.is_unspecified()).unwrap_or(home)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        text.parse().unwrap_or_else(|_| Address::tcp(SocketAddr::from(([0, 0, 0, 0], 0))))
    }

    fn elect(own: &Own, seen: &str) -> Vec<bool> {
        let voters = ["8.8.0.1", "9.9.0.1", "1.1.0.1", "2a00::1", "2a01::1", "2a02::1"];
        let voters = voters.iter().filter_map(|voter| voter.parse::<IpAddr>().ok());
        voters.map(|voter| own.observed(voter, &address(seen))).collect()
    }

    #[test]
    fn no_wildcard_is_ever_told() {
        let own = Own::new(&[address("tcp://0.0.0.0:7000"), address("tcp://[::]:7000")], Vec::new(), 3);
        let addresses = own.addresses();
        assert_eq!(addresses.len(), 2, "{addresses:?}");
        for found in &addresses {
            let socket = socket_of(found);
            assert!(
                socket.is_some_and(|socket| !socket.ip().is_unspecified() && socket.port() == 7000),
                "{found}"
            );
        }
    }

    #[test]
    fn an_elected_address_comes_before_those_listened_on_with_their_ports() {
        let bound = [
            "tcp://10.0.0.5:7000",
            "tcp://10.0.0.5:7001",
            "tcp://127.0.0.1:7002",
            "mem://x",
            "tcp://[::1]:7",
        ];
        let bound: Vec<_> = bound.iter().map(|text| address(text)).collect();
        let own = Own::new(&bound, Vec::new(), 3);
        assert_eq!(own.addresses(), bound);
        let changes = elect(&own, "tcp://203.0.113.9:51234");
        assert_eq!(changes, [false, false, true, false, false, false], "the third network decides");
        let mut expected = vec![address("tcp://203.0.113.9:7000"), address("tcp://203.0.113.9:7001")];
        expected.extend(bound);
        assert_eq!(own.addresses(), expected);
        // The family in which nobody listens for strangers gains nothing.
        assert_eq!(elect(&own, "tcp://[2001:db8::9]:51234"), [false; 6]);
        // What it listens on is nothing new.
        let own = Own::new(&[address("tcp://203.0.113.9:7000")], Vec::new(), 3);
        assert_eq!(elect(&own, "tcp://203.0.113.9:51234"), [false; 6]);
    }

    #[test]
    fn who_announces_knows_better_and_counts_all_the_same() {
        let (outward, bound) = (address("tcp://example.org:7000"), address("tcp://10.0.0.5:7000"));
        let own = Own::new(std::slice::from_ref(&bound), vec![outward.clone()], 3);
        assert_eq!(own.addresses(), [outward.clone(), bound.clone()]);
        assert_eq!(elect(&own, "tcp://203.0.113.9:51234"), [false; 6]);
        assert_eq!(own.addresses(), [outward, bound]);
        assert!(own.candidates().iter().any(|candidate| candidate.votes == 3 && candidate.is_elected));
    }

    #[test]
    fn more_than_a_hello_takes_are_never_told() {
        let bound: Vec<_> =
            (0..MAX_ADDRESSES).map(|port| address(&format!("tcp://10.0.0.5:{}", port + 1))).collect();
        let own = Own::new(&bound, Vec::new(), 3);
        elect(&own, "tcp://203.0.113.9:51234");
        assert_eq!(own.addresses().len(), MAX_ADDRESSES);
    }
}
