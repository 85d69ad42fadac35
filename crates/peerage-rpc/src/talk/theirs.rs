//! Calls of the other end.

use std::time::Duration;

use bytes::Bytes;
use peerage_machine::Instant;

use super::hear::size_of;
use super::{Again, InCall, InOwner, NoRoom, Talk, UnderWay};
use crate::event::{Event, Out, SessionKey, StreamKey};
use crate::flow::Streams;
use crate::lane::Until;
use crate::packet::{Call, Item, Limits, Shape, Stream};
use crate::status::Status;

impl Talk {
    /// A call of the other end has come, and there is room for it.
    pub(crate) fn admit(&mut self, now: Instant, seq: u64, call: &Call) -> Result<(), NoRoom> {
        let (bytes, shape) = (call.payload.len(), call.shape);
        let room = self.their_way.check(bytes, shape.has_streams(), &self.limits);
        self.their_way.add(bytes, shape.has_streams());
        if shape.has(Shape::ONE_WAY) {
            self.their_one_ways.insert(seq, bytes);
            return room;
        }
        let until = (call.timeout_micros > 0).then(|| now + Duration::from_micros(call.timeout_micros));
        if let Some(until) = until {
            self.deadlines.insert((until, false, seq));
        }
        let streams = Streams::of_callee(shape, &self.limits);
        let owner = InOwner::Local;
        let call = InCall {
            owner,
            shape,
            bytes,
            streams,
            until,
            caller: call.caller,
            is_replied: false,
            is_cancelled: false,
            again: None,
            waits: true,
            held: Vec::new(),
        };
        self.theirs.insert(seq, call);
        room
    }

    /// Answers a call of the other end, if it waits; gives the answer's number. A one-way call is answered only when it was
    /// not run.
    pub(crate) fn reply(
        &mut self,
        now: Instant,
        seq: u64,
        result: Result<Bytes, Box<Status>>,
    ) -> Option<u64> {
        if let Some(bytes) = self.their_one_ways.remove(&seq) {
            self.their_way.remove(bytes, false);
            let reply = Item::Reply { to: seq, result: fitting(result, &self.limits) };
            let is_failed = matches!(reply, Item::Reply { result: Err(_), .. });
            if !is_failed {
                self.session.finished(now, seq);
                return None;
            }
            let answer = self.session.push(false, &reply, Until::Acknowledged);
            self.failing.insert(answer, seq);
            return Some(answer);
        }
        let result = fitting(result, &self.limits);
        let call = self.theirs.get_mut(seq).filter(|call| !call.is_replied)?;
        call.is_replied = true;
        call.again = None;
        let is_error = result.is_err();
        if let Some(until) = call.until.take() {
            self.deadlines.remove(&(until, false, seq));
        }
        let has_bulk_left = !is_error && call.streams.as_ref().is_some_and(|streams| streams.has_bulk_out());
        self.flush(StreamKey { session: self.key, call: seq, is_ours: false, is_bulk: false });
        let answer = self.session.push(false, &Item::Reply { to: seq, result }, Until::Acknowledged);
        if !has_bulk_left {
            self.forget_theirs(seq);
        }
        Some(answer)
    }

    /// Ends a relayed call of the other end without a word of this one: the reply has been passed on.
    pub(super) fn forget_theirs(&mut self, seq: u64) {
        let Some(mut call) = self.theirs.remove(seq) else { return };
        self.their_way.remove(call.bytes, call.streams.is_some());
        self.waiting_bytes -= sizes_of(&call.held);
        if let Some(until) = call.until {
            self.deadlines.remove(&(until, false, seq));
        }
        if let Some(streams) = &mut call.streams {
            let key = |is_bulk| StreamKey { session: self.key, call: seq, is_ours: false, is_bulk };
            self.stopped.extend(streams.stop_out().into_iter().map(key));
            self.forget_gathering(seq, false);
        }
    }

    /// Nobody takes the bulk data that still goes out after the reply; its end is said all the same.
    pub(super) fn break_off(&mut self, seq: u64) {
        let status = Some(Box::new(Status::cancelled("the caller does not want it any more")));
        let stream = Stream { call: seq, to_caller: true };
        self.session.push(true, &Item::End { stream, status }, Until::Acknowledged);
        self.forget_theirs(seq);
    }

