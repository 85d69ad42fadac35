//! The words of Peerage: every protobuf message, the name of a peer, where it can be reached, the frame codec and
//! the size limits.
//!
//! `docs/wire.md` is the prose, `proto/` the grammar, this crate what both mean in Rust.
//!
//! | module | what |
//! |---|---|
//! | [`preface`] | the dialer's first nine bytes, and the answer to one that is not understood |
//! | [`handshake`] | the lengths around Noise handshake messages |
//! | [`hello`] | the payload of the handshake, checked |
//! | [`frame`] | what is inside the records: pieces of messages, and controls |
//! | [`limits`] | every bound, as a constant |
//! | [`proto`] | the generated messages |
//!
//! ```
//! use bytes::BytesMut;
//! use peerage_wire::frame::{DataHeader, FrameRef, Frames, put_data};
//!
//! let header = DataHeader { channel: 3, class: 0, total: 0 };
//! let mut plaintext = BytesMut::new();
//! put_data(&mut plaintext, header, b"hello");
//! for frame in Frames::new(&plaintext) {
//!     assert_eq!(frame?, FrameRef::Data { header, payload: b"hello" });
//! }
//! # Ok::<(), peerage_wire::frame::FrameError>(())
//! ```
//!
//! # Guarantees
//!
//! - Every decoder ends in a value or an error for any bytes whatever, never in a panic.
//! - Lengths are compared with their limit before anything is copied or allocated, and repeated fields are counted
//!   before they are decoded: a decoder allocates in proportion to the limits, not to what the bytes claim.
//! - [`frame`] and the generated [`proto::link::v1::Frame`] agree byte for byte.
//! - Fixtures in `tests/fixtures` pin the bytes of every message.
//!
//! # Non-guarantees
//!
//! - Texts from a peer (names, details) are valid UTF-8 within their limit, and nothing else: print them quoted.
//! - A decoded [`hello::Hello`] has the right shape. Whether its signature is good is for `peerage-identity` to say.
//!
//! # Limits
//!
//! Those of [`limits`]: a record has at most 65,535 bytes, a handshake message 16,384, a fragment 16,384, a control
//! 16,384, a `Hello` 16,288 with at most 256 instances and 16 addresses.

mod address;
mod fields;
pub mod frame;
pub mod handshake;
pub mod hello;
pub mod limits;
mod network;
mod peer_id;
pub mod preface;
pub mod proto;
mod suite;

pub use address::{Address, AddressError};
pub use network::Network;
pub use peer_id::{PeerId, PeerIdError};
pub use suite::Suite;
