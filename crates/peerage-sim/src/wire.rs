//! Links as they are on real connections: bytes, through two `peerage_link` machines.

use std::fmt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use peerage_link::{Link, LinkEvent, Setup};
use peerage_machine::{Class, Direction, Incarnation, Input, Instant, Machine, Message as _, Why};
use peerage_wire::hello::Instance;
use peerage_wire::{Address, PeerId};

use crate::Sim;
use crate::links::{LinkKey, Side};
use crate::sim::Happening;

/// What one write to a socket takes, as in `peerage-net`.
const WRITE: usize = 64 << 10;
/// Steps in which two ends that agree are through their handshake many times over.
const HANDSHAKE: usize = 64;

/// Has a simulation move bytes: each link is a pair of [`peerage_link::Link`]s, with handshake, records, fragments, credit
/// and pings, on a stream with the network's latency, bandwidth and stalls. For hundreds of nodes: a handshake costs half
/// a millisecond, a message some microseconds.
#[derive(Clone)]
pub struct Wire {
    setup: Arc<dyn Fn(WireEnd) -> Setup + Send + Sync>,
    handshake: bool,
}

/// One end of a connection, for which a link is to be set up.
#[derive(Clone, Debug)]
pub struct WireEnd {
    /// Whose end it is.
    pub peer: PeerId,
    /// Who is at the other end.
    pub other: PeerId,
    /// Who dialled.
    pub direction: Direction,
    /// This start of the node.
    pub incarnation: Incarnation,
    /// Where the node listens.
    pub addresses: Vec<Address>,
    /// The one instance that it runs: the setup's only one.
    pub instance: Instance,
    /// For the handshake.
    pub entropy: [u8; 32],
}

impl Wire {
    /// Links are set up like this. Simulated nodes have no secrets: who knows their identities does.
    pub fn new(setup: impl Fn(WireEnd) -> Setup + Send + Sync + 'static) -> Self {
        Self { setup: Arc::new(setup), handshake: true }
    }

    /// The same without a handshake: each end knows what the other one would have said ([`Link::pair`]). A link then costs
    /// some microseconds.
    #[must_use]
    pub fn without_handshake(self) -> Self {
        Self { handshake: false, ..self }
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.handshake { "Wire(…)" } else { "Wire(without handshake, …)" })
    }
}

/// The two links of one connection.
pub(crate) struct Wired {
    dialer: Half,
    acceptor: Half,
}

struct Half {
    link: Link,
    /// Arrived, and not taken yet.
    input: BytesMut,
    timer_at: Option<Instant>,
    /// It will go on when the call that it was given something in is over, or when the stream takes more.
    waits: bool,
}

impl Wired {
    /// Both ends, shaken hands. The time that took is the dial's.
    fn join(dialer: Setup, acceptor: Setup, handshake: bool, now: Instant) -> Result<Self, String> {
        let (dialer, acceptor) = if handshake {
            (Link::new(dialer, now), Link::new(acceptor, now))
        } else {
            Link::pair(dialer, acceptor, now).map_err(|why| why.to_string())?
        };
        let half = |link| Half { link, input: BytesMut::new(), timer_at: None, waits: false };
        let mut wired = Self { dialer: half(dialer), acceptor: half(acceptor) };
        let mut up = [false; 2];
        for _ in 0..HANDSHAKE {
            for (side, up) in Side::BOTH.into_iter().zip(&mut up) {
                let mut said = BytesMut::new();
                wired.half_mut(side).link.transmit(&mut said, WRITE);
                wired.half_mut(side.other()).input.unsplit(said);
                let half = wired.half_mut(side);
                half.receive(now);
                while let Some(event) = half.link.poll_event() {
                    match event {
                        LinkEvent::Greeted(_) => half.link.admit(),
                        LinkEvent::ChannelUp { .. } => *up = true,
                        LinkEvent::Closed(why) => return Err(why.to_string()),
                        LinkEvent::ChannelRefused { refusal, .. } => return Err(refusal.to_string()),
                        _ => {}
                    }
                }
            }
            if up == [true; 2] {
                return Ok(wired);
            }
        }
        Err("the handshake came to no end".to_owned())
    }

    fn half_mut(&mut self, side: Side) -> &mut Half {
        match side {
            Side::Dialer => &mut self.dialer,
            Side::Acceptor => &mut self.acceptor,
        }
    }
}

impl Half {
    /// Offers what has arrived; whether any of it was taken.
    fn receive(&mut self, now: Instant) -> bool {
        let used = self.link.receive(now, &mut self.input);
        let _ = self.input.split_to(used);
        used > 0
    }
}

impl fmt::Debug for Wired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wired(…)")
    }
}

impl<M: Machine> Sim<M> {
    /// The two ends of a link that has just come up, joined.
    #[expect(clippy::panic, reason = "a scenario whose links cannot agree is wrong, and says so")]
    pub(crate) fn wire(&mut self, key: LinkKey) {
        let Some(Wire { setup, handshake }) = self.config.wire.clone() else { return };
        let now = self.now;
        let Some(nodes) = self.links.get(key).map(|link| Side::BOTH.map(|side| link.end(side).node)) else {
            return;
        };
        let [dialer, acceptor] = nodes;
        let mut end = |node, other, direction| {
            let entropy = self.rng.bytes();
            let (node, other) = (self.get(node), self.get(other));
            let instance = Instance {
                protocol: node.instance.name.protocol.clone(),
                name: node.instance.name.name.clone(),
                version: node.instance.version,
                parameters: node.instance.parameters.clone(),
            };
            let (peer, other, incarnation) = (node.peer, other.peer, node.incarnation);
            let addresses = node.addresses.clone();
            setup(WireEnd { peer, other, direction, incarnation, addresses, instance, entropy })
        };
        let (outbound, inbound) =
            (end(dialer, acceptor, Direction::Outbound), end(acceptor, dialer, Direction::Inbound));
        match Wired::join(outbound, inbound, handshake, now) {
            Ok(wired) => {
                if let Some(link) = self.links.get_mut(key) {
                    link.wired = Some(Box::new(wired));
                }
                Side::BOTH.into_iter().for_each(|side| self.pump(key, side));
            }
            Err(why) => panic!("{dialer} and {acceptor} are set up so that they have no link: {why}"),
        }
    }

