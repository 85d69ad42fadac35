//! The link itself: phases, and who hears what.

mod pair;
mod receive;
mod timer;

pub(crate) use receive::BYTES_AHEAD;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use peerage_identity::{Identity, Opener};
use peerage_machine::{Class, Direction, Instant, Refusal, RefusalReason, Side, Why};
use peerage_wire::hello::{Hello, Instance, Limits};
use peerage_wire::preface::Cookie;
use peerage_wire::proto::link::v1 as proto;
use peerage_wire::proto::link::v1::control::Kind;
use peerage_wire::{Address, PeerId, Suite};

use crate::channels::{Channels, name_of};
use crate::closing::{Closing, ClosingChannels};
use crate::handshake::{Greeting, Opening};
use crate::inbound::{Inbound, Receipt};
use crate::keep_alive::KeepAlive;
use crate::outbound::Outbound;
use crate::pace::Pace;
use crate::reason;
use crate::setup::{LinkStats, Setup};
use crate::{LinkConfig, LinkEvent};

enum Phase {
    Greeting(Box<Greeting>),
    /// The host must admit or refuse.
    Deciding,
    /// Admitted here; the peer has not said.
    Admitted,
    Up,
    Closed,
}

/// What the host has yet to hear. What comes with each message is here as it is, and small: a quiet link keeps room for some.
enum Waiting {
    Message { channel: u32, message: Bytes, receipt: Receipt },
    Room { channel: u32, class: Class, bytes: u64 },
    Other(Box<LinkEvent>),
}

/// One connection. See the crate's page for how to drive it.
pub struct Link {
    config: Arc<LinkConfig>,
    direction: Direction,
    identity: Arc<Identity>,
    /// What the dialer is to hear of itself.
    observed: Option<Address>,
    phase: Phase,
    handshake_ends: Instant,
    suite: Option<Suite>,
    counter_offer: Option<Suite>,
    opener: Option<Opener>,
    outbound: Outbound,
    inbound: Inbound,
    channels: Channels,
    closing: ClosingChannels,
    keep_alive: KeepAlive,
    /// What the peer may send a second.
    message_pace: Pace,
    control_pace: Pace,
    /// The longest message that the peer takes, and the credit that it gives each channel to start with.
    peer_max_message: u64,
    peer_window: u64,
    peer: Option<PeerId>,
    cookie: Option<Cookie>,
    held: bool,
    held_by_peer: bool,
    unheld_at: Option<Instant>,
    draining: Option<Box<Why>>,
    /// When a link that nobody holds gives up on a peer that does not take what waits.
    drain_ends: Option<Instant>,
    ended: bool,
    events: VecDeque<Waiting>,
    /// How many of them waited at once since room for them was given back.
    most_events: usize,
    records_received: u64,
    late_fragments: u64,
    faults: u32,
}

/// What a link says first.
struct Start {
    hello: Hello,
    identity: Arc<Identity>,
    opening: Opening,
}

impl Link {
    /// A new link; [`Link::transmit`] has the first bytes when it dialled.
    pub fn new(setup: Setup, now: Instant) -> Self {
        let (mut link, Start { hello, identity, opening }) = Self::prepare(setup, now);
        if let Err(error) = hello.check() {
            link.end(Why::Limit { by: Side::Us, what: error.to_string() });
            return link;
        }
        match Greeting::new(link.direction, identity, opening, &hello, now, link.outbound.clear()) {
            Ok(greeting) => link.phase = Phase::Greeting(Box::new(greeting)),
            Err(why) => link.end(why),
        }
        link
    }

    /// A link that has said nothing yet, and what it would say.
    fn prepare(setup: Setup, now: Instant) -> (Self, Start) {
        let Setup {
            direction,
            identity,
            incarnation,
            software,
            addresses,
            observed,
            instances,
            expected,
            suites,
            cookie,
            entropy,
            config,
            memory,
            capacity,
        } = setup;
        // What finds no room must not be announced.
        let max_message = config.max_message.min(memory.messages.total());
        let hello = Hello {
            identity: identity.peer_id(),
            signature: *identity.noise_certificate(),
            incarnation: incarnation.0,
            software,
            limits: Limits { max_message, ..config.limits(capacity) },
            addresses,
            instances: instances.clone(),
        };
        let link = Self {
            direction,
            identity: Arc::clone(&identity),
            observed: observed.filter(|_| direction == Direction::Inbound),
            phase: Phase::Closed,
            handshake_ends: now + config.handshake_timeout,
            suite: None,
            counter_offer: None,
            opener: None,
            outbound: Outbound::new(config.control_queue),
            inbound: Inbound::new(&config, max_message, &memory, now),
            channels: Channels::new(instances, config.max_channels),
            closing: ClosingChannels::default(),
            keep_alive: KeepAlive::new(Arc::clone(&config), now),
            message_pace: Pace::free(),
            control_pace: Pace::free(),
            peer_max_message: 0,
            peer_window: 0,
            peer: None,
            cookie: None,
            held: direction == Direction::Outbound,
            held_by_peer: direction == Direction::Inbound,
            unheld_at: None,
            draining: None,
            drain_ends: None,
            ended: false,
            events: VecDeque::new(),
            most_events: 0,
            records_received: 0,
            late_fragments: 0,
            faults: 0,
            config,
        };
        (link, Start { hello, identity, opening: Opening { suites, entropy, cookie, expected } })
    }

