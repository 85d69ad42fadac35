//! Whom to have for neighbours, and whom not: not all of one network, not only those who came by themselves, and nobody
//! who misbehaved.

use std::net::{IpAddr, SocketAddr};

use peerage_machine::LinkId;
use peerage_wire::{Address, PeerId};

use super::{Change, Dial, Membership};
use crate::mesh::event::Loss;
use crate::mesh::links::{Cx, Link, Need};
use crate::mesh::packet::{Contact, Words};

impl Membership {
    /// How many neighbours are to be looked for.
    pub(super) fn lacking(&self, cx: &Cx<'_>) -> usize {
        let short = self.config.active_view.saturating_sub(self.active.len());
        let outbound = self.config.outbound.saturating_sub(self.outbound(cx));
        let room = self.config.active_limit().saturating_sub(self.active.len());
        short.max(outbound.min(room))
    }

    pub(super) fn outbound(&self, cx: &Cx<'_>) -> usize {
        self.active.values().filter(|link| cx.links.get(**link).is_some_and(Link::is_chosen)).count()
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
        let Some(prefix) = addresses.first().and_then(prefix) else { return false };
        let neighbours = self.active.values().filter_map(|link| cx.links.get(*link));
        let same = neighbours.filter(|link| link.addresses.first().and_then(self::prefix) == Some(prefix));
        same.count() >= self.config.per_prefix
    }

    /// The peer misbehaved.
    pub(crate) fn shun(&mut self, peer: &PeerId, cx: &mut Cx<'_>) {
        self.passive.remove(peer);
        self.lost.retain(|lost| lost.contact.peer != *peer);
        if let Some(link) = self.active.remove(peer) {
            cx.control(link, Words::Disconnect { leaving: false, others: Vec::new() });
            cx.links.unneed(link, Need::Neighbour, cx.out);
            self.changes.push(Change::Down(link, *peer, Loss::Shunned));
        }
        self.settle(cx);
    }
}

/// The part of an address that one who has many addresses has many of; `None` where nobody is far.
fn prefix(address: &Address) -> Option<u64> {
    let ip = address.rest().parse::<SocketAddr>().ok()?.ip().to_canonical();
    match ip {
        IpAddr::V4(v4) => {
            let near = v4.is_loopback() || v4.is_private() || v4.is_link_local() || v4.is_unspecified();
            (!near).then(|| u64::from(u32::from(v4) >> 8))
        }
        IpAddr::V6(v6) => {
            let near =
                v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_unspecified();
            // 48 bits, above all prefixes of IPv4.
            (!near).then(|| (u128::from(v6) >> 80) as u64 | 1 << 63)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::prefix;

    #[test]
    fn prefixes_are_of_networks_that_are_far() {
        let of = |text: &str| prefix(&text.parse().unwrap());
        assert_eq!(of("tcp://203.0.113.7:1"), of("tcp://203.0.113.250:9"));
        assert_ne!(of("tcp://203.0.113.7:1"), of("tcp://203.0.112.7:1"));
        assert_eq!(of("tcp://[2001:db8:1:2::3]:1"), of("tcp://[2001:db8:1:9::]:1"));
        assert_ne!(of("tcp://[2001:db8:1::]:1"), of("tcp://[2001:db8:2::]:1"));
        for near in
            ["tcp://127.0.0.1:1", "tcp://10.1.2.3:1", "tcp://[::1]:1", "tcp://[fe80::1]:1", "mem://alice"]
        {
            assert_eq!(of(near), None, "{near}");
        }
    }
}
