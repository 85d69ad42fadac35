//! The broker's machine: its state, and what the world tells it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use peerage_machine::{
    Effect, Input, Instant, LinkId, LinkInfo, Machine, Now, OpId, OutboxOf, Rng, Seed, Side, Timers, Why,
    Write,
};
use peerage_wire::PeerId;

use super::again::{OnceMore, Waiting};
use super::config::{BrokerConfig, WorstCase};
use super::held::{Held, STEP};
use super::journal::{Journal, Pending};
use crate::accounts::{Accounts, Kind};
use crate::event::{Answer, Caller, Event, Out, SessionKey};
use crate::gate::Gate;
use crate::packet::{Body, Call, Packet, SessionId};
use crate::party::name_of;
use crate::status::Status;
use crate::talk::{Cost, Payer, Talk};

/// A link, with or without a session.
#[derive(Debug)]
pub(super) struct LinkState {
    pub(super) info: Box<LinkInfo>,
    pub(super) session: Option<SessionKey>,
    /// Wrong tokens that it has shown.
    pub(super) tries: u32,
    /// What else it says does not count: its session has another link, or is over.
    pub(super) is_done: bool,
}

/// A party's session.
#[derive(Debug)]
pub(super) struct Sess {
    pub(super) talk: Talk,
    pub(super) id: SessionId,
    pub(super) peer: PeerId,
    pub(super) kind: Kind,
    pub(super) caller: Arc<Caller>,
    pub(super) gate: Gate,
    /// Nodes that this caller was introduced to.
    pub(super) introduced_to: BTreeSet<SessionKey>,
    /// Callers that this node knows.
    pub(super) knows: BTreeSet<SessionKey>,
    pub(super) groups: Vec<Bytes>,
    /// The longest packet that its link takes, in bytes.
    pub(super) takes: u64,
    /// When it was last given a call of a group, as a count.
    pub(super) last_given: u64,
    /// The last offers that were sent, until they are acknowledged.
    pub(super) offers_sent: Option<u64>,
    /// Newer ones wait for that.
    pub(super) offers_waiting: Option<Bytes>,
    /// When its calls are looked at next.
    pub(super) timed: Option<Instant>,
    /// What of it is kept for a restart.
    pub(super) journal: Journal,
    /// What of it counts as held for its account.
    pub(super) counted: u64,
    /// Whether it is among the touched ones.
    pub(super) is_touched: bool,
}

impl Sess {
    /// Something of it waits to be sent, or to be timed.
    #[inline]
    pub(super) fn touch(&mut self, key: SessionKey, touched: &mut Vec<SessionKey>) {
        if !std::mem::replace(&mut self.is_touched, true) {
            touched.push(key);
        }
    }

    /// What a call takes of a node's room: it counts to its caller's account, in however many sessions that calls.
    pub(super) fn cost_of(&self, call: &Call) -> Cost {
        Cost::of(call.payload.len(), call.shape, Some(Payer::Account(self.peer)))
    }
}

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// A link without a session.
    Unopened(LinkId),
    /// A session without a link.
    Adrift(SessionKey),
    /// Something of a session's calls.
    Talk(SessionKey),
    /// A call that waits for a node.
    Again(SessionKey, u64),
}

/// A session, as a dashboard sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    /// Names it here.
    pub key: SessionKey,
    /// Its name.
    pub id: SessionId,
    /// Whose it is.
    pub peer: PeerId,
    /// What that one is.
    pub kind: Kind,
    /// Whether it has a link now.
    pub is_linked: bool,
    /// Groups that it serves.
    pub groups: Vec<Bytes>,
    /// Calls of the party that are under way.
    pub calls: u32,
    /// Calls to the party that are under way.
    pub calls_to: u32,
    /// Those of both that have streams.
    pub streams: u32,
    /// Items that are kept for it, to be sent or sent again.
    pub kept_items: usize,
    /// Their bytes.
    pub kept_bytes: usize,
    /// All that is held of it, about, in bytes: at most [`BrokerConfig::worst_case_session_bytes`], or for
    /// a node's [`BrokerConfig::worst_case_node_bytes`].
    pub held_bytes: u64,
}

