//! Calls of this end.

use std::time::Duration;

use peerage_machine::Instant;

use super::given::Given;
use super::{Cost, GivenUp, NoRoom, OutCall, OutOwner, Payer, Talk};
use crate::event::StreamKey;
use crate::flow::Streams;
use crate::lane::Until;
use crate::packet::{Call, Item, Shape};

impl Talk {
    /// Whether a call may be made that takes so much.
    pub(crate) fn has_room(&self, cost: &Cost) -> bool {
        self.limits.take_parameters(cost.bytes).is_ok() && self.our_way.check(cost, &self.limits).is_ok()
    }

    /// Makes a call, in the name of whose share it counts to, if room is shared; gives its number.
    pub(crate) fn call(
        &mut self,
        now: Instant,
        call: Box<Call>,
        owner: OutOwner,
        payer: Option<Payer>,
    ) -> Result<u64, NoRoom> {
        let shape = call.shape;
        let cost = Cost::of(call.payload.len(), shape, payer);
        if let Err(no_room) = self.our_way.take(&cost, &self.limits) {
            self.wants_slots = true;
            return Err(no_room);
        }
        let timeout = call.timeout_micros;
        if shape.has(Shape::ONE_WAY) {
            let seq = self.session.push(false, &Item::Call(call), Until::Done);
            self.our_one_ways.insert(seq, (cost, owner));
            return Ok(seq);
        }
        let seq = self.session.push(false, &Item::Call(call), Until::Answered);
        // Whoever passes a call on leaves its time to its ends.
        let until = (timeout > 0 && matches!(owner, OutOwner::Local(_)))
            .then(|| now + Duration::from_micros(timeout));
        if let Some(until) = until {
            self.deadlines.insert((until, true, seq));
        }
        let streams = Streams::of_caller(shape, &self.limits, matches!(owner, OutOwner::Local(_)));
        self.ours.insert(seq, OutCall { owner, cost, streams, until, is_replied: false });
        Ok(seq)
    }

    /// Nobody here waits for a call of this end any more.
    pub(crate) fn cancel(&mut self, seq: u64) {
        let Some(call) = self.ours.get_mut(seq) else { return };
        if matches!(call.owner, OutOwner::Abandoned) {
            return;
        }
        call.owner = OutOwner::Abandoned;
        if let Some(until) = call.until.take() {
            self.deadlines.remove(&(until, true, seq));
        }
        let stopped = call.streams.iter_mut().flat_map(|streams| streams.stop_out());
        let key = |is_bulk| StreamKey { session: self.key, call: seq, is_ours: true, is_bulk };
        self.stopped.extend(stopped.map(key));
        self.forget_gathering(seq, true);
        // Also after the reply: then it is about the bulk data that follows.
        self.session.push(false, &Item::Cancel { call: seq }, Until::Acknowledged);
    }

    pub(super) fn forget_ours(&mut self, seq: u64) -> Option<OutCall> {
        let mut call = self.ours.remove(seq)?;
        self.our_way.remove(&call.cost);
        if let Some(until) = call.until {
            self.deadlines.remove(&(until, true, seq));
        }
        if let Some(streams) = &mut call.streams {
            let key = |is_bulk| StreamKey { session: self.key, call: seq, is_ours: true, is_bulk };
            self.stopped.extend(streams.stop_out().into_iter().map(key));
            self.forget_gathering(seq, true);
        }
        Some(call)
    }

    pub(super) fn forget_gathering(&mut self, call: u64, is_ours: bool) {
        for is_bulk in [false, true] {
            self.gathering.remove(&StreamKey { session: self.key, call, is_ours, is_bulk });
        }
    }

    /// All calls of this end that are not over, which never will be.
    pub(crate) fn give_up_ours(&mut self) -> Vec<GivenUp> {
        let seqs: Vec<_> = self.ours.iter().map(|(seq, _)| seq).collect();
        let mut given_up: Vec<_> = seqs.into_iter().filter_map(|seq| self.give_up(seq)).collect();
        for (seq, (_, owner)) in std::mem::take(&mut self.our_one_ways) {
            let may_have_run = self.session.was_handed(seq);
            given_up.push(GivenUp { seq, owner, is_one_way: true, is_replied: false, may_have_run });
        }
        given_up.sort_unstable_by_key(|call| call.seq);
        self.our_way = Given::default();
        given_up
    }

    fn give_up(&mut self, seq: u64) -> Option<GivenUp> {
        let may_have_run = self.session.was_handed(seq);
        let OutCall { owner, is_replied, .. } = self.forget_ours(seq)?;
        Some(GivenUp { seq, owner, is_one_way: false, is_replied, may_have_run })
    }

    /// Calls of this end with streams, which do not survive a restart of the other.
    pub(crate) fn give_up_streams(&mut self) -> Vec<GivenUp> {
        let with_streams = self.ours.iter().filter(|(_, call)| call.streams.is_some());
        let seqs: Vec<_> = with_streams.map(|(seq, _)| seq).collect();
        let mut given_up = Vec::new();
        for seq in seqs {
            self.session.answered(seq);
            given_up.extend(self.give_up(seq));
        }
        given_up
    }
}
