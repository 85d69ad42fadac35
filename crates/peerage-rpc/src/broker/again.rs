//! Calls that may be run again, and whose nodes are gone: passed on to another node, or held until the next start of theirs.
//!
//! A node that was killed keeps its session, and with it its calls, for its grace. One that leaves in good order ends its session at
//! once; what it was given then waits as long for a node, so that it is the same to a caller how a node went.

use peerage_machine::Instant;

use super::machine::{BrokerMachine, Timer};
use crate::event::{Out, SessionKey};
use crate::packet::Destination;
use crate::status::Status;
use crate::talk::Again;

/// How often a call that may be run again is passed on: one that ends its nodes does not end them all.
const TRIES: u32 = 3;

/// A call whose node is gone, and that may be run again.
#[derive(Debug)]
pub(super) struct OnceMore {
    pub(super) from: SessionKey,
    pub(super) seq: u64,
    pub(super) again: Box<Again>,
    /// What its caller hears if nobody can run it.
    pub(super) why: Status,
    /// How long it may wait for a node.
    pub(super) until: Instant,
}

/// A call that waits for a node: its session and its number there name it.
#[derive(Debug)]
pub(super) struct Waiting {
    to: Destination,
    why: Status,
    until: Instant,
}

impl BrokerMachine {
    /// Passes on again what was at nodes that are gone.
    pub(super) fn pass_on_again(&mut self, out: &mut Out) {
        let now = self.now;
        for OnceMore { from, seq, mut again, why, until } in std::mem::take(&mut self.again) {
            let Some(caller) = self.sessions.get(&from).filter(|caller| caller.talk.is_wanted(seq)) else {
                continue;
            };
            if again.tries < TRIES
                && until > now
                && self.may_come(&again.call.to)
                && self.node_for(&again.call.to, &caller.cost_of(&again.call)).is_err()
            {
                self.wait_for_node(from, seq, again, Waiting { to: Destination::Peer, why, until });
                continue;
            }
            let mut call = again.call.clone();
            let spent = u64::try_from(now.since(again.since).as_micros()).unwrap_or(u64::MAX);
            if call.timeout_micros > 0 {
                call.timeout_micros = call.timeout_micros.saturating_sub(spent).max(1);
            }
            again.tries += 1;
            if again.tries > TRIES || self.give_to_node(now, from, seq, call, Some(again)).is_err() {
                self.completed(now, from, seq, Err(Box::new(why)));
            } else {
                out.count("rpc_passed_on_again_total", 1);
            }
        }
    }

    /// Whether a node may come that such a call goes to: not one that is shut out.
    fn may_come(&self, to: &Destination) -> bool {
        match to {
            Destination::Node(node) => self.accounts.may_act(node).is_ok(),
            Destination::Group(_) => true,
            Destination::Peer => false,
        }
    }

    /// Nobody is there who could run it. It has its own time until then, as if it ran here.
    fn wait_for_node(&mut self, from: SessionKey, seq: u64, again: Box<Again>, waiting: Waiting) {
        let Some(session) = self.sessions.get_mut(&from) else { return };
        let waiting = Waiting { to: again.call.to.clone(), ..waiting };
        session.talk.waits_again(seq, again);
        self.touch(from);
        self.timers.arm(Timer::Again(from, seq), waiting.until);
        self.waiting.insert((from, seq), waiting);
    }

    /// A node has come: what waits for it is passed on.
    pub(super) fn wake_waiting(&mut self, key: SessionKey) {
        let Some(node) = self.sessions.get(&key).filter(|_| !self.waiting.is_empty()) else { return };
        let goes = |to: &Destination| match to {
            Destination::Peer => false,
            Destination::Node(peer) => *peer == node.peer,
            Destination::Group(group) => node.groups.contains(group),
        };
        let woken: Vec<_> =
            self.waiting.iter().filter(|(_, waiting)| goes(&waiting.to)).map(|(call, _)| *call).collect();
        for (from, seq) in woken {
            let Some(Waiting { why, until, .. }) = self.waiting.remove(&(from, seq)) else { continue };
            self.timers.cancel(&Timer::Again(from, seq));
            let again = self.sessions.get_mut(&from).and_then(|session| session.talk.take_again(seq));
            if let Some(again) = again {
                self.again.push(OnceMore { from, seq, again, why, until });
            }
        }
    }

    /// No node has come in time.
    pub(super) fn waited_too_long(&mut self, from: SessionKey, seq: u64) {
        if let Some(Waiting { why, .. }) = self.waiting.remove(&(from, seq)) {
            self.completed(self.now, from, seq, Err(Box::new(why)));
        }
    }

    /// A call comes to nothing, and waits for no node any more.
    pub(super) fn forget_waiting(&mut self, from: SessionKey, seq: u64) {
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
