//! A client or a node: whoever has a session with a broker.
//!
//! It dials the broker, opens its session, and goes on with it whenever the link is lost, until the session is lost too,
//! which is told. Nothing here knows what a client does differently from a node: both make calls and run them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use peerage_machine::{
    CallId, DialId, Effect, Incarnation, Input, Instant, LinkId, LinkInfo, Machine, Now, OutboxOf, Rng, Seed,
    Side, Target, Why,
};
use peerage_wire::{Address, PeerId};

use crate::event::SendError;
use crate::event::{Answer, Caller, Event, Out, Run, RunKey, SessionKey, StreamKey};
use crate::gate::Gate;
use crate::lane::Until;
use crate::packet::{
    Body, Call, Destination, Item, Lanes, Limits, MAX_COMMAND, MAX_GROUP, Open, Opened, Packet, SessionId,
    Shape,
};
use crate::session::Session;
use crate::status::Status;
use crate::talk::{GivenUp, Heard, InOwner, NoRoom, OutOwner, Talk};

/// How long the broker may take to answer an `Open`.
const OPEN_WITHIN: Duration = Duration::from_secs(10);
/// A session that was open for so long does not count as a failure of its link.
const LASTS: Duration = Duration::from_secs(1);
/// As many failures as links that do not last count for, at most: 400 ms.
const SHORT: u32 = 3;
/// The most callers that a broker may introduce at once: as many sessions as it may have.
const MAX_CALLERS: usize = 1 << 20;

/// Whom a party dials, and how.
#[derive(Clone, Debug)]
pub struct PartyConfig {
    /// The broker's key; nobody else will do.
    pub broker: PeerId,
    /// Where it listens.
    pub addresses: Vec<Address>,
    /// Groups that this party serves, as a node.
    pub groups: Vec<String>,
    /// The token of an invite, to enrol instead of opening a session.
    pub enrol: Option<Bytes>,
    /// The first wait before the broker is dialled again, after a dial that failed; it doubles with each. 50 ms. A link
    /// that is lost is dialled again at once.
    pub redial_after: Duration,
    /// The longest such wait. 5 s.
    pub redial_at_most: Duration,
}

impl PartyConfig {
    /// To the broker of that key.
    pub fn new(broker: PeerId, addresses: Vec<Address>) -> Self {
        Self {
            broker,
            addresses,
            groups: Vec::new(),
            enrol: None,
            redial_after: Duration::from_millis(50),
            redial_at_most: Duration::from_secs(5),
        }
    }
}

/// What a call made here is to do.
#[derive(Clone, Debug)]
pub struct Placing {
    /// Which command; UTF-8, at most 128 bytes.
    pub command: Bytes,
    /// Its parameters, encoded.
    pub payload: Bytes,
    /// Where.
    pub to: Destination,
    /// What flows besides.
    pub shape: Shape,
    /// How long the answer may take.
    pub timeout: Option<Duration>,
}

/// What is under way in a party's session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnderWay {
    /// Calls of this party that are not over.
    pub calls: u32,
    /// Calls that run here, or wait to.
    pub calls_here: u32,
    /// Those of both that have streams.
    pub streams: u32,
    /// Items that are kept, to be sent or sent again.
    pub kept_items: usize,
    /// Their bytes.
    pub kept_bytes: usize,
    /// All that is held for the session, about, in bytes.
    pub held_bytes: u64,
}

/// A call that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Its answer comes under this name; none comes to a one-way call.
    pub id: CallId,
    /// The session that it goes by.
    pub session: SessionKey,
    /// Its number there.
    pub seq: u64,
}

impl Placed {
    /// The stream of messages of the call, from here or to here.
    pub const fn stream(&self, is_bulk: bool) -> StreamKey {
        StreamKey { session: self.session, call: self.seq, is_ours: true, is_bulk }
    }
}

impl Placing {
    /// As it travels, if it can.
    pub(crate) fn into_call(self, limit: u64) -> Result<Call, NotPlaced> {
        let Self { command, payload, to, shape, timeout } = self;
        let bytes = payload.len() as u64;
        if bytes > limit {
            return Err(NotPlaced::TooLong { bytes, limit });
        }
        let wrong = |what: String| Err(NotPlaced::NotOpen(Status::invalid_argument(what)));
        if command.len() > MAX_COMMAND || std::str::from_utf8(&command).is_err() {
            let len = command.len();
            return wrong(format!(
                "a command's name is UTF-8 of at most {MAX_COMMAND} bytes, and this has {len}"
            ));
        }
        if let Destination::Group(group) = &to
            && !(1..=MAX_GROUP).contains(&group.len())
        {
            return wrong(format!("a group's name has 1 to {MAX_GROUP} bytes, and this has {}", group.len()));
        }
        if Shape::from_bits(shape.bits()).is_none() {
            return wrong("nothing flows besides a one-way call".to_owned());
        }
        let timeout_micros = micros(timeout);
        Ok(Call { command, payload, to, timeout_micros, shape, caller: 0, origin: 0 })
    }
}

