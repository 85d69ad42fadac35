//! Who is simulated.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use peerage_machine::{Incarnation, InstanceName, Now, OnReturn, Seed};
use peerage_wire::{Address, PeerId};

/// One simulated endpoint, running or crashed. It keeps its key, its addresses and its store across restarts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub(crate) u32);

impl NodeId {
    /// Its place in the order in which nodes were added, from 0.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The protocol instance that a node runs. Two nodes meet when name, version and parameters are equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Protocol and network.
    pub name: InstanceName,
    /// The protocol's version.
    pub version: u32,
    /// What both ends must agree on.
    pub parameters: Bytes,
    /// What becomes of its link to a peer that comes back. A side's own choice; the peer is not told.
    pub on_return: OnReturn,
}

impl Instance {
    /// Version 1, without parameters; the newest link to a peer replaces older ones.
    pub fn new(protocol: &str, name: &str) -> Self {
        Self {
            name: InstanceName { protocol: protocol.to_owned(), name: name.to_owned() },
            version: 1,
            parameters: Bytes::new(),
            on_return: OnReturn::Replace,
        }
    }

    /// The same with these parameters.
    #[must_use]
    pub fn with_parameters(self, parameters: impl Into<Bytes>) -> Self {
        Self { parameters: parameters.into(), ..self }
    }

    /// The same in this version.
    #[must_use]
    pub fn with_version(self, version: u32) -> Self {
        Self { version, ..self }
    }

    /// The same, with a link of its own to each start of a peer.
    #[must_use]
    pub fn coexisting(self) -> Self {
        Self { on_return: OnReturn::Coexist, ..self }
    }
}

/// What a node's factory makes a machine of, at its first start and at every restart.
#[derive(Clone, Debug)]
pub struct Start {
    /// The clocks. The steady one begins at zero with every restart, as a real host's does.
    pub now: Now,
    /// Different for every node and every start.
    pub seed: Seed,
    /// The node's key.
    pub me: PeerId,
    /// Where the node listens.
    pub addresses: Vec<Address>,
    /// Different for every start.
    pub incarnation: Incarnation,
    /// How often the node was started before.
    pub restarts: u32,
    /// What survived in the node's store.
    pub stored: BTreeMap<Bytes, Bytes>,
}

/// A peer for tests: keys are in the order of the numbers.
pub fn peer(number: u32) -> PeerId {
    let [a, b, c, d] = number.to_be_bytes();
    let mut bytes = *blake3::hash(&number.to_be_bytes()).as_bytes();
    if let Some(head) = bytes.first_chunk_mut() {
        *head = [a, b, c, d];
    }
    PeerId::from_bytes(bytes)
}

/// An address for tests: `mem://n17`.
#[expect(clippy::expect_used, reason = "the text is well-formed for every number")]
pub fn address(number: u32) -> Address {
    format!("mem://n{number}").parse().expect("a well-formed address")
}
