//! Membership, broadcast to everyone, and direct messages: the mesh.

mod mesh;

pub use mesh::{
    BroadcastError, ConfigError, IntoParts, JoinError, Kind, Loss, MeshAnswer, MeshConfig, MeshEvent, MeshMachine,
    MeshSnapshot, MeshStart, MeshStats, Message, MessageId, MessageIdError, NeighbourInfo, Packet, WhisperError,
};
