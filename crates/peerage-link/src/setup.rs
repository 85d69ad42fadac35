//! What a link is made from, and what it counts.

use std::sync::Arc;

use peerage_identity::Identity;
use peerage_machine::{Direction, Incarnation};
use peerage_wire::hello::Instance;
use peerage_wire::preface::Cookie;
use peerage_wire::{Address, PeerId, Suite};

use crate::{LinkConfig, Memory};

/// What a link is made from.
#[derive(Debug)]
pub struct Setup {
    /// Who dialled.
    pub direction: Direction,
    /// Who we are.
    pub identity: Arc<Identity>,
    /// This start of the endpoint.
    pub incarnation: Incarnation,
    /// Name and version of the program, for people.
    pub software: String,
    /// Where this endpoint listens.
    pub addresses: Vec<Address>,
    /// Where the other end of the connection is, for the peer to hear when it dialled: it may not know.
    pub observed: Option<Address>,
    /// What runs here; an instance's place in the list is its channel's number.
    pub instances: Vec<Instance>,
    /// Who must be at the other end, when that is known.
    pub expected: Option<PeerId>,
    /// Who dials uses the first; who listens takes them all, and names the first to a dialer that uses another. At
    /// least one.
    pub suites: Vec<Suite>,
    /// For a dialer: what the other end asked for when it was last dialled ([`crate::Link::cookie`]).
    pub cookie: Option<Cookie>,
    /// 32 secret random bytes, used once.
    pub entropy: [u8; 32],
    /// Times and bounds.
    pub config: Arc<LinkConfig>,
    /// What the links of the endpoint share.
    pub memory: Memory,
    /// How many of them there may be, for the peer to hear.
    pub capacity: Capacity,
}

/// How many connections an endpoint takes, as its peers are told; whoever accepts them sees to it. For each, 0: they are
/// not told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capacity {
    /// Links in all, those in their handshake included.
    pub links: u32,
    /// Inbound links of one address.
    pub links_per_address: u32,
    /// Inbound connections in their handshake at once.
    pub handshakes: u32,
}

/// Running totals of one link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinkStats {
    /// Whole messages sent.
    pub messages_sent: u64,
    /// Whole messages received.
    pub messages_received: u64,
    /// Records sent.
    pub records_sent: u64,
    /// Records received.
    pub records_received: u64,
    /// Fragments that came for a channel after it was closed here; they are dropped.
    pub late_fragments: u64,
    /// Messages that waited on a channel when the peer closed it, or when it was closed here and the peer gave no credit
    /// in time; they are dropped. One of which a part had left counts.
    pub messages_dropped: u64,
    /// Complaints of protocols about the peer.
    pub faults: u32,
}
