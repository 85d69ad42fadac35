//! What was said, and who heard it when.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use bytes::Bytes;
use peerage_machine::Instant;
use peerage_overlay::{MeshEvent, MeshMachine, Message, MessageId};
use peerage_sim::{NodeId, Role, Watch};
use peerage_wire::PeerId;

/// One broadcast.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub(crate) origin: NodeId,
    pub(crate) at: Instant,
    body: Bytes,
    /// A bit for each node.
    heard: Vec<u64>,
    /// Each that heard it, by number, and how many microseconds later.
    pub(crate) after: Vec<(u32, u32)>,
    /// Hops to the one farthest away: 1 to a neighbour of the origin.
    pub(crate) last_hop: u32,
}

impl Said {
    fn hear(&mut self, node: NodeId) -> bool {
        let (word, bit) = (node.index() / 64, 1_u64 << (node.index() % 64));
        if self.heard.len() <= word {
            self.heard.resize(word + 1, 0);
        }
        let Some(word) = self.heard.get_mut(word) else { return false };
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    pub(crate) fn was_heard_by(&self, node: NodeId) -> bool {
        self.heard.get(node.index() / 64).is_some_and(|word| word & (1 << (node.index() % 64)) != 0)
    }
}

/// Everything that was said, and by whom it was heard. What is heard and was not said, or a second time, ends the run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) said: BTreeMap<MessageId, Said>,
    /// Who says nothing but what is written here.
    pub(crate) honest: BTreeSet<PeerId>,
    /// How often peers heard what attackers said in their own names.
    pub(crate) foreign: u64,
    /// Messages that peers told their applications to have missed.
    pub(crate) missed: u64,
    wrong: Option<String>,
}

impl Ledger {
    pub(crate) fn say(&mut self, id: MessageId, origin: NodeId, at: Instant, body: Bytes) {
        let said = Said { origin, at, body, heard: Vec::new(), after: Vec::new(), last_hop: 0 };
        self.said.insert(id, said);
    }

    /// The node has started anew: what it heard before, it may hear again.
    fn forget(&mut self, node: NodeId) {
        for said in self.said.values_mut() {
            if let Some(word) = said.heard.get_mut(node.index() / 64) {
                *word &= !(1 << (node.index() % 64));
            }
        }
    }

    fn hear(&mut self, at: Instant, node: NodeId, message: &Message) -> Result<(), String> {
        let Some(said) = self.said.get_mut(&message.id) else {
            if !self.honest.contains(&message.origin) {
                self.foreign += 1;
                return Ok(());
            }
            return Err(format!("a message was delivered that nobody said: {}", message.id));
        };
        if message.parts.len() != 1 || *message.body() != said.body {
            return Err(format!("a message was delivered altered: {}", message.id));
        }
        if !said.hear(node) {
            return Err(format!("a message was delivered twice: {}", message.id));
        }
        let after = u32::try_from(at.since(said.at).as_micros()).unwrap_or(u32::MAX);
        said.after.push((node.index() as u32, after));
        said.last_hop = said.last_hop.max(message.hops + 1);
        Ok(())
    }
}

/// Writes the ledger while the simulation runs.
#[derive(Clone, Debug)]
pub(crate) struct Clerk(pub(crate) Rc<RefCell<Ledger>>);

impl Watch<Role<MeshMachine>> for Clerk {
    fn emitted(&mut self, at: Instant, node: NodeId, event: MeshEvent) -> Option<MeshEvent> {
        let mut ledger = self.0.borrow_mut();
        match event {
            MeshEvent::Message(message) => {
                if let Err(wrong) = ledger.hear(at, node, &message) {
                    ledger.wrong.get_or_insert(wrong);
                }
            }
            MeshEvent::Missed { missed, .. } => ledger.missed += missed,
            _ => {}
        }
        None
    }

    fn started(&mut self, _: Instant, node: NodeId) {
        self.0.borrow_mut().forget(node);
    }

    fn called(&mut self, _: Instant, _: NodeId, _: &Role<MeshMachine>) -> Result<(), String> {
        self.0.borrow_mut().wrong.take().map_or(Ok(()), Err)
    }
}
