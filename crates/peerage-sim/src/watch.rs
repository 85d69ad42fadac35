//! Who looks on.

use std::fmt;

use peerage_machine::{Instant, Machine};

use crate::{NodeId, Sim};

/// Sees what happens while it happens: a ledger of deliveries, or an invariant that is checked after every event.
pub trait Watch<M: Machine> {
    /// A machine tells the application something. What is given back is kept for [`Sim::take_events`].
    fn emitted(&mut self, at: Instant, node: NodeId, event: M::Event) -> Option<M::Event> {
        let _ = (at, node);
        Some(event)
    }

    /// A node has a new machine, at its first start or after a restart.
    fn started(&mut self, at: Instant, node: NodeId) {
        let _ = (at, node);
    }

    /// A machine was called, and what it wanted is carried out.
    ///
    /// # Errors
    /// What must never be, and is: the simulation stops there ([`Sim::violation`]).
    fn called(&mut self, at: Instant, node: NodeId, machine: &M) -> Result<(), String> {
        let _ = (at, node, machine);
        Ok(())
    }
}

/// Something that must never be, as a [`Watch`] found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// When.
    pub at: Instant,
    /// Whose call it was found after.
    pub node: NodeId,
    /// What.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {:?}, at {}: {}", self.at, self.node, self.what)
    }
}

impl<M: Machine> Sim<M> {
    /// Has everything seen by one more who looks on, from now on. What one of them keeps an event for, the others do
    /// not see, so that those who take events come last.
    pub fn watch(&mut self, watch: impl Watch<M> + 'static) {
        self.watches.push(Box::new(watch));
    }

    /// What must never be, and was found: nothing happened since.
    pub fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    pub(crate) fn show_start(&mut self, node: NodeId) {
        let at = self.now;
        self.watches.iter_mut().for_each(|watch| watch.started(at, node));
    }

    /// The event, unless somebody keeps it.
    pub(crate) fn show(&mut self, node: NodeId, event: M::Event) -> Option<M::Event> {
        let at = self.now;
        self.watches.iter_mut().try_fold(event, |event, watch| watch.emitted(at, node, event))
    }

    pub(crate) fn check(&mut self, node: NodeId) {
        if self.watches.is_empty() || self.violation.is_some() {
            return;
        }
        let at = self.now;
        let Some(machine) = self.nodes.get(node.index()).and_then(|node| node.machine.as_ref()) else {
            return;
        };
        let wrong = self.watches.iter_mut().find_map(|watch| watch.called(at, node, machine).err());
        self.violation = wrong.map(|what| Violation { at, node, what });
    }
}
