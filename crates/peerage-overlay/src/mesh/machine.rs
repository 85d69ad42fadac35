//! The mesh: membership, broadcast and whispers as one machine.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use peerage_identity::Identity;
use peerage_machine::{
    CallId, Class, Effect, Incarnation, Input, Instant, LinkId, LinkInfo, Machine, Now, Seed, SendId, Side,
    Why,
};
use peerage_wire::{Address, PeerId};

use super::broadcast::{Broadcast, Verdict};
use super::config::MeshConfig;
use super::direct::Direct;
use super::error::{BroadcastError, JoinError, WhisperError};
use super::event::{MeshAnswer, MeshEvent, Out};
use super::holdings::Audit;
use super::links::{Cx, Ids, Links, Sent};
use super::membership::{Change, Membership};
use super::message::Receipt;
use super::packet::{Packet, Run, Span, Words};
use super::score::{Conduct, Deed};
use super::snapshot::{MeshSnapshot, NeighbourInfo};

/// What a mesh's machine is made of, beside its configuration.
#[derive(Clone, Debug)]
pub struct MeshStart {
    /// The clocks.
    pub now: Now,
    /// Where its randomness comes from.
    pub seed: Seed,
    /// Who this peer is: it signs what it says.
    pub identity: Arc<Identity>,
    /// This start of the endpoint.
    pub incarnation: Incarnation,
    /// Where this endpoint listens.
    pub addresses: Vec<Address>,
}

/// The core of a mesh: pure, hosted by `peerage-net` on real links and by `peerage-sim` in virtual time.
///
/// What the application asks are the methods below; each takes the clocks and an outbox whose effects the host carries out.
#[derive(Debug)]
pub struct MeshMachine {
    links: Links,
    ids: Ids,
    membership: Membership,
    broadcast: Broadcast,
    direct: Direct,
    config: Arc<MeshConfig>,
    me: PeerId,
    connected: bool,
    closed: bool,
}

impl MeshMachine {
    /// A mesh that knows nobody. The configuration is taken as it is: see [`MeshConfig::check`]. Thousands of meshes in
    /// one process may share it.
    pub fn new(config: impl Into<Arc<MeshConfig>>, start: MeshStart) -> Self {
        let config = config.into();
        let MeshStart { now, seed, identity, incarnation, addresses } = start;
        let me = identity.peer_id();
        let epoch = epoch(now, incarnation);
        Self {
            links: Links::new(&config),
            ids: Ids::default(),
            membership: Membership::new(Arc::clone(&config), me, addresses, &seed),
            broadcast: Broadcast::new(Arc::clone(&config), Arc::clone(&identity), epoch, now, &seed),
            direct: Direct::new(Arc::clone(&config), identity, epoch),
            config,
            me,
            connected: false,
            closed: false,
        }
    }

    /// Remembers whom an earlier start of this peer knew, from what it has stored, and turns to them: a mesh that knew
    /// anybody needs no contact to come back. What cannot be read is passed over and counted. To be called first.
    pub fn restore(&mut self, now: Now, stored: &BTreeMap<Bytes, Bytes>, out: &mut Out) {
        if !self.closed {
            self.run(now, out, |mesh, cx| mesh.membership.restore(stored, cx));
        }
    }

    /// Joins by these contacts, at most 64, and remembers them. Ends in [`MeshAnswer::Joined`]: `Ok` as soon as there is
    /// a neighbour, by whatever way.
    ///
    /// # Errors
    /// No contact, too many, too many joins pending, or closed.
    pub fn join(&mut self, now: Now, contacts: Vec<Address>, out: &mut Out) -> Result<CallId, JoinError> {
        if self.closed {
            return Err(JoinError::Closed);
        }
        self.run(now, out, |mesh, cx| mesh.membership.join(contacts, cx))
    }

