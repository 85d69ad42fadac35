//! The trees along which an origin's messages are pushed: who pushes to whom, and who asked not to be pushed to.
//!
//! A tree is directed. Each peer decides who pushes to it: it keeps the neighbour that feeds it, its parent, and prunes
//! every other neighbour that pushes too; whom it pushes to itself, the receivers decide in the same way. Plumtree
//! (section 3.8) removes both directions at once. With messages in flight that can cut a peer off from all who feed
//! it: what a pruned neighbour had under way comes first, the parent's copy is then the duplicate, and is pruned as
//! well. Here a link that was pruned never counts as the first, and of two that both feed us one always stays.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use peerage_machine::{Few, Instant, LinkId};
use peerage_wire::PeerId;

use super::broadcast::Broadcast;
use super::links::Cx;
use super::message::StreamKey;
use super::packet::{Notice, Run, Words};
use super::repair::packets;
use super::score::Deed;

/// A neighbour that pushes on after a prune is told again after so long: what was under way is no reason.
const PRUNE_AGAIN: Duration = Duration::from_millis(500);
/// A neighbour that pushes again after so long has forgotten that it was told: nobody keeps trees for ever.
const FORGOTTEN: Duration = Duration::from_secs(5);
/// A neighbour that is there at all has read after so long what it was told: who says nothing for 4 s is given up. On
/// links that are full, what was queued before comes seconds later.
const STOPPED: Duration = Duration::from_secs(5);
/// A parent that has pushed nothing for so long, while others did, is none any more.
const PARENT_SILENT: Duration = Duration::from_secs(1);

/// What a tree takes in memory, and what each neighbour in all of its four sets does.
pub(crate) const TREE_BYTES: usize = 192;
pub(crate) const TREE_LINK_BYTES: usize = 16 + TURNED_BYTES + 32 + 16;
const TURNED_BYTES: usize = 48;
/// Who was pruned for the second time within this is not asked again for being nearer only.
const RESTLESS: Duration = Duration::from_secs(60);
/// For so long, twice as long each time, up to 32 s: GossipSub 1.1's back-off is 60 s from the first time on, but a tree
/// that forms prunes whom it will want.
const BACK_OFF: Duration = Duration::from_secs(1);

/// Some neighbours.
pub(crate) type Links = Few<LinkId, ()>;

/// A neighbour that was pruned at some time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turned {
    /// It is, and was not asked to push since.
    pruned: bool,
    /// When it was told so: first, since it pushed again, and last.
    first: Instant,
    last: Instant,
    /// How often it was turned away lately, not counting when it was told again, and when last.
    times: u32,
    away: Instant,
}

/// One origin's tree, as this peer sees it.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    /// Neighbours that we push to.
    pub(crate) push: Links,
    /// Neighbours that were asked not to push to us.
    turned: Few<LinkId, Turned>,
    /// Since when neighbours have been pushed to.
    pub(crate) tried: Few<LinkId, Instant>,
    /// Neighbours that said that they have nothing to push, and have pushed nothing since.
    pub(crate) dry: Links,
}

impl Tree {
    pub(crate) fn forget(&mut self, link: LinkId) {
        self.push.remove(link);
        self.tried.remove(link);
        self.turned.remove(link);
        self.dry.remove(link);
    }

    /// It is told not to push to us.
    fn turn_away(&mut self, link: LinkId, now: Instant) {
        let fresh = Turned { pruned: false, first: now, last: now, times: 0, away: now };
        let turned = self.turned.get_or(link, fresh);
        if !turned.pruned {
            // For the first time since it pushed, or was asked to.
            let times = if turned.away + RESTLESS > now { turned.times.saturating_add(1) } else { 1 };
            *turned = Turned { pruned: true, times, ..fresh };
        }
        if turned.last + FORGOTTEN <= now {
            turned.first = now;
        }
        turned.last = now;
    }

    /// It is to push to us, or does.
    pub(crate) fn take_back(&mut self, link: LinkId) {
        if let Some(turned) = self.turned.get_mut(link) {
            turned.pruned = false;
        }
        self.dry.remove(link);
    }

