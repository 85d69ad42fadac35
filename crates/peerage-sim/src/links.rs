//! The link table: which links there are, as each end sees them, who holds them, and what their queues hold. Knows
//! nothing of machines, of messages' contents, or of what happens when.

use std::time::Duration;

use peerage_machine::{Class, Direction, Instant, LinkId, Why};

use crate::wire::Wired;
use crate::{NodeId, Region};

/// How many bytes of control messages one direction of a link queues.
pub(crate) const CONTROL_QUEUE: u64 = 256 * 1024;
/// The longest control message.
pub(crate) const CONTROL_MESSAGE: u64 = 64 * 1024;

/// Names a link of the table. Names of links that are gone lead nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LinkKey {
    slot: u32,
    generation: u32,
}

/// One of the two ends of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    Dialer,
    Acceptor,
}

impl Side {
    pub(crate) const BOTH: [Self; 2] = [Self::Dialer, Self::Acceptor];

    pub(crate) const fn other(self) -> Self {
        match self {
            Self::Dialer => Self::Acceptor,
            Self::Acceptor => Self::Dialer,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The machine may use it.
    Up,
    /// The machine closed it and waits for its `Down`.
    Closing,
    /// The machine has seen its `Down`, or is no more.
    Ended,
}

/// One end's view.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) node: NodeId,
    pub(crate) id: LinkId,
    pub(crate) direction: Direction,
    pub(crate) phase: Phase,
    pub(crate) held: bool,
    /// Bytes that this end sent and that have not arrived: interactive and bulk.
    queued: u64,
    /// The same of control messages.
    control: u64,
    /// When this end's transmitter is done, by class.
    sending: [Instant; 3],
    /// When what was sent last arrives at the other end, by class.
    arrives: [Instant; 3],
    /// Nothing that this end sent arrives after this.
    cut: Option<Instant>,
    /// What the other end did, by this one's count.
    pub(crate) faults: u32,
    /// Why this end will be down, once that is under way.
    pub(crate) leaving: Option<Box<Why>>,
    /// Which start of its node this end belongs to.
    pub(crate) epoch: u32,
}

impl End {
    fn new(node: NodeId, id: LinkId, direction: Direction, now: Instant) -> Self {
        Self {
            node,
            id,
            direction,
            phase: Phase::Up,
            held: false,
            queued: 0,
            control: 0,
            sending: [now; 3],
            arrives: [now; 3],
            cut: None,
            faults: 0,
            leaving: None,
            epoch: 0,
        }
    }

    /// When everything that this end sent has arrived.
    pub(crate) fn flushed(&self) -> Instant {
        let [a, b, c] = self.arrives;
        a.max(b).max(c)
    }
}

#[derive(Debug)]
pub(crate) struct Link {
    dialer: End,
    acceptor: End,
    pub(crate) latency: Duration,
    pub(crate) since: Instant,
    /// Where its ends are.
    pub(crate) regions: [Region; 2],
    /// Its two ends as links of their own, where bytes are moved.
    pub(crate) wired: Option<Box<Wired>>,
    /// Not closing at either end, nor lost.
    alive: bool,
    /// How often the link became unheld.
    unheld: u64,
}

impl Link {
    pub(crate) fn end(&self, side: Side) -> &End {
        match side {
            Side::Dialer => &self.dialer,
            Side::Acceptor => &self.acceptor,
        }
    }

    pub(crate) fn end_mut(&mut self, side: Side) -> &mut End {
        match side {
            Side::Dialer => &mut self.dialer,
            Side::Acceptor => &mut self.acceptor,
        }
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.alive
    }

    /// Takes a message of `size` bytes into the queue of this side, or says why not.
    pub(crate) fn enqueue(&mut self, side: Side, class: Class, size: u64, limits: Limits) -> Result<(), Why> {
        let end = self.end_mut(side);
        if end.phase != Phase::Up {
            return Err(Why::NotUp);
        }
        let (queued, limit, longest) = match class {
            Class::Control => (&mut end.control, CONTROL_QUEUE, CONTROL_MESSAGE.min(limits.max_message)),
            Class::Interactive | Class::Bulk => (&mut end.queued, limits.credit, limits.max_message),
        };
        if size > longest {
            return Err(Why::TooLarge { size, limit: longest });
        }
        // Alone, a message may be longer than the queue: otherwise it could never be sent.
        if *queued > 0 && queued.saturating_add(size) > limit {
            return Err(Why::Full { queued: *queued, limit });
        }
        *queued += size;
        Ok(())
    }

