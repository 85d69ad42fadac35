//! What keeps the views full and the mesh one: refilling, shuffling, and looking for those who were lost.

use peerage_machine::{LinkId, Target};
use peerage_wire::{Address, PeerId};

use super::{Dial, LOST_ATTEMPTS, Lost, MAX_LOST, MAX_PENDING, Membership, Reason, Timer};
use crate::mesh::links::Cx;
use crate::mesh::packet::{Contact, Words};
use crate::mesh::passive::back_off;

/// Attempts at most for each neighbour that is lacking.
const AT_ONCE: usize = 6;

impl Membership {
    /// After every change: fills the view, and sees to it that something will happen if it cannot be filled.
    pub(super) fn settle(&mut self, cx: &mut Cx<'_>) {
        self.promote(cx);
        let now = cx.now.mono;
        let target = self.config.active_view;
        // Where most are dead, one after the other takes long: more are tried at once, the more have failed in a row.
        let at_once = (1 + self.failed as usize / 2).min(AT_ONCE);
        let lacking = self.lacking(cx);
        let most = MAX_PENDING.min(lacking * at_once);
        while self.pending() < most {
            let mut rng = self.rng.clone();
            let candidate = self.passive.candidate(now, &mut rng, |contact| self.is_unfit(contact, cx));
            self.rng = rng;
            let Some(candidate) = candidate else { break };
            let before = self.pending();
            self.ask(candidate, Reason::Refill, cx);
            if self.pending() == before {
                break;
            }
        }
        self.visit(cx);
        let short = lacking > 0 && self.pending() < most;
        // The whole view is read for it, after every change: only where it is asked for.
        match short.then(|| self.passive.next_retry(now)).flatten() {
            Some(at) => self.timers.arm(Timer::Refill, at),
            None => {
                self.timers.cancel(&Timer::Refill);
            }
        }
        if !self.active.is_empty() {
            self.timers.cancel(&Timer::Rejoin);
            let hungry = self.active.len() < target && self.hungry == 0;
            let soon = now + self.config.hungry_shuffle_every;
            if !self.timers.is_armed(&Timer::Shuffle)
                || (hungry && self.timers.at(&Timer::Shuffle) > Some(soon))
            {
                self.arm_shuffle(cx);
            }
        } else if !self.timers.is_armed(&Timer::Rejoin) && !self.contacts.is_empty() {
            let (first, last) = self.config.rejoin_after;
            let wait = first.saturating_mul(1 << self.rejoins.min(16)).min(last);
            self.timers.arm(Timer::Rejoin, now + self.rng.jitter(wait, 0.5));
        }
    }

    pub(super) fn rejoin(&mut self, cx: &mut Cx<'_>) {
        if self.active.is_empty() {
            self.rejoins += 1;
            for (address, _) in self.contacts.clone() {
                let dialling = self.dials.values().any(|dial| match dial {
                    Dial::Contact { address: dialled, .. } | Dial::Check { address: dialled } => {
                        *dialled == address
                    }
                    Dial::Peer { .. } => false,
                });
                if !dialling && self.pending() < MAX_PENDING {
                    let dial = cx.ids.dial();
                    self.dials.insert(dial, Dial::Contact { address: address.clone(), join: None });
                    cx.out.dial(dial, Target::Address(address));
                }
            }
        }
        self.settle(cx);
    }

    fn arm_shuffle(&mut self, cx: &Cx<'_>) {
        let usual = self.config.shuffle_every;
        let every = if self.active.len() < self.config.active_view {
            self.config.hungry_shuffle_every.saturating_mul(1 << self.hungry.min(16)).min(usual)
        } else if self.is_calm(cx) {
            self.config.calm_shuffle_every.max(usual)
        } else {
            usual
        };
        let wait = self.rng.jitter(every, 0.2);
        self.timers.arm(Timer::Shuffle, cx.now.mono + wait);
    }

    /// Whether there is little to learn: no neighbour broke off of late, and the passive view is full, or the last shuffle
    /// told of nobody new.
    fn is_calm(&self, cx: &Cx<'_>) -> bool {
        let unbroken =
            self.broken.is_none_or(|at| cx.now.mono.since(at) >= self.config.shuffle_every.saturating_mul(2));
        unbroken && (!self.learnt || self.passive.len() >= self.config.passive_view)
    }

