//! Nobody waits for a slow peer: what a peer has taken is on its way to all of its neighbours that lack it as soon as the
//! time is over in which announcements are gathered at most, whatever becomes of another neighbour's link.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use peerage_machine::{Class, Instant};
use peerage_overlay::{MeshEvent, MeshMachine, MessageId, Packet};
use peerage_sim::{NodeId, Role, Sent, Watch};

use crate::ledger::Ledger;

/// How long a link that refused something is left alone by a peer.
const PAUSE: Duration = Duration::from_millis(200);

/// By what a neighbour hears of a message.
const NEWS: [&str; 3] = ["payload", "announce", "spare"];

/// A neighbour, as a peer has it.
#[derive(Clone, Copy, Debug)]
struct Neighbour {
    node: NodeId,
    since: Instant,
    /// When something was last pushed or announced to it.
    told: Option<Instant>,
    /// When its link refused something.
    refused: Option<Instant>,
    /// Bytes that were pushed and are still on their way: its link has enough to do.
    under_way: u64,
}

/// What a peer has taken and must have passed on by then.
#[derive(Clone, Copy, Debug)]
struct Due {
    by: Instant,
    at: Instant,
    node: NodeId,
    id: MessageId,
}

/// Who must tell whom.
#[derive(Debug)]
pub(crate) struct Relays {
    ledger: Rc<RefCell<Ledger>>,
    within: Duration,
    /// By the number of the peer whose they are.
    neighbours: Vec<Vec<Neighbour>>,
    /// In the order of time.
    due: VecDeque<Due>,
}

impl Relays {
    /// For meshes that gather announcements for so long.
    pub(crate) fn new(ledger: Rc<RefCell<Ledger>>, within: Duration) -> Self {
        Self { ledger, within, neighbours: Vec::new(), due: VecDeque::new() }
    }

    /// The node has a message that it did not have.
    pub(crate) fn taken(&mut self, at: Instant, node: NodeId, id: MessageId) {
        self.due.push_back(Due { by: at + self.within, at, node, id });
    }

    fn of(&mut self, node: NodeId) -> Option<&mut Vec<Neighbour>> {
        self.neighbours.get_mut(node.index())
    }

    fn check(&mut self, now: Instant) -> Result<(), String> {
        while let Some(due) = self.due.front().copied().filter(|due| due.by < now) {
            self.due.pop_front();
            let ledger = self.ledger.borrow();
            let Some(said) = ledger.said.get(&due.id) else { continue };
            let neighbours = self.neighbours.get(due.node.index()).map_or(&[][..], Vec::as_slice);
            let since = |at: Option<Instant>, pause: Duration| at.is_some_and(|at| at + pause >= due.at);
            let left_out = neighbours.iter().find(|it| {
                it.since <= due.at
                    && it.node != said.origin
                    && it.under_way == 0
                    && !since(it.told, Duration::ZERO)
                    && !since(it.refused, PAUSE)
                    && !said.was_heard_by(it.node)
            });
            if let Some(left_out) = left_out {
                return Err(format!(
                    "{} keeps {} from {}, whose link takes it, since {:?}",
                    due.node, due.id, left_out.node, due.at
                ));
            }
        }
        Ok(())
    }
}

/// Looks on for them.
#[derive(Clone, Debug)]
pub(crate) struct Overseer(pub(crate) Rc<RefCell<Relays>>);

impl Watch<Role<MeshMachine>> for Overseer {
    fn emitted(&mut self, at: Instant, node: NodeId, event: MeshEvent) -> Option<MeshEvent> {
        let mut relays = self.0.borrow_mut();
        match &event {
            MeshEvent::Message(message) => relays.taken(at, node, message.id),
            MeshEvent::NeighbourUp { peer } => {
                // Nothing is expected towards attackers: nobody knows what they have.
                let honest = relays.ledger.borrow().honest.get(peer).copied();
                if let (Some(honest), Some(neighbours)) = (honest, relays.of(node)) {
                    neighbours.push(Neighbour {
                        node: honest,
                        since: at,
                        told: None,
                        refused: None,
                        under_way: 0,
                    });
                }
            }
            MeshEvent::NeighbourLost { peer, .. } => {
                let honest = relays.ledger.borrow().honest.get(peer).copied();
                if let Some(neighbours) = relays.of(node) {
                    neighbours.retain(|it| Some(it.node) != honest);
                }
            }
            _ => {}
        }
        Some(event)
    }

    fn started(&mut self, _: Instant, node: NodeId) {
        let neighbours = &mut self.0.borrow_mut().neighbours;
        if neighbours.len() <= node.index() {
            neighbours.resize(node.index() + 1, Vec::new());
        }
    }

    fn stopped(&mut self, _: Instant, node: NodeId) {
        if let Some(neighbours) = self.0.borrow_mut().of(node) {
            neighbours.clear();
        }
    }

    fn sent(&mut self, at: Instant, sent: Sent<'_, Packet>) {
        let news = NEWS.contains(&sent.message.kind());
        let fills = sent.class != Class::Control;
        if !news && !fills && sent.refused.is_none() {
            return;
        }
        let mut relays = self.0.borrow_mut();
        let neighbours = relays.of(sent.from).map(|it| it.iter_mut()).into_iter().flatten();
        for it in neighbours.filter(|it| it.node == sent.to) {
            if sent.refused.is_some() {
                // Whatever it was: the peer then leaves the link alone for a while.
                it.refused = Some(at);
                continue;
            }
            if news {
                it.told = Some(at);
            }
            if fills {
                it.under_way += sent.size;
            }
        }
    }

    fn drained(&mut self, _: Instant, from: NodeId, to: NodeId, bytes: u64) {
        let mut relays = self.0.borrow_mut();
        let neighbours = relays.of(from).map(|it| it.iter_mut()).into_iter().flatten();
        for it in neighbours.filter(|it| it.node == to) {
            // Some of it may be of a time when they were no neighbours.
            it.under_way = it.under_way.saturating_sub(bytes);
        }
    }

    fn called(&mut self, at: Instant, _: NodeId, _: &Role<MeshMachine>) -> Result<(), String> {
        self.0.borrow_mut().check(at)
    }
}
