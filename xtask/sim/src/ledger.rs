//! What was said, who heard it when, and who must have heard it by when.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

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

/// Who has had a neighbour for so long is not cut off from the rest: it is told what there is as soon as it has one.
const TOLD_WITHIN: Duration = Duration::from_secs(5);

/// A message that must have arrived: at whoever is honest, has run since then, and is not alone.
#[derive(Clone, Copy, Debug)]
struct Promise {
    id: MessageId,
    since: Instant,
}

/// How a node is.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    is_honest: bool,
    runs_since: Option<Instant>,
    /// Since when it has had a neighbour.
    connected_since: Option<Instant>,
}

/// Everything that was said, and by whom it was heard. What is heard and was not said, or a second time, or not heard in
/// time, ends the run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) said: BTreeMap<MessageId, Said>,
    /// Who says nothing but what is written here, and which node that is.
    pub(crate) honest: BTreeMap<PeerId, NodeId>,
    /// By number of the node.
    states: Vec<State>,
    /// By when, and what.
    promises: BTreeMap<Instant, Vec<Promise>>,
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

    /// From now on the node is expected to hear what it must, and to say nothing that is not written here.
    pub(crate) fn trust(&mut self, peer: PeerId, node: NodeId, since: Instant) {
        self.honest.insert(peer, node);
        self.set_running(node, Some(since));
        if let Some(state) = self.state(node) {
            state.is_honest = true;
        }
    }

    pub(crate) fn is_honest(&self, node: NodeId) -> bool {
        self.states.get(node.index()).is_some_and(|state| state.is_honest)
    }

    /// These must be with whoever is honest and runs since then, by then.
    pub(crate) fn promise(&mut self, ids: impl IntoIterator<Item = MessageId>, since: Instant, by: Instant) {
        self.promises.entry(by).or_default().extend(ids.into_iter().map(|id| Promise { id, since }));
    }

    /// What should have happened before now, and has not.
    ///
    /// # Errors
    /// A message that did not arrive where it must.
    pub(crate) fn keep_promises(&mut self, now: Instant) -> Result<(), String> {
        while let Some(first) = self.promises.first_entry().filter(|first| *first.key() <= now) {
            for promise in first.remove() {
                self.must_be_everywhere(promise, now)?;
            }
        }
        Ok(())
    }

    fn must_be_everywhere(&self, Promise { id, since }: Promise, now: Instant) -> Result<(), String> {
        let Some(said) = self.said.get(&id) else { return Ok(()) };
        let (mut first, mut lack, mut all) = (None, 0_usize, 0_usize);
        for node in self.honest.values() {
            let Some(state) = self.states.get(node.index()) else { continue };
            let runs = state.runs_since.is_some_and(|at| at <= since);
            let is_told = state.connected_since.is_some_and(|at| at + TOLD_WITHIN <= now);
            if !runs || !is_told || *node == said.origin {
                continue;
            }
            all += 1;
            if !said.was_heard_by(*node) {
                lack += 1;
                first = Some(first.map_or(*node, |first: NodeId| first.min(*node)));
            }
        }
        match first {
            None => Ok(()),
            Some(first) => Err(format!(
                "{lack} of {all} reachable peers, {first} for one, lost {id}, said at {:?}",
                said.at
            )),
        }
    }

    fn state(&mut self, node: NodeId) -> Option<&mut State> {
        if self.states.len() <= node.index() {
            self.states.resize(node.index() + 1, State::default());
        }
        self.states.get_mut(node.index())
    }

    fn set_running(&mut self, node: NodeId, since: Option<Instant>) {
        if let Some(state) = self.state(node) {
            (state.runs_since, state.connected_since) = (since, None);
        }
    }

    fn set_connected(&mut self, node: NodeId, since: Option<Instant>) {
        if let Some(state) = self.state(node) {
            state.connected_since = since;
        }
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
            if !self.honest.contains_key(&message.origin) {
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
            MeshEvent::Connected => ledger.set_connected(node, Some(at)),
            MeshEvent::Isolated => ledger.set_connected(node, None),
            MeshEvent::Missed { missed, .. } => ledger.missed += missed,
            _ => {}
        }
        None
    }

    fn started(&mut self, at: Instant, node: NodeId) {
        let mut ledger = self.0.borrow_mut();
        ledger.forget(node);
        ledger.set_running(node, Some(at));
    }

    fn stopped(&mut self, _: Instant, node: NodeId) {
        self.0.borrow_mut().set_running(node, None);
    }

    fn called(&mut self, at: Instant, _: NodeId, _: &Role<MeshMachine>) -> Result<(), String> {
        let mut ledger = self.0.borrow_mut();
        ledger.wrong.take().map_or(Ok(()), Err)?;
        ledger.keep_promises(at)
    }
}