    pub(super) fn shuffle(&mut self, cx: &mut Cx<'_>) {
        let Some(link) = self.random_neighbour(None) else { return };
        self.hungry = self.hungry.saturating_add(1);
        let mut sample = vec![self.me.clone()];
        let neighbours: Vec<LinkId> = self.active.values().copied().filter(|other| *other != link).collect();
        let chosen = self.rng.sample(neighbours, self.config.shuffle_active);
        sample.extend(
            chosen
                .into_iter()
                .filter_map(|link| cx.links.contact(link))
                .filter(|it| !it.addresses.is_empty()),
        );
        sample.extend(self.passive.sample(self.config.shuffle_passive, &mut self.rng));
        let nonce = self.rng.next_u64();
        self.own_walk = Some(nonce);
        cx.control(link, Words::Shuffle { nonce, ttl: self.config.active_walk, sample });
        if self.active.len() >= self.config.active_view && self.rng.chance(self.config.rotation) {
            let mut rng = self.rng.clone();
            let candidate =
                self.passive.candidate(cx.now.mono, &mut rng, |contact| self.is_unfit(contact, cx));
            self.rng = rng;
            if let Some(candidate) = candidate {
                self.ask(candidate, Reason::Rotate, cx);
            }
        }
        self.arm_shuffle(cx);
    }

    pub(super) fn remember_lost(&mut self, contact: Contact, cx: &Cx<'_>) {
        if contact.addresses.is_empty() {
            return;
        }
        self.lost.retain(|lost| lost.contact.peer != contact.peer);
        if self.lost.len() >= MAX_LOST {
            self.lost.remove(0);
        }
        let retry_at = cx.now.mono + self.rng.jitter(back_off(1), 0.5);
        self.lost.push(Lost { contact, retry_at, attempts: 0 });
        self.arm_lost();
    }

    fn arm_lost(&mut self) {
        match self.lost.iter().map(|lost| lost.retry_at).min() {
            Some(at) => self.timers.arm(Timer::Lost, at),
            None => {
                self.timers.cancel(&Timer::Lost);
            }
        }
    }

    pub(super) fn retry_lost(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now.mono;
        let mut due = Vec::new();
        for lost in &mut self.lost {
            if lost.retry_at <= now {
                lost.attempts += 1;
                lost.retry_at = now + self.rng.jitter(back_off(lost.attempts + 1), 0.5);
                due.push(lost.contact.clone());
            }
        }
        self.lost.retain(|lost| lost.attempts < LOST_ATTEMPTS);
        for contact in due {
            self.ask(contact, Reason::Merge { again: false }, cx);
        }
        self.arm_lost();
    }

    pub(super) fn note_contact(&mut self, address: &Address, peer: PeerId) {
        if let Some((_, known)) = self.contacts.iter_mut().find(|(known, _)| known == address) {
            *known = Some(peer);
        }
    }

    pub(super) fn arm_contact_check(&mut self, cx: &Cx<'_>) {
        if !self.timers.is_armed(&Timer::Contact) {
            let wait = self.rng.jitter(self.config.contact_every, 0.5);
            self.timers.arm(Timer::Contact, cx.now.mono + wait);
        }
    }

    /// Two halves of a mesh that forgot each other still have the contact in common, or somebody who did not answer then and
    /// does now.
    pub(super) fn check_contact(&mut self, cx: &mut Cx<'_>) {
        if !self.active.is_empty()
            && let Some(contact) = self.passive.silent(&mut self.rng)
        {
            self.ask(contact, Reason::Merge { again: true }, cx);
        }
        let strangers: Vec<Address> = self
            .contacts
            .iter()
            .filter(|(_, peer)| peer.is_none_or(|peer| !self.active.contains_key(&peer)))
            .map(|(address, _)| address.clone())
            .collect();
        if let Some(address) = self.rng.pick(&strangers).cloned()
            && !self.active.is_empty()
            && self.pending() < MAX_PENDING
        {
            let dial = cx.ids.dial();
            self.dials.insert(dial, Dial::Check { address: address.clone() });
            cx.out.dial(dial, Target::Address(address));
        }
        self.arm_contact_check(cx);
    }
}
