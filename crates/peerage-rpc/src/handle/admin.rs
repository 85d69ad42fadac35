//! What a broker's administrator does.

use std::time::Duration;

use peerage_machine::{CallId, Now, OutboxOf};
use peerage_wire::PeerId;
use tokio::sync::oneshot;

use super::broker::BrokerRef;
use super::model::Model;
use crate::accounts::{
    Account, ConfirmError, Confirmation, Invite, InviteError, InviteId, Kind, NewInvite, Pending,
    ReinstateError, SuspendError, Unknown, UnknownInvite,
};
use crate::broker::{AdmitError, BrokerMachine};
use crate::status::Status;

/// Why a broker did not do what its administrator asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError<E: std::error::Error + 'static> {
    /// It is closed.
    #[error("the broker is closed")]
    Closed,
    /// It makes no sense.
    #[error(transparent)]
    Refused(#[from] E),
    /// It is done, and was not written: a broker that starts anew may not know of it.
    #[error("done, and not kept: {0}")]
    NotKept(Status),
}

impl<M: Model> BrokerRef<M> {
    async fn ask<T, E: std::error::Error + 'static>(
        &self,
        ask: impl FnOnce(&mut BrokerMachine, Now, &mut OutboxOf<BrokerMachine>) -> Result<(T, CallId), E>,
    ) -> Result<T, AdminError<E>> {
        let (reply, kept) = oneshot::channel();
        let desk = self.here.line.desk();
        let asked = self.shared().hosted.call(|machine, now, out| {
            let (answer, call) = ask(machine, now, out)?;
            desk.expect_answer(call, reply);
            Ok::<T, E>(answer)
        });
        let answer = asked.map_err(|_| AdminError::Closed)??;
        // Nobody is told of what a crash would undo.
        match kept.await {
            Ok(Ok(_)) => Ok(answer),
            Ok(Err(status)) => Err(AdminError::NotKept(status)),
            Err(_) => Err(AdminError::Closed),
        }
    }

    /// Invites somebody who need not be known yet; the account acts once it is confirmed. Whoever has the invite can use it,
    /// once.
    ///
    /// # Errors
    /// [`InviteError`].
    pub async fn invite(&self, kind: Kind, ttl: Duration) -> Result<Invite, AdminError<InviteError>> {
        let confirmation = Confirmation::ByAdministrator;
        self.invite_as(NewInvite { kind, label: String::new(), ttl, confirmation }).await
    }

    /// As [`BrokerRef::invite`], with a name, and with or without a confirmation.
    ///
    /// # Errors
    /// [`InviteError`].
    pub async fn invite_as(&self, new: NewInvite) -> Result<Invite, AdminError<InviteError>> {
        let kind = new.kind;
        let token = self
            .ask(|machine, now, out| {
                machine.expire_invites(now, out);
                machine.invite(now, new, out)
            })
            .await?;
        let (broker, addresses) = (self.peer_id(), self.endpoint().addresses());
        Ok(Invite { broker, addresses, network: self.shared().network.clone(), kind, token })
    }

    /// Takes an invite back.
    ///
    /// # Errors
    /// There is none of that name.
    pub async fn withdraw(&self, invite: &InviteId) -> Result<(), AdminError<UnknownInvite>> {
        self.ask(|machine, _, out| machine.withdraw(invite, out).map(done)).await
    }

    /// Gives a key that is known already an account that acts at once.
    ///
    /// # Errors
    /// [`AdmitError`].
    pub async fn admit(&self, peer: PeerId, kind: Kind, label: &str) -> Result<(), AdminError<AdmitError>> {
        self.ask(|machine, now, out| machine.admit(now, peer, kind, label, out).map(done)).await
    }

    /// Lets an account act that waits for it.
    ///
    /// # Errors
    /// [`ConfirmError`].
    pub async fn confirm(&self, peer: &PeerId) -> Result<(), AdminError<ConfirmError>> {
        self.ask(|machine, now, out| machine.confirm(now, peer, out).map(done)).await
    }

    /// Keeps an account from acting: its sessions end now.
    ///
    /// # Errors
    /// [`SuspendError`].
    pub async fn suspend(&self, peer: &PeerId) -> Result<(), AdminError<SuspendError>> {
        self.ask(|machine, now, out| machine.suspend(now, peer, out).map(done)).await
    }

    /// Lets a suspended account act again.
    ///
    /// # Errors
    /// [`ReinstateError`].
    pub async fn reinstate(&self, peer: &PeerId) -> Result<(), AdminError<ReinstateError>> {
        self.ask(|machine, now, out| machine.reinstate(now, peer, out).map(done)).await
    }

    /// Removes an account: its sessions end now.
    ///
    /// # Errors
    /// There is none of that key.
    pub async fn remove(&self, peer: &PeerId) -> Result<Account, AdminError<Unknown>> {
        self.ask(|machine, _, out| machine.remove(peer, out)).await
    }

    /// All accounts, in the order of their keys; empty when it is closed.
    pub fn accounts(&self) -> Vec<(PeerId, Account)> {
        let list = self.shared().hosted.call(|machine, _, _| {
            machine.accounts().list(None).map(|(peer, account)| (*peer, account.clone())).collect()
        });
        list.unwrap_or_default()
    }

    /// All invites, without their tokens; empty when it is closed.
    pub fn invites(&self) -> Vec<(InviteId, Pending)> {
        let list = self.shared().hosted.call(|machine, _, _| {
            machine.accounts().invites(None).map(|(id, invite)| (*id, invite.clone())).collect()
        });
        list.unwrap_or_default()
    }
}

/// Nothing to say but that it is kept.
const fn done(kept: CallId) -> ((), CallId) {
    ((), kept)
}
