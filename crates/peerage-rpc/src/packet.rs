//! What a broker and its parties say to each other, checked.

use bytes::Bytes;
use peerage_wire::PeerId;

use crate::accounts::Kind;
use crate::fast::Packets;
use crate::status::Status;

/// The most bytes of a command's name.
pub const MAX_COMMAND: usize = 128;
/// The most groups that a node serves.
pub const MAX_GROUPS: usize = 16;
/// The most bytes of a group's name.
pub const MAX_GROUP: usize = 64;

/// The most bytes that the packets take of which one is made: what is kept of one of them would keep the others' in memory.
pub(crate) const MAX_SEVERAL: usize = 8 << 10;

/// Names a session, for its party and the broker.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub [u8; 16]);

impl std::fmt::Display for SessionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for SessionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().take(4).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// One message between a broker and a party: encoded once, however often it is sent, and read where it arrives.
#[derive(Clone, Debug, PartialEq)]
pub struct Packet(pub(crate) Form);

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Form {
    /// To be sent.
    Sent(Bytes),
    /// Has arrived, with so many bytes.
    Read(Body, usize),
    /// Has arrived, and is several.
    Several(Packets),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Body {
    Open(Open),
    Opened(Box<Opened>),
    Refused { status: Status, session_lost: bool },
    Ended(Status),
    Enrol { token: Bytes },
    Enrolled { kind: Kind, confirmed: bool },
    Ack(Ack),
    Item { seq: u64, bulk: bool, item: Item },
}

/// What has come, and what is done of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ack {
    pub(crate) up_to: u64,
    pub(crate) bulk_up_to: u64,
    /// One-way calls up to there.
    pub(crate) done: u64,
}

/// What one end has of the other's items.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lanes {
    pub(crate) arrived: u64,
    pub(crate) bulk_arrived: u64,
    pub(crate) sent: u64,
    pub(crate) bulk_sent: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Open {
    pub(crate) session: Option<SessionId>,
    pub(crate) lanes: Lanes,
    pub(crate) groups: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Opened {
    pub(crate) session: SessionId,
    pub(crate) resumed: bool,
    pub(crate) from_journal: bool,
    pub(crate) acknowledged: u64,
    pub(crate) lanes: Lanes,
    pub(crate) limits: Limits,
    pub(crate) grace_millis: u32,
    pub(crate) kind: Kind,
}

/// What a party may have under way at once: what the broker grants, and holds at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Calls that are not answered, and one-way calls that are not finished. 1,024.
    pub calls: u32,
    /// Bytes of their parameters. 4 MiB.
    pub call_bytes: u64,
    /// Calls with streams. 64.
    pub streams: u32,
    /// The first credit of each stream, in messages. 4,096.
    pub stream_messages: u32,
    /// The same in bytes. 256 KiB.
    pub stream_bytes: u64,
    /// The longest parameters, reply, or message of a stream, in bytes. 64 KiB; what is longer travels as bulk. At most
    /// 1,984 KiB, and 24 KiB less than the links of both ends take (`LinkConfig::max_message`): a session has what is least.
    pub message_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            calls: 1024,
            call_bytes: 4 << 20,
            streams: 64,
            stream_messages: 4096,
            stream_bytes: 256 << 10,
            message_bytes: 64 << 10,
        }
    }
}

/// What is numbered, and arrives in order and once.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Item {
    /// Boxed: it is moved often, and twice as long as all else.
    Call(Box<Call>),
    Reply {
        to: u64,
        result: Result<Bytes, Box<Status>>,
    },
    /// Messages of a stream, each with its length in front; a piece of bulk data as it is.
    Items {
        stream: Stream,
        count: u32,
        items: Bytes,
    },
    End {
        stream: Stream,
        status: Option<Box<Status>>,
    },
    Credit {
        stream: Stream,
        bulk: bool,
        messages: u32,
        bytes: u64,
    },
    Cancel {
        call: u64,
    },
    Offers(Bytes),
    Caller {
        caller: u64,
        peer: PeerId,
        kind: Kind,
        session: SessionId,
    },
    Gone {
        caller: u64,
    },
    Leave,
}

/// Which stream: a call's, from or to its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stream {
    /// The call's number in its caller's lane.
    pub(crate) call: u64,
    /// Whether the call is the receiver's.
    pub(crate) to_caller: bool,
}

/// What a call does besides its parameters and reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape(u32);

impl Shape {
    /// Parameters and one reply.
    pub const REQUEST: Self = Self(0);
    /// No reply when it goes well.
    pub const ONE_WAY: Self = Self(1);
    /// A stream of messages from the caller.
    pub const STREAM_UP: Self = Self(2);
    /// A stream of messages to the caller.
    pub const STREAM_DOWN: Self = Self(4);
    /// Bulk data from the caller.
    pub const BULK_UP: Self = Self(8);
    /// Bulk data to the caller.
    pub const BULK_DOWN: Self = Self(16);
    /// May be run again when it is not known whether it was.
    pub const IDEMPOTENT: Self = Self(32);
    /// Sealed between the caller and the node.
    pub const SEALED: Self = Self(64);
    const ALL: u32 = 127;

    /// Whether it has all of these.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// With these, too.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether anything flows besides parameters and reply.
    pub const fn has_streams(self) -> bool {
        self.0 & (2 | 4 | 8 | 16) != 0
    }

    pub(crate) const fn bits(self) -> u32 {
        self.0
    }

    pub(crate) const fn from_bits(bits: u32) -> Option<Self> {
        // Nothing flows to or from who does not wait for an end.
        let one_way = bits & 1 != 0;
        if bits & !Self::ALL != 0 || (one_way && bits & (2 | 4 | 8 | 16) != 0) {
            None
        } else {
            Some(Self(bits))
        }
    }
}

/// Where a call goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Whoever is at the other end: the broker, or from it the party.
    Peer,
    /// The node of this key.
    Node(PeerId),
    /// The node of this group that has the fewest calls under way.
    Group(Bytes),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Call {
    /// UTF-8.
    pub(crate) command: Bytes,
    pub(crate) payload: Bytes,
    pub(crate) to: Destination,
    /// 0 for as long as it takes.
    pub(crate) timeout_micros: u64,
    pub(crate) shape: Shape,
    pub(crate) caller: u64,
    pub(crate) origin: u64,
}

impl Call {
    /// As it may be kept: of a packet that came with others it would keep them all.
    pub(crate) fn kept(mut self: Box<Self>) -> Box<Self> {
        if let Destination::Group(group) = &mut self.to {
            *group = Bytes::copy_from_slice(group);
        }
        self.command = Bytes::copy_from_slice(&self.command);
        self.payload = kept(std::mem::take(&mut self.payload));
        self
    }
}

/// Bytes as they may be kept, copied unless they are most of the packet that they came in.
pub(crate) fn kept(bytes: Bytes) -> Bytes {
    if bytes.len() > MAX_SEVERAL { bytes } else { Bytes::copy_from_slice(&bytes) }
}
