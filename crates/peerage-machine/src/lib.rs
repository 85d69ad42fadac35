//! What a protocol core is: a pure state machine with inputs, effects as data, timers, seeded randomness and one clock
//! reading.
//!
//! The same value runs on tokio (`peerage-net`) and by the thousand in virtual time (`peerage-sim`).
//!
//! # The contract
//!
//! 1. Same seed, same inputs: same effects, byte for byte, in any process. Randomness comes from a [`Seed`] forked by
//!    label; nothing iterates over a hash map.
//! 2. [`Machine::on_timer`] at its deadline moves the deadline forward or to `None`; early it does nothing; late it
//!    catches up in one bounded call.
//! 3. No input panics. Network input never fails: bad input costs the sender (an [`Effect::Fault`] or a closed channel)
//!    and us work in proportion to its size.
//! 4. Memory is bounded by a figure that the configuration can compute.
//! 5. Commands answer: a caller's mistake is a typed error at once; nothing vanishes without an error, an event or a
//!    counter.
//!
//! # Driving a machine
//!
//! After every call that takes `&mut`: drain the outbox, in order, and read [`Machine::deadline`] again. The clock that a
//! host passes never goes back. An input is about what the host was asked for, or about a link that is up; late results
//! of what a machine has given up are normal.
//!
//! # The kit
//!
//! What every machine needs: [`Timers`] with one deadline out, [`Calls`] for questions that take a while, [`Seed`] and
//! [`Rng`] for randomness that can be had again, [`Outbox::map`] for a machine inside a machine, [`Few`] for what each of
//! thousands has one or two of. [`testing`] checks the contract against any machine.
//!
//! ```
//! use std::time::Duration;
//! use bytes::{Bytes, BytesMut};
//! use peerage_machine::{Input, Instant, LinkId, Machine, Malformed, Message, Now, OutboxOf, Timers};
//!
//! /// Nothing but "I am here".
//! #[derive(Clone, Debug)]
//! struct Beat;
//!
//! impl Message for Beat {
//!     fn encoded_len(&self) -> usize {
//!         0
//!     }
//!     fn encode(&self, _: &mut BytesMut) {}
//!     fn decode(bytes: Bytes) -> Result<Self, Malformed> {
//!         if bytes.is_empty() { Ok(Self) } else { Err(Malformed::new("beat", "it is not empty")) }
//!     }
//! }
//!
//! /// Greets every link once a second and tells the application who greets.
//! #[derive(Default)]
//! struct Heart {
//!     links: Vec<LinkId>,
//!     timers: Timers<()>,
//! }
//!
//! impl Machine for Heart {
//!     type Message = Beat;
//!     type Event = LinkId;
//!     type Answer = ();
//!
//!     fn on_input(&mut self, now: Now, input: Input<Beat>, out: &mut OutboxOf<Self>) {
//!         match input {
//!             Input::Up { link, .. } => {
//!                 self.links.push(link);
//!                 self.timers.arm((), now.mono + Duration::from_secs(1));
//!             }
//!             Input::Down { link, .. } => self.links.retain(|up| *up != link),
//!             Input::Message { link, message: Beat } => out.emit(link),
//!             _ => (),
//!         }
//!     }
//!
//!     fn on_timer(&mut self, now: Now, out: &mut OutboxOf<Self>) {
//!         while let Some(()) = self.timers.expire(now.mono) {
//!             for link in &self.links {
//!                 out.control(*link, Beat);
//!             }
//!             self.timers.arm((), now.mono + Duration::from_secs(1));
//!         }
//!     }
//!
//!     fn deadline(&self) -> Option<Instant> {
//!         self.timers.deadline()
//!     }
//! }
//! ```
//!
//! # Guarantees
//! - Nothing here reads a clock, the operating system's entropy, or the environment.
//! - [`Rng`] gives the same stream for the same seed on every platform, and keeps doing so: a test pins it.
//! - A loop over [`Timers::expire`] or [`Calls::expire`] ends, and leaves the deadline in the future.
//!
//! # Non-guarantees
//! - The compiler does not see to the contract. [`testing::check`] sees what a host can see of it.
//! - [`Seed`] and [`Rng`] do not erase themselves from memory: secrets belong into `peerage-identity`.
//! - Ids of a machine inside a machine are its own: see [`Outbox::renumber`].
//!
//! # Limits
//! - An [`Instant`] counts microseconds in 64 bits, some 580,000 years, and saturates there.
//! - A [`Calls`] holds as many calls as it was made for; [`Timers`] are as many as there are keys.

mod calls;
mod effect;
mod few;
mod ids;
mod input;
mod on_return;
mod seed;
pub mod testing;
mod time;
mod timers;
mod why;

pub use calls::{Calls, CallsFull};
pub use effect::{Class, Effect, Outbox, Target, Write};
pub use few::Few;
pub use ids::{CallId, DialId, JobId, LinkId, OpId, SendId};
pub use input::{Direction, Incarnation, Input, LinkInfo, StoreError};
pub use on_return::OnReturn;
pub use seed::{Rng, Seed};
pub use time::{Instant, Now, UnixMillis};
pub use timers::Timers;
pub use why::{InstanceName, Refusal, RefusalReason, Side, Why};

use bytes::{Bytes, BytesMut};

/// What peers of one protocol say to each other. Hosts on real links encode it, the simulator moves it as a value.
pub trait Message: Clone + std::fmt::Debug + Send + 'static {
    /// Bytes that [`Message::encode`] will append.
    fn encoded_len(&self) -> usize;

    /// Appends the message.
    fn encode(&self, into: &mut BytesMut);

    /// The message as [`Message::encode`] writes it. One that holds its bytes as they are sent gives them without a copy.
    fn to_bytes(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(self.encoded_len());
        self.encode(&mut bytes);
        bytes.freeze()
    }

    /// The same, for who needs the message no more.
    fn into_bytes(self) -> Bytes {
        self.to_bytes()
    }

    /// Reads one message that fills `bytes`. The bytes are the message's own: slices of them may be kept.
    ///
    /// # Errors
    /// [`Malformed`], and the sender pays for it.
    fn decode(bytes: Bytes) -> Result<Self, Malformed>;
}

/// Bytes from a peer that are no message of the protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed {what}: {why}")]
pub struct Malformed {
    /// The message that was expected.
    pub what: &'static str,
    /// What is wrong with it.
    pub why: String,
}

impl Malformed {
    /// `what` was expected, and `why` says why this is not it.
    pub fn new(what: &'static str, why: impl ToString) -> Self {
        Self { what, why: why.to_string() }
    }
}

/// A protocol core. What the application asks of it are inherent methods that take `now` and the outbox and answer at
/// once; what takes a while returns a [`CallId`] and ends in an [`Effect::Answer`].
pub trait Machine {
    /// What peers of this protocol say to each other.
    type Message: Message;
    /// What the application hears.
    type Event: Send + std::fmt::Debug + 'static;
    /// What a question of the application's ends with.
    type Answer: Send + std::fmt::Debug + 'static;

    /// Something happened.
    fn on_input(&mut self, now: Now, input: Input<Self::Message>, out: &mut OutboxOf<Self>);

    /// The deadline has come. Early it does nothing.
    fn on_timer(&mut self, now: Now, out: &mut OutboxOf<Self>);

    /// The earliest armed timer: cheap and pure.
    fn deadline(&self) -> Option<Instant>;
}

/// The outbox of a machine.
pub type OutboxOf<M> = Outbox<<M as Machine>::Message, <M as Machine>::Event, <M as Machine>::Answer>;
