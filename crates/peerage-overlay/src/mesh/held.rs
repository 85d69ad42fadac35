//! A message as it is kept: thousands of them, so that each is two pieces of memory, its place in the window's queue and what is
//! left of its bytes.

use bytes::Bytes;
use peerage_machine::{Instant, LinkId};

use super::convert::cut;
use super::message::{SIGNATURE, Signed, footprint, split};

/// What an entry takes beside the message's bytes, in bytes: its place in the queue and that in its stream, and the stream's own
/// for its only message, any of which may have room for twice as many and more for a while.
const ENTRY_BYTES: u64 = 416;
/// What a piece of memory takes beside what is in it, at most.
const PIECE_BYTES: u64 = 24;
/// Longer ones stay in their packets: what their streams say is little beside them, and a copy is not.
pub(crate) const LONG: usize = 16 << 10;

/// Stands for our own, and for links whose numbers do not fit.
const NOBODY: u32 = u32::MAX;
/// Stands for a time that does not fit.
const FAR: i32 = i32::MIN;

/// How a message came that is to be kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Coming {
    /// As in the payload that it came in.
    pub(crate) hops: u32,
    /// By itself, not because it was asked for.
    pub(crate) pushed: bool,
    /// Who sent it; `None` when it is our own.
    pub(crate) from: Option<LinkId>,
    pub(crate) since: Instant,
}

/// What is kept of a message's bytes.
#[derive(Debug)]
pub(crate) enum Left {
    /// What neither its stream nor its [`Held`] says.
    Cut(Box<[u8]>),
    /// All, as in [`Signed`]: it is long, or its body does not begin as ours do.
    Whole(Box<Bytes>),
}

impl Left {
    /// Without its time when that is known otherwise.
    fn of(message: &Signed, network: &str, knows_time: bool) -> Self {
        let sent = Some(message.sent).filter(|_| knows_time);
        let cut = if message.bytes.len() < LONG { cut(message, network, sent) } else { None };
        cut.map_or_else(|| Self::Whole(Box::new(message.bytes.clone())), Self::Cut)
    }

    /// Of the body, the fields that are kept.
    pub(crate) fn body(&self) -> &[u8] {
        match self {
            Self::Cut(left) => left.get(..left.len().saturating_sub(SIGNATURE)).unwrap_or_default(),
            Self::Whole(bytes) => split(bytes).0,
        }
    }
}

/// What neither a message's place in the window nor its stream says.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) left: Left,
    pub(crate) seq: u64,
    /// When it came.
    pub(crate) since: Instant,
    /// What the window calls its stream.
    pub(crate) stream: u32,
    apart: i32,
    from: u32,
    hops: u16,
    /// Whether it came by itself, not because it was asked for.
    pub(crate) pushed: bool,
}

impl Held {
    /// One of this stream of the network's that was said so many milliseconds after the window's clock had it come.
    pub(crate) fn new(message: &Signed, network: &str, stream: u32, apart: i64, how: &Coming) -> Self {
        let apart = i32::try_from(apart).unwrap_or(FAR);
        let left = Left::of(message, network, apart != FAR);
        let (seq, since) = (message.id.seq, how.since);
        let mut held = Self { left, seq, since, stream, apart, from: NOBODY, hops: 0, pushed: false };
        held.came(how);
        held
    }

    /// It came in this way, too, which counts.
    pub(crate) fn came(&mut self, how: &Coming) {
        self.hops = u16::try_from(how.hops).unwrap_or(u16::MAX);
        self.pushed = how.pushed;
        self.from = how.from.and_then(|from| u32::try_from(from.0).ok()).unwrap_or(NOBODY);
    }

    /// When it was said, as it was given, if that fits.
    pub(crate) fn apart(&self) -> Option<i64> {
        Some(self.apart).filter(|apart| *apart != FAR).map(i64::from)
    }

    /// Who sent it; `None` when it is our own, or came by a link whose number does not fit.
    pub(crate) fn from(&self) -> Option<LinkId> {
        Some(self.from).filter(|from| *from != NOBODY).map(|from| LinkId(from.into()))
    }

    /// As in the payload that it came in; 65,535 may be more.
    pub(crate) fn hops(&self) -> u32 {
        self.hops.into()
    }

    /// What all of it takes.
    pub(crate) fn footprint(&self) -> u64 {
        let bytes = match &self.left {
            Left::Cut(left) => left.len() as u64 + PIECE_BYTES,
            Left::Whole(bytes) => footprint(bytes) + size_of::<Bytes>() as u64 + PIECE_BYTES,
        };
        bytes + ENTRY_BYTES
    }
}
