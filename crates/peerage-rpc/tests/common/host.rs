//! A host of one broker's machine, whose parties say what they like.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use peerage_machine::{
    Class, Direction, Effect, Incarnation, Input, Instant, LinkId, LinkInfo, Machine as _, Now, OpId, Outbox,
    OutboxOf, Seed, StoreError, UnixMillis, Why, Write,
};
use peerage_rpc::accounts::{Accounts, AccountsConfig, Confirmation, Kind, NewInvite, Token};
use peerage_rpc::{BrokerConfig, BrokerMachine, Event, Limits, Packet, Run, RunKey, Status};
use peerage_sim::peer;
use peerage_wire::proto::rpc::v1 as proto;

use super::wire::{self, Body};

pub(crate) struct Host {
    pub(crate) broker: BrokerMachine,
    pub(crate) now: Instant,
    out: OutboxOf<BrokerMachine>,
    next_link: u64,
    /// What was said on each link, and not heard yet.
    pub(crate) said: BTreeMap<LinkId, Vec<proto::Packet>>,
    pub(crate) closed: BTreeMap<LinkId, Why>,
    pub(crate) events: Vec<Event>,
    pub(crate) counted: BTreeMap<&'static str, u64>,
    storing: Vec<(OpId, Vec<Write>)>,
    /// What is in the broker's store.
    pub(crate) stored: BTreeMap<Bytes, Bytes>,
    /// Whether the store fails.
    pub(crate) is_broken: bool,
    numbers: BTreeMap<LinkId, u64>,
    /// The last item that came on a link.
    came: BTreeMap<LinkId, u64>,
    /// Whether what is sent leaves the link at once.
    pub(crate) drains: bool,
    /// The longest messages that links which come up take.
    pub(crate) takes: u64,
}

/// Users 1 to 4, node 100 and 101, 50 that waits for confirmation, 51 that is suspended.
pub(crate) fn accounts() -> Accounts {
    let mut accounts = Accounts::new(AccountsConfig::default());
    let mut rng = Seed::from_u64(3).rng();
    let now = UnixMillis(0);
    let ttl = Duration::from_secs(10);
    for (number, kind) in
        [1, 2, 3, 4, 50, 51].map(|n| (n, Kind::User)).into_iter().chain([100, 101].map(|n| (n, Kind::Node)))
    {
        let confirmation = if number == 50 { Confirmation::ByAdministrator } else { Confirmation::AtOnce };
        let new = NewInvite { kind, label: String::new(), ttl, confirmation };
        let (token, _) = accounts.invite(now, new, &mut rng).unwrap();
        accounts.enrol(now, peer(number), token.as_bytes()).unwrap();
    }
    accounts.suspend(now, &peer(51)).unwrap();
    accounts
}

/// What a strict broker grants.
pub(crate) const STRICT: Limits = Limits {
    calls: 4,
    call_bytes: 3500,
    streams: 2,
    stream_messages: 8,
    stream_bytes: 2048,
    message_bytes: 1024,
};

/// A strict broker, and the link of a user who does nothing wrong.
pub(crate) fn strict() -> (Host, LinkId) {
    let mut host = Host::new(BrokerConfig { limits: STRICT, max_unopened: 5, ..BrokerConfig::default() });
    let other = host.opened(2);
    (host, other)
}

impl Host {
    pub(crate) fn new(config: BrokerConfig) -> Self {
        Self::started(config, BTreeMap::new())
    }

    /// With a broker that finds this in its store.
    pub(crate) fn started(config: BrokerConfig, stored: BTreeMap<Bytes, Bytes>) -> Self {
        let now = Now { mono: Instant::START, wall: UnixMillis(0) };
        Self {
            broker: BrokerMachine::new(config, accounts(), stored.clone(), now, &Seed::from_u64(1)),
            now: Instant::START,
            out: Outbox::new(),
            next_link: 0,
            said: BTreeMap::new(),
            closed: BTreeMap::new(),
            events: Vec::new(),
            counted: BTreeMap::new(),
            storing: Vec::new(),
            stored,
            is_broken: false,
            numbers: BTreeMap::new(),
            came: BTreeMap::new(),
            drains: true,
            takes: 16 << 20,
        }
    }

