//! Who may talk: accounts of users and nodes, and the invites that make them.
//!
//! An administrator makes an invite and hands its text over by whatever way it trusts. The newcomer makes a key on its own
//! machine and shows the invite's one-time token over its encrypted link to the broker, whose key the invite names; the
//! secret stays where it was made. The account that comes of it acts at once, or when the administrator confirms it, as the
//! invite says.
//!
//! [`Accounts`] is pure: it reads no clock and no entropy, and every command that changes it also gives the
//! [`peerage_machine::Write`]s that make the change survive. Whoever loads those records has the same table.
//!
//! ```
//! use std::time::Duration;
//! use peerage_machine::{Seed, UnixMillis};
//! use peerage_rpc::accounts::{Accounts, AccountsConfig, Confirmation, Denied, Kind, NewInvite};
//! use peerage_wire::PeerId;
//!
//! let mut accounts = Accounts::new(AccountsConfig::default());
//! let now = UnixMillis(1_700_000_000_000);
//! let new = NewInvite {
//!     kind: Kind::User,
//!     label: "Ada".to_owned(),
//!     ttl: Duration::from_secs(3600),
//!     confirmation: Confirmation::ByAdministrator,
//! };
//! let (token, _writes) = accounts.invite(now, new, &mut Seed::from_u64(1).rng())?;
//!
//! let ada = PeerId::from_bytes([7; 32]);
//! accounts.enrol(now, ada, token.as_bytes())?;
//! assert_eq!(accounts.may_act(&ada).unwrap_err(), Denied::Unconfirmed);
//! accounts.confirm(now, &ada)?;
//! assert_eq!(accounts.may_act(&ada)?.label, "Ada");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Guarantees
//!
//! - A token makes one account, whatever is cut or asked again: the same key with the same token is told what it is, and
//!   anybody else that the token is used.
//! - Nothing that is kept gives a token away: of each, there is a hash.
//! - A table that is loaded from its records equals the one that wrote them.
//!
//! # Non-guarantees
//!
//! - Guessing is made hopeless, with 128 random bits, and not counted: how often somebody may try is the broker's to bound.
//! - Times are those of the caller's wall clock. One that jumps lets invites live shorter or longer.
//!
//! # Limits
//!
//! [`AccountsConfig`] bounds accounts (100,000) and invites (10,000). A label has at most [`MAX_LABEL`] bytes, an application's
//! data [`MAX_DATA`], so a full table has at most 500 MB of data and typically, with none, 30 MB.

mod account;
mod error;
mod invite;
mod record;
mod table;
mod token;

pub use account::{
    Account, AccountsConfig, Confirmation, Enrolled, Kind, MAX_DATA, MAX_LABEL, NewInvite, Pending, Standing,
};
pub use error::{
    ConfirmError, DataError, Denied, EnrolError, InviteError, LoadError, ReinstateError, SuspendError,
    Unknown, UnknownInvite,
};
pub use invite::{Invite, InviteTextError};
pub use table::Accounts;
pub use token::{InviteId, Token};
