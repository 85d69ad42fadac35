//! Where this endpoint can be reached, as far as it knows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Mutex;
use std::time::Duration;

use peerage_machine::Instant;
use peerage_wire::Address;
use peerage_wire::limits::MAX_ADDRESSES;

use crate::scratch::lock;
use crate::votes::{Observed, Votes};

/// How long what is known of this machine's address counts as known.
const LOOK: Duration = Duration::from_secs(10);

/// The addresses of an endpoint, the best for a stranger first: announced ones, those that others saw, and where it
/// listens.
#[derive(Debug)]
pub(crate) struct Own {
    announced: Vec<Address>,
    /// Where it listens, wildcards included.
    bound: Vec<Address>,
    /// What sockets are bound to, wildcards included.
    sockets: Vec<SocketAddr>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    votes: Votes,
    /// Where it listens, without wildcards.
    listening: Vec<Address>,
    /// When that was last found out.
    looked: Instant,
    addresses: Vec<Address>,
}

impl Own {
    /// An endpoint that listens there and announces that.
    pub(crate) fn new(bound: Vec<Address>, announced: Vec<Address>, votes: usize, now: Instant) -> Self {
        let sockets: Vec<_> = bound.iter().filter_map(socket_of).collect();
        let listening =
            without_wildcards(&bound, |wildcard| Some(outward(wildcard).unwrap_or(home(wildcard))));
        let mut addresses = Vec::new();
        announced.iter().chain(&listening).for_each(|address| push_new(&mut addresses, address.clone()));
        let state = State { votes: Votes::new(votes), listening, looked: now, addresses };
        Self { announced, bound, sockets, state: Mutex::new(state) }
    }

    /// Looks again what this machine's address is, unless that was done a moment ago; whether ours change by it. Costs
    /// two sockets, and sends nothing.
    pub(crate) fn look(&self, now: Instant) -> bool {
        self.look_by(now, outward)
    }

    fn look_by(&self, now: Instant, outward: impl Fn(IpAddr) -> Option<IpAddr>) -> bool {
        let mut state = lock(&self.state);
        if now.since(state.looked) < LOOK || !self.sockets.iter().any(|socket| socket.ip().is_unspecified()) {
            return false;
        }
        state.looked = now;
        let listening = without_wildcards(&self.bound, outward);
        // With no way out at the moment, nobody is helped by another address.
        if listening.len() < state.listening.len() || listening == state.listening {
            return false;
        }
        state.listening = listening;
        self.settle(&mut state)
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
        self.settle(&mut state)
    }

    /// Puts the addresses together; whether they change.
    fn settle(&self, state: &mut State) -> bool {
        let mut addresses = self.announced.clone();
        let elected = if self.announced.is_empty() { state.votes.elected() } else { Vec::new() };
        for ip in elected {
            for socket in self.sockets.iter().filter(|socket| serves(socket.ip(), ip)) {
                // The port that the dial came from is its own; a router that lets strangers in does so by ours.
                push_new(&mut addresses, Address::tcp(SocketAddr::new(ip, socket.port())));
            }
        }
        state.listening.iter().for_each(|address| push_new(&mut addresses, address.clone()));
        addresses.truncate(MAX_ADDRESSES);
        if addresses == state.addresses {
            return false;
        }
        tracing::debug!(addresses = addresses.len(), "this endpoint is elsewhere than before");
        state.addresses = addresses;
        true
    }
}

/// Where a socket bound there can be reached, each place once; none for a wildcard without a way out.
fn without_wildcards(bound: &[Address], outward: impl Fn(IpAddr) -> Option<IpAddr>) -> Vec<Address> {
    let mut listening = Vec::new();
    for address in bound {
        match socket_of(address).filter(|socket| socket.ip().is_unspecified()) {
            Some(socket) => {
                if let Some(ip) = outward(socket.ip()) {
                    push_new(&mut listening, Address::tcp(SocketAddr::new(ip, socket.port())));
                }
            }
            None => push_new(&mut listening, address.clone()),
        }
    }
    listening
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

/// The loopback's address of the same family.
fn home(wildcard: IpAddr) -> IpAddr {
    if wildcard.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() }
}

