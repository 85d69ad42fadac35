//! What peers say about who is a neighbour.

use peerage_machine::LinkId;
use peerage_wire::PeerId;

use super::places::Place;
use super::{Change, Membership, Reason, Timer};
use crate::mesh::event::Loss;
use crate::mesh::links::{Cx, Need};
use crate::mesh::packet::{Contact, Words};
use crate::mesh::passive::{Failure, Source, back_off};

impl Membership {
    pub(crate) fn on_join(&mut self, link: LinkId, peer: PeerId, urgent: bool, cx: &mut Cx<'_>) {
        let walkers: Vec<LinkId> = self.active.values().copied().filter(|other| *other != link).collect();
        self.on_neighbour(link, peer, urgent, cx);
        let now = cx.now.mono;
        // One word of a stranger's makes some forty on the walks.
        if cx.links.get_mut(link).is_none_or(|it| it.meters.joins.is_over(now)) {
            return cx.out.count("mesh_walks_dropped_total", 1);
        }
        let Some(joiner) = cx.links.contact(link).filter(|joiner| !joiner.addresses.is_empty()) else {
            return;
        };
        for walker in walkers {
            cx.control(walker, Words::ForwardJoin { joiner: joiner.clone(), ttl: self.config.active_walk });
        }
    }

    pub(crate) fn on_neighbour(&mut self, link: LinkId, peer: PeerId, urgent: bool, cx: &mut Cx<'_>) {
        let others = self.others(&peer, cx);
        // A mesh in which everybody is full must still take in newcomers, and grow together after it was split.
        let unmoved = cx.now.mono >= self.settled_until;
        let fit = !cx.links.scores.is_shunned(&peer, cx.now.mono) && !self.is_crowded_by(link, cx);
        let room = self.lasting(cx) < self.config.active_limit() && self.has_inbound_room(link, cx);
        let is_one = self.active.contains_key(&peer);
        let place = match (fit && !is_one, room) {
            (false, _) => None,
            (true, true) => Some(Place::Free),
            (true, false) if unmoved => Some(Place::OfAnother),
            (true, false) => self.owed(&peer, urgent, cx),
        };
        let accepted = is_one || place.is_some();
        if let Some(place) = place {
            match place {
                Place::Free | Place::Guest => {}
                Place::OfAnother => self.make_room(&peer, cx),
                Place::OfGuest(guest, link) => self.let_go(guest, link, cx),
            }
            self.add_active(link, peer, matches!(place, Place::Guest | Place::OfGuest(..)), cx);
        } else if !accepted && let Some(contact) = cx.links.contact(link) {
            self.passive.add(contact, Source::Door, cx.now.mono, &mut self.rng);
        }
        cx.control(link, Words::NeighbourReply { accepted, others });
        self.settle(cx);
    }

    pub(crate) fn on_reply(
        &mut self,
        link: LinkId,
        peer: PeerId,
        accepted: bool,
        others: Vec<Contact>,
        cx: &mut Cx<'_>,
    ) {
        let reason = self.asked.remove(&link);
        self.timers.cancel(&Timer::Asked(link));
        let stranger = others.iter().find(|other| !self.is_known(&other.peer)).or_else(|| {
            others.iter().find(|other| other.peer != self.me.peer && !self.active.contains_key(&other.peer))
        });
        let stranger = stranger.cloned();
        if reason.is_some() {
            self.learn(others, peer, cx);
        }
        if accepted && !self.active.contains_key(&peer) {
            let uninvited = reason == Some(Reason::Invited) && !self.has_uninvited_room(cx);
            let is_full = self.lasting(cx) >= self.config.active_limit();
            let guest = is_full
                && matches!(reason, Some(Reason::Merge { .. }))
                && self.was_lost(&peer)
                && self.has_guest_room(cx);
            if reason.is_none() || uninvited || (is_full && !guest) {
                // It came too late, or others were quicker. It may have nobody else.
                let others = self.others(&peer, cx);
                cx.control(link, Words::Disconnect { leaving: false, others });
            } else {
                self.add_active(link, peer, guest, cx);
                if reason == Some(Reason::Rotate) && self.lasting(cx) > self.config.active_view {
                    self.make_room(&peer, cx);
                }
            }
        } else if !accepted && reason.is_some() {
            if self.active.is_empty() {
                self.refused_alone += 1;
            }
            self.passive.failed(&peer, Failure::Refused, cx.now.mono, false, &mut self.rng);
            if reason == Some(Reason::Merge { again: true })
                && let Some(other) = stranger
            {
                self.ask(other, Reason::Merge { again: false }, cx);
            }
        }
        cx.links.unneed(cx.now.mono, link, Need::Asked, cx.out);
        self.settle(cx);
    }

