//! Whispers: to one peer, which confirms.
//!
//! A whisper goes over the link to its target if there is one. Otherwise it goes hop by hop: every peer remembers the link
//! by which an origin's messages last came, and a whisper to that origin goes back there; each hop with a link to the
//! target takes the short cut. If no such way is known or it fails, the target is dialled where an address is known.
//! The result goes back the way that the whisper came.

mod audit;
mod peers;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use peerage_identity::Identity;
use peerage_machine::{CallId, DialId, Instant, JobId, LinkId, Message as _, Target, Timers, Why};
use peerage_wire::PeerId;

use super::config::MeshConfig;
use super::convert::Draft;
use super::error::WhisperError;
use super::event::MeshAnswer;
use super::links::{Cx, Need, Sent};
use super::lru::Lru;
use super::message::{MessageId, Signed};
use super::packet::{Contact, MAX_PARTS, Outcome, Packet, Words};

const DOMAIN: &str = "peerage mesh whisper v1";
const DELIVERED_DOMAIN: &str = "peerage mesh whisper delivered v1";
/// What a whisper takes beside its body.
const OVERHEAD: u64 = 96;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Link(LinkId),
    Routed(LinkId),
    Dialling(DialId),
}

#[derive(Debug)]
struct Call {
    message: Signed,
    target: PeerId,
    way: Option<Way>,
    tried_link: bool,
    tried_route: bool,
    tried_dial: bool,
    why: Option<Why>,
    full: bool,
}

#[derive(Clone, Copy, Debug)]
struct Relay {
    back: LinkId,
    to: LinkId,
    until: Instant,
}

#[derive(Debug)]
enum Verifying {
    Whisper { link: LinkId, message: Signed, hops: u32 },
    Delivered { link: LinkId, id: MessageId },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// The call as a whole.
    Call(CallId),
    /// Its present way.
    Way(CallId),
}

/// Where a peer that is not linked may be dialled.
pub(crate) trait Directory {
    fn contact(&self, peer: &PeerId) -> Option<Contact>;
}

#[derive(Debug)]
pub(crate) struct Direct {
    config: Arc<MeshConfig>,
    identity: Arc<Identity>,
    me: PeerId,
    epoch: u64,
    next_seq: u64,
    timers: Timers<Timer>,
    calls: BTreeMap<CallId, Call>,
    by_seq: BTreeMap<u64, CallId>,
    bytes: u64,
    dials: BTreeMap<DialId, CallId>,
    relays: Lru<MessageId, Relay>,
    /// Whispers to us that were given to the application.
    delivered: Lru<MessageId, ()>,
    routes: Lru<PeerId, LinkId>,
    verifying: BTreeMap<JobId, Verifying>,
    verifying_bytes: u64,
}

impl Direct {
    pub(crate) fn new(config: Arc<MeshConfig>, identity: Arc<Identity>, epoch: u64) -> Self {
        Self {
            me: identity.peer_id(),
            identity,
            epoch,
            next_seq: 1,
            timers: Timers::new(),
            calls: BTreeMap::new(),
            by_seq: BTreeMap::new(),
            bytes: 0,
            dials: BTreeMap::new(),
            relays: Lru::new(config.relays),
            delivered: Lru::new(config.relays),
            routes: Lru::new(config.routes),
            verifying: BTreeMap::new(),
            verifying_bytes: 0,
            config,
        }
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.timers.deadline()
    }

    pub(crate) fn pending(&self) -> usize {
        self.calls.len()
    }

    /// An origin's message came by this link, verified.
    pub(crate) fn learn(&mut self, origin: PeerId, link: LinkId) {
        if origin != self.me {
            *self.routes.touch(&origin, || link).0 = link;
        }
    }

    // From here.

