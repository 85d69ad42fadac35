//! The table.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

use bytes::Bytes;
use peerage_machine::{Rng, UnixMillis, Write};
use peerage_wire::PeerId;

use super::record::{PREFIX, Record, read, write_account, write_invite};
use super::{
    Account, AccountsConfig, ConfirmError, Confirmation, DataError, Denied, EnrolError, Enrolled,
    InviteError, InviteId, LoadError, MAX_DATA, MAX_LABEL, NewInvite, Pending, ReinstateError, Standing,
    SuspendError, Token, Unknown, UnknownInvite,
};

/// The most invites that one [`Accounts::expire`] forgets, so that it takes less than a millisecond.
const EXPIRE_AT_ONCE: usize = 500;

/// All accounts, and all invites that are open or remembered.
///
/// A command that fails changes nothing. One that succeeds has changed the table when it returns; what it gives is to be
/// written before anybody is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accounts {
    config: AccountsConfig,
    accounts: BTreeMap<PeerId, Account>,
    invites: BTreeMap<InviteId, Pending>,
    /// The invites, by when they expire.
    by_expiry: BTreeSet<(UnixMillis, InviteId)>,
}

impl Accounts {
    /// Before the keys of all records. Nothing else is to be kept under it.
    pub const PREFIX: &'static [u8] = PREFIX;

    /// Nobody.
    pub fn new(config: AccountsConfig) -> Self {
        Self { config, accounts: BTreeMap::new(), invites: BTreeMap::new(), by_expiry: BTreeSet::new() }
    }

    /// The table that wrote these records: all that a store has under [`Accounts::PREFIX`]. There may be more than the
    /// configuration allows, and then none can be added.
    ///
    /// # Errors
    /// [`LoadError`] names the first record that makes no sense.
    pub fn load(
        config: AccountsConfig,
        records: impl IntoIterator<Item = (Bytes, Bytes)>,
    ) -> Result<Self, LoadError> {
        let mut loaded = Self::new(config);
        for (key, value) in records {
            match read(&key, value)? {
                Record::Account(peer, account) => drop(loaded.accounts.insert(peer, account)),
                Record::Invite(id, invite) => {
                    loaded.by_expiry.insert((invite.expires_at, id));
                    loaded.invites.insert(id, invite);
                }
            }
        }
        Ok(loaded)
    }

    /// Makes an invite. The token is nowhere else: whoever loses it makes another invite.
    ///
    /// # Errors
    /// [`InviteError`].
    pub fn invite(
        &mut self,
        now: UnixMillis,
        new: NewInvite,
        rng: &mut Rng,
    ) -> Result<(Token, Vec<Write>), InviteError> {
        if new.label.len() > MAX_LABEL {
            return Err(InviteError::Label { length: new.label.len(), limit: MAX_LABEL });
        }
        let expires_at = later(now, new.ttl);
        if expires_at <= now {
            return Err(InviteError::Ttl);
        }
        let token = Token::generate(rng);
        let id = InviteId::of(token.as_bytes());
        if self.invites.contains_key(&id) {
            return Err(InviteError::Repeated);
        }
        let limit = self.config.invites;
        let excess = (self.invites.len() + 1).saturating_sub(limit);
        // Those that are only remembered make room, the oldest first.
        let is_over = |(at, id): &&(UnixMillis, InviteId)| {
            *at <= now || self.invites.get(id).is_some_and(|invite| invite.used_by.is_some())
        };
        let over: Vec<_> = self.by_expiry.iter().filter(is_over).take(excess).copied().collect();
        if over.len() < excess {
            return Err(InviteError::Full { limit });
        }
        let mut writes: Vec<Write> = over.into_iter().map(|invite| self.forget(invite)).collect();
        let NewInvite { kind, label, confirmation, .. } = new;
        let invite = Pending { kind, label, invited_at: now, expires_at, confirmation, used_by: None };
        writes.push(write_invite(&id, Some(&invite)));
        self.by_expiry.insert((expires_at, id));
        self.invites.insert(id, invite);
        Ok((token, writes))
    }

    /// Makes an account for `peer`, who has proven that the key is its own and shows a token. Who asks again with the same
    /// token, because it has not heard the answer, gets it again.
    ///
    /// # Errors
    /// [`EnrolError`].
    pub fn enrol(
        &mut self,
        now: UnixMillis,
        peer: PeerId,
        token: &[u8],
    ) -> Result<(Enrolled, Vec<Write>), EnrolError> {
        let id = InviteId::of(token);
        let invite = self.invites.get_mut(&id).ok_or(EnrolError::UnknownToken)?;
        let account = self.accounts.get(&peer);
        if let Some(user) = invite.used_by {
            let Some(account) = account.filter(|_| user == peer) else { return Err(EnrolError::UsedToken) };
            let enrolled = Enrolled { kind: account.kind, standing: account.standing, again: true };
            return Ok((enrolled, Vec::new()));
        }
        if invite.expires_at <= now {
            return Err(EnrolError::ExpiredToken { at: invite.expires_at });
        }
        if let Some(account) = account {
            return Err(EnrolError::AlreadyEnrolled { standing: account.standing });
        }
        if self.accounts.len() >= self.config.accounts {
            return Err(EnrolError::Full { limit: self.config.accounts });
        }
        let standing = match invite.confirmation {
            Confirmation::AtOnce => Standing::Active,
            Confirmation::ByAdministrator => Standing::Unconfirmed,
        };
        let kind = invite.kind;
        let label = invite.label.clone();
        let account =
            Account { kind, standing, label, data: Bytes::new(), enrolled_at: now, changed_at: now };
        invite.used_by = Some(peer);
        let writes = vec![write_invite(&id, Some(invite)), write_account(&peer, Some(&account))];
        self.accounts.insert(peer, account);
        Ok((Enrolled { kind, standing, again: false }, writes))
    }

