//! Credit of the streams of one call.

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::event::SendError;
use crate::packet::{Limits, Shape};

/// Messages gather up to so many bytes before they leave in one packet.
pub(crate) const GATHER: usize = 16 << 10;

/// The longest prefix of a message's length.
const PREFIX: i64 = 10;

/// The most bytes of messages that one packet of a stream holds: what has gathered, and one message.
pub(crate) fn longest_items(limits: &Limits) -> usize {
    usize::try_from(limits.message_bytes).unwrap_or(usize::MAX).saturating_add(GATHER + PREFIX as usize)
}

/// What may be sent on a stream: so many messages, and bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Credit {
    messages: i64,
    bytes: i64,
}

impl Credit {
    /// As much as a stream begins with, and may ever have.
    fn first(limits: &Limits) -> Self {
        let bytes = i64::try_from(limits.stream_bytes).unwrap_or(i64::MAX);
        Self { messages: i64::from(limits.stream_messages), bytes }
    }

    /// Adds to it, and gives what was added: never more than there was first.
    fn add(&mut self, messages: u32, bytes: u64, first: Self) -> (u32, u64) {
        let room = (first.messages.saturating_sub(self.messages), first.bytes.saturating_sub(self.bytes));
        let messages = i64::from(messages).min(room.0.max(0));
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX).min(room.1.max(0));
        self.messages += messages;
        self.bytes += bytes;
        (u32::try_from(messages).unwrap_or(0), u64::try_from(bytes).unwrap_or(0))
    }

    fn is_there(self) -> bool {
        self.messages > 0 && self.bytes > 0
    }
}

/// A stream that comes in: what its sender may still send.
#[derive(Clone, Debug)]
pub(crate) struct Inflow {
    credit: Credit,
    first: Credit,
    longest: i64,
    is_open: bool,
}

impl Inflow {
    fn new(limits: &Limits) -> Self {
        let first = Credit::first(limits);
        let longest = i64::try_from(limits.message_bytes).unwrap_or(i64::MAX);
        Self { credit: first, first, longest: longest.saturating_add(PREFIX), is_open: true }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.is_open
    }

    /// So many messages have come. While there is credit of both kinds, a packet may go below zero in bytes by what
    /// its last message is longer.
    pub(crate) fn receive(&mut self, count: u32, bytes: usize) -> Result<(), ()> {
        let left = self.credit.bytes.saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
        let is_over = left <= -self.longest || self.credit.bytes <= 0;
        if self.credit.messages < i64::from(count) || is_over {
            return Err(());
        }
        self.credit.messages -= i64::from(count);
        self.credit.bytes = left;
        Ok(())
    }

    /// Lets so much more come; gives how much that is, for a stream never has more credit than it had first.
    pub(crate) fn grant(&mut self, messages: u32, bytes: u64) -> (u32, u64) {
        if !self.is_open {
            return (0, 0);
        }
        self.credit.add(messages, bytes, self.first)
    }

    /// Whether it was open.
    pub(crate) fn close(&mut self) -> bool {
        std::mem::take(&mut self.is_open)
    }
}

/// A stream that goes out from here.
#[derive(Clone, Debug)]
pub(crate) struct Outflow {
    credit: Credit,
    first: Credit,
    longest: u64,
    is_open: bool,
    gathered: BytesMut,
    count: u32,
    /// Somebody was told that there is no credit.
    wants_room: bool,
}

impl Outflow {
    fn new(limits: &Limits) -> Self {
        let first = Credit::first(limits);
        Self {
            credit: first,
            first,
            longest: limits.message_bytes,
            is_open: true,
            gathered: BytesMut::new(),
            count: 0,
            wants_room: false,
        }
    }

    /// Uses credit for one message of `len` bytes, and those of its prefix.
    pub(crate) fn take(&mut self, len: usize, prefix: usize) -> Result<(), SendError> {
        if !self.is_open {
            return Err(SendError::Closed);
        }
        if len as u64 > self.longest {
            return Err(SendError::TooLong { bytes: len as u64, limit: self.longest });
        }
        if !self.credit.is_there() {
            self.wants_room = true;
            return Err(SendError::Full);
        }
        self.credit.messages -= 1;
        self.credit.bytes = self.credit.bytes.saturating_sub(i64::try_from(len + prefix).unwrap_or(i64::MAX));
        Ok(())
    }

    /// Puts a message with those that wait; whether they are enough for a packet.
    pub(crate) fn gather(&mut self, message: &Bytes) -> Result<bool, SendError> {
        let prefix = prost::length_delimiter_len(message.len());
        self.take(message.len(), prefix)?;
        if self.gathered.capacity() == 0 {
            self.gathered.reserve(prefix + message.len());
        }
        let mut len = message.len();
        while len >= 0x80 {
            self.gathered.put_u8((len & 0x7f) as u8 | 0x80);
            len >>= 7;
        }
        self.gathered.put_u8((len & 0x7f) as u8);
        self.gathered.extend_from_slice(message);
        self.count += 1;
        Ok(self.gathered.len() >= GATHER)
    }

