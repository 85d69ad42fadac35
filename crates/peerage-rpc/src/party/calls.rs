//! What the broker says in a session, and the calls that run here.

use std::sync::Arc;
use std::time::Duration;

use peerage_machine::{Instant, LinkId};

use super::machine::{PartyMachine, State};
use crate::event::{Caller, Event, Out, Run, RunKey, SessionKey, StreamKey};
use crate::packet::{Body, Call, Item, Shape};
use crate::status::Status;
use crate::talk::{GivenUp, Heard, OutOwner};

/// The most callers that a broker may introduce at once: as many sessions as it may have.
const MAX_CALLERS: usize = 1 << 20;

impl PartyMachine {
    pub(super) fn on_body(
        &mut self,
        now: Instant,
        link: LinkId,
        body: Body,
        size: usize,
        out: &mut Out,
    ) -> Result<(), String> {
        match (body, &self.state) {
            (Body::Opened(opened), State::Opening { link: at, info, .. }) if *at == link => {
                let info = (**info).clone();
                self.on_opened(now, link, &info, &opened, out)
            }
            (Body::Refused { status, session_lost }, State::Opening { link: at, .. }) if *at == link => {
                self.on_refused(now, status, session_lost, out);
                Ok(())
            }
            (Body::Enrolled { kind, confirmed }, State::Opening { link: at, .. }) if *at == link => {
                out.emit(Event::Enrolled { kind, confirmed });
                self.state = State::Over(Status::failed_precondition("this was to enrol, and is done"));
                self.let_go(out);
                Ok(())
            }
            (Body::Ended(status), State::Open(at)) if *at == link => {
                self.lose_session(&status, out);
                self.state = State::Over(status);
                self.let_go(out);
                Ok(())
            }
            (Body::Ack(ack), State::Open(at)) if *at == link => {
                if let Some(talk) = &mut self.talk {
                    talk.on_ack(now, ack, out)?;
                }
                Ok(())
            }
            (Body::Item { seq, bulk, item }, State::Open(at)) if *at == link => {
                self.on_item(now, (seq, bulk), item, size, out)
            }
            // What comes late on a link that is not used any more.
            (_, state) if !matches!(state, State::Open(at) | State::Opening { link: at, .. } if *at == link) => {
                Ok(())
            }
            (body, _) => Err(format!("it said {} at the wrong time", name_of(&body))),
        }
    }

    pub(super) fn on_item(
        &mut self,
        now: Instant,
        at: (u64, bool),
        item: Item,
        size: usize,
        out: &mut Out,
    ) -> Result<(), String> {
        let Some(talk) = &mut self.talk else { return Ok(()) };
        let heard = talk.on_item(now, at, item, size, out)?;
        let is_call = matches!(heard, Heard::Call(..));
        self.on_heard(now, heard, out)?;
        if is_call {
            // Bulk data may have come before it; it is for the application alone.
            while let Some(talk) = &mut self.talk
                && let Some(heard) = talk.next_early(out)
            {
                heard?;
            }
        }
        Ok(())
    }

    pub(super) fn on_heard(&mut self, now: Instant, heard: Heard, out: &mut Out) -> Result<(), String> {
        match heard {
            Heard::Call(seq, call) => self.on_call(now, seq, call, out)?,
            Heard::Cancelled(seq) => {
                self.break_off(now, seq, Status::cancelled("the caller does not want it any more"));
            }
            Heard::Other(Item::Offers(resources)) => out.emit(Event::Offers(resources)),
            Heard::Other(Item::Caller { caller, peer, kind, session }) => {
                if self.callers.len() >= MAX_CALLERS {
                    return Err("it introduced too many callers".to_owned());
                }
                self.callers.insert(caller, Arc::new(Caller { peer, kind: Some(kind), session }));
            }
            Heard::Other(Item::Gone { caller }) => {
                if let Some(caller) = self.callers.remove(&caller) {
                    out.emit(Event::CallerGone(caller.session));
                }
                // Requests were cancelled before; one-way calls that wait are not run any more.
                let waiting: Vec<_> =
                    self.gates.remove(&caller).iter().flat_map(|gate| gate.waiting()).collect();
                for seq in waiting {
                    self.break_off(now, seq, Status::cancelled("the caller's session is over"));
                }
            }
            Heard::Other(_)
            | Heard::Reply { .. }
            | Heard::Pass { .. }
            | Heard::CallAgain(..)
            | Heard::Nothing => {}
        }
        Ok(())
    }

