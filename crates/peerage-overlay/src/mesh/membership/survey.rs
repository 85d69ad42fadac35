//! After most peers are gone: a look at all that are known.
//!
//! A peer of whose acquaintances nobody lives can only be found by those that it is an acquaintance of. They have found their
//! neighbours long before they have tried everybody, so they go on: after so many failures in a row that most must be
//! gone, everybody who was known then is visited once. What is known to be dead is told to nobody from then on.

use std::time::Duration;

use peerage_machine::Instant;
use peerage_wire::PeerId;

use super::{MAX_PENDING, Membership, Reason};
use crate::mesh::links::Cx;
use crate::mesh::passive::Failure;

/// Failures in a row after which most are taken for gone: of half, 1 peer in 256 thinks so by mistake.
const MOST_ARE_GONE: u32 = 8;
/// How often a peer goes round at most.
const SURVEY_EVERY: Duration = Duration::from_secs(60);

impl Membership {
    /// An attempt at which nobody answered. Another one to whom did not answer before shows nothing new.
    pub(super) fn unanswered(&mut self, peer: &PeerId, now: Instant) {
        if self.passive.is_silent(peer) {
            return self.passive.failed(peer, Failure::Silent, now, !self.active.is_empty(), &mut self.rng);
        }
        self.failed = self.failed.saturating_add(1);
        self.passive.failed(peer, Failure::Silent, now, !self.active.is_empty(), &mut self.rng);
        let due = self.surveyed.is_none_or(|at| now.since(at) >= SURVEY_EVERY);
        if self.failed >= MOST_ARE_GONE && due {
            self.surveyed = Some(now);
            self.unvisited = self.passive.hopeful().cloned().collect();
            self.rng.shuffle(&mut self.unvisited);
        }
    }

    /// Goes on with those who are to be visited.
    pub(super) fn visit(&mut self, cx: &mut Cx<'_>) {
        while self.pending() < MAX_PENDING {
            let Some(contact) = self.unvisited.pop() else { return };
            if !self.passive.is_silent(&contact.peer) && !self.is_unfit(&contact, cx) {
                self.ask(contact, Reason::Merge { again: false }, cx);
            }
        }
    }
}