/// This machine's address towards the rest of the world, of the same family; none where there is no way out.
/// A datagram socket that is connected picks its source address, and sends nothing; the addresses are those set aside
/// for documentation (RFC 5737, RFC 3849), which the default route covers.
fn outward(wildcard: IpAddr) -> Option<IpAddr> {
    let away: IpAddr = match wildcard {
        IpAddr::V4(_) => Ipv4Addr::new(192, 0, 2, 1).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    };
    let source = || {
        let socket = UdpSocket::bind((wildcard, 0))?;
        socket.connect((away, 9))?;
        socket.local_addr()
    };
    source().ok().map(|source| source.ip()).filter(|ip| !ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        text.parse().unwrap_or_else(|_| Address::tcp(SocketAddr::from(([0, 0, 0, 0], 0))))
    }

    fn listening_at(bound: &[Address], announced: Vec<Address>) -> Own {
        Own::new(bound.to_vec(), announced, 3, Instant::START)
    }

    #[test]
    fn a_machine_that_moves_is_found_at_its_new_address_and_one_without_a_way_out_where_it_was() {
        let (wildcard, fixed) = (address("tcp://0.0.0.0:7000"), address("tcp://10.0.0.5:7001"));
        let own = listening_at(&[wildcard, fixed.clone()], Vec::new());
        let before = own.addresses();
        let (soon, later) = (Instant::START + LOOK / 2, Instant::START + LOOK);
        let moved = |_| "198.51.100.7".parse().ok();
        assert!(!own.look_by(soon, moved), "it was found a moment ago");
        assert!(!own.look_by(later, |_| None));
        assert_eq!(own.addresses(), before);
        let later = later + LOOK;
        assert!(own.look_by(later, moved));
        assert_eq!(own.addresses(), [address("tcp://198.51.100.7:7000"), fixed.clone()]);
        assert!(!own.look_by(later + LOOK, moved), "it has not moved since");
        // What others see stays in front.
        elect(&own, "tcp://203.0.113.9:51234");
        assert!(own.look_by(later + LOOK * 2, |_| "198.51.100.8".parse().ok()));
        let there = ["203.0.113.9:7000", "203.0.113.9:7001", "198.51.100.8:7000", "10.0.0.5:7001"];
        assert_eq!(own.addresses(), there.map(|there| address(&format!("tcp://{there}"))));
    }

    #[test]
    fn who_listens_at_one_address_stays_there() {
        let own = listening_at(&[address("tcp://10.0.0.5:7000"), address("mem://x")], Vec::new());
        assert!(!own.look_by(Instant::START + LOOK, |_| "198.51.100.7".parse().ok()));
    }

    fn elect(own: &Own, seen: &str) -> Vec<bool> {
        let voters = ["8.8.0.1", "9.9.0.1", "1.1.0.1", "2a00::1", "2a01::1", "2a02::1"];
        let voters = voters.iter().filter_map(|voter| voter.parse::<IpAddr>().ok());
        voters.map(|voter| own.observed(voter, &address(seen))).collect()
    }

    #[test]
    fn no_wildcard_is_ever_told() {
        let own = listening_at(&[address("tcp://0.0.0.0:7000"), address("tcp://[::]:7000")], Vec::new());
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
        let own = listening_at(&bound, Vec::new());
        assert_eq!(own.addresses(), bound);
        let changes = elect(&own, "tcp://203.0.113.9:51234");
        assert_eq!(changes, [false, false, true, false, false, false], "the third network decides");
        let mut expected = vec![address("tcp://203.0.113.9:7000"), address("tcp://203.0.113.9:7001")];
        expected.extend(bound);
        assert_eq!(own.addresses(), expected);
        // The family in which nobody listens for strangers gains nothing.
        assert_eq!(elect(&own, "tcp://[2001:db8::9]:51234"), [false; 6]);
        // What it listens on is nothing new.
        let own = listening_at(&[address("tcp://203.0.113.9:7000")], Vec::new());
        assert_eq!(elect(&own, "tcp://203.0.113.9:51234"), [false; 6]);
    }

    #[test]
    fn who_announces_knows_better_and_counts_all_the_same() {
        let (outward, bound) = (address("tcp://example.org:7000"), address("tcp://10.0.0.5:7000"));
        let own = listening_at(std::slice::from_ref(&bound), vec![outward.clone()]);
        assert_eq!(own.addresses(), [outward.clone(), bound.clone()]);
        assert_eq!(elect(&own, "tcp://203.0.113.9:51234"), [false; 6]);
        assert_eq!(own.addresses(), [outward, bound]);
        assert!(own.candidates().iter().any(|candidate| candidate.votes == 3 && candidate.is_elected));
    }

    #[test]
    fn more_than_a_hello_takes_are_never_told() {
        let bound: Vec<_> =
            (0..MAX_ADDRESSES).map(|port| address(&format!("tcp://10.0.0.5:{}", port + 1))).collect();
        let own = listening_at(&bound, Vec::new());
        elect(&own, "tcp://203.0.113.9:51234");
        assert_eq!(own.addresses().len(), MAX_ADDRESSES);
    }
}