/// Why a call was not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotPlaced {
    /// Too much is under way; [`Event::Slots`] will tell.
    Full(Status),
    /// There is no session, and will not be before it is told; or nobody would take such a call.
    NotOpen(Status),
    /// It is longer than the limit, in bytes.
    TooLong {
        /// What it has.
        bytes: u64,
        /// What it may have.
        limit: u64,
    },
}

#[derive(Debug)]
enum State {
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
    config: PartyConfig,
    rng: Rng,
    state: State,
    /// Links to the broker that are up, for the next try.
    up: BTreeMap<LinkId, LinkInfo>,
    talk: Option<Talk>,
    id: Option<SessionId>,
    grace: Duration,
    /// When the session counts as lost, while it has no link.
    lost_at: Option<Instant>,
    callers: BTreeMap<u64, Arc<Caller>>,
    gates: BTreeMap<u64, Gate>,
    /// Callers of one-way calls that are running.
    one_ways: BTreeMap<u64, u64>,
    /// The session is to end when its one-way calls are done.
    is_leaving: bool,
    /// The start of the broker that has said that it has the session from its journal.
    restored_by: Option<Incarnation>,
    /// When the session was opened on its present link.
    opened_at: Instant,
    next_session: u64,
    next_call: u64,
    next_dial: u64,
    failures: u32,
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

