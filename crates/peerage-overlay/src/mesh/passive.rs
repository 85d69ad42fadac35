//! Peers to turn to when a neighbour is lost.

use std::time::Duration;

use peerage_machine::{Instant, Rng};
use peerage_wire::PeerId;

use super::packet::Contact;

/// Failures after which a peer is forgotten, unless there is no neighbour.
const MAX_FAILURES: u32 = 5;
const FIRST_BACK_OFF: Duration = Duration::from_secs(1);
const LAST_BACK_OFF: Duration = Duration::from_secs(30);

#[derive(Clone, Debug)]
struct Entry {
    contact: Contact,
    retry_at: Instant,
    failures: u32,
}

/// The passive view: peers with addresses, in no order.
#[derive(Clone, Debug)]
pub(crate) struct Passive {
    entries: Vec<Entry>,
    limit: usize,
}

impl Passive {
    pub(crate) fn new(limit: usize) -> Self {
        Self { entries: Vec::new(), limit }
    }

    /// Remembers a peer; a full view forgets a random one for it. A peer that cannot be dialled is of no use.
    pub(crate) fn add(&mut self, contact: Contact, retry_at: Instant, rng: &mut Rng) {
        if contact.addresses.is_empty() || self.contains(&contact.peer) {
            return;
        }
        if self.entries.len() >= self.limit {
            self.entries.swap_remove(rng.index(self.entries.len()));
        }
        self.entries.push(Entry { contact, retry_at, failures: 0 });
    }

    pub(crate) fn contains(&self, peer: &PeerId) -> bool {
        self.entries.iter().any(|entry| entry.contact.peer == *peer)
    }

    pub(crate) fn find(&self, peer: &PeerId) -> Option<&Contact> {
        self.entries.iter().map(|entry| &entry.contact).find(|contact| contact.peer == *peer)
    }

    pub(crate) fn remove(&mut self, peer: &PeerId) {
        self.entries.retain(|entry| entry.contact.peer != *peer);
    }

    /// The peer did not become a neighbour: not again for a while, twice as long each time, and not at all if it was
    /// unreachable too often.
    pub(crate) fn failed(&mut self, peer: &PeerId, now: Instant, forget: bool, rng: &mut Rng) {
        let Some(at) = self.entries.iter().position(|entry| entry.contact.peer == *peer) else { return };
        let Some(entry) = self.entries.get_mut(at) else { return };
        entry.failures += 1;
        if forget && entry.failures >= MAX_FAILURES {
            self.entries.swap_remove(at);
            return;
        }
        entry.retry_at = now + rng.jitter(back_off(entry.failures), 0.5);
    }

    /// A random peer that may be tried now, of those that failed least.
    pub(crate) fn candidate(
        &self,
        now: Instant,
        rng: &mut Rng,
        unfit: impl Fn(&Contact) -> bool + Copy,
    ) -> Option<Contact> {
        let ready = self.entries.iter().filter(|entry| entry.retry_at <= now && !unfit(&entry.contact));
        let least = ready.clone().map(|entry| entry.failures).min()?;
        rng.sample(ready.filter(|entry| entry.failures == least), 1)
            .first()
            .map(|entry| entry.contact.clone())
    }

    /// When the next peer may be tried that may not now.
    pub(crate) fn next_retry(&self, now: Instant) -> Option<Instant> {
        self.entries.iter().map(|entry| entry.retry_at).filter(|at| *at > now).min()
    }

    /// All of them, those that failed least first.
    pub(crate) fn contacts(&self) -> Vec<&Contact> {
        let mut entries: Vec<&Entry> = self.entries.iter().collect();
        entries.sort_by_key(|entry| (entry.failures, entry.contact.peer));
        entries.into_iter().map(|entry| &entry.contact).collect()
    }

    pub(crate) fn sample(&self, count: usize, rng: &mut Rng) -> Vec<Contact> {
        rng.sample(self.entries.iter().map(|entry| &entry.contact), count).into_iter().cloned().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

/// 1 s, 2 s, 4 s, … 30 s.
pub(crate) fn back_off(failures: u32) -> Duration {
    FIRST_BACK_OFF.saturating_mul(1 << failures.saturating_sub(1).min(8)).min(LAST_BACK_OFF)
}
