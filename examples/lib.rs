//! The programs are in `examples/examples`. Here is what those with a broker share.

use anyhow::{Context, Result};
use peerage::rpc::accounts::Invite;
use peerage::rpc::credentials::{Credentials, Existing, Home};
use peerage::rpc::{ConnectError, Party, PartyBuilder};

/// Messages and services of `proto/notes.proto`, as `build.rs` made them.
pub mod notes {
    include!(concat!(env!("OUT_DIR"), "/notes.rs"));
}

/// What to connect with: with an invite, an account that comes of it, on a key made here; without, what an earlier run kept.
///
/// # Errors
/// There is no account, or the invite is not good, or the broker cannot be reached.
pub async fn credentials<P: From<Party>>(application: &str, invite: Option<String>) -> Result<Credentials> {
    let home = Home::of(application)?;
    let Some(invite) = invite else {
        return home.default_location().context("there is no account yet: give an invite from the broker");
    };
    let invite: Invite = invite.trim().parse()?;
    // One after the other may be tried; the last is the default.
    let newcomer = home.enrol("broker", &invite, Existing::Replace)?;
    let enrolled = PartyBuilder::<P>::new().credentials(newcomer.credentials().clone()).enrol(&invite).await;
    match enrolled {
        Ok(_) => Ok(newcomer.accepted()?),
        Err(ConnectError::Refused(status)) => {
            newcomer.refused()?;
            Err(status).context("the broker will not have this invite")
        }
        Err(error) => Err(error.into()),
    }
}
