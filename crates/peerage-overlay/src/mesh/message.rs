//! What the application says and hears.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use peerage_machine::UnixMillis;
use peerage_wire::{PeerId, PeerIdError};

use super::lru::Key;

/// Names a broadcast, or a whisper, of a mesh for ever. As text: `origin/epoch/seq`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId {
    /// Who said it.
    pub origin: PeerId,
    /// Which start of the origin's mesh: larger for later ones.
    pub epoch: u64,
    /// Counts 1, 2, 3, … within the epoch; broadcasts and whispers each for themselves.
    pub seq: u64,
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.origin, self.epoch, self.seq)
    }
}

impl FromStr for MessageId {
    type Err = MessageIdError;

    fn from_str(text: &str) -> Result<Self, MessageIdError> {
        let mut parts = text.split('/');
        let (Some(origin), Some(epoch), Some(seq), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(MessageIdError::Shape);
        };
        let number =
            |text: &str| text.parse().map_err(|_| MessageIdError::Number(text.chars().take(32).collect()));
        Ok(Self { origin: origin.parse()?, epoch: number(epoch)?, seq: number(seq)? })
    }
}

/// Why a text is not a [`MessageId`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageIdError {
    /// Not three fields.
    #[error("a message id is origin/epoch/seq")]
    Shape,
    /// The origin is no peer id.
    #[error(transparent)]
    Origin(#[from] PeerIdError),
    /// The epoch or the sequence number is no number.
    #[error("{0:?} is not a number")]
    Number(String),
}

/// A broadcast that is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// Its name.
    pub id: MessageId,
    /// Neighbours that it was queued to at once; the others are told of it. None only of those that are alone
    /// ([`crate::MeshConfig::publish_alone`]), or all of whose neighbours are stuck ([`crate::MeshConfig::stall_after`]).
    pub neighbours: usize,
}

/// How a message came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// To everyone.
    Broadcast,
    /// To us alone.
    Whisper,
}

/// A message as the application gets it. Cheap to clone: the bytes are shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its name.
    pub id: MessageId,
    /// Who said it, proven by a signature; also in the id.
    pub origin: PeerId,
    /// When, by the origin's clock.
    pub sent: UnixMillis,
    /// Whether others got it too.
    pub kind: Kind,
    /// 1 to 64 parts, as they were given to `broadcast` or `whisper`.
    pub parts: Vec<Bytes>,
    /// Peers that passed it on: 0 when it came from its origin.
    pub hops: u32,
}

impl Message {
    /// The first part: the whole of a message of one part.
    pub fn body(&self) -> &Bytes {
        static EMPTY: Bytes = Bytes::new();
        self.parts.first().unwrap_or(&EMPTY)
    }

    /// Bytes in all parts.
    pub fn len(&self) -> usize {
        self.parts.iter().map(Bytes::len).sum()
    }

    /// Whether all parts are empty.
    pub fn is_empty(&self) -> bool {
        self.parts.iter().all(Bytes::is_empty)
    }
}

/// What can be said: one part or several.
pub trait IntoParts {
    /// The parts.
    fn into_parts(self) -> Vec<Bytes>;
}

impl IntoParts for Vec<Bytes> {
    fn into_parts(self) -> Vec<Bytes> {
        self
    }
}

impl IntoParts for Bytes {
    fn into_parts(self) -> Vec<Bytes> {
        vec![self]
    }
}

impl IntoParts for Vec<u8> {
    fn into_parts(self) -> Vec<Bytes> {
        vec![self.into()]
    }
}

impl IntoParts for String {
    fn into_parts(self) -> Vec<Bytes> {
        vec![self.into()]
    }
}

impl IntoParts for &str {
    fn into_parts(self) -> Vec<Bytes> {
        vec![Bytes::copy_from_slice(self.as_bytes())]
    }
}

impl IntoParts for &[u8] {
    fn into_parts(self) -> Vec<Bytes> {
        vec![Bytes::copy_from_slice(self)]
    }
}

impl<const N: usize> IntoParts for [Bytes; N] {
    fn into_parts(self) -> Vec<Bytes> {
        self.into()
    }
}

