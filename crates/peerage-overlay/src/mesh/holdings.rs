//! What a mesh holds at one time, part by part, against what its configuration allows: cheap enough to be looked at after
//! every event of a simulation.

use super::announce::{MAX_ANNOUNCE_RANGES, MAX_ANNOUNCE_STREAMS};
use super::broadcast::Broadcast;
use super::config::MeshConfig;
use super::links::{Links, REMEMBERED_SENDS};
use super::machine::MeshMachine;
use super::score::SCORED;
use super::sessions::SESSION_BYTES;
use super::spare::MAX_OFFERED;

/// A part of a mesh that holds more than its configuration allows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{held} {what} are held, at most {limit} are allowed")]
#[non_exhaustive]
pub struct Overfull {
    /// Which part, as a count of what.
    pub what: &'static str,
    /// How many there are.
    pub held: u64,
    /// How many there may be.
    pub limit: u64,
}

/// Parts one after the other, until one is overfull.
pub(crate) struct Audit(Result<(), Overfull>);

impl Audit {
    pub(crate) fn part(&mut self, what: &'static str, held: usize, limit: usize) {
        self.amount(what, held as u64, limit as u64);
    }

    pub(crate) fn amount(&mut self, what: &'static str, held: u64, limit: u64) {
        if held > limit && self.0.is_ok() {
            self.0 = Err(Overfull { what, held, limit });
        }
    }
}

impl MeshMachine {
    /// Whether each part of the machine holds no more than these limits allow: whatever is kept for a neighbour, of an
    /// origin, or for the application has a limit of its own, far below the sum of all
    /// ([`MeshConfig::worst_case_bytes`]). Takes a time that grows with the number of neighbours only. For simulators and
    /// tests, which ask it after every call.
    ///
    /// # Errors
    /// The first part that holds more.
    pub fn holds_within(&self, limits: &MeshConfig) -> Result<(), Overfull> {
        let mut audit = Audit(Ok(()));
        self.audit(limits, &mut audit);
        audit.0
    }
}

impl Broadcast {
    pub(crate) fn audit(&self, limits: &MeshConfig, audit: &mut Audit) {
        // The newest message stays, however large.
        let message = limits.max_message + 4096;
        audit.amount("bytes of retained messages", self.window.bytes(), limits.retain_bytes.max(message));
        audit.part("retained messages", self.window.len(), limits.retain_messages);
        audit.amount("bytes being checked", self.verifying_bytes, limits.verifying.1.max(message));
        audit.part("messages being checked", self.verifying.len(), limits.verifying.0);
        audit.part("streams of origins", self.streams.len(), limits.origins);
        // Of all streams only the one that was used last can have grown.
        if let Some((_, newest)) = self.streams.newest() {
            audit.part("ranges of one origin", newest.seen.len(), limits.ranges_per_origin + 1);
        }
        let neighbours = limits.most_neighbours();
        audit.part("trees", self.trees.len(), limits.trees);
        if let Some((_, newest)) = self.trees.newest() {
            audit.part("neighbours in one tree", newest.most(), neighbours);
        }
        audit.part("missing ranges", self.missing.len(), limits.missing_ranges + 2);
        audit.part("neighbours", self.neighbours.len(), neighbours);
        for neighbour in self.neighbours.values() {
            audit.part("ranges owed to one neighbour", neighbour.owed.len(), limits.owed_ranges + 1);
            audit.part("messages offered to one neighbour", neighbour.offered.len(), MAX_OFFERED);
            let comparing = neighbour.comparing.as_ref().map_or(0, |it| it.footprint());
            audit.part("bytes of a session with one neighbour", comparing, SESSION_BYTES);
            audit.part(
                "ranges to announce to one neighbour",
                neighbour.announce_ranges,
                MAX_ANNOUNCE_RANGES + 1,
            );
            audit.part(
                "streams to announce to one neighbour",
                neighbour.announce.len(),
                MAX_ANNOUNCE_STREAMS,
            );
        }
    }
}

impl Links {
    pub(crate) fn audit(&self, limits: &MeshConfig, audit: &mut Audit) {
        audit.part("links", self.len(), limits.max_links);
        audit.part("sends remembered", self.sent.len(), REMEMBERED_SENDS);
        audit.part("peers judged", self.scores.len(), SCORED);
    }
}