    fn pruned(&self, link: LinkId) -> Option<&Turned> {
        self.turned.get(link).filter(|turned| turned.pruned)
    }

    pub(crate) fn is_pruned(&self, link: LinkId) -> bool {
        self.pruned(link).is_some()
    }

    /// The neighbours in the largest of its sets.
    pub(crate) fn most(&self) -> usize {
        self.push.len().max(self.turned.len()).max(self.tried.len()).max(self.dry.len())
    }

    /// Whether a neighbour was turned away so often that it is not to be asked just because it is nearer: two that
    /// are about as near would take turns for ever. For what is missing, or when nobody feeds us, anybody is asked.
    pub(crate) fn backs_off(&self, link: LinkId, now: Instant) -> bool {
        self.turned.get(link).is_some_and(|Turned { times, away, .. }| {
            let doublings = times.saturating_sub(2).min(5);
            *times >= 2 && *away + BACK_OFF * (1 << doublings) > now
        })
    }

    pub(crate) fn footprint(&self) -> usize {
        TREE_BYTES
            + self.push.len() * 16
            + self.turned.len() * TURNED_BYTES
            + self.tried.len() * 32
            + self.dry.len() * 16
    }
}

impl Broadcast {
    /// The tree of an origin, or a new one: the links of the tree of the smallest origin, in both directions, or all
    /// neighbours. All peers so start a new origin from the same tree.
    pub(crate) fn tree(&mut self, origin: PeerId) -> &mut Tree {
        let mut fresh = Tree::default();
        if self.trees.peek(&origin).is_none() {
            if let Some((model, tree)) = self.trees.iter().next() {
                fresh.push.clone_from(&tree.push);
                fresh.tried.clone_from(&tree.tried);
                let parents = self.streams.iter().filter(|(key, _)| key.origin == *model);
                let parents = parents.filter_map(|(_, stream)| stream.from);
                let parents = parents.filter(|link| self.neighbours.contains_key(link));
                fresh.push.extend(parents.map(|link| (link, ())));
            }
            if fresh.push.is_empty() {
                fresh.push = self.neighbours.keys().map(|link| (*link, ())).collect();
            }
        }
        self.trees.touch(&origin, || fresh).0
    }

    /// Whom to push an origin's messages to. Our own go to somebody, whatever was said.
    pub(crate) fn eager(&mut self, origin: PeerId) -> Links {
        let push = self.tree(origin).push.clone();
        if push.is_empty() && origin == self.me {
            return self.neighbours.keys().map(|link| (*link, ())).collect();
        }
        push
    }

    /// Who feeds us the stream: a neighbour, neither pruned nor dry.
    pub(crate) fn parent(&self, stream: StreamKey) -> Option<LinkId> {
        self.streams.peek(&stream)?.from.filter(|parent| self.can_feed(stream.origin, *parent))
    }

    fn can_feed(&self, origin: PeerId, link: LinkId) -> bool {
        self.neighbours.contains_key(&link)
            && self.trees.peek(&origin).is_none_or(|tree| !tree.is_pruned(link) && !tree.dry.contains(link))
    }

    fn is_pruned(&self, origin: PeerId, link: LinkId) -> bool {
        self.trees.peek(&origin).is_some_and(|tree| tree.is_pruned(link))
    }

    /// How far from the origin the stream's tree has us, if not the parent sent this.
    pub(crate) fn depth(&self, stream: StreamKey, from: Option<LinkId>) -> Option<u32> {
        let parent = self.parent(stream).filter(|parent| Some(*parent) != from)?;
        self.streams.peek(&stream).filter(|known| known.from == Some(parent)).map(|known| known.hops)
    }

    /// Has a neighbour feed us: the parent from now on, until another one proves better.
    pub(crate) fn graft(&mut self, stream: StreamKey, link: LinkId, now: Instant) {
        if let Some(tree) = self.trees.peek_mut(&stream.origin) {
            tree.take_back(link);
        }
        if let Some(known) = self.streams.peek_mut(&stream) {
            known.begins(link);
            known.fed = now;
        }
    }

