//! A set whose keys have short ids.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use crate::encoder::Encoder;
use crate::mapping::Mapping;
use crate::names::Names;
use crate::short::{Fingerprint, Name, Salt, ShortId};
use crate::symbol::Symbol;

/// What became of a key that was put into a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Insertion {
    /// It is in the set now.
    New,
    /// It was before.
    Present,
    /// Another key has its short id. It is not in the set; under another salt it could be.
    Collides,
}

/// Keys, found by their short ids under one salt.
///
/// It can keep the first symbols of its encoding up to date: an insertion or removal then costs about 2 ln(symbols / 2) + 1
/// steps more, and a session that needs no other symbols looks at no key but those that make the difference. Sessions share
/// what the set holds; a change while one runs copies some kilobytes, and the kept symbols once.
#[derive(Clone, Debug)]
pub struct KeyedSet<K> {
    salt: Salt,
    keys: BTreeMap<ShortId, K>,
    names: Names,
    fingerprint: Fingerprint,
    kept: Arc<Vec<Symbol>>,
    collisions: u64,
}

impl<K: AsRef<[u8]>> KeyedSet<K> {
    /// An empty set that keeps no symbols.
    #[must_use]
    pub fn new(salt: Salt) -> Self {
        Self::with_cached(salt, 0)
    }

    /// An empty set that keeps so many symbols up to date, each of 24 bytes.
    #[must_use]
    pub fn with_cached(salt: Salt, symbols: u32) -> Self {
        Self {
            salt,
            keys: BTreeMap::new(),
            names: Names::new(&[]),
            fingerprint: Fingerprint(0),
            kept: Arc::new(vec![Symbol::EMPTY; symbols as usize]),
            collisions: 0,
        }
    }

    /// A set of many keys at once, faster than one by one. It keeps no symbols until [`keep`](Self::keep).
    pub fn from_keys(salt: Salt, keys: impl IntoIterator<Item = K>) -> Self {
        let mut set = Self::new(salt);
        let mut all: Vec<(Name, K)> = keys.into_iter().map(|key| (salt.name(key.as_ref()), key)).collect();
        // Stable: of two keys with one short id the first stays, as with single insertions.
        all.sort_by_key(|(name, _)| name.short);
        all.dedup_by(|(name, key), (kept, first)| {
            let is_taken = name.short == kept.short;
            set.collisions += u64::from(is_taken && key.as_ref() != first.as_ref());
            is_taken
        });
        let names: Vec<Name> = all.iter().map(|(name, _)| *name).collect();
        names.iter().for_each(|name| set.fingerprint.add(*name));
        set.names = Names::new(&names);
        set.keys = all.into_iter().map(|(name, key)| (name.short, key)).collect();
        set
    }

    /// Puts a key into the set.
    pub fn insert(&mut self, key: K) -> Insertion {
        let name = self.salt.name(key.as_ref());
        match self.keys.entry(name.short) {
            Entry::Vacant(place) => {
                place.insert(key);
                self.names.insert(name);
                self.fingerprint.add(name);
                self.update(name.short, 1);
                Insertion::New
            }
            Entry::Occupied(held) if held.get().as_ref() == key.as_ref() => Insertion::Present,
            Entry::Occupied(_) => {
                self.collisions += 1;
                Insertion::Collides
            }
        }
    }

    /// Takes a key out of the set.
    pub fn remove(&mut self, key: &[u8]) -> Option<K> {
        let name = self.salt.name(key);
        let Entry::Occupied(held) = self.keys.entry(name.short) else { return None };
        if held.get().as_ref() != key {
            return None;
        }
        let key = held.remove();
        self.names.remove(name.short);
        self.fingerprint.remove(name);
        self.update(name.short, -1);
        Some(key)
    }

    fn update(&mut self, short: ShortId, times: i64) {
        if self.kept.is_empty() {
            return;
        }
        let kept = Arc::make_mut(&mut self.kept);
        let hash = self.salt.hash(short);
        let mut mapping = Mapping::new(hash);
        while let Some(symbol) = kept.get_mut(mapping.next as usize) {
            symbol.apply(short, hash as u32, times);
            mapping.advance();
        }
    }

    /// Whether a key is in the set.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        self.keys.get(&self.short_id(key)).is_some_and(|held| held.as_ref() == key)
    }

    /// The short id of a key, in the set or not.
    #[must_use]
    pub fn short_id(&self, key: &[u8]) -> ShortId {
        self.salt.name(key).short
    }
}

impl<K> KeyedSet<K> {
    /// The key that has this short id.
    #[must_use]
    pub fn key(&self, short: ShortId) -> Option<&K> {
        self.keys.get(&short)
    }

    /// All keys, ascending by short id.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.keys.values()
    }

    /// The salt of its short ids.
    #[must_use]
    pub const fn salt(&self) -> Salt {
        self.salt
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// How often a key was left out because another one had its short id. A reason for a new salt.
    #[must_use]
    pub const fn collisions(&self) -> u64 {
        self.collisions
    }

    /// What stands for the whole set.
    #[must_use]
    pub const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The symbols that are kept up to date.
    #[must_use]
    pub fn cached(&self) -> &[Symbol] {
        &self.kept
    }

    /// Keeps so many symbols up to date from now on. What lacks is made by looking at each key once.
    pub fn keep(&mut self, symbols: u32) {
        self.kept = Arc::new(self.encoder().next(symbols));
    }

    /// Makes symbols of the set as it is now. What happens to the set later does not change them.
    #[must_use]
    pub fn encoder(&self) -> Encoder {
        Encoder::new(self.salt, self.names.clone(), Arc::clone(&self.kept))
    }
}
