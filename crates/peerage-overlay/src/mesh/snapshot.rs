//! What a dashboard shows.

use std::time::Duration;

use peerage_machine::LinkId;
use peerage_wire::PeerId;

/// A reading of one mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MeshSnapshot {
    /// Whom it talks to.
    pub neighbours: Vec<NeighbourInfo>,
    /// Peers remembered for the day when a neighbour is lost.
    pub passive: usize,
    /// Links with this mesh on them, of neighbours and others.
    pub links: usize,
    /// Messages retained for neighbours.
    pub retained_messages: usize,
    /// The same in bytes.
    pub retained_bytes: u64,
    /// Starts of origins whose messages are remembered.
    pub origins: usize,
    /// Ranges announced by neighbours and not here.
    pub missing_ranges: usize,
    /// Whispers on their way from here.
    pub whispers: usize,
    /// What was counted.
    pub stats: MeshStats,
    /// An estimate of the machine's memory, in bytes; at most [`crate::MeshConfig::worst_case_bytes`].
    pub memory: u64,
}

/// One neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NeighbourInfo {
    /// Who.
    pub peer: PeerId,
    /// On which link.
    pub link: LinkId,
    /// The round-trip time, smoothed.
    pub rtt: Duration,
    /// Whether we dialled.
    pub outbound: bool,
    /// Bytes that may still be queued for it.
    pub credit: u64,
    /// Origins whose messages are pushed to it.
    pub eager_origins: usize,
}

/// Counts since the mesh started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MeshStats {
    /// Own broadcasts.
    pub published: u64,
    /// Broadcasts of others given to the application.
    pub delivered: u64,
    /// Broadcasts that came, duplicates too.
    pub payloads_received: u64,
    /// Broadcasts sent to neighbours, counted for each.
    pub payloads_sent: u64,
    /// Broadcasts that came again.
    pub duplicates: u64,
    /// Ranges asked of neighbours.
    pub requested: u64,
    /// Broadcasts that will not come.
    pub missed: u64,
    /// Whispers sent from here.
    pub whispers_sent: u64,
    /// Whispers given to the application.
    pub whispers_delivered: u64,
    /// Whispers of others passed on.
    pub whispers_relayed: u64,
}
