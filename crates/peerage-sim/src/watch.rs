//! Who looks on.

use std::fmt;

use peerage_machine::{Class, Instant, LinkId, Machine, Malformed, Why};

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

    /// A node's machine is gone: it crashed, or its program ended.
    fn stopped(&mut self, at: Instant, node: NodeId) {
        let _ = (at, node);
    }

    /// A machine sends a message on a link that it sees, and the link takes it, or not. Called for each link of a send,
    /// before the machine's call is over.
    fn sent(&mut self, at: Instant, sent: Sent<'_, M::Message>) {
        let _ = (at, sent);
    }

    /// So many bytes of what one node sent to another, other than control, have left the link's queue.
    fn drained(&mut self, at: Instant, from: NodeId, to: NodeId, bytes: u64) {
        let _ = (at, from, to, bytes);
    }

    /// What one node's machine sent to another has arrived, and its bytes are no message there. Only where messages are encoded on
    /// their way: [`crate::Config::codec`], [`crate::Config::wire`].
    fn malformed(&mut self, at: Instant, from: NodeId, to: NodeId, why: &Malformed) {
        let _ = (at, from, to, why);
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

/// A message on its way into the queue of a link.
#[derive(Debug)]
pub struct Sent<'a, M> {
    /// Whose machine sends it.
    pub from: NodeId,
    /// Who is at the other end of the link.
    pub to: NodeId,
    /// In which class.
    pub class: Class,
    /// Its bytes as encoded.
    pub size: u64,
    /// What.
    pub message: &'a M,
    /// Why the link does not take it, if it does not.
    pub refused: Option<&'a Why>,
}

impl<M> Clone for Sent<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for Sent<'_, M> {}

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

    pub(crate) fn show_stop(&mut self, node: NodeId) {
        let at = self.now;
        self.watches.iter_mut().for_each(|watch| watch.stopped(at, node));
    }

    pub(crate) fn show_sent(
        &mut self,
        from: NodeId,
        link: LinkId,
        (class, size): (Class, u64),
        message: Option<&M::Message>,
        refused: Option<&Why>,
    ) {
        if self.watches.is_empty() {
            return;
        }
        let at = self.now;
        let to = self
            .links
            .find(from, link)
            .and_then(|(key, side)| self.links.get(key).map(|link| link.end(side.other()).node));
        if let (Some(to), Some(message)) = (to, message) {
            let sent = Sent { from, to, class, size, message, refused };
            self.watches.iter_mut().for_each(|watch| watch.sent(at, sent));
        }
    }

    pub(crate) fn show_drained(&mut self, from: NodeId, to: NodeId, class: Class, bytes: u64) {
        let at = self.now;
        if class != Class::Control {
            self.watches.iter_mut().for_each(|watch| watch.drained(at, from, to, bytes));
        }
    }

    /// Bytes arrived that are no message; if that must never be, nothing happens since.
    pub(crate) fn show_malformed(&mut self, from: NodeId, to: NodeId, why: &Malformed) {
        let at = self.now;
        self.watches.iter_mut().for_each(|watch| watch.malformed(at, from, to, why));
        self.check(from);
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
