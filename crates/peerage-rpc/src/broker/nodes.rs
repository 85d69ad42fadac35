//! Calls to nodes: which node, and on to it.

use peerage_machine::Instant;
use peerage_wire::PeerId;

use super::machine::{BrokerMachine, Sess};
use crate::event::{Out, SessionKey};
use crate::lane::Until;
use crate::packet::{Call, Destination, Item, Shape};
use crate::status::Status;
use crate::talk::{Again, Cost, OutOwner};

impl BrokerMachine {
    /// The session of a node that a call may go to which takes so much.
    pub(super) fn node_for(&self, to: &Destination, cost: &Cost) -> Result<SessionKey, Status> {
        match to {
            Destination::Peer => Err(Status::internal("the call goes to no node")),
            Destination::Node(node) => self.node_session(node),
            Destination::Group(group) => {
                let members = self.groups.get(group).into_iter().flatten();
                // One that has room for it; the one of those with the fewest under way; of several, the one whose last was
                // longest ago.
                let load = |key: &&SessionKey| {
                    let session = self.sessions.get(key);
                    session.map(|session| {
                        (!self.has_room(session, cost), session.talk.load().1, session.last_given)
                    })
                };
                members.min_by_key(load).copied().ok_or_else(|| {
                    let name = String::from_utf8_lossy(group);
                    Status::unavailable(format!("no node of the group {name:?} is there"))
                })
            }
        }
    }

    /// Whether a node has room for a call that takes so much.
    pub(super) fn has_room(&self, node: &Sess, cost: &Cost) -> bool {
        node.talk.has_room(cost) && self.held.may_grow(&self.config, &node.peer, node.kind).is_ok()
    }

    pub(super) fn node_session(&self, node: &PeerId) -> Result<SessionKey, Status> {
        self.nodes
            .get(node)
            .copied()
            .ok_or_else(|| Status::unavailable(format!("the node {} is not there", node.short())))
    }

    /// A call of a party goes to a node.
    pub(super) fn relay(&mut self, now: Instant, key: SessionKey, seq: u64, call: Box<Call>, out: &mut Out) {
        let Some(session) = self.sessions.get(&key) else { return };
        if let Some(policy) = &self.config.calls_to_nodes
            && let Err(status) = policy.ask(&session.caller, &call)
        {
            out.count("rpc_not_passed_on_total", 1);
            return self.completed(now, key, seq, Err(Box::new(status)));
        }
        // What cannot be passed on needs no mark; without marks, it is seen below.
        if self.config.journal
            && let Err(status) = self.node_for(&call.to, &session.cost_of(&call))
        {
            return self.completed(now, key, seq, Err(Box::new(status)));
        }
        if let Some(call) = self.journal_passes_on(key, seq, call, out) {
            self.pass_on(now, key, seq, call);
        }
    }

    /// What waited for the journal goes to a node, if its caller still waits.
    pub(super) fn pass_on_later(&mut self, now: Instant, key: SessionKey, seq: u64, call: Box<Call>) {
        if self.sessions.get(&key).is_some_and(|session| session.talk.is_wanted(seq)) {
            self.pass_on(now, key, seq, call);
        }
    }

    fn pass_on(&mut self, now: Instant, key: SessionKey, seq: u64, call: Box<Call>) {
        let may_come_again =
            call.shape.has(Shape::IDEMPOTENT) && !call.shape.has_streams() && !call.shape.has(Shape::ONE_WAY);
        let again =
            may_come_again.then(|| Box::new(Again { call: call.clone().kept(), since: now, tries: 1 }));
        if let Err(status) = self.give_to_node(now, key, seq, call, again) {
            self.completed(now, key, seq, Err(Box::new(status)));
        }
    }

    pub(super) fn give_to_node(
        &mut self,
        now: Instant,
        key: SessionKey,
        seq: u64,
        mut call: Box<Call>,
        again: Option<Box<Again>>,
    ) -> Result<(), Status> {
        let Some(caller) = self.sessions.get(&key) else { return Ok(()) };
        let cost = caller.cost_of(&call);
        let node = self.node_for(&call.to, &cost)?;
        if !caller.introduced_to.contains(&node) {
            self.introduce(key, node);
        }
        (call.to, call.caller, call.origin) = (Destination::Peer, key.0, seq);
        let from = OutOwner::Relayed { from: key, seq };
        let session = self.sessions.get_mut(&node).ok_or_else(|| Status::unavailable("the node is gone"))?;
        self.held.may_grow(&self.config, &session.peer, session.kind)?;
        session.talk.limits.take_parameters(cost.bytes)?;
        let on = session.talk.call(now, call, from, cost.payer)?;
        session.last_given = self.next_call;
        self.next_call += 1;
        session.touch(node, &mut self.touched);
        let caller = self.sessions.get_mut(&key);
        let held = caller.map(|caller| caller.talk.relayed(seq, node, on, again)).unwrap_or_default();
        for (is_bulk, item) in held {
            self.pass(now, node, is_bulk, item);
        }
        Ok(())
    }

    /// The node learns who calls, before the first call.
    fn introduce(&mut self, caller: SessionKey, node: SessionKey) {
        let Some(session) = self.sessions.get_mut(&caller) else { return };
        session.introduced_to.insert(node);
        let (peer, kind, id) = (session.peer, session.kind, session.id);
        if let Some(session) = self.sessions.get_mut(&node) {
            session.knows.insert(caller);
            let item = Item::Caller { caller: caller.0, peer, kind, session: id };
            session.talk.session.push(false, &item, Until::Acknowledged);
        }
    }
}
