//! Systems made of peers: one identity each, one encrypted link per pair, and on it a [`Mesh`] that delivers to everyone.
//!
//! No logic of its own: [`Peer`] is an [`Endpoint`](net::Endpoint) that opens a protocol by its network's name. What most
//! programs name is at the root, the rest in the crates behind it, which are the modules [`overlay`], [`net`],
//! [`identity`], [`machine`] and [`wire`]. Whoever needs one of them only can depend on its crate alone and gets the same
//! types.
//!
//! ```
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use peerage::Peer;
//!
//! let alice = Peer::builder().listen("tcp://127.0.0.1:0".parse()?).bind().await?;
//! let bob = Peer::builder().bind().await?;
//! let (hers, his) = (alice.mesh("news")?, bob.mesh("news")?);
//! his.join(&alice.addresses()).await?;
//!
//! his.broadcast("hello, everybody").await?;
//! assert_eq!(hers.recv().await?.body().as_ref(), b"hello, everybody");
//! println!("{}", bob.close().await);
//! println!("{}", alice.close().await);
//! # Ok(())
//! # }
//! ```
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
pub use peerage_overlay::{Event, Events, Handled, Mesh, MeshConfig, Message, MessageId, Received};
pub use peerage_wire::{Address, PeerId};

/// Tests the README's program.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