    /// Says something to everyone.
    ///
    /// # Errors
    /// Nothing was sent: the message is too large, nobody is there, or a neighbour's queue is full; after
    /// [`BroadcastError::Full`] a [`MeshEvent::Room`] follows when it is worth trying again.
    pub fn broadcast(
        &mut self,
        now: Now,
        parts: Vec<Bytes>,
        out: &mut Out,
    ) -> Result<Receipt, BroadcastError> {
        if self.closed {
            return Err(BroadcastError::Closed);
        }
        self.run(now, out, |mesh, cx| mesh.broadcast.publish(parts, cx))
    }

    /// Says something to one peer. Ends in [`MeshAnswer::Whispered`].
    ///
    /// # Errors
    /// Nothing was sent: the message is too large, too many whispers are pending, or the link to the target is full.
    pub fn whisper(
        &mut self,
        now: Now,
        to: PeerId,
        parts: Vec<Bytes>,
        out: &mut Out,
    ) -> Result<CallId, WhisperError> {
        if self.closed {
            return Err(WhisperError::Closed);
        }
        self.run(now, out, |mesh, cx| {
            let call = mesh.direct.whisper(to, parts, &*mesh.membership, cx)?;
            mesh.broadcast.stats.whispers_sent += 1;
            Ok(call)
        })
    }

    /// Gives up waiting for a join or a whisper; no answer follows. Whether it was pending. The mesh goes on joining,
    /// and the whisper may arrive.
    pub fn cancel(&mut self, now: Now, call: CallId, out: &mut Out) -> bool {
        self.run(now, out, |mesh, cx| mesh.membership.cancel(call) || mesh.direct.cancel(call, cx))
    }

    /// Leaves the mesh: neighbours are told, pending calls end as closed, and nothing is heard or said from now on.
    pub fn leave(&mut self, now: Now, out: &mut Out) {
        if !self.closed {
            self.run(now, out, |mesh, cx| {
                mesh.membership.leave(cx);
                mesh.direct.leave(cx);
            });
            self.closed = true;
        }
    }

    /// The neighbours, in the order of their keys.
    pub fn neighbours(&self) -> Vec<PeerId> {
        self.membership.neighbours().map(|(peer, _)| peer).collect()
    }

    /// Whether there is a neighbour.
    pub fn is_ready(&self) -> bool {
        self.connected
    }

    /// How a peer has behaved, in five numbers and their sum; `None` of one that did nothing of note lately.
    pub fn explain(&self, now: Now, peer: &PeerId) -> Option<Conduct> {
        self.links.scores.conduct(peer, now.mono)
    }

    pub(crate) fn audit(&self, limits: &MeshConfig, audit: &mut Audit) {
        self.broadcast.audit(limits, audit);
        self.direct.audit(limits, audit);
        self.membership.audit(limits, audit);
        self.links.audit(limits, audit);
    }

    /// A reading.
    pub fn snapshot(&self) -> MeshSnapshot {
        let neighbours = self.membership.neighbours().filter_map(|(peer, link)| {
            self.links.get(link).map(|it| NeighbourInfo {
                peer,
                link,
                rtt: it.rtt,
                outbound: it.dialled,
                credit: it.room(),
                eager_origins: self.broadcast.eager_origins(link),
            })
        });
        MeshSnapshot {
            neighbours: neighbours.collect(),
            passive: self.membership.known(),
            links: self.links.len(),
            retained_messages: self.broadcast.window.len(),
            retained_bytes: self.broadcast.window.bytes(),
            origins: self.broadcast.streams.len(),
            missing_ranges: self.broadcast.missing.len(),
            whispers: self.direct.pending(),
            stats: self.broadcast.stats,
            memory: self.broadcast.footprint()
                + self.direct.footprint()
                + self.membership.footprint()
                + self.links.footprint(),
        }
    }

