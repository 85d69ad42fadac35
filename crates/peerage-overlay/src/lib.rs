//! Membership, broadcast to everyone, and direct messages: the mesh.
//!
//! Everyone in a mesh hears what anyone says, and anyone can be told something alone. [`Mesh`] is what a program holds;
//! [`MeshMachine`] is the protocol, pure, which `peerage-sim` runs by the hundred.
//!
//! # Guarantees
//!
//! - A message is given to the application once, after its origin's signature was checked. Its bytes are the origin's.
//! - A message reaches every peer that stays connected with the others, directly or not, for
//!   [`MeshConfig::retain_for`] after it was said, as long as [`MeshConfig::retain_bytes`] and
//!   [`MeshConfig::retain_messages`] suffice. Crashes, broken links and partitions that heal within that time lose nothing.
//! - What cannot come any more is told: [`Event::Missed`]. What the reader was too slow for is told: [`RecvError::Lagged`].
//! - A repeated sender costs one payload per receiver once its tree has settled.
//! - A slow neighbour never holds up relaying; one that is stuck holds up publishing for [`MeshConfig::stall_after`].
//! - A whisper that returns `Ok` was confirmed by its target, signed.
//! - A peer that loses everybody goes on trying its contacts, and everybody it knows, until it finds one.
//! - A peer that restarts finds the mesh without its contact while one of those lives that it knew, with [`MeshConfig::book`].
//! - Of a mesh most of which is gone at once, those who are left find each other, also who knows nobody among them: measured,
//!   of 10,000 peers 95 % of which crash.
//! - A neighbour that is gone is noticed within [`MeshConfig::probe_cycle`], whatever its link says.
//! - A neighbour that forges, promises and does not send, or floods with control messages is let go, and [`Mesh::explain`]
//!   says why.
//! - Memory is bounded by [`MeshConfig::worst_case_bytes`] and [`MeshConfig::inbox_bytes`].
//!
//! # Non-guarantees
//!
//! - Order: messages of one origin mostly arrive in order, and may not. `id.seq` counts them.
//! - Messages do not survive a restart. A peer that restarts hears again what its neighbours retain.
//! - Secrecy within the mesh: relays read what they relay, whispers too. Links are encrypted, messages are not.
//! - Eclipse: a peer all of whose neighbours are hostile hears what they let it hear. They cannot forge; those who dial in
//!   get five places of seven, and by asking urgently two of those.
//! - Back-pressure from beyond the neighbours: who cannot keep up for longer than the retention misses messages.
//!
//! # Limits
//!
//! With the defaults: messages of 16 MiB in 1 to 64 parts; 5 to 7 neighbours, 120 other peers remembered; 32 MiB, 131,072
//! messages or 60 s retained; 1,024 origins remembered, each with a tree of its own; clocks right to within an hour; 201 MiB
//! of memory when everything is full, 64 MiB more for a reader that does not read.

mod handle;
mod mesh;

pub use handle::{Closed, Event, Events, Handled, Mesh, OpenError, Received, RecvError};
pub use mesh::{
    BroadcastError, Conduct, ConfigError, IntoParts, JoinError, Kind, Loss, MeshAnswer, MeshConfig,
    MeshEvent, MeshMachine, MeshSnapshot, MeshStart, MeshStats, Message, MessageId, MessageIdError,
    NeighbourInfo, Overfull, Packet, Receipt, WhisperError,
};
