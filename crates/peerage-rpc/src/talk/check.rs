//! What must be so within a talk, whatever has happened.

use super::given::Given;
use super::hear::size_of;
use super::{OutOwner, Talk, UnderWay};
use crate::event::{SessionKey, StreamKey};

impl Talk {
    /// What must be so between its tables, whatever has happened.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.session.check()?;
        let theirs = self.theirs.values().map(|call| (call.bytes, call.streams.is_some()));
        let theirs = theirs.chain(self.their_one_ways.values().map(|bytes| (*bytes, false)));
        is_counted("their calls", theirs, self.their_way)?;
        let mut ours = Given::default();
        self.ours.values().for_each(|call| ours.add(&call.cost));
        self.our_one_ways.values().for_each(|(cost, _)| ours.add(cost));
        if ours != self.our_way {
            return Err(format!("our calls: there are {ours:?}, counted are {:?}", self.our_way));
        }
        let waiting: u64 =
            self.theirs.values().flat_map(|call| &call.held).map(|(_, item)| size_of(item)).sum();
        if waiting != self.waiting_bytes {
            return Err(format!("{waiting} bytes of streams wait, {} are counted", self.waiting_bytes));
        }
        let mut untils: Vec<_> =
            self.ours.iter().filter_map(|(seq, call)| Some((call.until?, true, seq))).collect();
        untils.extend(self.theirs.iter().filter_map(|(seq, call)| Some((call.until?, false, seq))));
        untils.sort_unstable();
        if !untils.iter().eq(&self.deadlines) {
            return Err(format!("calls end at {untils:?}, timers are at {:?}", self.deadlines));
        }
        let is_known = |stream: &StreamKey| {
            let calls =
                if stream.is_ours { self.ours.get(stream.call).map(|call| &call.streams) } else { None };
            calls.or_else(|| self.theirs.get(stream.call).map(|call| &call.streams)).is_some()
        };
        if let Some(stream) = self.gathering.iter().find(|stream| !is_known(stream)) {
            return Err(format!("messages gather for {stream:?}, which is over"));
        }
        if let Some(call) = self.early.keys().find(|call| self.session.has_arrived(**call)) {
            return Err(format!("bulk data waits for call {call}, which has come"));
        }
        Ok(())
    }

    pub(super) fn gathered(&self, stream: StreamKey) -> usize {
        let streams = if stream.is_ours {
            self.ours.get(stream.call).and_then(|call| call.streams.as_deref())
        } else {
            self.theirs.get(stream.call).and_then(|call| call.streams.as_deref())
        };
        streams.map_or(0, |streams| streams.gathered(stream.is_bulk))
    }

    /// Calls of the other end that go on to another session: their numbers, that session, and their numbers there.
    pub(crate) fn passed_on(&self) -> impl Iterator<Item = (u64, SessionKey, u64)> + '_ {
        self.theirs.iter().filter_map(|(seq, call)| match call.owner {
            super::InOwner::Relayed { to, seq: on } => Some((seq, to, on)),
            super::InOwner::Local | super::InOwner::Waiting => None,
        })
    }

    /// Calls of this end that have come from another session: their numbers, that session, and their numbers there.
    pub(crate) fn passed_here(&self) -> impl Iterator<Item = (u64, SessionKey, u64)> + '_ {
        let one_ways = self.our_one_ways.iter().map(|(seq, (_, owner))| (*seq, owner));
        let calls = self.ours.iter().map(|(seq, call)| (seq, &call.owner));
        calls.chain(one_ways).filter_map(|(seq, owner)| match owner {
            OutOwner::Relayed { from, seq: there } => Some((seq, *from, *there)),
            OutOwner::Local(_) | OutOwner::Abandoned => None,
        })
    }
}

fn is_counted(
    what: &str,
    calls: impl Iterator<Item = (usize, bool)>,
    counted: UnderWay,
) -> Result<(), String> {
    let mut found = UnderWay::default();
    calls.for_each(|(bytes, has_streams)| found.add(bytes, has_streams));
    if found == counted {
        Ok(())
    } else {
        Err(format!("{what}: there are {found:?}, counted are {counted:?}"))
    }
}