    /// Gives a message to the link of this side, which writes when the machine's call is over: what the link then has to
    /// tell would be a call within the call, whose effects would overtake the rest of these.
    pub(crate) fn send_bytes(
        &mut self,
        key: LinkKey,
        side: Side,
        class: Class,
        message: Bytes,
    ) -> Result<(), Why> {
        let wired = self.links.get_mut(key).and_then(|link| link.wired.as_mut()).ok_or(Why::NotUp)?;
        let half = wired.half_mut(side);
        half.link.send(0, class, message)?;
        if !std::mem::replace(&mut half.waits, true) {
            self.schedule(self.now, Happening::Writable { link: key, side });
        }
        Ok(())
    }

    /// Has this side's link write as much as the stream takes.
    pub(crate) fn pump(&mut self, key: LinkKey, side: Side) {
        let now = self.now;
        loop {
            let Some(entry) = self.links.get_mut(key) else { return };
            let free = entry.writable_at(side);
            let Some(half) = entry.wired.as_mut().map(|wired| wired.half_mut(side)) else { return };
            if !half.link.has_work() {
                break;
            }
            if free > now {
                if !std::mem::replace(&mut half.waits, true) {
                    self.schedule(free, Happening::Writable { link: key, side });
                }
                break;
            }
            let mut bytes = BytesMut::new();
            half.link.transmit(&mut bytes, WRITE);
            if bytes.is_empty() {
                break;
            }
            if let Some(at) = self.arrival(key, side, Class::Interactive, bytes.len() as u64) {
                self.schedule(at, Happening::Bytes { link: key, from: side, bytes });
            }
        }
        self.hear(key, side);
        self.arm_wire(key, side);
    }

    pub(crate) fn writable(&mut self, key: LinkKey, side: Side) {
        if let Some(wired) = self.links.get_mut(key).and_then(|link| link.wired.as_mut()) {
            wired.half_mut(side).waits = false;
            self.pump(key, side);
        }
    }

    /// Bytes arrive, or would have.
    pub(crate) fn bytes_arrive(&mut self, key: LinkKey, from: Side, bytes: BytesMut) {
        let (now, to) = (self.now, from.other());
        let Some(link) = self.links.get_mut(key).filter(|link| link.carries(from, now)) else { return };
        let Some(wired) = link.wired.as_mut() else { return };
        wired.half_mut(to).input.unsplit(bytes);
        loop {
            let half =
                self.links.get_mut(key).and_then(|link| link.wired.as_mut()).map(|wired| wired.half_mut(to));
            if !half.is_some_and(|half| half.receive(now)) {
                break;
            }
            self.hear(key, to);
        }
        self.pump(key, to);
    }

    pub(crate) fn wire_timer(&mut self, key: LinkKey, side: Side) {
        let now = self.now;
        let Some(wired) = self.links.get_mut(key).and_then(|link| link.wired.as_mut()) else { return };
        let half = wired.half_mut(side);
        if half.timer_at != Some(now) {
            return;
        }
        half.timer_at = None;
        if half.link.deadline().is_some_and(|at| at <= now) {
            half.link.on_timer(now);
        }
        self.pump(key, side);
    }

    fn arm_wire(&mut self, key: LinkKey, side: Side) {
        let now = self.now;
        let Some(wired) = self.links.get_mut(key).and_then(|link| link.wired.as_mut()) else { return };
        let half = wired.half_mut(side);
        let Some(at) = half.link.deadline().map(|at| at.max(now.next())) else { return };
        if half.timer_at.is_none_or(|earlier| at < earlier) {
            half.timer_at = Some(at);
            self.schedule(at, Happening::WireTimer { link: key, side });
        }
    }

    /// What this side's link tells its host.
    fn hear(&mut self, key: LinkKey, side: Side) {
        loop {
            let Some(link) = self.links.get_mut(key) else { return };
            let (node, id, latency) = (link.end(side).node, link.end(side).id, link.latency);
            let other = link.end(side.other()).node;
            let Some(event) = link.wired.as_mut().and_then(|wired| wired.half_mut(side).link.poll_event())
            else {
                return;
            };
            match event {
                LinkEvent::Message { message, .. } => {
                    let size = message.len() as u64;
                    match M::Message::decode(message) {
                        Ok(message) => self.hand_over(node, id, Class::Interactive, size, message),
                        Err(why) => self.malformed(other, node, id, &why),
                    }
                }
                LinkEvent::Room { class, bytes, .. } => {
                    link.dequeue(side, class, bytes);
                    self.show_drained(node, other, class, bytes);
                    if class != Class::Control {
                        self.tell(node, self.now, Input::Credit { link: id, class, bytes });
                    }
                }
                LinkEvent::Rtt(rtt) => self.tell(node, self.now, Input::Rtt { link: id, rtt }),
                LinkEvent::Closed(why) | LinkEvent::ChannelDown { why, .. } => {
                    self.links.doom(key);
                    self.down_at(self.now, key, side, why);
                    let why = Why::Lost("the other end closed the connection".to_owned());
                    self.down_at(self.now + latency, key, side.other(), why);
                }
                _ => {}
            }
        }
    }
}
