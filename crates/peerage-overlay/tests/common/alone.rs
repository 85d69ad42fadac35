//! One machine, its host played by hand.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use peerage_machine::{
    Class, DialId, Direction, Effect, Incarnation, Input, Instant, JobId, LinkId, LinkInfo, Machine as _,
    Message as _, Now, Outbox, Seed, SendId, Target, UnixMillis,
};
use peerage_overlay::{MeshAnswer, MeshConfig, MeshEvent, MeshMachine, MeshStart, Packet};
use peerage_wire::PeerId;
use peerage_wire::proto::mesh::v1 as proto;
use peerage_wire::proto::mesh::v1::packet::Kind;

use super::{identity, packets};

pub(crate) const WALL: u64 = 1_767_225_600_000;

pub(crate) struct Alone {
    pub(crate) mesh: MeshMachine,
    pub(crate) now: Instant,
    pub(crate) out: Outbox<Packet, MeshEvent, MeshAnswer>,
    /// What was sent on each link, with its class and size.
    pub(crate) sent: BTreeMap<LinkId, Vec<(Class, u64, Kind)>>,
    pub(crate) verify: Vec<JobId>,
    pub(crate) events: Vec<MeshEvent>,
    pub(crate) faults: Vec<(LinkId, &'static str)>,
    pub(crate) last_send: Option<SendId>,
    /// Links whose peers do not answer probes.
    pub(crate) silent: Vec<LinkId>,
    probes: Vec<LinkId>,
    /// Peers that are being dialled.
    pub(crate) dials: Vec<(DialId, PeerId)>,
}

impl Alone {
    pub(crate) fn new(config: MeshConfig) -> Self {
        Self::by(0, config)
    }

    /// The same, of the peer of this number.
    pub(crate) fn by(number: u32, config: MeshConfig) -> Self {
        let now = Now { mono: Instant::START, wall: UnixMillis(WALL) };
        let start = MeshStart {
            now,
            seed: Seed::from_u64(1),
            identity: identity(number),
            incarnation: Incarnation([1; 16]),
            addresses: Vec::new(),
        };
        Self {
            mesh: MeshMachine::new(config, start),
            now: Instant::START,
            out: Outbox::new(),
            sent: BTreeMap::new(),
            verify: Vec::new(),
            events: Vec::new(),
            faults: Vec::new(),
            last_send: None,
            silent: Vec::new(),
            probes: Vec::new(),
            dials: Vec::new(),
        }
    }

    fn clocks(&self) -> Now {
        Now { mono: self.now, wall: UnixMillis(WALL + self.now.as_micros() / 1000) }
    }

    fn drain(&mut self) {
        for effect in self.out.drain() {
            match effect {
                Effect::Send { to, message, class, id } => {
                    let mut bytes = bytes::BytesMut::new();
                    message.encode(&mut bytes);
                    self.last_send = id.or(self.last_send);
                    let kind =
                        <proto::Packet as prost::Message>::decode(bytes.freeze()).unwrap().kind.unwrap();
                    for link in to {
                        if kind == Kind::Probe(proto::Probe { answer: false }) {
                            self.probes.push(link);
                            continue;
                        }
                        let size = message.encoded_len() as u64;
                        self.sent.entry(link).or_default().push((class, size, kind.clone()));
                    }
                }
                Effect::Dial { id, target: Target::Peer { peer, .. } } => self.dials.push((id, peer)),
                Effect::Verify { job, .. } => self.verify.push(job),
                Effect::Emit(event) => self.events.push(event),
                Effect::Fault { link, what } => self.faults.push((link, what)),
                _ => {}
            }
        }
    }

    pub(crate) fn input(&mut self, input: Input<Packet>) {
        let now = self.clocks();
        self.mesh.on_input(now, input, &mut self.out);
        self.drain();
    }

    pub(crate) fn command<R>(
        &mut self,
        command: impl FnOnce(&mut MeshMachine, Now, &mut Outbox<Packet, MeshEvent, MeshAnswer>) -> R,
    ) -> R {
        let now = self.clocks();
        let result = command(&mut self.mesh, now, &mut self.out);
        self.drain();
        result
    }

    pub(crate) fn say(&mut self, link: u64, kind: Kind) {
        self.input(Input::Message { link: LinkId(link), message: packets::packet(kind) });
    }

    /// Lets time pass, and meets each deadline on the way.
    pub(crate) fn wait(&mut self, span: Duration) {
        let until = self.now + span;
        while let Some(at) = self.mesh.deadline().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            let now = self.clocks();
            self.mesh.on_timer(now, &mut self.out);
            self.drain();
            for link in std::mem::take(&mut self.probes) {
                if !self.silent.contains(&link) {
                    self.say(link.0, Kind::Probe(proto::Probe { answer: true }));
                }
            }
        }
        self.now = until;
    }

    pub(crate) fn up(&mut self, link: u64, peer: PeerId, credit: u64) {
        let info = LinkInfo {
            peer,
            incarnation: Incarnation([2; 16]),
            addresses: vec![format!("tcp://10.0.0.{link}:1").parse().unwrap()],
            direction: Direction::Inbound,
            rtt: Some(Duration::from_millis(10)),
            parameters: Bytes::new(),
            credit,
            max_message: 16 << 20,
            since: UnixMillis(WALL),
        };
        self.input(Input::Up { link: LinkId(link), info });
    }

    /// A link whose peer is a neighbour.
    pub(crate) fn neighbour(&mut self, link: u64, credit: u64) {
        self.up(link, identity(100 + link as u32).peer_id(), credit);
        self.say(link, Kind::Neighbour(proto::Neighbour { urgent: false }));
    }

    pub(crate) fn credit(&mut self, link: u64, bytes: u64) {
        self.input(Input::Credit { link: LinkId(link), class: Class::Interactive, bytes });
    }

    pub(crate) fn verified(&mut self, valid: bool) {
        for job in std::mem::take(&mut self.verify) {
            self.input(Input::Verified { job, valid });
        }
    }

    /// Broadcasts that went out on the link: their bytes as sent.
    pub(crate) fn payloads(&self, link: u64) -> Vec<u64> {
        let sent = self.sent.get(&LinkId(link)).into_iter().flatten();
        sent.filter(|(_, _, kind)| matches!(kind, Kind::Payload(_))).map(|(_, size, _)| *size).collect()
    }
}
