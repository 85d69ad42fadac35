//! What a newcomer shows once.

use std::fmt;

use data_encoding::HEXLOWER;
use peerage_machine::Rng;
use zeroize::Zeroizing;

/// Sets the hash of a token apart from any other.
const CONTEXT: &str = "peerage 2026 rpc invite token v1";

/// The secret of an invite: 128 random bits, good for one account. Overwritten when dropped, and not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Zeroizing<[u8; Self::LEN]>);

impl Token {
    /// Length, in bytes.
    pub const LEN: usize = 16;

    /// The next that the generator gives.
    pub(super) fn generate(rng: &mut Rng) -> Self {
        let random = Zeroizing::new(rng.bytes());
        let mut token = Zeroizing::new([0; Self::LEN]);
        token.iter_mut().zip(random.iter()).for_each(|(place, byte)| *place = *byte);
        Self(token)
    }

    /// For the newcomer, and nobody else.
    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// `None` when it is not [`Token::LEN`] bytes.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        Some(Self(Zeroizing::new(bytes.try_into().ok()?)))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Names an invite: the hash of its token, from which nobody gets the token. Printed in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InviteId([u8; 32]);

impl InviteId {
    /// The invite with this token.
    pub fn of(token: &[u8]) -> Self {
        Self(blake3::derive_key(CONTEXT, token))
    }

    /// The invite with this name.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The hash.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for InviteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for InviteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "InviteId({})", HEXLOWER.encode(&[a, b, c, d]))
    }
}
