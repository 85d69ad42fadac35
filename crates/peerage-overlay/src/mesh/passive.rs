//! Peers to turn to when a neighbour is lost.

use std::time::Duration;

use peerage_machine::{Instant, Rng};
use peerage_wire::PeerId;

use super::packet::Contact;

/// Failures after which a peer is forgotten, unless there is no neighbour.
const MAX_FAILURES: u32 = 5;
const FIRST_BACK_OFF: Duration = Duration::from_secs(1);
const LAST_BACK_OFF: Duration = Duration::from_secs(30);

/// Room is made for so many at a time.
const STEP: usize = 8;

/// Of one source come at most this part of a full view, and so many in any case.
const SHARE: usize = 4;
const LEAST_SHARE: usize = 8;

/// How a peer got to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// It was a neighbour and brought what nobody else had brought.
    Proven,
    /// It was chosen, or is in the book of an earlier start.
    Kept,
    /// It came by itself.
    Door,
    /// This neighbour told of it.
    Told(PeerId),
}

impl Source {
    fn is_limited(self) -> bool {
        matches!(self, Self::Door | Self::Told(_))
    }
}

#[derive(Clone, Debug)]
struct Entry {
    contact: Contact,
    source: Source,
    retry_at: Instant,
    failures: u32,
    /// Nobody answered there last.
    silent: bool,
}

