//! The nine bytes with which a dialer begins, in clear, and the same form as an answer.

use std::fmt;

use crate::Suite;

/// What a dialer sends first: `b"PEERAGE"`, the version and the suite. As sent, these bytes are the prologue of the
/// Noise handshake.
///
/// A responder that does not take the version or the suite answers with a preface of what it would take and closes; one
/// that finds no magic closes without a word.
///
/// That answer is not signed: whoever sits in between can give it too. All it can reach is that the dialer uses another
/// suite of those that it was willing to dial with anyway; nobody can make either end use one that it does not list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Preface {
    /// The version of everything that follows.
    pub version: u8,
    /// The number of the [`Suite`], should there be one.
    pub suite: u8,
}

/// The version that this crate describes.
pub const VERSION: u8 = 1;

impl Preface {
    /// Length in bytes.
    pub const LEN: usize = 9;

    /// What every preface begins with.
    pub const MAGIC: [u8; 7] = *b"PEERAGE";

    /// This version with [`Suite::ChaChaPoly`].
    pub const CURRENT: Self = Self::new(Suite::ChaChaPoly);

    /// This version, with this suite.
    pub const fn new(suite: Suite) -> Self {
        Self { version: VERSION, suite: suite.id() }
    }

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

    /// The suite that it names, if it is one of this version.
    pub fn known_suite(self) -> Option<Suite> {
        Suite::from_id(self.suite).filter(|_| self.version == VERSION)
    }

    /// Whether a responder that takes these suites can go on from here, and with which.
    ///
    /// # Errors
    /// [`PrefaceError::Version`] or [`PrefaceError::Suite`]: the answer to both is a preface of this version with a
    /// suite that the responder takes, in clear.
    pub fn check(self, takes: &[Suite]) -> Result<Suite, PrefaceError> {
        if self.version != VERSION {
            return Err(PrefaceError::Version { found: self.version, ours: VERSION });
        }
        self.known_suite()
            .filter(|suite| takes.contains(suite))
            .ok_or_else(|| PrefaceError::Suite { found: self.suite, ours: takes.to_vec() })
    }
}

/// For people: `version 1 with suite 2 (AESGCM)`.
impl fmt::Display for Preface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "version {} with suite {}", self.version, self.suite)?;
        match self.known_suite() {
            Some(suite) => write!(f, " ({suite})"),
            None => Ok(()),
        }
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
    #[error("the peer wants cipher suite {found}, this endpoint takes {}", Suite::list(.ours))]
    Suite {
        /// The number of its suite.
        found: u8,
        /// What this endpoint takes.
        ours: Vec<Suite>,
    },
}

/// What proves that its bearer can be reached where it says it is: a responder's keyed hash of the dialer's address,
/// which only that responder can make and check.
pub type Cookie = [u8; 16];

/// Which limit a responder is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Busy {
    /// 0, or a number that this version does not know.
    Other,
    /// Links in all.
    Links,
    /// Handshakes at once, or a second.
    Handshakes,
    /// Links or handshakes of one address.
    Address,
}

impl Busy {
    const fn to_byte(self) -> u8 {
        match self {
            Self::Other => 0,
            Self::Links => 1,
            Self::Handshakes => 2,
            Self::Address => 3,
        }
    }

    const fn from_byte(byte: u8) -> Self {
        match byte {
            1 => Self::Links,
            2 => Self::Handshakes,
            3 => Self::Address,
            _ => Self::Other,
        }
    }
}

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Other => "one that this endpoint does not know",
            Self::Links => "links",
            Self::Handshakes => "handshakes",
            Self::Address => "links from one address",
        })
    }
}

/// What a responder says in clear, before any key is touched, to a dialer that it understands; then it closes. It begins
/// like a preface of version 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Notice {
    /// Dial again, with this as the payload of the first handshake message.
    Cookie(Cookie),
    /// There is no room.
    Busy(Busy),
}

impl Notice {
    /// In place of a version.
    const VERSION: u8 = 0;
    const COOKIE: u8 = 1;
    const BUSY: u8 = 2;

    /// As sent: less than what a dialer sends first.
    pub fn encode(self) -> Vec<u8> {
        let head = |kind| Preface { version: Self::VERSION, suite: kind }.encode().to_vec();
        match self {
            Self::Cookie(cookie) => [head(Self::COOKIE), cookie.to_vec()].concat(),
            Self::Busy(busy) => [head(Self::BUSY), vec![busy.to_byte()]].concat(),
        }
    }

    /// What follows `head`, and how many bytes that was: `None` when it is not all there yet. `Some(None)` when `head`
    /// begins no notice that this version knows.
    pub(crate) fn decode(head: Preface, rest: &[u8]) -> Option<Option<(Self, usize)>> {
        match (head.version, head.suite) {
            (Self::VERSION, Self::COOKIE) => {
                rest.first_chunk().map(|cookie| Some((Self::Cookie(*cookie), cookie.len())))
            }
            (Self::VERSION, Self::BUSY) => {
                rest.first().map(|byte| Some((Self::Busy(Busy::from_byte(*byte)), 1)))
            }
            _ => Some(None),
        }
    }
}
