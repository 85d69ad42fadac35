//! The streams of the messages that are kept: by key, and by names of 32 bits, which are theirs while one of their messages is, or
//! until [`Streams::shrink`] gives others.

use std::collections::{BTreeMap, VecDeque};

use super::lru::Key as _;
use super::message::StreamKey;
use super::room::more;

/// Room for so many streams is kept, however few there are.
const LEAST: usize = 16;

/// What is kept of a stream.
#[derive(Debug)]
struct Kept {
    key: StreamKey,
    /// How many messages had come before each of its own.
    numbers: VecDeque<u32>,
}

/// Dense, for there are as many as a minute has speakers, and nodes of maps would take twice as much. To find one takes O(log n),
/// and to add or remove one moves 8 bytes for each of n: for as many as a window has messages, all of other origins, less than the
/// check of the signature that each of them takes.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    /// Each at the place that is its name.
    places: Vec<Option<Kept>>,
    free: Vec<u32>,
    /// The names in the order of the keys, each behind the head of its key, so that few are looked at to find one.
    sorted: Vec<(u32, u32)>,
}

impl Streams {
    fn kept(&self, name: u32) -> Option<&Kept> {
        self.places.get(name as usize)?.as_ref()
    }

    /// Where the key is among the sorted, or belongs.
    fn find(&self, key: &StreamKey) -> Result<usize, usize> {
        let head = key.head();
        self.sorted.binary_search_by(|(known, name)| {
            // None is without a stream.
            known.cmp(&head).then_with(|| self.kept(*name).map(|kept| &kept.key).cmp(&Some(key)))
        })
    }

    /// What the stream is called: something new when nothing is kept of it.
    pub(crate) fn name(&mut self, key: StreamKey) -> u32 {
        let at = match self.find(&key) {
            Ok(at) => return self.sorted.get(at).map_or(0, |(_, name)| *name),
            Err(at) => at,
        };
        let kept = Some(Kept { key, numbers: VecDeque::new() });
        let name = self.free.pop().unwrap_or(self.places.len() as u32);
        match self.places.get_mut(name as usize) {
            Some(place) => *place = kept,
            None => {
                make_room(&mut self.places);
                self.places.push(kept);
            }
        }
        make_room(&mut self.sorted);
        self.sorted.insert(at, (key.head(), name));
        name
    }

    pub(crate) fn get(&self, key: &StreamKey) -> Option<&VecDeque<u32>> {
        let (_, name) = self.sorted.get(self.find(key).ok()?)?;
        self.kept(*name).map(|kept| &kept.numbers)
    }

    pub(crate) fn get_mut(&mut self, name: u32) -> Option<&mut VecDeque<u32>> {
        self.places.get_mut(name as usize)?.as_mut().map(|kept| &mut kept.numbers)
    }

    /// Nothing is kept of it any more.
    pub(crate) fn remove(&mut self, name: u32) {
        let Some(Ok(at)) = self.kept(name).map(|kept| self.find(&kept.key)) else { return };
        self.sorted.remove(at);
        if let Some(place) = self.places.get_mut(name as usize) {
            *place = None;
            self.free.push(name);
        }
    }

    /// Gives back what was needed when there were many more: what each stream is called now, by its name so far, if that
    /// has changed.
    pub(crate) fn shrink(&mut self) -> Option<BTreeMap<u32, u32>> {
        if self.places.len() <= 2 * self.len().max(LEAST) {
            return None;
        }
        let mut renamed = BTreeMap::new();
        let mut places = Vec::with_capacity(self.len());
        for (_, name) in &mut self.sorted {
            let new = places.len() as u32;
            places.push(self.places.get_mut(*name as usize).and_then(Option::take));
            renamed.insert(std::mem::replace(name, new), new);
        }
        self.sorted.shrink_to_fit();
        (self.places, self.free) = (places, Vec::new());
        Some(renamed)
    }

    pub(crate) fn len(&self) -> usize {
        self.sorted.len()
    }

    /// In the order of the keys.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (StreamKey, &VecDeque<u32>)> {
        self.sorted.iter().filter_map(|(_, name)| self.kept(*name)).map(|kept| (kept.key, &kept.numbers))
    }
}

fn make_room<T>(list: &mut Vec<T>) {
    if list.len() == list.capacity() {
        list.reserve_exact(more(list.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use peerage_wire::PeerId;
    use proptest::prelude::*;

    fn key(origin: u8) -> StreamKey {
        // Some have the same head, and some the same origin.
        let mut bytes = [0; 32];
        (bytes[0], bytes[31]) = (origin / 8, origin / 2);
        StreamKey { origin: PeerId::from_bytes(bytes), epoch: u64::from(origin % 2) }
    }

    proptest! {
        #[test]
        fn they_are_a_map_by_key_and_by_name(steps in prop::collection::vec((0_u8..8, any::<u8>()), 0..400)) {
            let mut streams = Streams::default();
            let mut model: BTreeMap<StreamKey, (u32, u32)> = BTreeMap::new();
            for (number, (verb, origin)) in (0_u32..).zip(steps) {
                let key = key(origin);
                if verb < 3 {
                    let name = streams.name(key);
                    let (known, last) = model.entry(key).or_insert((name, number));
                    prop_assert_eq!(*known, name);
                    *last = number;
                    let numbers = streams.get_mut(name).expect("it was named");
                    numbers.clear();
                    numbers.push_back(number);
                } else if let Some((name, _)) = model.remove(&key) {
                    streams.remove(name);
                    prop_assert!(streams.get_mut(name).is_none());
                } else if verb == 7 && let Some(renamed) = streams.shrink() {
                    prop_assert_eq!(renamed.len(), model.len());
                    model.values_mut().for_each(|(name, _)| *name = renamed[name]);
                }
                let found: Vec<_> = streams.iter().map(|(key, numbers)| (key, numbers[0])).collect();
                let expected: Vec<_> = model.iter().map(|(key, (_, last))| (*key, *last)).collect();
                prop_assert_eq!(found, expected);
                prop_assert_eq!(streams.get(&key).map(|numbers| numbers[0]), model.get(&key).map(|it| it.1));
                prop_assert_eq!(streams.len(), model.len());
            }
        }
    }

    #[test]
    fn what_many_took_is_given_back_when_few_are_left() {
        let mut streams = Streams::default();
        let names: Vec<u32> = (0..=u8::MAX).map(|origin| streams.name(key(origin))).collect();
        assert_eq!(streams.shrink(), None);
        names.iter().take(254).for_each(|name| streams.remove(*name));
        let renamed = streams.shrink();
        assert_eq!(renamed, Some(BTreeMap::from([(254, 0), (255, 1)])));
        assert_eq!((streams.len(), streams.places.capacity()), (2, 2));
        assert_eq!((streams.name(key(255)), streams.name(key(0))), (1, 2));
    }
}