/// Why a peer did not become a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It has no place.
    Refused,
    /// Nobody answered.
    Silent,
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

    /// Remembers a peer; a full view forgets a random one for it, and of a source that has told of many, one of those.
    /// Who proved itself is forgotten last, while such are less than half of the view. A peer that cannot be dialled is of
    /// no use.
    pub(crate) fn add(&mut self, contact: Contact, source: Source, retry_at: Instant, rng: &mut Rng) {
        if contact.addresses.is_empty() || self.contains(&contact.peer) {
            return;
        }
        let of = |wanted: Source| self.entries.iter().filter(move |entry| entry.source == wanted).count();
        let share = (self.limit / SHARE).max(LEAST_SHARE);
        let gone = if source.is_limited() && of(source) >= share {
            self.random(|entry| entry.source == source, rng)
        } else if self.entries.len() < self.limit {
            None
        } else if of(Source::Proven) * 2 < self.limit {
            self.random(|entry| entry.source != Source::Proven, rng)
        } else {
            self.random(|_| true, rng)
        };
        if let Some(gone) = gone {
            self.entries.swap_remove(gone);
        }
        if self.entries.len() == self.entries.capacity() {
            self.entries.reserve_exact(STEP);
        }
        self.entries.push(Entry { contact, source, retry_at, failures: 0, silent: false });
    }

    /// Where a random one of these is.
    fn random(&self, of: impl Fn(&Entry) -> bool, rng: &mut Rng) -> Option<usize> {
        let found = self.entries.iter().enumerate().filter(|(_, entry)| of(entry)).map(|(at, _)| at);
        rng.sample(found, 1).first().copied()
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

    /// The peer did not become a neighbour: not again for a while, twice as long each time, and with `forget`, not at all if
    /// it failed too often.
    pub(crate) fn failed(&mut self, peer: &PeerId, why: Failure, now: Instant, forget: bool, rng: &mut Rng) {
        let Some(at) = self.entries.iter().position(|entry| entry.contact.peer == *peer) else { return };
        let Some(entry) = self.entries.get_mut(at) else { return };
        entry.failures += 1;
        if forget && entry.failures >= MAX_FAILURES {
            self.entries.swap_remove(at);
            return;
        }
        entry.retry_at = now + rng.jitter(back_off(entry.failures), 0.5);
        entry.silent = why == Failure::Silent;
    }

    /// Whoever has no place for us may have one now: to be tried at once.
    pub(crate) fn try_again(&mut self, now: Instant) {
        for entry in self.entries.iter_mut().filter(|entry| !entry.silent) {
            entry.retry_at = entry.retry_at.min(now);
        }
    }

    /// The peer was a neighbour and fell silent.
    pub(crate) fn doubt(&mut self, peer: &PeerId) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.contact.peer == *peer) {
            entry.silent = true;
        }
    }

    /// All of whom it is not known that nobody answers there.
    pub(crate) fn hopeful(&self) -> impl Iterator<Item = &Contact> {
        self.entries.iter().filter(|entry| !entry.silent).map(|entry| &entry.contact)
    }

    /// Whether it did not answer last.
    pub(crate) fn is_silent(&self, peer: &PeerId) -> bool {
        self.entries.iter().any(|entry| entry.silent && entry.contact.peer == *peer)
    }

    /// A random peer that may be tried now, of those that answered last time, and of these, of those that failed least; every
    /// other time, of those that proved themselves.
    pub(crate) fn candidate(
        &self,
        now: Instant,
        rng: &mut Rng,
        unfit: impl Fn(&Contact) -> bool,
    ) -> Option<Contact> {
        let prefers_proven = rng.chance(0.5);
        let ready = self.entries.iter().filter(|entry| entry.retry_at <= now);
        let mut ready: Vec<(bool, u32, bool, u64, &Contact)> = ready
            .map(|entry| {
                let proven = prefers_proven && entry.source == Source::Proven;
                (entry.silent, entry.failures, !proven, rng.next_u64(), &entry.contact)
            })
            .collect();
        ready.sort_unstable_by_key(|(silent, failures, unproven, chance, _)| {
            (*silent, *failures, *unproven, *chance)
        });
        // Whether it fits takes longer than all of this, and mostly the first one does.
        ready.into_iter().map(|(.., contact)| contact).find(|contact| !unfit(contact)).cloned()
    }

    /// When the next peer may be tried that may not now.
    pub(crate) fn next_retry(&self, now: Instant) -> Option<Instant> {
        self.entries.iter().map(|entry| entry.retry_at).filter(|at| *at > now).min()
    }

    /// All of them, those first that answered last time, and of these, those that failed least.
    pub(crate) fn contacts(&self) -> Vec<&Contact> {
        let mut entries: Vec<&Entry> = self.entries.iter().collect();
        entries.sort_by_key(|entry| (entry.silent, entry.failures, entry.contact.peer));
        entries.into_iter().map(|entry| &entry.contact).collect()
    }

    /// A random one of those that did not answer last.
    pub(crate) fn silent(&self, rng: &mut Rng) -> Option<Contact> {
        let silent = self.entries.iter().filter(|entry| entry.silent).map(|entry| &entry.contact);
        rng.sample(silent, 1).first().map(|contact| (*contact).clone())
    }

    /// Some that others may be told of: none that did not answer us.
    pub(crate) fn sample(&self, count: usize, rng: &mut Rng) -> Vec<Contact> {
        let good = self.entries.iter().filter(|entry| !entry.silent).map(|entry| &entry.contact);
        rng.sample(good, count).into_iter().cloned().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

/// 1 s, 2 s, 4 s, … 30 s.
pub(crate) fn back_off(failures: u32) -> Duration {
    FIRST_BACK_OFF.saturating_mul(1 << failures.saturating_sub(1).min(8)).min(LAST_BACK_OFF)
}

#[cfg(test)]
mod tests {
    use super::*;
    use peerage_machine::Seed;

    fn contact(number: u8) -> Contact {
        let addresses = vec![format!("mem://{number}").parse().unwrap()];
        Contact { peer: PeerId::from_bytes([number; 32]), addresses }
    }

    #[test]
    fn one_who_tells_of_many_pushes_out_only_what_he_told() {
        let (mut passive, mut rng) = (Passive::new(40), Seed::from_u64(1).rng());
        let mut add = |passive: &mut Passive, range: std::ops::Range<u8>, source| {
            range.for_each(|number| passive.add(contact(number), source, Instant::START, &mut rng));
        };
        add(&mut passive, 0..5, Source::Proven);
        add(&mut passive, 5..20, Source::Kept);
        add(&mut passive, 100..200, Source::Told(PeerId::from_bytes([1; 32])));
        assert_eq!(passive.len(), 30);
        assert!((0..20).all(|number| passive.contains(&PeerId::from_bytes([number; 32]))));
        // Many who tell of one each push out what others told, but nobody who proved itself.
        (200..254).for_each(|number| {
            add(&mut passive, number..number + 1, Source::Told(PeerId::from_bytes([number; 32])));
        });
        assert_eq!(passive.len(), 40);
        assert!((0..5).all(|number| passive.contains(&PeerId::from_bytes([number; 32]))));
    }
}