    /// The host agrees to the link. When both sides run instances and none of them meet, the link is refused all the
    /// same, with the reason.
    pub fn admit(&mut self) {
        if !matches!(self.phase, Phase::Deciding) {
            return;
        }
        if self.channels.nothing_in_common()
            && let Some(refusal) = self.channels.first_why_not()
        {
            return self.refuse(Why::Refused(refusal));
        }
        let refused = self.channels.accept();
        let observed = self.observed.take().map(|address| address.to_string()).unwrap_or_default();
        self.outbound.control(Kind::Accept(proto::Accept { refused, observed }));
        self.phase = Phase::Admitted;
    }

    /// The host does not agree; the peer is told why.
    pub fn refuse(&mut self, why: Why) {
        if !matches!(self.phase, Phase::Deciding) {
            return;
        }
        let (code, detail) = reason::to_wire(&why);
        let refused = self.channels.refusals();
        self.outbound.control(Kind::Refuse(proto::Refuse { code: code.into(), detail, refused }));
        self.end(why);
    }

    /// Opens one more instance; its number comes back, and [`LinkEvent::ChannelUp`] or
    /// [`LinkEvent::ChannelRefused`] follows. One that has just been closed is offered to the peer, and so is what was
    /// opened after it, once that has gone out which waited on its channel.
    pub fn open(&mut self, instance: Instance) -> u32 {
        let impossible = match instance.check() {
            Err(error) => Some(error.to_string()),
            Ok(()) => self.channels.has(&instance).then(|| "one channel for each instance".to_owned()),
        };
        if let Some(what) = impossible {
            let (number, reason) = (self.channels.next_number(), RefusalReason::Limit(what));
            let refusal = Refusal { by: Side::Us, instance: name_of(&instance), reason };
            self.event(LinkEvent::ChannelRefused { channel: number, refusal });
            return number;
        }
        let number = self.channels.add_local(instance, false);
        self.offer_rest();
        number
    }

    fn offer_rest(&mut self) {
        if !matches!(self.phase, Phase::Up) {
            return;
        }
        let closing = &self.closing;
        // The peer would find that it meets an instance that is taken.
        for (channel, instance) in self.channels.offer_rest(|instance| closing.has_instance(instance)) {
            let instance = Some(proto::Instance::from(&instance));
            self.outbound.control(Kind::Open(proto::Open { channel, instance }));
        }
    }

    /// Ends an instance on this link. What waits on its channel still goes out before the peer hears of the end, as far
    /// as it gives credit within [`LinkConfig::silent_after`]; when it closes the channel too, or the link ends, the
    /// rest is dropped. Nothing more can be sent on it, no event tells of it, and what arrives is ignored.
    pub fn close_channel(&mut self, now: Instant, channel: u32, detail: &str) {
        let was_up = self.channels.close_local(channel);
        if let Some((instance, remote)) = was_up
            && matches!(self.phase, Phase::Up)
        {
            let spent = self.inbound.close(channel);
            let reason = proto::refusal::Reason::Unspecified.into();
            let last_word = proto::Closed { channel: remote, reason, detail: detail.to_owned() };
            if self.outbound.close_after(channel, last_word) {
                for (class, bytes) in (0..).zip(spent).filter(|(_, bytes)| *bytes > 0) {
                    self.outbound.control(Kind::Credit(proto::Credit { channel: remote, class, bytes }));
                }
                let ends = now + self.config.silent_after;
                self.closing.add(Closing { local: channel, remote, instance, ends });
            }
        }
        // It may have been what others waited behind.
        self.offer_rest();
        self.give_credit(false);
    }

