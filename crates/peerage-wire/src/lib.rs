//! The words of Peerage: every protobuf message, the name of a peer, where it can be reached, the frame codec and
//! the size limits.

mod address;
mod peer_id;
pub mod proto;

pub use address::{Address, AddressError};
pub use peer_id::{PeerId, PeerIdError};
