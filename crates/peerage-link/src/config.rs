//! What one link may cost.

use std::time::Duration;

use peerage_wire::hello::Limits;
use peerage_wire::limits::{MAX_FRAGMENT, MAX_RECORD};

use crate::Capacity;

/// Times and bounds of one link. Both ends have their own; what the other must know is told in the `Hello`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinkConfig {
    /// From the first byte to both sides' `Accept`. 5 s: three round trips and four curve operations, a hundred times
    /// over; a peer that stalls holds a socket and about 4 KiB for so long, 16 KiB when it announces a long message. A guess.
    pub handshake_timeout: Duration,
    /// How often a ping measures the round trip and shows that the peer lives. 5 s costs 2 × 30 bytes every 5 s.
    pub ping_every: Duration,
    /// A link on which nothing came for so long, not a byte, is closed as silent. 15 s: three pings lost in a row. So long,
    /// too, a channel that was closed, and a link that nobody holds, wait for the peer to take what is still to be sent.
    pub silent_after: Duration,
    /// How long a peer that seems to have lost this link has to show that it has not: 1 s, or four round trips if that is
    /// longer. Asked only when the same start of the peer comes with another connection ([`crate::Link::probe`]).
    pub probe_timeout: Duration,
    /// The longest that one record may be on its way, from its first byte here to its last. 120 s: 64 KiB at 550 B/s, less
    /// than any network that is of use. It bounds for how long a peer that drips bytes keeps 64 KiB and a socket.
    pub record_timeout: Duration,
    /// How long a link that no instance holds stays, in case one changes its mind. 2 s. A guess.
    pub unheld_grace: Duration,
    /// The longest message that this end takes, in bytes. 16 MiB. Told to the peer, which refuses longer ones at the
    /// sender.
    pub max_message: u64,
    /// The credit that each channel starts with and always keeps, in bytes: what a peer may have on its way to us that we
    /// have not yet handed on. So much for interactive messages, and as much again for bulk; neither waits for the
    /// other. 64 KiB: four whole fragments, or 2.5 MB/s at 25 ms. At least 32 KiB.
    pub window: u64,
    /// What a window grows to at most, in bytes, where a peer uses it up within two round trips and the endpoint's
    /// [`crate::Memory::windows`] has as much. 16 MiB: 160 MB/s at 100 ms.
    pub max_window: u64,
    /// The most channels that the peer may have open. 64.
    pub max_channels: u32,
    /// The most messages a second that the peer may send us, all channels together. 20 million: four times what a core
    /// takes, so that no stream of small messages ever waits; credit bounds memory, and a shard's links take turns. `None`:
    /// as many as it has credit for. Told to the peer, whose link then waits. A peer that sends a second's worth more
    /// than that, and what 15 s without arrivals can have held up (`silent_after`), is at fault.
    pub max_messages_per_second: Option<u64>,
    /// The most controls a second that the peer may send us: pings, opens, closes, interest, credit of less than 1 KiB.
    /// 10,000, of which an honest peer needs a few: at 1 µs each, a guess, they cost a hundredth of a core.
    /// Credit for what was sent does not count. 0: no limit. Told and enforced as `max_messages_per_second`.
    pub max_controls_per_second: u32,
    /// The most that messages which arrive in parts have at once of the endpoint's [`crate::Memory::messages`], over all
    /// channels of the link, in bytes; at least `max_message`, and taken to be that when it is less. What does not
    /// fit waits for credit. 16 MiB.
    pub reassembly: u64,
    /// The most [`peerage_machine::Class::Control`] bytes queued for one channel. 256 KiB; beyond, the send is refused.
    pub control_queue: u64,
    /// The link closes when a protocol has complained of the peer so often. 8: one complaint can be a bug of ours.
    pub fault_limit: u32,
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(5),
            ping_every: Duration::from_secs(5),
            silent_after: Duration::from_secs(15),
            probe_timeout: Duration::from_secs(1),
            record_timeout: Duration::from_secs(120),
            unheld_grace: Duration::from_secs(2),
            max_message: 16 << 20,
            window: 64 << 10,
            max_window: 16 << 20,
            max_channels: 64,
            max_messages_per_second: Some(20_000_000),
            max_controls_per_second: 10_000,
            reassembly: 16 << 20,
            control_queue: 256 << 10,
            fault_limit: 8,
        }
    }
}

impl LinkConfig {
    /// The least [`LinkConfig::window`]: two whole fragments.
    pub const MIN_WINDOW: u64 = 32 << 10;

    /// What the peer is told in the `Hello`.
    pub fn limits(&self, capacity: Capacity) -> Limits {
        Limits {
            max_message: self.max_message,
            window: self.window.max(Self::MIN_WINDOW),
            max_channels: self.max_channels,
            max_messages_per_second: self.max_messages_per_second.unwrap_or(0),
            max_controls_per_second: self.max_controls_per_second,
            max_links: capacity.links,
            max_links_per_address: capacity.links_per_address,
            max_handshakes: capacity.handshakes,
            handshake_timeout_ms: u32::try_from(self.handshake_timeout.as_millis()).unwrap_or(u32::MAX),
        }
    }

    /// The most that one link holds of messages that the peer sent and the host has not taken, in bytes, besides what it
    /// has of the endpoint's [`crate::Memory`]: of that it may have up to half, the buffers for large messages that
    /// wait an eighth more than the windows. The rest is its own: two windows and a control message for each channel, with
    /// what buffers have to spare; 256 KiB that wait to be taken, and the record that goes beyond. 15.3 MiB by
    /// default with 64 channels, 1.02 MiB with three, and next to nothing for a peer that sends whole messages.
    pub fn worst_case_inbound_bytes(&self) -> u64 {
        self.worst_case_inbound_bytes_with(self.max_channels)
    }

    /// As [`LinkConfig::worst_case_inbound_bytes`], with no more channels than this side runs instances.
    pub fn worst_case_inbound_bytes_with(&self, instances: u32) -> u64 {
        let window = self.window.max(Self::MIN_WINDOW);
        let channel = 2 * with_spare(window) + crate::MAX_CONTROL_MESSAGE;
        u64::from(instances.min(self.max_channels)) * channel + crate::link::BYTES_AHEAD + MAX_RECORD as u64
    }
}

/// What the buffer of a message that waits for room takes at most, by the window.
const fn with_spare(window: u64) -> u64 {
    window + window / 8 + MAX_FRAGMENT as u64
}