    /// Queues a message.
    ///
    /// # Errors
    /// [`Why::NotUp`], [`Why::TooLarge`] by the peer's announced limit, [`Why::Full`] for control messages.
    pub fn send(&mut self, channel: u32, class: Class, message: Bytes) -> Result<(), Why> {
        if self.draining.is_some() || !matches!(self.phase, Phase::Up) {
            return Err(Why::NotUp);
        }
        let (size, limit) = (message.len() as u64, self.peer_max_message);
        if size > limit {
            return Err(Why::TooLarge { size, limit });
        }
        self.outbound.send(channel, class, message)
    }

    /// Whether any instance here holds the link.
    pub fn set_held(&mut self, now: Instant, held: bool) {
        if self.held == held {
            return;
        }
        self.held = held;
        if matches!(self.phase, Phase::Up) {
            self.outbound.control(Kind::Interest(proto::Interest { held }));
            self.check_held(now);
        }
    }

    fn check_held(&mut self, now: Instant) {
        if self.held || self.held_by_peer {
            self.unheld_at = None;
            if self.drain_ends.take().is_some() {
                // It was ending for want of a holder.
                self.draining = None;
            }
        } else if self.unheld_at.is_none() && self.draining.is_none() {
            self.unheld_at = Some(now + self.config.unheld_grace);
        }
    }

    /// A protocol complains of the peer. The link closes when it has happened [`LinkConfig::fault_limit`] times.
    pub fn fault(&mut self, what: &str) {
        self.faults += 1;
        if self.faults >= self.config.fault_limit {
            self.close(Why::Fault { by: Side::Them, what: what.to_owned() });
        }
    }

