//! What membership holds, against what it may.

use super::{MAX_JOINED_BY, MAX_JOINS, MAX_LOST, MAX_PENDING, MAX_WALKS, Membership};
use crate::mesh::config::MeshConfig;
use crate::mesh::holdings::Audit;

impl Membership {
    pub(crate) fn audit(&self, limits: &MeshConfig, audit: &mut Audit) {
        audit.part("neighbours", self.active.len(), limits.most_neighbours());
        audit.part("peers remembered", self.passive.len(), limits.passive_view);
        audit.part("neighbours lost lately", self.lost.len(), MAX_LOST);
        audit.part("contacts joined by", self.contacts.len(), MAX_JOINED_BY);
        audit.part("joins", self.joins.len(), MAX_JOINS);
        audit.part("walks", self.walks.len(), MAX_WALKS);
        audit.part("dials", self.dials.len(), MAX_PENDING + MAX_JOINED_BY * MAX_JOINS);
        audit.part("requests for neighbourhood", self.asked.len(), limits.max_links);
    }
}
