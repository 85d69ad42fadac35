//! What the application asks of a party.

use bytes::Bytes;
use peerage_machine::{CallId, Now, OutboxOf};

use super::config::{NotPlaced, Placed, Placing, UnderWay};
use super::machine::{PartyMachine, State};
use crate::event::{RunKey, SendError, SessionKey, StreamKey};
use crate::gate::Gate;
use crate::packet::{Limits, SessionId};
use crate::status::Status;
use crate::talk::{NoRoom, OutOwner};

impl PartyMachine {
    /// Makes a call.
    ///
    /// # Errors
    /// [`NotPlaced`].
    pub fn call(
        &mut self,
        now: Now,
        placing: Placing,
        out: &mut OutboxOf<Self>,
    ) -> Result<Placed, NotPlaced> {
        let over = match &self.state {
            State::Over(status) => Some(status.clone()),
            _ => None,
        };
        let Some(talk) = &mut self.talk else {
            let status =
                over.unwrap_or_else(|| Status::unavailable("there is no session with the broker yet"));
            return Err(NotPlaced::NotOpen(status));
        };
        let call = placing.into_call(talk.limits.message_bytes)?;
        let id = CallId(self.next_call);
        let seq = talk
            .call(now.mono, call, OutOwner::Local(id), None)
            .map_err(|no_room: NoRoom| NotPlaced::Full(no_room.into()))?;
        self.next_call += 1;
        talk.pump(out);
        Ok(Placed { id, session: talk.key, seq })
    }

    /// Nobody waits for that call any more; it has no answer.
    pub fn cancel(&mut self, placed: Placed, out: &mut OutboxOf<Self>) {
        if let Some(talk) = self.talk_of(placed.session) {
            talk.cancel(placed.seq);
            talk.pump(out);
        }
    }

    /// Ends a call that ran here.
    pub fn complete(
        &mut self,
        now: Now,
        run: RunKey,
        result: Result<Bytes, Status>,
        out: &mut OutboxOf<Self>,
    ) {
        self.complete_all(now, [(run, result)], out);
    }

    /// Ends calls that ran here, and then sends what is to be sent of it.
    pub fn complete_all(
        &mut self,
        now: Now,
        runs: impl IntoIterator<Item = (RunKey, Result<Bytes, Status>)>,
        out: &mut OutboxOf<Self>,
    ) {
        for (run, result) in runs {
            self.complete_one(now, run, result, out);
        }
        self.pump(out);
    }

    fn complete_one(
        &mut self,
        now: Now,
        run: RunKey,
        result: Result<Bytes, Status>,
        out: &mut OutboxOf<Self>,
    ) {
        let Some(talk) = self.talk_of(run.session) else { return };
        talk.reply(now.mono, run.seq, result.map_err(Box::new));
        if let Some(caller) = self.one_ways.remove(&run.seq) {
            if let Some(gate) = self.gates.get_mut(&caller) {
                gate.done(run.seq);
            }
            self.run_waiting(caller, out);
        }
    }

    /// Sends a message on a stream, or a piece of bulk data; gives it back when there is no credit, and
    /// [`crate::Event::Room`] follows.
    ///
    /// # Errors
    /// The stream takes nothing now, or nothing more.
    pub fn send(
        &mut self,
        stream: StreamKey,
        message: Bytes,
        out: &mut OutboxOf<Self>,
    ) -> Result<(), SendError> {
        let Some(talk) = self.talk_of(stream.session) else { return Err(SendError::Closed) };
        talk.send(stream, message)?;
        talk.pump(out);
        Ok(())
    }

    /// Ends a stream that goes out from here.
    pub fn finish(&mut self, stream: StreamKey, status: Option<Status>, out: &mut OutboxOf<Self>) {
        if let Some(talk) = self.talk_of(stream.session) {
            talk.finish(stream, status.map(Box::new));
            talk.pump(out);
        }
    }

    /// Lets the other end of a stream send so much more.
    pub fn grant(&mut self, stream: StreamKey, messages: u32, bytes: u64, out: &mut OutboxOf<Self>) {
        if let Some(talk) = self.talk_of(stream.session) {
            talk.grant(stream, messages, bytes);
            talk.pump(out);
        }
    }

    /// Ends the session in good order: when all one-way calls are done, the broker forgets it. What else is under way comes to
    /// nothing then.
    pub fn leave(&mut self, out: &mut OutboxOf<Self>) {
        self.is_leaving = true;
        self.pump(out);
    }

    /// Why the broker takes no session of this party's any more, if it has said so.
    pub fn over(&self) -> Option<&Status> {
        match &self.state {
            State::Over(status) => Some(status),
            _ => None,
        }
    }

    /// Items that the broker has not acknowledged or answered.
    pub fn unacknowledged(&self) -> usize {
        self.talk.as_ref().map_or(0, |talk| talk.session.kept().0)
    }

    /// What is under way in the session, if there is one.
    pub fn under_way(&self) -> UnderWay {
        let Some(talk) = &self.talk else { return UnderWay::default() };
        let (calls_here, calls) = talk.load();
        let (kept_items, kept_bytes) = talk.session.kept();
        let (streams, held_bytes) = (talk.streams(), talk.held_bytes());
        UnderWay { calls, calls_here, streams, kept_items, kept_bytes, held_bytes }
    }

    /// What must be so between its tables, whatever has happened: for tests and simulations.
    ///
    /// # Errors
    /// What is not so.
    pub fn check(&self) -> Result<(), String> {
        let Some(talk) = &self.talk else {
            let left = (self.callers.len(), self.gates.len(), self.one_ways.len());
            return if left == (0, 0, 0) {
                Ok(())
            } else {
                Err(format!("without a session, it has {left:?}"))
            };
        };
        talk.check()?;
        if let Some(seq) = self.gates.values().flat_map(Gate::waiting).find(|seq| !talk.is_wanted(*seq)) {
            return Err(format!("call {seq} waits to be run, and nobody waits for it"));
        }
        if talk.session.link().is_none() && self.lost_at.is_none() {
            return Err("it has no link, and would wait for ever".to_owned());
        }
        Ok(())
    }

    /// The open session, and what may be under way in it.
    pub fn session(&self) -> Option<(SessionKey, SessionId, Limits)> {
        Some((self.talk.as_ref()?.key, self.id?, self.talk.as_ref()?.limits))
    }
}
