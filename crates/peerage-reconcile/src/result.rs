//! What a session found.

use crate::encoder::Encoder;
use crate::short::{Fingerprint, ShortId};

/// What only one side has, by short ids in ascending order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// What we have and they lack.
    pub ours: Vec<ShortId>,
    /// What they have and we lack.
    pub theirs: Vec<ShortId>,
    /// Whether that is all. If not, another session finds more when what was found is settled.
    pub is_complete: bool,
    /// Whether what both have is the same by its 128-bit hashes too. `Some(false)`: two keys have one short id, or the peer
    /// lies; a session with another salt finds what is missing. The side that was given the result knows: the
    /// initiator, unless the responder sent its ids. The responder knows, too, when it lacks nothing of the initiator's.
    pub agrees: Option<bool>,
}

/// What was found so far.
#[derive(Clone, Debug)]
pub(crate) struct Findings {
    ours: Vec<ShortId>,
    theirs: Vec<ShortId>,
    limit: usize,
}

/// How much of what was found there was room for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fits {
    ours: usize,
    theirs: usize,
    is_all: bool,
}

impl Fits {
    pub(crate) const fn is_all(self) -> bool {
        self.is_all
    }

    /// Cuts what does not fit: what they lack us to have, and what we have.
    pub(crate) fn cut(self, mut want: Vec<ShortId>, mut have: Vec<ShortId>) -> (Vec<ShortId>, Vec<ShortId>) {
        want.truncate(self.theirs);
        have.truncate(self.ours);
        (want, have)
    }
}

impl Findings {
    pub(crate) const fn new(limit: u32) -> Self {
        Self { ours: Vec::new(), theirs: Vec::new(), limit: limit as usize }
    }

    pub(crate) fn extend(&mut self, ours: &[ShortId], theirs: &[ShortId]) -> Fits {
        let (first, other) =
            (put(&mut self.ours, ours, self.limit), put(&mut self.theirs, theirs, self.limit));
        Fits { ours: first, theirs: other, is_all: first == ours.len() && other == theirs.len() }
    }

    /// Whether these go on where the last ones ended, in ascending order.
    pub(crate) fn ascends(&self, ours: &[ShortId], theirs: &[ShortId]) -> bool {
        ascends(self.ours.last(), ours) && ascends(self.theirs.last(), theirs)
    }

    /// The fingerprint of what both sides have: all of ours without what only we have.
    pub(crate) fn common(&self, mut all: Fingerprint, set: &Encoder) -> Fingerprint {
        for name in self.ours.iter().filter_map(|short| set.name(*short)) {
            all.remove(name);
        }
        all
    }

    /// Whether the other side has nothing that we lack.
    pub(crate) const fn lacks_nothing(&self) -> bool {
        self.theirs.is_empty()
    }

    /// Takes what was found.
    pub(crate) fn end(&mut self, is_complete: bool, agrees: Option<bool>) -> Difference {
        let (ours, theirs) = (std::mem::take(&mut self.ours), std::mem::take(&mut self.theirs));
        Difference { ours, theirs, is_complete, agrees }
    }

    pub(crate) fn held_bytes(&self) -> usize {
        (self.ours.capacity() + self.theirs.capacity()) * size_of::<ShortId>()
    }
}

/// Takes what there is room for; returns how many.
fn put(into: &mut Vec<ShortId>, ids: &[ShortId], limit: usize) -> usize {
    let room = limit.saturating_sub(into.len());
    let taken = ids.get(..room).unwrap_or(ids);
    into.extend_from_slice(taken);
    taken.len()
}

fn ascends(last: Option<&ShortId>, ids: &[ShortId]) -> bool {
    last.into_iter()
        .chain(ids)
        .zip(ids.iter().skip(usize::from(last.is_none())))
        .all(|(one, other)| one < other)
}
