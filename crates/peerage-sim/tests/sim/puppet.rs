//! A machine that does what it is told and remembers what it heard.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use peerage_machine::{
    Class, DialId, Effect, Input, Instant, LinkId, LinkInfo, Machine, Malformed, Message, Now, Outbox,
    SendId, Target, Why,
};
use peerage_sim::{Config, Instance, NodeId, Sim, Start, address, peer};

/// A number and some ballast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) number: u64,
    pub(crate) ballast: u64,
}

impl Message for Word {
    fn encoded_len(&self) -> usize {
        8 + self.ballast as usize
    }

    fn encode(&self, into: &mut BytesMut) {
        into.extend_from_slice(&self.number.to_be_bytes());
        into.resize(into.len() + self.ballast as usize, 0);
    }

    fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        if bytes.starts_with(&[0xff; 8]) {
            return Err(Malformed::new("word", "its number is too large"));
        }
        let number =
            bytes.first_chunk().ok_or_else(|| Malformed::new("word", "it is shorter than 8 bytes"))?;
        Ok(Self { number: u64::from_be_bytes(*number), ballast: bytes.len() as u64 - 8 })
    }
}

pub(crate) type Out = Outbox<Word, Input<Word>, u64>;

/// Emits every input; otherwise passive.
pub(crate) struct Puppet {
    pub(crate) start: Start,
    pub(crate) links: Vec<(LinkId, LinkInfo)>,
    pub(crate) deadline: Option<Instant>,
    /// Dials that it keeps account of, and those that ended.
    pub(crate) dialled: BTreeSet<DialId>,
    pub(crate) ended: BTreeSet<DialId>,
    /// Whether it may have links to several starts of one peer.
    pub(crate) coexists: bool,
    /// What it does when its deadline comes.
    pub(crate) on_timer: fn(&mut Self, Now, &mut Out),
    /// What it does when a link comes up.
    pub(crate) on_up: fn(&mut Self, LinkId, &mut Out),
}

impl Puppet {
    pub(crate) fn new(start: Start) -> Self {
        Self {
            start,
            links: Vec::new(),
            deadline: None,
            dialled: BTreeSet::new(),
            ended: BTreeSet::new(),
            coexists: false,
            on_timer: |puppet, _, _| puppet.deadline = None,
            on_up: |_, _, _| (),
        }
    }
}

impl Machine for Puppet {
    type Message = Word;
    type Event = Input<Word>;
    type Answer = u64;

    fn on_input(&mut self, _: Now, input: Input<Word>, out: &mut Out) {
        if let Input::Dialed { dial, .. } | Input::DialFailed { dial, .. } = &input {
            assert!(self.ended.insert(*dial), "{dial} ended twice");
        }
        match &input {
            Input::Up { link, info } => {
                let other = |before: &LinkInfo| {
                    before.peer != info.peer || (self.coexists && before.incarnation != info.incarnation)
                };
                assert!(
                    self.links.iter().all(|(_, before)| other(before)),
                    "two links to {:?} at once",
                    info.peer
                );
                self.links.push((*link, info.clone()));
                (self.on_up)(self, *link, out);
            }
            Input::Down { link, .. } => {
                let before = self.links.len();
                self.links.retain(|(known, _)| known != link);
                assert_eq!(self.links.len() + 1, before, "{link} is down and was not up");
            }
            Input::Message { link, .. } | Input::Credit { link, .. } | Input::Dialed { link, .. } => {
                assert!(self.links.iter().any(|(known, _)| known == link), "{link} is not up: {input:?}");
            }
            _ => (),
        }
        out.emit(input);
    }

    fn on_timer(&mut self, now: Now, out: &mut Out) {
        if self.deadline.is_some_and(|deadline| deadline <= now.mono) {
            (self.on_timer)(self, now, out);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.deadline
    }
}

pub(crate) type World = Sim<Puppet>;

/// Ten milliseconds from everywhere to everywhere, without jitter.
pub(crate) fn even() -> Config {
    let millis = Duration::from_millis;
    Config {
        latency: millis(10)..=millis(10),
        jitter: Duration::ZERO,
        wall_skew: Duration::ZERO,
        ..Config::seeded(1)
    }
}

pub(crate) fn stage() -> Instance {
    Instance::new("puppet", "stage")
}

pub(crate) fn world(config: Config, nodes: u32) -> (World, Vec<NodeId>) {
    let mut sim = Sim::new(config);
    let ids = (0..nodes).map(|n| sim.add(peer(n), [address(n)], stage(), Puppet::new));
    let ids = ids.collect();
    (sim, ids)
}

pub(crate) fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) fn at(millis: u64) -> Instant {
    Instant::from_micros(millis * 1000)
}

pub(crate) fn dial(sim: &mut World, node: NodeId, id: u64, to: u32) {
    sim.command(node, |_, _, out| out.dial(DialId(id), Target::Address(address(to))));
}

pub(crate) fn dial_peer(sim: &mut World, node: NodeId, id: u64, to: u32, at: &[u32]) {
    let addresses = at.iter().map(|n| address(*n)).collect();
    sim.command(node, |_, _, out| out.dial(DialId(id), Target::Peer { peer: peer(to), addresses }));
}

/// Two nodes and their link, dialled by the first, after everything else is over.
pub(crate) fn linked(config: Config) -> (World, [NodeId; 2], [LinkId; 2]) {
    let (mut sim, nodes) = world(config, 2);
    dial(&mut sim, nodes[0], 0, 1);
    sim.run_for(millis(1000));
    let nodes = [nodes[0], nodes[1]];
    let links = nodes.map(|node| sim.links(node)[0].link);
    for node in nodes {
        sim.take_events(node);
    }
    (sim, nodes, links)
}

pub(crate) fn send(sim: &mut World, node: NodeId, link: LinkId, number: u64, ballast: u64, class: Class) {
    let send =
        Effect::Send { to: vec![link], message: Word { number, ballast }, class, id: Some(SendId(number)) };
    sim.command(node, |_, _, out| out.push(send));
}

pub(crate) fn push(sim: &mut World, node: NodeId, effect: Effect<Word, Input<Word>, u64>) {
    sim.command(node, |_, _, out| out.push(effect));
}

/// What the node heard and when, in milliseconds, without its addresses and credit.
pub(crate) fn heard(sim: &mut World, node: NodeId) -> Vec<(u64, Input<Word>)> {
    let events = sim.take_events(node).into_iter().map(|(at, input)| (at.as_micros() / 1000, input));
    events.filter(|(_, input)| !matches!(input, Input::OwnAddresses(_) | Input::Credit { .. })).collect()
}

pub(crate) fn numbers(heard: &[(u64, Input<Word>)]) -> Vec<u64> {
    let numbers = heard.iter().filter_map(|(_, input)| match input {
        Input::Message { message, .. } => Some(message.number),
        _ => None,
    });
    numbers.collect()
}

pub(crate) fn downs(heard: &[(u64, Input<Word>)]) -> Vec<(u64, Why)> {
    let downs = heard.iter().filter_map(|(at, input)| match input {
        Input::Down { why, .. } => Some((*at, why.clone())),
        _ => None,
    });
    downs.collect()
}

/// How each dial ended.
pub(crate) fn dials(heard: &[(u64, Input<Word>)]) -> Vec<(u64, u64, Result<LinkId, Why>)> {
    let ends = heard.iter().filter_map(|(at, input)| match input {
        Input::Dialed { dial, link } => Some((*at, dial.0, Ok(*link))),
        Input::DialFailed { dial, why } => Some((*at, dial.0, Err(why.clone()))),
        _ => None,
    });
    ends.collect()
}
