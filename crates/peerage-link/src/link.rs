//! The link itself: phases, and who hears what.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use peerage_identity::{Identity, Opener};
use peerage_machine::{Class, Direction, Incarnation, Instant, Refusal, Side, Why};
use peerage_wire::frame::{FrameRef, Frames};
use peerage_wire::hello::{Hello, Instance, Limits};
use peerage_wire::proto::link::v1 as proto;
use peerage_wire::proto::link::v1::control::Kind;
use peerage_wire::{Address, PeerId};

use crate::channels::Channels;
use crate::handshake::{Greeted, Greeting, Progress};
use crate::inbound::Inbound;
use crate::keep_alive::{Due, KeepAlive};
use crate::outbound::Outbound;
use crate::reason;
use crate::{LinkConfig, LinkEvent};

/// What a link is made from.
#[derive(Debug)]
pub struct Setup {
    /// Who dialled.
    pub direction: Direction,
    /// Who we are.
    pub identity: Arc<Identity>,
    /// This start of the endpoint.
    pub incarnation: Incarnation,
    /// Name and version of the program, for people.
    pub software: String,
    /// Where this endpoint listens.
    pub addresses: Vec<Address>,
    /// What runs here; an instance's place in the list is its channel's number.
    pub instances: Vec<Instance>,
    /// Who must be at the other end, when that is known.
    pub expected: Option<PeerId>,
    /// 32 secret random bytes, used once.
    pub entropy: [u8; 32],
    /// Times and bounds.
    pub config: Arc<LinkConfig>,
}

/// Running totals of one link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinkStats {
    /// Whole messages sent.
    pub messages_sent: u64,
    /// Whole messages received.
    pub messages_received: u64,
    /// Records sent.
    pub records_sent: u64,
    /// Records received.
    pub records_received: u64,
    /// Fragments that came for a channel after it was closed here; they are dropped.
    pub late_fragments: u64,
    /// Complaints of protocols about the peer.
    pub faults: u32,
}

enum Phase {
    Greeting(Box<Greeting>),
    /// The host must admit or refuse.
    Deciding,
    /// Admitted here; the peer has not said.
    Admitted,
    Up,
    Closed,
}

/// One connection. See the crate's page for how to drive it.
pub struct Link {
    config: Arc<LinkConfig>,
    direction: Direction,
    us: PeerId,
    expected: Option<PeerId>,
    phase: Phase,
    handshake_ends: Instant,
    opener: Option<Opener>,
    outbound: Outbound,
    inbound: Inbound,
    channels: Channels,
    keep_alive: KeepAlive,
    peer_limits: Limits,
    peer: Option<PeerId>,
    held: bool,
    held_by_peer: bool,
    unheld_at: Option<Instant>,
    draining: Option<Why>,
    events: VecDeque<(LinkEvent, u64)>,
    stats: LinkStats,
}

impl Link {
    /// A new link; [`Link::transmit`] has the first bytes when it dialled.
    pub fn new(setup: Setup, now: Instant) -> Self {
        let Setup {
            direction,
            identity,
            incarnation,
            software,
            addresses,
            instances,
            expected,
            entropy,
            config,
        } = setup;
        let hello = Hello {
            identity: identity.peer_id(),
            signature: *identity.noise_certificate(),
            incarnation: incarnation.0,
            software,
            limits: Limits {
                max_message: config.max_message,
                window: config.window.max(LinkConfig::MIN_WINDOW),
                max_channels: config.max_channels,
            },
            addresses,
            instances: instances.clone(),
        };
        let mut link = Self {
            direction,
            us: hello.identity,
            expected,
            phase: Phase::Closed,
            handshake_ends: now + config.handshake_timeout,
            opener: None,
            outbound: Outbound::new(config.control_queue),
            inbound: Inbound::new(hello.limits.window, config.max_message, config.reassembly),
            channels: Channels::new(instances),
            keep_alive: KeepAlive::new(&config, now),
            peer_limits: Limits { max_message: 0, window: 0, max_channels: 0 },
            peer: None,
            held: direction == Direction::Outbound,
            held_by_peer: direction == Direction::Inbound,
            unheld_at: None,
            draining: None,
            events: VecDeque::new(),
            stats: LinkStats::default(),
            config,
        };
        match Greeting::new(direction, identity, entropy, &hello, now, link.outbound.clear()) {
            Ok(greeting) => link.phase = Phase::Greeting(Box::new(greeting)),
            Err(why) => link.end(why),
        }
        link
    }

