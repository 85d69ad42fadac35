//! A set whose keys have short ids.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::encoder::Encoder;
use crate::mapping::Mapping;
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
/// With `cached` symbols it keeps the first symbols of its encoding up to date: an insertion or removal then costs about
/// 2 ln(cached / 2) + 1 steps more, and a session's first symbols cost nothing.
#[derive(Clone, Debug)]
pub struct KeyedSet<K> {
    salt: Salt,
    entries: BTreeMap<ShortId, (u64, K)>,
    fingerprint: Fingerprint,
    cached: Vec<Symbol>,
    collisions: u64,
}

impl<K: AsRef<[u8]>> KeyedSet<K> {
    /// An empty set that keeps no symbols.
    #[must_use]
    pub const fn new(salt: Salt) -> Self {
        Self {
            salt,
            entries: BTreeMap::new(),
            fingerprint: Fingerprint(0),
            cached: Vec::new(),
            collisions: 0,
        }
    }

    /// An empty set that keeps so many symbols up to date, each of 24 bytes.
    #[must_use]
    pub fn with_cached(salt: Salt, symbols: u32) -> Self {
        Self { cached: vec![Symbol::EMPTY; symbols as usize], ..Self::new(salt) }
    }

    /// A set of many keys at once, faster than one by one. It keeps no symbols.
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
        for (name, _) in &all {
            set.fingerprint.add(*name);
        }
        set.entries = all.into_iter().map(|(name, key)| (name.short, (name.tag, key))).collect();
        set
    }

    /// Puts a key into the set.
    pub fn insert(&mut self, key: K) -> Insertion {
        let name = self.salt.name(key.as_ref());
        match self.entries.entry(name.short) {
            Entry::Vacant(place) => {
                place.insert((name.tag, key));
                self.fingerprint.add(name);
                self.update(name.short, 1);
                Insertion::New
            }
            Entry::Occupied(held) if held.get().1.as_ref() == key.as_ref() => Insertion::Present,
            Entry::Occupied(_) => {
                self.collisions += 1;
                Insertion::Collides
            }
        }
    }

    /// Takes a key out of the set.
    pub fn remove(&mut self, key: &[u8]) -> Option<K> {
        let name = self.salt.name(key);
        let Entry::Occupied(held) = self.entries.entry(name.short) else { return None };
        if held.get().1.as_ref() != key {
            return None;
        }
        let (_, key) = held.remove();
        self.fingerprint.remove(name);
        self.update(name.short, -1);
        Some(key)
    }

    fn update(&mut self, short: ShortId, times: i64) {
        if self.cached.is_empty() {
            return;
        }
        let hash = self.salt.hash(short);
        let mut mapping = Mapping::new(hash);
        while let Some(symbol) = self.cached.get_mut(mapping.next as usize) {
            symbol.apply(short, hash as u32, times);
            mapping.advance();
        }
    }

    /// Whether a key is in the set.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        self.entries.get(&self.short_id(key)).is_some_and(|(_, held)| held.as_ref() == key)
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
        self.entries.get(&short).map(|(_, key)| key)
    }

    /// All keys, ascending by short id.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.entries.values().map(|(_, key)| key)
    }

    /// The salt of its short ids.
    #[must_use]
    pub const fn salt(&self) -> Salt {
        self.salt
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
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
        &self.cached
    }

    /// Makes symbols of the set as it is now. What happens to the set later does not change them.
    #[must_use]
    pub fn encoder(&self) -> Encoder {
        self.encoder_after(&self.cached)
    }

    /// The same for whoever subtracts its symbols, and has no use for those that are kept.
    pub(crate) fn subtrahend(&self) -> Encoder {
        self.encoder_after(&[])
    }

    fn encoder_after(&self, cached: &[Symbol]) -> Encoder {
        let names = self.entries.iter().map(|(short, (tag, _))| Name { short: *short, tag: *tag });
        Encoder::new(self.salt, names, cached)
    }
}