    // --- commands ---

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
            .call(now.mono, call, OutOwner::Local(id))
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
        if self.talk_of(run.session).is_none() {
            return;
        }
        if let Some(talk) = &mut self.talk {
            talk.reply(now.mono, run.seq, result.map_err(Box::new));
        }
        if let Some(caller) = self.one_ways.remove(&run.seq) {
            if let Some(gate) = self.gates.get_mut(&caller) {
                gate.done(run.seq);
            }
            self.run_waiting(caller, out);
        }
        self.pump(out);
    }

    /// Sends a message on a stream, or a piece of bulk data; gives it back when there is no credit, and
    /// [`Event::Room`] follows.
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

    fn talk_of(&mut self, session: SessionKey) -> Option<&mut Talk> {
        self.talk.as_mut().filter(|talk| talk.key == session)
    }

    fn pump(&mut self, out: &mut Out) {
        let Some(talk) = &mut self.talk else { return };
        if self.is_leaving && talk.has_no_one_ways() {
            self.is_leaving = false;
            talk.session.push(false, &Item::Leave, Until::Acknowledged);
        }
        talk.pump(out);
    }

    // --- the link ---

    fn dial(&mut self, out: &mut Out) {
        let id = DialId(self.next_dial);
        self.next_dial += 1;
        let target = Target::Peer { peer: self.config.broker, addresses: self.config.addresses.clone() };
        out.dial(id, target);
        self.state = State::Dialing(id);
    }

    fn dial_later(&mut self, now: Instant) {
        let doubled = self.config.redial_after.saturating_mul(1 << self.failures.min(16));
        let mut most = doubled.min(self.config.redial_at_most);
        if self.talk.is_some() {
            // Not so long that the session is lost for it.
            most = most.min(self.grace / 4);
        }
        let most = most.max(Duration::from_millis(1));
        self.failures = self.failures.saturating_add(1);
        // Between half of it and all, so that those whom one broker lost do not come back in step.
        let micros = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
        let wait = micros / 2 + self.rng.below(micros / 2 + 1);
        self.state = State::Away(now + Duration::from_micros(wait));
    }

    fn on_up(&mut self, now: Instant, link: LinkId, info: LinkInfo, out: &mut Out) {
        if info.peer != self.config.broker {
            return;
        }
        self.up.insert(link, info);
        if matches!(self.state, State::Away(_) | State::Dialing(_)) {
            self.open(now, link, out);
        }
    }

    fn open(&mut self, now: Instant, link: LinkId, out: &mut Out) {
        let Some(info) = self.up.get(&link).cloned() else { return };
        out.push(Effect::Hold(link));
        let body = match &self.config.enrol {
            Some(token) => Body::Enrol { token: token.clone() },
            None => Body::Open(Open {
                session: self.id,
                lanes: self.talk.as_ref().map_or_else(Lanes::default, |talk| talk.session.lanes()),
                groups: self.config.groups.clone(),
            }),
        };
        out.control(link, Packet::from(body));
        self.state = State::Opening { link, info: Box::new(info), until: now + OPEN_WITHIN };
    }

    fn on_down(&mut self, now: Instant, link: LinkId, why: Why, out: &mut Out) {
        if self.up.remove(&link).is_none() {
            return;
        }
        match &self.state {
            State::Opening { link: at, .. } if *at == link => self.lose_link(now, why, out),
            State::Open(at) if *at == link => {
                // A link that does not last is not dialled again at once, over and over.
                let is_short = now.since(self.opened_at) < LASTS;
                self.failures = if is_short { self.failures.clamp(1, SHORT) } else { 0 };
                self.lose_link(now, why, out);
            }
            _ => {}
        }
    }

    fn lose_link(&mut self, now: Instant, why: Why, out: &mut Out) {
        if let Some(talk) = &mut self.talk
            && talk.session.link().is_some()
        {
            talk.session.adrift();
            self.lost_at = Some(now + self.grace);
            out.emit(Event::Adrift { session: talk.key, why });
        }
        // Another link may have come up meanwhile.
        if let Some(link) = self.up.keys().next().copied() {
            return self.open(now, link, out);
        }
        if self.failures == 0 {
            self.failures = 1;
            self.dial(out);
        } else {
            self.dial_later(now);
        }
    }

    fn let_go(&mut self, out: &mut Out) {
        for link in std::mem::take(&mut self.up).into_keys() {
            out.push(Effect::Release(link));
        }
    }

    // --- the session ---

    fn on_opened(
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
        let talk = match self.talk.take() {
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
                talk.limits = opened.limits;
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
                Talk::new(key, session, opened.limits)
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
            limits: opened.limits,
        });
        self.state = State::Open(link);
        self.talk.insert(talk).tell_slots(out);
        self.pump(out);
        Ok(())
    }

    /// Calls of the broker that run here are not wanted any more.
    fn stop_running(&mut self, talk: &mut Talk, out: &mut Out) {
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
    fn end(&mut self, mut talk: Talk, status: &Status, out: &mut Out) {
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

    fn lose_session(&mut self, status: &Status, out: &mut Out) {
        if let Some(talk) = self.talk.take() {
            self.end(talk, status, out);
        }
    }

    fn on_refused(&mut self, now: Instant, status: Status, session_lost: bool, out: &mut Out) {
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

    fn on_body(
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
                    talk.on_ack(ack, out)?;
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

    fn on_item(
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

    fn on_heard(&mut self, now: Instant, heard: Heard, out: &mut Out) -> Result<(), String> {
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

    fn on_call(&mut self, now: Instant, seq: u64, call: Call, out: &mut Out) -> Result<(), String> {
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
            self.run(seq, call, out);
        }
        Ok(())
    }

    fn run_waiting(&mut self, caller: u64, out: &mut Out) {
        loop {
            let Some(gate) = self.gates.get_mut(&caller) else { return };
            let Some((seq, call)) = gate.next() else { return };
            self.run(seq, call, out);
        }
    }

    fn run(&mut self, seq: u64, call: Call, out: &mut Out) {
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
    fn break_off(&mut self, now: Instant, seq: u64, status: Status) {
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

impl Machine for PartyMachine {
    type Message = Packet;
    type Event = Event;
    type Answer = Answer;

    fn on_input(&mut self, now: Now, input: Input<Packet>, out: &mut OutboxOf<Self>) {
        match input {
            Input::Up { link, info } => self.on_up(now.mono, link, info, out),
            Input::Down { link, why } => self.on_down(now.mono, link, why, out),
            Input::Message { link, message } => {
                let read = message.into_body().map_err(|malformed| malformed.to_string());
                if let Err(fault) =
                    read.and_then(|(body, size)| self.on_body(now.mono, link, body, size, out))
                {
                    tracing::debug!(%link, fault, "the broker broke the protocol");
                    let why = Why::Fault { by: Side::Them, what: fault };
                    out.push(Effect::CloseChannel { link, why });
                }
                self.pump(out);
            }
            Input::Credit { link, bytes, .. } => {
                if let Some(talk) = self.talk.as_mut().filter(|talk| talk.session.link() == Some(link)) {
                    talk.session.room(bytes);
                    talk.pump(out);
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
