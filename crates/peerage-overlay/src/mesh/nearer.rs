//! Shorter trees: who is nearer to an origin than our parent takes its place (Plumtree, section 3.9).
//!
//! While messages come in quick succession the new parent is asked first, and the old one is told when both have
//! pushed the same message: nothing is missed, and one message comes twice. Once the origin is quiet, both are told at
//! once, and nothing comes twice: of many origins that speak now and then, each message would otherwise pay for what
//! the one before it has shown. Depths are those of one message, and a parent's is always less than ours, so no two
//! such changes make a circle.
//!
//! All this goes by what neighbours announce, and anybody can announce that it is next to an origin. Who has brought
//! something first lately is believed; others push beside the parent until they have shown that they do.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use peerage_machine::{Instant, LinkId};

use super::broadcast::{Broadcast, Timer};
use super::links::Cx;
use super::message::StreamKey;
use super::neighbour::News;
use super::packet::{Run, Words};
use super::ranges::Range;
use super::repair::packets;
use super::stream::{Stream, Trial};

/// How often a stream's tree is changed while messages come.
const OPTIMISE_EVERY: Duration = Duration::from_secs(1);
/// An origin is quiet when its last message came so long ago: its announcements are here, too.
const QUIET: Duration = Duration::from_millis(250);
/// How many hops nearer is worth a change while the origin is quiet.
const QUIET_THRESHOLD: u32 = 1;
/// A new parent is asked for so many messages after the last: those that it has passed on meanwhile.
const CATCH_UP: u64 = 64;
/// How many hops nearer is worth a word to those that we push to.
const WORTH_TELLING: u32 = 2;
/// Former parents of a stream that are remembered.
const REPLACED: usize = 4;

impl Stream {
    /// To a new parent: push to us from now on, and what follows our last message, for what the parent passed on before
    /// it hears this was not for us.
    fn follow_up(&self, key: StreamKey) -> Run {
        let next = self.seen.last().map_or(1, |last| last.saturating_add(1));
        let ranges = vec![Range::new(next, next.saturating_add(CATCH_UP - 1))];
        Run { stream: key, ranges, hops: 0, now: true }
    }

    /// How far from the origin we shall be when it is quiet and what was announced is acted upon. Within one message this
    /// only falls, and a parent's is always less than ours: what is built upon it has no circles either.
    pub(crate) fn hops_soon(&self, key: &StreamKey, cx: &Cx<'_>) -> u32 {
        let better = self.better.filter(|(link, _)| cx.trusts(*link, &key.origin));
        better.map_or(self.hops, |(_, hops)| hops.min(self.hops))
    }
}

impl Broadcast {
    /// By this neighbour we would be so far from the origin of the stream, whose last message is here.
    pub(crate) fn nearer(&mut self, link: LinkId, key: StreamKey, hops: u32, cx: &mut Cx<'_>) {
        let now = cx.now.mono;
        let threshold = self.config.optimisation_threshold.max(1);
        if !self.neighbours.contains_key(&link) || cx.doubts(link) {
            return;
        }
        let trusted = cx.trusts(link, &key.origin);
        let Some(stream) = self.streams.peek_mut(&key) else { return };
        let Some(parent) = stream.from else {
            if trusted && key.origin != self.me && stream.better.is_none_or(|(_, best)| hops < best) {
                stream.better = Some((link, hops));
                self.look_when_quiet(key, cx);
            }
            return;
        };
        if parent == link {
            stream.hops = stream.hops.min(hops);
            return self.tell_those_below(key, cx);
        }
        let beats = |(best, so_far)| match (trusted, cx.trusts(best, &key.origin)) {
            (true, false) => true,
            (false, true) => false,
            _ => hops < so_far,
        };
        let beside = hops == stream.hops.saturating_add(1)
            && cx.links.get(link).is_some_and(|link| link.peer < self.me);
        if (hops <= stream.hops || beside) && stream.second.is_none_or(beats) {
            stream.second = Some((link, hops));
        }
        let backs_off = self.trees.peek(&key.origin).is_some_and(|tree| tree.backs_off(link, now));
        if backs_off || stream.hops < hops.saturating_add(QUIET_THRESHOLD.min(threshold)) {
            return;
        }
        if stream.better.is_none_or(|(_, best)| hops < best) {
            stream.better = Some((link, hops));
        }
        let much = stream.hops >= hops.saturating_add(threshold);
        if much && !trusted {
            self.try_out(key, link, hops, cx);
        } else if much && stream.optimised.is_none_or(|at| at + OPTIMISE_EVERY <= now) {
            stream.optimised = Some(now);
            stream.hops = hops;
            self.replace(key, parent);
            // The old parent pushes on until the new one does, and is pruned for the first message that both push.
            self.graft(key, link, now);
            let run = Run { stream: key, ranges: Vec::new(), hops: 0, now: true };
            cx.control(link, Words::Want { runs: vec![run] });
        }
        self.tell_those_below(key, cx);
        self.look_when_quiet(key, cx);
    }