    pub(crate) fn whisper(
        &mut self,
        target: PeerId,
        parts: Vec<Bytes>,
        directory: &impl Directory,
        cx: &mut Cx<'_>,
    ) -> Result<CallId, WhisperError> {
        if target == self.me {
            return Err(WhisperError::ToSelf);
        }
        if parts.is_empty() || parts.len() > MAX_PARTS {
            return Err(WhisperError::Parts { found: parts.len(), limit: MAX_PARTS });
        }
        let config = Arc::clone(&self.config);
        let id = MessageId { origin: self.me, epoch: self.epoch, seq: self.next_seq };
        let draft = Draft { network: &config.name, id, sent: cx.now.wall, parts, target: Some(target) };
        let size = draft.len() as u64;
        if size > config.max_message {
            return Err(WhisperError::TooLarge { size, limit: config.max_message });
        }
        let (limit, limit_bytes) = config.whispers;
        if self.calls.len() >= limit || (self.bytes + size > limit_bytes && self.bytes > 0) {
            return Err(WhisperError::Busy {
                pending: self.calls.len(),
                bytes: self.bytes,
                limit,
                limit_bytes,
            });
        }
        if let Some(link) = cx.links.to(&target).and_then(|link| cx.links.get(link))
            && !link.has_room(size + OVERHEAD)
        {
            return Err(WhisperError::Full { peer: target });
        }
        let message = draft.sign(|bytes| self.identity.sign(DOMAIN, bytes));
        self.next_seq += 1;
        self.bytes += message.footprint();
        let call = cx.ids.call();
        let state = Call {
            message,
            target,
            way: None,
            tried_link: false,
            tried_route: false,
            tried_dial: false,
            why: None,
            full: false,
        };
        self.calls.insert(call, state);
        self.by_seq.insert(id.seq, call);
        self.timers.arm(Timer::Call(call), cx.now.mono + self.config.whisper_within);
        self.advance(call, directory, cx);
        Ok(call)
    }

    /// Gives a whisper up: nobody waits for its answer. Whether it was pending. It may still arrive.
    pub(crate) fn cancel(&mut self, call: CallId, cx: &mut Cx<'_>) -> bool {
        self.close(call, cx).is_some()
    }

    /// Tries the next way of a call: a link, a route, a dial.
    fn advance(&mut self, call: CallId, directory: &impl Directory, cx: &mut Cx<'_>) {
        let now = cx.now.mono;
        self.drop_way(call, cx);
        let Some(state) = self.calls.get_mut(&call) else { return };
        let target = state.target;
        let linked = cx.links.to(&target).filter(|_| !state.tried_link);
        let routed = self.routes.peek(&target).copied().filter(|link| cx.links.get(*link).is_some());
        let way = if let Some(link) = linked {
            // One attempt: a link that does not answer is no better the second time.
            state.tried_link = true;
            state.tried_route = true;
            Way::Link(link)
        } else if let Some(link) = routed.filter(|_| !state.tried_route) {
            state.tried_route = true;
            Way::Routed(link)
        } else if let Some(contact) = directory.contact(&target).filter(|_| !state.tried_dial) {
            state.tried_route = true;
            state.tried_dial = true;
            let dial = cx.ids.dial();
            self.dials.insert(dial, call);
            cx.out.dial(dial, Target::Peer { peer: target, addresses: contact.addresses });
            Way::Dialling(dial)
        } else {
            let full = state.full;
            let Some(state) = self.close(call, cx) else { return };
            let error = if full {
                WhisperError::Full { peer: target }
            } else {
                WhisperError::Unreachable { peer: target, why: state.why.map(Box::new) }
            };
            return cx.out.answer(call, MeshAnswer::Whispered(Err(error)));
        };
        state.way = Some(way);
        match way {
            Way::Link(link) | Way::Routed(link) => {
                self.timers.arm(Timer::Way(call), now + self.config.whisper_way_within);
                self.send(call, link, directory, cx);
            }
            // The dial ends by itself, or with the call.
            Way::Dialling(_) => {}
        }
    }

    fn send(&mut self, call: CallId, link: LinkId, directory: &impl Directory, cx: &mut Cx<'_>) {
        let Some(state) = self.calls.get_mut(&call) else { return };
        cx.links.need(link, Need::Whisper, cx.out);
        if !forward(state.message.clone(), 0, link, cx) {
            state.full = true;
            self.advance(call, directory, cx);
        }
    }

    /// Leaves the present way of a call.
    fn drop_way(&mut self, call: CallId, cx: &mut Cx<'_>) {
        self.timers.cancel(&Timer::Way(call));
        match self.calls.get_mut(&call).and_then(|state| state.way.take()) {
            Some(Way::Link(link) | Way::Routed(link)) => {
                cx.links.unneed(cx.now.mono, link, Need::Whisper, cx.out)
            }
            Some(Way::Dialling(dial)) => {
                self.dials.remove(&dial);
            }
            None => {}
        }
    }

    fn close(&mut self, call: CallId, cx: &mut Cx<'_>) -> Option<Call> {
        self.drop_way(call, cx);
        self.timers.cancel(&Timer::Call(call));
        let state = self.calls.remove(&call)?;
        self.by_seq.remove(&state.message.id.seq);
        self.bytes = self.bytes.saturating_sub(state.message.footprint());
        Some(state)
    }