    pub(super) fn on_call(
        &mut self,
        now: Instant,
        seq: u64,
        call: Box<Call>,
        out: &mut Out,
    ) -> Result<(), String> {
        let Some(talk) = &mut self.talk else { return Ok(()) };
        if call.caller != 0 && !self.callers.contains_key(&call.caller) {
            return Err(format!("a call of caller {}, whom nobody introduced", call.caller));
        }
        if let Err(no_room) = talk.admit(now, seq, &call) {
            talk.reply(now, seq, Err(Box::new(no_room.into())));
            return Ok(());
        }
        let caller = call.caller;
        if let Some((seq, call)) = self.gates.entry(caller).or_default().enter(seq, call) {
            self.run(seq, *call, out);
        }
        Ok(())
    }

    pub(super) fn run_waiting(&mut self, caller: u64, out: &mut Out) {
        loop {
            let Some(gate) = self.gates.get_mut(&caller) else { return };
            let Some((seq, call)) = gate.next() else { return };
            self.run(seq, *call, out);
        }
    }

    pub(super) fn run(&mut self, seq: u64, call: Call, out: &mut Out) {
        let (Some(talk), Some(session)) = (&self.talk, self.id) else { return };
        if call.shape.has(Shape::ONE_WAY) {
            self.one_ways.insert(seq, call.caller);
        }
        let broker = || Arc::new(Caller { peer: self.config.broker, kind: None, session });
        let caller = self.callers.get(&call.caller).cloned().unwrap_or_else(broker);
        let timeout = (call.timeout_micros > 0).then(|| Duration::from_micros(call.timeout_micros));
        out.emit(Event::Run(Box::new(Run {
            key: RunKey { session: talk.key, seq },
            command: call.command,
            payload: call.payload,
            shape: call.shape,
            caller,
            origin: if call.origin == 0 { seq } else { call.origin },
            timeout,
        })));
        if let Some(talk) = &mut self.talk {
            talk.started(seq, out);
        }
    }

    /// A call that runs here, or waits to, comes to nothing.
    pub(super) fn break_off(&mut self, now: Instant, seq: u64, status: Status) {
        let Some(talk) = &mut self.talk else { return };
        if let Some(gate) = talk.caller_of(seq).and_then(|caller| self.gates.get_mut(&caller)) {
            gate.forget(seq);
        }
        talk.reply(now, seq, Err(Box::new(status.may_have_run())));
    }
}

/// A call comes to nothing.
pub(crate) fn fail(session: SessionKey, call: GivenUp, status: &Status, out: &mut Out) {
    let mut status = status.clone();
    status.may_have_run = call.may_have_run;
    if let OutOwner::Local(id) = call.owner {
        if call.is_one_way {
            out.emit(Event::OneWayFailed { session, seq: call.seq, status: Box::new(status) });
        } else if call.is_replied {
            let stream = StreamKey { session, call: call.seq, is_ours: true, is_bulk: true };
            out.emit(Event::StreamEnded { stream, status: Some(Box::new(status)) });
        } else {
            out.answer(id, Err(status));
        }
    }
}

pub(crate) fn micros(timeout: Option<Duration>) -> u64 {
    timeout.map_or(0, |timeout| u64::try_from(timeout.as_micros()).unwrap_or(u64::MAX).max(1))
}

pub(crate) const fn name_of(body: &Body) -> &'static str {
    match body {
        Body::Open(_) => "Open",
        Body::Opened(_) => "Opened",
        Body::Refused { .. } => "Refused",
        Body::Ended(_) => "Ended",
        Body::Enrol { .. } => "Enrol",
        Body::Enrolled { .. } => "Enrolled",
        Body::Ack { .. } => "Ack",
        Body::Item { .. } => "an item",
    }
}
