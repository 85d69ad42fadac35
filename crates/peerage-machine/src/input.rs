//! What the world tells a machine.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use peerage_wire::{Address, PeerId};

use crate::{Class, DialId, JobId, LinkId, OpId, SendId, UnixMillis, Why};

/// Something that happened. Never a `Result`, never borrowed from a socket.
#[derive(Clone, Debug)]
pub enum Input<M> {
    /// A link to a peer that runs the same instance is up. `Message` and `Down` for it come only after this.
    Up {
        /// Its name from now to its `Down`.
        link: LinkId,
        /// Who and how.
        info: LinkInfo,
    },
    /// The link is gone for this instance, or the instance on it; what was queued on it may not have arrived.
    Down {
        /// Which.
        link: LinkId,
        /// The reason.
        why: Why,
    },
    /// A peer said something.
    Message {
        /// On which link.
        link: LinkId,
        /// What.
        message: M,
    },
    /// A dial succeeded. The link is up for this instance, by this dial or before; this instance holds it.
    Dialed {
        /// Which dial.
        dial: DialId,
        /// The link to the peer that was meant.
        link: LinkId,
    },
    /// A dial failed. Every dial ends in exactly one `Dialed` or `DialFailed`.
    DialFailed {
        /// Which dial.
        dial: DialId,
        /// The reason.
        why: Why,
    },
    /// So many bytes of this class have left the link's queue: there is room for as many more.
    Credit {
        /// On which link.
        link: LinkId,
        /// Of which class.
        class: Class,
        /// How many.
        bytes: u64,
    },
    /// A send that had an id was not put on its link. Hosts say so at once, before time has gone on.
    Undelivered {
        /// Which send.
        send: SendId,
        /// On which link.
        link: LinkId,
        /// The reason.
        why: Why,
    },
    /// A storage operation ended. After `Ok` the batch survives a crash.
    Stored {
        /// Which.
        op: OpId,
        /// How.
        result: Result<(), StoreError>,
    },
    /// A signature check ended.
    Verified {
        /// Which.
        job: JobId,
        /// Whether the signature is good.
        valid: bool,
    },
    /// A new round-trip time of the link, smoothed.
    Rtt {
        /// Which link.
        link: LinkId,
        /// Its round-trip time.
        rtt: Duration,
    },
    /// Where this endpoint can be reached, all of it, after a change.
    OwnAddresses(Vec<Address>),
}

/// What is known of a link when it comes up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkInfo {
    /// Who is at the other end, proven.
    pub peer: PeerId,
    /// This start of the peer.
    pub incarnation: Incarnation,
    /// Where the peer says that it listens.
    pub addresses: Vec<Address>,
    /// Who dialled.
    pub direction: Direction,
    /// The first estimate of the round-trip time, from the handshake.
    pub rtt: Option<Duration>,
    /// The instance's parameters, equal on both sides.
    pub parameters: Bytes,
    /// How many bytes of interactive and bulk messages, as encoded, the link's queue takes from this instance. Each
    /// send takes from it, each [`Input::Credit`] gives back. A message longer than what is left is taken only when
    /// nothing else of this instance is queued. [`Class::Control`] has an allowance of its own.
    pub credit: u64,
    /// The longest message that the peer takes, in bytes.
    pub max_message: u64,
    /// When the link came up, by this host's wall clock.
    pub since: UnixMillis,
}

/// Which end dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// This one.
    Outbound,
    /// The other.
    Inbound,
}

/// 128 random bits that an endpoint draws at its start: the same key with another incarnation is a restart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub [u8; 16]);

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(4).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Why a batch was not stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The host has no store.
    #[error("this endpoint was built without a store")]
    Absent,
    /// The store failed.
    #[error("the store failed: {0}")]
    Failed(String),
}