    /// Takes what it can from the front of `input`, decrypting in place, and says how many bytes that was. Call it
    /// again with the rest, and more behind it, until it takes none; take the events in between.
    pub fn receive(&mut self, now: Instant, input: &mut [u8]) -> usize {
        let mut used = 0;
        loop {
            let rest = input.get_mut(used..).unwrap_or_default();
            let step = match &mut self.phase {
                // The host first decides.
                Phase::Deciding => return used,
                Phase::Closed => return input.len(),
                Phase::Greeting(greeting) => match greeting.receive(now, rest, self.outbound.clear()) {
                    Ok(Progress::Wait) => return used,
                    Ok(Progress::Used(bytes)) => bytes,
                    Ok(Progress::Done(bytes, greeted)) => {
                        self.greeted(now, *greeted);
                        bytes
                    }
                    Err(why) => {
                        self.end(why);
                        return input.len();
                    }
                },
                Phase::Admitted | Phase::Up => match self.receive_record(now, rest) {
                    Some(bytes) => bytes,
                    None => return used,
                },
            };
            used += step;
        }
    }

    fn greeted(&mut self, now: Instant, greeted: Greeted) {
        let Greeted { hello, sealer, opener, rtt } = greeted;
        self.outbound.seal_with(sealer);
        self.opener = Some(opener);
        self.keep_alive.heard(now);
        self.keep_alive.sample(rtt);
        self.phase = Phase::Deciding;
        let hello = match hello {
            Ok(hello) => hello,
            Err(what) => return self.refuse(Why::Fault { by: Side::Them, what }),
        };
        self.peer = Some(hello.identity);
        if hello.identity == self.us {
            return self.refuse(Why::SelfDial);
        }
        if let Some(expected) = self.expected
            && expected != hello.identity
        {
            return self.refuse(Why::WrongPeer { expected, found: hello.identity });
        }
        self.peer_limits = hello.limits;
        self.channels.greet(hello.instances.clone());
        self.events.push_back((LinkEvent::Greeted(Box::new(hello)), 0));
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
        let refused = self.channels.refusals();
        self.outbound.control(Kind::Accept(proto::Accept { refused }));
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

    fn receive_record(&mut self, now: Instant, input: &mut [u8]) -> Option<usize> {
        let (length, rest) = input.split_first_chunk_mut::<2>()?;
        let length = usize::from(u16::from_be_bytes(*length));
        let record = rest.get_mut(..length)?;
        let mut opener = self.opener.take()?;
        let opened = opener.open(record);
        self.opener = Some(opener);
        match opened {
            Ok(plaintext) => {
                self.keep_alive.heard(now);
                self.stats.records_received += 1;
                self.receive_frames(now, plaintext);
            }
            Err(error) => self.close(Why::Fault { by: Side::Them, what: format!("record: {error}") }),
        }
        Some(2 + length)
    }

    fn receive_frames(&mut self, now: Instant, plaintext: &[u8]) {
        for frame in Frames::new(plaintext) {
            let result = match (frame, &self.phase) {
                (_, Phase::Closed) => return,
                (Ok(FrameRef::Data { header, payload }), Phase::Up) => {
                    self.receive_data(header.channel, header.class, header.total, payload)
                }
                (Ok(FrameRef::Data { .. }), _) => Err("a message before both sides accepted".to_owned()),
                (Ok(FrameRef::Control(kind)), _) => self.receive_control(now, kind),
                (Ok(FrameRef::UnknownControl), _) => Ok(()),
                (Err(error), _) => Err(format!("frame: {error}")),
            };
            if let Err(what) = result {
                return self.close(Why::Fault { by: Side::Them, what });
            }
        }
    }

    fn receive_data(&mut self, remote: u32, class: u32, total: u64, payload: &[u8]) -> Result<(), String> {
        let Some(channel) =
            self.channels.route(remote).map_err(|()| format!("channel {remote} was never opened"))?
        else {
            self.stats.late_fragments += 1;
            return Ok(());
        };
        match self.inbound.fragment(channel, class, total, payload)? {
            Some(whole) => {
                self.events.push_back((LinkEvent::Message { channel, message: whole.message }, whole.cost));
            }
            None => self.return_credit(channel),
        }
        Ok(())
    }

    fn receive_control(&mut self, now: Instant, kind: Kind) -> Result<(), String> {
        match (kind, &self.phase) {
            (Kind::Accept(accept), Phase::Admitted) => self.up(now, &accept.refused),
            (Kind::Refuse(refuse), Phase::Admitted) => self.end(self.why_refused(&refuse)),
            (Kind::Goodbye(goodbye), _) => {
                let why = reason::from_wire(goodbye.code, &goodbye.detail, self.us);
                self.end(why);
            }
            (Kind::Ping(ping), _) => self.outbound.control(Kind::Pong(proto::Pong { nonce: ping.nonce })),
            (Kind::Pong(pong), _) => {
                if let Some(rtt) = self.keep_alive.pong(now, pong.nonce) {
                    self.events.push_back((LinkEvent::Rtt(rtt), 0));
                }
            }
            (_, Phase::Admitted) => return Err("a frame before Accept or Refuse".to_owned()),
            (Kind::Accept(_) | Kind::Refuse(_), _) => return Err("a second Accept or Refuse".to_owned()),
            (Kind::Credit(credit), _) => {
                // Credit for a channel that this side has just closed is in order; a sum beyond 2^64 is not.
                if !self.outbound.credit(credit.channel, credit.bytes) && self.channels.is_up(credit.channel)
                {
                    return Err(format!("credit of {} bytes overflows", credit.bytes));
                }
            }
            (Kind::Open(open), _) => self.receive_open(open)?,
            (Kind::Opened(opened), _) => match self.channels.opened(opened.channel, opened.mine) {
                Ok(true) => self.channel_up(opened.channel),
                Ok(false) => {}
                Err(()) => {
                    return Err(format!(
                        "opened channel {} as {}, which differs",
                        opened.channel, opened.mine
                    ));
                }
            },
            (Kind::Closed(closed), _) => self.receive_closed(&closed),
            (Kind::Interest(interest), _) => {
                self.held_by_peer = interest.held;
                self.check_held(now);
            }
        }
        Ok(())
    }

    fn why_refused(&self, refuse: &proto::Refuse) -> Why {
        if refuse.code() == proto::goodbye::Code::NoCommonInstance {
            let told = refuse.refused.iter().find_map(|told| self.channels.refusal_told(told.channel, told));
            if let Some(refusal) = self.channels.first_why_not().or(told) {
                return Why::Refused(refusal);
            }
        }
        reason::from_wire(refuse.code, &refuse.detail, self.us)
    }

    fn up(&mut self, now: Instant, refused_by_peer: &[proto::Refusal]) {
        self.phase = Phase::Up;
        self.events.push_back((LinkEvent::Up { rtt: self.keep_alive.rtt() }, 0));
        let (up, refused) = self.channels.settle(refused_by_peer);
        for channel in up {
            self.channel_up(channel);
        }
        for (channel, refusal) in refused {
            self.events.push_back((LinkEvent::ChannelRefused { channel, refusal }, 0));
        }
        self.offer_rest();
        if self.held != (self.direction == Direction::Outbound) {
            self.outbound.control(Kind::Interest(proto::Interest { held: self.held }));
        }
        self.check_held(now);
    }

    fn channel_up(&mut self, channel: u32) {
        self.outbound.open(channel, self.peer_limits.window);
        self.inbound.open(channel);
        self.events.push_back((LinkEvent::ChannelUp { channel }, 0));
    }

    fn receive_open(&mut self, open: proto::Open) -> Result<(), String> {
        let remote = open.channel;
        let expected = self.channels.next_remote();
        if remote < expected {
            return Err(format!("opened channel {remote}, the next is {expected} or more"));
        }
        let instance = open.instance.ok_or("an Open without its instance")?;
        let instance = Instance::try_from(instance).map_err(|error| format!("open: {error}"))?;
        match self.channels.open_remote(remote, instance, self.config.max_channels) {
            Ok(Some(channel)) => {
                self.outbound.control(Kind::Opened(proto::Opened { channel: remote, mine: channel }));
                self.channel_up(channel);
            }
            Ok(None) => {}
            Err((reason, detail)) => {
                self.outbound.control(Kind::Closed(proto::Closed {
                    channel: remote,
                    reason: reason.into(),
                    detail,
                }));
            }
        }
        Ok(())
    }

    fn receive_closed(&mut self, closed: &proto::Closed) {
        let channel = closed.channel;
        if self.channels.closed_by_peer(channel) {
            self.outbound.close(channel);
            self.inbound.close(channel);
            let why = Why::ChannelClosed { by: Side::Them, detail: closed.detail.clone() };
            self.events.push_back((LinkEvent::ChannelDown { channel, why }, 0));
            return;
        }
        let told = proto::Refusal { channel, reason: closed.reason, detail: closed.detail.clone() };
        if let Some(refusal) = self.channels.refusal_told(channel, &told) {
            self.events.push_back((LinkEvent::ChannelRefused { channel, refusal }, 0));
        }
    }

    /// Opens one more instance; its number comes back, and [`LinkEvent::ChannelUp`] or
    /// [`LinkEvent::ChannelRefused`] follows.
    pub fn open(&mut self, instance: Instance) -> u32 {
        let number = self.channels.add_local(instance, false);
        if matches!(self.phase, Phase::Up) {
            self.offer_rest();
        }
        number
    }

    fn offer_rest(&mut self) {
        for (channel, instance) in self.channels.offer_rest() {
            let instance = Some(proto::Instance::from(&instance));
            self.outbound.control(Kind::Open(proto::Open { channel, instance }));
        }
    }

    /// Ends an instance on this link; what waits on its channel is dropped.
    pub fn close_channel(&mut self, channel: u32, detail: &str) {
        let was_up = self.channels.close_local(channel);
        self.outbound.close(channel);
        self.inbound.close(channel);
        if let Some(remote) = was_up {
            let reason = proto::refusal::Reason::Unspecified.into();
            let closed = proto::Closed { channel: remote, reason, detail: detail.to_owned() };
            self.outbound.control(Kind::Closed(closed));
        }
    }

    /// Queues a message.
    ///
    /// # Errors
    /// [`Why::NotUp`], [`Why::TooLarge`] by the peer's announced limit, [`Why::Full`] for control messages.
    pub fn send(&mut self, channel: u32, class: Class, message: Bytes) -> Result<(), Why> {
        if self.draining.is_some() {
            return Err(Why::NotUp);
        }
        let (size, limit) = (message.len() as u64, self.peer_limits.max_message);
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
        } else if self.unheld_at.is_none() {
            self.unheld_at = Some(now + self.config.unheld_grace);
        }
    }