    /// Runs one step with what its parts share, then tells the parts what changed.
    fn run<R>(&mut self, now: Now, out: &mut Out, step: impl FnOnce(&mut Parts<'_>, &mut Cx<'_>) -> R) -> R {
        self.links.now = now.mono;
        let mut cx = Cx { now, links: &mut self.links, ids: &mut self.ids, out };
        let mut parts = Parts {
            config: &self.config,
            membership: &mut self.membership,
            broadcast: &mut self.broadcast,
            direct: &mut self.direct,
            connected: &mut self.connected,
        };
        let result = step(&mut parts, &mut cx);
        parts.settle(&mut cx);
        result
    }

    fn up(&mut self, now: Now, link: LinkId, info: &LinkInfo, out: &mut Out) {
        if self.closed {
            let why = Why::Shutdown { by: Side::Us, detail: "this peer left the mesh".to_owned() };
            return out.push(Effect::CloseChannel { link, why });
        }
        if info.peer == self.me {
            return out.push(Effect::CloseChannel { link, why: Why::SelfDial });
        }
        // The host may bring up a successor before it takes down a link that is over.
        for old in [self.links.to(&info.peer), Some(link)].into_iter().flatten() {
            self.down(now, old, Why::Superseded, out);
        }
        if self.links.len() >= self.config.max_links {
            let what = format!("{} links of this mesh", self.config.max_links);
            return out.push(Effect::CloseChannel { link, why: Why::Limit { by: Side::Us, what } });
        }
        self.links.up(now.mono, link, info);
    }

    fn down(&mut self, now: Now, link: LinkId, why: Why, out: &mut Out) {
        let Some(contact) = self.links.contact(link) else { return };
        self.links.down(link);
        if self.closed {
            return;
        }
        self.run(now, out, |mesh, cx| {
            mesh.membership.down(link, contact, why, cx);
            mesh.direct.link_down(link, &*mesh.membership, cx);
        });
    }
}

/// The parts of the machine that talk to each other.
struct Parts<'a> {
    config: &'a MeshConfig,
    membership: &'a mut Membership,
    broadcast: &'a mut Broadcast,
    direct: &'a mut Direct,
    connected: &'a mut bool,
}

