//! What happens in a mesh, for whoever wants to watch.

use std::sync::Arc;

use peerage_wire::PeerId;

use super::queue::{Next, Queue};
use crate::mesh::{Loss, Message};

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The first neighbour is there; again after each [`Event::Isolated`].
    Connected,
    /// A peer is a neighbour now.
    NeighbourUp {
        /// Who.
        peer: PeerId,
    },
    /// A peer is no neighbour any more. Another one is looked for at once. What it said last may come after this.
    NeighbourLost {
        /// Who.
        peer: PeerId,
        /// The reason.
        why: Loss,
    },
    /// A message. [`crate::Mesh::recv`] gives it too.
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
    /// This subscriber was too slow: its oldest events were dropped.
    Lagged {
        /// How many.
        missed: u64,
    },
}

/// A subscription to a mesh's events, from [`crate::Mesh::events`] on. Each subscription gets all; one that waits with
/// 4,096 events, or [`crate::MeshConfig::inbox_bytes`] of messages, loses the oldest and hears [`Event::Lagged`].
pub struct Events {
    pub(super) queue: Arc<Queue<Event>>,
}

impl Events {
    /// The next event; `None` when the mesh is closed and all were taken. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Event> {
        match self.queue.next().await {
            Next::Item(event) => Some(event),
            Next::Lagged(missed) => Some(Event::Lagged { missed }),
            Next::Closed => None,
        }
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}
