//! The calls of one session, in both directions, with their streams.
//!
//! Both ends use this: a party has one, the broker one for each session. A call ends here ([`InOwner::Local`],
//! [`OutOwner::Local`]) or goes on to another session, whose talk has its other half; what then flows past is only held
//! against the credit that its receiver gave.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use peerage_machine::{CallId, Instant};

use crate::event::{Event, Out, RunKey, SendError, SessionKey, StreamKey};
use crate::flow::{Inflow, Outflow, Streams};
use crate::lane::Until;
use crate::packet::{Call, Item, Limits, Shape, Stream};
use crate::session::Session;
use crate::status::Status;

/// Where a call that came goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InOwner {
    /// It is run here.
    Local,
    /// It is passed on by this session, under this number.
    Relayed { to: SessionKey, seq: u64 },
}

/// Where a call that was made comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutOwner {
    /// The application; whoever waits, waits for this.
    Local(CallId),
    /// Nobody waits any more.
    Abandoned,
    /// It came by this session, under this number.
    Relayed { from: SessionKey, seq: u64 },
}

#[derive(Clone, Debug)]
struct InCall {
    owner: InOwner,
    shape: Shape,
    /// Bytes of parameters.
    bytes: usize,
    streams: Option<Box<Streams>>,
    until: Option<Instant>,
    /// The reply was sent; bulk data is still going out.
    is_replied: bool,
}

#[derive(Clone, Debug)]
struct OutCall {
    owner: OutOwner,
    bytes: usize,
    streams: Option<Box<Streams>>,
    until: Option<Instant>,
    /// The reply has come; bulk data is still coming in.
    is_replied: bool,
}

/// What an item that has arrived means to the owner of the talk.
#[derive(Debug)]
pub(crate) enum Heard {
    /// Nothing more.
    Nothing,
    /// A call to be run or passed on.
    Call(u64, Call),
    /// A call that was sent before: new to a broker that restarted since, and otherwise nothing.
    CallAgain(u64, Call),
    /// A reply to a call of another session.
    Reply { from: SessionKey, seq: u64, result: Result<Bytes, Box<Status>> },
    /// Something of a stream of a call that goes on to another session.
    Pass { to: SessionKey, item: Item },
    /// It is about the session, not a call.
    Other(Item),
    /// A call that ran here is not wanted any more.
    Cancelled(u64),
}

/// A call of this end that comes to nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GivenUp {
    pub(crate) seq: u64,
    pub(crate) owner: OutOwner,
    /// Its reply has come; bulk data was still on its way.
    pub(crate) is_replied: bool,
    /// Whether the other end may have had it.
    pub(crate) may_have_run: bool,
}

/// Why a call cannot be made now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoRoom {
    /// So many calls are under way.
    Calls(u32),
    /// So many bytes of parameters are under way.
    Bytes(u64),
    /// So many calls with streams are under way.
    Streams(u32),
}

impl From<NoRoom> for Status {
    fn from(no_room: NoRoom) -> Self {
        Self::resource_exhausted(match no_room {
            NoRoom::Calls(limit) => format!("{limit} calls are under way, which is the limit"),
            NoRoom::Bytes(limit) => format!("calls of {limit} bytes are under way, which is the limit"),
            NoRoom::Streams(limit) => format!("{limit} calls with streams are under way, which is the limit"),
        })
    }
}

/// Calls, one-way calls and bytes that are under way in one direction.
#[derive(Clone, Copy, Debug, Default)]
struct UnderWay {
    calls: u32,
    bytes: u64,
    streams: u32,
}

impl UnderWay {
    fn check(self, bytes: usize, shape: Shape, limits: &Limits) -> Result<(), NoRoom> {
        if self.calls >= limits.calls {
            return Err(NoRoom::Calls(limits.calls));
        }
        if self.bytes > 0 && self.bytes + bytes as u64 > limits.call_bytes {
            return Err(NoRoom::Bytes(limits.call_bytes));
        }
        if shape.has_streams() && self.streams >= limits.streams {
            return Err(NoRoom::Streams(limits.streams));
        }
        Ok(())
    }

