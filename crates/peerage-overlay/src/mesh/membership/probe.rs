//! Are the neighbours there?

use std::time::Duration;

use peerage_machine::LinkId;
use peerage_wire::PeerId;

use super::{Change, Membership, Timer};
use crate::mesh::event::Loss;
use crate::mesh::links::{Cx, Need};
use crate::mesh::packet::Words;
use crate::mesh::passive::back_off;

impl Membership {
    /// Sees to it that the neighbour is looked at that was silent longest.
    pub(super) fn arm_probe(&mut self, cx: &Cx<'_>) {
        let due = self.active.values().filter_map(|link| cx.links.get(*link)).map(|link| match link.probed {
            Some(since) => since + self.patience(link.rtt),
            None => link.heard + self.config.probe_every,
        });
        match due.min() {
            Some(at) => {
                self.probe_at = at;
                self.timers.arm(Timer::Probe, at);
            }
            None => {
                self.timers.cancel(&Timer::Probe);
            }
        }
    }

    fn patience(&self, rtt: Duration) -> Duration {
        self.config.probe_within.max(rtt.saturating_mul(4))
    }

    /// Asks the neighbours that are silent, and gives up those that did not answer.
    pub(super) fn probe(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now.mono;
        // Who comes late itself has not heard what came in time (Lifeguard, arXiv 1707.00788, section 3).
        let late = now.since(self.probe_at) >= self.config.probe_within / 2;
        // Who is due soon is asked now as well: a call for each costs more than the words.
        let early = self.config.probe_every - self.config.probe_every / 4;
        let mut silent: Vec<(PeerId, LinkId, Duration)> = Vec::new();
        for (peer, link) in self.active.clone() {
            let patience = cx.links.get(link).map_or(Duration::ZERO, |it| self.patience(it.rtt));
            let Some(it) = cx.links.get_mut(link) else { continue };
            match it.probed {
                Some(_) if late => it.probed = Some(now),
                Some(since) if since + patience <= now => silent.push((peer, link, now.since(it.heard))),
                Some(_) => {}
                None if it.heard + early <= now => {
                    it.probed = Some(now);
                    cx.control(link, Words::Probe { answer: false });
                }
                None => {}
            }
        }
        for (peer, link, after) in silent {
            self.lose_silent(peer, link, after, cx);
        }
        self.arm_probe(cx);
        self.settle(cx);
    }

    fn lose_silent(&mut self, peer: PeerId, link: LinkId, after: Duration, cx: &mut Cx<'_>) {
        self.active.remove(&peer);
        self.failed = self.failed.saturating_add(1);
        self.hungry = 0;
        self.broken = Some(cx.now.mono);
        // In case it hears after all.
        cx.control(link, Words::Disconnect { leaving: false, others: Vec::new() });
        if let Some(contact) = cx.links.contact(link) {
            self.remember_lost(contact.clone(), cx);
            self.remember(contact, link, back_off(4), cx);
            self.passive.doubt(&peer);
        }
        self.passive.try_again(cx.now.mono);
        cx.links.unneed(cx.now.mono, link, Need::Neighbour, cx.out);
        self.changes.push(Change::Down(link, peer, Loss::Silent { after }));
    }
}
