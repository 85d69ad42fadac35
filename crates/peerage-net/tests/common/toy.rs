//! The machine.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use peerage_machine::{
    CallId, Class, DialId, Effect, Input, InstanceName, Instant, JobId, LinkId, LinkInfo, Machine, Malformed,
    Message, Now, OpId, OutboxOf, SendId, StoreError, Target, Why,
};
use peerage_net::{Hosted, InstanceSpec, OnReturn, Sink};
use peerage_wire::PeerId;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Bytes, of which the first must not be 255.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note(pub Bytes);

impl Message for Note {
    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn encode(&self, into: &mut BytesMut) {
        into.put_slice(&self.0);
    }

    fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        match bytes.first() {
            Some(255) => Err(Malformed::new("note", "its first byte is 255")),
            _ => Ok(Self(bytes)),
        }
    }
}

/// Everything that a machine can hear.
#[derive(Clone, Debug)]
pub enum Event {
    Up(LinkId, LinkInfo),
    Down(LinkId, Why),
    Got(LinkId, Bytes),
    Dialed(DialId, LinkId),
    DialFailed(DialId, Why),
    Credit(LinkId, Class, u64),
    Undelivered(SendId, LinkId, Why),
    Verified(JobId, bool),
    Stored(OpId, Result<(), StoreError>),
    Rtt(LinkId, Duration),
    OwnAddresses(Vec<peerage_wire::Address>),
    Rang(Now),
}

/// Tells the application all that it hears, and does what it is asked.
#[derive(Debug, Default)]
pub struct Toy {
    /// Sends back what it gets.
    pub echo: bool,
    /// Passes what it gets on to all other links.
    pub relay: bool,
    /// Says nothing of messages and credit; counts.
    pub quiet: bool,
    pub got: u64,
    pub got_bytes: u64,
    /// Messages that were not what [`numbered`] says of their place.
    pub wrong: u64,
    pub links: Vec<LinkId>,
    pub alarm: Option<Instant>,
    /// Messages that wait for credit: how many, how long.
    pub flood: Option<Flood>,
    /// The latest time that it was told.
    pub latest: Instant,
    /// How often time went back.
    pub back: u64,
}

#[derive(Debug)]
pub struct Flood {
    pub to: LinkId,
    pub next: u64,
    pub end: u64,
    pub size: usize,
    pub room: u64,
}

/// Message `number` of a flood: its number, then filler that depends on it.
pub fn numbered(number: u64, size: usize) -> Bytes {
    let mut body = BytesMut::with_capacity(size);
    body.put_u64(number);
    body.resize(size, number as u8);
    body.freeze()
}

impl Toy {
    fn clock(&mut self, now: Now) {
        self.back += u64::from(now.mono < self.latest);
        self.latest = self.latest.max(now.mono);
    }

    fn pour(&mut self, out: &mut OutboxOf<Self>) {
        let Some(flood) = &mut self.flood else { return };
        while flood.next < flood.end && flood.room >= flood.size as u64 {
            flood.room -= flood.size as u64;
            out.send(flood.to, Note(numbered(flood.next, flood.size)));
            flood.next += 1;
        }
    }
}

impl Machine for Toy {
    type Message = Note;
    type Event = Event;
    type Answer = u64;