    fn add(&mut self, bytes: usize, has_streams: bool) {
        self.calls += 1;
        self.bytes += bytes as u64;
        self.streams += u32::from(has_streams);
    }

    fn remove(&mut self, bytes: usize, has_streams: bool) {
        self.calls = self.calls.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes as u64);
        self.streams = self.streams.saturating_sub(u32::from(has_streams));
    }
}

/// A session with its calls.
#[derive(Clone, Debug)]
pub(crate) struct Talk {
    pub(crate) key: SessionKey,
    pub(crate) session: Session,
    pub(crate) limits: Limits,
    /// Calls of the other end.
    theirs: BTreeMap<u64, InCall>,
    their_way: UnderWay,
    /// One-way calls of the other end that are not done, with their bytes.
    their_one_ways: BTreeMap<u64, usize>,
    /// Calls of this end.
    ours: BTreeMap<u64, OutCall>,
    our_way: UnderWay,
    /// One-way calls of this end that are not done, with their bytes.
    our_one_ways: BTreeMap<u64, (usize, OutOwner)>,
    /// Somebody was told that there is no room for a call.
    wants_slots: bool,
    /// Streams with messages that wait for company.
    gathering: BTreeSet<StreamKey>,
    /// When calls end; ours first.
    deadlines: BTreeSet<(Instant, bool, u64)>,
}

impl Talk {
    pub(crate) fn new(key: SessionKey, session: Session, limits: Limits) -> Self {
        Self {
            key,
            session,
            limits,
            theirs: BTreeMap::new(),
            their_way: UnderWay::default(),
            their_one_ways: BTreeMap::new(),
            ours: BTreeMap::new(),
            our_way: UnderWay::default(),
            our_one_ways: BTreeMap::new(),
            wants_slots: false,
            gathering: BTreeSet::new(),
            deadlines: BTreeSet::new(),
        }
    }

    // --- calls of this end ---

    /// Makes a call; gives its number.
    pub(crate) fn call(&mut self, now: Instant, call: Call, owner: OutOwner) -> Result<u64, NoRoom> {
        let (bytes, shape) = (call.payload.len(), call.shape);
        if let Err(no_room) = self.our_way.check(bytes, shape, &self.limits) {
            self.wants_slots = true;
            return Err(no_room);
        }
        let timeout = call.timeout_micros;
        self.our_way.add(bytes, shape.has_streams());
        if shape.has(Shape::ONE_WAY) {
            let seq = self.session.push(false, &Item::Call(call), Until::Acknowledged);
            self.our_one_ways.insert(seq, (bytes, owner));
            return Ok(seq);
        }
        let seq = self.session.push(false, &Item::Call(call), Until::Answered);
        // Whoever passes a call on leaves its time to its ends.
        let until = (timeout > 0 && matches!(owner, OutOwner::Local(_)))
            .then(|| now + Duration::from_micros(timeout));
        if let Some(until) = until {
            self.deadlines.insert((until, true, seq));
        }
        let streams = Streams::of_caller(shape, &self.limits, matches!(owner, OutOwner::Local(_)));
        self.ours.insert(seq, OutCall { owner, bytes, streams, until, is_replied: false });
        Ok(seq)
    }

    /// Nobody here waits for a call of this end any more.
    pub(crate) fn cancel(&mut self, seq: u64) {
        let Some(call) = self.ours.get_mut(&seq) else { return };
        if matches!(call.owner, OutOwner::Abandoned) {
            return;
        }
        call.owner = OutOwner::Abandoned;
        if let Some(until) = call.until.take() {
            self.deadlines.remove(&(until, true, seq));
        }
        if call.is_replied {
            // Only bulk data was still wanted.
            self.forget_ours(seq);
            return;
        }
        self.session.push(false, &Item::Cancel { call: seq }, Until::Acknowledged);
    }

