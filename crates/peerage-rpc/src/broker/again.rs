//! Calls that may be run again, and whose nodes are gone: passed on to another node, or held until the next start of theirs.
//!
//! A node that was killed keeps its session, and with it its calls, for its grace. One that leaves in good order ends its session at
//! once; what it was given then waits as long for a node, so that it is the same to a caller how a node went. Others of its group that
//! are there and full are waited for as well, until they have room.

use std::ops::Bound;
use std::sync::Arc;

use peerage_machine::Instant;
use peerage_wire::PeerId;

use super::machine::{BrokerMachine, Sess, Timer};
use crate::accounts::Kind;
use crate::event::{Out, SessionKey};
use crate::packet::Destination;
use crate::status::Status;
use crate::talk::{Again, Cost};

/// How often a call that may be run again is passed on: one that ends its nodes does not end them all.
const TRIES: u32 = 3;

/// A call whose node is gone, and that may be run again.
#[derive(Debug)]
pub(super) struct OnceMore {
    pub(super) from: SessionKey,
    pub(super) seq: u64,
    pub(super) again: Box<Again>,
    pub(super) lost: Lost,
}

/// How a call lost its node.
#[derive(Debug)]
pub(super) struct Lost {
    /// Whose session it was.
    pub(super) node: PeerId,
    /// What its caller hears if nobody can run it: the same for all calls of that session, of which there may be many.
    pub(super) why: Arc<Status>,
    pub(super) may_have_run: bool,
    /// How long it may wait for a node.
    pub(super) until: Instant,
}

impl Lost {
    /// What its caller hears.
    pub(super) fn status(&self) -> Box<Status> {
        let mut status = Status::clone(&self.why);
        status.may_have_run = self.may_have_run;
        Box::new(status)
    }
}

/// A call that waits for a node, or for room at one that is there: its session and its number there name it.
#[derive(Debug)]
pub(super) struct Waiting {
    to: Destination,
    cost: Cost,
    lost: Lost,
}

impl Waiting {
    /// Whether that node is one that it waits for.
    fn is_for(&self, node: &Sess) -> bool {
        match &self.to {
            Destination::Peer => false,
            Destination::Node(peer) => *peer == node.peer,
            Destination::Group(group) => node.groups.contains(group),
        }
    }
}

impl BrokerMachine {
    /// Passes on again what was at nodes that are gone.
    pub(super) fn pass_on_again(&mut self, out: &mut Out) {
        if !self.waiting.is_empty() {
            self.wake_waiting(out);
        }
        for call in std::mem::take(&mut self.again) {
            self.pass_one_on_again(call, out);
        }
    }

    fn pass_one_on_again(&mut self, call: OnceMore, out: &mut Out) {
        let OnceMore { from, seq, mut again, lost } = call;
        let now = self.now;
        let Some(caller) = self.sessions.get(&from).filter(|caller| caller.talk.is_wanted(seq)) else {
            return;
        };
        if again.tries >= TRIES {
            return self.completed(now, from, seq, Err(lost.status()));
        }
        let cost = caller.cost_of(&again.call);
        let node = self.node_for(&again.call.to, &cost).ok().and_then(|node| self.sessions.get(&node));
        let (is_there, has_room) = (node.is_some(), node.is_some_and(|node| self.has_room(node, &cost)));
        // One that is shut out does not come, and others of its group that are not there need not.
        if !has_room && lost.until > now && (is_there || self.accounts.may_act(&lost.node).is_ok()) {
            let waiting = Waiting { to: again.call.to.clone(), cost, lost };
            return self.wait_for_node(from, seq, again, waiting);
        }
        let mut call = again.call.clone();
        let spent = u64::try_from(now.since(again.since).as_micros()).unwrap_or(u64::MAX);
        if call.timeout_micros > 0 {
            call.timeout_micros = call.timeout_micros.saturating_sub(spent).max(1);
        }
        again.tries += 1;
        match self.give_to_node(now, from, seq, call, Some(again)) {
            Ok(()) => out.count("rpc_passed_on_again_total", 1),
            // A node is there, and has no room: its caller may do something about that.
            Err(mut full) if is_there => {
                full.may_have_run |= lost.may_have_run;
                self.completed(now, from, seq, Err(Box::new(full)));
            }
            Err(_) => self.completed(now, from, seq, Err(lost.status())),
        }
    }

