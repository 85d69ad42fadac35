//! What a mesh may cost and how it behaves.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use peerage_wire::limits::MAX_NAME;

use super::announce::{MAX_ANNOUNCE_RANGES, MAX_ANNOUNCE_STREAMS, MOST_WAITS};
use super::error::ConfigError;
use super::links::{LINK_BYTES, REMEMBERED_SENDS};
use super::membership::{CONTACT_BYTES, GUESTS, MAX_JOINED_BY, MAX_JOINS, MAX_LOST, MAX_PENDING, MAX_WALKS};
use super::missing::GAP_BYTES;
use super::packet::{MAX_CONTACTS, MAX_PACKET_RANGES};
use super::promises::{MAX_PROMISES, PROMISE_BYTES};
use super::score::{SCORE_BYTES, SCORED};
use super::sessions::SESSION_BYTES;
use super::spare::{MAX_OFFERED, OFFERED_BYTES};
use super::stream::STREAM_BYTES;
use super::tree::{TREE_BYTES, TREE_LINK_BYTES};

/// Everything that can be chosen of a mesh. Only the name and [`MeshConfig::max_message`] must be equal on all peers.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct MeshConfig {
    /// The network's name, 1 to 128 bytes. Meshes of different names never meet.
    pub name: String,
    /// The longest message, in bytes as signed: all parts, 2 to 5 bytes for each, and about 60. 16 MiB. A protocol
    /// parameter: peers with another value are refused. At most 1 GiB.
    pub max_message: u64,
    /// Neighbours that a peer looks for. 5, HyParView section 5.1 (log n + 1 for n = 10,000). More costs announcements,
    /// about 40 bytes per neighbour and batch, and buys faster repair. 1 to 32.
    pub active_view: usize,
    /// Neighbours beyond [`MeshConfig::active_view`] that are accepted when they ask. 2: so that a peer that looks finds
    /// one that has room, instead of pushing out others. Measured: 50 peers joining at once settle without evictions.
    pub active_slack: usize,
    /// Peers remembered for the day when a neighbour is lost, about 200 bytes each. 120: with 30, 5 % of peers find
    /// nobody alive after a crash of 95 % (our own measurement, 10,000 peers).
    pub passive_view: usize,
    /// Hops of the walk that offers a joining peer to others. 6, HyParView section 5.1. At most 16.
    pub active_walk: u32,
    /// Hops that are left of that walk where the joiner is put into the passive view. 3, HyParView section 5.1.
    pub passive_walk: u32,
    /// How often views are mixed, give or take a fifth. 30 s: about 4 kB each time, over all hops of the walk and back.
    pub shuffle_every: Duration,
    /// The same while no neighbour breaks off and there is little to learn: the passive view is full, or a shuffle told of
    /// nobody new. 300 s: 20 bytes per second and peer, at 30 s it was 110.
    pub calm_shuffle_every: Duration,
    /// The same while there are fewer neighbours than looked for. 1 s.
    pub hungry_shuffle_every: Duration,
    /// Neighbours in a shuffle's sample. 3, HyParView section 5.1.
    pub shuffle_active: usize,
    /// Others in a shuffle's sample. 4, HyParView section 5.1.
    pub shuffle_passive: usize,
    /// How likely a shuffle also exchanges one neighbour for a random peer. 0.05: cliques of full views that nobody
    /// leaves were 2 % of all peers without any exchange (our own measurement).
    pub rotation: f64,
    /// A peer that has as many neighbours as it accepts, and had no new one for so long, takes the next that asks and lets
    /// another one go. 10 min, give or take a half: otherwise two halves of a mesh, both full, would never grow together.
    /// Each such change costs edges of trees: with 5 min for all, 1,000 peers that were started together all changed at
    /// once.
    pub move_after: Duration,
    /// A neighbour from which nothing was heard for so long is asked whether it is there. 2 s: 2 to 4 bytes on each link, and a
    /// record and a segment around them. The link's own keep-alive takes 15 s, and cannot see a mesh that hangs.
    pub probe_every: Duration,
    /// How long it has to say anything at all, or four round trips if that is longer; then it is no neighbour any more,
    /// and another one is looked for at once. 2 s.
    pub probe_within: Duration,
    /// Neighbours that this peer dialled itself, at the least: so many are not open to whoever dials in. 2, as GossipSub
    /// 1.1's D_out. While they are lacking, peers are dialled beyond [`MeshConfig::active_view`].
    pub outbound: usize,
    /// Neighbours at most whose first address lies in one prefix: 24 bits of IPv4, 48 of IPv6. 2. Loopback, link-local and
    /// private addresses, and those without an IP address, are in none. What an inbound peer tells is believed.
    pub per_prefix: usize,
    /// The score ([`crate::MeshMachine::explain`]) at which a peer is let go and shunned. −100: four forgeries, 25 broken
    /// promises.
    pub shun_below: i64,
    /// How long it is shunned. 10 min.
    pub shun_for: Duration,
    /// How often the peers that are known are written to the host's store. 60 s, give or take a fifth; the first
    /// time 5 s after the first neighbour; 8 KiB each time, and nothing when nothing changed.
    pub save_every: Duration,
    /// How long the answer to a request for neighbourhood may take. 5 s.
    pub answer_within: Duration,
    /// Wait before joining again when alone: from the first to the second, doubling, give or take a half. 0.5 s, 30 s.
    pub rejoin_after: (Duration, Duration),
    /// How long [`crate::Mesh::join`] waits for the first neighbour. 15 s.
    pub join_within: Duration,
    /// How often a peer that is not a neighbour of a contact that it joined by goes and sees whether both are still in one
    /// mesh, and tries one of those again that did not answer, give or take a half. 120 s, some 900 bytes each time.
    pub contact_every: Duration,

    /// What is kept for neighbours that did not get it yet, in bytes. 32 MiB: 3 s at 10 MB/s.
    pub retain_bytes: u64,
    /// The same as a number of messages. 131,072. At most 2^20.
    pub retain_messages: usize,
    /// The same as an age. 60 s: a partition that heals within this loses nothing, as long as bytes and number suffice.
    pub retain_for: Duration,
    /// How old, or how far in the future, a message may be by our clock. 1 h. Beyond, it is dropped and counted: memory of
    /// what was seen is finite, and this ends replays. A clock that is off by more mutes its peer.
    pub stale_after: Duration,
    /// From how many bytes on a message is offered before it is pushed, where nothing shows that the neighbour does not get it
    /// from others too; and those who may push it are told at once that it is here. 64 KiB: what is shorter takes no longer
    /// at 10 Mbit/s than the round trip that the offer costs.
    pub large_message: u64,
    /// Whether a peer delivers what was said before it started, as far as its neighbours retain it. True.
    pub catch_up: bool,
    /// How long announcements are gathered before they leave. 50 ms: with 20 ms, telling of messages of 1 KiB cost as much as
    /// passing them on. While three messages or more come in that time, they wait for one that is pushed to the same neighbour
    /// anyway, and go with it; up to four times as long.
    pub announce_after: Duration,
    /// The wait for an announced message before it is asked for. Plumtree section 3.8: about the diameter of the tree. It
    /// is measured; before that it is twenty round trips of the slowest neighbour, and this at most: 300 ms. Later it is
    /// ten round trips at least, or half of this. With less, trees of slow links took seconds to settle; with a fixed
    /// bound, peers a millisecond apart waited as long as peers on two continents.
    pub graft_after: Duration,
    /// The least wait, however near the neighbours are. 20 ms: a busy machine lets a process wait for so long.
    pub graft_after_min: Duration,
    /// The longest wait, whatever was measured. 2 s.
    pub graft_after_max: Duration,
    /// How many hops shorter another way must be to replace one that works. 3; Plumtree section 3.9 uses 7 at 10,000 peers.
    pub optimisation_threshold: u32,
    /// Origins with a tree of their own; each costs 40 bytes per neighbour and some 200. 2,048: with 64, a crowd of 400 that all
    /// speak took the trees of honest origins, whose slowest hundredth then took three times as long, and with 512 so did one of
    /// 1,000, for twice as long.
    pub trees: usize,
    /// Starts of origins whose messages are remembered; about 200 bytes each. 1,024. When more speak, the one silent
    /// longest is forgotten, and would be taken for new if somebody repeated its messages within
    /// [`MeshConfig::stale_after`].
    pub origins: usize,
    /// Ranges of sequence numbers remembered for each, 24 bytes each. 256. Beyond, the oldest gap is given up as missed.
    pub ranges_per_origin: usize,
    /// Ranges that are announced and not here, about 200 bytes each. 4,096. Beyond, announcements are dropped and
    /// counted; the next summary repeats them.
    pub missing_ranges: usize,
    /// Ranges that one neighbour asked for and has no credit for, 64 bytes each. 512. Beyond, it must ask again.
    pub owed_ranges: usize,
    /// How often what is retained is compared with one random neighbour, give or take a fifth. 10 s.
    pub summary_every: Duration,
    /// Up to so many starts of origins, a neighbour whose window may differ is told all that is kept; of more, only what
    /// differs, which takes a session of `peerage-reconcile` to find out: 3 round trips, and 700 bytes besides some 30 for each
    /// that differs. 16: each that is told takes 40 to 50 bytes, both ways.
    pub told_streams: usize,
    /// Messages whose signatures are being checked, as a number and in bytes. 4,096 and 32 MiB. Beyond, a message is
    /// dropped, counted, and asked for again.
    pub verifying: (usize, u64),
    /// A neighbour without any credit for so long does not hold up publishing any more. 5 s.
    pub stall_after: Duration,
    /// Whether a message is accepted from the application while there is no neighbour: it then reaches those that come
    /// within [`MeshConfig::retain_for`]. False: [`crate::BroadcastError::NoNeighbours`].
    pub publish_alone: bool,

    /// How long a whisper may take in all. 10 s.
    pub whisper_within: Duration,
    /// How long one way of a whisper may take before the next is tried. 3 s.
    pub whisper_way_within: Duration,
    /// Whispers on their way from here, as a number and in bytes. 256 and 32 MiB.
    pub whispers: (usize, u64),
    /// Whispers of others that are remembered so that their results find back, about 200 bytes each. 4,096.
    pub relays: usize,
    /// Origins to which the way is remembered, about 150 bytes each. 4,096.
    pub routes: usize,

    /// Links of this mesh at once; one more is closed with a reason. 1,024.
    pub max_links: usize,
    /// Messages that wait for a slow reader of the handle. 65,536. Beyond, the oldest is dropped and the reader hears
    /// [`crate::RecvError::Lagged`].
    pub inbox_messages: usize,
    /// The same in bytes. 64 MiB.
    pub inbox_bytes: u64,
    /// A file of this mesh and this peer alone, in which the handle keeps whom the peer knows, so that its next start needs no
    /// contact. [`crate::Mesh::open`] reads it; it is written as [`MeshConfig::save_every`] says, by a thread of its own, and
    /// when the mesh is closed. Whatever happens, it is whole: the last one or the one before. None.
    pub book: Option<PathBuf>,
}

