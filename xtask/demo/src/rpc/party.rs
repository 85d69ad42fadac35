//! What client and node processes do alike: they enrol, connect, and say how they stand.

use std::ops::Deref;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use peerage::Address;
use peerage::rpc::accounts::Invite;
use peerage::rpc::credentials::{Credentials, Existing, Home};
use peerage::rpc::{Code, ConnectError, Party, PartyBuilder, Status};
use serde_json::{Value, json};

use super::child::{Ask, CLOSE};

/// Where its credentials are, and its session.
#[derive(Debug)]
pub(super) struct Member<P> {
    party: Mutex<Option<P>>,
}

impl<P> Default for Member<P> {
    fn default() -> Self {
        Self { party: Mutex::new(None) }
    }
}

/// Whatever is micro.
pub(super) fn micros_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// A status, for the parent.
pub(super) fn status_words(status: &Status) -> Value {
    json!({ "code": status.code.to_string(), "message": status.message, "may_have_run": status.may_have_run })
}

impl<P: From<Party> + Deref<Target = Party> + Clone> Member<P> {
    /// The session.
    pub(super) fn party(&self) -> Result<P> {
        let party = self.party.lock().unwrap_or_else(PoisonError::into_inner);
        party.clone().context("it is not connected")
    }

    /// What every member does; `None` for what only this kind does. `build` makes it from its credentials.
    pub(super) async fn obey(
        &self,
        ask: &Ask,
        build: impl FnOnce(Credentials) -> PartyBuilder<P> + Send,
    ) -> Result<Option<Value>> {
        Ok(Some(match ask.what() {
            "enrol" => self.enrol(ask).await?,
            "connect" => {
                let credentials = Home::at(ask.text("home")?).default_location()?;
                let address: Address = ask.text("address")?.parse()?;
                let broker = credentials.broker;
                let start = Instant::now();
                match build(credentials).broker(broker, [address]).connect().await {
                    Ok(party) => {
                        *self.party.lock().unwrap_or_else(PoisonError::into_inner) = Some(party);
                        json!({ "micros": micros_since(start) })
                    }
                    Err(ConnectError::Refused(status)) => json!({ "refused": status_words(&status) }),
                    Err(error) => return Err(error.into()),
                }
            }
            // Sessions that were lost: none, if all is well.
            "lost" => match self.party()?.lost() {
                Some(lost) => json!({ "lost": lost.status.to_string() }),
                None => json!({}),
            },
            CLOSE => {
                let party = self.party()?;
                json!({ "cut": party.close().await.cut })
            }
            _ => return Ok(None),
        }))
    }

    /// The key is made here, and stays here.
    async fn enrol(&self, ask: &Ask) -> Result<Value> {
        let invite: Invite = ask.text("invite")?.parse()?;
        let newcomer = Home::at(ask.text("home")?).enrol("broker", &invite, Existing::Keep)?;
        let key = newcomer.credentials().identity.peer_id().to_string();
        let builder = PartyBuilder::<P>::new().credentials(newcomer.credentials().clone());
        match builder.enrol(&invite).await {
            Ok(admitted) => {
                newcomer.accepted()?;
                Ok(json!({ "key": key, "confirmed": admitted.confirmed }))
            }
            Err(ConnectError::Refused(status)) if status.code != Code::Unavailable => {
                newcomer.refused()?;
                Ok(json!({ "refused": status_words(&status) }))
            }
            Err(error) => bail!("enrolling: {error}"),
        }
    }
}
