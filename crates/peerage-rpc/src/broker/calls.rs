//! Calls: what parties say, what is run here, and what the application asks of them.

use std::time::Duration;

use bytes::Bytes;
use peerage_machine::{CallId, Instant, Now, OutboxOf, Write};
use peerage_wire::PeerId;

use super::machine::{BrokerMachine, Sess};
use crate::accounts::Kind;
use crate::event::{Event, Out, Run, RunKey, SendError, SessionKey, StreamKey};
use crate::flow::longest_items;
use crate::packet::{Ack, Call, Destination, Item, Shape, Stream};
use crate::party::{NotPlaced, Placed, Placing};
use crate::status::Status;
use crate::talk::{Cost, Heard, OutOwner, Payer, Talk};

/// One-way calls that the journal keeps of a session, at most: so many windows of calls under way, and so many more. An honest party
/// has one window of those that were not said to be done or to have failed, and says that it has heard of failures at the latest
/// after 256; the rest is for acknowledgements that are overtaken.
const WINDOWS_KEPT: usize = 4;
const MORE_KEPT: usize = 1024;

impl Sess {
    /// Whether an item may be taken. Who has more one-way calls kept than any honest party acknowledges nothing, or sends more
    /// than it may. Nothing has been taken then, so that the item can come again on another link.
    fn takes(&self, seq: u64, item: &Item) -> Result<(), String> {
        let kept = self.journal.one_ways();
        if kept < MORE_KEPT || self.talk.session.has_arrived(seq) {
            return Ok(());
        }
        let most = (self.talk.limits.calls as usize).saturating_mul(WINDOWS_KEPT).saturating_add(MORE_KEPT);
        let is_one_way = matches!(item, Item::Call(call) if call.shape.has(Shape::ONE_WAY));
        if is_one_way && kept >= most {
            return Err(format!(
                "it acknowledges nothing: {kept} of its one-way calls are kept, at most {most} can be"
            ));
        }
        Ok(())
    }
}

impl BrokerMachine {
    pub(super) fn on_item(
        &mut self,
        now: Instant,
        key: SessionKey,
        at: (u64, bool),
        item: Item,
        size: usize,
        out: &mut Out,
    ) -> Result<(), String> {
        let Some(session) = self.sessions.get_mut(&key) else { return Ok(()) };
        session.touch(key, &mut self.touched);
        if !at.1 {
            session.takes(at.0, &item)?;
        }
        let heard = session.talk.on_item(now, at, item, size, out)?;
        let has_early = session.talk.has_early() && matches!(heard, Heard::Call(..));
        self.on_heard(now, key, at.1, heard, out)?;
        if has_early {
            // Bulk data may have come before it.
            while let Some(session) = self.sessions.get_mut(&key)
                && let Some(heard) = session.talk.next_early(out)
            {
                self.on_heard(now, key, true, heard?, out)?;
            }
        }
        Ok(())
    }

    fn on_heard(
        &mut self,
        now: Instant,
        key: SessionKey,
        bulk: bool,
        heard: Heard,
        out: &mut Out,
    ) -> Result<(), String> {
        match heard {
            Heard::Nothing => {}
            Heard::Call(seq, call) => self.on_call(now, key, seq, call, out),
            Heard::CallAgain(seq, call) => {
                // New to a broker that restarted since, once.
                let session = self.sessions.get_mut(&key);
                if session.is_some_and(|session| session.journal.comes_again(seq)) {
                    self.on_call(now, key, seq, call, out);
                }
            }
            Heard::Reply { from, seq, result } => self.on_reply(now, from, seq, result, out),
            Heard::Pass { to, item } => {
                if self.pass(now, to, bulk, item) {
                    out.count("rpc_excess_credit_total", 1);
                }
            }
            Heard::Cancelled(seq) => {
                let status = Status::cancelled("the caller does not want it any more");
                self.break_off(now, key, seq, status, out);
            }
            Heard::Other(Item::Leave) => self.end(key, &Status::cancelled("the party has left"), out),
            Heard::Other(_) => return Err("it said what only a broker says".to_owned()),
        }
        Ok(())
    }

