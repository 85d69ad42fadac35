//! The names of a set in ascending order, cheap to copy: a copy shares all that neither side changes later.
//!
//! A trie of two bits a level, whose leaves hold up to [`FULL`] names. Short ids are spread evenly, so it is as deep as it
//! has to be. A change copies the nodes between the root and a leaf, and only those that a copy shares.

use std::sync::Arc;

use crate::short::{Name, ShortId};

/// Names of a leaf before it is split.
const FULL: usize = 64;
/// Names below a branch when it becomes a leaf again.
const FEW: usize = 16;
/// Bits of an id that choose a child.
const BITS: u32 = 2;

#[derive(Clone, Debug)]
enum Node {
    /// Ascending.
    Leaf(Vec<Name>),
    /// Ascending, too.
    Branch([Arc<Self>; 1 << BITS]),
}

/// Which child of a branch an id belongs to, so many bits from its top.
fn child(short: ShortId, depth: u32) -> usize {
    (short.0.unbounded_shl(depth) >> (u64::BITS - BITS)) as usize
}

impl Node {
    /// A node so many bits below the root. The names ascend.
    fn new(names: &[Name], depth: u32) -> Self {
        if names.len() <= FULL || depth >= u64::BITS {
            return Self::Leaf(names.to_vec());
        }
        let mut left = names;
        Self::Branch(std::array::from_fn(|which| {
            let end = left.partition_point(|name| child(name.short, depth) <= which);
            let (here, rest) = left.split_at_checked(end).unwrap_or((left, &[]));
            left = rest;
            Arc::new(Self::new(here, depth + BITS))
        }))
    }

    fn insert(&mut self, name: Name, depth: u32) -> bool {
        match self {
            Self::Leaf(names) => {
                let Err(place) = names.binary_search_by_key(&name.short, |held| held.short) else {
                    return false;
                };
                names.insert(place, name);
                if names.len() > FULL {
                    *self = Self::new(names, depth);
                }
                true
            }
            Self::Branch(children) => children
                .get_mut(child(name.short, depth))
                .is_some_and(|node| Arc::make_mut(node).insert(name, depth + BITS)),
        }
    }

    fn remove(&mut self, short: ShortId, depth: u32) -> bool {
        match self {
            Self::Leaf(names) => {
                let Ok(place) = names.binary_search_by_key(&short, |held| held.short) else { return false };
                names.remove(place);
                if names.capacity() > 2 * names.len() + 4 {
                    names.shrink_to_fit();
                }
                true
            }
            Self::Branch(children) => {
                let node = children.get_mut(child(short, depth));
                if !node.is_some_and(|node| Arc::make_mut(node).remove(short, depth + BITS)) {
                    return false;
                }
                if let Some(names) = few(children) {
                    *self = Self::Leaf(names);
                }
                true
            }
        }
    }
}

/// The names below a branch, when they are few.
fn few(children: &[Arc<Node>]) -> Option<Vec<Name>> {
    let mut all = Vec::new();
    for child in children {
        match &**child {
            Node::Leaf(names) if all.len() + names.len() <= FEW => all.extend_from_slice(names),
            _ => return None,
        }
    }
    Some(all)
}

/// Names in ascending order, each short id once.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    root: Arc<Node>,
    len: usize,
}

impl Names {
    /// Bytes for each name, at most, of more than a few.
    pub(crate) const NAME: usize = 64;