    /// A protocol complains of the peer. The link closes when it has happened [`LinkConfig::fault_limit`] times.
    pub fn fault(&mut self, what: &str) {
        self.stats.faults += 1;
        if self.stats.faults >= self.config.fault_limit {
            self.close(Why::Fault { by: Side::Them, what: what.to_owned() });
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
        self.draining = Some(why);
    }

    fn end(&mut self, why: Why) {
        if matches!(self.phase, Phase::Closed)
            && self.events.iter().any(|(event, _)| matches!(event, LinkEvent::Closed(_)))
        {
            return;
        }
        self.phase = Phase::Closed;
        self.outbound.cut();
        self.events.push_back((LinkEvent::Closed(why), 0));
    }

    /// The next thing that the host must know. Taking a message gives its credit back to the peer.
    pub fn poll_event(&mut self) -> Option<LinkEvent> {
        let (event, cost) = self.events.pop_front()?;
        if let LinkEvent::Message { channel, .. } = &event {
            self.inbound.taken(*channel, cost);
            self.return_credit(*channel);
        }
        Some(event)
    }

    fn return_credit(&mut self, channel: u32) {
        if let Some(bytes) = self.inbound.credit_due(channel)
            && let Some(remote) = self.channels.remote_of(channel)
        {
            self.outbound.control(Kind::Credit(proto::Credit { channel: remote, bytes }));
        }
    }

    /// Appends what is to be sent, until `out` holds `budget` bytes or there is nothing.
    pub fn transmit(&mut self, out: &mut BytesMut, budget: usize) {
        if let Err(error) = self.outbound.transmit(out, budget) {
            self.end(Why::Lost(error.to_string()));
        }
        let events = &mut self.events;
        if !matches!(self.phase, Phase::Closed) {
            self.outbound.take_room(|channel, class, bytes| {
                events.push_back((LinkEvent::Room { channel, class, bytes }, 0));
            });
        }
        if self.outbound.queued() == (0, 0)
            && let Some(why) = self.draining.take()
        {
            self.close(why);
            if let Err(error) = self.outbound.transmit(out, usize::MAX) {
                self.end(Why::Lost(error.to_string()));
            }
        }
    }

    /// Whether [`Link::transmit`] has something to give.
    pub fn has_work(&self) -> bool {
        self.outbound.has_work()
    }

    /// The time has come, or not: pings, deadlines, silence.
    pub fn on_timer(&mut self, now: Instant) {
        match self.phase {
            Phase::Closed => {}
            Phase::Greeting(_) | Phase::Deciding | Phase::Admitted => {
                if now >= self.handshake_ends {
                    let after = self.config.handshake_timeout;
                    self.close(Why::TimedOut { what: "the handshake", after });
                }
            }
            Phase::Up => {
                if self.unheld_at.is_some_and(|at| now >= at) {
                    return self.drain_unheld();
                }
                match self.keep_alive.on_timer(now) {
                    Due::Nothing => {}
                    Due::Ping(nonce) => self.outbound.control(Kind::Ping(proto::Ping { nonce })),
                    Due::Silent => self.close(Why::Silent { after: self.config.silent_after }),
                }
            }
        }
    }

    fn drain_unheld(&mut self) {
        self.unheld_at = None;
        self.drain(Why::Unheld);
    }

    /// When [`Link::on_timer`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Closed => None,
            Phase::Greeting(_) | Phase::Deciding | Phase::Admitted => Some(self.handshake_ends),
            Phase::Up => {
                let ping = self.keep_alive.deadline();
                Some(self.unheld_at.map_or(ping, |unheld| unheld.min(ping)))
            }
        }
    }

    /// Who is at the other end, once the handshake has shown it.
    pub fn peer(&self) -> Option<PeerId> {
        self.peer
    }

    /// The smoothed round-trip time.
    pub fn rtt(&self) -> Option<Duration> {
        self.keep_alive.rtt()
    }

    /// The longest message that the peer takes, in bytes.
    pub fn max_message(&self) -> u64 {
        self.peer_limits.max_message
    }

    /// Messages and bytes that wait to be sent.
    pub fn queued(&self) -> (u64, u64) {
        self.outbound.queued()
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
            records_sent: self.outbound.records,
            ..self.stats
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