    fn now(&self) -> Now {
        Now { mono: self.now, wall: UnixMillis(self.now.as_micros() / 1000) }
    }

    pub(crate) fn input(&mut self, input: Input<Packet>) {
        let now = self.now();
        self.broker.on_input(now, input, &mut self.out);
        self.carry_out();
    }

    pub(crate) fn ask<R>(
        &mut self,
        ask: impl FnOnce(&mut BrokerMachine, Now, &mut OutboxOf<BrokerMachine>) -> R,
    ) -> R {
        let now = self.now();
        let result = ask(&mut self.broker, now, &mut self.out);
        self.carry_out();
        result
    }

    fn carry_out(&mut self) {
        let mut out = std::mem::take(&mut self.out);
        let (mut drained, mut closed) = (Vec::new(), Vec::new());
        for effect in out.drain() {
            match effect {
                Effect::SendOne { to, message, class } => {
                    drained.extend(self.sent(to, &message, class));
                }
                Effect::Send { to, message, class, .. } => {
                    drained.extend(to.into_iter().filter_map(|link| self.sent(link, &message, class)));
                }
                Effect::CloseChannel { link, why } => {
                    self.closed.entry(link).or_insert(why.clone());
                    closed.push((link, why));
                }
                Effect::Emit(event) => self.events.push(event),
                Effect::Count { name, by } => *self.counted.entry(name).or_default() += by,
                Effect::Store { op, batch } => self.storing.push((op, batch)),
                _ => {}
            }
        }
        self.out = out;
        self.broker.check().unwrap();
        for (op, batch) in std::mem::take(&mut self.storing) {
            let result = if self.is_broken { Err(StoreError::Failed("full".to_owned())) } else { Ok(()) };
            for Write { key, value } in batch.into_iter().filter(|_| result.is_ok()) {
                match value {
                    Some(value) => self.stored.insert(key, value),
                    None => self.stored.remove(&key),
                };
            }
            self.input(Input::Stored { op, result });
        }
        for (link, why) in closed {
            self.input(Input::Down { link, why });
        }
        if self.drains {
            for (link, class, bytes) in drained {
                self.input(Input::Credit { link, class, bytes });
            }
        }
    }

    /// A message leaves; what of it the link's queue has room for again afterwards.
    fn sent(&mut self, link: LinkId, message: &Packet, class: Class) -> Option<(LinkId, Class, u64)> {
        for packet in wire::read(message) {
            if packet.seq > 0 && !packet.bulk {
                self.came.insert(link, packet.seq);
            }
            self.said.entry(link).or_default().push(packet);
        }
        (class != Class::Control)
            .then(|| (link, class, peerage_machine::Message::encoded_len(message) as u64))
    }

