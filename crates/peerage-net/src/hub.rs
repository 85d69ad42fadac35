//! Which links there are, which of two to the same peer stays, and what runs on them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use peerage_identity::Identity;
use peerage_link::{Door, LinkConfig, Memory, Shedding};
use peerage_machine::{Direction, Incarnation, LinkId, Seed, Side, Why};
use peerage_wire::hello::{Hello, Instance as WireInstance};
use peerage_wire::preface::Busy;
use peerage_wire::{Address, PeerId};
use tokio::sync::{Notify, watch};

use crate::clock::Clock;
use crate::close::shut_down;
use crate::config::Config;
use crate::cookies::Cookies;
use crate::counters::Counters;
use crate::dropped::Dropped;
use crate::error::HostError;
use crate::hosted::Instance;
use crate::link_handle::{Command, InstanceKey, LinkHandle};
use crate::own::{Own, socket_of};
use crate::places::Places;
use crate::scratch::lock;
use crate::shards::Shards;
use crate::source::Source;
use crate::spec::InstanceSpec;
use crate::transport::Transport;
use crate::waiter::Waiter;

/// What all tasks of an endpoint share.
pub(crate) struct Shared {
    pub(crate) me: PeerId,
    pub(crate) identity: Arc<Identity>,
    pub(crate) incarnation: Incarnation,
    pub(crate) seed: Seed,
    pub(crate) config: Config,
    pub(crate) link_config: Arc<LinkConfig>,
    /// What all links share.
    pub(crate) memory: Memory,
    pub(crate) clock: Clock,
    pub(crate) counters: Counters,
    pub(crate) shards: Shards,
    pub(crate) transports: BTreeMap<&'static str, Arc<dyn Transport>>,
    pub(crate) own: Own,
    pub(crate) hub: Mutex<Hub>,
    /// Whom to ask for a cookie.
    pub(crate) door: Mutex<Door>,
    /// Whom to keep out.
    pub(crate) shedding: Mutex<Shedding<Source>>,
    /// Told whenever somebody is not kept out any more before its time.
    pub(crate) released: Notify,
    /// Those that others asked us for.
    pub(crate) cookies: Mutex<Cookies>,
    /// Set once, by `close` or by the drop of the last handle.
    pub(crate) closing: watch::Sender<bool>,
    /// Told whenever a connection was found good to become a link.
    pub(crate) arrived: Notify,
    /// Set once, by `drain`: no more links.
    pub(crate) draining: AtomicBool,
    /// Told whenever a link is up.
    pub(crate) linked: Notify,
    /// Told whenever a connection's task ends.
    pub(crate) ended: Notify,
}

/// The tables, under one lock that is held for look-ups only. Nobody calls an instance while holding it.
#[derive(Default)]
pub(crate) struct Hub {
    next_link: u64,
    next_instance: u64,
    /// Every connection whose task runs, those in their handshake and those that linger included.
    connections: BTreeMap<LinkId, Arc<LinkHandle>>,
    handshaking_inbound: usize,
    /// Connections from each address, those in their handshake included.
    crowds: BTreeMap<Source, usize>,
    /// Handshakes of those who came with a cookie: what strangers do without one, of whom others may share the address,
    /// takes nothing from them.
    places: Places,
    /// Links that are up, by their peer, the newest last. All but that one are superseded, and stay for instances that coexist.
    links: BTreeMap<PeerId, Vec<Arc<LinkHandle>>>,
    /// What goes once there is a link: of peers to whom a connection is on its way.
    arriving: BTreeMap<PeerId, Arriving>,
    instances: BTreeMap<InstanceKey, Arc<dyn Instance>>,
}

/// How somebody comes to a place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guest {
    /// Nothing is known of it, or we dialled it.
    Stranger,
    /// It showed a cookie, which is asked for while many want in.
    WithCookie,
}

/// Why there is no place, and what a dialer is told when it may know.
pub(crate) struct Refused {
    pub(crate) why: Why,
    pub(crate) busy: Option<Busy>,
}

/// Connections to a peer that are on their way to become links, one at least.
#[derive(Default)]
struct Arriving {
    /// Admitted by us, not yet up.
    pending: Vec<Arc<LinkHandle>>,
    waiters: Vec<Waiter>,
}

impl Hub {
    /// The link to the peer, but for instances that have older ones too.
    fn current(&self, peer: PeerId) -> Option<&Arc<LinkHandle>> {
        self.links.get(&peer)?.iter().rev().find(|link| !link.is_superseded())
    }

    /// What waits for a link to the peer, when a connection is no longer on its way to become one. Others may be.
    fn arrived(&mut self, peer: PeerId, id: LinkId) -> Option<&mut Arriving> {
        let arriving = self.arriving.get_mut(&peer)?;
        arriving.pending.retain(|pending| pending.id != id);
        Some(arriving)
    }

