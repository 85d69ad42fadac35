#![doc = include_str!("../../../README.md")]
//!
//! # This crate
//!
//! One path per type, and no logic of its own: [`Peer`] is an [`Endpoint`](net::Endpoint) that opens a protocol by its
//! network's name. Whoever needs one protocol only can depend on its crate alone and gets the same types.
//!
//! # Guarantees
//!
//! Those of the crates behind it; each states its own: [`net`] (links), [`overlay`] (the mesh), [`identity`] (keys),
//! [`wire`] (formats).
//!
//! # Non-guarantees
//!
//! The last clone of a [`Peer`] that is dropped ends it without goodbyes; [`Peer::close`] says them.
//!
//! # Limits
//!
//! [`net::Config`] bounds what an endpoint costs, [`MeshConfig`] what a mesh does.

mod peer;

pub use peer::{Peer, PeerBuilder};

pub use peerage_identity as identity;
pub use peerage_machine as machine;
pub use peerage_net as net;
pub use peerage_overlay as overlay;
pub use peerage_wire as wire;

pub use peerage_identity::Identity;
pub use peerage_overlay::{Event, Handled, Mesh, MeshConfig, Message, MessageId, Received};
pub use peerage_wire::{Address, PeerId};
