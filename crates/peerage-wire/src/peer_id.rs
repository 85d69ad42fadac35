//! The name of a peer.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use data_encoding::BASE32_NOPAD;

/// Names a peer: its Ed25519 public key, 32 bytes. Printed in lower-case base32 (RFC 4648, no padding), 52 characters;
/// read in either case. The four bits that the last character has too many are zero, so that a key has one text.
///
/// Ordered as its bytes are: the dial of the smaller of two peers is the one that stays when both dial at once.
///
/// Nothing is checked on construction: bytes that are no point of the curve name nobody, and every signature
/// "by" them fails to verify.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PeerId([u8; 32]);

impl PeerId {
    /// Length in bytes.
    pub const LEN: usize = 32;

    /// Length of the printed form, in characters.
    pub const TEXT_LEN: usize = 52;

    /// The peer that this public key names.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The public key.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first ten characters: enough for people to tell peers apart, not enough to name one.
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(10);
        text
    }
}

impl Ord for PeerId {
    // Maps of peers are searched all the time, and keys nearly always differ in their first eight bytes: these are compared
    // without a call.
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        let head = |id: &Self| id.0.first_chunk().map_or(0, |head| u64::from_be_bytes(*head));
        head(self).cmp(&head(other)).then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for PeerId {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl TryFrom<&[u8]> for PeerId {
    type Error = PeerIdError;

    fn try_from(bytes: &[u8]) -> Result<Self, PeerIdError> {
        bytes.try_into().map(Self).map_err(|_| PeerIdError::Length { found: bytes.len() })
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE32_NOPAD.encode(&self.0).to_ascii_lowercase())
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerId({})", self.short())
    }
}

impl FromStr for PeerId {
    type Err = PeerIdError;

    fn from_str(text: &str) -> Result<Self, PeerIdError> {
        let reject =
            || PeerIdError::Base32 { text: text.chars().take(64).collect(), length: text.chars().count() };
        // Before anything is copied: 52 characters and no other number are 32 bytes.
        if text.len() != Self::TEXT_LEN {
            return Err(reject());
        }
        let bytes = BASE32_NOPAD.decode(text.to_ascii_uppercase().as_bytes()).map_err(|_| reject())?;
        Self::try_from(bytes.as_slice())
    }
}

/// Why something is not a [`PeerId`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PeerIdError {
    /// Not as many bytes as a key has.
    #[error("a peer id is 32 bytes, this has {found}")]
    Length {
        /// Bytes given.
        found: usize,
    },
    /// Not base32.
    #[error("a peer id is 52 characters of base32 (a-z, 2-7), this has {length}: {text:?}")]
    Base32 {
        /// What was given, cut to 64 characters.
        text: String,
        /// Characters given.
        length: usize,
    },
}