    /// Whom we push to hears when we shall be much nearer to the origin than it was told: it would turn to others, and tell
    /// others less than it has to offer.
    fn tell_those_below(&mut self, key: StreamKey, cx: &Cx<'_>) {
        let Some(stream) = self.streams.peek_mut(&key) else { return };
        let soon = stream.hops_soon(&key, cx);
        let Some(last) = stream.seen.last().filter(|_| soon.saturating_add(WORTH_TELLING) <= stream.told)
        else {
            return;
        };
        stream.told = soon;
        let above = [stream.from, stream.better.map(|(link, _)| link)];
        let Some(tree) = self.trees.peek(&key.origin) else { return };
        for link in tree.push.keys().filter(|link| !above.contains(&Some(*link))) {
            if let Some(neighbour) = self.neighbours.get_mut(&link) {
                neighbour.note(key.message(last), soon.saturating_add(1), News::Lazy);
                neighbour.hurry();
            }
        }
        self.arm_flush(cx);
    }

    pub(crate) fn look_when_quiet(&mut self, key: StreamKey, cx: &Cx<'_>) {
        self.unsettled.insert(key);
        if !self.timers.is_armed(&Timer::Settle) {
            self.timers.arm(Timer::Settle, cx.now.mono + QUIET);
        }
    }

    /// Asks a neighbour to push beside the parent: whoever has brought nothing yet may say that it is next to the origin,
    /// and then send nothing.
    fn try_out(&mut self, key: StreamKey, link: LinkId, hops: u32, cx: &mut Cx<'_>) {
        let Some(stream) = self.streams.peek_mut(&key).filter(|stream| stream.trial.is_none()) else {
            return;
        };
        stream.trial = Some(Box::new(Trial { link, hops, since: cx.now.mono }));
        if let Some(tree) = self.trees.peek_mut(&key.origin) {
            tree.take_back(link);
        }
        cx.control(
            link,
            Words::Want { runs: vec![Run { stream: key, ranges: Vec::new(), hops: 0, now: true }] },
        );
    }

    /// Who was on trial does push: it takes the parent's place.
    pub(crate) fn pass_trial(&mut self, key: StreamKey, link: LinkId, now: Instant) {
        let Some(stream) = self.streams.peek_mut(&key) else { return };
        if let Some(trial) = stream.trial.take_if(|trial| trial.link == link) {
            stream.hops = trial.hops;
            self.graft(key, link, now);
        }
    }

    /// Who was on trial while the last message came and pushed nothing is not believed again so soon.
    fn end_trial(&mut self, key: StreamKey, cx: &mut Cx<'_>) {
        let Some(stream) = self.streams.peek_mut(&key) else { return };
        let heard = stream.heard;
        if let Some(trial) = stream.trial.take_if(|trial| trial.since + QUIET <= heard) {
            cx.doubt(trial.link);
        }
    }

    /// The parents of these streams are gone. Where another neighbour is known that is as near to the origin, it is asked
    /// now, and nobody notices: whoever is nearer than we are is not fed by us. Gives the streams for which there is none.
    pub(crate) fn take_seconds(&mut self, orphans: Vec<StreamKey>, cx: &mut Cx<'_>) -> Vec<StreamKey> {
        let mut left = Vec::new();
        let mut asked: BTreeMap<LinkId, Vec<Run>> = BTreeMap::new();
        for key in orphans {
            let second = self.streams.peek_mut(&key).and_then(|stream| stream.second.take());
            let Some((link, hops)) = second.filter(|(link, _)| self.neighbours.contains_key(link)) else {
                left.push(key);
                continue;
            };
            self.graft(key, link, cx.now.mono);
            if let Some(stream) = self.streams.peek_mut(&key) {
                stream.hops = hops;
                let run = stream.follow_up(key);
                asked.entry(link).or_default().push(run);
            }
        }
        for (link, runs) in asked {
            for runs in packets(runs.into_iter()) {
                cx.control(link, Words::Want { runs });
            }
        }
        left
    }

    /// A parent is nearer to the origin and has one of its own: it is not ours to push to, though trees begin with links
    /// in both directions.
    pub(crate) fn feeds_itself(&mut self, key: StreamKey, former: LinkId) {
        if let Some(tree) = self.trees.peek_mut(&key.origin) {
            tree.push.remove(former);
            tree.tried.remove(former);
        }
    }

