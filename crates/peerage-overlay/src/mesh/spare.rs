//! Large messages on links that may not need them (after GossipSub 1.2's IDONTWANT).
//!
//! To say "I have it" as soon as one does saves next to nothing: neighbours that are as far from the origin get a large
//! message at about the same time, and both pushes are under way before either word arrives; what is under way cannot be
//! called back. So on a link that has not proved to be part of the tree a large message is offered first, and pushed when
//! it is asked for, or when nothing is heard. A settled tree pushes at once, and says nothing of this kind.

use std::time::Duration;

use peerage_machine::{Instant, LinkId};

use super::broadcast::{Broadcast, Timer};
use super::links::Cx;
use super::message::{MessageId, StreamKey};
use super::missing::Announcer;
use super::neighbour::{Neighbour, News, Owed};
use super::packet::{MAX_HOPS, MAX_PACKET_RANGES, Run, Words};
use super::ranges::{Range, subtract};
use super::tree::Tree;

/// A large push waits while its link has more than this queued: enough to keep it busy until the next comes.
pub(crate) const QUEUED: u64 = 128 << 10;
/// Offers to one neighbour that wait for its word. More are pushed when there is room.
pub(crate) const MAX_OFFERED: usize = 64;
/// What each takes in memory.
pub(crate) const OFFERED_BYTES: usize = 96;
/// An offer that is not answered within two round trips and this is a push.
const ANSWER_WITHIN: Duration = Duration::from_millis(50);
/// A neighbour that was pushed something so long ago, and has not said that it gets it elsewhere, is fed by us.
const PROVED_AFTER: Duration = Duration::from_secs(1);

impl Tree {
    /// A message of the origin's goes to a neighbour.
    pub(crate) fn pushed(&mut self, link: LinkId, now: Instant) {
        self.tried.get_or(link, now);
    }

    /// The neighbour asked to be fed.
    pub(crate) fn asked(&mut self, link: LinkId) {
        self.push.insert(link, ());
        self.tried.insert(link, Instant::START);
    }

    /// Whether a neighbour that we push to needs it.
    pub(crate) fn is_proved(&self, link: LinkId, now: Instant) -> bool {
        self.tried.get(link).is_some_and(|since| *since == Instant::START || *since + PROVED_AFTER <= now)
    }
}

impl Neighbour {
    fn is_offered(&self, stream: StreamKey, range: Range) -> bool {
        self.offered.keys().any(|id| id.stream() == stream && range.meets(Range::one(id.seq)))
    }

    /// Takes a range out of what it is owed and offered. Whether anything of it was. Of what it is owed, one at a time.
    fn owes_no_more(&mut self, stream: StreamKey, range: Range, limit: usize) -> bool {
        let before = self.offered.len();
        self.offered.retain(|id, _| id.stream() != stream || !range.meets(Range::one(id.seq)));
        let Some(at) = self.owed.iter().position(|it| it.stream == stream && it.range.meets(range)) else {
            return self.offered.len() < before;
        };
        let Some(owed) = self.owed.remove(at) else { return false };
        let mut left = vec![owed.range];
        subtract(&mut left, range);
        for (more, range) in left.into_iter().enumerate() {
            if self.owed.len() < limit {
                self.owed.insert(at + more, Owed { range, ..owed });
            }
        }
        true
    }
}

impl Broadcast {
    /// Whether a message of so many bytes is worth a word more.
    pub(crate) fn is_large(&self, size: u64) -> bool {
        size >= self.config.large_message
    }

    /// A large message is here: it is offered to some, and others that may push it need not. Those who were told to push
    /// nothing of the origin's will not, and those that it is pushed to hear of it soon enough.
    pub(crate) fn spare_others(
        &mut self,
        id: &MessageId,
        hops: u32,
        offered: &[LinkId],
        others: impl Iterator<Item = LinkId>,
        asked: Option<LinkId>,
        cx: &mut Cx<'_>,
    ) {
        let now = cx.now.mono;
        let tree = self.trees.peek(&id.origin);
        let may_push = |link: &LinkId| asked == Some(*link) || tree.is_none_or(|tree| !tree.is_pruned(*link));
        let mut told: Vec<(LinkId, bool)> = others.filter(may_push).map(|link| (link, false)).collect();
        for link in offered {
            let answered = now + cx.links.slowest(std::iter::once(*link)) * 2 + ANSWER_WITHIN;
            if let Some(neighbour) = self.neighbours.get_mut(link) {
                neighbour.offered.insert(*id, answered);
            }
            if self.timers.at(&Timer::Offers).is_none_or(|at| answered < at) {
                self.timers.arm(Timer::Offers, answered);
            }
            told.push((*link, true));
        }
        for (link, now) in told {
            // If it was asked for it, it will not send it now, and is not to blame.
            self.missing.call_off(link, id);
            let run = Run { stream: id.stream(), ranges: vec![Range::one(id.seq)], hops, now };
            let notices = cx.links.notices(link, vec![run], cx.now.mono);
            cx.links.control_if_room(link, Words::Spare { notices }, cx.out);
        }
    }

