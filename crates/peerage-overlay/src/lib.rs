//! Membership, broadcast to everyone, and direct messages: the mesh.

mod handle;
mod mesh;

pub use handle::{Closed, Event, Events, Handled, Mesh, OpenError, Received, RecvError};
pub use mesh::{
    BroadcastError, ConfigError, IntoParts, JoinError, Kind, Loss, MeshAnswer, MeshConfig, MeshEvent, MeshMachine,
    MeshSnapshot, MeshStart, MeshStats, Message, MessageId, MessageIdError, NeighbourInfo, Packet, WhisperError,
};
