//! Who keeps to the protocol, and who does not.

use std::fmt;

use peerage_machine::{Input, Instant, Machine, Now, OutboxOf};

/// A machine that speaks as another one does, and does what it likes.
pub type Impostor<H> = dyn Machine<Message = <H as Machine>::Message, Event = <H as Machine>::Event, Answer = <H as Machine>::Answer>;

/// A machine of a simulation in which some are not what they should be.
pub enum Role<H: Machine> {
    /// The real one.
    Honest(H),
    /// One of a Byzantine peer.
    Byzantine(Box<Impostor<H>>),
}

impl<H: Machine> Role<H> {
    /// The real machine, unless the peer is Byzantine.
    pub const fn honest(&self) -> Option<&H> {
        match self {
            Self::Honest(machine) => Some(machine),
            Self::Byzantine(_) => None,
        }
    }

    /// The same, to change it.
    pub const fn honest_mut(&mut self) -> Option<&mut H> {
        match self {
            Self::Honest(machine) => Some(machine),
            Self::Byzantine(_) => None,
        }
    }
}

impl<H: Machine> fmt::Debug for Role<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Honest(_) => "Honest(…)",
            Self::Byzantine(_) => "Byzantine(…)",
        })
    }
}

impl<H: Machine> Machine for Role<H> {
    type Message = H::Message;
    type Event = H::Event;
    type Answer = H::Answer;

    fn on_input(&mut self, now: Now, input: Input<Self::Message>, out: &mut OutboxOf<Self>) {
        match self {
            Self::Honest(machine) => machine.on_input(now, input, out),
            Self::Byzantine(machine) => machine.on_input(now, input, out),
        }
    }

    fn on_timer(&mut self, now: Now, out: &mut OutboxOf<Self>) {
        match self {
            Self::Honest(machine) => machine.on_timer(now, out),
            Self::Byzantine(machine) => machine.on_timer(now, out),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Honest(machine) => machine.deadline(),
            Self::Byzantine(machine) => machine.deadline(),
        }
    }
}