    /// When a message of this side, handed over now, arrives: after those of its class that were sent before.
    pub(crate) fn arrival(
        &mut self,
        side: Side,
        class: Class,
        now: Instant,
        sending: Duration,
        jitter: Duration,
    ) -> Instant {
        let latency = self.latency;
        let end = self.end_mut(side);
        let [interactive, control, bulk] = &mut end.sending;
        let free = match class {
            Class::Control => *control,
            Class::Interactive => (*interactive).max(*control),
            Class::Bulk => (*bulk).max(*interactive).max(*control),
        };
        let sent = free.max(now) + sending;
        let [arrives_interactive, arrives_control, arrives_bulk] = &mut end.arrives;
        let (busy, last) = match class {
            Class::Interactive => (interactive, arrives_interactive),
            Class::Control => (control, arrives_control),
            Class::Bulk => (bulk, arrives_bulk),
        };
        *busy = sent;
        *last = (sent + latency + jitter).max(*last);
        *last
    }

    /// A message of `size` bytes from this side arrived: its room is free again.
    pub(crate) fn dequeue(&mut self, side: Side, class: Class, size: u64) {
        let end = self.end_mut(side);
        let queued = match class {
            Class::Control => &mut end.control,
            Class::Interactive | Class::Bulk => &mut end.queued,
        };
        *queued = queued.saturating_sub(size);
    }

    /// Whether what this side sent, and what arrives at `at`, does arrive.
    pub(crate) fn carries(&self, side: Side, at: Instant) -> bool {
        self.end(side).cut.is_none_or(|cut| at <= cut) && self.end(side.other()).phase == Phase::Up
    }

    /// When the stream of this side takes bytes again.
    pub(crate) fn writable_at(&self, side: Side) -> Instant {
        let [interactive, ..] = self.end(side).sending;
        interactive
    }

    /// What this side sends from now on leaves after `until` at the earliest.
    pub(crate) fn stall(&mut self, side: Side, until: Instant) {
        let end = self.end_mut(side);
        for busy in &mut end.sending {
            *busy = (*busy).max(until);
        }
    }

    /// Nothing that this side sent arrives after `at`.
    pub(crate) fn cut(&mut self, side: Side, at: Instant) {
        let end = self.end_mut(side);
        end.cut = Some(end.cut.map_or(at, |cut| cut.min(at)));
    }

    /// Changes whether this side holds the link. When this leaves it unheld: the number of this occasion.
    pub(crate) fn hold(&mut self, side: Side, held: bool) -> Option<u64> {
        let changed = self.end(side).held != held;
        self.end_mut(side).held = held;
        if changed && !self.is_held() {
            self.unheld += 1;
            return Some(self.unheld);
        }
        None
    }

    fn is_held(&self) -> bool {
        self.dialer.held || self.acceptor.held
    }

    /// Whether the link has been unheld ever since that occasion.
    pub(crate) fn unheld_since(&self, occasion: u64) -> bool {
        self.unheld == occasion && !self.is_held()
    }
}

/// What one direction of a link takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) credit: u64,
    pub(crate) max_message: u64,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    link: Option<Link>,
}

/// The links of one node, as it sees them.
#[derive(Debug, Default)]
struct View {
    given: u64,
    /// The newest last. A handful: one after the other is faster than any map, and a quarter of its memory.
    seen: Vec<Seen>,
}

/// A link, as one node knows it.
#[derive(Clone, Copy, Debug)]
struct Seen {
    id: LinkId,
    key: LinkKey,
    side: Side,
    peer: NodeId,
}

