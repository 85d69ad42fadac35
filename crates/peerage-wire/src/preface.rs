//! The nine bytes with which a dialer begins, in clear, and the same form as an answer.

/// What a dialer sends first: `b"PEERAGE"`, the version and the suite. As sent, these bytes are the prologue of the
/// Noise handshake.
///
/// A responder that does not take the version or the suite answers with a preface of what it would take and closes; one
/// that finds no magic closes without a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Preface {
    /// The version of everything that follows.
    pub version: u8,
    /// The handshake and ciphers.
    pub suite: u8,
}

/// The version that this crate describes.
pub const VERSION: u8 = 1;

/// `Noise_XX_25519_ChaChaPoly_BLAKE2s`.
pub const SUITE_CHACHAPOLY: u8 = 1;

/// Reserved for `Noise_XX_25519_AESGCM_BLAKE2s`.
pub const SUITE_AESGCM: u8 = 2;

impl Preface {
    /// Length in bytes.
    pub const LEN: usize = 9;

    /// What every preface begins with.
    pub const MAGIC: [u8; 7] = *b"PEERAGE";

    /// What this version dials with.
    pub const CURRENT: Self = Self { version: VERSION, suite: SUITE_CHACHAPOLY };

    /// As sent.
    pub const fn encode(self) -> [u8; 9] {
        let [p, e, e2, r, a, g, e3] = Self::MAGIC;
        [p, e, e2, r, a, g, e3, self.version, self.suite]
    }

    /// As received. Any version and suite will do here; see [`Preface::check`].
    ///
    /// # Errors
    /// [`PrefaceError::Magic`].
    pub fn decode(bytes: &[u8; 9]) -> Result<Self, PrefaceError> {
        let [magic @ .., version, suite] = *bytes;
        if magic != Self::MAGIC {
            return Err(PrefaceError::Magic { found: magic });
        }
        Ok(Self { version, suite })
    }

    /// Whether this version can go on from here.
    ///
    /// # Errors
    /// [`PrefaceError::Version`] or [`PrefaceError::Suite`]: the answer to both is [`Preface::CURRENT`], in clear.
    pub fn check(self) -> Result<(), PrefaceError> {
        if self.version != VERSION {
            return Err(PrefaceError::Version { found: self.version, ours: VERSION });
        }
        if self.suite != SUITE_CHACHAPOLY {
            return Err(PrefaceError::Suite { found: self.suite, ours: SUITE_CHACHAPOLY });
        }
        Ok(())
    }
}

/// Why a dialer is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PrefaceError {
    /// It speaks something else.
    #[error("this is not Peerage: it begins with \"{}\" instead of \"PEERAGE\"", .found.escape_ascii())]
    Magic {
        /// What it begins with.
        found: [u8; 7],
    },
    /// It speaks another version.
    #[error("the peer speaks version {found}, this is version {ours}")]
    Version {
        /// Its version.
        found: u8,
        /// Ours.
        ours: u8,
    },
    /// It speaks another suite.
    #[error("the peer wants cipher suite {found}, this endpoint has suite {ours}")]
    Suite {
        /// Its suite.
        found: u8,
        /// Ours.
        ours: u8,
    },
}
