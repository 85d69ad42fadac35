//! One connection as a pure machine: handshake, acceptance of instances, fragments, channels, credit, keep-alive,
//! goodbye.
//!
//! A [`Link`] takes the bytes that arrive and gives the bytes to send; it knows no socket and reads no clock. The host
//! (`peerage-net`) drives it with four verbs, and after each of them takes events until there are none:
//!
//! 1. [`Link::receive`] when bytes came, again and again until it uses none of them;
//! 2. [`Link::transmit`] while it gives bytes, as fast as the socket takes them;
//! 3. [`Link::on_timer`] at [`Link::deadline`];
//! 4. [`Link::poll_event`], and what the event asks for.
//!
//! # Guarantees
//!
//! - Both ends know who the other is, and both agreed, before either hears [`LinkEvent::Up`].
//! - Messages of one channel and class arrive whole, once and in order, or the link ends and says why.
//! - A large message does not hold up others: fragments of at most 16 KiB take turns between channels; control goes
//!   before interactive, and interactive gets four turns to bulk's one. Each class of a channel has credit of its own,
//!   so that an interactive message of any length passes a bulk message of its channel.
//! - Whatever the peer sends, memory for it stays within [`LinkConfig::worst_case_inbound_bytes`] and what the link has
//!   of the endpoint's [`Memory`], also when the host is slow to take events, and nothing panics.
//!   [`Link::held_bytes`] and [`Link::borrowed_bytes`] say how much it is.
//! - Windows grow to what bandwidth and delay ask for, as far as the endpoint's memory is free, and shrink again. Each
//!   keeps its least size whatever other channels and links do. What has grown and is not used is asked back while less
//!   than half of that memory is left; who keeps it all the same is cut.
//! - A channel that is closed says first what waits on it, as far as the peer gives credit within
//!   [`LinkConfig::silent_after`], so that a farewell arrives before [`LinkEvent::ChannelDown`].
//! - A peer that sends and does not read makes no queue longer: answers are merged, or it is a fault.
//! - A link sends no more messages and controls in a second than its peer said it takes, and loses none of them for it.
//!   A peer that exceeds what it was told by more than the network can have gathered is at fault.
//! - Each byte that arrives shows that the peer lives, and each record has its time ([`LinkConfig::record_timeout`]).
//! - [`Door`] keeps nothing of a stranger who has not shown that it can be reached where it says it is. [`Shedding`] counts
//!   strangers by address in constant memory, and names none for what came from others.
//!
//! # Non-guarantees
//!
//! - That a message which left the queue arrived: a link that ends takes what was on its way with it.
//! - Any order between classes or channels.
//!
//! # Limits
//!
//! Messages up to the peer's announced `max_message`, at most [`LinkConfig::max_message`] inbound; control messages up
//! to [`MAX_CONTROL_MESSAGE`]; as many channels as either side allows. The sending queue is bounded by the host, which
//! hears of every byte that left it ([`LinkEvent::Room`]).

mod budget;
mod channels;
mod closing;
mod config;
mod door;
mod event;
mod handshake;
mod inbound;
mod keep_alive;
mod link;
mod outbound;
mod pace;
mod reason;
mod seldom;
mod setup;
mod shedding;
mod window;

pub use budget::{Budget, Memory};
pub use config::LinkConfig;
pub use door::{Door, DoorConfig, Knock, Turned};
pub use event::LinkEvent;
pub use link::Link;
pub use setup::{Capacity, LinkStats, Setup};
pub use shedding::{Shedding, SheddingConfig};

pub(crate) use peerage_wire::limits::FRAGMENT_COST;

/// The longest message of [`peerage_machine::Class::Control`], in bytes: it needs no credit, so it must be small.
pub const MAX_CONTROL_MESSAGE: u64 = 64 << 10;
