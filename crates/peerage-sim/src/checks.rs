//! Invariants that any protocol may have.

use std::collections::{BTreeMap, BTreeSet};

use peerage_machine::{Class, Instant, Machine, Malformed, Why};

use crate::{NodeId, Sent, Watch};

/// No machine holds more than `limit` bytes, as `measure` adds them up, after every `every`-th call of a machine: 1 for
/// each, more where adding up takes longer than a call.
pub fn bounded<M: Machine>(limit: u64, every: u32, measure: impl Fn(&M) -> u64) -> impl Watch<M> {
    Bounded { limit, every: every.max(1), calls: 0, measure }
}

/// Something that must hold of a machine after each call of it. What `check` says it does not is the violation.
pub fn holds<M: Machine>(check: impl Fn(&M) -> Result<(), String>) -> impl Watch<M> {
    Holds { check }
}

/// None of these nodes' machines sends what needs credit on a link that has none left: a peer that takes nothing has a queue
/// that is full, and a machine that goes on sends into the void what it could have kept, or announced.
pub fn within_credit<M: Machine>(whose: impl Fn(NodeId) -> bool) -> impl Watch<M> {
    WithinCredit { whose, wrong: None }
}

/// None of these nodes' machines sends what its receiver cannot read. Seen where messages are encoded on their way:
/// [`crate::Config::codec`], [`crate::Config::wire`].
pub fn readable<M: Machine>(whose: impl Fn(NodeId) -> bool) -> impl Watch<M> {
    Readable { whose, wrong: None }
}

/// No machine tells the application twice, between two starts, what has the same key. Events without a key may come as
/// often as they like.
pub fn once<M: Machine, K: Ord>(key: impl Fn(&M::Event) -> Option<K>) -> impl Watch<M> {
    Once { key, told: BTreeMap::new(), twice: false }
}

struct Bounded<F> {
    limit: u64,
    every: u32,
    calls: u32,
    measure: F,
}

impl<M: Machine, F: Fn(&M) -> u64> Watch<M> for Bounded<F> {
    fn called(&mut self, _: Instant, _: NodeId, machine: &M) -> Result<(), String> {
        self.calls += 1;
        if self.calls < self.every {
            return Ok(());
        }
        self.calls = 0;
        let held = (self.measure)(machine);
        if held > self.limit {
            return Err(format!("a machine holds {held} bytes, at most {} were promised", self.limit));
        }
        Ok(())
    }
}

struct Holds<F> {
    check: F,
}

impl<M: Machine, F: Fn(&M) -> Result<(), String>> Watch<M> for Holds<F> {
    fn called(&mut self, _: Instant, _: NodeId, machine: &M) -> Result<(), String> {
        (self.check)(machine)
    }
}

struct WithinCredit<F> {
    whose: F,
    wrong: Option<String>,
}

impl<M: Machine, F: Fn(NodeId) -> bool> Watch<M> for WithinCredit<F> {
    fn sent(&mut self, _: Instant, sent: Sent<'_, M::Message>) {
        if let Some(Why::Full { queued, limit }) = sent.refused
            && sent.class != Class::Control
            && (self.whose)(sent.from)
        {
            let (from, to) = (sent.from, sent.to);
            self.wrong.get_or_insert_with(|| {
                format!("{from} sends more to {to}, in whose queue are {queued} of {limit} bytes")
            });
        }
    }

    fn called(&mut self, _: Instant, _: NodeId, _: &M) -> Result<(), String> {
        self.wrong.take().map_or(Ok(()), Err)
    }
}

struct Readable<F> {
    whose: F,
    wrong: Option<String>,
}

impl<M: Machine, F: Fn(NodeId) -> bool> Watch<M> for Readable<F> {
    fn malformed(&mut self, _: Instant, from: NodeId, to: NodeId, why: &Malformed) {
        if (self.whose)(from) {
            self.wrong.get_or_insert_with(|| format!("{from} sent to {to} a {why}"));
        }
    }

    fn called(&mut self, _: Instant, _: NodeId, _: &M) -> Result<(), String> {
        self.wrong.take().map_or(Ok(()), Err)
    }
}

struct Once<F, K> {
    key: F,
    told: BTreeMap<NodeId, BTreeSet<K>>,
    twice: bool,
}

impl<M: Machine, K: Ord, F: Fn(&M::Event) -> Option<K>> Watch<M> for Once<F, K> {
    fn started(&mut self, _: Instant, node: NodeId) {
        self.told.remove(&node);
    }

    fn emitted(&mut self, _: Instant, node: NodeId, event: M::Event) -> Option<M::Event> {
        if let Some(key) = (self.key)(&event) {
            self.twice |= !self.told.entry(node).or_default().insert(key);
        }
        Some(event)
    }

    fn called(&mut self, _: Instant, _: NodeId, _: &M) -> Result<(), String> {
        if self.twice { Err("a machine told the application twice".to_owned()) } else { Ok(()) }
    }
}