    fn forget_ours(&mut self, seq: u64) -> Option<OutCall> {
        let call = self.ours.remove(&seq)?;
        self.our_way.remove(call.bytes, call.streams.is_some());
        if let Some(until) = call.until {
            self.deadlines.remove(&(until, true, seq));
        }
        if call.streams.is_some() {
            self.forget_gathering(seq, true);
        }
        Some(call)
    }

    fn forget_gathering(&mut self, call: u64, is_ours: bool) {
        for is_bulk in [false, true] {
            self.gathering.remove(&StreamKey { session: self.key, call, is_ours, is_bulk });
        }
    }

    /// All calls of this end that are not over, which never will be.
    pub(crate) fn give_up_ours(&mut self) -> Vec<GivenUp> {
        let one_ways = std::mem::take(&mut self.our_one_ways).into_iter();
        let one_ways = one_ways.map(|(seq, (_, owner))| (seq, owner, false));
        let calls = std::mem::take(&mut self.ours).into_iter();
        let mut given_up: Vec<_> = calls
            .map(|(seq, call)| (seq, call.owner, call.is_replied))
            .chain(one_ways)
            .map(|(seq, owner, is_replied)| {
                let may_have_run = self.session.was_handed(seq);
                GivenUp { seq, owner, is_replied, may_have_run }
            })
            .collect();
        given_up.sort_unstable_by_key(|call| call.seq);
        self.our_way = UnderWay::default();
        self.gathering.retain(|stream| !stream.is_ours);
        self.deadlines.retain(|(_, is_ours, _)| !is_ours);
        given_up
    }

    /// Calls of this end with streams, which do not survive a restart of the other.
    pub(crate) fn give_up_streams(&mut self) -> Vec<GivenUp> {
        let with_streams = self.ours.iter().filter(|(_, call)| call.streams.is_some());
        let seqs: Vec<_> = with_streams.map(|(seq, _)| *seq).collect();
        let mut given_up = Vec::new();
        for seq in seqs {
            let may_have_run = self.session.was_handed(seq);
            self.session.answered(seq);
            if let Some(OutCall { owner, is_replied, .. }) = self.forget_ours(seq) {
                given_up.push(GivenUp { seq, owner, is_replied, may_have_run });
            }
        }
        given_up
    }

    /// All calls of the other end that are not answered, which nobody waits for any more.
    pub(crate) fn give_up_theirs(&mut self) -> Vec<(u64, InOwner)> {
        let theirs = std::mem::take(&mut self.theirs);
        self.their_one_ways.clear();
        self.their_way = UnderWay::default();
        self.gathering.retain(|stream| stream.is_ours);
        self.deadlines.retain(|(_, is_ours, _)| *is_ours);
        theirs.into_iter().filter(|(_, call)| !call.is_replied).map(|(seq, call)| (seq, call.owner)).collect()
    }