    /// The call goes on to that session; and again to another one when that ends, if it may be run again.
    /// Gives what has come of its streams before, to be passed on as well.
    #[must_use]
    pub(crate) fn relayed(
        &mut self,
        seq: u64,
        to: SessionKey,
        on: u64,
        again: Option<Box<Again>>,
    ) -> Vec<(bool, Item)> {
        let Some(call) = self.theirs.get_mut(seq) else { return Vec::new() };
        call.owner = InOwner::Relayed { to, seq: on };
        call.again = again;
        call.waits = false;
        if let Some(streams) = &mut call.streams {
            streams.relay();
        }
        if let Some(until) = call.until.take() {
            self.deadlines.remove(&(until, false, seq));
        }
        let mut held = std::mem::take(&mut call.held);
        self.waiting_bytes -= sizes_of(&held);
        for (_, item) in &mut held {
            if let Item::Items { stream, .. } | Item::End { stream, .. } = item {
                stream.call = on;
            }
        }
        held
    }

    /// The application has been told to run the call; now it hears what has come of its streams before.
    pub(crate) fn started(&mut self, seq: u64, out: &mut Out) {
        let Some(call) = self.theirs.get_mut(seq) else { return };
        call.waits = false;
        let held = std::mem::take(&mut call.held);
        self.waiting_bytes -= sizes_of(&held);
        for (is_bulk, item) in held {
            let stream = StreamKey { session: self.key, call: seq, is_ours: false, is_bulk };
            match item {
                Item::Items { count, items, .. } => out.emit(Event::Data { stream, count, items }),
                Item::End { status, .. } => out.emit(Event::StreamEnded { stream, status }),
                _ => {}
            }
        }
    }

    /// A call that may be passed on once more, now that its node is gone.
    pub(crate) fn take_again(&mut self, seq: u64) -> Option<Box<Again>> {
        let call = self.theirs.get_mut(seq).filter(|call| !call.is_cancelled)?;
        call.again.take()
    }

    /// A call that may be passed on once more has nobody to go to, and waits.
    pub(crate) fn waits_again(&mut self, seq: u64, again: Box<Again>) {
        let Some(call) = self.theirs.get_mut(seq) else { return };
        call.owner = InOwner::Waiting;
        call.waits = true;
        let timeout = again.call.timeout_micros;
        call.until = (timeout > 0).then(|| again.since + Duration::from_micros(timeout));
        if let Some(until) = call.until {
            self.deadlines.insert((until, false, seq));
        }
        call.again = Some(again);
    }

    /// Whether the other end still waits for that call.
    pub(crate) fn is_wanted(&self, seq: u64) -> bool {
        self.theirs.get(seq).is_some_and(|call| !call.is_replied) || self.their_one_ways.contains_key(&seq)
    }

    /// All calls of the other end that are not over, which nobody waits for any more.
    pub(crate) fn give_up_theirs(&mut self) -> Vec<(u64, InOwner)> {
        let given_up: Vec<_> = self.theirs.iter().map(|(seq, call)| (seq, call.owner)).collect();
        given_up.iter().for_each(|(seq, _)| self.forget_theirs(*seq));
        self.their_one_ways.clear();
        self.failing.clear();
        // Those after them would never count as done.
        self.session.finish_all();
        self.their_way = UnderWay::default();
        self.early.clear();
        self.early_bytes = 0;
        given_up
    }
}

/// What of streams waits with a call, in bytes.
fn sizes_of(held: &[(bool, Item)]) -> u64 {
    held.iter().map(|(_, item)| size_of(item)).sum()
}

/// A reply as it may be sent: one that is too long is none, and whoever waits hears so.
pub(crate) fn fitting(result: Result<Bytes, Box<Status>>, limits: &Limits) -> Result<Bytes, Box<Status>> {
    match result {
        Ok(payload) if payload.len() as u64 > limits.message_bytes => {
            let (bytes, limit) = (payload.len(), limits.message_bytes);
            let status =
                Status::resource_exhausted(format!("the reply has {bytes} bytes, the limit is {limit}"));
            Err(Box::new(status.may_have_run()))
        }
        Ok(payload) => Ok(payload),
        Err(mut status) => {
            status.fit(limits);
            Err(status)
        }
    }
}