    /// These had a large message before we did, or get it from somebody else: we do not feed them.
    pub(crate) fn fed_by_others(&mut self, origin: peerage_wire::PeerId, links: &[LinkId]) {
        if let Some(tree) = self.trees.peek_mut(&origin) {
            for link in links {
                tree.push.remove(*link);
                tree.tried.remove(*link);
            }
        }
    }

    pub(crate) fn on_spare(&mut self, link: LinkId, runs: Vec<Run>, cx: &mut Cx<'_>) {
        let limit = self.config.owed_ranges;
        // Each looks through all that is owed; nobody has as many large messages to speak of.
        let (mut spared, mut left) = (0, MAX_PACKET_RANGES);
        for run in runs {
            for range in run.ranges.iter().take(left) {
                left -= 1;
                let Some(neighbour) = self.neighbours.get(&link) else { return };
                if neighbour.is_offered(run.stream, *range) {
                    self.fed_by_others(run.stream.origin, &[link]);
                }
                let Some(neighbour) = self.neighbours.get_mut(&link) else { return };
                while neighbour.owes_no_more(run.stream, *range, limit) {
                    spared += 1;
                }
                neighbour.has(run.stream, *range, run.hops);
                if run.now {
                    self.on_offer(link, run.stream, *range, run.hops, cx);
                }
            }
        }
        if spared > 0 {
            cx.out.count("mesh_pushes_spared_total", spared);
            self.serve(link, cx);
            self.offer_room(cx);
        }
    }

    /// A neighbour would push these, and asks whether they come from elsewhere.
    fn on_offer(&mut self, link: LinkId, stream: StreamKey, range: Range, hops: u32, cx: &mut Cx<'_>) {
        let now = cx.now.mono;
        let first = stream.message(range.first);
        let awaited = self.missing.is_asked(&first) || self.is_checked(&first);
        let (fed, is_known) = (!self.is_orphan(stream), self.streams.peek(&stream).is_some());
        let elsewhere = awaited || fed && is_known;
        let due = if elsewhere { now + self.graft_after(link, cx) } else { now };
        let trusted = cx.trusts(link, &stream.origin);
        let by = Announcer { link, hops: hops.saturating_add(1), graft: true, large: true, trusted };
        if self.hear_of(stream, range, by, due, cx) || !elsewhere {
            // It is here, as the neighbour hears by what we said ourselves; or it is asked for.
            return;
        }
        if fed && is_known && self.parent(stream) != Some(link) {
            return self.prune(stream.origin, link, cx);
        }
        let run = Run { stream, ranges: vec![range], hops: 0, now: false };
        let notices = cx.links.notices(link, vec![run], now);
        cx.links.control_if_room(link, Words::Spare { notices }, cx.out);
    }

    /// What was offered and is not answered is pushed.
    pub(crate) fn push_offered(&mut self, cx: &mut Cx<'_>) {
        let (now, limit) = (cx.now.mono, self.config.owed_ranges);
        let (mut next, mut served, mut noted) = (None::<Instant>, Vec::new(), false);
        for (link, neighbour) in &mut self.neighbours {
            let due: Vec<MessageId> =
                neighbour.offered.iter().filter(|(_, at)| **at <= now).map(|(id, _)| *id).collect();
            for id in due {
                neighbour.offered.remove(&id);
                if neighbour.owed.len() < limit {
                    let range = Range::one(id.seq);
                    neighbour.owed.push_back(Owed {
                        stream: id.stream(),
                        range,
                        pulled: false,
                        asked: false,
                    });
                } else {
                    // The offer may not have arrived.
                    let hops = self.window.get(&id).map_or(MAX_HOPS, |held| held.hops().saturating_add(1));
                    neighbour.note(id, hops.min(MAX_HOPS), News::PutOff);
                    noted = true;
                }
                served.push(*link);
            }
            let at = neighbour.offered.values().min().copied();
            next = next.into_iter().chain(at).min();
        }
        if let Some(at) = next {
            self.timers.arm(Timer::Offers, at);
        }
        if noted {
            self.arm_flush(cx);
        }
        served.dedup();
        for link in served {
            self.serve(link, cx);
        }
    }

    /// The neighbour has this message.
    pub(crate) fn need_not_send(&mut self, link: LinkId, id: &MessageId) {
        let limit = self.config.owed_ranges;
        if let Some(neighbour) = self.neighbours.get_mut(&link) {
            neighbour.owes_no_more(id.stream(), Range::one(id.seq), limit);
        }
    }

    /// The neighbour wants nothing pushed of this origin.
    pub(crate) fn withdraw_offers(&mut self, link: LinkId, origin: peerage_wire::PeerId) {
        if let Some(neighbour) = self.neighbours.get_mut(&link) {
            neighbour.offered.retain(|id, _| id.origin != origin);
        }
    }
}
