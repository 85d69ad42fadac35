//! What a link tells its host.

use std::time::Duration;

use bytes::Bytes;
use peerage_machine::{Class, Refusal, Why};
use peerage_wire::Address;
use peerage_wire::hello::Hello;

/// Something that the host must know, in order.
#[derive(Debug)]
#[non_exhaustive]
pub enum LinkEvent {
    /// The handshake is done and the peer is who it says. The host answers with [`crate::Link::admit`] or
    /// [`crate::Link::refuse`] before it feeds more bytes.
    Greeted(Box<Hello>),
    /// Both sides agreed.
    Up {
        /// The first estimate of the round-trip time.
        rtt: Option<Duration>,
        /// Where the peer sees this end of the connection, if it says so. It may lie.
        observed: Option<Address>,
    },
    /// An instance is open on both sides.
    ChannelUp {
        /// This side's number.
        channel: u32,
    },
    /// An instance of this side does not meet one of the peer's. It may yet, when the peer opens one.
    ChannelRefused {
        /// This side's number.
        channel: u32,
        /// By whom and why.
        refusal: Refusal,
    },
    /// An instance that was open is no more.
    ChannelDown {
        /// This side's number.
        channel: u32,
        /// The reason.
        why: Why,
    },
    /// A whole message. Taking this event returns its credit to the peer.
    Message {
        /// This side's number of the channel.
        channel: u32,
        /// The message, in memory of its own.
        message: Bytes,
    },
    /// So many bytes left a channel's queue. Not told of a channel that was closed here.
    Room {
        /// This side's number.
        channel: u32,
        /// Of which class.
        class: Class,
        /// How many.
        bytes: u64,
    },
    /// A new round-trip time, smoothed as in RFC 6298, section 2.
    Rtt(Duration),
    /// The peer has shown that it lives, as [`crate::Link::probe`] asked.
    Answered,
    /// The link is over. What [`crate::Link::transmit`] still gives is a goodbye to flush; nothing else follows.
    Closed(Why),
}
