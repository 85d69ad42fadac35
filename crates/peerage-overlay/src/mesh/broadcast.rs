//! Messages to everyone: Plumtree (Leitão, Pereira, Rodrigues, SRDS 2007) with a tree for each origin.
//!
//! An origin's messages are pushed along its tree and announced on all other links. Who gets a push twice prunes the
//! second link; who hears of a message and does not get it grafts the announcer's. A new origin starts with the tree of
//! the origin with the smallest key, so that all peers start from the same one.
//!
//! Here: receiving. `publish.rs` has what is our own, `relay.rs` what is passed on, `tree.rs` the trees, `announce.rs`
//! what is announced, `repair.rs` what others announce and requests, `compare.rs` summaries.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use peerage_identity::Identity;
use peerage_machine::{Effect, Instant, JobId, LinkId, Now, Rng, Seed, Timers, UnixMillis};
use peerage_wire::PeerId;

use super::config::MeshConfig;
use super::event::MeshEvent;
use super::held::Coming;
use super::links::Cx;
use super::lru::Lru;
use super::message::{MessageId, Signed, StreamKey};
use super::missing::{Announcer, Awaited, Missing};
use super::neighbour::Neighbour;
use super::packet::Span;
use super::ranges::Range;
use super::score::Deed;
use super::snapshot::MeshStats;
use super::spare::OFFERED_BYTES;
use super::stream::{STREAM_BYTES, Stream};
use super::tree::Tree;
use super::window::Window;

/// The domain of an origin's signature.
pub(crate) const DOMAIN: &str = "peerage mesh message v1";

#[derive(Debug)]
pub(crate) struct Verifying {
    pub(crate) link: LinkId,
    pub(crate) message: Signed,
    hops: u32,
    pulled: bool,
    /// Its sender has said meanwhile that it has nothing more to push.
    pub(crate) dry: bool,
}

/// How a message came.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Came {
    pulled: bool,
    /// By a neighbour that has nothing more to push.
    dry: bool,
}

/// What came of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    NotOurs,
    Done,
    /// A new message of this origin by this link.
    New {
        origin: PeerId,
        link: LinkId,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    Flush,
    Summary,
    Sweep,
    Stall,
    Settle,
    Offers,
}

#[derive(Debug)]
pub(crate) struct Broadcast {
    pub(crate) config: Arc<MeshConfig>,
    pub(crate) identity: Arc<Identity>,
    pub(crate) me: PeerId,
    pub(crate) epoch: u64,
    started: UnixMillis,
    pub(crate) next_seq: u64,
    pub(crate) rng: Rng,
    pub(crate) timers: Timers<Timer>,
    pub(crate) neighbours: BTreeMap<LinkId, Neighbour>,
    pub(crate) streams: Lru<StreamKey, Stream>,
    pub(crate) trees: Lru<PeerId, Tree>,
    pub(crate) window: Window,
    pub(crate) missing: Missing,
    /// Messages that somebody is to be told of, since the last flush.
    pub(crate) noted: u32,
    /// Streams whose trees are to be looked at when they are quiet.
    pub(crate) unsettled: BTreeSet<StreamKey>,
    pub(crate) verifying: BTreeMap<JobId, Verifying>,
    pub(crate) verifying_ids: BTreeMap<MessageId, JobId>,
    pub(crate) verifying_bytes: u64,
    /// How late pushes are after the announcement, smoothed, and how much that varies: RFC 6298's way, section 2.
    pub(crate) lateness: Option<(Duration, Duration)>,
    /// Comparisons with neighbours so far.
    pub(crate) compared: u32,
    /// The size of a broadcast that was refused as full.
    pub(crate) blocked: Option<u64>,
    /// The same after the application was told that it would be taken now, and when it was.
    pub(crate) promised: Option<(u64, Instant)>,
    pub(crate) stats: MeshStats,
}

