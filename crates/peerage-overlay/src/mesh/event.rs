//! What the application hears.

use peerage_machine::{Outbox, Why};
use peerage_wire::PeerId;

use super::error::{JoinError, WhisperError};
use super::message::Message;
use super::packet::Packet;

/// Something that happened in the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MeshEvent {
    /// The first neighbour is there; again after each [`MeshEvent::Isolated`].
    Connected,
    /// A peer is a neighbour now.
    NeighbourUp {
        /// Who.
        peer: PeerId,
    },
    /// A peer is no neighbour any more. Another one is looked for at once.
    NeighbourLost {
        /// Who.
        peer: PeerId,
        /// The reason.
        why: Loss,
    },
    /// A message, once.
    Message(Message),
    /// Messages of an origin that nobody near retains any more: they will not come.
    Missed {
        /// Whose.
        origin: PeerId,
        /// How many.
        missed: u64,
    },
    /// There is no neighbour left. Contacts and everybody known are tried until there is one.
    Isolated,
    /// A broadcast that was refused as [`crate::BroadcastError::Full`] may be tried again.
    Room,
}

/// Why a neighbour is none any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Loss {
    /// The link, or the mesh on it, ended.
    #[error("{0}")]
    Link(Why),
    /// It did not answer a probe.
    #[error("nothing was heard from the peer for {after:?}")]
    Silent {
        /// For how long.
        after: std::time::Duration,
    },
    /// The peer has other neighbours.
    #[error("the peer chose other neighbours")]
    LetGo,
    /// The peer left the mesh.
    #[error("the peer left the mesh")]
    Left,
    /// We made room for another one.
    #[error("it made room for another neighbour")]
    Replaced,
    /// It misbehaved, and is shunned for a while: see [`crate::MeshMachine::explain`].
    #[error("it misbehaved")]
    Shunned,
    /// We left the mesh.
    #[error("this peer left the mesh")]
    Leaving,
}

/// What a call of the mesh ends with.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MeshAnswer {
    /// To `join`.
    Joined(Result<(), JoinError>),
    /// To `whisper`: `Ok` when the target confirmed.
    Whispered(Result<(), WhisperError>),
}

/// The outbox of a mesh.
pub(crate) type Out = Outbox<Packet, MeshEvent, MeshAnswer>;
