//! Who gets a place, and who loses one for it.
//!
//! Whoever has many identities asks for a place with each, urgently, again and again. So nobody's place is given up for
//! urgency: there are two places beyond the others for those in need, and they lose them to each other. The others keep
//! theirs however many ask.
//!
//! In need is also who was lost and is there again: the mesh may have been cut in two, and where everybody on one side is
//! everybody else's neighbour, no place would be free for the other side.

use std::cmp::Reverse;
use std::time::Duration;

use peerage_machine::LinkId;
use peerage_wire::PeerId;

use super::{Change, Membership};
use crate::mesh::event::Loss;
use crate::mesh::links::{Cx, Link, Need};
use crate::mesh::packet::{Contact, Words};
use crate::mesh::passive::{Source, back_off};
use crate::mesh::score::Merit;

/// Places for those in need, beyond all others.
pub(crate) const GUESTS: usize = 2;
/// How often somebody loses such a place for the urgency of another one.
const URGENT_EVERY: Duration = Duration::from_secs(1);
/// Of so many neighbours that are the first to lose their places, a random one does.
const AT_RISK: usize = 2;

/// A place that somebody who asks may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Free,
    /// That of the neighbour who is of the least use.
    OfAnother,
    /// A free one for those in need.
    Guest,
    /// That of this one who was in need.
    OfGuest(PeerId, LinkId),
}

impl Membership {
    /// Neighbours but for guests.
    pub(super) fn lasting(&self, cx: &Cx<'_>) -> usize {
        self.active.len() - self.guests(cx).count().min(self.active.len())
    }