    /// A former parent is fed by us now. It is told at once that we have another, and stays among those that we push to.
    pub(crate) fn feeds_us_no_more(&mut self, key: StreamKey, former: LinkId, cx: &mut Cx<'_>) {
        let Some(stream) = self.streams.peek_mut(&key) else { return };
        if stream.replaced.contains(&former) {
            stream.replaced.retain(|replaced| *replaced != former);
            self.prune(key.origin, former, cx);
        }
    }

    /// Somebody else feeds us the stream from now on: who did so is told when the origin is quiet, or pushes again.
    pub(crate) fn replace(&mut self, key: StreamKey, parent: LinkId) {
        if let Some(stream) = self.streams.peek_mut(&key)
            && stream.replaced.len() < REPLACED
            && !stream.replaced.contains(&parent)
        {
            stream.replaced.push(parent);
        }
    }

    /// What was left until an origin is quiet.
    pub(crate) fn settle_trees(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now.mono;
        let mut next = None;
        for key in std::mem::take(&mut self.unsettled) {
            let Some(stream) = self.streams.peek(&key) else { continue };
            let quiet_at = stream.heard + QUIET;
            if quiet_at > now {
                self.unsettled.insert(key);
                next = Some(next.map_or(quiet_at, |next| quiet_at.min(next)));
            } else {
                self.settle_tree(key, cx);
            }
        }
        if let Some(at) = next {
            self.timers.arm(Timer::Settle, at);
        }
    }

    /// A neighbour that is fed feeds us, who nobody did, from now on. Those that wait for us, or for others, may turn to us.
    fn take_offer(&mut self, key: StreamKey, cx: &mut Cx<'_>) {
        let Some(stream) = self.streams.peek_mut(&key) else { return };
        let better = stream.better.take().filter(|(link, _)| self.neighbours.contains_key(link));
        let Some((link, hops)) = better else { return };
        stream.hops = hops;
        stream.told = hops;
        let run = stream.follow_up(key);
        self.graft(key, link, cx.now.mono);
        cx.control(link, Words::Want { runs: vec![run] });
        let waits: BTreeSet<LinkId> = self
            .trees
            .peek(&key.origin)
            .map(|tree| tree.push.keys().chain(tree.dry.keys()).collect())
            .unwrap_or_default();
        self.offer(key, |it| it != link && waits.contains(&it), cx);
    }

    /// Tells these neighbours how far from the origin they would be by us, if somebody feeds us.
    pub(crate) fn offer(&mut self, key: StreamKey, whom: impl Fn(LinkId) -> bool, cx: &Cx<'_>) {
        let is_fed = key.origin == self.me || self.parent(key).is_some();
        let Some(stream) = self.streams.peek(&key).filter(|_| is_fed) else { return };
        let Some(last) = stream.seen.last() else { return };
        let hops = if key.origin == self.me { 0 } else { stream.hops.saturating_add(1) };
        for (link, neighbour) in self.neighbours.iter_mut().filter(|(link, _)| whom(**link)) {
            if stream.from != Some(*link) {
                neighbour.note(key.message(last), hops, News::Lazy);
                neighbour.hurry();
            }
        }
        self.arm_flush(cx);
    }

    fn settle_tree(&mut self, key: StreamKey, cx: &mut Cx<'_>) {
        self.end_trial(key, cx);
        if self.parent(key).is_none() {
            self.take_offer(key, cx);
            if self.parent(key).is_none() {
                return;
            }
        }
        let Some(stream) = self.streams.peek_mut(&key) else { return };
        let better = stream.better.take();
        let mut former = std::mem::take(&mut stream.replaced);
        let (hops, run) = (stream.hops, stream.follow_up(key));
        if let Some((link, nearer)) = better.filter(|(_, it)| hops >= it.saturating_add(QUIET_THRESHOLD))
            && self.neighbours.contains_key(&link)
            && let Some(parent) = self.parent(key).filter(|parent| *parent != link)
        {
            if !cx.trusts(link, &key.origin) {
                self.try_out(key, link, nearer, cx);
            } else {
                former.push(parent);
                self.graft(key, link, cx.now.mono);
                if let Some(stream) = self.streams.peek_mut(&key) {
                    stream.hops = nearer;
                    stream.second = None;
                }
                cx.control(link, Words::Want { runs: vec![run] });
            }
        }
        let parent = self.parent(key);
        let pruned = |it: &Self, link| it.trees.peek(&key.origin).is_some_and(|tree| tree.is_pruned(link));
        for link in former {
            if parent.is_some() && parent != Some(link) && !pruned(self, link) {
                self.prune(key.origin, link, cx);
            }
            self.feeds_itself(key, link);
        }
    }
}
