//! What the link makes of the bytes that arrive.

use std::time::Duration;

use peerage_machine::{Direction, Instant, Side, Why};
use peerage_wire::frame::{FrameRef, Frames};
use peerage_wire::hello::{Instance, Limits};
use peerage_wire::proto::link::v1 as proto;
use peerage_wire::proto::link::v1::control::Kind;

use super::{Link, Phase, Waiting};
use crate::LinkEvent;
use crate::channels::Opened;
use crate::handshake::{Greeted, Progress};
use crate::inbound::{Whole, cost_of, needs_credit};
use crate::outbound::is_counted;
use crate::pace::Pace;
use crate::reason;

/// Events that wait when [`Link::receive`] stops taking records. One record holds thousands.
const EVENTS_AHEAD: usize = 1024;
/// Events for which there is room on a quiet link, 64 bytes each.
const KEPT_EVENTS: usize = 4;
/// Bytes of messages that wait when [`Link::receive`] stops taking records, those with room of their own aside.
pub(crate) const BYTES_AHEAD: u64 = 256 << 10;

impl Link {
    /// Takes what it can from the front of `input`, decrypting in place, and says how many bytes that was. Call it
    /// again with the rest, and more behind it, until it takes none; take the events in between, because it stops
    /// early while many of them wait.
    pub fn receive(&mut self, now: Instant, input: &mut [u8]) -> usize {
        let mut used = 0;
        self.outbound.refill(now);
        self.message_pace.refill(now);
        self.control_pace.refill(now);
        self.inbound.at(now);
        self.give_room_back();
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
                        self.counter_offer = greeting.counter_offer();
                        self.cookie = greeting.asked();
                        self.end(why);
                        return input.len();
                    }
                },
                Phase::Admitted | Phase::Up
                    if self.events.len() >= EVENTS_AHEAD || self.inbound.untaken() >= BYTES_AHEAD =>
                {
                    return used;
                }
                Phase::Admitted | Phase::Up => match self.receive_record(now, rest) {
                    Some(bytes) => bytes,
                    None => return used,
                },
            };
            used += step;
        }
    }

    /// Room for events goes in halves when it was not needed last time: a link that is busy again has most of it.
    fn give_room_back(&mut self) {
        if !self.events.is_empty() {
            return;
        }
        let needed = std::mem::take(&mut self.most_events).max(KEPT_EVENTS);
        if self.events.capacity() >= 2 * needed {
            self.events.shrink_to(self.events.capacity() / 2);
        }
    }

    pub(super) fn greeted(&mut self, now: Instant, greeted: Greeted) {
        let Greeted { hello, expected, suite, sealer, opener, rtt } = greeted;
        self.suite = Some(suite);
        self.outbound.seal_with(sealer);
        self.opener = Some(opener);
        self.keep_alive.heard(now);
        self.keep_alive.estimate(rtt);
        self.inbound.measured(rtt, rtt);
        self.phase = Phase::Deciding;
        let hello = match hello {
            Ok(hello) => hello,
            Err(what) => return self.refuse(Why::Fault { by: Side::Them, what }),
        };
        self.peer = Some(hello.identity);
        if hello.identity == self.identity.peer_id() {
            return self.refuse(Why::SelfDial);
        }
        if let Some(expected) = expected
            && expected != hello.identity
        {
            return self.refuse(Why::WrongPeer { expected, found: hello.identity });
        }
        self.peer_max_message = hello.limits.max_message;
        self.peer_window = hello.limits.window;
        self.set_paces(now, &hello.limits);
        self.channels.greet(hello.instances.clone());
        self.event(LinkEvent::Greeted(Box::new(hello)));
    }

    /// Ours by what the peer said, a second's worth at once. The peer's by what we said, and as much more at once as can
    /// have gathered on a way on which nothing came through until just before the link would have been silent: so nobody
    /// who keeps to the rate is blamed for the network.
    fn set_paces(&mut self, now: Instant, limits: &Limits) {
        let second = Duration::from_secs(1);
        let messages = Pace::new(limits.max_messages_per_second, second, now);
        let controls = Pace::new(u64::from(limits.max_controls_per_second), second, now);
        self.outbound.pace(messages, controls);
        let burst = second + self.config.silent_after;
        self.message_pace = Pace::new(self.config.max_messages_per_second.unwrap_or(0), burst, now);
        self.control_pace = Pace::new(u64::from(self.config.max_controls_per_second), burst, now);
    }

    fn receive_record(&mut self, now: Instant, input: &mut [u8]) -> Option<usize> {
        let arrived = input.len();
        let whole = input.split_first_chunk_mut::<2>().and_then(|(length, rest)| {
            let length = usize::from(u16::from_be_bytes(*length));
            rest.get_mut(..length).map(|record| (length, record))
        });
        let Some((length, record)) = whole else {
            self.keep_alive.heard_part(now, arrived);
            return None;
        };
        let mut opener = self.opener.take()?;
        let opened = opener.open(record);
        self.opener = Some(opener);
        match opened {
            Ok(plaintext) => {
                self.keep_alive.heard(now);
                self.records_received += 1;
                self.receive_frames(now, plaintext);
                if matches!(self.phase, Phase::Up)
                    && let Some(nonce) = self.keep_alive.ping_early(now)
                {
                    self.outbound.control(Kind::Ping(proto::Ping { nonce }));
                }
                self.most_events = self.most_events.max(self.events.len());
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
                (Ok(FrameRef::UnknownControl), _) => self.count_control(),
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
            self.late_fragments += 1;
            let bytes = cost_of(class, payload);
            if bytes > 0 && self.closing.has_remote(remote) {
                // The peer may be closing too, and must get to its last word.
                self.outbound.control(Kind::Credit(proto::Credit { channel: remote, class, bytes }));
            }
            return Ok(());
        };
        if let Some(Whole { message, receipt }) = self.inbound.fragment(channel, class, total, payload)? {
            if !self.message_pace.take() {
                self.inbound.taken(channel, receipt, message.len());
                let rate = self.config.max_messages_per_second.unwrap_or(0);
                return Err(format!("more than {rate} messages a second"));
            }
            self.events.push_back(Waiting::Message { channel, message, receipt });
        }
        self.give_credit(false);
        Ok(())
    }

    fn count_control(&mut self) -> Result<(), String> {
        let rate = self.config.max_controls_per_second;
        if self.control_pace.take() { Ok(()) } else { Err(format!("more than {rate} controls a second")) }
    }

    fn receive_control(&mut self, now: Instant, kind: Kind) -> Result<(), String> {
        if is_counted(&kind) {
            self.count_control()?;
        }
        match (kind, &self.phase) {
            (Kind::Accept(accept), Phase::Admitted) => self.up(now, &accept),
            (Kind::Refuse(refuse), Phase::Admitted) => self.ended_by_peer(self.why_refused(&refuse)),
            (Kind::Goodbye(goodbye), _) => {
                self.ended_by_peer(reason::from_wire(goodbye.code, &goodbye.detail, self.identity.peer_id()));
            }
            (Kind::Ping(ping), _) => self.outbound.control(Kind::Pong(proto::Pong { nonce: ping.nonce })),
            (Kind::Pong(pong), _) => {
                if let Some(rtt) = self.keep_alive.pong(now, pong.nonce) {
                    self.inbound.measured(self.keep_alive.least().unwrap_or(rtt), rtt);
                    self.event(LinkEvent::Rtt(rtt));
                }
                if self.keep_alive.answers_probe(pong.nonce) {
                    self.event(LinkEvent::Answered);
                }
            }
            (_, Phase::Admitted) => return Err("a frame before Accept or Refuse".to_owned()),
            (Kind::Accept(_) | Kind::Refuse(_), _) => return Err("a second Accept or Refuse".to_owned()),
            (Kind::Credit(credit), _) => {
                self.outbound.credit(credit.channel, credit.class, credit.bytes)?;
            }
            (Kind::Reclaim(reclaim), _) => {
                self.outbound.reclaim(reclaim.channel, reclaim.class, reclaim.bytes)?;
            }
            (Kind::Returned(returned), _) => self.receive_returned(returned)?,
            (Kind::Open(open), _) => self.receive_open(open)?,
            (Kind::Opened(opened), _) => self.receive_opened(opened)?,
            (Kind::Closed(closed), _) => self.receive_closed(&closed),
            (Kind::Interest(interest), _) => {
                self.held_by_peer = interest.held;
                self.check_held(now);
            }
        }
        Ok(())
    }

    fn receive_returned(&mut self, returned: proto::Returned) -> Result<(), String> {
        let proto::Returned { channel: remote, class, bytes } = returned;
        if !needs_credit(class) {
            return Err(format!("returned credit of class {class}, which takes none"));
        }
        match self.channels.route(remote).map_err(|()| format!("channel {remote} was never opened"))? {
            Some(channel) => {
                self.inbound.returned(channel, class, bytes)?;
                self.give_credit(false);
            }
            // It was asked before the channel closed here, and may need the credit to get to its last word.
            None if bytes > 0 && self.closing.has_remote(remote) => {
                self.outbound.control(Kind::Credit(proto::Credit { channel: remote, class, bytes }));
            }
            None => {}
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
        reason::from_wire(refuse.code, &refuse.detail, self.identity.peer_id())
    }

    fn up(&mut self, now: Instant, accept: &proto::Accept) {
        self.phase = Phase::Up;
        // Nothing hangs on it: what is no address is left out, as in a hello.
        let observed = accept.observed.parse().ok();
        self.event(LinkEvent::Up { rtt: self.keep_alive.rtt(), observed });
        let settled = self.channels.settle(&accept.refused);
        for channel in settled.up {
            self.channel_up(channel);
        }
        for (channel, refusal) in settled.refused {
            self.event(LinkEvent::ChannelRefused { channel, refusal });
        }
        for remote in settled.gone {
            self.outbound.control(Kind::Closed(closed_since(remote)));
        }
        self.offer_rest();
        if self.held != (self.direction == Direction::Outbound) {
            self.outbound.control(Kind::Interest(proto::Interest { held: self.held }));
        }
        self.check_held(now);
    }

    fn channel_up(&mut self, channel: u32) {
        self.outbound.open(channel, self.peer_window);
        self.inbound.open(channel);
        self.event(LinkEvent::ChannelUp { channel });
    }

    fn receive_open(&mut self, open: proto::Open) -> Result<(), String> {
        let remote = open.channel;
        let expected = self.channels.next_remote();
        if u64::from(remote) < expected {
            return Err(format!("opened channel {remote}, the next is {expected} or more"));
        }
        let instance = open.instance.ok_or("an Open without its instance")?;
        let instance = Instance::try_from(instance).map_err(|error| format!("open: {error}"))?;
        match self.channels.open_remote(remote, &instance) {
            Ok(channel) => {
                self.outbound.answer(Kind::Opened(proto::Opened { channel: remote, mine: channel }))?;
                self.channel_up(channel);
                Ok(())
            }
            Err((reason, detail)) => {
                let closed = proto::Closed { channel: remote, reason: reason.into(), detail };
                self.outbound.answer(Kind::Closed(closed))
            }
        }
    }

    fn receive_opened(&mut self, opened: proto::Opened) -> Result<(), String> {
        let proto::Opened { channel, mine } = opened;
        match self.channels.opened(channel, mine) {
            Ok(Opened::Up) => self.channel_up(channel),
            Ok(Opened::Already | Opened::Over) => {}
            // The peer takes the channel for open, and must not go on doing so.
            Ok(Opened::Gone) => self.outbound.answer(Kind::Closed(closed_since(mine)))?,
            Ok(Opened::Full) => {
                self.outbound.answer(Kind::Closed(self.channels.closed_for_limit(mine)))?;
                if let Some(refusal) = self.channels.full(channel) {
                    self.event(LinkEvent::ChannelRefused { channel, refusal });
                }
            }
            Err(()) => return Err(format!("opened channel {channel} as {mine}, which does not meet it")),
        }
        // It may have been what others waited behind.
        self.offer_rest();
        Ok(())
    }

    fn receive_closed(&mut self, closed: &proto::Closed) {
        let channel = closed.channel;
        if self.closing.remove(channel) {
            self.outbound.close(channel);
            return self.offer_rest();
        }
        if self.channels.closed_by_peer(channel) {
            self.outbound.close(channel);
            self.inbound.close(channel);
            let why = Why::ChannelClosed { by: Side::Them, detail: closed.detail.clone() };
            self.event(LinkEvent::ChannelDown { channel, why });
            self.give_credit(false);
            return;
        }
        let told = proto::Refusal { channel, reason: closed.reason, detail: closed.detail.clone() };
        if let Some(refusal) = self.channels.refusal_told(channel, &told) {
            self.event(LinkEvent::ChannelRefused { channel, refusal });
        }
        self.offer_rest();
    }

    fn ended_by_peer(&mut self, why: Why) {
        self.end(why);
        self.outbound.hush();
    }
}

/// For a channel of the peer's whose counterpart was closed here before the peer knew that they meet.
fn closed_since(remote: u32) -> proto::Closed {
    let reason = proto::refusal::Reason::Unspecified.into();
    proto::Closed { channel: remote, reason, detail: String::new() }
}