    /// Something of a stream goes on to another session. Gives whether there was more credit than a stream can have.
    pub(super) fn pass(&mut self, now: Instant, to: SessionKey, bulk: bool, item: Item) -> bool {
        let Some(session) = self.sessions.get_mut(&to) else { return false };
        if let Item::Items { stream, items, .. } = &item
            && items.len() > longest_items(&session.talk.limits)
        {
            let (stream, bytes) = (*stream, items.len());
            self.break_stream(now, to, stream, bytes);
            return false;
        }
        let is_excess = session.talk.pass(bulk, item);
        self.touch(to);
        is_excess
    }

    /// A stream has a message that is too long for the link of the session that it goes to: its call ends.
    fn break_stream(&mut self, now: Instant, to: SessionKey, stream: Stream, bytes: usize) {
        let Some(session) = self.sessions.get(&to) else { return };
        let limit = session.talk.limits.message_bytes;
        let (caller, node) = if stream.to_caller {
            let mut calls = session.talk.passed_on();
            let Some((seq, node, on)) = calls.find(|(seq, ..)| *seq == stream.call) else { return };
            ((to, seq), (node, on))
        } else {
            let mut calls = session.talk.passed_here();
            let Some((on, from, seq)) = calls.find(|(on, ..)| *on == stream.call) else { return };
            ((from, seq), (to, on))
        };
        let status = Status::resource_exhausted(format!(
            "a message of a stream has {bytes} bytes, and the link of its receiver takes messages of at most {limit}"
        ));
        let status = Box::new(status.may_have_run());
        if let Some(session) = self.sessions.get_mut(&node.0) {
            session.talk.cancel(node.1);
            self.touch(node.0);
        }
        let (key, seq) = caller;
        match self.sessions.get_mut(&key) {
            // The reply has gone, and bulk data followed.
            Some(session) if !session.talk.is_wanted(seq) => {
                let stream = Stream { call: seq, to_caller: true };
                session.talk.pass(true, Item::End { stream, status: Some(status) });
                self.touch(key);
            }
            _ => self.completed(now, key, seq, Err(status)),
        }
    }

    /// A call that runs here, or waits to, comes to nothing.
    fn break_off(&mut self, now: Instant, key: SessionKey, seq: u64, status: Status, out: &mut Out) {
        self.forget_waiting(key, seq);
        if let Some(session) = self.sessions.get_mut(&key) {
            session.gate.forget(seq);
        }
        self.journal_completes(now, key, seq, Err(Box::new(status.may_have_run())), Vec::new(), out);
    }