    fn on_input(&mut self, now: Now, input: Input<Note>, out: &mut OutboxOf<Self>) {
        self.clock(now);
        let event = match input {
            Input::Up { link, info } => {
                self.links.push(link);
                Event::Up(link, info)
            }
            Input::Down { link, why } => {
                self.links.retain(|known| *known != link);
                Event::Down(link, why)
            }
            Input::Message { link, message } => {
                if self.quiet {
                    self.wrong += u64::from(message.0 != numbered(self.got, message.0.len()));
                }
                self.got += 1;
                self.got_bytes += message.0.len() as u64;
                if self.echo {
                    out.send(link, message.clone());
                }
                if self.relay {
                    let to = self.links.iter().copied().filter(|other| *other != link).collect();
                    let message = message.clone();
                    out.push(Effect::Send { to, message, class: Class::Interactive, id: None });
                }
                if self.quiet {
                    return;
                }
                Event::Got(link, message.0)
            }
            Input::Dialed { dial, link } => Event::Dialed(dial, link),
            Input::DialFailed { dial, why } => Event::DialFailed(dial, why),
            Input::Credit { link, class, bytes } => {
                if let Some(flood) = self.flood.as_mut().filter(|flood| flood.to == link) {
                    flood.room += bytes;
                    self.pour(out);
                }
                if self.quiet {
                    return;
                }
                Event::Credit(link, class, bytes)
            }
            Input::Undelivered { send, link, why } => Event::Undelivered(send, link, why),
            Input::Stored { op, result } => Event::Stored(op, result),
            Input::Verified { job, valid } => Event::Verified(job, valid),
            Input::Rtt { link, rtt } => Event::Rtt(link, rtt),
            Input::OwnAddresses(addresses) => Event::OwnAddresses(addresses),
        };
        out.emit(event);
    }

    fn on_timer(&mut self, now: Now, out: &mut OutboxOf<Self>) {
        self.clock(now);
        if self.alarm.is_some_and(|alarm| alarm <= now.mono) {
            self.alarm = None;
            out.emit(Event::Rang(now));
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.alarm
    }
}

/// What a sink hears.
#[derive(Clone, Debug)]
pub enum Heard {
    Event(Event),
    Answer(CallId, u64),
    Closed,
}

/// Into a channel.
#[derive(Debug)]
pub struct ToySink(UnboundedSender<Heard>);

impl ToySink {
    pub fn new() -> (Self, UnboundedReceiver<Heard>) {
        let (sender, receiver) = unbounded_channel();
        (Self(sender), receiver)
    }
}

impl Sink<Toy> for ToySink {
    fn event(&mut self, event: Event) {
        let _ = self.0.send(Heard::Event(event));
    }

    fn answer(&mut self, call: CallId, answer: u64) {
        let _ = self.0.send(Heard::Answer(call, answer));
    }

    fn closed(&mut self) {
        let _ = self.0.send(Heard::Closed);
    }
}

pub fn spec(name: &str) -> InstanceSpec {
    InstanceSpec {
        name: InstanceName { protocol: "toy".to_owned(), name: name.to_owned() },
        version: 1,
        parameters: Bytes::from_static(b"parameters"),
        on_return: OnReturn::default(),
    }
}

/// Asks the toy for one effect.
pub fn want(toy: &Hosted<Toy>, effect: Effect<Note, Event, u64>) {
    toy.call(|_, _, out| out.push(effect)).unwrap();
}

pub fn send(toy: &Hosted<Toy>, to: LinkId, body: impl Into<Bytes>) {
    send_as(toy, to, body, Class::Interactive, None);
}

pub fn send_as(toy: &Hosted<Toy>, to: LinkId, body: impl Into<Bytes>, class: Class, id: Option<u64>) {
    let (message, id) = (Note(body.into()), id.map(SendId));
    want(toy, Effect::Send { to: vec![to], message, class, id });
}

pub fn dial(toy: &Hosted<Toy>, id: u64, target: Target) {
    want(toy, Effect::Dial { id: DialId(id), target });
}

pub fn dial_peer(toy: &Hosted<Toy>, id: u64, peer: PeerId, addresses: Vec<peerage_wire::Address>) {
    dial(toy, id, Target::Peer { peer, addresses });
}

/// Sends so many numbered messages, as fast as credit lets it.
pub fn flood(toy: &Hosted<Toy>, to: LinkId, count: u64, size: usize, room: u64) {
    toy.call(|toy, _, out| {
        toy.flood = Some(Flood { to, next: 0, end: count, size, room });
        toy.pour(out);
    })
    .unwrap();
}
