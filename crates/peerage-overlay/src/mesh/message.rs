//! What the application says and hears.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use peerage_machine::UnixMillis;
use peerage_wire::{PeerId, PeerIdError};

use super::convert::{network, parts};
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

/// What a message takes beside its bytes: up to 32 that its packet has more, the packet's count of who has it, which is a piece of memory of its
/// own, and 16 bytes lost to both.
const AROUND: usize = 96;

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

/// What the bytes of a message take in memory, as they came.
pub(crate) fn footprint(bytes: &[u8]) -> u64 {
    (bytes.len() + AROUND) as u64
}

/// The bytes of a signature.
pub(crate) const SIGNATURE: usize = 64;
/// What is between a body and its signature in a packet: the signature's tag and length, the same in all.
pub(crate) const GAP: usize = 2;

/// The body and the signature in the bytes of a message.
pub(crate) fn split(bytes: &[u8]) -> (&[u8], &[u8]) {
    // They are never shorter.
    let (body, rest) = bytes.split_at_checked(bytes.len().wrapping_sub(GAP + SIGNATURE)).unwrap_or_default();
    (body, rest.get(GAP..).unwrap_or_default())
}

/// A message as its origin signed it: the bytes are forwarded as they came. All of one is in a single piece of memory, and what
/// it says is read where it is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signed {
    pub(crate) id: MessageId,
    pub(crate) sent: UnixMillis,
    /// The body, a gap, and the signature.
    pub(crate) bytes: Bytes,
    /// Of a whisper.
    pub(crate) target: Option<Box<PeerId>>,
}

impl Signed {
    /// What it takes in memory, in bytes.
    pub(crate) fn footprint(&self) -> u64 {
        footprint(&self.bytes) + self.target.as_ref().map_or(0, |_| size_of::<PeerId>() as u64)
    }

    /// What was signed.
    pub(crate) fn body(&self) -> &[u8] {
        split(&self.bytes).0
    }

    /// The same for whoever keeps it beyond this call.
    pub(crate) fn shared_body(&self) -> Bytes {
        self.bytes.slice(..self.body().len())
    }

    pub(crate) fn signature(&self) -> [u8; SIGNATURE] {
        split(&self.bytes).1.try_into().unwrap_or([0; SIGNATURE])
    }

    /// The mesh that it is for.
    pub(crate) fn network(&self) -> &[u8] {
        self.bytes.get(network(self.body())).unwrap_or_default()
    }

    pub(crate) fn deliver(&self, hops: u32) -> Message {
        Message {
            id: self.id,
            origin: self.id.origin,
            sent: self.sent,
            kind: if self.target.is_some() { Kind::Whisper } else { Kind::Broadcast },
            parts: parts(&self.shared_body()),
            hops,
        }
    }
}
