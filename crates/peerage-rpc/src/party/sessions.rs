//! The session: opened, gone on with, lost, refused.

use std::time::Duration;

use peerage_machine::{Effect, Instant, LinkId, LinkInfo, Why};

use super::fail;
use super::machine::{PartyMachine, State};
use crate::event::{Event, Out, RunKey, SessionKey};
use crate::packet::{Lanes, Opened};
use crate::session::Session;
use crate::status::Status;
use crate::talk::{InOwner, Talk};

impl PartyMachine {
    pub(super) fn on_opened(
        &mut self,
        now: Instant,
        link: LinkId,
        info: &LinkInfo,
        opened: &Opened,
        out: &mut Out,
    ) -> Result<(), String> {
        let is_known = self.talk.is_some() && self.id == Some(opened.session);
        if opened.resumed && !is_known {
            // It was given up meanwhile. The next link asks for a new one.
            return Err("it goes on with a session that is over here".to_owned());
        }
        let limits = opened.limits.within(info.max_message);
        let talk = match self.talk.take() {
            Some(talk) if opened.resumed && talk.limits.within(info.max_message) != talk.limits => {
                // What waits may never leave.
                let why = "the broker's link takes shorter messages than the one before";
                self.end(talk, &Status::unavailable(format!("the session is lost: {why}")), out);
                return Err(why.to_owned());
            }
            Some(mut talk) if opened.resumed => {
                let carried = if !opened.from_journal {
                    talk.session.carried_by(link, info, opened.lanes)
                } else if self.restored_by == Some(info.incarnation) {
                    talk.session.carried_again(link, info, opened.acknowledged, opened.lanes)
                } else {
                    talk.session.carried_anew(link, info, opened.acknowledged)
                };
                if let Err(fault) = carried {
                    self.talk = Some(talk);
                    return Err(fault.to_string());
                }
                if opened.from_journal && self.restored_by.replace(info.incarnation) != Some(info.incarnation)
                {
                    // Nothing that it had passed on to us is known to it, nor streams.
                    self.stop_running(&mut talk, out);
                    let lost =
                        Status::unavailable("the broker was restarted, and streams do not survive that");
                    for call in talk.give_up_streams() {
                        fail(talk.key, call, &lost, out);
                    }
                    let relayed = talk.one_ways_done(opened.acknowledged, out);
                    debug_assert!(relayed.is_empty(), "a party passes nothing on");
                }
                talk.limits = limits;
                talk
            }
            other => {
                if let Some(talk) = other {
                    self.end(talk, &Status::unavailable("the session is lost"), out);
                }
                let key = SessionKey(self.next_session);
                self.next_session += 1;
                let mut session = Session::default();
                session.carried_by(link, info, Lanes::default()).map_err(|fault| fault.to_string())?;
                Talk::new(key, session, limits)
            }
        };
        self.id = Some(opened.session);
        self.grace = Duration::from_millis(u64::from(opened.grace_millis));
        self.lost_at = None;
        self.opened_at = now;
        out.emit(Event::Opened {
            session: talk.key,
            id: opened.session,
            peer: self.config.broker,
            kind: opened.kind,
            resumed: opened.resumed,
            limits,
        });
        self.state = State::Open(link);
        self.talk.insert(talk).tell_slots(out);
        self.pump(out);
        Ok(())
    }

    /// Calls of the broker that run here are not wanted any more.
    pub(super) fn stop_running(&mut self, talk: &mut Talk, out: &mut Out) {
        for (seq, owner) in talk.give_up_theirs() {
            if owner == InOwner::Local {
                out.emit(Event::Cancelled(RunKey { session: talk.key, seq }));
            }
        }
        for caller in std::mem::take(&mut self.callers).into_values() {
            out.emit(Event::CallerGone(caller.session));
        }
        self.gates.clear();
        self.one_ways.clear();
    }

    /// The session is over: whatever was under way hears that.
    pub(super) fn end(&mut self, mut talk: Talk, status: &Status, out: &mut Out) {
        self.stop_running(&mut talk, out);
        for call in talk.give_up_ours() {
            fail(talk.key, call, status, out);
        }
        self.id = None;
        self.lost_at = None;
        self.is_leaving = false;
        self.restored_by = None;
        talk.tell_slots(out);
        out.emit(Event::Closed {
            session: talk.key,
            status: Box::new(status.clone()),
            last_acknowledged: talk.session.known_done(),
        });
    }

    pub(super) fn lose_session(&mut self, status: &Status, out: &mut Out) {
        if let Some(talk) = self.talk.take() {
            self.end(talk, status, out);
        }
    }

    pub(super) fn on_refused(&mut self, now: Instant, status: Status, session_lost: bool, out: &mut Out) {
        let State::Opening { link, .. } = self.state else { return };
        // Who asked for a new one has none that could be lost.
        if session_lost && self.id.is_some() {
            let lost = Status::unavailable(format!("the session is lost: {}", status.message));
            self.lose_session(&lost, out);
            return self.open(now, link, out);
        }
        out.emit(Event::Refused(Box::new(status.clone())));
        let may_pass = matches!(status.code, crate::Code::Unavailable | crate::Code::ResourceExhausted);
        if may_pass && self.config.enrol.is_none() {
            // The link stays; asked again after a while.
            self.up.remove(&link);
            out.push(Effect::CloseChannel { link, why: Why::Unheld });
            self.failures = self.failures.max(1);
            return self.dial_later(now);
        }
        self.lose_session(&status, out);
        self.state = State::Over(status);
        self.let_go(out);
    }
}