impl View {
    fn get(&self, id: LinkId) -> Option<&Seen> {
        self.seen.iter().find(|seen| seen.id == id)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Links {
    slots: Vec<Slot>,
    free: Vec<u32>,
    views: Vec<View>,
}

impl Links {
    /// Room for the links of one more node.
    pub(crate) fn add_node(&mut self) {
        self.views.push(View::default());
    }

    /// A new link. Where an end sees another one to the same node, this is the one from now on.
    pub(crate) fn open(
        &mut self,
        dialer: NodeId,
        acceptor: NodeId,
        latency: Duration,
        now: Instant,
    ) -> LinkKey {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            (self.slots.len() - 1) as u32
        });
        let generation = self.slots.get(slot as usize).map_or(0, |slot| slot.generation);
        let key = LinkKey { slot, generation };
        let at_dialer = self.see(dialer, acceptor, key, Side::Dialer);
        let at_acceptor = self.see(acceptor, dialer, key, Side::Acceptor);
        if let Some(slot) = self.slots.get_mut(slot as usize) {
            slot.link = Some(Link {
                dialer: End::new(dialer, at_dialer, Direction::Outbound, now),
                acceptor: End::new(acceptor, at_acceptor, Direction::Inbound, now),
                latency,
                since: now,
                regions: [Region::default(); 2],
                wired: None,
                alive: true,
                unheld: 0,
            });
        }
        key
    }

    fn see(&mut self, node: NodeId, peer: NodeId, key: LinkKey, side: Side) -> LinkId {
        let Some(view) = self.views.get_mut(node.index()) else { return LinkId(0) };
        let id = LinkId(view.given);
        view.given += 1;
        view.seen.push(Seen { id, key, side, peer });
        id
    }

    pub(crate) fn get(&self, key: LinkKey) -> Option<&Link> {
        self.slots.get(key.slot as usize).filter(|slot| slot.generation == key.generation)?.link.as_ref()
    }

    pub(crate) fn get_mut(&mut self, key: LinkKey) -> Option<&mut Link> {
        self.slots.get_mut(key.slot as usize).filter(|slot| slot.generation == key.generation)?.link.as_mut()
    }

    /// The link that the node knows by this name.
    pub(crate) fn find(&self, node: NodeId, id: LinkId) -> Option<(LinkKey, Side)> {
        self.views.get(node.index())?.get(id).map(|seen| (seen.key, seen.side))
    }

    /// The links to the peer that the node sees, whatever their phase, the newest last.
    pub(crate) fn to(
        &self,
        node: NodeId,
        peer: NodeId,
    ) -> impl DoubleEndedIterator<Item = (LinkKey, Side, LinkId)> {
        let seen = self.views.get(node.index()).map_or(&[][..], |view| &view.seen);
        seen.iter().filter(move |seen| seen.peer == peer).map(|seen| (seen.key, seen.side, seen.id))
    }

    /// The newest link to the peer that the node may use.
    pub(crate) fn up(&self, node: NodeId, peer: NodeId) -> Option<(LinkKey, Side, LinkId)> {
        let is_up = |(key, side, _): &(LinkKey, Side, LinkId)| {
            self.get(*key).is_some_and(|link| link.end(*side).phase == Phase::Up)
        };
        self.to(node, peer).rev().find(is_up)
    }

    /// The links that the node sees, in the order in which they came up.
    pub(crate) fn of(&self, node: NodeId) -> Vec<(LinkId, LinkKey, Side)> {
        let seen = self.views.get(node.index()).map_or(&[][..], |view| &view.seen);
        seen.iter().map(|seen| (seen.id, seen.key, seen.side)).collect()
    }

    /// Every link, in the order of the table.
    pub(crate) fn all(&self) -> Vec<LinkKey> {
        let keys = self.slots.iter().enumerate().filter(|(_, slot)| slot.link.is_some());
        keys.map(|(index, slot)| LinkKey { slot: index as u32, generation: slot.generation }).collect()
    }

    /// The link is on its way out at both ends: a new one between them may come up.
    pub(crate) fn doom(&mut self, key: LinkKey) {
        if let Some(link) = self.get_mut(key) {
            link.alive = false;
        }
    }

    /// The end is gone from its node's view. False when it was before.
    pub(crate) fn end(&mut self, key: LinkKey, side: Side) -> bool {
        let Some(link) = self.get_mut(key) else { return false };
        link.alive = false;
        let end = link.end_mut(side);
        if end.phase == Phase::Ended {
            return false;
        }
        end.phase = Phase::Ended;
        let (node, id) = (end.node, end.id);
        let gone = link.end(side.other()).phase == Phase::Ended;
        if let Some(view) = self.views.get_mut(node.index()) {
            view.seen.retain(|seen| seen.id != id);
        }
        if gone && let Some(slot) = self.slots.get_mut(key.slot as usize) {
            slot.link = None;
            slot.generation = slot.generation.wrapping_add(1);
            self.free.push(key.slot);
        }
        true
    }
}