impl Parts<'_> {
    fn settle(&mut self, cx: &mut Cx<'_>) {
        for peer in cx.links.scores.take_fallen() {
            cx.out.count("mesh_shunned_total", 1);
            self.membership.shun(&peer, cx);
        }
        for change in self.membership.take_changes() {
            match change {
                Change::Up(link, peer) => {
                    if !std::mem::replace(self.connected, true) {
                        cx.out.emit(MeshEvent::Connected);
                    }
                    cx.out.emit(MeshEvent::NeighbourUp { peer });
                    self.broadcast.neighbour_up(link, cx);
                }
                Change::Down(link, peer, why) => {
                    self.broadcast.neighbour_down(link, cx);
                    cx.out.emit(MeshEvent::NeighbourLost { peer, why });
                }
            }
        }
        if *self.connected && self.membership.neighbours().next().is_none() {
            *self.connected = false;
            cx.out.emit(MeshEvent::Isolated);
        }
    }

    fn message(&mut self, link: LinkId, words: Words, cx: &mut Cx<'_>) {
        let Some(peer) = cx.links.get(link).map(|link| link.peer) else { return };
        let is_neighbour = self.membership.is_neighbour(&peer);
        if let Some(it) = cx.links.get_mut(link) {
            it.heard = cx.now.mono;
            it.probed = None;
        }
        if self.is_too_much(link, &words, cx) {
            // What it says of its numbers stays true.
            self.runs(link, words, cx);
            return;
        }
        match words {
            Words::Join { urgent } => self.membership.on_join(link, peer, urgent, cx),
            Words::Neighbour { urgent } => self.membership.on_neighbour(link, peer, urgent, cx),
            Words::NeighbourReply { accepted, others } => {
                self.membership.on_reply(link, peer, accepted, others, cx)
            }
            Words::Disconnect { leaving, others } => {
                self.membership.on_disconnect(link, peer, leaving, others, cx);
            }
            Words::ShuffleReply { nonce, sample } => {
                self.membership.on_shuffle_reply(link, nonce, sample, cx);
            }
            // A stranger has no part in any tree. What a neighbour has pushed before a goodbye may come after it.
            Words::Payload { .. } if cx.links.get(link).is_none_or(|it| !it.is_no_stranger(cx.now.mono)) => {
                cx.out.count("mesh_from_strangers_total", 1);
            }
            Words::Payload { message, hops, pulled } => {
                self.broadcast.on_payload(link, message, hops, pulled, cx)
            }
            Words::Prune { origin } => self.broadcast.on_prune(link, origin, cx),
            Words::Whisper { message, hops } => self.direct.on_whisper(link, message, hops, cx),
            Words::WhisperResult { id, outcome } => {
                self.direct.on_result(link, id, outcome, &*self.membership, cx);
            }
            // Only neighbours say the rest. Somebody who believes to be one, because a goodbye was lost, is told.
            Words::Summary { .. } | Words::Compare { .. } | Words::Reconcile { .. } | Words::Probe { .. }
                if !is_neighbour =>
            {
                // What it says of its numbers stays true.
                self.runs(link, words, cx);
                cx.control(link, Words::Disconnect { leaving: false, others: Vec::new() });
            }
            _ if !is_neighbour => {
                self.runs(link, words, cx);
                cx.out.count("mesh_from_strangers_total", 1);
            }
            Words::ForwardJoin { joiner, ttl } => {
                self.membership.on_forward_join(link, joiner, ttl.min(self.config.active_walk), cx);
            }
            Words::Shuffle { nonce, ttl, sample } => {
                self.membership.on_shuffle(link, nonce, ttl.min(self.config.active_walk), sample, cx);
            }
            Words::Announce { .. } => {
                let runs = self.runs(link, words, cx);
                self.broadcast.on_announce(link, runs, cx);
            }
            Words::Want { runs } => self.broadcast.on_want(link, runs, cx),
            Words::Summary { ask, .. } => {
                let runs = self.runs(link, words, cx);
                self.broadcast.on_summary(link, runs, ask, cx);
            }
            Words::Compare { since, until, hash } => {
                self.broadcast.on_compare(link, Span { since, until }, hash, cx);
            }
            Words::Reconcile { session, span, step } => {
                self.broadcast.on_reconcile(link, session, span, *step, cx);
            }
            Words::Spare { .. } => {
                let runs = self.runs(link, words, cx);
                self.broadcast.on_spare(link, runs, cx);
            }
            Words::Probe { answer } => {
                if !answer {
                    cx.control(link, Words::Probe { answer: true });
                }
            }
        }
    }

    /// Whether the peer has said more than anybody needs to. It answers for what it says of its own accord: not for what
    /// others have wander through it, nor for answers to what we asked.
    fn is_too_much(&self, link: LinkId, words: &Words, cx: &mut Cx<'_>) -> bool {
        let now = cx.now.mono;
        let Some(it) = cx.links.get_mut(link) else { return false };
        match words {
            Words::Payload { .. } | Words::Whisper { .. } | Words::WhisperResult { .. } => false,
            Words::ForwardJoin { .. } | Words::Shuffle { .. } | Words::ShuffleReply { .. } => {
                let over = it.meters.walks.is_over(now);
                if over {
                    cx.out.count("mesh_walks_dropped_total", 1);
                }
                over
            }
            _ => {
                let over = it.meters.control.is_over(now);
                if over {
                    cx.out.count("mesh_spam_total", 1);
                    cx.note(link, Deed::Spam);
                }
                over
            }
        }
    }

    /// What a peer announced, or sums up.
    fn runs(&self, link: LinkId, words: Words, cx: &mut Cx<'_>) -> Vec<Run> {
        let (Words::Announce { notices } | Words::Spare { notices } | Words::Summary { notices, .. }) = words
        else {
            return Vec::new();
        };
        let (runs, unknown) = cx.links.runs(link, notices);
        if unknown > 0 {
            cx.out.count("mesh_unknown_names_total", unknown as u64);
        }
        runs
    }

    fn undelivered(&mut self, send: SendId, link: LinkId, cx: &mut Cx<'_>) {
        match cx.links.undelivered(cx.now.mono, send, link) {
            Some(Sent::Broadcast(id)) => self.broadcast.undelivered(link, id, cx),
            Some(Sent::Whisper(id)) => self.direct.undelivered(link, id, &*self.membership, cx),
            Some(Sent::Control) | None => {}
        }
    }
}

