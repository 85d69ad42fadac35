//! Who a peer is: an Ed25519 identity, signatures with domains, key files, the Noise handshake, the record cipher,
//! and sealed boxes.
//!
//! ```
//! use peerage_identity::{Handshake, Identity, Recipient, verify};
//! use peerage_wire::Suite;
//!
//! let (alice, bob) = (Identity::from_seed([1; 32]), Identity::from_seed([2; 32]));
//! let signature = alice.sign("chat message v1", b"hello");
//! verify(&alice.peer_id(), "chat message v1", b"hello", &signature)?;
//!
//! // Whoever carries it, only Bob reads it.
//! let sealed = Recipient::peer(&bob.peer_id())?.seal(b"chat 7", b"hello")?;
//! assert_eq!(bob.open_box(b"chat 7", &sealed)?, b"hello");
//!
//! // The entropy comes from the operating system, or from a simulation's seed.
//! let mut dialer = Handshake::initiator(&alice, Suite::AesGcm, b"prologue", [3; 32])?;
//! let mut listener = Handshake::responder(&bob, Suite::AesGcm, b"prologue", [4; 32])?;
//! let (mut first, mut second, mut third) = (Vec::new(), Vec::new(), Vec::new());
//! dialer.write(b"", &mut first)?;
//! listener.read(&first)?;
//! listener.write(b"I am Bob", &mut second)?;
//! assert_eq!(dialer.read(&second)?, b"I am Bob");
//! dialer.check_certificate(&bob.peer_id(), bob.noise_certificate())?;
//! dialer.write(b"I am Alice", &mut third)?;
//! assert_eq!(listener.read(&third)?, b"I am Alice");
//!
//! let (mut sealer, _) = dialer.finish()?;
//! let (_, mut opener) = listener.finish()?;
//! let mut record = bytes::BytesMut::from(&b"\0\0a record"[..]);
//! sealer.seal(&mut record, 0)?;
//! assert_eq!(opener.open(&mut record[2..])?, b"a record");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Guarantees
//!
//! - Signatures have one rule (RFC 8032 times the cofactor, with canonical encodings and without points of small order),
//!   whether they are checked alone or together ([`verify_all`]): whoever checks one comes to the same result, and nobody
//!   but the signer can turn one into another that is good too.
//! - The same seed and entropy give the same bytes in any process. Only [`Identity::generate`], the key files and
//!   [`Recipient::seal`] use the operating system's randomness.
//! - A Diffie-Hellman result of zeros ends the handshake, and makes or opens no box: nobody can force the keys.
//! - Both suites do what Noise (revision 34) says, as its published vectors and another implementation show; which one
//!   a handshake has, both ends know before it begins.
//! - A record opens once, in its place, unchanged, or not at all.
//! - A message that is sealed in a lane opens once, unchanged, and after all of its lane that were opened before, or not at
//!   all.
//! - A box opens with its recipient's secret and the associated data that it was sealed with, unchanged, or not at all.
//! - The identity's secrets, ephemeral keys and seeds are overwritten when dropped; nothing here prints a secret.
//! - A key file is complete or absent, never readable by group or others, and never overwritten.
//!
//! # Non-guarantees
//!
//! - Overwriting memory does not reach copies that the compiler made, and the handshake's chaining key, held by
//!   `snow`, and ring's record keys are overwritten as well as can be without unsafe code.
//! - A box does not say who sealed it, and is no secret any more once its recipient's key is none: sign what is in it,
//!   and send over links what should stay secret even then.
//! - Noise XX hides the identities from those who listen, not from whoever dials: the responder shows its own first.
//!
//! # Limits
//!
//! A handshake message has at most 16,384 bytes, a record 65,535 with its tag. Keys change every 2^20 records, and a
//! link ends after 2^48. A box has 48 bytes more than what is in it ([`BOX_OVERHEAD`]), and room for 256 GiB. A key
//! file has at most 16 KiB. Of a signature's domain, 255 bytes count.

mod batch;
mod cipher;
mod handshake;
mod identity;
mod key_file;
mod keys;
mod lanes;
mod record;
mod resolver;
mod sealed_box;
mod signature;

pub use batch::{Check, verify_all};
pub use cipher::suites_by_speed;
pub use handshake::{Handshake, HandshakeError};
pub use identity::{EntropyError, Identity};
pub use key_file::KeyFileError;
pub use lanes::{Lane, LaneOpenError, LaneOpener, LaneSealError, LaneSealer};
pub use record::{Opener, RecordError, SealError, Sealer, records_under};
pub use sealed_box::{BOX_OVERHEAD, BoxOpenError, BoxSealError, BoxSecret, Recipient, RecipientError};
pub use signature::{NOISE_STATIC, SignatureError, verify};
