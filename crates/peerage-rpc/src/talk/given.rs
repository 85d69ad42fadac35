//! What is under way to the other end, and for whom: nobody's calls may take all the room.
//!
//! A payer is an account whose calls are passed on to here, or the broker's application that makes some itself. It may have one more call, byte or stream under way while it has fewer
//! than are left. So one alone gets half of what there is, two get a third each, and whoever comes next finds as much as
//! each of those before has: dynamic thresholds (Choudhury and Hahne, *Dynamic queue length thresholds for
//! shared-memory packet switches*, 1998) with a factor of 1. Nothing is set aside, and nobody needs to know how many there are.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use peerage_wire::PeerId;

use super::{NoRoom, UnderWay};
use crate::packet::{Limits, Shape};

/// Whose share of a node's room it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Payer {
    /// The broker's application.
    Application,
    /// Of that key.
    Account(PeerId),
}

/// What a call of this end takes of the room, and in whose name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// Of parameters.
    pub(crate) bytes: usize,
    pub(crate) has_streams: bool,
    /// `None`: nobody else may want the room.
    pub(crate) payer: Option<Payer>,
}

impl Cost {
    pub(crate) fn of(bytes: usize, shape: Shape, payer: Option<Payer>) -> Self {
        Self { bytes, has_streams: shape.has_streams(), payer }
    }
}

/// Calls of this end that are under way, of everybody and of each payer that has any.
#[derive(Clone, Debug, Default)]
pub(super) struct Given {
    pub(super) all: UnderWay,
    shares: BTreeMap<Payer, UnderWay>,
}

impl Given {
    /// Whether there is room for one more.
    pub(super) fn check(&self, cost: &Cost, limits: &Limits) -> Result<(), NoRoom> {
        self.all.check(cost.bytes, cost.has_streams, limits)?;
        match cost.payer.and_then(|payer| self.shares.get(&payer)) {
            Some(share) => self.all.leaves(*share, cost.has_streams, limits),
            None => Ok(()),
        }
    }

    /// Takes room for one more, if there is.
    pub(super) fn take(&mut self, cost: &Cost, limits: &Limits) -> Result<(), NoRoom> {
        self.all.check(cost.bytes, cost.has_streams, limits)?;
        if let Some(payer) = cost.payer {
            match self.shares.entry(payer) {
                Entry::Occupied(mut share) => {
                    self.all.leaves(*share.get(), cost.has_streams, limits)?;
                    share.get_mut().add(cost.bytes, cost.has_streams);
                }
                Entry::Vacant(place) => place.insert(UnderWay::default()).add(cost.bytes, cost.has_streams),
            }
        }
        self.all.add(cost.bytes, cost.has_streams);
        Ok(())
    }

    /// Counts one whatever the limits are.
    pub(super) fn add(&mut self, cost: &Cost) {
        self.all.add(cost.bytes, cost.has_streams);
        if let Some(payer) = cost.payer {
            self.shares.entry(payer).or_default().add(cost.bytes, cost.has_streams);
        }
    }

    pub(super) fn remove(&mut self, cost: &Cost) {
        self.all.remove(cost.bytes, cost.has_streams);
        let Some(payer) = cost.payer else { return };
        if let Some(share) = self.shares.get_mut(&payer) {
            share.remove(cost.bytes, cost.has_streams);
            // The only one stays, so that one who calls again and again costs no memory again and again.
            if share.calls == 0 && self.shares.len() > 1 {
                self.shares.remove(&payer);
            }
        }
    }
}

impl PartialEq for Given {
    fn eq(&self, other: &Self) -> bool {
        fn has_calls((_, share): &(&Payer, &UnderWay)) -> bool {
            share.calls > 0
        }
        self.all == other.all
            && self.shares.iter().filter(has_calls).eq(other.shares.iter().filter(has_calls))
    }
}

impl UnderWay {
    /// Whether who has `share` of all this may have more: it has less than is left.
    fn leaves(self, share: Self, wants_streams: bool, limits: &Limits) -> Result<(), NoRoom> {
        let left = limits.calls.saturating_sub(self.calls);
        if share.calls >= left {
            return Err(NoRoom::CallsShare { has: share.calls, left, limit: limits.calls });
        }
        let left = limits.call_bytes.saturating_sub(self.bytes);
        if share.bytes > 0 && share.bytes >= left {
            return Err(NoRoom::BytesShare { has: share.bytes, left, limit: limits.call_bytes });
        }
        let left = limits.streams.saturating_sub(self.streams);
        if wants_streams && share.streams >= left {
            return Err(NoRoom::StreamsShare { has: share.streams, left, limit: limits.streams });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        calls: 120,
        call_bytes: 1 << 20,
        streams: 24,
        stream_messages: 8,
        stream_bytes: 1,
        message_bytes: 1,
    };

    fn fill(given: &mut Given, payer: u8, shape: Shape) -> usize {
        let cost = Cost::of(1, shape, Some(Payer::Account(PeerId::from_bytes([payer; 32]))));
        let mut had = 0;
        while given.take(&cost, &LIMITS).is_ok() {
            had += 1;
        }
        assert!(given.check(&cost, &LIMITS).is_err());
        had
    }

    #[test]
    fn one_alone_gets_half_and_whoever_comes_later_half_of_what_is_left() {
        let mut given = Given::default();
        let had: Vec<_> = (0..4).map(|payer| fill(&mut given, payer, Shape::REQUEST)).collect();
        assert_eq!(had, [60, 30, 15, 8]);
    }

    #[test]
    fn those_who_come_together_get_the_same_and_as_much_is_left() {
        for payers in [1_u32, 2, 3, 5] {
            let mut given = Given::default();
            let costs =
                |payer| Cost::of(1, Shape::STREAM_UP, Some(Payer::Account(PeerId::from_bytes([payer; 32]))));
            for _ in 0..LIMITS.streams {
                for cost in (0..payers as u8).map(costs) {
                    let _ = given.take(&cost, &LIMITS);
                }
            }
            let each = LIMITS.streams / (payers + 1);
            assert_eq!(given.all.streams, payers * each);
        }
    }

    #[test]
    fn what_is_over_makes_room_and_leaves_nothing() {
        let mut given = Given::default();
        let cost = Cost::of(9, Shape::BULK_UP, Some(Payer::Account(PeerId::from_bytes([7; 32]))));
        assert_eq!(fill(&mut given, 7, Shape::BULK_UP), 12);
        given.remove(&cost);
        given.add(&cost);
        for _ in 0..12 {
            given.remove(&cost);
        }
        assert_eq!(given, Given::default());
        // However many there were, one place is left.
        for payer in 0..20 {
            fill(&mut given, payer, Shape::REQUEST);
        }
        for payer in 0..20 {
            let cost = Cost::of(1, Shape::REQUEST, Some(Payer::Account(PeerId::from_bytes([payer; 32]))));
            (0..60).for_each(|_| given.remove(&cost));
        }
        assert!(given.shares.len() <= 1);
    }
}
