//! What the peers of one mesh say to each other, checked.

use peerage_machine::UnixMillis;
use peerage_reconcile::Message as Step;
use peerage_wire::{Address, PeerId};

use super::message::{MessageId, Signed, StreamKey};
use super::ranges::Range;

/// The most contacts in one message; a count.
pub(crate) const MAX_CONTACTS: usize = 16;
/// The most addresses that are kept of a contact; a count.
pub(crate) const MAX_CONTACT_ADDRESSES: usize = 4;
/// The most runs in one message; a count.
pub(crate) const MAX_RUNS: usize = 64;
/// The most ranges in one run; a count.
pub(crate) const MAX_RUN_RANGES: usize = 512;
/// Ranges in all runs of one message, so that it stays below 16 KiB; a count.
pub(crate) const MAX_PACKET_RANGES: usize = 768;
/// The most sequence numbers in one run, which is more than any window holds.
pub(crate) const MAX_RUN_LEN: u64 = 1 << 20;
/// The largest number that stands for a stream on a link; there are as many.
pub(crate) const MAX_NAME: u8 = 127;
/// The most hops of a random walk.
pub(crate) const MAX_TTL: u32 = 16;
/// The most hops of a broadcast.
pub(crate) const MAX_HOPS: u32 = 1023;
/// The most hops of a whisper.
pub(crate) const MAX_WHISPER_HOPS: u32 = 32;
/// The most parts of a message; a count.
pub(crate) const MAX_PARTS: usize = 64;

/// A peer and where it listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Contact {
    pub(crate) peer: PeerId,
    pub(crate) addresses: Vec<Address>,
}

/// Broadcasts of one origin and epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) stream: StreamKey,
    /// Ascending, apart by at least one number.
    pub(crate) ranges: Vec<Range>,
    pub(crate) hops: u32,
    pub(crate) now: bool,
}

/// A run as it is announced: what it is about may be said by a number of the link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    /// 0 for none.
    pub(crate) name: u8,
    /// `None` only with a number.
    pub(crate) stream: Option<StreamKey>,
    pub(crate) ranges: Vec<Range>,
    pub(crate) hops: u32,
    pub(crate) now: bool,
}

impl From<Run> for Notice {
    fn from(run: Run) -> Self {
        let Run { stream, ranges, hops, now } = run;
        Self { name: 0, stream: Some(stream), ranges, hops, now }
    }
}

/// What was said between these by its origins' clocks, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) since: UnixMillis,
    pub(crate) until: UnixMillis,
}

impl Span {
    /// All that is held.
    pub(crate) const ALL: Self = Self { since: UnixMillis(0), until: UnixMillis(u64::MAX) };
}

/// How a whisper ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The target has it. The signature is the target's over the whisper's.
    Delivered([u8; 64]),
    /// A peer on the way knows no way on.
    NoRoute,
    /// No room on the way.
    Busy,
}

/// One message between two peers of a mesh: `peerage.mesh.v1.Packet`. Opaque; a host moves and encodes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet(pub(crate) Words);

impl Packet {
    /// What it is, in one word: for those who count messages by kind.
    pub const fn kind(&self) -> &'static str {
        match self.0 {
            Words::Join { .. } => "join",
            Words::Neighbour { .. } => "neighbour",
            Words::NeighbourReply { .. } => "neighbour_reply",
            Words::Disconnect { .. } => "disconnect",
            Words::ForwardJoin { .. } => "forward_join",
            Words::Shuffle { .. } => "shuffle",
            Words::ShuffleReply { .. } => "shuffle_reply",
            Words::Payload { .. } => "payload",
            Words::Announce { .. } => "announce",
            Words::Want { .. } => "want",
            Words::Prune { .. } => "prune",
            Words::Summary { .. } => "summary",
            Words::Compare { .. } => "compare",
            Words::Reconcile { .. } => "reconcile",
            Words::Spare { .. } => "spare",
            Words::Probe { .. } => "probe",
            Words::Whisper { .. } => "whisper",
            Words::WhisperResult { .. } => "whisper_result",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Words {
    Join { urgent: bool },
    Neighbour { urgent: bool },
    NeighbourReply { accepted: bool, others: Vec<Contact> },
    Disconnect { leaving: bool, others: Vec<Contact> },
    ForwardJoin { joiner: Contact, ttl: u32 },
    Shuffle { nonce: u64, ttl: u32, sample: Vec<Contact> },
    ShuffleReply { nonce: u64, sample: Vec<Contact> },
    Payload { message: Signed, hops: u32, pulled: bool },
    Announce { notices: Vec<Notice> },
    Want { runs: Vec<Run> },
    Prune { origin: PeerId },
    Summary { notices: Vec<Notice>, ask: bool },
    Compare { since: UnixMillis, until: UnixMillis, hash: u64 },
    Reconcile { session: u32, span: Span, step: Box<Step> },
    Spare { notices: Vec<Notice> },
    Whisper { message: Signed, hops: u32 },
    WhisperResult { id: MessageId, outcome: Outcome },
    Probe { answer: bool },
}
