//! The contract as a kit: it plays a hostile host to a machine and says which rule was broken, with which seed, at
//! which step.
//!
//! ```
//! # use std::time::Duration;
//! # use bytes::{Bytes, BytesMut};
//! # use peerage_machine::testing::{Asked, Plan, Subject, check};
//! # use peerage_machine::*;
//! # #[derive(Clone, Debug)] struct Ping;
//! # impl Message for Ping {
//! #     fn encoded_len(&self) -> usize { 1 }
//! #     fn encode(&self, into: &mut BytesMut) { into.extend_from_slice(b"p") }
//! #     fn decode(bytes: Bytes) -> Result<Self, Malformed> {
//! #         if &bytes[..] == b"p" { Ok(Self) } else { Err(Malformed::new("ping", "not p")) }
//! #     }
//! # }
//! # struct Echo;
//! # impl Machine for Echo {
//! #     type Message = Ping; type Event = (); type Answer = ();
//! #     fn on_input(&mut self, _: Now, input: Input<Ping>, out: &mut OutboxOf<Self>) {
//! #         if let Input::Message { link, message } = input { out.send(link, message) }
//! #     }
//! #     fn on_timer(&mut self, _: Now, _: &mut OutboxOf<Self>) {}
//! #     fn deadline(&self) -> Option<Instant> { None }
//! # }
//! struct Echoes;
//!
//! impl Subject for Echoes {
//!     type Machine = Echo;
//!     type Command = ();
//!
//!     fn make(&self, _: Now, _: Seed) -> Echo {
//!         Echo
//!     }
//!     fn message(&self, _: &mut Rng) -> Ping {
//!         Ping
//!     }
//!     fn command(&self, _: &mut Rng) -> Option<()> {
//!         None
//!     }
//!     fn run(&self, _: &mut Echo, _: &(), _: Now, _: &mut OutboxOf<Echo>) -> Asked {
//!         Asked::Done
//!     }
//!     fn held_bytes(&self, _: &Echo) -> usize {
//!         size_of::<Echo>()
//!     }
//!     fn worst_case_bytes(&self) -> usize {
//!         size_of::<Echo>()
//!     }
//! }
//!
//! check(&Echoes, &Plan::default()).unwrap();
//! ```
//!
//! The kit is not behind a feature: it needs nothing that the crate does not need anyway, generates no code where it is
//! not called, and whoever writes a machine of their own should find it.
//!
//! # What is checked
//! Rule by rule, see [`Rule`]. What no host can see is not: that work is in proportion to an input's size (only the
//! number of effects per call is bounded), or that a command that says it is done did something.

mod check;
mod failure;
mod host;
mod run;

pub use check::{Plan, Report, check, check_steps};
pub use failure::{Failure, Rule};

use std::fmt::Debug;
use std::time::Duration;

use bytes::Bytes;

use crate::{CallId, Input, Machine, Now, OutboxOf, Rng, Seed, UnixMillis};

/// The message type of a subject's machine.
pub type MessageOf<S> = <<S as Subject>::Machine as Machine>::Message;

/// A machine under test: how to make one, and what its peers and its application may say.
pub trait Subject {
    /// The machine.
    type Machine: Machine;
    /// What the application may ask of it.
    type Command: Clone + Debug;

    /// A new machine. Everything random in it comes from the seed.
    fn make(&self, now: Now, seed: Seed) -> Self::Machine;

    /// Something that a peer might say: well-behaved, out of place, or hostile.
    fn message(&self, rng: &mut Rng) -> MessageOf<Self>;

    /// Something that the application might ask, mistakes included; `None` if there is nothing to ask.
    fn command(&self, rng: &mut Rng) -> Option<Self::Command>;

    /// Asks it.
    fn run(
        &self,
        machine: &mut Self::Machine,
        command: &Self::Command,
        now: Now,
        out: &mut OutboxOf<Self::Machine>,
    ) -> Asked;

    /// Roughly what the machine holds now, in bytes.
    fn held_bytes(&self, machine: &Self::Machine) -> usize;

    /// The most that it may hold with its configuration, in bytes.
    fn worst_case_bytes(&self) -> usize;

    /// The parameters with which links come up. Default: none.
    fn parameters(&self) -> Bytes {
        Bytes::new()
    }

    /// The most effects of one call. A machine that makes up for every period that it missed exceeds it. Default 4096.
    fn effects_per_call(&self) -> usize {
        4096
    }

    /// How long after the last input every question is answered, at most. Default 10 minutes.
    fn patience(&self) -> Duration {
        Duration::from_secs(600)
    }
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It is done.
    Done,
    /// It was refused, with this error.
    Refused(String),
    /// It will end in an answer.
    Call(CallId),
    /// This question, asked before, will have no answer.
    Cancelled(CallId),
}

/// One step of a test. Lists of them can come from a property test; [`check`] makes its own.
#[derive(Clone, Debug)]
pub enum Step<M, C> {
    /// The world says something.
    Input(Input<M>),
    /// The application asks something.
    Command(C),
    /// So much time passes, and each deadline on the way is met.
    Wait(Duration),
    /// So much time passes at a host that is too busy for timers. The next `Wait` meets the deadline, late.
    Pause(Duration),
    /// The host calls `on_timer` though nothing may be due.
    Early,
    /// The wall clock jumps.
    Wall(UnixMillis),
}

/// The step type of a subject.
pub type StepOf<S> = Step<MessageOf<S>, <S as Subject>::Command>;