/// The machine of a broker.
#[derive(Debug)]
pub struct BrokerMachine {
    pub(super) config: BrokerConfig,
    pub(super) accounts: Accounts,
    pub(super) rng: Rng,
    pub(super) links: BTreeMap<LinkId, LinkState>,
    pub(super) unopened: usize,
    pub(super) sessions: BTreeMap<SessionKey, Sess>,
    pub(super) by_id: BTreeMap<SessionId, SessionKey>,
    pub(super) by_peer: BTreeMap<PeerId, BTreeSet<SessionKey>>,
    /// Nodes with a link.
    pub(super) nodes: BTreeMap<PeerId, SessionKey>,
    /// Their groups.
    pub(super) groups: BTreeMap<Bytes, BTreeSet<SessionKey>>,
    /// What each user is offered.
    pub(super) offers: BTreeMap<PeerId, Bytes>,
    pub(super) timers: Timers<Timer>,
    /// Sessions with something to send.
    pub(super) touched: Vec<SessionKey>,
    /// What waits for the store.
    pub(super) pending: BTreeMap<OpId, Pending>,
    /// To be removed from the store with what is written next.
    pub(super) garbage: Vec<Write>,
    /// Calls whose nodes are gone, and that may be run again.
    pub(super) again: Vec<OnceMore>,
    /// Those for which no node is there.
    pub(super) waiting: BTreeMap<(SessionKey, u64), Waiting>,
    /// Sessions that ended because their node was started elsewhere, the last of them: who comes back hears that.
    pub(super) superseded: VecDeque<(SessionId, PeerId)>,
    /// The most that is held for a session.
    pub(super) worst_case: WorstCase,
    /// What is held for all accounts.
    pub(super) held: Held,
    /// The last reading of the clock.
    pub(super) now: Instant,
    pub(super) next_session: u64,
    pub(super) next_call: u64,
    pub(super) next_op: u64,
}

impl BrokerMachine {
    /// A broker with these accounts and, from its journal, these sessions.
    pub fn new(
        config: BrokerConfig,
        accounts: Accounts,
        journal: impl IntoIterator<Item = (Bytes, Bytes)>,
        now: Now,
        seed: &Seed,
    ) -> Self {
        let config = config.within_bounds();
        let mut machine = Self {
            accounts,
            rng: seed.fork("broker").rng(),
            links: BTreeMap::new(),
            unopened: 0,
            sessions: BTreeMap::new(),
            by_id: BTreeMap::new(),
            by_peer: BTreeMap::new(),
            nodes: BTreeMap::new(),
            groups: BTreeMap::new(),
            offers: BTreeMap::new(),
            timers: Timers::new(),
            touched: Vec::new(),
            pending: BTreeMap::new(),
            garbage: Vec::new(),
            again: Vec::new(),
            waiting: BTreeMap::new(),
            superseded: VecDeque::new(),
            worst_case: config.worst_case(),
            held: Held::default(),
            config,
            now: now.mono,
            // 0 is the broker itself.
            next_session: 1,
            next_call: 0,
            next_op: 0,
        };
        machine.restore(now, journal);
        machine
    }

