//! What is known of an account, and of one to be.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use peerage_machine::UnixMillis;
use peerage_wire::PeerId;

/// The longest label, in bytes.
pub const MAX_LABEL: usize = 128;
/// The most that an application keeps with an account, in bytes.
pub const MAX_DATA: usize = 4096;

/// What a party is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A user.
    User,
    /// A node.
    Node,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::User => "user",
            Self::Node => "node",
        })
    }
}

/// Whether an account may act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// Not yet: an administrator is to confirm it.
    Unconfirmed,
    /// It may.
    Active,
    /// Not until an administrator reinstates it.
    Suspended,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unconfirmed => "unconfirmed",
            Self::Active => "active",
            Self::Suspended => "suspended",
        })
    }
}

/// One account, named by its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// What it is.
    pub kind: Kind,
    /// Whether it may act.
    pub standing: Standing,
    /// What the administrator called it in its invite; at most [`MAX_LABEL`] bytes.
    pub label: String,
    /// The application's; at most [`MAX_DATA`] bytes.
    pub data: Bytes,
    /// When it came to be.
    pub enrolled_at: UnixMillis,
    /// When its standing or data changed last.
    pub changed_at: UnixMillis,
}

/// Whether an account that is enrolled by an invite may act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Confirmation {
    /// At once: who has the token is trusted.
    AtOnce,
    /// When the administrator has compared the key, say, and confirmed it.
    ByAdministrator,
}

/// What an invite is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewInvite {
    /// What the account will be.
    pub kind: Kind,
    /// What the account will be called; at most [`MAX_LABEL`] bytes.
    pub label: String,
    /// How long it is good, in whole milliseconds.
    pub ttl: Duration,
    /// Whether the account may act at once.
    pub confirmation: Confirmation,
}

/// An invite, as the broker knows it: without its token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// What the account will be.
    pub kind: Kind,
    /// What the account will be called.
    pub label: String,
    /// When it was made.
    pub invited_at: UnixMillis,
    /// From then on it is not good any more.
    pub expires_at: UnixMillis,
    /// Whether the account may act at once.
    pub confirmation: Confirmation,
    /// Who has enrolled by it.
    pub used_by: Option<PeerId>,
}

/// What a newcomer is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enrolled {
    /// What it is.
    pub kind: Kind,
    /// Whether it may act.
    pub standing: Standing,
    /// Whether it was enrolled by this very token before: the first answer did not reach it.
    pub again: bool,
}

/// How many there may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountsConfig {
    /// The most accounts. One takes about 300 bytes of memory, and its data. 100,000 are more than one broker has sessions
    /// for.
    pub accounts: usize,
    /// The most invites: open ones, and those that are remembered. One takes about 300 bytes.
    pub invites: usize,
    /// How long used and expired invites are remembered after their end, so that who comes with one hears what is wrong
    /// with it. A week lets people come back from a journey. When there is no room for a new invite, they are forgotten
    /// sooner.
    pub remember: Duration,
}

impl Default for AccountsConfig {
    fn default() -> Self {
        Self { accounts: 100_000, invites: 10_000, remember: Duration::from_secs(7 * 24 * 3600) }
    }
}
