//! How attackers get at honest peers: links, and places among their neighbours.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use peerage_machine::{DialId, Input, Instant, LinkId, OutboxOf, Rng, Target};
use peerage_overlay::{MeshMachine, Packet};
use peerage_sim::Start;
use peerage_wire::proto::mesh::v1 as proto;
use peerage_wire::proto::mesh::v1::packet::Kind;

use super::{Gang, words};

/// How often it looks whether it has the links that it wants, and asks again who refused it.
const AGAIN: Duration = Duration::from_secs(1);

/// Whom it goes for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aim {
    /// Random honest peers.
    Anybody,
    /// The one that the gang has picked.
    Target,
}

#[derive(Debug, Default)]
struct Line {
    /// Whether it has been taken as a neighbour there.
    taken: bool,
    /// What the peer's numbers for streams stand for.
    names: BTreeMap<u32, (Bytes, u64)>,
}

/// Asks to be a neighbour, urgently, again and again; says yes to whoever asks, answers probes, wants whatever is
/// announced to be pushed to it, and names only attackers.
#[derive(Debug)]
pub(super) struct Foothold {
    gang: Rc<Gang>,
    rng: Rng,
    aim: Aim,
    lines: BTreeMap<LinkId, Line>,
    dials: u64,
    open_dials: usize,
    next: Instant,
}

impl Foothold {
    pub(super) fn new(gang: Rc<Gang>, aim: Aim, start: &Start) -> Self {
        let mut rng = start.seed.fork("foothold").rng();
        let next = start.now.mono + rng.duration_between(Duration::ZERO, AGAIN);
        Self { gang, rng, aim, lines: BTreeMap::new(), dials: 0, open_dials: 0, next }
    }

    pub(super) fn links(&self) -> impl Iterator<Item = LinkId> {
        self.lines.keys().copied()
    }

    /// Those on which it is a neighbour.
    pub(super) fn neighbours(&self) -> impl Iterator<Item = LinkId> {
        self.lines.iter().filter(|(_, line)| line.taken).map(|(link, _)| *link)
    }

    fn say(link: LinkId, kind: Kind, out: &mut OutboxOf<MeshMachine>) {
        if let Some(packet) = words::packet(kind) {
            out.control(link, packet);
        }
    }

    /// Gives what was said, with the names of streams written out.
    pub(super) fn on_input(
        &mut self,
        input: Input<Packet>,
        out: &mut OutboxOf<MeshMachine>,
    ) -> Option<(LinkId, Kind)> {
        match input {
            Input::Up { link, .. } => {
                self.lines.insert(link, Line::default());
            }
            Input::Down { link, .. } => {
                self.lines.remove(&link);
            }
            Input::Dialed { link, .. } => {
                self.open_dials -= 1;
                Self::say(link, Kind::Neighbour(proto::Neighbour { urgent: true }), out);
            }
            Input::DialFailed { .. } => self.open_dials -= 1,
            Input::Message { link, message } => {
                let mut kind = words::kind(&message)?;
                self.hear(link, &mut kind, out);
                return Some((link, kind));
            }
            _ => {}
        }
        None
    }

    fn hear(&mut self, link: LinkId, kind: &mut Kind, out: &mut OutboxOf<MeshMachine>) {
        let Some(line) = self.lines.get_mut(&link) else { return };
        match kind {
            Kind::Join(_) | Kind::Neighbour(_) => {
                line.taken = true;
                let others = self.gang.named(&mut self.rng);
                Self::say(link, Kind::NeighbourReply(proto::NeighbourReply { accepted: true, others }), out);
            }
            Kind::NeighbourReply(reply) => line.taken = reply.accepted,
            Kind::Disconnect(_) => line.taken = false,
            Kind::Shuffle(proto::Shuffle { nonce, .. }) => {
                let sample = self.gang.named(&mut self.rng);
                Self::say(link, Kind::ShuffleReply(proto::ShuffleReply { nonce: *nonce, sample }), out);
            }
            Kind::Probe(proto::Probe { answer: false }) => {
                Self::say(link, Kind::Probe(proto::Probe { answer: true }), out);
            }
            Kind::Announce(proto::Announce { runs }) => {
                line.write_out(runs);
                let wanted = runs.iter().filter(|run| !run.ranges.is_empty());
                let runs = wanted.map(|run| proto::Run { now: true, hops: 0, ..run.clone() }).collect();
                Self::say(link, Kind::Want(proto::Want { runs }), out);
            }
            Kind::Summary(proto::Summary { runs, .. }) => line.write_out(runs),
            _ => {}
        }
    }

    pub(super) fn on_timer(&mut self, now: Instant, out: &mut OutboxOf<MeshMachine>) {
        if self.next > now {
            return;
        }
        self.next = now + self.rng.jitter(AGAIN, 0.2);
        for (link, line) in &self.lines {
            if !line.taken {
                Self::say(*link, Kind::Neighbour(proto::Neighbour { urgent: true }), out);
            }
        }
        let links = if self.aim == Aim::Target { 1 } else { self.gang.links };
        while self.lines.len() + self.open_dials < links {
            let whom = match self.aim {
                Aim::Anybody => self.rng.pick(&self.gang.victims),
                Aim::Target => self.gang.victims.first(),
            };
            let Some((_, address)) = whom else { return };
            out.dial(DialId(self.dials), Target::Address(address.clone()));
            self.dials += 1;
            self.open_dials += 1;
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        self.next
    }
}

impl Line {
    fn write_out(&mut self, runs: &mut Vec<proto::Run>) {
        runs.retain_mut(|run| {
            if run.origin.is_empty() {
                let Some((origin, epoch)) = self.names.get(&run.name) else { return false };
                (run.origin, run.epoch) = (origin.clone(), *epoch);
            } else if run.name > 0 {
                self.names.insert(run.name, (run.origin.clone(), run.epoch));
            }
            run.name = 0;
            true
        });
    }
}