    fn on_call(&mut self, now: Instant, key: SessionKey, seq: u64, call: Box<Call>, out: &mut Out) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        if session.talk.is_wanted(seq) {
            return;
        }
        let room = match session.talk.admit(now, seq, &call) {
            Ok(()) => self.held.may_grow(&self.config, &session.peer, session.kind),
            Err(no_room) => Err(no_room.into()),
        };
        if let Err(no_room) = room {
            out.count("rpc_exhausted_total", 1);
            return self.completed(now, key, seq, Err(Box::new(no_room)));
        }
        if let Err(too_long) = session.talk.limits.take_parameters(call.payload.len()) {
            return self.completed(now, key, seq, Err(Box::new(too_long)));
        }
        if session.journal.is_restored() {
            session.journal.forget_unclaimed(seq, &mut self.garbage);
            if let Some(result) = session.journal.before(seq, call.shape.has(Shape::ONE_WAY)) {
                return self.on_reply(now, key, seq, result, out);
            }
        }
        if call.to != Destination::Peer {
            return self.relay(now, key, seq, call, out);
        }
        if let Some((seq, call)) = session.gate.enter(seq, call) {
            self.run(key, seq, *call, out);
        }
    }

    fn run(&mut self, key: SessionKey, seq: u64, call: Call, out: &mut Out) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        out.emit(Event::Run(Box::new(Run {
            key: RunKey { session: key, seq },
            command: call.command,
            payload: call.payload,
            shape: call.shape,
            caller: session.caller.clone(),
            origin: seq,
            timeout: (call.timeout_micros > 0).then(|| Duration::from_micros(call.timeout_micros)),
        })));
        session.talk.started(seq, out);
    }

    /// A call has an answer that was not found here: a node has answered, or another start of the broker.
    pub(super) fn on_reply(
        &mut self,
        now: Instant,
        from: SessionKey,
        seq: u64,
        result: Result<Bytes, Box<Status>>,
        out: &mut Out,
    ) {
        let Some(session) = self.sessions.get_mut(&from) else { return };
        let is_one_way = session.talk.is_one_way(seq);
        session.answer(now, seq, result);
        session.touch(from, &mut self.touched);
        if is_one_way {
            self.journal_one_ways(from, out);
        }
    }

    pub(super) fn on_ack(
        &mut self,
        now: Instant,
        key: SessionKey,
        ack: Ack,
        out: &mut Out,
    ) -> Result<(), String> {
        let Some(session) = self.sessions.get_mut(&key) else { return Ok(()) };
        let up_to = ack.up_to;
        for owner in session.talk.on_ack(now, ack, out)? {
            if let OutOwner::Relayed { from, seq } = owner {
                self.on_reply(now, from, seq, Ok(Bytes::new()), out);
            }
        }
        if let Some(session) = self.sessions.get_mut(&key)
            && session.offers_sent.is_some_and(|sent| sent <= up_to)
        {
            session.offers_sent = None;
            self.send_offers(key, out);
        }
        self.journal_acknowledged(key, up_to, out);
        self.touch(key);
        Ok(())
    }

    pub(super) fn on_talk_timer(&mut self, now: Instant, key: SessionKey, out: &mut Out) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        // It has rung, and is not armed any more.
        session.timed = None;
        for seq in session.talk.on_timer(now, out) {
            self.break_off(now, key, seq, Status::deadline_exceeded("its time was over"), out);
        }
        self.touch(key);
    }

    // --- what the application asks ---

    /// Ends a call that ran here, with what its handler wrote: with the journal, all of it is kept before the party hears.
    pub fn complete(
        &mut self,
        now: Now,
        run: RunKey,
        result: Result<Bytes, Status>,
        writes: Vec<Write>,
        out: &mut OutboxOf<Self>,
    ) {
        self.complete_all(now, [(run, result, writes)], out);
    }

    /// As [`BrokerMachine::complete`], of several, and then sends what is to be sent of it.
    pub fn complete_all(
        &mut self,
        now: Now,
        runs: impl IntoIterator<Item = (RunKey, Result<Bytes, Status>, Vec<Write>)>,
        out: &mut OutboxOf<Self>,
    ) {
        for (run, result, writes) in runs {
            self.complete_one(now, run, result, writes, out);
        }
        self.settle(out);
    }

    fn complete_one(
        &mut self,
        now: Now,
        run: RunKey,
        result: Result<Bytes, Status>,
        writes: Vec<Write>,
        out: &mut Out,
    ) {
        let RunKey { session: key, seq } = run;
        if !self.sessions.contains_key(&key) && !writes.is_empty() {
            // The party is gone, and what was done for it was done.
            self.keep(writes, super::journal::Pending::Nothing, out);
            return;
        }
        self.journal_completes(now.mono, key, seq, result.map_err(Box::new), writes, out);
        if let Some(session) = self.sessions.get_mut(&key) {
            session.gate.done(seq);
        }
        while let Some(session) = self.sessions.get_mut(&key) {
            let Some((seq, call)) = session.gate.next() else { break };
            self.run(key, seq, *call, out);
        }
    }

    /// Makes a call to a session's party.
    ///
    /// # Errors
    /// [`NotPlaced`].
    pub fn call(
        &mut self,
        now: Now,
        key: SessionKey,
        placing: Placing,
        out: &mut OutboxOf<Self>,
    ) -> Result<Placed, NotPlaced> {
        let Some(session) = self.sessions.get_mut(&key).filter(|session| session.journal.is_resumed()) else {
            return Err(NotPlaced::NotOpen(Status::unavailable("the session is not there")));
        };
        self.held.may_grow(&self.config, &session.peer, session.kind).map_err(NotPlaced::NotOpen)?;
        let placing = Placing { to: Destination::Peer, ..placing };
        let call = placing.into_call(session.talk.limits.message_bytes)?;
        let id = CallId(self.next_call);
        // A user is called by nobody else.
        let payer = (session.kind == Kind::Node).then_some(Payer::Application);
        let seq = session
            .talk
            .call(now.mono, call, OutOwner::Local(id), payer)
            .map_err(|no_room| NotPlaced::Full(no_room.into()))?;
        self.next_call += 1;
        self.touch(key);
        self.settle(out);
        Ok(Placed { id, session: key, seq })
    }

    /// Makes a call to a node.
    ///
    /// # Errors
    /// [`NotPlaced`]: the node is not there, or has too much to do.
    pub fn call_node(
        &mut self,
        now: Now,
        node: &PeerId,
        placing: Placing,
        out: &mut OutboxOf<Self>,
    ) -> Result<Placed, NotPlaced> {
        let key = self.node_session(node).map_err(NotPlaced::NotOpen)?;
        self.call(now, key, placing, out)
    }

    /// Makes a call to the node of a group that has the fewest under way.
    ///
    /// # Errors
    /// [`NotPlaced`]: no node of the group is there, or that one has too much to do.
    pub fn call_group(
        &mut self,
        now: Now,
        group: &Bytes,
        placing: Placing,
        out: &mut OutboxOf<Self>,
    ) -> Result<Placed, NotPlaced> {
        let cost = Cost::of(placing.payload.len(), placing.shape, Some(Payer::Application));
        let key = self.node_for(&Destination::Group(group.clone()), &cost).map_err(NotPlaced::NotOpen)?;
        self.call(now, key, placing, out)
    }

    /// Nobody waits for that call any more; it has no answer.
    pub fn cancel(&mut self, placed: Placed, out: &mut OutboxOf<Self>) {
        self.with_talk(placed.session, out, |talk| talk.cancel(placed.seq));
    }

    /// Sends a message on a stream, or a piece of bulk data.
    ///
    /// # Errors
    /// [`SendError::Full`], after which [`Event::Room`] follows; [`SendError::Closed`].
    pub fn send(
        &mut self,
        stream: StreamKey,
        message: Bytes,
        out: &mut OutboxOf<Self>,
    ) -> Result<(), SendError> {
        self.with_talk(stream.session, out, |talk| talk.send(stream, message))
            .unwrap_or(Err(SendError::Closed))
    }

    /// Ends a stream that goes out from here.
    pub fn finish(&mut self, stream: StreamKey, status: Option<Status>, out: &mut OutboxOf<Self>) {
        self.with_talk(stream.session, out, |talk| talk.finish(stream, status.map(Box::new)));
    }

    /// Lets the other end of a stream send so much more.
    pub fn grant(&mut self, stream: StreamKey, messages: u32, bytes: u64, out: &mut OutboxOf<Self>) {
        self.with_talk(stream.session, out, |talk| talk.grant(stream, messages, bytes));
    }

    fn with_talk<R>(
        &mut self,
        key: SessionKey,
        out: &mut Out,
        act: impl FnOnce(&mut Talk) -> R,
    ) -> Option<R> {
        let answer = act(&mut self.sessions.get_mut(&key)?.talk);
        self.touch(key);
        self.settle(out);
        Some(answer)
    }
}
