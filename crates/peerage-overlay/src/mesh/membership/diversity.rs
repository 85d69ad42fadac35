//! Whom to have for neighbours, and whom not: not all of one network, not only those who came by themselves, and nobody
//! who misbehaved.

use peerage_machine::LinkId;
use peerage_wire::{Address, PeerId};

use super::{Change, Dial, Membership};
use crate::mesh::event::Loss;
use crate::mesh::links::{Cx, Need};
use crate::mesh::packet::{Contact, Words};

impl Membership {
    /// How many neighbours are to be looked for.
    pub(super) fn lacking(&self, cx: &Cx<'_>) -> usize {
        let lasting = self.lasting(cx);
        let short = self.config.active_view.saturating_sub(lasting);
        let outbound = self.config.outbound.saturating_sub(self.outbound(cx));
        let room = self.config.active_limit().saturating_sub(lasting);
        short.max(outbound.min(room))
    }

    pub(super) fn outbound(&self, cx: &Cx<'_>) -> usize {
        let links = self.active.values().filter_map(|link| cx.links.get(*link));
        links.filter(|link| !link.guest && link.is_chosen()).count()
    }

    /// Not to be asked: a neighbour or asked already, shunned, or one more of a prefix that has enough.
    pub(super) fn is_unfit(&self, contact: &Contact, cx: &Cx<'_>) -> bool {
        self.is_busy_with(&contact.peer, cx) || self.is_crowded(&contact.addresses, cx)
    }

    pub(super) fn is_busy_with(&self, peer: &PeerId, cx: &Cx<'_>) -> bool {
        self.active.contains_key(peer)
            || cx.links.scores.is_shunned(peer, cx.now.mono)
            || cx.links.to(peer).is_some_and(|link| self.asked.contains_key(&link))
            || self
                .dials
                .values()
                .any(|dial| matches!(dial, Dial::Peer { peer: dialled, .. } if dialled == peer))
    }

    pub(super) fn is_crowded_by(&self, link: LinkId, cx: &Cx<'_>) -> bool {
        cx.links.get(link).is_some_and(|link| self.is_crowded(&link.addresses, cx))
    }

    fn is_crowded(&self, addresses: &[Address], cx: &Cx<'_>) -> bool {
        let Some(site) = addresses.first().and_then(Address::site) else { return false };
        let neighbours = self.active.values().filter_map(|link| cx.links.get(*link));
        let same = neighbours.filter(|link| link.addresses.first().and_then(Address::site) == Some(site));
        same.count() >= self.config.per_prefix
    }

    /// The peer misbehaved.
    pub(crate) fn shun(&mut self, peer: &PeerId, cx: &mut Cx<'_>) {
        self.passive.remove(peer);
        self.lost.retain(|lost| lost.contact.peer != *peer);
        if let Some(link) = self.active.remove(peer) {
            cx.control(link, Words::Disconnect { leaving: false, others: Vec::new() });
            cx.links.unneed(cx.now.mono, link, Need::Neighbour, cx.out);
            self.changes.push(Change::Down(link, *peer, Loss::Shunned));
        }
        self.settle(cx);
    }
}
