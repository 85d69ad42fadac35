//! What a user or a node has on its own machine: its key, and where its broker is.
//!
//! An application has a directory, `$PEERAGE_HOME/<application>` or else `~/.peerage/<application>`, with any number of
//! locations side by side, one for each broker that it has an account with; one of them is the default.
//!
//! ```text
//! ~/.peerage/notes/                     0700
//!     default                           the name of a location
//!     office.location                   the broker's key, its addresses, the network, the name of the key file
//!     office.5e0c….key                  the identity: PKCS#8 in PEM
//!     home.location
//!     home.91b2….key
//! ```
//!
//! Copying the directory is a backup. Files are text, and an address may be changed by hand.
//!
//! ```
//! # let folder = tempfile::tempdir()?;
//! use peerage_identity::Identity;
//! use peerage_rpc::credentials::{Credentials, Existing, Home};
//!
//! let home = Home::at(folder.path().join("notes"));
//! let credentials = Credentials {
//!     identity: Identity::generate()?,
//!     broker: Identity::generate()?.peer_id(),
//!     addresses: vec!["tcp://broker.example:4000".parse()?],
//!     network: "notes".to_owned(),
//! };
//! home.save("office", &credentials, Existing::Keep)?;
//! assert_eq!(home.default_location()?.identity.peer_id(), credentials.identity.peer_id());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Guarantees
//!
//! - A location is there in whole or not at all, whenever the program or the machine stops. What was there before is there
//!   until what comes after is.
//! - A key is made before the broker is asked and put in its place when the broker has accepted it. A failure in between
//!   touches no location, and another try with the same invite uses the same key, so that an answer that was lost costs
//!   no second invite.
//! - Nothing is overwritten that was not to be: [`Existing::Replace`] says so.
//! - Files and directories that others may read or write are refused, and made so that they may not.
//!
//! # Non-guarantees
//!
//! - On systems other than Unix, who may read is for the folder's own settings to say.
//! - A key that was made for an invite of which nothing came stays as a file that no location names.
//!
//! # Limits
//!
//! Names of applications and locations have at most 64 characters of `a-z`, `0-9`, `.`, `_`, `-`; a location has 1 to 16
//! addresses, and its file at most 16 KiB.

mod error;
mod files;
mod home;
mod location;
mod newcomer;

pub use error::CredentialsError;
pub use home::{Existing, Home, default_location};
pub use location::Credentials;
pub use newcomer::Newcomer;
