//! Sessions: how they begin, lose their links, and end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use peerage_machine::{Effect, Instant, LinkId, LinkInfo, Side, Why};
use peerage_wire::PeerId;

use super::again::{Lost, OnceMore};
use super::journal::Journal;
use super::machine::{BrokerMachine, Sess, Timer};
use crate::accounts::Kind;
use crate::event::{Caller, Event, Out, RunKey, SessionKey};
use crate::gate::Gate;
use crate::lane::Until;
use crate::packet::{Body, Item, Packet, SessionId, Stream};
use crate::session::Session;
use crate::status::Status;
use crate::talk::{GivenUp, ITEM_COST, InOwner, OutOwner, Talk};

/// How many sessions that were superseded are remembered: who did not hear it, and comes back, does not supersede in turn.
const SUPERSEDED: usize = 1024;

pub(super) fn taken_over() -> Status {
    Status::aborted("another start of this node has taken its place")
}

/// The longest offers, in bytes; longer ones are not sent, which is logged and counted. Nor are those that a party's link does not take
/// (`LinkConfig::max_message`).
pub const MAX_OFFERS: usize = 1 << 20;

impl BrokerMachine {
    /// A new session of that peer. A node has one: another one ends.
    pub(super) fn begin(&mut self, info: &LinkInfo, kind: Kind, out: &mut Out) -> Result<SessionKey, Status> {
        let others = self.by_peer.get(&info.peer).cloned().unwrap_or_default();
        match kind {
            Kind::Node => {
                for other in others {
                    let status = taken_over();
                    if let Some(session) = self.sessions.get(&other) {
                        self.superseded.push_back((session.id, session.peer));
                        let extra = self.superseded.len().saturating_sub(SUPERSEDED);
                        self.superseded.drain(..extra);
                    }
                    self.end(other, &status, out);
                }
            }
            Kind::User if others.len() >= self.config.max_sessions_per_user => {
                let limit = self.config.max_sessions_per_user;
                return Err(Status::resource_exhausted(format!(
                    "the user has {limit} sessions, which is the limit"
                )));
            }
            Kind::User => {}
        }
        if self.sessions.len() >= self.config.max_sessions {
            let limit = self.config.max_sessions;
            return Err(Status::resource_exhausted(format!(
                "there are {limit} sessions, which is the limit"
            )));
        }
        let bytes = self.rng.bytes();
        let mut id = [0; 16];
        id.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        let id = SessionId(id);
        let key = self.place(id, info.peer, kind, Journal::new(id, self.config.journal));
        self.journal_begins(key, out);
        Ok(key)
    }

    fn place(&mut self, id: SessionId, peer: PeerId, kind: Kind, journal: Journal) -> SessionKey {
        let key = SessionKey(self.next_session);
        self.next_session += 1;
        let session = Sess {
            talk: Talk::new(key, Session::default(), self.config.limits_of(kind)),
            id,
            peer,
            kind,
            caller: Arc::new(Caller { peer, kind: Some(kind), session: id }),
            gate: Gate::default(),
            introduced_to: BTreeSet::new(),
            knows: BTreeSet::new(),
            groups: Vec::new(),
            takes: u64::MAX,
            last_given: 0,
            offers_sent: None,
            offers_waiting: None,
            timed: None,
            journal,
            counted: 0,
            is_touched: false,
        };
        self.sessions.insert(key, session);
        self.by_id.insert(id, key);
        self.by_peer.entry(peer).or_default().insert(key);
        key
    }

    /// A session from before this start.
    pub(super) fn bring_back(
        &mut self,
        now: Instant,
        id: SessionId,
        peer: PeerId,
        kind: Kind,
        journal: Journal,
    ) {
        let key = self.place(id, peer, kind, journal);
        self.timers.arm(Timer::Adrift(key), now + self.grace_of(kind));
    }

    pub(super) fn grace_of(&self, kind: Kind) -> Duration {
        match kind {
            Kind::User => self.config.grace,
            Kind::Node => self.config.node_grace,
        }
    }

