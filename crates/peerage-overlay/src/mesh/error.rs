//! Why something was not done.

use std::time::Duration;

use peerage_machine::Why;
use peerage_wire::{Address, PeerId};

/// A value of [`crate::MeshConfig`] that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value}, it must be {least} to {most} (times in microseconds)")]
pub struct ConfigError {
    /// Which.
    pub field: &'static str,
    /// What it is.
    pub value: u64,
    /// The least that is allowed.
    pub least: u64,
    /// The most that is allowed.
    pub most: u64,
}

/// Why a mesh was not joined.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// Nobody to join by was named.
    #[error("no contact was named")]
    NoContacts,
    /// More than are remembered.
    #[error("{named} contacts were named, the limit is {limit}")]
    TooMany {
        /// As many were named.
        named: usize,
        /// As many may be.
        limit: usize,
    },
    /// No contact can be reached. They are remembered and tried again in the background.
    #[error("no contact could be reached: {}", listed(failures))]
    Unreachable {
        /// Each contact and the reason.
        failures: Vec<(Address, Why)>,
    },
    /// No neighbour came in time. The mesh goes on trying in the background.
    #[error("no neighbour within {after:?}{}", noted(failures))]
    TimedOut {
        /// How long it was waited.
        after: Duration,
        /// The contacts that failed, and why.
        failures: Vec<(Address, Why)>,
    },
    /// Too many joins are pending.
    #[error("{pending} joins are pending, the limit is {limit}")]
    Busy {
        /// How many are.
        pending: usize,
        /// How many may be.
        limit: usize,
    },
    /// The mesh is closed.
    #[error("the mesh is closed")]
    Closed,
}

fn listed(failures: &[(Address, Why)]) -> String {
    let each = failures.iter().map(|(address, why)| match why {
        // These name the address themselves.
        Why::Unreachable { .. } | Why::NoTransport(_) => why.to_string(),
        _ => format!("{address}: {why}"),
    });
    each.collect::<Vec<_>>().join("; ")
}

fn noted(failures: &[(Address, Why)]) -> String {
    if failures.is_empty() { String::new() } else { format!("; {}", listed(failures)) }
}

/// Why a broadcast was not accepted. Nothing was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BroadcastError {
    /// Longer than the mesh, or a neighbour, takes.
    #[error("the message is {size} bytes as signed, the limit is {limit}")]
    TooLarge {
        /// Its length, encoded.
        size: u64,
        /// The mesh's limit.
        limit: u64,
    },
    /// No part, or too many.
    #[error("the message has {found} parts, 1 to {limit} are allowed")]
    Parts {
        /// As many were given.
        found: usize,
        /// As many may be.
        limit: usize,
    },
    /// A neighbour that would be sent the message has no room for it. Try again after [`crate::MeshEvent::Room`].
    #[error("the queue to {neighbour} has no room for {size} bytes, {credit} are left")]
    Full {
        /// Whose queue.
        neighbour: PeerId,
        /// What the message needs.
        size: u64,
        /// What there is.
        credit: u64,
    },
    /// There is nobody to tell.
    #[error("there is no neighbour")]
    NoNeighbours,
    /// The mesh is closed.
    #[error("the mesh is closed")]
    Closed,
}

/// Why a whisper is not known to have arrived. After `TimedOut` it may have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WhisperError {
    /// No link, no way through the mesh and no address led to the peer.
    #[error("{peer} cannot be reached{}", because(.why))]
    Unreachable {
        /// Who was meant.
        peer: PeerId,
        /// Why dialling failed, if it was tried.
        why: Option<Box<Why>>,
    },
    /// No word of it came back in time.
    #[error("{peer} did not confirm within {after:?}")]
    TimedOut {
        /// Who was meant.
        peer: PeerId,
        /// How long it was waited.
        after: Duration,
    },
    /// A link on the way had no room.
    #[error("a link on the way to {peer} has no room")]
    Full {
        /// Who was meant.
        peer: PeerId,
    },
    /// Too many whispers are on their way from here.
    #[error("{pending} whispers of {bytes} bytes are pending, the limits are {limit} and {limit_bytes}")]
    Busy {
        /// How many are.
        pending: usize,
        /// Their bytes.
        bytes: u64,
        /// How many may be.
        limit: usize,
        /// Their bytes.
        limit_bytes: u64,
    },
    /// Longer than the mesh takes.
    #[error("the message is {size} bytes as signed, the limit is {limit}")]
    TooLarge {
        /// Its length, encoded.
        size: u64,
        /// The mesh's limit.
        limit: u64,
    },
    /// No part, or too many.
    #[error("the message has {found} parts, 1 to {limit} are allowed")]
    Parts {
        /// As many were given.
        found: usize,
        /// As many may be.
        limit: usize,
    },
    /// The target is this peer.
    #[error("a whisper to oneself")]
    ToSelf,
    /// The mesh is closed.
    #[error("the mesh is closed")]
    Closed,
}

fn because(why: &Option<Box<Why>>) -> String {
    why.as_ref().map(|why| format!(": {why}")).unwrap_or_default()
}