impl Broadcast {
    pub(crate) fn new(
        config: Arc<MeshConfig>,
        identity: Arc<Identity>,
        epoch: u64,
        now: Now,
        seed: &Seed,
    ) -> Self {
        Self {
            me: identity.peer_id(),
            identity,
            epoch,
            started: now.wall,
            next_seq: 1,
            rng: seed.fork("mesh broadcast").rng(),
            timers: Timers::new(),
            neighbours: BTreeMap::new(),
            streams: Lru::new(config.origins),
            trees: Lru::new(config.trees),
            window: Window::new(&config),
            missing: Missing::new(config.missing_ranges),
            noted: 0,
            unsettled: BTreeSet::new(),
            verifying: BTreeMap::new(),
            verifying_ids: BTreeMap::new(),
            verifying_bytes: 0,
            lateness: None,
            compared: 0,
            blocked: None,
            promised: None,
            stats: MeshStats::default(),
            config,
        }
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        [self.timers.deadline(), self.missing.deadline()].into_iter().flatten().min()
    }

    // Receiving.

    pub(crate) fn on_payload(
        &mut self,
        link: LinkId,
        message: Signed,
        hops: u32,
        pulled: bool,
        cx: &mut Cx<'_>,
    ) {
        self.stats.payloads_received += 1;
        let mut answers = false;
        if pulled && let Some(it) = cx.links.get_mut(link) {
            match it.awaited.checked_sub(1) {
                Some(left) => (it.awaited, answers) = (left, true),
                None => cx.note(link, Deed::Unwanted),
            }
        }
        if message.network() != self.config.name.as_bytes() {
            return cx.fault(link, "a message of another mesh");
        }
        if message.body().len() as u64 > self.config.max_message {
            return cx.fault(link, "a message longer than the mesh's limit");
        }
        let id = message.id;
        if self.missing.came(&id, link)
            && let Some(neighbour) = self.neighbours.get_mut(&link)
        {
            neighbour.answered = cx.now.mono;
        }
        if self.is_large(message.body().len() as u64) {
            self.need_not_send(link, &id);
        }
        if self.is_stale(message.sent, cx.now.wall) {
            return cx.out.count("mesh_stale_total", 1);
        }
        if !pulled && let Some(tree) = self.trees.peek_mut(&id.origin) {
            tree.dry.remove(link);
        }
        if self.streams.peek(&id.stream()).is_some_and(|stream| stream.seen.contains(id.seq)) {
            return self.duplicate(link, &id, hops, pulled, cx);
        }
        if let Some(first) = self.verifying_ids.get(&id).and_then(|job| self.verifying.get(job))
            && first.message == message
        {
            let (feeder, first_pulled) = ((!first.dry).then_some(first.link), first.pulled);
            if !pulled && !first_pulled {
                self.fed_twice(id.stream(), feeder, link, cx.now.mono, cx);
            }
            return self.count_duplicate(pulled, cx);
        }
        if !pulled
            && let Some(stream) = self.streams.peek_mut(&id.stream()).filter(|it| it.from == Some(link))
        {
            stream.pushes = cx.now.mono;
            stream.pushed = stream.pushed.max(id.seq);
        }
        // However late: where more is queued than a request waits for, each one would be a broken promise for ever.
        if answers && let Some(neighbour) = self.neighbours.get_mut(&link) {
            neighbour.answered = cx.now.mono;
        }
        let bytes = message.footprint();
        let (most, most_bytes) = self.config.verifying;
        let full = self.verifying.len() >= most || self.verifying_bytes + bytes > most_bytes;
        if full && !self.verifying.is_empty() {
            cx.out.count("mesh_unverified_dropped_total", 1);
            let due = cx.now.mono + self.config.graft_after;
            let trusted = cx.trusts(link, &id.origin);
            let by = Announcer { link, hops, graft: false, large: false, trusted };
            self.missing.announced(id.stream(), Range::one(id.seq), by, cx.now.mono, due);
            return;
        }
        let job = cx.ids.job();
        self.verifying_bytes += bytes;
        self.verifying_ids.insert(id, job);
        cx.out.push(Effect::Verify {
            job,
            signer: id.origin,
            domain: DOMAIN,
            message: message.shared_body(),
            signature: message.signature(),
        });
        self.verifying.insert(job, Verifying { link, message, hops, pulled, dry: false });
    }

    fn is_stale(&self, sent: UnixMillis, now: UnixMillis) -> bool {
        u128::from(sent.0.abs_diff(now.0)) > self.config.stale_after.as_millis()
    }

