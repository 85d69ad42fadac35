//! Streams that end here.

use bytes::Bytes;

use super::Talk;
use crate::event::{Event, Out, SendError, StreamKey};
use crate::flow::{Outflow, Streams};
use crate::lane::Until;
use crate::packet::{Item, Stream};
use crate::status::Status;

impl Talk {
    pub(super) fn streams_mut(&mut self, stream: StreamKey) -> Option<&mut Streams> {
        if stream.is_ours {
            self.ours.get_mut(stream.call)?.streams.as_deref_mut()
        } else {
            self.theirs.get_mut(stream.call)?.streams.as_deref_mut()
        }
    }

    pub(super) fn outflow(&mut self, stream: StreamKey) -> Option<&mut Outflow> {
        self.streams_mut(stream)?.outflow(stream.is_bulk)
    }

    /// Sends a message, or a piece of bulk data.
    pub(crate) fn send(&mut self, stream: StreamKey, message: Bytes) -> Result<(), SendError> {
        let is_idle = self.session.is_idle();
        let flow = self.outflow(stream).ok_or(SendError::Closed)?;
        if stream.is_bulk {
            flow.take(message.len(), 0)?;
            let item = Item::Items { stream: on_wire(stream), count: 1, items: message };
            self.session.push(true, &item, Until::Acknowledged);
            return Ok(());
        }
        let is_full = flow.gather(&message)?;
        if is_full || is_idle {
            self.flush(stream);
        } else {
            self.gathering.insert(stream);
        }
        Ok(())
    }

    /// The last of a stream that is sent here.
    pub(crate) fn finish(&mut self, stream: StreamKey, mut status: Option<Box<Status>>) {
        self.flush(stream);
        status.iter_mut().for_each(|status| status.fit(&self.limits));
        let Some(flow) = self.outflow(stream) else { return };
        if !flow.close() {
            return;
        }
        let end = Item::End { stream: on_wire(stream), status };
        self.session.push(stream.is_bulk, &end, Until::Acknowledged);
        if !stream.is_ours
            && stream.is_bulk
            && self.theirs.get(stream.call).is_some_and(|call| call.is_replied)
        {
            self.forget_theirs(stream.call);
        }
    }

    /// Lets the other end send so much more.
    pub(crate) fn grant(&mut self, stream: StreamKey, messages: u32, bytes: u64) {
        let Some(flow) = self.streams_mut(stream).and_then(|streams| streams.inflow(stream.is_bulk)) else {
            return;
        };
        let (messages, bytes) = flow.grant(messages, bytes);
        if (messages, bytes) == (0, 0) {
            return;
        }
        let credit = Item::Credit { stream: on_wire(stream), bulk: stream.is_bulk, messages, bytes };
        self.session.push(false, &credit, Until::Acknowledged);
    }

    /// Sends what has gathered on a stream.
    pub(super) fn flush(&mut self, stream: StreamKey) {
        self.gathering.remove(&stream);
        let Some((count, items)) = self.outflow(stream).and_then(Outflow::flush) else { return };
        self.session.push(false, &Item::Items { stream: on_wire(stream), count, items }, Until::Acknowledged);
    }

    /// Whether something waits for the link to have room, or nothing to send.
    pub(crate) fn waits_for_room(&self) -> bool {
        self.session.has_unsent() || !self.gathering.is_empty()
    }

    /// Sends what waits, and what has gathered when nothing else does.
    pub(crate) fn pump(&mut self, out: &mut Out) {
        self.tell_stopped(out);
        self.session.pump(out);
        while !self.gathering.is_empty() && self.session.is_idle() {
            for stream in std::mem::take(&mut self.gathering) {
                self.flush(stream);
            }
            self.session.pump(out);
        }
        self.rest();
    }

    /// Gives room back, when nothing is under way.
    pub(super) fn rest(&mut self) {
        if self.session.rest() {
            self.ours.rest();
            self.theirs.rest();
        }
    }

    /// Tells whoever waits to send what nobody takes any more.
    pub(crate) fn tell_stopped(&mut self, out: &mut Out) {
        self.stopped.drain(..).for_each(|stream| out.emit(Event::Room(stream)));
    }
}

/// A stream as it is named on the wire, by who sends data or credit for it.
fn on_wire(stream: StreamKey) -> Stream {
    // The receiver is the caller when the call is not ours.
    Stream { call: stream.call, to_caller: !stream.is_ours }
}