    /// The session's link is gone.
    pub(super) fn adrift(&mut self, now: Instant, key: SessionKey, link: LinkId, why: Why, out: &mut Out) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        if session.talk.session.link() != Some(link) {
            return;
        }
        session.talk.session.adrift();
        let kind = session.kind;
        self.timers.arm(Timer::Adrift(key), now + self.grace_of(kind));
        if kind == Kind::Node && matches!(why, Why::Shutdown { by: Side::Them, .. }) {
            // Its endpoint has said that it ends, and what it was given ends with it: nobody needs to wait for its grace,
            // but what another start of it may run.
            return self.end(key, &Status::unavailable(format!("the node is gone: {why}")), out);
        }
        self.disappears(key);
        out.emit(Event::Adrift { session: key, why });
    }

    pub(super) fn adrift_too_long(&mut self, key: SessionKey, out: &mut Out) {
        let Some(session) = self.sessions.get(&key) else { return };
        let (what, grace) = match session.kind {
            Kind::User => ("user", self.config.grace),
            Kind::Node => ("node", self.config.node_grace),
        };
        let status = Status::unavailable(format!("the {what} has not come back for {grace:?}"));
        self.end(key, &status, out);
    }

    /// A node can be called.
    pub(super) fn appears(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.get(&key).filter(|session| session.kind == Kind::Node) else {
            return;
        };
        self.nodes.insert(session.peer, key);
        for group in &session.groups {
            self.groups.entry(group.clone()).or_default().insert(key);
        }
    }

    /// A node cannot be called.
    pub(super) fn disappears(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.get(&key) else { return };
        if self.nodes.get(&session.peer) == Some(&key) {
            self.nodes.remove(&session.peer);
        }
        for group in &session.groups {
            if let Some(members) = self.groups.get_mut(group) {
                members.remove(&key);
                if members.is_empty() {
                    self.groups.remove(group);
                }
            }
        }
    }

    /// Ends a session, whatever is under way; its party is told why.
    pub fn end_session(&mut self, key: SessionKey, status: &Status, out: &mut Out) {
        self.end(key, status, out);
        self.settle(out);
    }

    /// Ends all sessions of that peer.
    pub(super) fn end_all(&mut self, peer: &PeerId, status: &Status, out: &mut Out) {
        for key in self.by_peer.get(peer).cloned().unwrap_or_default() {
            self.end(key, status, out);
        }
    }

    pub(super) fn end(&mut self, key: SessionKey, status: &Status, out: &mut Out) {
        self.disappears(key);
        let Some(mut session) = self.sessions.remove(&key) else { return };
        self.by_id.remove(&session.id);
        self.held.change(session.peer, session.counted, 0);
        if let Some(keys) = self.by_peer.get_mut(&session.peer) {
            keys.remove(&key);
            if keys.is_empty() {
                self.by_peer.remove(&session.peer);
            }
        }
        // What of its grace is left, its calls that may be run again wait for its next start.
        let grace =
            if session.talk.session.link().is_some() { self.config.node_grace } else { Duration::ZERO };
        let until = self.timers.at(&Timer::Adrift(key)).unwrap_or(self.now + grace);
        self.timers.cancel(&Timer::Adrift(key));
        self.timers.cancel(&Timer::Talk(key));
        self.forget_all_waiting(key);
        if let Some(link) = session.talk.session.link() {
            if let Some(state) = self.links.get_mut(&link) {
                state.is_done = true;
            }
            let (detail, mut told) = (status.to_string(), status.clone());
            told.fit(&session.talk.limits);
            out.control(link, Packet::from(Body::Ended(told)));
            out.push(Effect::CloseChannel { link, why: Why::ChannelClosed { by: Side::Us, detail } });
        }
        for (seq, owner) in session.talk.give_up_theirs() {
            match owner {
                InOwner::Local => out.emit(Event::Cancelled(RunKey { session: key, seq })),
                InOwner::Waiting => {}
                InOwner::Relayed { to, seq } => {
                    if let Some(node) = self.sessions.get_mut(&to) {
                        node.talk.cancel(seq);
                        self.touch(to);
                    }
                }
            }
        }
        let why = Arc::new(Status::unavailable(status.message.clone()));
        for call in session.talk.give_up_ours() {
            let (node, why, may_have_run) = (session.peer, why.clone(), call.may_have_run);
            self.give_up(key, call, Lost { node, why, may_have_run, until }, out);
        }
        for node in std::mem::take(&mut session.introduced_to) {
            if let Some(node_session) = self.sessions.get_mut(&node) {
                node_session.knows.remove(&key);
                node_session.talk.session.push(false, &Item::Gone { caller: key.0 }, Until::Acknowledged);
                self.touch(node);
            }
        }
        for caller in std::mem::take(&mut session.knows) {
            if let Some(caller) = self.sessions.get_mut(&caller) {
                caller.introduced_to.remove(&key);
            }
        }
        self.journal_ends(&mut session, out);
        session.talk.tell_slots(out);
        out.emit(Event::Closed {
            session: key,
            status: Box::new(status.clone()),
            last_acknowledged: session.talk.session.known_done(),
        });
    }

    /// A call to a session that is over.
    fn give_up(&mut self, key: SessionKey, call: GivenUp, lost: Lost, out: &mut Out) {
        match call.owner {
            OutOwner::Abandoned => {}
            OutOwner::Local(_) => crate::party::fail(key, call, &lost.status(), out),
            OutOwner::Relayed { from, seq } => {
                let Some(caller) = self.sessions.get_mut(&from) else { return };
                if call.is_replied {
                    let stream = Stream { call: seq, to_caller: true };
                    caller.talk.pass(true, Item::End { stream, status: Some(lost.status()) });
                    self.touch(from);
                } else if let Some(again) = caller.talk.take_again(seq) {
                    self.again.push(OnceMore { from, seq, again, lost });
                } else {
                    self.on_reply(self.now, from, seq, Err(lost.status()), out);
                }
            }
        }
    }

    /// What the application has for a user, all of it, at most [`MAX_OFFERS`] bytes: sent to each of its sessions, and to those
    /// that it begins.
    pub fn offer(&mut self, user: PeerId, resources: Bytes, out: &mut Out) {
        if resources.len() > MAX_OFFERS {
            let (bytes, user) = (resources.len(), user.short());
            tracing::error!(bytes, %user, "offers of more than {MAX_OFFERS} bytes are not sent");
            out.count("rpc_long_offers_total", 1);
            return;
        }
        if resources.is_empty() {
            self.offers.remove(&user);
        } else {
            self.offers.insert(user, resources.clone());
        }
        for key in self.by_peer.get(&user).cloned().unwrap_or_default() {
            if let Some(session) = self.sessions.get_mut(&key) {
                session.offers_waiting = Some(resources.clone());
            }
            self.send_offers(key, out);
        }
        self.settle(out);
    }

    /// A session begins: its first offers.
    pub(super) fn offer_to(&mut self, key: SessionKey, out: &mut Out) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        session.offers_waiting = self.offers.get(&session.peer).cloned();
        self.send_offers(key, out);
    }

    /// Sends the newest offers when the last ones have arrived: a party that does not read makes no queue.
    pub(super) fn send_offers(&mut self, key: SessionKey, out: &mut Out) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        if session.offers_sent.is_some() || !session.journal.is_resumed() {
            return;
        }
        let Some(resources) = session.offers_waiting.take() else { return };
        let bytes = resources.len();
        if (bytes as u64).saturating_add(ITEM_COST) > session.takes {
            let (user, takes) = (session.peer.short(), session.takes);
            tracing::error!(bytes, %user, takes, "offers are longer than the link takes, and are not sent");
            return out.count("rpc_long_offers_total", 1);
        }
        session.offers_sent =
            Some(session.talk.session.push(false, &Item::Offers(resources), Until::Acknowledged));
        self.touch(key);
    }
}