    pub(crate) fn on_disconnect(
        &mut self,
        link: LinkId,
        peer: PeerId,
        leaving: bool,
        others: Vec<Contact>,
        cx: &mut Cx<'_>,
    ) {
        if leaving {
            self.passive.remove(&peer);
            self.lost.retain(|lost| lost.contact.peer != peer);
        }
        if self.active.get(&peer) != Some(&link) {
            return;
        }
        self.active.remove(&peer);
        self.hungry = 0;
        self.learn(others, peer, cx);
        if !leaving && let Some(contact) = cx.links.contact(link) {
            self.remember(contact, link, back_off(3), cx);
        }
        cx.links.unneed(cx.now.mono, link, Need::Neighbour, cx.out);
        self.changes.push(Change::Down(link, peer, if leaving { Loss::Left } else { Loss::LetGo }));
        self.settle(cx);
    }

    pub(crate) fn on_forward_join(&mut self, link: LinkId, joiner: Contact, ttl: u32, cx: &mut Cx<'_>) {
        if joiner.peer == self.me.peer || self.active.contains_key(&joiner.peer) {
            return;
        }
        let Some(teller) = cx.links.get(link).map(|link| link.peer) else { return };
        let next = if ttl == 0 { None } else { self.random_neighbour(Some(link)) };
        if let Some(next) = next {
            if ttl == self.config.passive_walk {
                self.learn(vec![joiner.clone()], teller, cx);
            }
            cx.control(next, Words::ForwardJoin { joiner, ttl: ttl - 1 });
        } else if self.has_uninvited_room(cx) {
            self.ask(joiner, Reason::Invited, cx);
        } else {
            self.learn(vec![joiner], teller, cx);
        }
    }

    pub(crate) fn on_shuffle(
        &mut self,
        link: LinkId,
        nonce: u64,
        ttl: u32,
        sample: Vec<Contact>,
        cx: &mut Cx<'_>,
    ) {
        if sample.first().is_none_or(|first| first.peer == self.me.peer) {
            return;
        }
        let next = if ttl == 0 { None } else { self.random_neighbour(Some(link)) };
        if let Some(next) = next {
            self.walks.insert(nonce, link);
            cx.control(next, Words::Shuffle { nonce, ttl: ttl - 1, sample });
            return;
        }
        let mut reply = self.passive.sample(sample.len(), &mut self.rng);
        if reply.len() < sample.len() && !self.me.addresses.is_empty() {
            reply.push(self.me.clone());
        }
        cx.control(link, Words::ShuffleReply { nonce, sample: reply });
        if let Some(teller) = cx.links.get(link).map(|link| link.peer) {
            self.learn(sample, teller, cx);
        }
        self.settle(cx);
    }

    pub(crate) fn on_shuffle_reply(
        &mut self,
        link: LinkId,
        nonce: u64,
        sample: Vec<Contact>,
        cx: &mut Cx<'_>,
    ) {
        if self.own_walk == Some(nonce) {
            self.own_walk = None;
            self.learnt = sample.iter().any(|contact| !self.is_known(&contact.peer));
            if let Some(teller) = cx.links.get(link).map(|link| link.peer) {
                self.learn(sample, teller, cx);
            }
            self.settle(cx);
        } else if let Some(back) = self.walks.remove(&nonce) {
            cx.control(back, Words::ShuffleReply { nonce, sample });
        }
    }
}
