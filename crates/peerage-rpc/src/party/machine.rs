//! A party's state, and what the world tells it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use peerage_machine::{
    DialId, Effect, Incarnation, Input, Instant, LinkId, LinkInfo, Machine, Now, OutboxOf, Rng, Seed, Side,
    Why,
};

use super::config::PartyConfig;
use super::link::OPEN_WITHIN;
use crate::event::{Answer, Caller, Event, Out, SessionKey};
use crate::gate::Gate;
use crate::lane::Until;
use crate::packet::{Item, Packet, SessionId};
use crate::status::Status;
use crate::talk::Talk;

#[derive(Debug)]
pub(super) enum State {
    /// To be dialled then.
    Away(Instant),
    Dialing(DialId),
    /// The link is up, and the broker has been asked.
    Opening {
        link: LinkId,
        info: Box<LinkInfo>,
        until: Instant,
    },
    Open(LinkId),
    /// The broker has said no for good.
    Over(Status),
}

/// The machine of a client or a node.
#[derive(Debug)]
pub struct PartyMachine {
    pub(super) config: PartyConfig,
    pub(super) rng: Rng,
    pub(super) state: State,
    /// Links to the broker that are up, for the next try.
    pub(super) up: BTreeMap<LinkId, LinkInfo>,
    pub(super) talk: Option<Talk>,
    pub(super) id: Option<SessionId>,
    pub(super) grace: Duration,
    /// When the session counts as lost, while it has no link.
    pub(super) lost_at: Option<Instant>,
    pub(super) callers: BTreeMap<u64, Arc<Caller>>,
    pub(super) gates: BTreeMap<u64, Gate>,
    /// Callers of one-way calls that are running.
    pub(super) one_ways: BTreeMap<u64, u64>,
    /// The session is to end when its one-way calls are done.
    pub(super) is_leaving: bool,
    /// The start of the broker that has said that it has the session from its journal.
    pub(super) restored_by: Option<Incarnation>,
    /// When the session was opened on its present link.
    pub(super) opened_at: Instant,
    pub(super) next_session: u64,
    pub(super) next_call: u64,
    pub(super) next_dial: u64,
    pub(super) failures: u32,
}

impl PartyMachine {
    /// A party that dials at once.
    pub fn new(config: PartyConfig, now: Instant, seed: &Seed) -> Self {
        Self {
            config,
            rng: seed.fork("party").rng(),
            state: State::Away(now),
            up: BTreeMap::new(),
            talk: None,
            id: None,
            grace: Duration::ZERO,
            lost_at: None,
            callers: BTreeMap::new(),
            gates: BTreeMap::new(),
            one_ways: BTreeMap::new(),
            is_leaving: false,
            restored_by: None,
            opened_at: now,
            next_session: 0,
            next_call: 0,
            next_dial: 0,
            failures: 0,
        }
    }

    pub(super) fn talk_of(&mut self, session: SessionKey) -> Option<&mut Talk> {
        self.talk.as_mut().filter(|talk| talk.key == session)
    }

    pub(super) fn pump(&mut self, out: &mut Out) {
        let Some(talk) = &mut self.talk else { return };
        if self.is_leaving && talk.has_no_one_ways() {
            self.is_leaving = false;
            talk.session.push(false, &Item::Leave, Until::Acknowledged);
        }
        talk.pump(out);
    }
}

impl Machine for PartyMachine {
    type Message = Packet;
    type Event = Event;
    type Answer = Answer;

    fn on_input(&mut self, now: Now, input: Input<Packet>, out: &mut OutboxOf<Self>) {
        match input {
            Input::Up { link, info } => self.on_up(now.mono, link, info, out),
            Input::Down { link, why } => self.on_down(now.mono, link, why, out),
            Input::Message { link, message } => {
                for read in message.into_bodies() {
                    let read = read.map_err(|malformed| malformed.to_string());
                    if let Err(fault) =
                        read.and_then(|(body, size)| self.on_body(now.mono, link, body, size, out))
                    {
                        tracing::debug!(%link, fault, "the broker broke the protocol");
                        let why = Why::Fault { by: Side::Them, what: fault };
                        out.push(Effect::CloseChannel { link, why });
                        break;
                    }
                }
                self.pump(out);
            }
            Input::Credit { link, class, bytes } => {
                if let Some(talk) = self.talk.as_mut().filter(|talk| talk.session.link() == Some(link)) {
                    talk.session.room(class, bytes);
                    if talk.waits_for_room() {
                        talk.pump(out);
                    }
                }
            }
            Input::DialFailed { dial, why } => {
                if matches!(self.state, State::Dialing(id) if id == dial) {
                    if self.talk.is_none() {
                        let status = Status::unavailable(format!("the broker cannot be reached: {why}"));
                        out.emit(Event::Refused(Box::new(status)));
                    }
                    self.dial_later(now.mono);
                }
            }
            Input::Dialed { .. }
            | Input::Undelivered { .. }
            | Input::Stored { .. }
            | Input::Verified { .. }
            | Input::Rtt { .. }
            | Input::OwnAddresses(_) => {}
        }
    }

    fn on_timer(&mut self, now: Now, out: &mut OutboxOf<Self>) {
        let now = now.mono;
        match &self.state {
            State::Away(at) if *at <= now => self.dial(out),
            State::Opening { link, until, .. } if *until <= now => {
                let (link, why) = (*link, Why::TimedOut { what: "the broker's answer", after: OPEN_WITHIN });
                self.up.remove(&link);
                out.push(Effect::CloseChannel { link, why: why.clone() });
                self.failures = self.failures.max(1);
                self.lose_link(now, why, out);
            }
            _ => {}
        }
        if self.lost_at.is_some_and(|at| at <= now) {
            self.lost_at = None;
            let status = Status::unavailable("the broker was not reached in time, and the session is lost");
            self.lose_session(&status, out);
        }
        if let Some(talk) = &mut self.talk {
            for seq in talk.on_timer(now, out) {
                self.break_off(now, seq, Status::deadline_exceeded("its time was over"));
            }
            self.pump(out);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let state = match &self.state {
            State::Away(at) => Some(*at),
            State::Opening { until, .. } => Some(*until),
            State::Dialing(_) | State::Open(_) | State::Over(_) => None,
        };
        let talk = self.talk.as_ref().and_then(Talk::deadline);
        [state, self.lost_at, talk].into_iter().flatten().min()
    }
}