    /// Nothing is on its way to the peer; those who waited for it.
    fn none_arrives(&mut self, peer: PeerId) -> Vec<Waiter> {
        let waiters = self.arriving.remove(&peer).map(|arriving| arriving.waiters);
        if self.arriving.is_empty() {
            // A map that has been emptied keeps a node.
            self.arriving = BTreeMap::new();
        }
        waiters.unwrap_or_default()
    }
}

/// Whether a connection should become a link.
pub(crate) enum Verdict {
    Admit,
    Refuse(Why),
    /// This link is in its way, if its peer still has it.
    Ask(Arc<LinkHandle>),
}

/// What becomes of a connection that is up.
#[derive(Default)]
pub(crate) struct Established {
    /// The links that it replaces, and why they end.
    pub(crate) replaced: Vec<(Arc<LinkHandle>, Why)>,
    /// Links to another incarnation that stay for the instances that want it.
    pub(crate) superseded: Vec<Arc<LinkHandle>>,
    /// Whether it ends as a duplicate instead.
    pub(crate) gives_way: bool,
    /// Dials that waited for a link to the peer.
    pub(crate) waiters: Vec<Waiter>,
}

/// A place among the endpoint's connections, and what to say on it.
pub(crate) struct Seat {
    pub(crate) handle: Arc<LinkHandle>,
    pub(crate) guest: Guest,
    pub(crate) instances: Vec<(Arc<dyn Instance>, WireInstance)>,
    /// What the dialer has said already.
    pub(crate) heard: Vec<u8>,
}

impl Shared {
    pub(crate) fn is_closing(&self) -> bool {
        *self.closing.borrow()
    }