impl<const N: usize> IntoParts for [&str; N] {
    fn into_parts(self) -> Vec<Bytes> {
        self.iter().map(|part| Bytes::copy_from_slice(part.as_bytes())).collect()
    }
}

impl<const N: usize> IntoParts for [String; N] {
    fn into_parts(self) -> Vec<Bytes> {
        self.into_iter().map(Bytes::from).collect()
    }
}

/// What a message takes beside what it is of: two counts of who has it, the head of its packet, and four pieces of memory
/// with 8 to 16 bytes lost to each.
const AROUND: usize = 128;

/// One start of one origin's mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct StreamKey {
    pub(crate) origin: PeerId,
    pub(crate) epoch: u64,
}

impl Key for PeerId {
    fn head(&self) -> u32 {
        self.as_bytes().first_chunk().map_or(0, |head| u32::from_be_bytes(*head))
    }
}

impl Key for StreamKey {
    fn head(&self) -> u32 {
        self.origin.head()
    }
}

impl Key for MessageId {
    fn head(&self) -> u32 {
        self.origin.head()
    }
}

impl MessageId {
    pub(crate) const fn stream(&self) -> StreamKey {
        StreamKey { origin: self.origin, epoch: self.epoch }
    }
}

impl StreamKey {
    pub(crate) const fn message(self, seq: u64) -> MessageId {
        MessageId { origin: self.origin, epoch: self.epoch, seq }
    }
}

/// Where some of a message's bytes are in its body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    at: u32,
    len: u32,
}

impl Place {
    /// So many bytes from there on; `None` beyond 4 GiB.
    pub(crate) fn new(at: usize, len: usize) -> Option<Self> {
        Some(Self { at: u32::try_from(at).ok()?, len: u32::try_from(len).ok()? })
    }

    fn range(self) -> std::ops::Range<usize> {
        self.at as usize..self.at as usize + self.len as usize
    }

    fn slice(self, body: &Bytes) -> Bytes {
        let range = self.range();
        if range.end <= body.len() { body.slice(range) } else { Bytes::new() }
    }
}

/// Where the parts are: most messages have one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Places {
    One(Place),
    Several(Box<[Place]>),
}

impl From<Vec<Place>> for Places {
    fn from(places: Vec<Place>) -> Self {
        match places[..] {
            [place] => Self::One(place),
            _ => Self::Several(places.into()),
        }
    }
}

/// A message as its origin signed it: the bytes are forwarded as they came, and say all but what is beside them here.
/// Thousands of these are kept, so that it says nothing twice that is not compared again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signed {
    pub(crate) id: MessageId,
    pub(crate) sent: UnixMillis,
    /// 64 bytes. Of the memory that the body is in.
    pub(crate) signature: Bytes,
    pub(crate) body: Bytes,
    pub(crate) parts: Places,
    pub(crate) network: Place,
    /// Of a whisper.
    pub(crate) target: Option<Box<PeerId>>,
}

impl Signed {
    /// What it takes in memory, in bytes: the packet that it came in (the body and the signature are slices of it) and
    /// what stands around it.
    pub(crate) fn footprint(&self) -> u64 {
        let several =
            if let Places::Several(places) = &self.parts { size_of_val::<[Place]>(places) } else { 0 };
        let target = self.target.as_ref().map_or(0, |_| size_of::<PeerId>());
        (self.body.len() + self.signature.len() + several + target + size_of::<Self>() + AROUND) as u64
    }

    /// The mesh that it is for.
    pub(crate) fn network(&self) -> &[u8] {
        self.body.get(self.network.range()).unwrap_or_default()
    }

    pub(crate) fn signature(&self) -> [u8; 64] {
        // It is never of another length.
        self.signature.first_chunk().copied().unwrap_or([0; 64])
    }

    pub(crate) fn deliver(&self, hops: u32) -> Message {
        let parts = match &self.parts {
            Places::One(place) => std::slice::from_ref(place),
            Places::Several(places) => places,
        };
        Message {
            id: self.id,
            origin: self.id.origin,
            sent: self.sent,
            kind: if self.target.is_some() { Kind::Whisper } else { Kind::Broadcast },
            parts: parts.iter().map(|place| place.slice(&self.body)).collect(),
            hops,
        }
    }
}
