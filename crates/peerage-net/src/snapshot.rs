//! What a dashboard needs.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use peerage_machine::{Direction, Instant, LinkId, UnixMillis};
use peerage_wire::{Address, PeerId, Suite};

use crate::hub::Shared;
use crate::link_handle::LinkHandle;
use crate::scratch::lock;
use crate::votes::Observed;

/// An endpoint at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// When, by the endpoint's own clock. See [`Snapshot::rates_since`].
    pub taken: Instant,
    /// Who it is.
    pub peer: PeerId,
    /// Where it can be reached, as [`crate::Endpoint::addresses`] has it.
    pub addresses: Vec<Address>,
    /// Where those that it dialled see it, the most votes first.
    pub observed: Vec<Observed>,
    /// What it runs.
    pub instances: Vec<String>,
    /// Its links, those in their handshake included.
    pub links: Vec<LinkSnapshot>,
    /// Tasks that run for it: one for each connection, dial, listener, instance and maintained link.
    pub tasks: usize,
    /// Addresses that the system keeps out now, because too many strangers came from them.
    pub addresses_shed: usize,
    /// Since its start.
    pub totals: Totals,
}

/// Totals since an endpoint's start.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Totals {
    /// Written to connections, in bytes.
    pub bytes_sent: u64,
    /// Read from connections, in bytes.
    pub bytes_received: u64,
    /// Whole messages sent.
    pub messages_sent: u64,
    /// Whole messages received.
    pub messages_received: u64,
    /// Links that came up.
    pub links_up: u64,
    /// Dials begun.
    pub dials: u64,
    /// Connections accepted from listeners.
    pub accepted: u64,
    /// Dials that began again because the other end asked for a cookie.
    pub cookies: u64,
    /// Addresses that were kept out for a while ([`crate::Config::strangers_per_second_per_address`]), each time counted.
    pub shed: u64,
    /// What was not carried out, by reason. Messages: `full`, `too_large` and `not_up` when they were sent without an
    /// id, `link_ended`, `channel_ended` and `late_fragments` when they were queued or on their way as a link or a channel ended.
    /// Strangers: `links`, `handshakes`, `address`, `address_handshakes`, `address_rate`, `door` (the limits of
    /// [`crate::Config`]), `cookie` (asked to come back with one), `door_lost`, `door_timed_out`, `not_peerage` and
    /// `incompatible` (hung up, slow, or not understood while a cookie was asked for), `accept` (an error of the system).
    /// Besides: `fault`, a machine's complaint of a peer; `machine_loop` and `unknown_effect`, errors of a machine.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Connections that ended, by [`peerage_machine::Why::label`], those that never became links included; of a dial
    /// whose suite the listener does not take, the first as `incompatible`, on both sides.
    pub ended: BTreeMap<&'static str, u64>,
    /// What machines counted, by their names.
    pub counted: BTreeMap<&'static str, u64>,
}

/// A link at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinkSnapshot {
    /// Its name within the endpoint.
    pub link: LinkId,
    /// Who is at the other end, once the handshake has shown it.
    pub peer: Option<PeerId>,
    /// What the peer says it runs.
    pub software: String,
    /// Where the other end of the connection is.
    pub remote: Address,
    /// Who dialled.
    pub direction: Direction,
    /// What seals it, once the handshake is done.
    pub suite: Option<Suite>,
    /// Whether both sides accepted.
    pub is_up: bool,
    /// Whether an instance here holds it.
    pub is_held: bool,
    /// Whether another start of the peer has a newer link, and this one stays for instances that coexist.
    pub is_superseded: bool,
    /// When the handshake was done.
    pub since: Option<UnixMillis>,
    /// The smoothed round-trip time.
    pub rtt: Option<Duration>,
    /// Written, in bytes.
    pub bytes_sent: u64,
    /// Read, in bytes.
    pub bytes_received: u64,
    /// Whole messages sent.
    pub messages_sent: u64,
    /// Whole messages received.
    pub messages_received: u64,
    /// Messages that wait to be sent.
    pub queued_messages: u64,
    /// Bytes that wait to be sent.
    pub queued_bytes: u64,
    /// Bytes that are sealed, and that the transport has not taken yet.
    pub unsent_bytes: u64,
    /// Bytes of messages that have arrived and wait: in parts, or to be taken.
    pub held_bytes: u64,
    /// What the link has of the endpoint's memory, in bytes: by how much its windows have grown, and room for messages
    /// that arrive in parts.
    pub borrowed_bytes: u64,
    /// Fragments for channels that were closed here; they were dropped.
    pub late_fragments: u64,
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl LinkSnapshot {
    fn of(handle: &LinkHandle) -> Self {
        let known = handle.known.get();
        let counters = &handle.counters;
        Self {
            link: handle.id,
            peer: known.map(|known| known.peer),
            software: known.map(|known| known.software.clone()).unwrap_or_default(),
            remote: handle.remote.clone(),
            direction: handle.direction,
            suite: known.and_then(|known| known.suite),
            is_up: handle.up.load(Ordering::Acquire),
            is_held: handle.is_held(),
            is_superseded: handle.is_superseded(),
            since: known.map(|known| known.since),
            rtt: Some(read(&counters.rtt_micros)).filter(|micros| *micros > 0).map(Duration::from_micros),
            bytes_sent: read(&counters.bytes_sent),
            bytes_received: read(&counters.bytes_received),
            messages_sent: read(&counters.messages_sent),
            messages_received: read(&counters.messages_received),
            queued_messages: read(&counters.queued_messages),
            queued_bytes: read(&counters.queued_bytes),
            unsent_bytes: read(&counters.unsent_bytes),
            held_bytes: read(&counters.held_bytes),
            borrowed_bytes: read(&counters.borrowed_bytes),
            late_fragments: read(&counters.late_fragments),
        }
    }
}

impl Snapshot {
    pub(crate) fn of(shared: &Shared) -> Self {
        let counters = &shared.counters;
        Self {
            taken: shared.clock.mono(),
            peer: shared.me,
            addresses: shared.own.addresses(),
            observed: shared.own.candidates(),
            instances: shared.instance_names(),
            tasks: shared.shards.tasks(),
            addresses_shed: lock(&shared.shedding).sources().len(),
            links: shared.connections().iter().map(|handle| LinkSnapshot::of(handle)).collect(),
            totals: Totals {
                bytes_sent: counters.bytes_sent.read(),
                bytes_received: counters.bytes_received.read(),
                messages_sent: counters.messages_sent.read(),
                messages_received: counters.messages_received.read(),
                links_up: counters.links_up.read(),
                dials: counters.dials.read(),
                accepted: counters.accepted.read(),
                cookies: counters.cookies.read(),
                shed: counters.shed.read(),
                dropped: counters.dropped_by_reason(),
                ended: counters.ended_by_reason(),
                counted: counters.counted_by_machines(),
            },
        }
    }
}
