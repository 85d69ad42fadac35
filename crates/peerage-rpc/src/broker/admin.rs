//! What an administrator does, and what it means for sessions that are open.
//!
//! Each command counts at once, and gives the name of an answer, which comes when it will survive a restart: an empty one, or
//! why it could not be kept.

use bytes::Bytes;
use peerage_machine::{CallId, Now, OutboxOf, Write};
use peerage_wire::PeerId;

use super::journal::Pending;
use super::machine::BrokerMachine;
use crate::accounts::{
    Account, ConfirmError, Confirmation, DataError, EnrolError, InviteError, InviteId, Kind, NewInvite,
    ReinstateError, SuspendError, Token, Unknown, UnknownInvite,
};
use crate::status::Status;

/// Why a key was not given an account.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AdmitError {
    /// There is no room for one more invite, or the label is too long.
    #[error(transparent)]
    Invite(#[from] InviteError),
    /// It has one, or there are too many.
    #[error(transparent)]
    Enrol(#[from] EnrolError),
}

impl BrokerMachine {
    /// Gives a key an account that acts at once, without an invite that leaves the broker.
    ///
    /// # Errors
    /// [`AdmitError`].
    pub fn admit(
        &mut self,
        now: Now,
        peer: PeerId,
        kind: Kind,
        label: &str,
        out: &mut OutboxOf<Self>,
    ) -> Result<CallId, AdmitError> {
        let (ttl, confirmation) = (std::time::Duration::from_secs(1), Confirmation::AtOnce);
        let new = NewInvite { kind, label: label.to_owned(), ttl, confirmation };
        let (token, mut writes) = self.accounts.invite(now.wall, new, &mut self.rng)?;
        match self.accounts.enrol(now.wall, peer, token.as_bytes()) {
            Ok((_, enrolled)) => {
                writes.extend(enrolled);
                Ok(self.kept(writes, out))
            }
            Err(error) => {
                // Nobody else has the token.
                if let Ok((_, withdrawn)) = self.accounts.withdraw(&InviteId::of(token.as_bytes())) {
                    writes.extend(withdrawn);
                    self.keep(writes, Pending::Nothing, out);
                }
                Err(error.into())
            }
        }
    }

    /// Makes an invite; whoever shows its token first gets the account.
    ///
    /// # Errors
    /// [`InviteError`].
    pub fn invite(
        &mut self,
        now: Now,
        new: NewInvite,
        out: &mut OutboxOf<Self>,
    ) -> Result<(Token, CallId), InviteError> {
        let (token, writes) = self.accounts.invite(now.wall, new, &mut self.rng)?;
        Ok((token, self.kept(writes, out)))
    }

    /// Takes an invite back.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn withdraw(&mut self, invite: &InviteId, out: &mut OutboxOf<Self>) -> Result<CallId, UnknownInvite> {
        let (_, writes) = self.accounts.withdraw(invite)?;
        Ok(self.kept(writes, out))
    }

    /// Lets an account act that waits for it.
    ///
    /// # Errors
    /// [`ConfirmError`].
    pub fn confirm(
        &mut self,
        now: Now,
        peer: &PeerId,
        out: &mut OutboxOf<Self>,
    ) -> Result<CallId, ConfirmError> {
        let writes = self.accounts.confirm(now.wall, peer)?;
        Ok(self.kept(writes, out))
    }

    /// Keeps an account from acting: its sessions end now.
    ///
    /// # Errors
    /// [`SuspendError`].
    pub fn suspend(
        &mut self,
        now: Now,
        peer: &PeerId,
        out: &mut OutboxOf<Self>,
    ) -> Result<CallId, SuspendError> {
        let writes = self.accounts.suspend(now.wall, peer)?;
        Ok(self.shut_out(peer, writes, "the account is suspended", out))
    }

    /// Lets a suspended account act again.
    ///
    /// # Errors
    /// [`ReinstateError`].
    pub fn reinstate(
        &mut self,
        now: Now,
        peer: &PeerId,
        out: &mut OutboxOf<Self>,
    ) -> Result<CallId, ReinstateError> {
        let writes = self.accounts.reinstate(now.wall, peer)?;
        Ok(self.kept(writes, out))
    }

    /// Removes an account: its sessions end now, and its key may be invited anew.
    ///
    /// # Errors
    /// There is none of that key.
    pub fn remove(&mut self, peer: &PeerId, out: &mut OutboxOf<Self>) -> Result<(Account, CallId), Unknown> {
        let (account, writes) = self.accounts.remove(peer)?;
        Ok((account, self.shut_out(peer, writes, "the account is removed", out)))
    }

    /// Keeps data of the application's with an account.
    ///
    /// # Errors
    /// [`DataError`].
    pub fn set_data(
        &mut self,
        now: Now,
        peer: &PeerId,
        data: Bytes,
        out: &mut OutboxOf<Self>,
    ) -> Result<CallId, DataError> {
        let writes = self.accounts.set_data(now.wall, peer, data)?;
        Ok(self.kept(writes, out))
    }

    /// Removes invites whose time is over.
    pub fn expire_invites(&mut self, now: Now, out: &mut OutboxOf<Self>) {
        let writes = self.accounts.expire(now.wall);
        if !writes.is_empty() {
            self.keep(writes, Pending::Nothing, out);
        }
    }

    /// Has it kept, and answers under that name when it is.
    fn kept(&mut self, writes: Vec<Write>, out: &mut OutboxOf<Self>) -> CallId {
        let call = CallId(self.next_call);
        self.next_call += 1;
        self.keep(writes, Pending::Command(call), out);
        call
    }

    fn shut_out(&mut self, peer: &PeerId, writes: Vec<Write>, why: &str, out: &mut OutboxOf<Self>) -> CallId {
        let call = self.kept(writes, out);
        self.end_all(peer, &Status::permission_denied(why), out);
        self.wait_no_longer_for(peer);
        self.settle(out);
        call
    }
}
