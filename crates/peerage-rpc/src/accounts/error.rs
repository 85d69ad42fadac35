//! What can be wrong with what is asked of the accounts.

use peerage_machine::UnixMillis;
use peerage_wire::PeerId;

use super::Standing;

/// Why no invite was made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InviteError {
    /// There are too many that are still good.
    #[error("there are {limit} open invites, and no more may be: withdraw some, or let them expire")]
    Full {
        /// [`super::AccountsConfig::invites`].
        limit: usize,
    },
    /// The label is too long.
    #[error("the label has {length} bytes, the limit is {limit}")]
    Label {
        /// Its length, in bytes.
        length: usize,
        /// [`super::MAX_LABEL`].
        limit: usize,
    },
    /// It would be good for less than a millisecond.
    #[error("the invite would expire at once")]
    Ttl,
    /// The generator has given a token that was given before: it was seeded as it had been before.
    #[error("the token is one that was given before: the randomness repeats itself")]
    Repeated,
}

/// Why nobody was enrolled. The table is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnrolError {
    /// No invite has this token, or it has been forgotten.
    #[error("no invite has this token")]
    UnknownToken,
    /// Somebody else has enrolled by it, or the account that did is removed.
    #[error("the invite has been used")]
    UsedToken,
    /// It came too late.
    #[error("the invite expired at {} ms since 1970", .at.0)]
    ExpiredToken {
        /// When the invite's time was over.
        at: UnixMillis,
    },
    /// This key has an account. The invite is still good.
    #[error("this key has an account already, which is {standing}")]
    AlreadyEnrolled {
        /// The account's.
        standing: Standing,
    },
    /// There are too many accounts. The invite is still good.
    #[error("there are {limit} accounts, and no more may be")]
    Full {
        /// [`super::AccountsConfig::accounts`].
        limit: usize,
    },
}

/// Why an account was not confirmed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfirmError {
    /// There is no such account.
    #[error(transparent)]
    Unknown(#[from] Unknown),
    /// It is confirmed, or suspended.
    #[error("{} is {standing}, so there is nothing to confirm", .peer.short())]
    Standing {
        /// Which account.
        peer: PeerId,
        /// What it is.
        standing: Standing,
    },
}

/// Why an account was not suspended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SuspendError {
    /// There is no such account.
    #[error(transparent)]
    Unknown(#[from] Unknown),
    /// It is suspended.
    #[error("{} is suspended already", .peer.short())]
    Suspended {
        /// Which account.
        peer: PeerId,
    },
}

/// Why an account was not reinstated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReinstateError {
    /// There is no such account.
    #[error(transparent)]
    Unknown(#[from] Unknown),
    /// It is not suspended.
    #[error("{} is {standing}, not suspended", .peer.short())]
    Standing {
        /// Which account.
        peer: PeerId,
        /// What it is.
        standing: Standing,
    },
}

/// Why an application's data was not kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// There is no such account.
    #[error(transparent)]
    Unknown(#[from] Unknown),
    /// It is too long.
    #[error("an account's data is {length} bytes, the limit is {limit}")]
    TooLong {
        /// Its length, in bytes.
        length: usize,
        /// [`super::MAX_DATA`].
        limit: usize,
    },
}

/// There is no such account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{peer} has no account")]
pub struct Unknown {
    /// Which.
    pub peer: PeerId,
}

/// There is no such invite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no such invite")]
pub struct UnknownInvite;

/// Why a party may not act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Denied {
    /// It has no account.
    #[error("this key has no account")]
    Unknown,
    /// Nobody has confirmed its account yet.
    #[error("the account is not confirmed yet")]
    Unconfirmed,
    /// Its account is suspended.
    #[error("the account is suspended")]
    Suspended,
}

/// Why records make no table. Whoever goes on without one of them would lock somebody out, or let somebody in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the record under {key:?} makes no sense: {why}")]
pub struct LoadError {
    /// Its key, as text where it is text.
    pub key: String,
    /// What is wrong with it.
    pub why: String,
}
