//! Which sessions a broker's application knows of.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use peerage_wire::PeerId;

use super::model::Model;
use crate::accounts::Kind;
use crate::event::SessionKey;
use crate::packet::SessionId;

/// What the application keeps of a session.
pub(super) enum State<M: Model> {
    User(M::Session),
    Node(M::Node),
}

/// One session.
pub(super) struct Entry<M: Model> {
    pub(super) key: SessionKey,
    pub(super) id: SessionId,
    pub(super) peer: PeerId,
    pub(super) kind: Kind,
    pub(super) state: State<M>,
    /// A node that is there.
    is_there: AtomicBool,
}

impl<M: Model> Entry<M> {
    /// Whether it was not there.
    pub(super) fn comes(&self) -> bool {
        !self.is_there.swap(true, Ordering::AcqRel)
    }

    /// Whether it was there.
    pub(super) fn goes(&self) -> bool {
        self.is_there.swap(false, Ordering::AcqRel)
    }
}

/// All sessions.
pub(super) struct Directory<M: Model> {
    entries: BTreeMap<SessionKey, Arc<Entry<M>>>,
    by_id: HashMap<SessionId, SessionKey>,
    by_peer: BTreeMap<PeerId, BTreeSet<SessionKey>>,
    /// What each user was offered last.
    offered: HashMap<PeerId, Bytes>,
}

impl<M: Model> Default for Directory<M> {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            by_id: HashMap::new(),
            by_peer: BTreeMap::new(),
            offered: HashMap::new(),
        }
    }
}

impl<M: Model> Directory<M> {
    pub(super) fn entry(&self, key: SessionKey) -> Option<Arc<Entry<M>>> {
        self.entries.get(&key).cloned()
    }

    pub(super) fn named(&self, id: &SessionId) -> Option<Arc<Entry<M>>> {
        self.entry(*self.by_id.get(id)?)
    }

    pub(super) fn of(&self, peer: &PeerId) -> Vec<Arc<Entry<M>>> {
        self.by_peer.get(peer).into_iter().flatten().filter_map(|key| self.entry(*key)).collect()
    }

    /// Users who have sessions.
    pub(super) fn users(&self) -> Vec<PeerId> {
        let is_user = |keys: &BTreeSet<SessionKey>| {
            keys.iter().any(|key| self.entries.get(key).is_some_and(|entry| entry.kind == Kind::User))
        };
        self.by_peer.iter().filter(|(_, keys)| is_user(keys)).map(|(peer, _)| *peer).collect()
    }

    /// A session is open; whether it was not known.
    pub(super) fn open(
        &mut self,
        key: SessionKey,
        id: SessionId,
        peer: PeerId,
        kind: Kind,
    ) -> (Arc<Entry<M>>, bool) {
        if let Some(entry) = self.entry(key) {
            return (entry, false);
        }
        let state = match kind {
            Kind::User => State::User(M::Session::default()),
            Kind::Node => State::Node(M::Node::default()),
        };
        let entry = Arc::new(Entry { key, id, peer, kind, state, is_there: AtomicBool::new(false) });
        self.entries.insert(key, Arc::clone(&entry));
        self.by_id.insert(id, key);
        self.by_peer.entry(peer).or_default().insert(key);
        (entry, true)
    }

    /// A session is over; whether it was its peer's last.
    pub(super) fn close(&mut self, key: SessionKey) -> (Option<Arc<Entry<M>>>, bool) {
        let Some(entry) = self.entries.remove(&key) else { return (None, false) };
        self.by_id.remove(&entry.id);
        let mut is_last = false;
        if let Some(keys) = self.by_peer.get_mut(&entry.peer) {
            keys.remove(&key);
            is_last = keys.is_empty();
        }
        if is_last {
            self.by_peer.remove(&entry.peer);
            self.offered.remove(&entry.peer);
        }
        (Some(entry), is_last)
    }

    /// Those of these offers that are new to their users, who then count as having them.
    pub(super) fn changed(&mut self, offers: Vec<(PeerId, Bytes)>) -> Vec<(PeerId, Bytes)> {
        let is_new = |(user, resources): &(PeerId, Bytes)| {
            let before = self.offered.get(user);
            before.map_or(!resources.is_empty(), |before| before != resources)
        };
        let changed: Vec<_> = offers.into_iter().filter(is_new).collect();
        for (user, resources) in &changed {
            if self.by_peer.contains_key(user) {
                self.offered.insert(*user, resources.clone());
            }
        }
        changed
    }
}