    fn duplicate(&mut self, link: LinkId, id: &MessageId, hops: u32, pulled: bool, cx: &mut Cx<'_>) {
        let first = self.window.get(id).map(|held| (held.pushed, held.from(), held.since));
        match first {
            _ if pulled => {}
            // We asked for it before it came by itself: the push is as it should be.
            Some((false, ..)) if self.neighbours.contains_key(&link) => {
                self.fed_by(id.stream(), link, hops, cx)
            }
            Some((false, ..)) => {}
            Some((true, from, since)) => self.fed_twice(id.stream(), from, link, since, cx),
            None => self.fed_twice(id.stream(), None, link, Instant::START, cx),
        }
        self.count_duplicate(pulled, cx);
    }

    fn count_duplicate(&mut self, pulled: bool, cx: &mut Cx<'_>) {
        self.stats.duplicates += 1;
        cx.out.count(if pulled { "mesh_duplicate_pulls_total" } else { "mesh_duplicate_pushes_total" }, 1);
    }

    /// Whether a message of this name is here, and its signature being checked.
    pub(crate) fn is_checked(&self, id: &MessageId) -> bool {
        self.verifying_ids.contains_key(id)
    }

    /// A check of a signature ended, if it was one of ours.
    pub(crate) fn verified(&mut self, job: JobId, valid: bool, cx: &mut Cx<'_>) -> Verdict {
        let Some(Verifying { link, message, hops, pulled, dry }) = self.verifying.remove(&job) else {
            return Verdict::NotOurs;
        };
        self.verifying_bytes = self.verifying_bytes.saturating_sub(message.footprint());
        if self.verifying_ids.get(&message.id) == Some(&job) {
            self.verifying_ids.remove(&message.id);
        }
        if !valid {
            cx.fault(link, "a message with a wrong signature");
        } else if self
            .streams
            .peek(&message.id.stream())
            .is_some_and(|stream| stream.seen.contains(message.id.seq))
        {
            self.count_duplicate(pulled, cx);
        } else {
            let origin = message.id.origin;
            self.accept(message, hops, Some(link), Came { pulled, dry }, cx);
            return Verdict::New { origin, link };
        }
        Verdict::Done
    }

    /// A message that is new and genuine, or our own. Gives how many neighbours it was pushed to.
    pub(crate) fn accept(
        &mut self,
        message: Signed,
        hops: u32,
        from: Option<LinkId>,
        came: Came,
        cx: &mut Cx<'_>,
    ) -> usize {
        let Came { pulled, dry } = came;
        let (id, now) = (message.id, cx.now.mono);
        let (stream, forgotten) = self.streams.touch(&id.stream(), Stream::default);
        stream.seen.insert(id.seq, now);
        stream.heard = now;
        stream.better = None;
        stream.second = None;
        if let Some((forgotten, _)) = forgotten {
            self.unsettled.remove(&forgotten);
            cx.out.count("mesh_origins_forgotten_total", 1);
        }
        if stream.trial.is_some() {
            self.look_when_quiet(id.stream(), cx);
        }
        let awaited = self.note_arrival(&id, from, pulled, cx);
        let nearest = awaited.nearest;
        if !pulled
            && !dry
            && let Some(link) = from.filter(|link| self.neighbours.contains_key(link))
        {
            self.fed_by(id.stream(), link, hops, cx);
        }
        // What came by a short cut is passed on as if it had come by the tree: whoever prefers us, or not, for our hops
        // goes by where the tree has us. A peer that is fed by us then never takes us for nearer than itself.
        let depth = self.depth(id.stream(), from).map_or(hops, |depth| depth.max(hops));
        self.window.insert(&message, Coming { hops: depth, pushed: !pulled, from, since: now });
        let pushed = self.relay(&message, depth, from, pulled, &awaited, cx);
        if let Some(stream) = self.streams.peek_mut(&id.stream()) {
            stream.told = depth;
        }
        if let Some((link, hops)) = nearest {
            self.nearer(link, id.stream(), hops, cx);
        }
        if dry && let Some(link) = from.filter(|link| self.neighbours.contains_key(link)) {
            self.tree(id.origin).dry.insert(link, ());
        }
        if !pulled && from.is_some() && self.parent(id.stream()).is_none() {
            // It came from somebody who was a neighbour, or had a feeder, a moment ago. Whoever we feed now must not wait for more from us.
            if let Some(known) = self.streams.peek_mut(&id.stream()) {
                known.fed = now;
            }
            self.orphaned(vec![id.stream()], cx);
        }
        if let Some(peer) = from.and_then(|link| cx.links.get(link)).map(|link| link.peer)
            && peer == id.origin
        {
            cx.links.scores.spoke(peer, now);
        } else if let Some(link) = from {
            cx.note(link, Deed::First);
        }
        if id.origin != self.me && (self.config.catch_up || message.sent >= self.started) {
            self.stats.delivered += 1;
            cx.out.emit(MeshEvent::Message(message.deliver(hops)));
        }
        self.give_up_gaps(id.stream(), None, cx);
        self.arm_upkeep(cx);
        pushed
    }

