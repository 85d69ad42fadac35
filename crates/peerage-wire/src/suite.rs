//! The ciphers that a link can be sealed with.

use std::fmt;

/// What the preface chooses: a Noise handshake and the cipher of the records. Both do the same handshake, with X25519
/// and BLAKE2s, under a name of its own, so that a link cannot mistake one for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Suite {
    /// `Noise_XX_25519_ChaChaPoly_BLAKE2s`: ChaCha20-Poly1305 (RFC 8439), as fast as a processor without help gets.
    ChaChaPoly,
    /// `Noise_XX_25519_AESGCM_BLAKE2s`: AES-256 in Galois/Counter Mode (NIST SP 800-38D), faster where the processor
    /// has AES and slower where it has not.
    AesGcm,
}

impl Suite {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 2] = [Self::ChaChaPoly, Self::AesGcm];

    /// Its number in the preface.
    pub const fn id(self) -> u8 {
        match self {
            Self::ChaChaPoly => 1,
            Self::AesGcm => 2,
        }
    }

    /// The suite of this number in a preface of this version, if there is one.
    pub fn from_id(id: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.id() == id)
    }

    /// Several of them, for people: `1 (ChaChaPoly) or 2 (AESGCM)`.
    pub fn list(suites: &[Self]) -> String {
        let each: Vec<_> = suites.iter().map(|suite| format!("{} ({suite})", suite.id())).collect();
        each.join(" or ")
    }

    /// The name of its Noise protocol (revision 34, section 8).
    pub const fn noise_name(self) -> &'static str {
        match self {
            Self::ChaChaPoly => "Noise_XX_25519_ChaChaPoly_BLAKE2s",
            Self::AesGcm => "Noise_XX_25519_AESGCM_BLAKE2s",
        }
    }
}

/// The name of its cipher, as Noise writes it.
impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ChaChaPoly => "ChaChaPoly",
            Self::AesGcm => "AESGCM",
        })
    }
}