    /// Who fed us these streams does not any more. What others announce is asked for at once: here, and in all peers
    /// below, which are told. All other neighbours may be among those, and would wait before they ask, so that their
    /// announcements, our only way back, came late. While an origin is quiet all neighbours are told, and those that are fed
    /// answer with how far we would be by them: otherwise we, and all below us, hang from whatever brings the next
    /// message first.
    pub(crate) fn orphaned(&mut self, streams: Vec<StreamKey>, cx: &mut Cx<'_>) {
        let now = cx.now.mono;
        let mut tell: BTreeMap<(LinkId, bool), Vec<Run>> = BTreeMap::new();
        for stream in streams {
            let Some(known) = self.streams.peek_mut(&stream) else { continue };
            known.from = None;
            let recent = known.fed + PARENT_SILENT > now;
            self.missing.hurry(stream, now);
            let Some(tree) = self.trees.peek(&stream.origin) else { continue };
            let told = self.neighbours.keys().filter(|link| !recent || tree.push.contains(**link));
            for link in told {
                let run = Run { stream, ranges: Vec::new(), hops: 0, now: true };
                tell.entry((*link, recent)).or_default().push(run);
            }
        }
        for ((link, recent), runs) in tell {
            for runs in packets(runs.into_iter()) {
                if recent {
                    let notices = runs.into_iter().map(Notice::from).collect();
                    cx.links.after_pushes(link, Words::Announce { notices }, cx.out);
                } else {
                    let notices = cx.links.notices(link, runs, now);
                    cx.links.control_if_room(link, Words::Announce { notices }, cx.out);
                }
            }
        }
    }

    /// The neighbour feeds none of these to us until it pushes again; nor do its messages that are still being checked
    /// show that it does.
    pub(crate) fn ran_dry(&mut self, link: LinkId, streams: &BTreeSet<StreamKey>, cx: &mut Cx<'_>) {
        let checked = self.verifying.values_mut();
        for checked in checked.filter(|it| it.link == link && streams.contains(&it.message.id.stream())) {
            checked.dry = true;
        }
        let mut orphans = Vec::new();
        for stream in streams {
            if let Some(tree) = self.trees.peek_mut(&stream.origin) {
                tree.dry.insert(link, ());
            }
            let Some(known) = self.streams.peek_mut(stream) else { continue };
            known.better = known.better.filter(|(better, _)| *better != link);
            known.second = known.second.filter(|(second, _)| *second != link);
            if known.from == Some(link) {
                orphans.push(*stream);
                // Once another one feeds us, it need not.
                self.replace(*stream, link);
            }
        }
        self.orphaned(orphans, cx);
        for stream in streams {
            self.offer(*stream, |it| it == link, cx);
        }
    }

    /// A message came first by this neighbour, pushed. It becomes the parent when there is none, when the parent is
    /// silent, or when it is no farther from the origin than the parent, which it has just beaten.
    pub(crate) fn fed_by(&mut self, stream: StreamKey, link: LinkId, hops: u32, cx: &mut Cx<'_>) {
        let now = cx.now.mono;
        let pruned = self.is_pruned(stream.origin, link);
        let parent = self.parent(stream);
        let Some(known) = self.streams.peek_mut(&stream) else { return };
        known.trial.take_if(|trial| trial.link == link);
        // Who fails us now and then is no parent while there is another one, however quick it was this time.
        let doubtful = cx.doubts(link);
        let stays = parent.is_some_and(|parent| {
            parent != link && (doubtful || known.fed + PARENT_SILENT > now && (pruned || hops > known.hops))
        });
        if stays {
            return;
        }
        let first = known.fed == Instant::START;
        known.begins(link);
        known.fed = now;
        known.hops = hops;
        if let Some(parent) = parent.filter(|parent| *parent != link) {
            self.replace(stream, parent);
        }
        if pruned {
            // It was the last that fed us after all.
            self.graft(stream, link, now);
        }
        if !first && parent != Some(link) {
            // Perhaps it took another parent in our place, and is about to push to us no more.
            let run = Run { stream, ranges: Vec::new(), hops: 0, now: true };
            cx.control(link, Words::Want { runs: vec![run] });
        }
    }

