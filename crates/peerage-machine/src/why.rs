//! Why links, dials and sends end.

use std::fmt;
use std::time::Duration;

use peerage_wire::{Address, PeerId};

/// One end of a link, as seen from this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// This endpoint.
    Us,
    /// The other one.
    Them,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Us => "this endpoint",
            Self::Them => "the peer",
        })
    }
}

/// Why a link ended, a dial failed, or a send was refused. Its text is for people; its shape is for programs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Why {
    /// An endpoint closed in good order.
    #[error("{by} shut down{}", said(.detail))]
    Shutdown {
        /// Which.
        by: Side,
        /// What it said.
        detail: String,
    },
    /// No instance on either side held the link.
    #[error("no instance held the link")]
    Unheld,
    /// The peer restarted: a link to its newer incarnation took over.
    #[error("superseded by a link to a newer incarnation of the peer")]
    Superseded,
    /// Both ends dialled; the other link stays.
    #[error("another link to the same peer stays")]
    Duplicate,
    /// The instance, or its channel, was closed on this link; the link may live on.
    #[error("{by} closed the instance{}", said(.detail))]
    ChannelClosed {
        /// By which side.
        by: Side,
        /// What it said.
        detail: String,
    },
    /// Nothing was heard, not even an answer to a ping.
    #[error("nothing was heard from the peer for {after:?}")]
    Silent {
        /// For how long.
        after: Duration,
    },
    /// Somebody broke the protocol.
    #[error("{by} broke the protocol: {what}")]
    Fault {
        /// Who: `Us` when the peer says so.
        by: Side,
        /// How.
        what: String,
    },
    /// The instances do not match.
    #[error("{0}")]
    Refused(Refusal),
    /// The connection broke.
    #[error("the connection was lost: {0}")]
    Lost(String),
    /// No connection came about.
    #[error("{address} cannot be reached: {detail}")]
    Unreachable {
        /// Where.
        address: Address,
        /// What the transport said.
        detail: String,
    },
    /// The two ends speak no common version of the link protocol, or share no cipher suite.
    #[error("no common link protocol: this endpoint speaks {ours}, the peer {theirs}")]
    Incompatible {
        /// What this endpoint speaks.
        ours: String,
        /// What the peer speaks.
        theirs: String,
    },
    /// It took too long.
    #[error("{what} took longer than {after:?}")]
    TimedOut {
        /// What was waited for.
        what: &'static str,
        /// For how long.
        after: Duration,
    },
    /// Somebody else answered.
    #[error("{expected} was meant and {found} answered")]
    WrongPeer {
        /// Who was meant.
        expected: PeerId,
        /// Who answered.
        found: PeerId,
    },
    /// The address is our own.
    #[error("the address leads back to this endpoint")]
    SelfDial,
    /// A limit is reached.
    #[error("{by} is at its limit: {what}")]
    Limit {
        /// Whose limit.
        by: Side,
        /// Which, with the number.
        what: String,
    },
    /// Nobody knows where the peer listens.
    #[error("no address of the peer is known")]
    NoAddress,
    /// The scheme of the address has no transport here.
    #[error("no transport for {0}")]
    NoTransport(Address),
    /// The link's queue has no room.
    #[error("the link's queue has no room: {queued} of {limit} bytes are taken")]
    Full {
        /// Bytes queued.
        queued: u64,
        /// Its bound.
        limit: u64,
    },
    /// The message is longer than the peer takes.
    #[error("the message is {size} bytes, the peer takes {limit}")]
    TooLarge {
        /// Its length.
        size: u64,
        /// The announced limit.
        limit: u64,
    },
    /// There is no such link, or it is gone.
    #[error("the link is not up")]
    NotUp,
}

/// What a [`Why`] is in one word, in one table: no variant is without, and no word is missing from the list.
macro_rules! labels {
    ($($why:pat => $label:literal,)+) => {
        impl Why {
            /// Each word that [`Why::label`] gives.
            pub const LABELS: &[&'static str] = &[$($label,)+];

            /// One word for counters and logs.
            pub const fn label(&self) -> &'static str {
                match self {
                    $($why => $label,)+
                }
            }
        }
    };
}

labels! {
    Why::Shutdown { .. } => "shutdown",
    Why::Unheld => "unheld",
    Why::Superseded => "superseded",
    Why::Duplicate => "duplicate",
    Why::ChannelClosed { .. } => "channel_closed",
    Why::Silent { .. } => "silent",
    Why::Fault { by: Side::Them, .. } => "fault",
    Why::Fault { by: Side::Us, .. } => "accused",
    Why::Refused(_) => "refused",
    Why::Lost(_) => "lost",
    Why::Unreachable { .. } => "unreachable",
    Why::Incompatible { .. } => "incompatible",
    Why::TimedOut { .. } => "timed_out",
    Why::WrongPeer { .. } => "wrong_peer",
    Why::SelfDial => "self_dial",
    Why::Limit { .. } => "limit",
    Why::NoAddress => "no_address",
    Why::NoTransport(_) => "no_transport",
    Why::Full { .. } => "full",
    Why::TooLarge { .. } => "too_large",
    Why::NotUp => "not_up",
}

fn said(detail: &str) -> String {
    if detail.is_empty() { String::new() } else { format!(": {detail}") }
}

/// A protocol and the network's name within it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceName {
    /// "mesh", "dict", …
    pub protocol: String,
    /// The network's name.
    pub name: String,
}

impl fmt::Display for InstanceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.protocol, self.name)
    }
}

impl fmt::Debug for InstanceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An instance of one side that the other does not meet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{by} refused {instance}: {reason}")]
pub struct Refusal {
    /// Who refused.
    pub by: Side,
    /// What was refused.
    pub instance: InstanceName,
    /// Why.
    pub reason: RefusalReason,
}

/// Why an instance was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RefusalReason {
    /// The refusing side does not run it.
    #[error("it runs no instance of that protocol and name")]
    UnknownInstance,
    /// The refusing side runs another version.
    #[error("it runs version {theirs}, offered was version {ours}")]
    Version {
        /// The version of the refused side.
        ours: u32,
        /// What the refusing side said of its own.
        theirs: String,
    },
    /// The refusing side runs other parameters.
    #[error("its parameters are {theirs}, offered were {ours}")]
    Parameters {
        /// Those of the refused side, in hex.
        ours: String,
        /// What the refusing side said of its own.
        theirs: String,
    },
    /// A limit of the refusing side.
    #[error("it is at a limit: {0}")]
    Limit(String),
}