    /// Gives what was known of it before it came.
    fn note_arrival(
        &mut self,
        id: &MessageId,
        from: Option<LinkId>,
        pulled: bool,
        cx: &mut Cx<'_>,
    ) -> Awaited {
        let (now, (mean, deviation)) = (cx.now.mono, self.lateness(cx));
        let Some(awaited) = self.missing.arrived(id, from) else {
            // It came before any announcement. What was measured in bad times, or not at all, fades.
            if !pulled && from.is_some() {
                self.lateness = Some((mean * 255 / 256, deviation * 255 / 256));
            }
            return Awaited::default();
        };
        // Whoever was asked is not trusted, or would be the parent already: ours had pushed nothing by then.
        if !pulled
            && awaited.asked.is_some()
            && awaited.asked == from
            && let Some(parent) = self.parent(id.stream()).filter(|parent| Some(*parent) != from)
            && let Some(stream) = self.streams.peek_mut(&id.stream())
            && stream.fed <= awaited.heard
        {
            stream.from = None;
            cx.doubt(parent);
        }
        if awaited.asked.is_none() && awaited.credible && !pulled {
            let sample = now.since(awaited.heard).min(self.config.graft_after_max);
            self.lateness = Some((mean * 7 / 8 + sample / 8, deviation * 3 / 4 + mean.abs_diff(sample) / 4));
        }
        awaited
    }

    // The neighbours.

    pub(crate) fn neighbour_up(&mut self, link: LinkId, cx: &mut Cx<'_>) {
        self.neighbours.insert(link, Neighbour { answered: cx.now.mono, ..Neighbour::default() });
        // Trees that work are left alone: the newcomer hears announcements, and grafts what it needs.
        if !self.window.is_empty() {
            self.find_difference(link, Span::ALL, false, cx);
        }
        self.offer_room(cx);
    }

    pub(crate) fn neighbour_down(&mut self, link: LinkId, cx: &mut Cx<'_>) {
        if self.neighbours.remove(&link).is_none() {
            return;
        }
        for tree in self.trees.values_mut() {
            tree.forget(link);
        }
        for stream in self.streams.values_mut() {
            stream.better = stream.better.filter(|(better, _)| *better != link);
            stream.second = stream.second.filter(|(second, _)| *second != link);
            stream.trial.take_if(|trial| trial.link == link);
            stream.replaced.retain(|replaced| *replaced != link);
        }
        let fed = self.streams.iter().filter(|(_, stream)| stream.from == Some(link));
        let orphans = fed.map(|(key, _)| *key).collect();
        let orphans = self.take_seconds(orphans, cx);
        self.orphaned(orphans, cx);
        self.missing.link_down(link, cx.now.mono);
        self.offer_room(cx);
    }

    pub(crate) fn footprint(&self) -> u64 {
        let ranges: usize = self.streams.iter().map(|(_, stream)| stream.seen.len()).sum();
        let neighbours: usize = self
            .neighbours
            .values()
            .map(|it| {
                let comparing = it.comparing.as_ref().map_or(0, |it| it.footprint());
                (it.owed.len() * 72 + it.offered.len() * OFFERED_BYTES)
                    + it.announce_ranges * 16
                    + it.announce.len() * 128
                    + comparing
            })
            .sum();
        let trees: usize = self.trees.iter().map(|(_, tree)| tree.footprint()).sum();
        let small =
            self.streams.len() * STREAM_BYTES + ranges * 24 + neighbours + trees + self.missing.footprint();
        self.window.bytes() + self.verifying_bytes + (self.verifying.len() * 256 + small) as u64
    }
}