    pub(crate) fn leave(&mut self, cx: &mut Cx<'_>) {
        for call in self.calls.keys().copied().collect::<Vec<_>>() {
            self.close(call, cx);
            cx.out.answer(call, MeshAnswer::Whispered(Err(WhisperError::Closed)));
        }
    }

    // What the world tells.

    /// Whether the dial was one of ours.
    pub(crate) fn dialed(
        &mut self,
        dial: DialId,
        link: LinkId,
        directory: &impl Directory,
        cx: &mut Cx<'_>,
    ) -> bool {
        let Some(call) = self.dials.remove(&dial) else { return false };
        if let Some(state) = self.calls.get_mut(&call) {
            state.way = Some(Way::Link(link));
            state.tried_link = true;
            self.timers.arm(Timer::Way(call), cx.now.mono + self.config.whisper_way_within);
            self.send(call, link, directory, cx);
        }
        true
    }

    /// Whether the dial was one of ours.
    pub(crate) fn dial_failed(
        &mut self,
        dial: DialId,
        why: Why,
        directory: &impl Directory,
        cx: &mut Cx<'_>,
    ) -> bool {
        let Some(call) = self.dials.remove(&dial) else { return false };
        if let Some(state) = self.calls.get_mut(&call) {
            state.way = None;
            state.why = Some(why);
            self.advance(call, directory, cx);
        }
        true
    }

    pub(crate) fn link_down(&mut self, link: LinkId, directory: &impl Directory, cx: &mut Cx<'_>) {
        for call in self.calls_by(link) {
            self.advance(call, directory, cx);
        }
        let stranded: Vec<(MessageId, LinkId)> = self
            .relays
            .iter()
            .filter(|(_, relay)| relay.to == link)
            .map(|(id, relay)| (*id, relay.back))
            .collect();
        for (id, back) in stranded {
            self.relays.remove(&id);
            result(id, Outcome::NoRoute, back, cx);
        }
    }

    fn calls_by(&self, link: LinkId) -> Vec<CallId> {
        let by = |way: Option<Way>| matches!(way, Some(Way::Link(by) | Way::Routed(by)) if by == link);
        self.calls.iter().filter(|(_, state)| by(state.way)).map(|(call, _)| *call).collect()
    }

    /// A whisper was not taken by its link.
    pub(crate) fn undelivered(
        &mut self,
        link: LinkId,
        id: MessageId,
        directory: &impl Directory,
        cx: &mut Cx<'_>,
    ) {
        if id.origin == self.me {
            if let Some(call) = self.by_seq.get(&id.seq).copied()
                && self.calls_by(link).contains(&call)
            {
                if let Some(state) = self.calls.get_mut(&call) {
                    state.full = true;
                }
                self.advance(call, directory, cx);
            }
        } else if let Some(relay) = self.relays.remove(&id) {
            result(id, Outcome::Busy, relay.back, cx);
        }
    }

    pub(crate) fn on_timer(&mut self, directory: &impl Directory, cx: &mut Cx<'_>) {
        while let Some(timer) = self.timers.expire(cx.now.mono) {
            match timer {
                Timer::Way(call) => self.advance(call, directory, cx),
                Timer::Call(call) => {
                    if let Some(state) = self.close(call, cx) {
                        let error =
                            WhisperError::TimedOut { peer: state.target, after: self.config.whisper_within };
                        cx.out.answer(call, MeshAnswer::Whispered(Err(error)));
                    }
                }
            }
        }
    }

    pub(crate) fn footprint(&self) -> u64 {
        let entries = (self.relays.len() + self.delivered.len()) * 256 + self.routes.len() * 192;
        let calls = self.calls.len() * 512 + self.verifying.len() * 256;
        self.bytes + self.verifying_bytes + (entries + calls) as u64
    }
}

/// Queues a whisper if there is room.
fn forward(message: Signed, hops: u32, to: LinkId, cx: &mut Cx<'_>) -> bool {
    let id = message.id;
    let words = Words::Whisper { message, hops };
    let size = Packet(words.clone()).encoded_len() as u64;
    let room = cx.links.get(to).is_some_and(|link| link.has_room(size) && size <= link.max_message);
    if room {
        cx.links.send(vec![to], words, size, Sent::Whisper(id), cx.out);
    }
    room
}

fn result(id: MessageId, outcome: Outcome, to: LinkId, cx: &mut Cx<'_>) {
    cx.control(to, Words::WhisperResult { id, outcome });
}