    /// Asks the peer for a sign of life: [`LinkEvent::Answered`] follows, or the link ends as [`Why::Silent`] within
    /// [`LinkConfig::probe_timeout`]. One question at a time; a link that is not up asks none, and has a deadline anyway.
    pub fn probe(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Up)
            && let Some(nonce) = self.keep_alive.probe(now)
        {
            self.outbound.control(Kind::Ping(proto::Ping { nonce }));
        }
    }

    /// Ends the link now; messages that wait are dropped, the peer is told why.
    pub fn close(&mut self, why: Why) {
        match self.phase {
            Phase::Closed => {}
            Phase::Deciding => self.refuse(why),
            Phase::Greeting(_) => self.end(why),
            Phase::Admitted | Phase::Up => {
                let (code, detail) = reason::to_wire(&why);
                self.outbound.cut();
                self.outbound.control(Kind::Goodbye(proto::Goodbye { code: code.into(), detail }));
                self.end(why);
            }
        }
    }

    /// Ends the link once what waits has gone out; sends are refused from now on.
    pub fn drain(&mut self, why: Why) {
        if !matches!(self.phase, Phase::Up) || self.outbound.queued() == (0, 0) {
            return self.close(why);
        }
        // A link that nobody held may have begun before; it has this much time no more.
        self.drain_ends = None;
        self.draining = Some(Box::new(why));
    }

    fn end(&mut self, why: Why) {
        if self.ended {
            return;
        }
        self.event(LinkEvent::Closed(why));
        self.ended = true;
        self.phase = Phase::Closed;
        self.opener = None;
        (self.draining, self.drain_ends, self.unheld_at) = (None, None, None);
        self.outbound.cut();
        // The last word waits for no rate.
        self.outbound.pace(Pace::free(), Pace::free());
        self.inbound.close_all();
        self.closing = ClosingChannels::default();
    }

    /// Tells the host; nothing follows [`LinkEvent::Closed`].
    fn event(&mut self, event: LinkEvent) {
        if !self.ended {
            self.events.push_back(Waiting::Other(Box::new(event)));
        }
    }

    /// The next thing that the host must know. Taking a message gives its credit back to the peer.
    pub fn poll_event(&mut self) -> Option<LinkEvent> {
        Some(match self.events.pop_front()? {
            Waiting::Message { channel, message, receipt } => {
                self.inbound.taken(channel, receipt, message.len());
                self.give_credit(false);
                LinkEvent::Message { channel, message }
            }
            Waiting::Room { channel, class, bytes } => LinkEvent::Room { channel, class, bytes },
            Waiting::Other(event) => *event,
        })
    }

    /// Tells the peer what it may send more: all of it, if something else leaves, and otherwise what is urgent.
    fn give_credit(&mut self, has_company: bool) {
        while let Some((channel, class, bytes)) = self.inbound.next_credit(has_company) {
            if let Some(remote) = self.channels.remote_of(channel) {
                self.outbound.control(Kind::Credit(proto::Credit { channel: remote, class, bytes }));
            }
        }
        while let Some((channel, class, bytes)) = self.inbound.next_reclaim() {
            if let Some(remote) = self.channels.remote_of(channel) {
                self.outbound.control(Kind::Reclaim(proto::Reclaim { channel: remote, class, bytes }));
            }
        }
    }

    /// Appends what is to be sent, until `out` holds `budget` bytes or there is nothing.
    pub fn transmit(&mut self, out: &mut BytesMut, budget: usize) {
        if self.outbound.has_work() {
            self.give_credit(true);
        }
        self.seal(out, budget);
        let mut finished = self.outbound.take_finished();
        if !finished.is_empty() {
            while let Some(channel) = finished.pop_front() {
                self.closing.remove(channel);
            }
            self.offer_rest();
            self.seal(out, budget);
        }
        let events = &mut self.events;
        if !matches!(self.phase, Phase::Closed) {
            self.outbound.take_room(|channel, class, bytes| {
                events.push_back(Waiting::Room { channel, class, bytes });
            });
        }
        if self.outbound.queued() == (0, 0)
            && let Some(why) = self.draining.take()
        {
            self.close(*why);
            self.seal(out, usize::MAX);
        }
    }

    fn seal(&mut self, out: &mut BytesMut, budget: usize) {
        if let Err(error) = self.outbound.transmit(out, budget) {
            self.end(Why::Lost(error.to_string()));
        }
    }

    /// Whether [`Link::transmit`] has something to give.
    pub fn has_work(&self) -> bool {
        self.outbound.has_work() || (self.draining.is_some() && self.outbound.queued() == (0, 0))
    }

    /// Who is at the other end, once the handshake has shown it.
    pub fn peer(&self) -> Option<PeerId> {
        self.peer
    }

    /// What seals the link, once the handshake is through.
    pub fn suite(&self) -> Option<Suite> {
        self.suite
    }

    /// The suite that the listener named, in clear, because it does not take ours: the link ends as
    /// [`Why::Incompatible`], and a dialer that allows the other one may dial with it at once. Anybody on the way can
    /// have said so; what they can get is a suite that the dialer allows, and no other.
    pub fn counter_offer(&self) -> Option<Suite> {
        self.counter_offer
    }

    /// The cookie that the other end wants to see before it goes through a handshake, when that is why the link ended:
    /// for [`Setup::cookie`](crate::Setup::cookie) of the next, within two minutes.
    pub fn cookie(&self) -> Option<Cookie> {
        self.cookie
    }

    /// The smoothed round-trip time.
    pub fn rtt(&self) -> Option<Duration> {
        self.keep_alive.rtt()
    }

    /// The longest message that the peer takes, in bytes.
    pub fn max_message(&self) -> u64 {
        self.peer_max_message
    }

    /// Messages and bytes that wait to be sent, also on channels that were closed here.
    pub fn queued(&self) -> (u64, u64) {
        self.outbound.queued()
    }

    /// Bytes of messages that have arrived and wait: in parts, or to be taken. At most
    /// [`LinkConfig::worst_case_inbound_bytes`], and what the link has of the endpoint's memory.
    pub fn held_bytes(&self) -> u64 {
        self.inbound.held_bytes()
    }

    /// Whether the host has yet to say [`Link::admit`] or [`Link::refuse`]. Until then [`Link::receive`] takes nothing.
    pub fn is_deciding(&self) -> bool {
        matches!(self.phase, Phase::Deciding)
    }

    /// What the link has of the endpoint's [`crate::Memory`]: by how much windows have grown, and room for messages.
    pub fn borrowed_bytes(&self) -> (u64, u64) {
        self.inbound.borrowed()
    }

    /// Whether the link is over; there may still be a goodbye to flush.
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    /// The refusal of one of this side's instances by what the peer said in its `Hello`.
    pub fn why_not(&self, channel: u32) -> Option<Refusal> {
        self.channels.why_not(channel)
    }

    /// Running totals.
    pub fn stats(&self) -> LinkStats {
        LinkStats {
            messages_sent: self.outbound.messages,
            messages_received: self.inbound.messages,
            messages_dropped: self.outbound.dropped,
            records_sent: self.outbound.records,
            records_received: self.records_received,
            late_fragments: self.late_fragments,
            faults: self.faults,
        }
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let phase = match self.phase {
            Phase::Greeting(_) => "greeting",
            Phase::Deciding => "deciding",
            Phase::Admitted => "admitted",
            Phase::Up => "up",
            Phase::Closed => "closed",
        };
        f.debug_struct("Link")
            .field("phase", &phase)
            .field("direction", &self.direction)
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}