    /// Who may talk.
    pub fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// All sessions, in the order in which they came.
    pub fn sessions(&self) -> impl Iterator<Item = SessionInfo> + '_ {
        self.sessions.iter().map(|(key, session)| {
            let (calls, calls_to) = session.talk.load();
            let (kept_items, kept_bytes) = session.talk.session.kept();
            SessionInfo {
                key: *key,
                id: session.id,
                peer: session.peer,
                kind: session.kind,
                is_linked: session.talk.session.link().is_some(),
                groups: session.groups.clone(),
                calls,
                calls_to,
                streams: session.talk.streams(),
                kept_items,
                kept_bytes,
                held_bytes: session.talk.held_bytes(),
            }
        })
    }

    /// Nodes that are there, with their sessions.
    pub fn nodes(&self) -> impl Iterator<Item = (PeerId, SessionKey)> + '_ {
        self.nodes.iter().map(|(peer, key)| (*peer, *key))
    }

    /// Something of the session waits to be sent, or to be timed.
    pub(super) fn touch(&mut self, key: SessionKey) {
        if let Some(session) = self.sessions.get_mut(&key) {
            session.touch(key, &mut self.touched);
        }
    }

    /// Sends what waits, of all sessions that something happened to.
    pub(super) fn settle(&mut self, out: &mut Out) {
        self.pass_on_again(out);
        while let Some(key) = self.touched.pop() {
            let Some(mut session) = self.sessions.get_mut(&key) else { continue };
            session.is_touched = false;
            session.talk.pump(out);
            let held = session.talk.held_bytes();
            let limit = self.worst_case.of(session.kind);
            if held > limit {
                out.count("rpc_hoarders_total", 1);
                let status = Status::resource_exhausted(format!(
                    "{held} bytes are held for it, which acknowledges nothing; the limit is {limit}"
                ));
                self.end(key, &status, out);
                self.pass_on_again(out);
                continue;
            }
            if held.abs_diff(session.counted) >= STEP {
                self.count_held(key, held, out);
                match self.sessions.get_mut(&key) {
                    Some(still) => session = still,
                    None => continue,
                }
            }
            let deadline = session.talk.deadline();
            if deadline == session.timed {
                continue;
            }
            session.timed = deadline;
            match deadline {
                Some(at) => self.timers.arm(Timer::Talk(key), at),
                None => {
                    self.timers.cancel(&Timer::Talk(key));
                }
            }
        }
    }

    fn on_body(
        &mut self,
        now: Now,
        link: LinkId,
        body: Body,
        size: usize,
        out: &mut Out,
    ) -> Result<(), String> {
        let Some(state) = self.links.get(&link) else { return Ok(()) };
        if state.is_done {
            return Ok(());
        }
        match (body, state.session) {
            (Body::Item { seq, bulk, item }, Some(key)) => {
                self.on_item(now.mono, key, (seq, bulk), item, size, out)
            }
            (Body::Ack(ack), Some(key)) => self.on_ack(now.mono, key, ack, out),
            (Body::Open(open), None) => self.on_open(link, open, out),
            (Body::Enrol { token }, None) => self.on_enrol(now, link, &token, out),
            (body, _) => Err(format!("it said {} at the wrong time", name_of(&body))),
        }
    }

    /// The party at the other end of the link broke the protocol: the link ends, and whatever it did is counted.
    fn on_fault(&mut self, link: LinkId, fault: String, out: &mut Out) {
        tracing::debug!(%link, fault, "a party broke the protocol");
        out.count("rpc_faults_total", 1);
        if let Some(state) = self.links.get_mut(&link) {
            state.is_done = true;
        }
        out.push(Effect::CloseChannel { link, why: Why::Fault { by: Side::Them, what: fault } });
    }
}

impl Machine for BrokerMachine {
    type Message = Packet;
    type Event = Event;
    type Answer = Answer;

    fn on_input(&mut self, now: Now, input: Input<Packet>, out: &mut OutboxOf<Self>) {
        self.now = now.mono;
        match input {
            Input::Message { link, message } => {
                for read in message.into_bodies() {
                    let read = read.map_err(|malformed| malformed.to_string());
                    if let Err(fault) = read.and_then(|(body, size)| self.on_body(now, link, body, size, out))
                    {
                        self.on_fault(link, fault, out);
                        break;
                    }
                }
            }
            Input::Credit { link, class, bytes } => {
                if let Some(key) = self.links.get(&link).and_then(|state| state.session)
                    && let Some(session) = self.sessions.get_mut(&key)
                {
                    session.talk.session.room(class, bytes);
                    if session.talk.waits_for_room() {
                        self.touch(key);
                    }
                }
            }
            Input::Up { link, info } => self.on_up(now.mono, link, info, out),
            Input::Down { link, why } => self.on_down(now.mono, link, why, out),
            Input::Stored { op, result } => self.on_stored(now.mono, op, result, out),
            Input::Dialed { .. }
            | Input::DialFailed { .. }
            | Input::Undelivered { .. }
            | Input::Verified { .. }
            | Input::Rtt { .. }
            | Input::OwnAddresses(_) => {}
        }
        self.settle(out);
    }

    fn on_timer(&mut self, now: Now, out: &mut OutboxOf<Self>) {
        self.now = now.mono;
        while let Some(timer) = self.timers.expire(now.mono) {
            match timer {
                Timer::Unopened(link) => self.unopened_too_long(link, out),
                Timer::Adrift(key) => self.adrift_too_long(key, out),
                Timer::Talk(key) => self.on_talk_timer(now.mono, key, out),
                Timer::Again(key, seq) => self.waited_too_long(key, seq),
            }
        }
        self.settle(out);
    }

    fn deadline(&self) -> Option<Instant> {
        self.timers.deadline()
    }
}