    /// Whether there are to be no more links than there are.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst) || self.is_closing()
    }

    /// Whether a link is up.
    pub(crate) fn has_link(&self) -> bool {
        let hub = lock(&self.hub);
        hub.connections.values().any(|link| link.up.load(Ordering::SeqCst) && !link.is_detached())
    }

    /// Whether a link to somebody at this address is up.
    pub(crate) fn has_link_to(&self, source: Source) -> bool {
        let is_there =
            |link: &LinkHandle| socket_of(&link.remote).is_some_and(|at| Source::from(at.ip()) == source);
        let hub = lock(&self.hub);
        hub.connections.values().any(|link| link.up.load(Ordering::SeqCst) && is_there(link))
    }

    /// Returns when the endpoint begins to close.
    pub(crate) async fn until_closing(&self) {
        // An error would mean that the sender is gone, and that is in `self`.
        let _ = self.closing.subscribe().wait_for(|closing| *closing).await;
    }

    /// Whether one more stranger may begin a handshake without a cookie.
    pub(crate) fn lets_strangers_in(&self) -> bool {
        let half_open = lock(&self.hub).handshaking_inbound;
        lock(&self.door).is_open(self.clock.mono(), half_open)
    }

    /// A place for one more connection.
    pub(crate) fn seat(
        &self,
        direction: Direction,
        remote: Address,
        ip: Option<IpAddr>,
        guest: Guest,
    ) -> Result<Seat, Refused> {
        let limit = |counted: Dropped, busy: Busy, what: &str, limit: usize| {
            self.counters.dropped(counted, 1);
            let why = Why::Limit { by: Side::Us, what: format!("{limit} {what}") };
            Err(Refused { why, busy: Some(busy) })
        };
        let config = &self.config;
        let mut hub = lock(&self.hub);
        // Under the lock: whoever closes the endpoint then finds every connection in the table.
        if self.is_draining() {
            let why = shut_down();
            return Err(Refused { why, busy: None });
        }
        if hub.connections.len() >= config.max_links {
            return limit(Dropped::Links, Busy::Links, "links", config.max_links);
        }
        if direction == Direction::Inbound {
            if hub.handshaking_inbound >= config.max_handshakes {
                return limit(Dropped::Handshakes, Busy::Handshakes, "handshakes", config.max_handshakes);
            }
            if let Some(ip) = ip {
                let source = Source::from(ip);
                let most = config.max_inbound_per_address;
                if hub.crowds.get(&source).copied().unwrap_or_default() >= most {
                    return limit(Dropped::Address, Busy::Address, "links from one address", most);
                }
                let free = config.max_handshakes - hub.handshaking_inbound;
                let most = config.max_handshakes_per_address;
                if guest == Guest::WithCookie && !hub.places.take(source, free, most) {
                    return limit(
                        Dropped::AddressHandshakes,
                        Busy::Address,
                        "handshakes from one address",
                        most,
                    );
                }
                *hub.crowds.entry(source).or_default() += 1;
            }
            hub.handshaking_inbound += 1;
        }
        let id = LinkId(hub.next_link);
        hub.next_link += 1;
        let handle = Arc::new(LinkHandle::new(id, direction, remote));
        hub.connections.insert(id, Arc::clone(&handle));
        let instances =
            hub.instances.values().map(|instance| (Arc::clone(instance), instance.spec().into())).collect();
        Ok(Seat { handle, guest, instances, heard: Vec::new() })
    }

    /// An inbound connection is through its handshake, or over before that.
    pub(crate) fn handshake_over(&self, direction: Direction, ip: Option<IpAddr>, guest: Guest) {
        if direction == Direction::Inbound {
            let mut hub = lock(&self.hub);
            hub.handshaking_inbound = hub.handshaking_inbound.saturating_sub(1);
            if guest == Guest::WithCookie
                && let Some(ip) = ip
            {
                hub.places.leave(Source::from(ip));
            }
        }
    }

    /// Whether a peer's new connection should become a link. A restarted peer always may. Of two dials that cross, the
    /// one of the smaller key stays. Of two dials by the same side, the dialer knows which it wants; and what it dialled
    /// in ignorance, by an address that turns out to be a peer's with whom it has a link, it takes back. A link that is
    /// up and would stay is asked first whether its peer still has it; `gone` is one that was asked and did not answer.
    pub(crate) fn consider(
        &self,
        new: &Arc<LinkHandle>,
        peer: PeerId,
        incarnation: Incarnation,
        gone: Option<LinkId>,
    ) -> Verdict {
        let smaller_dials = self.smaller_dials(peer);
        // It had its place before the endpoint began to drain.
        if self.is_draining() {
            return Verdict::Refuse(shut_down());
        }
        let mut hub = lock(&self.hub);
        let same = |rival: &LinkHandle| {
            rival.known.get().is_some_and(|known| known.incarnation == incarnation)
                && rival.id != new.id
                && Some(rival.id) != gone
        };
        let crossed = |rival: &LinkHandle| match (rival.direction == new.direction, new.direction) {
            (true, Direction::Outbound) => true,
            (true, Direction::Inbound) => false,
            (false, _) => rival.direction == smaller_dials,
        };
        let pending = hub.arriving.get(&peer).map(|arriving| &arriving.pending);
        if pending.into_iter().flatten().any(|rival| same(rival) && crossed(rival)) {
            return Verdict::Refuse(Why::Duplicate);
        }
        let outbound = new.direction == Direction::Outbound;
        let rival = hub.current(peer).filter(|rival| same(rival) && (outbound || crossed(rival)));
        if let Some(rival) = rival {
            return Verdict::Ask(Arc::clone(rival));
        }
        hub.arriving.entry(peer).or_default().pending.push(Arc::clone(new));
        drop(hub);
        self.arrived.notify_waiters();
        Verdict::Admit
    }

    /// A connection is up on both sides. It becomes the link to its peer, or gives way to one that is.
    pub(crate) fn established(
        &self,
        new: &Arc<LinkHandle>,
        peer: PeerId,
        incarnation: Incarnation,
    ) -> Established {
        let mut hub = lock(&self.hub);
        let waiters = match hub.arrived(peer, new.id) {
            Some(arriving) if !arriving.pending.is_empty() => std::mem::take(&mut arriving.waiters),
            _ => hub.none_arrives(peer),
        };
        let mut established = Established { waiters, ..Established::default() };
        let same = |old: &LinkHandle| old.known.get().is_some_and(|known| known.incarnation == incarnation);
        // Both sides let two crossing dials come up: each side now ends the same one.
        established.gives_way = hub.current(peer).is_some_and(|old| {
            same(old) && old.direction != new.direction && old.direction == self.smaller_dials(peer)
        });
        if established.gives_way {
            return established;
        }
        let links = hub.links.entry(peer).or_default();
        for old in std::mem::take(links) {
            if same(&old) {
                established.replaced.push((old, Why::Duplicate));
            } else if old.coexists() {
                established.superseded.push(Arc::clone(&old));
                links.push(old);
            } else {
                established.replaced.push((old, Why::Superseded));
            }
        }
        links.push(Arc::clone(new));
        established
    }

    /// The direction, seen from here, of the dial that stays when two cross.
    fn smaller_dials(&self, peer: PeerId) -> Direction {
        if self.me < peer { Direction::Outbound } else { Direction::Inbound }
    }

    /// A connection is no link any more, or never became one. Gives the waiters that now have nothing to wait for.
    pub(crate) fn detached(&self, old: &LinkHandle, peer: PeerId) -> Vec<Waiter> {
        let mut hub = lock(&self.hub);
        if let Some(links) = hub.links.get_mut(&peer) {
            links.retain(|link| link.id != old.id);
            if links.is_empty() {
                hub.links.remove(&peer);
            }
        }
        match hub.arrived(peer, old.id) {
            Some(arriving) if !arriving.pending.is_empty() => Vec::new(),
            _ => hub.none_arrives(peer),
        }
    }

    /// Lets a waiter wait for the link to a peer, there or on its way; gives it back when there is neither.
    pub(crate) fn await_peer(&self, peer: PeerId, waiter: Waiter) -> Result<(), Waiter> {
        let mut hub = lock(&self.hub);
        if let Some(current) = hub.current(peer) {
            return current.wait(waiter);
        }
        if let Some(arriving) = hub.arriving.get_mut(&peer) {
            arriving.waiters.push(waiter);
            return Ok(());
        }
        match hub.links.get(&peer).and_then(|links| links.last()).filter(|_| waiter.coexists()) {
            Some(older) => older.wait(waiter),
            None => Err(waiter),
        }
    }

    /// Whether there is a link to the peer, or one on its way.
    pub(crate) fn is_linked(&self, peer: PeerId) -> bool {
        let hub = lock(&self.hub);
        hub.current(peer).is_some() || hub.arriving.contains_key(&peer)
    }

    /// A name for one more holder of links.
    pub(crate) fn next_key(&self) -> InstanceKey {
        let mut hub = lock(&self.hub);
        hub.next_instance += 1;
        InstanceKey(hub.next_instance)
    }

    /// A connection's task is over.
    pub(crate) fn unseat(&self, handle: &LinkHandle, ip: Option<IpAddr>) {
        let mut hub = lock(&self.hub);
        hub.connections.remove(&handle.id);
        if handle.direction == Direction::Inbound
            && let Some(source) = ip.map(Source::from)
            && let Some(links) = hub.crowds.get_mut(&source)
        {
            *links = links.saturating_sub(1);
            if *links == 0 {
                hub.crowds.remove(&source);
            }
        }
        drop(hub);
        self.ended.notify_waiters();
    }

    pub(crate) fn connections(&self) -> Vec<Arc<LinkHandle>> {
        lock(&self.hub).connections.values().cloned().collect()
    }

    /// Takes an instance in, and offers it on every link there is.
    pub(crate) fn add_instance<I: Instance + 'static>(
        &self,
        spec: &InstanceSpec,
        make: impl FnOnce(InstanceKey) -> Arc<I>,
    ) -> Result<Arc<I>, HostError> {
        let mut hub = lock(&self.hub);
        if self.is_closing() {
            return Err(HostError::Closed);
        }
        if hub.instances.values().any(|instance| instance.spec().name == spec.name) {
            return Err(HostError::Taken(spec.name.clone()));
        }
        let mut offered: Vec<WireInstance> =
            hub.instances.values().map(|instance| instance.spec().into()).collect();
        offered.push(spec.into());
        self.hello(offered).check().map_err(HostError::Hello)?;
        hub.next_instance += 1;
        let key = InstanceKey(hub.next_instance);
        let instance = make(key);
        for handle in hub.connections.values() {
            handle.ask(Command::Open(Arc::clone(&instance) as Arc<dyn Instance>));
        }
        hub.instances.insert(key, Arc::clone(&instance) as Arc<dyn Instance>);
        Ok(instance)
    }

    /// What this endpoint says of itself.
    pub(crate) fn hello(&self, instances: Vec<WireInstance>) -> Hello {
        Hello {
            identity: self.me,
            signature: *self.identity.noise_certificate(),
            incarnation: self.incarnation.0,
            software: self.config.software.clone(),
            limits: self.link_config.limits(self.config.capacity()),
            addresses: self.own.addresses(),
            instances,
        }
    }

    /// Ends an instance on every connection, those included on which it has yet to come up.
    pub(crate) fn forget_instance(&self, key: InstanceKey) {
        let mut hub = lock(&self.hub);
        hub.instances.remove(&key);
        for handle in hub.connections.values() {
            handle.ask(Command::CloseInstance { key, detail: "the instance closed".to_owned() });
        }
    }

    /// Whether the instance runs here.
    pub(crate) fn runs(&self, key: InstanceKey) -> bool {
        lock(&self.hub).instances.contains_key(&key)
    }

    pub(crate) fn take_instances(&self) -> Vec<Arc<dyn Instance>> {
        std::mem::take(&mut lock(&self.hub).instances).into_values().collect()
    }

    /// Tells every instance where the endpoint can be reached now.
    pub(crate) fn tell_addresses(&self) {
        // Called with the hub free: a machine may want something of it.
        let instances: Vec<_> = lock(&self.hub).instances.values().cloned().collect();
        instances.iter().for_each(|instance| instance.own_addresses());
    }

    pub(crate) fn instance_names(&self) -> Vec<String> {
        lock(&self.hub).instances.values().map(|instance| instance.spec().name.to_string()).collect()
    }
}
