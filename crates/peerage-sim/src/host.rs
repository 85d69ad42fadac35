//! Carries out what machines want, as `peerage-net` does on real links.

use std::time::Duration;

use peerage_machine::{
    Class, Effect, Input, Instant, LinkId, LinkInfo, Machine, Malformed, OnReturn, SendId, Side as Who, Why,
};

use crate::links::{Limits, LinkKey, Phase, Side};
use crate::sim::{Happening, OutboxOf};
use crate::stats::Dropped;
use crate::trace::Kind;
use crate::{NodeId, Sim, Verifier};

impl<M: Machine> Sim<M> {
    pub(crate) fn carry_out(&mut self, id: NodeId, outbox: &mut OutboxOf<M>) {
        for effect in outbox.drain() {
            match effect {
                Effect::Send { to, message, class, id: send } => self.send(id, &to, message, class, send),
                Effect::SendOne { to, message, class } => self.send(id, &[to], message, class, None),
                Effect::Dial { id: dial, target } => self.dial(id, dial, target),
                Effect::Hold(link) => self.hold(id, link, true),
                Effect::Release(link) => self.hold(id, link, false),
                Effect::CloseChannel { link, why } => self.close_channel(id, link, &why),
                Effect::Fault { link, what } => self.fault(id, link, what),
                Effect::Store { op, batch } => {
                    let Some(node) = self.get_mut(id) else { continue };
                    node.storing.push_back((op, batch));
                    let (node, epoch) = (id, node.epoch);
                    self.schedule(self.now + self.config.store_delay, Happening::Stored { node, epoch });
                }
                Effect::Verify { job, signer, domain, message, signature } => {
                    let valid = match &self.config.verifier {
                        Verifier::AlwaysValid => true,
                        Verifier::By(judge) => judge(&signer, domain, &message, &signature),
                    };
                    let (node, epoch) = (id, self.get(id).epoch);
                    let at = self.now + self.config.verify_delay;
                    self.schedule(at, Happening::Verified { node, epoch, job, valid });
                }
                Effect::Emit(event) => {
                    let now = self.now;
                    self.trace.line(now, Kind::Emit, id.0, 0, 0);
                    if let Some(event) = self.show(id, event)
                        && let Some(node) = self.get_mut(id)
                    {
                        node.events.push((now, event));
                    }
                }
                Effect::Answer { call, answer } => {
                    let now = self.now;
                    self.trace.line(now, Kind::Answer, id.0, call.0, 0);
                    if let Some(node) = self.get_mut(id) {
                        node.answers.push((now, call, answer));
                    }
                }
                Effect::Count { name, by } => {
                    if let Some(node) = self.get_mut(id) {
                        *node.counters.entry(name).or_default() += by;
                    }
                }
                Effect::Observe { name, value } => {
                    crate::stats::observe(&mut self.stats.observed, name, value);
                }
                other => self.cannot(id, &other),
            }
        }
    }