    /// Time passes, with the deadlines on the way.
    pub(crate) fn wait(&mut self, span: Duration) {
        let until = self.now + span;
        while let Some(at) = self.broker.deadline().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            let now = self.now();
            self.broker.on_timer(now, &mut self.out);
            self.carry_out();
        }
        self.now = until;
    }

    /// A link to that one comes up.
    pub(crate) fn up(&mut self, number: u32) -> LinkId {
        let link = LinkId(self.next_link);
        self.next_link += 1;
        let info = LinkInfo {
            peer: peer(number),
            incarnation: Incarnation([number as u8; 16]),
            addresses: Vec::new(),
            direction: Direction::Inbound,
            rtt: None,
            parameters: Bytes::new(),
            credit: 1 << 20,
            max_message: self.takes,
            since: UnixMillis(0),
        };
        self.input(Input::Up { link, info });
        link
    }

    /// Bytes come, as the link hands them on: what cannot be read is the link's own fault to close.
    pub(crate) fn say(&mut self, link: LinkId, message: Packet) {
        self.input(Input::Message { link, message });
    }

    /// An item, under the next number.
    pub(crate) fn item(&mut self, link: LinkId, body: Body) -> u64 {
        let sent = self.numbers.entry(link).or_default();
        *sent += 1;
        let seq = *sent;
        self.say(link, wire::item(seq, body));
        seq
    }

    pub(crate) fn acknowledge(&mut self, link: LinkId) {
        let up_to = self.came.get(&link).copied().unwrap_or(0);
        self.say(link, wire::packet(0, false, Body::Ack(proto::Ack { up_to, bulk_up_to: 0, done: up_to })));
    }

    pub(crate) fn hears(&mut self, link: LinkId) -> Vec<Body> {
        self.said.remove(&link).unwrap_or_default().into_iter().filter_map(|packet| packet.body).collect()
    }

    /// A link with a session.
    pub(crate) fn opened(&mut self, number: u32) -> LinkId {
        let link = self.up(number);
        self.say(link, wire::open());
        assert!(matches!(self.hears(link)[..], [Body::Opened(_)]));
        self.acknowledge(link);
        self.hears(link);
        link
    }

    pub(crate) fn opened_node(&mut self, number: u32, groups: &[&str]) -> LinkId {
        let link = self.up(number);
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        self.say(link, wire::packet(0, false, Body::Open(proto::Open { groups, ..proto::Open::default() })));
        assert!(matches!(self.hears(link)[..], [Body::Opened(_)]));
        self.acknowledge(link);
        self.hears(link);
        link
    }

    /// What is to be run.
    pub(crate) fn runs(&mut self) -> Vec<Run> {
        let mut runs = Vec::new();
        self.events.retain(|event| match event {
            Event::Run(run) => {
                runs.push((**run).clone());
                false
            }
            _ => true,
        });
        runs
    }

    pub(crate) fn complete(&mut self, key: RunKey, result: Result<Bytes, Status>) {
        self.ask(|broker, now, out| broker.complete(now, key, result, Vec::new(), out));
    }

    /// The statuses and payloads of replies that came on a link.
    pub(crate) fn replies(&mut self, link: LinkId) -> Vec<proto::Reply> {
        let replies = self.hears(link).into_iter().filter_map(|body| match body {
            Body::Reply(reply) => Some(reply),
            _ => None,
        });
        replies.collect()
    }

    /// The code of the only reply that came.
    pub(crate) fn code(&mut self, link: LinkId) -> u32 {
        match &self.replies(link)[..] {
            [proto::Reply { status: Some(status), .. }] => status.code,
            other => panic!("not one reply with a status: {other:?}"),
        }
    }

    /// Somebody else's call is answered.
    pub(crate) fn serves(&mut self, link: LinkId) {
        self.runs();
        self.hears(link);
        self.item(link, Body::Call(wire::call("ping", 0)));
        let runs = self.runs();
        assert_eq!(runs.len(), 1, "somebody else is not served: {:?}", self.closed.get(&link));
        self.complete(runs[0].key, Ok(Bytes::from_static(b"pong")));
        assert!(self.replies(link).iter().any(|reply| reply.payload == "pong"));
        self.acknowledge(link);
    }

    /// The link was closed for that reason, and counted.
    pub(crate) fn faulted(&self, link: LinkId, why: &str) {
        match self.closed.get(&link) {
            Some(Why::Fault { what, .. }) if what.contains(why) => {}
            other => panic!("not closed because {why:?}, but {other:?}"),
        }
        assert!(self.counted["rpc_faults_total"] >= 1);
    }

    pub(crate) fn token(&mut self, ttl: Duration) -> Token {
        let new =
            NewInvite { kind: Kind::User, label: String::new(), ttl, confirmation: Confirmation::AtOnce };
        self.ask(|broker, now, out| broker.invite(now, new, out)).unwrap().0
    }
}