    // --- calls of the other end ---

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
            let reply = Item::Reply { to: seq, result };
            let failed = matches!(reply, Item::Reply { result: Err(_), .. });
            let answer = failed.then(|| self.session.push(false, &reply, Until::Acknowledged));
            self.session.finished(now, seq);
            return answer;
        }
        let Some(call) = self.theirs.get_mut(&seq).filter(|call| !call.is_replied) else { return None };
        call.is_replied = true;
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
    fn forget_theirs(&mut self, seq: u64) {
        let Some(call) = self.theirs.remove(&seq) else { return };
        self.their_way.remove(call.bytes, call.streams.is_some());
        if let Some(until) = call.until {
            self.deadlines.remove(&(until, false, seq));
        }
        if call.streams.is_some() {
            self.forget_gathering(seq, false);
        }
    }

    /// The call goes on to that session.
    pub(crate) fn relayed(&mut self, seq: u64, to: SessionKey, on: u64) {
        if let Some(call) = self.theirs.get_mut(&seq) {
            call.owner = InOwner::Relayed { to, seq: on };
            if let Some(streams) = &mut call.streams {
                streams.relay();
            }
            if let Some(until) = call.until.take() {
                self.deadlines.remove(&(until, false, seq));
            }
        }
    }

    /// Whether the other end still waits for that call.
    pub(crate) fn is_wanted(&self, seq: u64) -> bool {
        self.theirs.get(&seq).is_some_and(|call| !call.is_replied) || self.their_one_ways.contains_key(&seq)
    }

    // --- streams that end here ---

    fn streams_mut(&mut self, stream: StreamKey) -> Option<&mut Streams> {
        if stream.is_ours {
            self.ours.get_mut(&stream.call)?.streams.as_deref_mut()
        } else {
            self.theirs.get_mut(&stream.call)?.streams.as_deref_mut()
        }
    }

    fn outflow(&mut self, stream: StreamKey) -> Option<&mut Outflow> {
        self.streams_mut(stream)?.outflow(stream.is_bulk)
    }

    /// Sends a message, or a piece of bulk data.
    pub(crate) fn send(&mut self, stream: StreamKey, message: Bytes) -> Result<(), SendError> {
        let is_idle = self.session.is_idle();
        let flow = self.outflow(stream).ok_or(SendError::Closed)?;
        if stream.is_bulk {
            flow.take(message.len())?;
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
    pub(crate) fn finish(&mut self, stream: StreamKey, status: Option<Box<Status>>) {
        self.flush(stream);
        let Some(flow) = self.outflow(stream) else { return };
        if !flow.close() {
            return;
        }
        let end = Item::End { stream: on_wire(stream), status };
        self.session.push(stream.is_bulk, &end, Until::Acknowledged);
        if !stream.is_ours
            && stream.is_bulk
            && self.theirs.get(&stream.call).is_some_and(|call| call.is_replied)
        {
            self.forget_theirs(stream.call);
        }
    }

    /// Lets the other end send so much more.
    pub(crate) fn grant(&mut self, stream: StreamKey, messages: u32, bytes: u64) {
        let Some(flow) = self.streams_mut(stream).and_then(|streams| streams.inflow(stream.is_bulk)) else {
            return;
        };
        flow.grant(messages, bytes);
        let credit = Item::Credit { stream: on_wire(stream), bulk: stream.is_bulk, messages, bytes };
        self.session.push(false, &credit, Until::Acknowledged);
    }

    /// Sends what has gathered on a stream.
    fn flush(&mut self, stream: StreamKey) {
        self.gathering.remove(&stream);
        let Some((count, items)) = self.outflow(stream).and_then(Outflow::flush) else { return };
        self.session.push(false, &Item::Items { stream: on_wire(stream), count, items }, Until::Acknowledged);
    }

    /// Sends what waits, and what has gathered when nothing else does.
    pub(crate) fn pump(&mut self, out: &mut Out) {
        self.session.pump(out);
        while !self.gathering.is_empty() && self.session.is_idle() {
            for stream in std::mem::take(&mut self.gathering) {
                self.flush(stream);
            }
            self.session.pump(out);
        }
    }

    // --- what comes ---

    /// Something of the other end's has arrived; what it means to whoever owns this.
    pub(crate) fn on_item(
        &mut self,
        now: Instant,
        (seq, bulk): (u64, bool),
        item: Item,
        size: usize,
        out: &mut Out,
    ) -> Result<Heard, String> {
        let is_one_way = matches!(&item, Item::Call(call) if call.shape.has(Shape::ONE_WAY));
        let is_new =
            self.session.arrives(now, seq, bulk, size, !is_one_way).map_err(|fault| fault.to_string())?;
        if !is_new {
            return Ok(match item {
                Item::Call(call) if !is_one_way => Heard::CallAgain(seq, call),
                _ => Heard::Nothing,
            });
        }
        match item {
            Item::Call(call) => Ok(Heard::Call(seq, call)),
            Item::Reply { to, result } => self.on_reply(to, result, out),
            Item::Items { stream, count, items } => self.on_items(stream, bulk, count, items, out),
            Item::End { stream, status } => self.on_end(stream, bulk, status, out),
            Item::Credit { stream, bulk, messages, bytes } => {
                self.on_credit(stream, bulk, (messages, bytes), out)
            }
            Item::Cancel { call } => Ok(self.on_cancel(call, out)),
            other => Ok(Heard::Other(other)),
        }
    }

    /// A call of the other end has come, and there is room for it.
    pub(crate) fn admit(&mut self, now: Instant, seq: u64, call: &Call) -> Result<(), NoRoom> {
        let (bytes, shape) = (call.payload.len(), call.shape);
        let room = self.their_way.check(bytes, shape, &self.limits);
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
        self.theirs.insert(seq, InCall { owner, shape, bytes, streams, until, is_replied: false });
        room
    }

    fn on_reply(
        &mut self,
        to: u64,
        result: Result<Bytes, Box<Status>>,
        out: &mut Out,
    ) -> Result<Heard, String> {
        if !self.session.was_handed(to) {
            return Err(format!("a reply to call {to}, which was never made"));
        }
        if let Some((bytes, owner)) = self.our_one_ways.remove(&to) {
            self.our_way.remove(bytes, false);
            self.tell_slots(out);
            return Ok(match (owner, result) {
                (OutOwner::Relayed { from, seq }, result) => Heard::Reply { from, seq, result },
                (_, Err(status)) => {
                    out.emit(Event::OneWayFailed { session: self.key, seq: to, status });
                    Heard::Nothing
                }
                (_, Ok(_)) => Heard::Nothing,
            });
        }
        let Some(call) = self.ours.get_mut(&to).filter(|call| !call.is_replied) else {
            out.count("rpc_stray_replies_total", 1);
            return Ok(Heard::Nothing);
        };
        call.is_replied = true;
        let owner = call.owner;
        let is_over = result.is_err() || call.streams.as_mut().is_none_or(|streams| !streams.has_bulk_in());
        self.session.answered(to);
        // Whoever still sends on it is told that nobody takes it.
        let blocked: Vec<_> = call.streams.iter_mut().flat_map(|streams| streams.stop_out()).collect();
        for is_bulk in blocked {
            out.emit(Event::Room(StreamKey { session: self.key, call: to, is_ours: true, is_bulk }));
        }
        if is_over {
            self.forget_ours(to);
            self.tell_slots(out);
        }
        Ok(match owner {
            OutOwner::Local(call) => {
                out.answer(call, result.map_err(|status| *status));
                Heard::Nothing
            }
            OutOwner::Abandoned => Heard::Nothing,
            OutOwner::Relayed { from, seq } => Heard::Reply { from, seq, result },
        })
    }

    pub(crate) fn tell_slots(&mut self, out: &mut Out) {
        if std::mem::take(&mut self.wants_slots) {
            out.emit(Event::Slots(self.key));
        }
    }

    /// Where a stream of the wire is here: whose call, and its owner.
    fn find(&mut self, stream: Stream) -> Option<(bool, Option<(SessionKey, u64)>, &mut Streams)> {
        if stream.to_caller {
            let call = self.ours.get_mut(&stream.call)?;
            let relayed = match call.owner {
                OutOwner::Relayed { from, seq } => Some((from, seq)),
                OutOwner::Local(_) | OutOwner::Abandoned => None,
            };
            Some((true, relayed, call.streams.as_deref_mut()?))
        } else {
            let call = self.theirs.get_mut(&stream.call)?;
            let relayed = match call.owner {
                InOwner::Relayed { to, seq } => Some((to, seq)),
                InOwner::Local => None,
            };
            Some((false, relayed, call.streams.as_deref_mut()?))
        }
    }

    fn on_items(
        &mut self,
        stream: Stream,
        bulk: bool,
        count: u32,
        items: Bytes,
        out: &mut Out,
    ) -> Result<Heard, String> {
        let session = self.key;
        let Some((is_ours, relayed, streams)) = self.find(stream) else {
            out.count("rpc_late_messages_total", u64::from(count));
            return Ok(Heard::Nothing);
        };
        match streams.inflow(bulk).filter(|flow| flow.is_open()).map(|flow| flow.receive(count, items.len()))
        {
            Some(Ok(())) => {}
            Some(Err(())) => return Err("a stream went over its credit".to_owned()),
            None => {
                out.count("rpc_late_messages_total", u64::from(count));
                return Ok(Heard::Nothing);
            }
        }
        Ok(match relayed {
            Some((to, call)) => {
                let stream = Stream { call, to_caller: stream.to_caller };
                Heard::Pass { to, item: Item::Items { stream, count, items } }
            }
            None => {
                let stream = StreamKey { session, call: stream.call, is_ours, is_bulk: bulk };
                out.emit(Event::Data { stream, count, items });
                Heard::Nothing
            }
        })
    }

    fn on_end(
        &mut self,
        stream: Stream,
        bulk: bool,
        status: Option<Box<Status>>,
        out: &mut Out,
    ) -> Result<Heard, String> {
        let session = self.key;
        let Some((is_ours, relayed, streams)) = self.find(stream) else { return Ok(Heard::Nothing) };
        if !streams.inflow(bulk).is_some_and(Inflow::close) {
            return Ok(Heard::Nothing);
        }
        let heard = match relayed {
            Some((to, call)) => {
                let stream = Stream { call, to_caller: stream.to_caller };
                Heard::Pass { to, item: Item::End { stream, status } }
            }
            None => {
                let stream = StreamKey { session, call: stream.call, is_ours, is_bulk: bulk };
                out.emit(Event::StreamEnded { stream, status });
                Heard::Nothing
            }
        };
        if is_ours && bulk && self.ours.get(&stream.call).is_some_and(|call| call.is_replied) {
            self.forget_ours(stream.call);
            self.tell_slots(out);
        }
        Ok(heard)
    }

    fn on_credit(
        &mut self,
        stream: Stream,
        bulk: bool,
        (messages, bytes): (u32, u64),
        out: &mut Out,
    ) -> Result<Heard, String> {
        let session = self.key;
        let Some((is_ours, relayed, streams)) = self.find(stream) else { return Ok(Heard::Nothing) };
        Ok(match relayed {
            Some((to, call)) => {
                let stream = Stream { call, to_caller: stream.to_caller };
                Heard::Pass { to, item: Item::Credit { stream, bulk, messages, bytes } }
            }
            None => {
                if streams.outflow(bulk).is_some_and(|flow| flow.credit(messages, bytes)) {
                    out.emit(Event::Room(StreamKey { session, call: stream.call, is_ours, is_bulk: bulk }));
                }
                Heard::Nothing
            }
        })
    }

    /// What is passed on to this session of a stream: the receiver's credit counts here, and the data does there.
    pub(crate) fn pass(&mut self, bulk: bool, item: Item) {
        match &item {
            // The receiver lets the sender, who is at this end, send more.
            Item::Credit { stream, bulk, messages, bytes } => {
                let there = Stream { call: stream.call, to_caller: stream.to_caller };
                let is_ours = !there.to_caller;
                let key = StreamKey { session: self.key, call: there.call, is_ours, is_bulk: *bulk };
                let Some(flow) = self.streams_mut(key).and_then(|streams| streams.inflow(*bulk)) else {
                    return;
                };
                flow.grant(*messages, *bytes);
            }
            Item::End { stream, .. } if bulk && stream.to_caller => {
                let Some(call) = self.theirs.get_mut(&stream.call) else { return };
                call.streams.iter_mut().for_each(|streams| streams.bulk_passed());
                if call.is_replied {
                    self.forget_theirs(stream.call);
                }
            }
            _ => {}
        }
        self.session.push(bulk, &item, Until::Acknowledged);
    }

    fn on_cancel(&mut self, seq: u64, out: &mut Out) -> Heard {
        let Some(call) = self.theirs.get(&seq).filter(|call| !call.is_replied) else { return Heard::Nothing };
        match call.owner {
            InOwner::Relayed { to, seq } => Heard::Pass { to, item: Item::Cancel { call: seq } },
            InOwner::Local => {
                out.emit(Event::Cancelled(RunKey { session: self.key, seq }));
                Heard::Cancelled(seq)
            }
        }
    }

    /// One-way calls of this end that the other has acknowledged since, of other sessions.
    pub(crate) fn on_ack(
        &mut self,
        up_to: u64,
        bulk_up_to: u64,
        out: &mut Out,
    ) -> Result<Vec<OutOwner>, String> {
        self.session.on_ack(up_to, bulk_up_to).map_err(|fault| fault.to_string())?;
        Ok(self.one_ways_done(up_to, out))
    }

    /// The other end has done all one-way calls up to there.
    pub(crate) fn one_ways_done(&mut self, up_to: u64, out: &mut Out) -> Vec<OutOwner> {
        let mut relayed = Vec::new();
        let mut is_local = false;
        while let Some(entry) = self.our_one_ways.first_entry().filter(|entry| *entry.key() <= up_to) {
            let (bytes, owner) = entry.remove();
            self.our_way.remove(bytes, false);
            match owner {
                OutOwner::Relayed { .. } => relayed.push(owner),
                OutOwner::Local(_) | OutOwner::Abandoned => is_local = true,
            }
        }
        if is_local {
            out.emit(Event::OneWaysDone { session: self.key, up_to });
        }
        self.tell_slots(out);
        relayed
    }

    // --- time ---

    pub(crate) fn deadline(&self) -> Option<Instant> {
        let first = self.deadlines.first().map(|(at, ..)| *at);
        first.into_iter().chain(self.session.deadline()).min()
    }

    /// Ends calls whose time is over; gives those of the other end that ran here.
    pub(crate) fn on_timer(&mut self, now: Instant, out: &mut Out) -> Vec<u64> {
        self.session.on_timer(now);
        let mut over = Vec::new();
        while let Some((at, is_ours, seq)) = self.deadlines.first().copied().filter(|(at, ..)| *at <= now) {
            self.deadlines.remove(&(at, is_ours, seq));
            if is_ours {
                let Some(call) = self.ours.get_mut(&seq) else { continue };
                call.until = None;
                if let OutOwner::Local(id) = call.owner
                    && !call.is_replied
                {
                    let mut status = Status::deadline_exceeded("no answer came in time");
                    status.may_have_run = self.session.was_handed(seq);
                    out.answer(id, Err(status));
                }
                self.cancel(seq);
            } else if self.theirs.get(&seq).is_some_and(|call| !call.is_replied) {
                out.emit(Event::Cancelled(RunKey { session: self.key, seq }));
                over.push(seq);
            }
        }
        over
    }

    /// How much is under way, for [`crate::BrokerMachine`]'s figures: calls of the other end, and bytes kept.
    pub(crate) fn load(&self) -> (u32, u32, usize) {
        (self.their_way.calls, self.our_way.calls, self.session.kept().1)
    }

    /// Whether it is a one-way call of the other end that is not done.
    pub(crate) fn is_one_way(&self, seq: u64) -> bool {
        self.their_one_ways.contains_key(&seq)
    }

    /// What else flows with a call of the other end.
    pub(crate) fn shape_of(&self, seq: u64) -> Option<Shape> {
        self.theirs.get(&seq).map(|call| call.shape)
    }
}

/// A stream as it is named on the wire, by who sends data or credit for it.
fn on_wire(stream: StreamKey) -> Stream {
    // The receiver is the caller when the call is not ours.
    Stream { call: stream.call, to_caller: !stream.is_ours }
}