    #[expect(
        clippy::panic,
        reason = "an effect that is silently not carried out would be a lie of the simulation"
    )]
    fn cannot<A: std::fmt::Debug>(&self, id: NodeId, effect: &A) {
        panic!("the simulator cannot carry out {effect:?}, wanted by {id}");
    }

    /// Has the node's machine hear something later, unless it crashes before.
    pub(crate) fn tell(&mut self, node: NodeId, at: Instant, input: Input<M::Message>) {
        let epoch = self.get(node).epoch;
        self.schedule(at, Happening::Input { node, epoch, input: Box::new(input) });
    }

    fn send(&mut self, id: NodeId, to: &[LinkId], message: M::Message, class: Class, send: Option<SendId>) {
        use peerage_machine::Message as _;
        let size = message.encoded_len() as u64;
        let mut message = Some(message);
        for (index, link) in to.iter().enumerate() {
            // The last one takes the message itself.
            let last = index + 1 == to.len();
            if let Err(why) = self.send_one(id, *link, &mut message, last, class, size) {
                self.show_sent(id, *link, (class, size), message.as_ref(), Some(&why));
                let dropped = match &why {
                    Why::Full { .. } => Dropped::Full,
                    Why::TooLarge { .. } => Dropped::TooLarge,
                    _ => Dropped::NotUp,
                };
                *self.stats.dropped.entry(dropped).or_default() += 1;
                if let Some(send) = send {
                    self.tell(id, self.now, Input::Undelivered { send, link: *link, why });
                }
            }
        }
    }

    fn send_one(
        &mut self,
        id: NodeId,
        link: LinkId,
        message: &mut Option<M::Message>,
        last: bool,
        class: Class,
        size: u64,
    ) -> Result<(), Why> {
        let now = self.now;
        let limits = Limits { credit: self.config.credit, max_message: self.config.max_message };
        let (key, side) = self.links.find(id, link).ok_or(Why::NotUp)?;
        let entry = self.links.get_mut(key).ok_or(Why::NotUp)?;
        entry.enqueue(side, class, size, limits)?;
        if entry.wired.is_some() {
            return self.send_on_wire(id, link, (key, side), message.as_ref(), class, size);
        }
        let Some(at) = self.arrival(key, side, class, size) else { return Err(Why::NotUp) };
        self.show_sent(id, link, (class, size), message.as_ref(), None);
        self.stats.sent.of_mut(class).add(size);
        if let (Some(kind_of), Some(message)) = (self.kind_of, &*message) {
            self.stats.sent_of_kind.entry(kind_of(message)).or_default().add(size);
        }
        self.trace.line(now, Kind::Sent, id.0, link.0, size);
        let message = if last { message.take() } else { message.clone() };
        if let Some(message) = message {
            self.schedule(at, Happening::Message { link: key, from: side, class, size, message });
        }
        Ok(())
    }

    fn send_on_wire(
        &mut self,
        id: NodeId,
        link: LinkId,
        (key, side): (LinkKey, Side),
        message: Option<&M::Message>,
        class: Class,
        size: u64,
    ) -> Result<(), Why> {
        use peerage_machine::Message as _;
        let Some(message) = message else { return Err(Why::NotUp) };
        self.send_bytes(key, side, class, message.to_bytes()).inspect_err(|_| {
            if let Some(entry) = self.links.get_mut(key) {
                entry.dequeue(side, class, size);
            }
        })?;
        self.show_sent(id, link, (class, size), Some(message), None);
        self.stats.sent.of_mut(class).add(size);
        if let Some(kind_of) = self.kind_of {
            self.stats.sent_of_kind.entry(kind_of(message)).or_default().add(size);
        }
        self.trace.line(self.now, Kind::Sent, id.0, link.0, size);
        Ok(())
    }

    /// When what this side sends now arrives.
    pub(crate) fn arrival(&mut self, key: LinkKey, side: Side, class: Class, size: u64) -> Option<Instant> {
        let now = self.now;
        let entry = self.links.get_mut(key)?;
        let [from, to] = entry.regions;
        let (_, jitter, bandwidth) = self.config.route(from, to);
        let sending = match bandwidth {
            Some(rate) => Duration::from_micros(size.saturating_mul(1_000_000) / rate.max(1)),
            None => Duration::ZERO,
        };
        let jitter = match jitter.as_micros() as u64 {
            0 => Duration::ZERO,
            most => Duration::from_micros(self.rng.below(most + 1)),
        };
        Some(entry.arrival(side, class, now, sending, jitter))
    }

    /// Both ends learn of a new link. The node on whose behalf it came about holds it already.
    pub(crate) fn bring_up(&mut self, dialer: NodeId, acceptor: NodeId) {
        let now = self.now;
        for (node, peer) in [(dialer, acceptor), (acceptor, dialer)] {
            self.make_way(node, peer);
        }
        let latency = self.latency(dialer, acceptor);
        let key = self.links.open(dialer, acceptor, latency, now);
        self.stats.links_up += 1;
        if self.config.troubles_links() {
            self.schedule(now + Duration::from_secs(1), Happening::LossCheck { link: key });
        }
        let regions = [self.get(dialer).region, self.get(acceptor).region];
        let epochs = [(Side::Dialer, self.get(dialer).epoch), (Side::Acceptor, self.get(acceptor).epoch)];
        if let Some(link) = self.links.get_mut(key) {
            link.hold(Side::Dialer, true);
            link.regions = regions;
            for (side, epoch) in epochs {
                link.end_mut(side).epoch = epoch;
            }
        }
        self.wire(key);
        for side in [Side::Acceptor, Side::Dialer] {
            let Some(link) = self.links.get(key) else { return };
            let (end, other) = (link.end(side), link.end(side.other()));
            let (node, id, direction, other) = (end.node, end.id, end.direction, self.get(other.node));
            let info = LinkInfo {
                peer: other.peer,
                incarnation: other.incarnation,
                addresses: other.addresses.clone(),
                direction,
                rtt: Some(latency * 2),
                parameters: other.instance.parameters.clone(),
                credit: self.config.credit,
                max_message: self.config.max_message,
                since: self.get(node).clocks(now).wall,
            };
            self.input(node, Input::Up { link: id, info });
        }
    }

    /// What becomes of the links that a node has to a peer's key when a new one to this start of it comes up. One to
    /// the same start is over: the other end has lost or closed it. One to another start stays where both coexist.
    fn make_way(&mut self, node: NodeId, peer: NodeId) {
        let coexists = self.get(node).instance.on_return == OnReturn::Coexist;
        let starts = self.by_peer.get(&self.get(peer).peer).map_or(&[][..], Vec::as_slice);
        let old: Vec<_> = starts.iter().flat_map(|start| self.links.to(node, *start)).collect();
        for (key, side, _) in old {
            let Some(link) = self.links.get(key) else { continue };
            let (end, other) = (link.end(side), link.end(side.other()));
            let told = (self.now + link.latency).max(end.flushed());
            if other.node == peer && self.get(peer).epoch == other.epoch {
                let why = end.leaving.clone();
                let why = why.map_or_else(|| Why::Lost("another link took over".to_owned()), |why| *why);
                self.down(key, side, why);
            } else if !coexists {
                self.links.doom(key);
                self.down(key, side, Why::Superseded);
                self.down_at(told, key, side.other(), Why::Superseded);
            }
        }
    }

    /// An end of a link will be over, unless it is before.
    pub(crate) fn down_at(&mut self, at: Instant, link: LinkKey, side: Side, why: Why) {
        if let Some(entry) = self.links.get_mut(link) {
            entry.end_mut(side).leaving.get_or_insert_with(|| Box::new(why.clone()));
            self.schedule(at, Happening::Down { link, side, why: Box::new(why) });
        }
    }

    /// An end of a link is over.
    pub(crate) fn down(&mut self, key: LinkKey, side: Side, why: Why) {
        let Some(end) = self.links.get(key).map(|link| link.end(side)) else { return };
        let (node, link) = (end.node, end.id);
        if self.links.end(key, side) {
            self.input(node, Input::Down { link, why });
        }
    }

    fn hold(&mut self, id: NodeId, link: LinkId, held: bool) {
        let Some((key, side)) = self.links.find(id, link) else { return };
        self.set_held(key, side, held);
    }

    pub(crate) fn set_held(&mut self, key: LinkKey, side: Side, held: bool) {
        let unheld = self.links.get_mut(key).and_then(|link| link.hold(side, held));
        if let Some(occasion) = unheld {
            self.schedule(self.now + self.config.grace, Happening::Unheld { link: key, occasion });
        }
    }

    /// The grace of an unheld link is over.
    pub(crate) fn unheld(&mut self, key: LinkKey, occasion: u64) {
        let now = self.now;
        let Some(link) = self.links.get(key).filter(|link| link.is_alive() && link.unheld_since(occasion))
        else {
            return;
        };
        // In good order: what was sent arrives first.
        let flushed = Side::BOTH.map(|side| (side, link.end(side.other()).flushed().max(now)));
        self.links.doom(key);
        for (side, at) in flushed {
            self.down_at(at, key, side, Why::Unheld);
        }
    }

    fn close_channel(&mut self, id: NodeId, link: LinkId, why: &Why) {
        let detail = why.to_string();
        let theirs = Why::ChannelClosed { by: Who::Them, detail: detail.clone() };
        self.close(id, link, Why::ChannelClosed { by: Who::Us, detail }, theirs);
    }

    /// This end closes at once, the other when it has everything that was sent to it.
    fn close(&mut self, id: NodeId, link: LinkId, ours: Why, theirs: Why) {
        let now = self.now;
        let Some((key, side)) = self.links.find(id, link) else { return };
        let Some(entry) = self.links.get_mut(key) else { return };
        if entry.end(side).phase != Phase::Up {
            return;
        }
        let told = (now + entry.latency).max(entry.end(side).flushed());
        entry.end_mut(side).phase = Phase::Closing;
        self.links.doom(key);
        self.down_at(now, key, side, ours);
        self.down_at(told, key, side.other(), theirs);
    }

    fn fault(&mut self, id: NodeId, link: LinkId, what: &'static str) {
        if let Some(node) = self.get_mut(id) {
            *node.faults.entry(what).or_default() += 1;
        }
        let limit = self.config.fault_limit;
        let Some((key, side)) = self.links.find(id, link) else { return };
        let Some(entry) = self.links.get_mut(key) else { return };
        let end = entry.end_mut(side);
        end.faults += 1;
        if end.faults >= limit {
            self.close_for_fault(id, link, what);
        }
    }

    /// Bytes arrived that are no message: no bug of a newer version, so that the link ends at once.
    pub(crate) fn malformed(&mut self, from: NodeId, id: NodeId, link: LinkId, why: &Malformed) {
        const WHAT: &str = "malformed message";
        *self.stats.dropped.entry(Dropped::Malformed).or_default() += 1;
        self.show_malformed(from, id, why);
        if let Some(node) = self.get_mut(id) {
            *node.faults.entry(WHAT).or_default() += 1;
        }
        self.close_for_fault(id, link, WHAT);
    }

    fn close_for_fault(&mut self, id: NodeId, link: LinkId, what: &str) {
        let why = |by| Why::Fault { by, what: what.to_owned() };
        self.close(id, link, why(Who::Them), why(Who::Us));
    }

    /// The first batch that waits is in the store.
    pub(crate) fn stored_batch(&mut self, id: NodeId, epoch: u32) {
        let Some(node) = self.get_mut(id).filter(|node| node.epoch == epoch) else { return };
        let Some((op, batch)) = node.storing.pop_front() else { return };
        node.store(batch);
        self.input(id, Input::Stored { op, result: Ok(()) });
    }
}