    /// A message was pushed by two neighbours: one of them is asked not to. `first` is `None` when it is not known, or is
    /// ourselves; it came at `since`.
    pub(crate) fn fed_twice(
        &mut self,
        stream: StreamKey,
        first: Option<LinkId>,
        second: LinkId,
        since: Instant,
        cx: &mut Cx<'_>,
    ) {
        let (origin, now) = (stream.origin, cx.now.mono);
        if first == Some(second) {
            // It was asked twice. One that feeds us must stay.
            return;
        }
        if let Some(told) = self.trees.peek(&origin).and_then(|tree| tree.pruned(second)).copied() {
            if told.first + STOPPED <= since && told.last + FORGOTTEN > now {
                cx.note(second, Deed::Unwanted);
            }
            if told.last + PRUNE_AGAIN <= now {
                self.prune(origin, second, cx);
            }
            return;
        }
        if origin == self.me || !self.neighbours.contains_key(&second) {
            return self.prune(origin, second, cx);
        }
        self.pass_trial(stream, second, now);
        // Without another that is known to feed us, this one must stay.
        let Some(first) = first.filter(|first| self.can_feed(origin, *first)) else { return };
        let parent = self.parent(stream);
        let (keep, lose) = if parent == Some(second) { (second, first) } else { (first, second) };
        if parent.is_none_or(|parent| parent == keep)
            && let Some(known) = self.streams.peek_mut(&stream)
        {
            known.from = Some(keep);
            known.fed = now;
        }
        if let Some(known) = self.streams.peek_mut(&stream)
            && known.replaced.contains(&lose)
        {
            known.replaced.retain(|replaced| *replaced != lose);
            self.feeds_itself(stream, lose);
        }
        self.prune(origin, lose, cx);
    }

    pub(crate) fn prune(&mut self, origin: PeerId, link: LinkId, cx: &mut Cx<'_>) {
        if self.neighbours.contains_key(&link) {
            let now = cx.now.mono;
            self.tree(origin).turn_away(link, now);
        }
        cx.control(link, Words::Prune { origin });
    }

    pub(crate) fn on_prune(&mut self, link: LinkId, origin: PeerId, cx: &mut Cx<'_>) {
        // Nothing was pushed without a tree, so whoever names another origin makes none, and pushes out none.
        if let Some(tree) = self.trees.peek_mut(&origin) {
            tree.push.remove(link);
            tree.tried.remove(link);
            self.withdraw_offers(link, origin);
        }
        if origin == self.me {
            // Perhaps this was the one without room.
            self.offer_room(cx);
        }
    }

    pub(crate) fn has_trees(&self) -> bool {
        self.trees.len() > 0
    }

    pub(crate) fn eager_origins(&self, link: LinkId) -> usize {
        self.trees.iter().filter(|(_, tree)| tree.push.contains(link)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_turned_away_again_and_again_is_left_alone_for_longer_and_longer() {
        let (mut tree, link) = (Tree::default(), LinkId(1));
        let mut now = Instant::START + Duration::from_secs(1);
        assert!(!tree.backs_off(link, now));
        tree.turn_away(link, now);
        tree.take_back(link);
        assert!(!tree.backs_off(link, now), "a tree that forms prunes whom it will want");
        for seconds in [1, 2, 4, 8, 16, 32, 32] {
            tree.turn_away(link, now);
            tree.take_back(link);
            assert!(tree.backs_off(link, now + Duration::from_millis(seconds * 1000 - 1)));
            now = now + Duration::from_secs(seconds);
            assert!(!tree.backs_off(link, now), "{seconds}");
        }
        now = now + RESTLESS;
        tree.turn_away(link, now);
        tree.take_back(link);
        assert!(!tree.backs_off(link, now), "long ago is forgotten");
        tree.turn_away(link, now);
        tree.take_back(link);
        tree.forget(link);
        assert!(!tree.backs_off(link, now));
    }
}
