//! Calls: what parties say, what is run here, and what the application asks of them.

use std::time::Duration;

use bytes::Bytes;
use peerage_machine::{CallId, Instant, Now, OutboxOf, Write};
use peerage_wire::PeerId;

use super::machine::BrokerMachine;
use crate::event::{Event, Out, Run, RunKey, SendError, SessionKey, StreamKey};
use crate::packet::{Call, Destination, Item};
use crate::party::{NotPlaced, Placed, Placing, micros};
use crate::status::Status;
use crate::talk::{Heard, OutOwner, Talk};

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
        self.touch(key);
        let Some(session) = self.sessions.get_mut(&key) else { return Ok(()) };
        match session.talk.on_item(now, at, item, size, out)? {
            Heard::Nothing => {}
            Heard::Call(seq, call) => self.on_call(now, key, seq, call, out),
            Heard::CallAgain(seq, call) => {
                // New to a broker that restarted since; and what is under way, or answered in this life, is known.
                if session.journal.is_restored()
                    && !session.talk.is_wanted(seq)
                    && !session.journal.is_answered(seq)
                {
                    self.on_call(now, key, seq, call, out);
                }
            }
            Heard::Reply { from, seq, result } => self.on_reply(now, from, seq, result, out),
            Heard::Pass { to, item } => {
                if let Some(session) = self.sessions.get_mut(&to) {
                    session.talk.pass(at.1, item);
                    self.touch(to);
                }
            }
            Heard::Cancelled(seq) => {
                let status = Status::cancelled("the caller does not want it any more").may_have_run();
                session.talk.reply(now, seq, Err(Box::new(status)));
            }
            Heard::Other(Item::Leave) => self.end(key, &Status::cancelled("the party has left"), out),
            Heard::Other(_) => return Err("it said what only a broker says".to_owned()),
        }
        Ok(())
    }

    fn on_call(&mut self, now: Instant, key: SessionKey, seq: u64, call: Call, out: &mut Out) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        if session.talk.is_wanted(seq) {
            return;
        }
        if let Err(no_room) = session.talk.admit(now, seq, &call) {
            out.count("rpc_exhausted_total", 1);
            return self.completed(now, key, seq, Err(Box::new(no_room.into())));
        }
        if call.payload.len() as u64 > self.config.limits.message_bytes {
            let (bytes, limit) = (call.payload.len(), self.config.limits.message_bytes);
            let status =
                Status::invalid_argument(format!("the parameters have {bytes} bytes, the limit is {limit}"));
            return self.completed(now, key, seq, Err(Box::new(status)));
        }
        if session.journal.is_restored()
            && let Some(result) = session.journal.before(seq)
        {
            return self.completed(now, key, seq, result);
        }
        if call.to != Destination::Peer {
            return self.relay(now, key, seq, call, out);
        }
        if let Some((seq, call)) = session.gate.enter(seq, call) {
            self.run(key, seq, call, out);
        }
    }

    fn run(&mut self, key: SessionKey, seq: u64, call: Call, out: &mut Out) {
        let Some(session) = self.sessions.get(&key) else { return };
        out.emit(Event::Run(Box::new(Run {
            key: RunKey { session: key, seq },
            command: call.command,
            payload: call.payload,
            shape: call.shape,
            caller: session.caller.clone(),
            origin: seq,
            timeout: (call.timeout_micros > 0).then(|| Duration::from_micros(call.timeout_micros)),
        })));
    }

    /// A node has answered a call that was passed on.
    fn on_reply(
        &mut self,
        now: Instant,
        from: SessionKey,
        seq: u64,
        result: Result<Bytes, Box<Status>>,
        out: &mut Out,
    ) {
        let is_one_way = self.sessions.get(&from).is_some_and(|session| session.talk.is_one_way(seq));
        self.completed(now, from, seq, result);
        if is_one_way {
            self.journal_one_ways(from, seq, out);
        }
    }

    pub(super) fn on_ack(
        &mut self,
        now: Instant,
        key: SessionKey,
        (up_to, bulk_up_to): (u64, u64),
        out: &mut Out,
    ) -> Result<(), String> {
        let Some(session) = self.sessions.get_mut(&key) else { return Ok(()) };
        for owner in session.talk.on_ack(up_to, bulk_up_to, out)? {
            if let OutOwner::Relayed { from, seq } = owner {
                self.on_reply(now, from, seq, Ok(Bytes::new()), out);
            }
        }
        if let Some(session) = self.sessions.get_mut(&key)
            && session.offers_sent.is_some_and(|sent| sent <= up_to)
        {
            session.offers_sent = None;
            self.send_offers(key);
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
            let status = Status::deadline_exceeded("its time was over").may_have_run();
            session.talk.reply(now, seq, Err(Box::new(status)));
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
            let talk = &session.talk;
            let Some((seq, call)) = session.gate.next(|seq| talk.is_wanted(seq)) else { break };
            self.run(key, seq, call, out);
        }
        self.settle(out);
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
        let (bytes, limit) = (placing.payload.len() as u64, self.config.limits.message_bytes);
        if bytes > limit {
            return Err(NotPlaced::TooLong { bytes, limit });
        }
        let id = CallId(self.next_call);
        let call = Call {
            command: placing.command,
            payload: placing.payload,
            to: Destination::Peer,
            timeout_micros: micros(placing.timeout),
            shape: placing.shape,
            caller: 0,
            origin: 0,
        };
        let seq = session
            .talk
            .call(now.mono, call, OutOwner::Local(id))
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
        let key = self.node_for(&Destination::Group(group.clone())).map_err(NotPlaced::NotOpen)?;
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