    fn guests<'a>(&'a self, cx: &'a Cx<'_>) -> impl Iterator<Item = (PeerId, LinkId)> + 'a {
        self.neighbours().filter(|(_, link)| cx.links.get(*link).is_some_and(|it| it.guest))
    }

    pub(super) fn has_guest_room(&self, cx: &Cx<'_>) -> bool {
        self.guests(cx).count() < GUESTS
    }

    /// Whether the peer was taken for gone.
    pub(super) fn was_lost(&self, peer: &PeerId) -> bool {
        self.lost.iter().any(|lost| lost.contact.peer == *peer) || self.passive.is_silent(peer)
    }

    /// Whether one more may come by itself on this link.
    pub(super) fn has_inbound_room(&self, link: LinkId, cx: &Cx<'_>) -> bool {
        cx.links.get(link).is_some_and(Link::is_chosen) || self.inbound(cx) < self.most_inbound()
    }

    /// Whether one more may come that a neighbour told us to ask.
    pub(super) fn has_uninvited_room(&self, cx: &Cx<'_>) -> bool {
        self.lasting(cx) < self.config.active_limit() && self.inbound(cx) < self.most_inbound()
    }

    fn inbound(&self, cx: &Cx<'_>) -> usize {
        self.lasting(cx).saturating_sub(self.outbound(cx))
    }

    fn most_inbound(&self) -> usize {
        self.config.active_limit().saturating_sub(self.config.outbound).max(1)
    }

    /// The place that the peer may have though none is free: another one's if it proved useful and that one did not, and
    /// one for those in need if it is alone, was lost, or has spoken.
    pub(super) fn owed(&mut self, peer: &PeerId, urgent: bool, cx: &Cx<'_>) -> Option<Place> {
        let now = cx.now.mono;
        let merit = cx.links.scores.merit(peer, now);
        let is_last = |(peer, link): &(PeerId, LinkId)| {
            cx.links.scores.merit(peer, now) == Merit::None
                && !cx.links.get(*link).is_some_and(Link::is_chosen)
        };
        if merit == Merit::Brought && self.by_merit(peer, cx).first().is_some_and(is_last) {
            return Some(Place::OfAnother);
        }
        if self.was_lost(peer) && self.has_guest_room(cx) {
            return Some(Place::Guest);
        }
        if !urgent && merit == Merit::None {
            return None;
        }
        let guests: Vec<(Merit, PeerId, LinkId)> =
            self.guests(cx).map(|(guest, link)| (cx.links.scores.merit(&guest, now), guest, link)).collect();
        if guests.len() < GUESTS {
            return Some(Place::Guest);
        }
        let least = guests.iter().map(|(merit, ..)| *merit).min()?;
        if least >= merit {
            if !urgent || self.spared_until > now {
                return None;
            }
            self.spared_until = now + URGENT_EVERY;
        }
        let guests: Vec<_> = guests.into_iter().filter(|(merit, ..)| *merit == least).collect();
        self.rng.pick(&guests).map(|(_, guest, link)| Place::OfGuest(*guest, *link))
    }

    /// Where a place is free, the most useful guest has it from now on.
    pub(super) fn promote(&mut self, cx: &mut Cx<'_>) {
        while self.lasting(cx) < self.config.active_limit() {
            let now = cx.now.mono;
            let fit = self.guests(cx).filter(|(_, link)| self.has_inbound_room(*link, cx));
            let best = fit.max_by_key(|(peer, link)| {
                let since = cx.links.get(*link).map(|it| it.since);
                (cx.links.scores.merit(peer, now), Reverse(since), *peer)
            });
            let Some((_, link)) = best else { return };
            if let Some(it) = cx.links.get_mut(link) {
                it.guest = false;
            }
        }
    }

    /// Those who may lose their places, the first to lose it first. Who was chosen keeps its place while such are not more
    /// than the floor, unless there are no others.
    fn by_merit(&self, spared: &PeerId, cx: &Cx<'_>) -> Vec<(PeerId, LinkId)> {
        let now = cx.now.mono;
        let is_guest = |link: LinkId| cx.links.get(link).is_some_and(|it| it.guest);
        let chosen = |link: LinkId| cx.links.get(link).is_some_and(Link::is_chosen);
        let all = self.neighbours().filter(|(peer, link)| peer != spared && !is_guest(*link));
        let mut some: Vec<(PeerId, LinkId)> = all.collect();
        if self.outbound(cx) <= self.config.outbound && some.iter().any(|(_, link)| !chosen(*link)) {
            some.retain(|(_, link)| !chosen(*link));
        }
        some.sort_by_key(|(peer, link)| {
            let since = cx.links.get(*link).map(|it| it.since);
            (cx.links.scores.merit(peer, now), chosen(*link), Reverse(since), *peer)
        });
        some
    }

    /// Lets a neighbour go that is not `spared`.
    pub(super) fn make_room(&mut self, spared: &PeerId, cx: &mut Cx<'_>) {
        let now = cx.now.mono;
        let mut first = self.by_merit(spared, cx);
        first.truncate(AT_RISK);
        let least = first.first().map(|(peer, _)| cx.links.scores.merit(peer, now));
        first.retain(|(peer, _)| Some(cx.links.scores.merit(peer, now)) == least);
        if let Some((peer, link)) = self.rng.pick(&first).copied() {
            self.let_go(peer, link, cx);
        }
    }

    pub(super) fn let_go(&mut self, peer: PeerId, link: LinkId, cx: &mut Cx<'_>) {
        self.active.remove(&peer);
        let others = self.others(&peer, cx);
        cx.control(link, Words::Disconnect { leaving: false, others });
        if let Some(contact) = cx.links.contact(link) {
            self.remember(contact, link, back_off(3), cx);
        }
        cx.links.unneed(cx.now.mono, link, Need::Neighbour, cx.out);
        self.changes.push(Change::Down(link, peer, Loss::Replaced));
    }

    /// Keeps in mind who was a neighbour on this link.
    pub(super) fn remember(&mut self, contact: Contact, link: LinkId, wait: Duration, cx: &Cx<'_>) {
        let chosen = cx.links.get(link).is_some_and(Link::is_chosen);
        let source = self.source_of(&contact.peer, chosen, cx);
        self.passive.add(contact, source, cx.now.mono + wait, &mut self.rng);
    }

    pub(super) fn source_of(&self, peer: &PeerId, chosen: bool, cx: &Cx<'_>) -> Source {
        match cx.links.scores.merit(peer, cx.now.mono) {
            Merit::Brought => Source::Proven,
            Merit::None | Merit::Spoke if chosen => Source::Kept,
            Merit::None | Merit::Spoke => Source::Door,
        }
    }
}
