//! Who gets a place, and who loses one for it.
//!
//! Whoever has many identities asks for a place with each, urgently, again and again. So a place is lost by those who
//! brought nothing new of late, came by themselves, and came last: the others keep theirs however many ask.

use std::cmp::Reverse;
use std::time::Duration;

use peerage_machine::LinkId;
use peerage_wire::PeerId;

use super::{Change, Membership};
use crate::mesh::event::Loss;
use crate::mesh::links::{Cx, Link, Need};
use crate::mesh::packet::{Contact, Words};
use crate::mesh::passive::{Source, back_off};

/// How often somebody loses a place for the urgency of another one.
const URGENT_EVERY: Duration = Duration::from_secs(1);
/// Of so many neighbours that are the first to lose their places, a random one does.
const AT_RISK: usize = 2;

impl Membership {
    /// Whether one more may come by itself on this link.
    pub(super) fn has_inbound_room(&self, link: LinkId, cx: &Cx<'_>) -> bool {
        cx.links.get(link).is_some_and(Link::is_chosen) || self.inbound(cx) < self.most_inbound()
    }

    /// Whether one more may come that a neighbour told us to ask.
    pub(super) fn has_uninvited_room(&self, cx: &Cx<'_>) -> bool {
        self.active.len() < self.config.active_limit() && self.inbound(cx) < self.most_inbound()
    }

    fn inbound(&self, cx: &Cx<'_>) -> usize {
        self.active.len() - self.outbound(cx).min(self.active.len())
    }

    fn most_inbound(&self) -> usize {
        self.config.active_limit().saturating_sub(self.config.outbound).max(1)
    }

    /// Whether somebody has to make room for the peer: it proved itself and one of the neighbours did not, or it is alone.
    pub(super) fn is_owed_a_place(&mut self, peer: &PeerId, urgent: bool, cx: &Cx<'_>) -> bool {
        let now = cx.now.mono;
        let scores = &cx.links.scores;
        let is_last = |(peer, link): &(PeerId, LinkId)| {
            !scores.is_proven(peer, now) && !cx.links.get(*link).is_some_and(Link::is_chosen)
        };
        if scores.is_proven(peer, now) && self.by_merit(peer, cx).first().is_some_and(is_last) {
            return true;
        }
        let owed = urgent && self.spared_until <= now;
        if owed {
            self.spared_until = now + URGENT_EVERY;
        }
        owed
    }

    /// Those who may lose their places, the first to lose it first. Who was chosen keeps its place while such are not more
    /// than the floor, unless there are no others.
    fn by_merit(&self, spared: &PeerId, cx: &Cx<'_>) -> Vec<(PeerId, LinkId)> {
        let now = cx.now.mono;
        let all = || self.neighbours().filter(|(peer, _)| peer != spared);
        let chosen = |link: LinkId| cx.links.get(link).is_some_and(Link::is_chosen);
        let mut some: Vec<(PeerId, LinkId)> = all().collect();
        if self.outbound(cx) <= self.config.outbound && some.iter().any(|(_, link)| !chosen(*link)) {
            some.retain(|(_, link)| !chosen(*link));
        }
        some.sort_by_key(|(peer, link)| {
            let since = cx.links.get(*link).map(|it| it.since);
            (cx.links.scores.is_proven(peer, now), chosen(*link), Reverse(since), *peer)
        });
        some
    }

    /// Lets a neighbour go that is not `spared`.
    pub(super) fn make_room(&mut self, spared: &PeerId, cx: &mut Cx<'_>) {
        let now = cx.now.mono;
        let mut first = self.by_merit(spared, cx);
        first.truncate(AT_RISK);
        if first.first().is_some_and(|(peer, _)| !cx.links.scores.is_proven(peer, now)) {
            first.retain(|(peer, _)| !cx.links.scores.is_proven(peer, now));
        }
        let Some((peer, link)) = self.rng.pick(&first).copied() else { return };
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
        match cx.links.scores.is_proven(peer, cx.now.mono) {
            true => Source::Proven,
            false if chosen => Source::Kept,
            false => Source::Door,
        }
    }
}
