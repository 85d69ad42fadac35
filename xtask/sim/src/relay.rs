//! Nobody waits for a slow peer: what a peer has taken is on its way to all of its neighbours that lack it as soon as the
//! time is over in which announcements are gathered, whatever becomes of another neighbour's link. While it takes messages in
//! quick succession that is the longer time in which they may wait for pushes.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use peerage_machine::{Class, Instant};
use peerage_overlay::{MeshConfig, MeshEvent, MeshMachine, MessageId, Packet};
use peerage_sim::{NodeId, Role, Sent, Watch};

use crate::ledger::Ledger;

/// How long a link that refused something is left alone by a peer.
const PAUSE: Duration = Duration::from_millis(200);

/// Messages within [`MeshConfig::announce_after`] from which on they come in quick succession.
const QUICK: usize = 3;

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

/// A peer, whether or not it runs.
#[derive(Clone, Debug, Default)]
struct Peer {
    /// When it last started.
    started: Instant,
    neighbours: Vec<Neighbour>,
    /// When it took the messages that may still matter to whether they came in quick succession.
    taken: VecDeque<Instant>,
}

impl Peer {
    /// Whether as many messages came in the time before this, or after, that the next flush may have been let pass.
    fn took_quickly(&mut self, at: Instant, gathered: Duration) -> bool {
        while self.taken.front().is_some_and(|first| *first + gathered < at) {
            self.taken.pop_front();
        }
        self.taken.iter().take_while(|it| **it <= at + gathered).nth(QUICK - 1).is_some()
    }
}

/// What a peer has taken.
#[derive(Clone, Copy, Debug)]
struct Due {
    at: Instant,
    node: NodeId,
    id: MessageId,
}

/// Who must tell whom.
#[derive(Debug)]
pub(crate) struct Relays {
    ledger: Rc<RefCell<Ledger>>,
    /// How long announcements are gathered, and how long in quick succession.
    gathered: Duration,
    at_most: Duration,
    /// By number.
    peers: Vec<Peer>,
    /// In the order of time: what must have been passed on when announcements have been gathered, and what need not.
    due: VecDeque<Due>,
    patient: VecDeque<Due>,
}

impl Relays {
    /// For meshes of this configuration.
    pub(crate) fn new(ledger: Rc<RefCell<Ledger>>, mesh: &MeshConfig) -> Self {
        Self {
            ledger,
            gathered: mesh.announce_after,
            at_most: mesh.announced_within(),
            peers: Vec::new(),
            due: VecDeque::new(),
            patient: VecDeque::new(),
        }
    }

    /// The node has a message that it did not have.
    pub(crate) fn taken(&mut self, at: Instant, node: NodeId, id: MessageId) {
        self.due.push_back(Due { at, node, id });
        if let Some(peer) = self.peers.get_mut(node.index()) {
            peer.taken.push_back(at);
        }
    }

    fn of(&mut self, node: NodeId) -> Option<&mut Vec<Neighbour>> {
        self.peers.get_mut(node.index()).map(|it| &mut it.neighbours)
    }

    fn check(&mut self, now: Instant) -> Result<(), String> {
        let (gathered, at_most) = (self.gathered, self.at_most);
        while let Some(due) = self.due.front().copied().filter(|it| it.at + gathered < now) {
            self.due.pop_front();
            let peer = self.peers.get_mut(due.node.index());
            if peer.is_some_and(|it| it.took_quickly(due.at, gathered)) {
                self.patient.push_back(due);
            } else {
                self.is_passed_on(due)?;
            }
        }
        while let Some(due) = self.patient.front().copied().filter(|it| it.at + at_most < now) {
            self.patient.pop_front();
            self.is_passed_on(due)?;
        }
        Ok(())
    }

    fn is_passed_on(&self, due: Due) -> Result<(), String> {
        let ledger = self.ledger.borrow();
        let Some(said) = ledger.said.get(&due.id) else { return Ok(()) };
        let neighbours = self.peers.get(due.node.index()).map_or(&[][..], |it| it.neighbours.as_slice());
        let since = |at: Option<Instant>, pause: Duration| at.is_some_and(|at| at + pause >= due.at);
        // Whoever has started anew has forgotten what it heard, and the link of its former life is gone, though the other
        // end may not have noticed: what is told on it is told to nobody.
        let is_former =
            |it: &Neighbour| self.peers.get(it.node.index()).is_some_and(|peer| it.since < peer.started);
        let left_out = neighbours.iter().find(|it| {
            it.since <= due.at
                && !is_former(it)
                && it.node != said.origin
                && it.under_way == 0
                && !since(it.told, Duration::ZERO)
                && !since(it.refused, PAUSE)
                && !said.was_heard_by(it.node)
        });
        left_out.map_or(Ok(()), |left_out| {
            Err(format!(
                "{} keeps {} from {}, whose link takes it, since {:?}",
                due.node, due.id, left_out.node, due.at
            ))
        })
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

    fn started(&mut self, at: Instant, node: NodeId) {
        let peers = &mut self.0.borrow_mut().peers;
        if peers.len() <= node.index() {
            peers.resize(node.index() + 1, Peer::default());
        }
        if let Some(peer) = peers.get_mut(node.index()) {
            peer.started = at;
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use peerage_sim::Config;
    use peerage_wire::PeerId;

    use super::*;
    use crate::progress::Progress;
    use crate::world::{Fidelity, World};

    fn at(millis: u64) -> Instant {
        Instant::START + Duration::from_millis(millis)
    }

    /// When a peer is said to keep something that takes messages then, and tells its neighbour nothing.
    fn said_to_keep(taken: &[u64]) -> Option<u64> {
        let mesh = MeshConfig::named("relay");
        let mut world = World::new(Config::seeded(1), mesh.clone(), 0, Fidelity::Values, Progress::Silent);
        let [node, other, origin] = [world.add(), world.add(), world.add()];
        let ledger = Rc::new(RefCell::new(Ledger::default()));
        let mut relays = Relays::new(Rc::clone(&ledger), &mesh);
        relays.peers = vec![Peer::default(); 3];
        let since = at(0);
        let neighbour = Neighbour { node: other, since, told: None, refused: None, under_way: 0 };
        relays.of(node).unwrap().push(neighbour);
        let mut taken = taken.iter().copied().zip(1..).peekable();
        (0..1000).find(|now| {
            if let Some((_, seq)) = taken.next_if(|(millis, _)| millis == now) {
                let id = MessageId { origin: PeerId::from_bytes([1; 32]), epoch: 1, seq };
                ledger.borrow_mut().say(id, origin, at(*now), Bytes::new());
                relays.taken(at(*now), node, id);
            }
            relays.check(at(*now)).is_err()
        })
    }

    #[test]
    fn only_in_quick_succession_messages_may_be_kept_for_200_ms() {
        assert_eq!(said_to_keep(&[100]), Some(151));
        assert_eq!(said_to_keep(&[100, 120, 151]), Some(151), "two come in 50 ms");
        assert_eq!(said_to_keep(&[100, 120, 150]), Some(301), "all three come in 50 ms");
        assert_eq!(said_to_keep(&[100, 110, 120, 171]), Some(222), "the fourth comes later");
    }
}