    /// Nobody is there who could run it, or has room for it. It has its own time until then, as if it ran here.
    fn wait_for_node(&mut self, from: SessionKey, seq: u64, again: Box<Again>, waiting: Waiting) {
        let Some(session) = self.sessions.get_mut(&from) else { return };
        session.talk.waits_again(seq, again);
        self.touch(from);
        self.timers.arm(Timer::Again(from, seq), waiting.lost.until);
        self.waiting.insert((from, seq), waiting);
    }

    /// Passes on what waits for the nodes that something has happened to: one has come, or has answered and has room.
    fn wake_waiting(&mut self, out: &mut Out) {
        let is_node = |key: &&SessionKey| self.sessions.get(key).is_some_and(|node| node.kind == Kind::Node);
        let nodes: Vec<_> = self.touched.iter().filter(is_node).copied().collect();
        for node in nodes {
            let mut last = Bound::Unbounded;
            while let Some((from, seq)) = self.next_waiting(node, last) {
                last = Bound::Excluded((from, seq));
                if let Some(call) = self.take_waiting(from, seq) {
                    self.pass_one_on_again(call, out);
                }
            }
        }
    }

    /// The next call that waits for that node and that it has room for.
    fn next_waiting(&self, key: SessionKey, mut last: Bound<(SessionKey, u64)>) -> Option<(SessionKey, u64)> {
        let node = self.sessions.get(&key).filter(|node| self.nodes.get(&node.peer) == Some(&key))?;
        loop {
            let mut calls = self.waiting.range((last, Bound::Unbounded));
            let (call, waiting) = calls.find(|(_, waiting)| waiting.is_for(node))?;
            if self.has_room(node, &waiting.cost) {
                return Some(*call);
            }
            // Where not even the smallest has room, all of its session are passed over at once: many may wait, and each answer of
            // the node leads here.
            let has_any = self.has_room(node, &Cost { bytes: 0, ..waiting.cost });
            last = Bound::Excluded(if has_any { *call } else { (call.0, u64::MAX) });
        }
    }

    fn take_waiting(&mut self, from: SessionKey, seq: u64) -> Option<OnceMore> {
        let Waiting { lost, .. } = self.waiting.remove(&(from, seq))?;
        self.timers.cancel(&Timer::Again(from, seq));
        let again = self.sessions.get_mut(&from)?.talk.take_again(seq)?;
        Some(OnceMore { from, seq, again, lost })
    }

    /// It has waited as long as it may: it is passed on now, or never.
    pub(super) fn waited_too_long(&mut self, from: SessionKey, seq: u64) {
        let call = self.take_waiting(from, seq);
        self.again.extend(call);
    }

    /// An account is shut out: what its node has left waits no longer for it.
    pub(super) fn wait_no_longer_for(&mut self, peer: &PeerId) {
        let is_left = |(_, waiting): &(&_, &Waiting)| waiting.lost.node == *peer;
        let calls: Vec<_> = self.waiting.iter().filter(is_left).map(|(call, _)| *call).collect();
        for (from, seq) in calls {
            let call = self.take_waiting(from, seq);
            self.again.extend(call);
        }
    }

    /// A call comes to nothing, and waits for no node any more.
    pub(super) fn forget_waiting(&mut self, from: SessionKey, seq: u64) {
        // Its time may be over in the same turn as its wait.
        self.again.retain(|call| (call.from, call.seq) != (from, seq));
        if !self.waiting.is_empty() && self.waiting.remove(&(from, seq)).is_some() {
            self.timers.cancel(&Timer::Again(from, seq));
        }
    }

    /// A caller's session is over.
    pub(super) fn forget_all_waiting(&mut self, from: SessionKey) {
        while let Some(((from, seq), _)) = self.waiting.range((from, 0)..=(from, u64::MAX)).next() {
            self.forget_waiting(*from, *seq);
        }
    }

    /// That calls wait which somebody wants, each with a time.
    pub(super) fn check_waiting(&self) -> Result<(), String> {
        for (from, seq) in self.waiting.keys() {
            let is_wanted = self.sessions.get(from).is_some_and(|session| session.talk.is_wanted(*seq));
            if !is_wanted || !self.timers.is_armed(&Timer::Again(*from, *seq)) {
                return Err(format!("call {seq} of session {} waits for a node for ever", from.0));
            }
        }
        Ok(())
    }
}
