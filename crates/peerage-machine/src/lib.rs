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
//! After every call that takes `&mut`: drain the outbox, in order, and read [`Machine::deadline`] again.

mod calls;
mod effect;
mod ids;
mod input;
mod seed;
mod time;
mod timers;
mod why;

pub use calls::{Calls, CallsFull};
pub use effect::{Class, Effect, Outbox, Target, Write};
pub use ids::{CallId, DialId, JobId, LinkId, OpId, SendId};
pub use input::{Direction, Incarnation, Input, LinkInfo, StoreError};
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
