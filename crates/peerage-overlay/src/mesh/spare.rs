//! "I don't want" for large messages (GossipSub 1.2's IDONTWANT): who has one says so at once to those who may be about
//! to push it, and what of it waits there is not sent.
//!
//! What a link has queued cannot be called back, so a large push waits here while there is much before it. A settled tree
//! pushes nothing twice and says next to nothing of this kind; where trees form or change it saves payloads.

use peerage_machine::LinkId;

use super::broadcast::{Broadcast, Neighbour, Owed};
use super::links::Cx;
use super::message::MessageId;
use super::packet::{Run, Words};
use super::ranges::{Range, subtract};

/// A large push waits while its link has more than this queued: enough to keep it busy until the next comes.
pub(crate) const QUEUED: u64 = 128 << 10;

impl Neighbour {
    /// Takes a range out of what it is owed. Whether anything of it was. It is split at most once for each call.
    fn owes_no_more(&mut self, gone: &Run, range: Range, limit: usize) -> bool {
        let Some(at) = self.owed.iter().position(|it| it.stream == gone.stream && it.range.meets(range)) else {
            return false;
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

    /// A large message is here: whoever may push it need not. Those who were told to push nothing of the origin's will not.
    pub(crate) fn spare_others(
        &mut self,
        id: &MessageId,
        hops: u32,
        from: Option<LinkId>,
        asked: Option<LinkId>,
        cx: &mut Cx<'_>,
    ) {
        let pruned = self.trees.peek(&id.origin).map(|tree| &tree.pruned);
        let may_push =
            |link: LinkId| asked == Some(link) || pruned.is_none_or(|pruned| !pruned.contains_key(&link));
        let links = self.neighbours.keys().copied();
        let links: Vec<LinkId> = links.filter(|link| Some(*link) != from && may_push(*link)).collect();
        for link in links {
            let run = Run { stream: id.stream(), ranges: vec![Range::one(id.seq)], hops, now: false };
            let notices = cx.links.notices(link, vec![run], cx.now.mono);
            cx.links.control_if_room(link, Words::Spare { notices }, cx.out);
        }
    }

    pub(crate) fn on_spare(&mut self, link: LinkId, runs: Vec<Run>, cx: &mut Cx<'_>) {
        let limit = self.config.owed_ranges;
        let Some(neighbour) = self.neighbours.get_mut(&link) else { return };
        let mut spared = 0;
        for run in runs {
            for range in &run.ranges {
                while neighbour.owes_no_more(&run, *range, limit) {
                    spared += 1;
                }
                neighbour.has(run.stream, *range, run.hops);
            }
        }
        if spared > 0 {
            cx.out.count("mesh_pushes_spared_total", spared);
            self.serve(link, cx);
            self.offer_room(cx);
        }
    }
}
