//! What is held for whom, and who may have more held.
//!
//! A session's bytes count to its account and to the broker in steps, when it holds so much more or less than was counted: a
//! session that holds little costs nothing here. An account that holds half of what it may, or as much as is left of what the
//! broker may, is given no more calls, and gets none; what is under way has the other half to come to its end. Whoever goes
//! beyond all the same, because its party takes everything in and acknowledges nothing, loses the largest of its sessions; and when the
//! broker holds too much, the account that holds most does.

use std::collections::{BTreeMap, BTreeSet};

use peerage_wire::PeerId;

use super::config::BrokerConfig;
use super::machine::BrokerMachine;
use crate::accounts::Kind;
use crate::event::{Out, SessionKey};
use crate::status::Status;

/// A session is counted anew when what it holds has changed by so many bytes.
pub(super) const STEP: u64 = 16 << 10;

/// Bytes that were counted.
#[derive(Debug, Default)]
pub(super) struct Held {
    all: u64,
    by_account: BTreeMap<PeerId, u64>,
    by_bytes: BTreeSet<(u64, PeerId)>,
}

impl Held {
    pub(super) fn change(&mut self, peer: PeerId, before: u64, after: u64) {
        self.all = self.all.saturating_sub(before).saturating_add(after);
        let had = self.by_account.remove(&peer).unwrap_or(0);
        self.by_bytes.remove(&(had, peer));
        let has = had.saturating_sub(before).saturating_add(after);
        if has > 0 {
            self.by_account.insert(peer, has);
            self.by_bytes.insert((has, peer));
        }
    }

    fn of(&self, peer: &PeerId) -> u64 {
        self.by_account.get(peer).copied().unwrap_or(0)
    }

    /// Whether all accounts together hold so little that each may have more, which is mostly so.
    #[inline]
    fn is_little(&self, config: &BrokerConfig) -> bool {
        self.all < config.account_bytes / 2 && self.all < config.broker_bytes / 2
    }

    /// Whether an account may have more held for it.
    #[inline]
    pub(super) fn may_grow(&self, config: &BrokerConfig, peer: &PeerId, kind: Kind) -> Result<(), Status> {
        if self.is_little(config) { Ok(()) } else { self.weigh(config, peer, kind) }
    }

    fn weigh(&self, config: &BrokerConfig, peer: &PeerId, kind: Kind) -> Result<(), Status> {
        let (all, most) = (self.all, config.broker_bytes);
        let (has, limit) = (self.of(peer), config.account_bytes_of(kind) / 2);
        if has >= limit {
            return Err(Status::resource_exhausted(format!(
                "the broker holds {has} bytes for {} in all its sessions; from {limit} on it takes no more calls of it or to it",
                peer.short()
            )));
        }
        let left = most.saturating_sub(all);
        if has >= left {
            return Err(Status::resource_exhausted(format!(
                "the broker holds {all} bytes of at most {most}, {has} of them for {}; it takes more calls of it or to it while that is \
                 less than what is left",
                peer.short()
            )));
        }
        Ok(())
    }

    /// That these, and no others, were counted.
    pub(super) fn check(&self, counted: impl Iterator<Item = (PeerId, u64)>) -> Result<(), String> {
        let mut expected = Self::default();
        counted.for_each(|(peer, bytes)| expected.change(peer, 0, bytes));
        let is_right = self.all == expected.all
            && self.by_account == expected.by_account
            && self.by_bytes == expected.by_bytes;
        if is_right { Ok(()) } else { Err(format!("{expected:?} is held, counted is {self:?}")) }
    }
}

impl BrokerConfig {
    fn account_bytes_of(&self, kind: Kind) -> u64 {
        match kind {
            Kind::User => self.account_bytes,
            Kind::Node => self.account_bytes.saturating_mul(u64::from(self.node_room.max(1))),
        }
    }
}

impl BrokerMachine {
    /// A session holds much more than was counted, or much less.
    pub(super) fn count_held(&mut self, key: SessionKey, held: u64, out: &mut Out) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let (peer, kind) = (session.peer, session.kind);
        let before = std::mem::replace(&mut session.counted, held);
        self.held.change(peer, before, held);
        let limit = self.config.account_bytes_of(kind);
        let has = self.held.of(&peer);
        if has > limit {
            let why = format!(
                "{has} bytes are held for its account, which acknowledges nothing; the limit is {limit}"
            );
            self.relieve(&peer, &why, out);
        }
        let limit = self.config.broker_bytes;
        while self.held.all > limit
            && let Some((has, peer)) = self.held.by_bytes.last().copied()
        {
            let all = self.held.all;
            let why =
                format!("the broker holds {all} bytes, {has} of them for its account; the limit is {limit}");
            if !self.relieve(&peer, &why, out) {
                break;
            }
        }
    }

    /// Ends the session of an account that holds most; whether it has any.
    fn relieve(&mut self, peer: &PeerId, why: &str, out: &mut Out) -> bool {
        let sessions = self.by_peer.get(peer).into_iter().flatten();
        let most = sessions.max_by_key(|key| self.sessions.get(key).map(|session| session.counted));
        let Some(key) = most.copied() else { return false };
        out.count("rpc_hoarders_total", 1);
        self.end(key, &Status::resource_exhausted(why), out);
        self.pass_on_again(out);
        true
    }
}
