//! Calls to nodes: which node, and on to it.

use peerage_machine::Instant;
use peerage_wire::PeerId;

use super::machine::BrokerMachine;
use crate::event::{Out, SessionKey};
use crate::lane::Until;
use crate::packet::{Call, Destination, Item};
use crate::status::Status;
use crate::talk::OutOwner;

impl BrokerMachine {
    /// The session of a node that the call may go to.
    pub(super) fn node_for(&self, to: &Destination) -> Result<SessionKey, Status> {
        match to {
            Destination::Peer => Err(Status::internal("the call goes to no node")),
            Destination::Node(node) => self.node_session(node),
            Destination::Group(group) => {
                let members = self.groups.get(group).into_iter().flatten();
                // The one that has the fewest under way; of several, the one whose last was longest ago.
                let load = |key: &&SessionKey| {
                    let session = self.sessions.get(key);
                    session.map(|session| (session.talk.load().1, session.last_given))
                };
                members.min_by_key(load).copied().ok_or_else(|| {
                    let name = String::from_utf8_lossy(group);
                    Status::unavailable(format!("no node of the group {name:?} is there"))
                })
            }
        }
    }

    pub(super) fn node_session(&self, node: &PeerId) -> Result<SessionKey, Status> {
        self.nodes
            .get(node)
            .copied()
            .ok_or_else(|| Status::unavailable(format!("the node {} is not there", node.short())))
    }

    /// A call of a party goes to a node.
    pub(super) fn relay(&mut self, now: Instant, key: SessionKey, seq: u64, call: Call, out: &mut Out) {
        if let Err(status) = self.node_for(&call.to) {
            return self.completed(now, key, seq, Err(Box::new(status)));
        }
        if let Some(call) = self.journal_passes_on(key, seq, call, out) {
            self.pass_on(now, key, seq, call);
        }
    }

    pub(super) fn pass_on(&mut self, now: Instant, key: SessionKey, seq: u64, call: Call) {
        if !self.sessions.get(&key).is_some_and(|session| session.talk.is_wanted(seq)) {
            return;
        }
        let placed = self.node_for(&call.to).and_then(|node| {
            self.introduce(key, node);
            let passed = Call { to: Destination::Peer, caller: key.0, origin: seq, ..call };
            let from = OutOwner::Relayed { from: key, seq };
            let session =
                self.sessions.get_mut(&node).ok_or_else(|| Status::unavailable("the node is gone"))?;
            let on = session.talk.call(now, passed, from).map_err(Status::from)?;
            Ok((node, on))
        });
        match placed {
            Ok((node, on)) => {
                if let Some(session) = self.sessions.get_mut(&key) {
                    session.talk.relayed(seq, node, on);
                }
                if let Some(session) = self.sessions.get_mut(&node) {
                    session.last_given = self.next_call;
                }
                self.next_call += 1;
                self.touch(node);
            }
            Err(status) => self.completed(now, key, seq, Err(Box::new(status))),
        }
    }

    /// The node learns who calls, before the first call.
    fn introduce(&mut self, caller: SessionKey, node: SessionKey) {
        let Some(session) = self.sessions.get_mut(&caller) else { return };
        if !session.introduced_to.insert(node) {
            return;
        }
        let (peer, kind, id) = (session.peer, session.kind, session.id);
        if let Some(session) = self.sessions.get_mut(&node) {
            session.knows.insert(caller);
            let item = Item::Caller { caller: caller.0, peer, kind, session: id };
            session.talk.session.push(false, &item, Until::Acknowledged);
        }
    }
}
