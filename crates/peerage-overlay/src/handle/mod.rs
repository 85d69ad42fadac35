//! The mesh on real links: what a program holds.
//!
//! Thin: the protocol is in [`crate::MeshMachine`]. Here are queues between it and the application, and futures that
//! wait for its answers.

mod book;
mod desk;
mod events;
mod mesh;
mod queue;
mod received;

pub use events::{Event, Events};
pub use mesh::{Mesh, OpenError};
pub use received::{Handled, Received, RecvError};

/// The handle of a mesh that is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the mesh is closed")]
pub struct Closed;