impl MeshConfig {
    /// The version of the protocol.
    pub const VERSION: u32 = 1;

    /// The defaults, for the mesh of this name.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            max_message: 16 << 20,
            active_view: 5,
            active_slack: 2,
            passive_view: 120,
            active_walk: 6,
            passive_walk: 3,
            shuffle_every: Duration::from_secs(30),
            calm_shuffle_every: Duration::from_secs(300),
            hungry_shuffle_every: Duration::from_secs(1),
            shuffle_active: 3,
            shuffle_passive: 4,
            rotation: 0.05,
            move_after: Duration::from_secs(600),
            probe_every: Duration::from_secs(2),
            probe_within: Duration::from_secs(2),
            outbound: 2,
            per_prefix: 2,
            shun_below: -100,
            shun_for: Duration::from_secs(600),
            save_every: Duration::from_secs(60),
            answer_within: Duration::from_secs(5),
            rejoin_after: (Duration::from_millis(500), Duration::from_secs(30)),
            join_within: Duration::from_secs(15),
            contact_every: Duration::from_secs(120),
            retain_bytes: 32 << 20,
            retain_messages: 1 << 17,
            retain_for: Duration::from_secs(60),
            stale_after: Duration::from_secs(3600),
            large_message: 64 << 10,
            catch_up: true,
            announce_after: Duration::from_millis(50),
            graft_after: Duration::from_millis(300),
            graft_after_min: Duration::from_millis(20),
            graft_after_max: Duration::from_secs(2),
            optimisation_threshold: 3,
            trees: 2048,
            origins: 1024,
            ranges_per_origin: 256,
            missing_ranges: 4096,
            owed_ranges: 512,
            summary_every: Duration::from_secs(10),
            told_streams: 16,
            verifying: (4096, 32 << 20),
            stall_after: Duration::from_secs(5),
            publish_alone: false,
            whisper_within: Duration::from_secs(10),
            whisper_way_within: Duration::from_secs(3),
            whispers: (256, 32 << 20),
            relays: 4096,
            routes: 4096,
            max_links: 1024,
            inbox_messages: 1 << 16,
            inbox_bytes: 64 << 20,
            book: None,
        }
    }

    /// The time in which every peer has probed each of its neighbours once and a dead one is known to be: the sum of
    /// [`MeshConfig::probe_every`] and [`MeshConfig::probe_within`]. What the literature calls a cycle.
    pub fn probe_cycle(&self) -> Duration {
        self.probe_every.saturating_add(self.probe_within)
    }

    /// How long announcements wait at most where the link has room: four times [`MeshConfig::announce_after`].
    pub fn announced_within(&self) -> Duration {
        self.announce_after.saturating_mul(u32::from(MOST_WAITS) + 1)
    }

    /// What both ends of a link must agree on: the longest message, as 8 bytes, least significant first.
    pub fn parameters(&self) -> Bytes {
        Bytes::copy_from_slice(&self.max_message.to_le_bytes())
    }

    /// Whether the values make sense.
    ///
    /// # Errors
    /// The first one that does not.
    pub fn check(&self) -> Result<(), ConfigError> {
        let within = |field, value: u64, least: u64, most: u64| {
            if (least..=most).contains(&value) {
                Ok(())
            } else {
                Err(ConfigError { field, value, least, most })
            }
        };
        within("name (its length)", self.name.len() as u64, 1, MAX_NAME as u64)?;
        within("max_message", self.max_message, 1024, 1 << 30)?;
        // NaN is in no range.
        if !(0.0..=1.0).contains(&self.rotation) {
            let value = (self.rotation * 1000.0) as u64;
            return Err(ConfigError { field: "rotation (in thousandths)", value, least: 0, most: 1000 });
        }
        // At 0 and above nobody could do anything without being shunned for it.
        if self.shun_below >= 0 {
            let value = self.shun_below.unsigned_abs();
            return Err(ConfigError {
                field: "shun_below (how far below 0)",
                value,
                least: 1,
                most: 1 << 62,
            });
        }
        within("active_view", self.active_view as u64, 1, 32)?;
        within(
            "outbound",
            self.outbound as u64,
            0,
            self.active_view.saturating_add(self.active_slack) as u64,
        )?;
        within("per_prefix", self.per_prefix as u64, 1, 64)?;
        within("active_slack", self.active_slack as u64, 0, 32)?;
        within("passive_view", self.passive_view as u64, 1, 4096)?;
        within("active_walk", self.active_walk.into(), 1, 16)?;
        within("passive_walk", self.passive_walk.into(), 0, self.active_walk.into())?;
        let sample = self.shuffle_active.saturating_add(self.shuffle_passive);
        within("shuffle_active + shuffle_passive", sample as u64, 1, MAX_CONTACTS as u64 - 1)?;
        within("retain_messages", self.retain_messages as u64, 1, 1 << 20)?;
        within("retain_bytes", self.retain_bytes, 1, 1 << 40)?;
        within("large_message", self.large_message, 1, 1 << 40)?;
        within("trees", self.trees as u64, 1, 4096)?;
        within("origins", self.origins as u64, 1, 1 << 20)?;
        within("ranges_per_origin", self.ranges_per_origin as u64, 2, MAX_PACKET_RANGES as u64)?;
        within("missing_ranges", self.missing_ranges as u64, 16, 1 << 20)?;
        within("owed_ranges", self.owed_ranges as u64, 16, 1 << 20)?;
        within("verifying (messages)", self.verifying.0 as u64, 1, 1 << 20)?;
        within("verifying (bytes)", self.verifying.1, self.max_message, 1 << 40)?;
        within("whispers (messages)", self.whispers.0 as u64, 1, 1 << 16)?;
        within("whispers (bytes)", self.whispers.1, 1, 1 << 40)?;
        within("relays", self.relays as u64, 1, 1 << 20)?;
        within("routes", self.routes as u64, 1, 1 << 20)?;
        within("max_links", self.max_links as u64, 1, 1 << 20)?;
        within("inbox_messages", self.inbox_messages as u64, 1, 1 << 30)?;
        within("inbox_bytes", self.inbox_bytes, 1, 1 << 40)?;
        let spans = [
            ("shuffle_every", self.shuffle_every),
            ("calm_shuffle_every", self.calm_shuffle_every),
            ("hungry_shuffle_every", self.hungry_shuffle_every),
            ("move_after", self.move_after),
            ("probe_every", self.probe_every),
            ("probe_within", self.probe_within),
            ("shun_for", self.shun_for),
            ("save_every", self.save_every),
            ("answer_within", self.answer_within),
            ("rejoin_after (first)", self.rejoin_after.0),
            ("rejoin_after (last)", self.rejoin_after.1),
            ("join_within", self.join_within),
            ("contact_every", self.contact_every),
            ("retain_for", self.retain_for),
            ("stale_after", self.stale_after),
            ("stall_after", self.stall_after),
            ("announce_after", self.announce_after),
            ("graft_after", self.graft_after),
            ("graft_after_min", self.graft_after_min),
            ("graft_after_max", self.graft_after_max),
            ("summary_every", self.summary_every),
            ("whisper_within", self.whisper_within),
            ("whisper_way_within", self.whisper_way_within),
        ];
        spans.into_iter().try_for_each(|(field, span)| {
            within(field, u64::try_from(span.as_micros()).unwrap_or(u64::MAX), 1_000, 1 << 50)
        })
    }

    /// The most memory that the machine takes, in bytes, as far as it is its own: not the messages that the host queues
    /// on links, nor the handle's inbox ([`MeshConfig::inbox_bytes`]). 201 MiB with the defaults, nearly all of it for
    /// messages that are retained or being checked.
    pub fn worst_case_bytes(&self) -> u64 {
        let count = |count: usize, each: usize| (count as u64).saturating_mul(each as u64);
        // The newest message stays, however large.
        let message = self.max_message + 4096;
        let window = self.retain_bytes.max(message);
        let verifying = 2 * (self.verifying.1.max(message) + count(self.verifying.0, 256));
        let streams = count(self.origins, STREAM_BYTES + (self.ranges_per_origin + 1) * 24);
        let announce = (MAX_ANNOUNCE_RANGES + 1) * 16 + MAX_ANNOUNCE_STREAMS * 128;
        let neighbours = count(
            self.most_neighbours(),
            (self.owed_ranges + 1) * 72 + announce + SESSION_BYTES + MAX_OFFERED * OFFERED_BYTES,
        );
        let trees = count(self.trees, TREE_BYTES + self.most_neighbours() * TREE_LINK_BYTES);
        let missing = count(self.missing_ranges + 2, GAP_BYTES) + count(MAX_PROMISES, PROMISE_BYTES);
        let whispers = self.whispers.1.max(message) + message + count(self.whispers.0, 512);
        let relays = count(self.relays, 512) + count(self.routes, 192);
        // Who is remembered, and may have to be visited.
        let contacts = self.passive_view * 2 + MAX_LOST + MAX_JOINED_BY * (1 + MAX_JOINS);
        // Walks; requests are at most as many as links, and dials of joins more than those of refills.
        let membership = count(contacts, CONTACT_BYTES)
            + count(MAX_WALKS + MAX_PENDING + MAX_JOINED_BY * MAX_JOINS + self.max_links, 512);
        let links = count(self.max_links, LINK_BYTES) + count(REMEMBERED_SENDS, 128);
        let scores = count(SCORED, SCORE_BYTES);
        window
            + verifying
            + streams
            + neighbours
            + trees
            + missing
            + whispers
            + relays
            + membership
            + links
            + scores
    }

    /// Neighbours at most, but for those in need.
    pub(crate) const fn active_limit(&self) -> usize {
        self.active_view + self.active_slack
    }

    /// Neighbours at most, with those in need.
    pub(crate) const fn most_neighbours(&self) -> usize {
        self.active_limit() + GUESTS
    }
}
