//! Who gets a place, and who loses one for it.

use peerage_machine::LinkId;
use peerage_wire::PeerId;

use super::{Change, Membership};
use crate::mesh::event::Loss;
use crate::mesh::links::{Cx, Need};
use crate::mesh::packet::Words;
use crate::mesh::passive::back_off;

impl Membership {
    /// Whether one more may come by itself on this link.
    pub(super) fn has_inbound_room(&self, link: LinkId, cx: &Cx<'_>) -> bool {
        let inbound = self.active.len() - self.outbound(cx).min(self.active.len());
        let most = self.config.active_limit().saturating_sub(self.config.outbound).max(1);
        cx.links.get(link).is_some_and(|link| link.dialled) || inbound < most
    }

    /// Lets a neighbour go for one who came by itself: where that takes a place of those who did so, one of them.
    pub(super) fn make_room(&mut self, spared: &PeerId, link: LinkId, cx: &mut Cx<'_>) {
        let only_inbound = !self.has_inbound_room(link, cx);
        self.drop_random(spared, only_inbound, cx);
    }

    /// Lets a neighbour go that is not `spared`, or one that came by itself.
    pub(super) fn drop_random(&mut self, spared: &PeerId, only_inbound: bool, cx: &mut Cx<'_>) {
        let dialled = |link: &LinkId| cx.links.get(*link).is_some_and(|link| link.dialled);
        let others: Vec<(PeerId, LinkId)> = self
            .neighbours()
            .filter(|(peer, link)| peer != spared && !(only_inbound && dialled(link)))
            .collect();
        let Some((peer, link)) = self.rng.pick(&others).copied() else { return };
        self.active.remove(&peer);
        let others = self.others(&peer, cx);
        cx.control(link, Words::Disconnect { leaving: false, others });
        if let Some(contact) = cx.links.contact(link) {
            self.passive.add(contact, cx.now.mono + back_off(3), &mut self.rng);
        }
        cx.links.unneed(link, Need::Neighbour, cx.out);
        self.changes.push(Change::Down(link, peer, Loss::Replaced));
    }
}