impl Machine for MeshMachine {
    type Message = Packet;
    type Event = MeshEvent;
    type Answer = MeshAnswer;

    fn on_input(&mut self, now: Now, input: Input<Packet>, out: &mut Out) {
        match input {
            Input::Up { link, info } => return self.up(now, link, &info, out),
            Input::Down { link, why } => return self.down(now, link, why, out),
            _ if self.closed => return,
            _ => {}
        }
        self.run(now, out, |mesh, cx| match input {
            Input::Message { link, message } => mesh.message(link, message.0, cx),
            Input::Dialed { dial, link } => {
                if !mesh.membership.dialed(dial, link, cx) {
                    mesh.direct.dialed(dial, link, &*mesh.membership, cx);
                }
                cx.links.dialled(link, cx.out);
            }
            Input::DialFailed { dial, why } => {
                if !mesh.membership.dial_failed(dial, why.clone(), cx) {
                    mesh.direct.dial_failed(dial, why, &*mesh.membership, cx);
                }
            }
            Input::Credit { link, class, bytes } => {
                cx.links.credit(link, class, bytes);
                if class != Class::Control {
                    mesh.broadcast.room(link, cx);
                }
            }
            Input::Undelivered { send, link, .. } => mesh.undelivered(send, link, cx),
            Input::Verified { job, valid } => match mesh.broadcast.verified(job, valid, cx) {
                Verdict::New { origin, link } => mesh.direct.learn(origin, link),
                Verdict::Done => {}
                Verdict::NotOurs => {
                    mesh.direct.verified(job, valid, &mut mesh.broadcast.stats, cx);
                }
            },
            Input::Rtt { link, rtt } => {
                if let Some(link) = cx.links.get_mut(link) {
                    link.rtt = rtt;
                }
            }
            Input::OwnAddresses(addresses) => mesh.membership.own_addresses(addresses),
            Input::Stored { op, result } => mesh.membership.stored(op, &result, cx),
            // Dealt with above.
            Input::Up { .. } | Input::Down { .. } => {}
        });
    }

    fn on_timer(&mut self, now: Now, out: &mut Out) {
        if !self.closed {
            self.run(now, out, |mesh, cx| {
                mesh.membership.on_timer(cx);
                mesh.direct.on_timer(&*mesh.membership, cx);
                // Whom it lost, or lets go for what it did not send, others are asked instead of now; each turn but the
                // last has one neighbour less.
                loop {
                    mesh.settle(cx);
                    mesh.broadcast.on_timer(cx);
                    if !cx.links.scores.has_fallen() {
                        break;
                    }
                }
            });
        }
    }

    fn deadline(&self) -> Option<Instant> {
        if self.closed {
            return None;
        }
        [self.membership.deadline(), self.broadcast.deadline(), self.direct.deadline()]
            .into_iter()
            .flatten()
            .min()
    }
}

/// Names a start of the mesh: the wall clock in milliseconds, and ten bits of the incarnation in case the clock stood still
/// or was put back.
fn epoch(now: Now, incarnation: Incarnation) -> u64 {
    let [low, high, ..] = incarnation.0;
    now.wall.0.wrapping_shl(10) | (u64::from(low) | u64::from(high) << 8) & 0x3ff
}