    /// Lets an unconfirmed account act.
    ///
    /// # Errors
    /// [`ConfirmError`].
    pub fn confirm(&mut self, now: UnixMillis, peer: &PeerId) -> Result<Vec<Write>, ConfirmError> {
        let account = self.known(peer)?;
        if account.standing != Standing::Unconfirmed {
            return Err(ConfirmError::Standing { peer: *peer, standing: account.standing });
        }
        Ok(put(now, peer, account, Standing::Active))
    }

    /// Lets an account not act any more, confirmed or not.
    ///
    /// # Errors
    /// [`SuspendError`].
    pub fn suspend(&mut self, now: UnixMillis, peer: &PeerId) -> Result<Vec<Write>, SuspendError> {
        let account = self.known(peer)?;
        if account.standing == Standing::Suspended {
            return Err(SuspendError::Suspended { peer: *peer });
        }
        Ok(put(now, peer, account, Standing::Suspended))
    }

    /// Lets a suspended account act again. One that had not been confirmed is with this.
    ///
    /// # Errors
    /// [`ReinstateError`].
    pub fn reinstate(&mut self, now: UnixMillis, peer: &PeerId) -> Result<Vec<Write>, ReinstateError> {
        let account = self.known(peer)?;
        if account.standing != Standing::Suspended {
            return Err(ReinstateError::Standing { peer: *peer, standing: account.standing });
        }
        Ok(put(now, peer, account, Standing::Active))
    }

    /// Forgets an account. Its key may be invited anew, and has then nothing of what was; the token that it came by stays
    /// used.
    ///
    /// # Errors
    /// [`Unknown`].
    pub fn remove(&mut self, peer: &PeerId) -> Result<(Account, Vec<Write>), Unknown> {
        let account = self.accounts.remove(peer).ok_or(Unknown { peer: *peer })?;
        Ok((account, vec![write_account(peer, None)]))
    }

    /// Keeps the application's data with an account, in place of what was.
    ///
    /// # Errors
    /// [`DataError`].
    pub fn set_data(&mut self, now: UnixMillis, peer: &PeerId, data: Bytes) -> Result<Vec<Write>, DataError> {
        let account = self.known(peer)?;
        if data.len() > MAX_DATA {
            return Err(DataError::TooLong { length: data.len(), limit: MAX_DATA });
        }
        account.data = data;
        let standing = account.standing;
        Ok(put(now, peer, account, standing))
    }

    /// Forgets an invite. Nobody gets in by it any more; an account that it made stays.
    ///
    /// # Errors
    /// [`UnknownInvite`].
    pub fn withdraw(&mut self, id: &InviteId) -> Result<(Pending, Vec<Write>), UnknownInvite> {
        let invite = self.invites.get(id).cloned().ok_or(UnknownInvite)?;
        let write = self.forget((invite.expires_at, *id));
        Ok((invite, vec![write]))
    }

    /// Forgets invites whose time, and the time to remember them, is over: 500 at a time, so [`Accounts::next_expiry`] may be
    /// over still.
    pub fn expire(&mut self, now: UnixMillis) -> Vec<Write> {
        let remember = self.config.remember;
        let over = self.by_expiry.iter().take_while(|(at, _)| later(*at, remember) <= now);
        let over: Vec<_> = over.take(EXPIRE_AT_ONCE).copied().collect();
        over.into_iter().map(|invite| self.forget(invite)).collect()
    }

    /// When [`Accounts::expire`] will next find something.
    pub fn next_expiry(&self) -> Option<UnixMillis> {
        self.by_expiry.first().map(|(at, _)| later(*at, self.config.remember))
    }

    /// The account, if it may act now.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn may_act(&self, peer: &PeerId) -> Result<&Account, Denied> {
        let account = self.accounts.get(peer).ok_or(Denied::Unknown)?;
        match account.standing {
            Standing::Active => Ok(account),
            Standing::Unconfirmed => Err(Denied::Unconfirmed),
            Standing::Suspended => Err(Denied::Suspended),
        }
    }

    /// The account of a key.
    pub fn account(&self, peer: &PeerId) -> Option<&Account> {
        self.accounts.get(peer)
    }

    /// Accounts in the order of their keys, those after `after` or all. Whoever passes the last of a page gets the next.
    pub fn list(&self, after: Option<&PeerId>) -> impl Iterator<Item = (&PeerId, &Account)> {
        self.accounts.range((after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded))
    }

    /// Invites, open and remembered, in the order of their names, those after `after` or all.
    pub fn invites(&self, after: Option<&InviteId>) -> impl Iterator<Item = (&InviteId, &Pending)> {
        self.invites.range((after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded))
    }

    /// How many accounts there are.
    pub fn len(&self) -> usize {
        self.accounts.len()
    }

    /// Whether there is no account.
    pub fn is_empty(&self) -> bool {
        self.accounts.is_empty()
    }

    fn known(&mut self, peer: &PeerId) -> Result<&mut Account, Unknown> {
        self.accounts.get_mut(peer).ok_or(Unknown { peer: *peer })
    }

    fn forget(&mut self, invite: (UnixMillis, InviteId)) -> Write {
        self.by_expiry.remove(&invite);
        self.invites.remove(&invite.1);
        write_invite(&invite.1, None)
    }
}

fn put(now: UnixMillis, peer: &PeerId, account: &mut Account, standing: Standing) -> Vec<Write> {
    account.standing = standing;
    account.changed_at = now;
    vec![write_account(peer, Some(account))]
}

fn later(now: UnixMillis, span: Duration) -> UnixMillis {
    UnixMillis(now.0.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
}