    /// The names ascend, each short id once.
    pub(crate) fn new(names: &[Name]) -> Self {
        Self { root: Arc::new(Node::new(names, 0)), len: names.len() }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Puts a name in, unless its short id is there.
    pub(crate) fn insert(&mut self, name: Name) {
        self.len += usize::from(Arc::make_mut(&mut self.root).insert(name, 0));
    }

    /// Takes a name out, if it is there.
    pub(crate) fn remove(&mut self, short: ShortId) {
        self.len -= usize::from(Arc::make_mut(&mut self.root).remove(short, 0));
    }

    pub(crate) fn find(&self, short: ShortId) -> Option<Name> {
        let (mut node, mut depth) = (&self.root, 0);
        loop {
            match &**node {
                Node::Leaf(names) => {
                    let place = names.binary_search_by_key(&short, |held| held.short).ok()?;
                    return names.get(place).copied();
                }
                Node::Branch(children) => {
                    node = children.get(child(short, depth))?;
                    depth += BITS;
                }
            }
        }
    }

    /// The names from one on, in ascending order.
    pub(crate) fn from(&self, first: ShortId) -> impl Iterator<Item = Name> {
        let (mut node, mut depth) = (&*self.root, 0);
        let mut later = Vec::new();
        let mut leaf = loop {
            match node {
                Node::Leaf(names) => {
                    let begin = names.partition_point(|name| name.short < first);
                    break names.get(begin..).unwrap_or_default().iter();
                }
                Node::Branch(children) => {
                    let (_, after) = children.split_at(child(first, depth));
                    let Some((here, after)) = after.split_first() else { break [].iter() };
                    later.extend(after.iter().rev().map(|child| &**child));
                    (node, depth) = (here, depth + BITS);
                }
            }
        };
        std::iter::from_fn(move || {
            loop {
                if let Some(name) = leaf.next() {
                    return Some(*name);
                }
                match later.pop()? {
                    Node::Leaf(names) => leaf = names.iter(),
                    Node::Branch(children) => later.extend(children.iter().rev().map(|child| &**child)),
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn name(number: u64) -> Name {
        // Ids that are spread, and some that share all but their last bits.
        let short = if number.is_multiple_of(7) { number } else { crate::sip::hash_u64((1, 2), number) };
        Name { short: ShortId(short), tag: number }
    }

    fn all(names: &Names) -> Vec<Name> {
        names.from(ShortId(0)).collect()
    }

    fn bytes(node: &Node) -> usize {
        let counters = 2 * size_of::<usize>();
        counters
            + size_of::<Node>()
            + match node {
                Node::Leaf(names) => names.capacity() * size_of::<Name>(),
                Node::Branch(children) => children.iter().map(|child| bytes(child)).sum(),
            }
    }

    #[test]
    fn names_are_what_was_put_in_and_not_taken_out() {
        let (mut names, mut model) = (Names::new(&[]), BTreeMap::new());
        let mut before = (names.clone(), all(&names));
        for round in 0_u64..6000 {
            let number = crate::sip::hash_u64((3, 4), round) % 1500;
            if round % 3000 < 2000 {
                names.insert(name(number));
                model.insert(name(number).short, name(number));
            } else {
                names.remove(name(number).short);
                model.remove(&name(number).short);
            }
            assert_eq!(names.find(name(number).short), model.get(&name(number).short).copied());
            if round % 500 == 0 {
                assert_eq!(all(&before.0), before.1, "a copy changed");
                before = (names.clone(), all(&names));
            }
            assert_eq!(names.len(), model.len());
        }
        assert_eq!(all(&names), model.values().copied().collect::<Vec<_>>());
        for first in (0..1500).map(|number| name(number).short) {
            let from: Vec<_> = names.from(first).collect();
            assert_eq!(from, model.range(first..).map(|(_, name)| *name).collect::<Vec<_>>());
        }
        assert_eq!(all(&Names::new(&all(&names))), all(&names));
    }

    #[test]
    fn a_name_takes_no_more_bytes_than_it_says() {
        let mut names = Names::new(&[]);
        for number in (0..40_000).filter(|number| number % 7 != 0) {
            names.insert(name(number));
            let limit = names.len() * Names::NAME + 1024;
            assert!(number % 97 != 0 || bytes(&names.root) <= limit, "{number}: {}", bytes(&names.root));
        }
        for number in (0..40_000).filter(|number| number % 7 != 0) {
            names.remove(name(number).short);
            let limit = names.len() * Names::NAME + 1024;
            assert!(number % 97 != 0 || bytes(&names.root) <= limit, "{number}: {}", bytes(&names.root));
        }
        assert_eq!((names.len(), bytes(&names.root)), (0, 48));
    }
}
