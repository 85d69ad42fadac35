//! What do you have that I lack: two peers find out which keys only one of them has, at a cost that goes with the
//! difference and not with the sets.
//!
//! [`Session`] is the protocol, pure: it gets messages and says what to send. Below it are the coded symbols of *Rateless
//! IBLT* (Yang, Gilad and Alizadeh, "Practical Rateless Set Reconciliation", SIGCOMM 2024): an [`Encoder`] makes as many
//! as are asked for, a [`Decoder`] has the difference after some 1.35 to 1.72 symbols for each of its ids, and nobody
//! needs to know its size before. Where sending short ids outright is cheaper, or symbols reach their limit, that is done.
//!
//! Keys are bytes: message ids, names, hashes. A session speaks of them by [`ShortId`]s of eight bytes, made with a
//! [`Salt`] that the initiator draws. `docs/wire.md` has the format, `docs/adr/0008-reconciliation.md` the reasons.
//!
//! ```
//! use peerage_reconcile::{Config, KeyedSet, Message, Salt, Session};
//!
//! let salt = Salt::new([7; 16]); // 16 random bytes, really
//! let alice = KeyedSet::from_keys(salt, ["ant", "bee", "cat"]);
//! let (mut alices, hello) = Session::start(&alice, Config::default())?;
//!
//! let Message::Open(open) = hello else { unreachable!() };
//! let bob = KeyedSet::from_keys(open.salt, ["bee", "cat", "dog"]);
//! let (mut bobs, step) = Session::accept(&bob, Config::default(), &open)?;
//!
//! let (mut to_alice, mut to_bob, mut results) = (step.send, Vec::new(), Vec::new());
//! results.extend(step.difference);
//! while !to_alice.is_empty() || !to_bob.is_empty() {
//!     for message in std::mem::take(&mut to_alice) {
//!         let step = alices.on_message(message)?;
//!         to_bob.extend(step.send);
//!         results.extend(step.difference);
//!     }
//!     for message in std::mem::take(&mut to_bob) {
//!         let step = bobs.on_message(message)?;
//!         to_alice.extend(step.send);
//!         results.extend(step.difference);
//!     }
//! }
//! assert_eq!(results.len(), 2); // each side's own
//! let bobs = results.iter().find(|result| result.ours == [bob.short_id(b"dog")]).unwrap();
//! assert_eq!(bobs.theirs, [alice.short_id(b"ant")]);
//! assert_eq!(bob.key(bobs.ours[0]), Some(&"dog"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Guarantees
//!
//! - A session between honest sides whose messages arrive in order ends with the exact difference on both, by short ids;
//!   or with [`Difference::is_complete`] false after [`Config::max_differences`]; or, by a chance of about 2^-32 for each
//!   symbol, with [`DecodeError::Impossible`].
//! - It answers for the sets as they were when each side began. What is put in or taken out meanwhile changes nothing.
//! - Equal sets cost one message each way: 66 bytes and 20, with [`Config::first_symbols`] 0, and some 290 and 20 by default.
//!   Both sides then know that they agree.
//! - A session between sets that keep enough symbols ([`KeyedSet::keep`]) looks at no key but those that make the
//!   difference, and their changes at 20 symbols of 32,768: one key among 100,000 takes both sides 39 [steps](Session::steps)
//!   together, 10,000 take 235,000. Otherwise each side looks at each of its keys once for each batch of symbols.
//! - Three round trips as a rule, whatever the difference: one in ten of those of 50 keys takes four, fewer of all others.
//! - Whatever a peer sends ends in a step or a typed error, never in a panic or a loop. A session holds no more than
//!   [`Config::worst_case_bytes`], and works about as long on hostile symbols as on as many honest ones, however they are
//!   cut into messages.
//! - Deterministic: equal sets, salts and messages lead to equal steps on every machine; the order of insertion does not
//!   matter.
//!
//! # Non-guarantees
//!
//! - *Two keys with one short id.* In one set, the second is left out and counted ([`KeyedSet::collisions`]). In two sets, both
//!   are taken for one; a fingerprint over longer hashes notices, and [`Difference::agrees`] says so. By chance, this
//!   happens to sets of n and m keys once in 2^64 / (n m) sessions: once in 2^30 for 100,000 keys each. Whoever knows the salt can make it
//!   happen, so a salt should be used for one session or for minutes.
//! - *Truth.* A peer may say that it lacks or has what it likes. It cannot name an id of ours that we do not have.
//! - *Time.* There is no clock. Whoever drives a session ends it when nothing comes.
//! - *Fairness.* The initiator draws the salt. A responder that has no set under it hashes each of its keys, 100,000 in 15 to
//!   50 ms, for a message of 66 bytes. Whoever accepts must therefore limit how often a peer may bring a new salt, and one set
//!   under a salt of its own for each peer is all it should keep. [`KeyedSet::salt`] beside [`Open::salt`] tells before any work
//!   is done, [`Session::steps`] afterwards what a peer made us do.
//! - *What a peer learns.* Short ids of our set, under a salt that it may have drawn: it can test whether we have a key that it
//!   knows. Whoever answers says what it has.
//!
//! # Limits
//!
//! By default: 32,768 symbols, enough for 23,000 differences, then ids; 262,144 ids found on each side; sets of 2^20 keys;
//! messages of 60,000 bytes. A session shares short ids and kept symbols with its set; where it needs symbols that the set
//! does not keep, it holds 32 bytes for each key. With a full set that changes altogether meanwhile, it is 112 MiB at most.

mod config;
mod convert;
mod decoder;
mod encoder;
mod error;
mod listing;
mod mapping;
mod message;
mod names;
mod plan;
mod result;
mod session;
mod set;
mod short;
mod sip;
mod symbol;

pub use config::Config;
pub use decoder::Decoder;
pub use encoder::Encoder;
pub use error::{AcceptError, DecodeError, MessageError, SessionError, StartError};
pub use message::{Answer, Batch, End, Message, Open};
pub use result::Difference;
pub use session::{Session, Step};
pub use set::{Insertion, KeyedSet};
pub use short::{Fingerprint, Salt, ShortId};
pub use symbol::Symbol;