    /// What has gathered.
    pub(crate) fn flush(&mut self) -> Option<(u32, Bytes)> {
        if self.count == 0 {
            return None;
        }
        let count = std::mem::take(&mut self.count);
        Some((count, std::mem::take(&mut self.gathered).freeze()))
    }

    /// The receiver lets so much more come; whether somebody waits for it.
    pub(crate) fn credit(&mut self, messages: u32, bytes: u64) -> bool {
        self.credit.add(messages, bytes, self.first);
        self.credit.is_there() && std::mem::take(&mut self.wants_room)
    }

    /// Whether it was open.
    pub(crate) fn close(&mut self) -> bool {
        std::mem::take(&mut self.is_open)
    }

    /// Nobody takes more of it; whether somebody waits to send.
    fn stop(&mut self) -> bool {
        self.is_open = false;
        (self.count, self.gathered) = (0, BytesMut::new());
        std::mem::take(&mut self.wants_room)
    }
}

/// What flows besides a call's parameters and reply.
#[derive(Clone, Debug, Default)]
pub(crate) struct Streams {
    data_in: Option<Inflow>,
    bulk_in: Option<Inflow>,
    data_out: Option<Outflow>,
    bulk_out: Option<Outflow>,
    /// Bulk data goes out from somewhere else, and has not ended.
    relays_bulk: bool,
}

impl Streams {
    /// Of a call that is made by this end: here, when `is_local`, or passed on.
    pub(crate) fn of_caller(shape: Shape, limits: &Limits, is_local: bool) -> Option<Box<Self>> {
        shape.has_streams().then(|| {
            let inflow = |flag| shape.has(flag).then(|| Inflow::new(limits));
            let outflow = |flag| (is_local && shape.has(flag)).then(|| Outflow::new(limits));
            Box::new(Self {
                data_in: inflow(Shape::STREAM_DOWN),
                bulk_in: inflow(Shape::BULK_DOWN),
                data_out: outflow(Shape::STREAM_UP),
                bulk_out: outflow(Shape::BULK_UP),
                relays_bulk: false,
            })
        })
    }

    /// Of a call that the other end makes.
    pub(crate) fn of_callee(shape: Shape, limits: &Limits) -> Option<Box<Self>> {
        shape.has_streams().then(|| {
            let inflow = |flag| shape.has(flag).then(|| Inflow::new(limits));
            let outflow = |flag| shape.has(flag).then(|| Outflow::new(limits));
            Box::new(Self {
                data_in: inflow(Shape::STREAM_UP),
                bulk_in: inflow(Shape::BULK_UP),
                data_out: outflow(Shape::STREAM_DOWN),
                bulk_out: outflow(Shape::BULK_DOWN),
                relays_bulk: false,
            })
        })
    }

    /// The call is passed on: nothing goes out from here.
    pub(crate) fn relay(&mut self) {
        self.relays_bulk = self.bulk_out.is_some();
        (self.data_out, self.bulk_out) = (None, None);
    }

    /// The last of the bulk data that comes from somewhere else has gone out.
    pub(crate) fn bulk_passed(&mut self) {
        self.relays_bulk = false;
    }

    pub(crate) fn inflow(&mut self, bulk: bool) -> Option<&mut Inflow> {
        if bulk { self.bulk_in.as_mut() } else { self.data_in.as_mut() }
    }

    pub(crate) fn outflow(&mut self, bulk: bool) -> Option<&mut Outflow> {
        if bulk { self.bulk_out.as_mut() } else { self.data_out.as_mut() }
    }

    /// Bytes that have gathered.
    pub(crate) fn gathered(&self, bulk: bool) -> usize {
        let flow = if bulk { &self.bulk_out } else { &self.data_out };
        flow.as_ref().map_or(0, |flow| flow.gathered.len())
    }

    /// Whether bulk data is still coming in.
    pub(crate) fn has_bulk_in(&self) -> bool {
        self.bulk_in.as_ref().is_some_and(|flow| flow.is_open)
    }

    /// Whether bulk data is still going out from here.
    pub(crate) fn has_bulk_out(&self) -> bool {
        self.relays_bulk || self.bulk_out.as_ref().is_some_and(|flow| flow.is_open)
    }

    /// Nobody takes what is sent any more. Gives which flows somebody waits to send on: of bulk data or not.
    pub(crate) fn stop_out(&mut self) -> Vec<bool> {
        let mut blocked = Vec::new();
        if self.data_out.as_mut().is_some_and(Outflow::stop) {
            blocked.push(false);
        }
        if self.bulk_out.as_mut().is_some_and(Outflow::stop) {
            blocked.push(true);
        }
        blocked
    }
}
