//! A hostile host: says what hosts say, in an order that none would choose, and things that none should.

use std::time::Duration;

use bytes::BytesMut;
use peerage_wire::{Address, PeerId};

use super::{Plan, Step, StepOf, Subject};
use crate::{
    Class, DialId, Direction, Effect, Incarnation, Input, JobId, LinkId, LinkInfo, Machine, Message as _,
    OpId, Rng, Seed, SendId, Side, StoreError, Target, UnixMillis, Why,
};

type EffectOf<M> = Effect<<M as Machine>::Message, <M as Machine>::Event, <M as Machine>::Answer>;

/// What the host has open, and the dice.
pub(super) struct Host {
    rng: Rng,
    most_links: usize,
    weights: [u64; 12],
    given: u64,
    links: Vec<(LinkId, PeerId)>,
    closing: Vec<LinkId>,
    gone: Vec<LinkId>,
    dials: Vec<(DialId, Option<PeerId>)>,
    sends: Vec<(SendId, LinkId)>,
    ops: Vec<OpId>,
    jobs: Vec<JobId>,
}

impl Host {
    pub(super) fn new(plan: &Plan, seed: u64) -> Self {
        let mut rng = Seed::from_u64(seed).fork("hostile host").rng();
        // Each seed leaves some things out and overdoes others: a machine that is never told Down fills up.
        let mut weights = [0; 12].map(|_: u64| if rng.chance(0.15) { 0 } else { 1 + rng.below(10) });
        let [up, _, message, ..] = &mut weights;
        *up += 2;
        *message += 10;
        Self {
            rng,
            most_links: plan.links,
            weights,
            given: 0,
            links: Vec::new(),
            closing: Vec::new(),
            gone: Vec::new(),
            dials: Vec::new(),
            sends: Vec::new(),
            ops: Vec::new(),
            jobs: Vec::new(),
        }
    }

    /// What the machine wants of the host.
    pub(super) fn see<M: Machine>(&mut self, effect: &EffectOf<M>) {
        match effect {
            Effect::Send { id: Some(send), to, .. } => {
                self.sends.extend(to.iter().map(|link| (*send, *link)))
            }
            Effect::Dial { id, target } => {
                let peer = match target {
                    Target::Peer { peer, .. } => Some(*peer),
                    Target::Address(_) => None,
                };
                self.dials.push((*id, peer));
            }
            Effect::CloseChannel { link, .. } if self.links.iter().any(|(up, _)| up == link) => {
                self.closing.push(*link);
            }
            Effect::Store { op, .. } => self.ops.push(*op),
            Effect::Verify { job, .. } => self.jobs.push(*job),
            _ => (),
        }
    }

    /// What happens next: one step, or two that belong together.
    pub(super) fn next<S: Subject>(&mut self, subject: &S) -> Vec<StepOf<S>> {
        if let Some(link) = self.closing.pop() {
            return self
                .down(link, Why::ChannelClosed { by: Side::Us, detail: String::new() })
                .into_iter()
                .collect();
        }
        let total = self.weights.iter().sum::<u64>().max(1);
        let mut drawn = self.rng.below(total);
        let mut kind = 0;
        for weight in self.weights {
            if drawn < weight {
                break;
            }
            drawn -= weight;
            kind += 1;
        }
        let step = match kind {
            0 => {
                let peer = self.peer();
                self.up(subject, peer)
            }
            1 => {
                let link = self.rng.pick(&self.links).copied();
                let why = self.why();
                link.and_then(|(link, _)| self.down(link, why))
            }
            2 => self.rng.pick(&self.links).copied().map(|(link, _)| self.message(subject, link)),
            3 => return self.dial_ends(subject),
            4 => self.something_ends(),
            5 => self.rng.pick(&self.links).copied().map(|(link, _)| {
                let bytes = self.rng.below(1 << 21);
                Step::Input(match self.rng.below(3) {
                    0 => Input::Credit { link, class: Class::Interactive, bytes },
                    1 => Input::Credit { link, class: Class::Bulk, bytes },
                    _ => Input::Rtt { link, rtt: Duration::from_micros(bytes) },
                })
            }),
            6 => Some(self.stranger(subject)),
            7 => Some(Step::Input(Input::OwnAddresses(self.addresses()))),
            8 => subject.command(&mut self.rng).map(Step::Command),
            9 => Some(Step::Wait(self.span(&[1, 1_000, 1_000_000, 10_000_000, 3_600_000_000]))),
            10 => Some(Step::Pause(self.span(&[1_000, 1_000_000, 3_600_000_000, 30 * 86_400_000_000]))),
            _ => Some(match self.rng.below(8) {
                0 => Step::Wall(UnixMillis(self.rng.below(4_000_000_000_000))),
                _ => Step::Early,
            }),
        };
        step.into_iter().collect()
    }

    /// Everything that the machine waits for ends.
    pub(super) fn settle<M, C>(&mut self) -> Vec<Step<M, C>> {
        let closing = std::mem::take(&mut self.closing);
        let closed = |link| self.down(link, Why::ChannelClosed { by: Side::Us, detail: String::new() });
        let mut steps: Vec<_> = closing.into_iter().filter_map(closed).collect();
        self.sends.clear();
        let dials = std::mem::take(&mut self.dials).into_iter();
        steps.extend(dials.map(|(dial, _)| Step::Input(Input::DialFailed { dial, why: Why::NoAddress })));
        let ops = std::mem::take(&mut self.ops).into_iter();
        steps.extend(ops.map(|op| Step::Input(Input::Stored { op, result: Ok(()) })));
        let jobs = std::mem::take(&mut self.jobs).into_iter();
        steps.extend(jobs.map(|job| Step::Input(Input::Verified { job, valid: true })));
        steps
    }

    fn up<M, C, S: Subject + ?Sized>(&mut self, subject: &S, peer: PeerId) -> Option<Step<M, C>> {
        if self.links.len() >= self.most_links || self.links.iter().any(|(_, known)| *known == peer) {
            return None;
        }
        let link = LinkId(self.given);
        self.given += 1;
        self.links.push((link, peer));
        let mut incarnation = [0; 16];
        incarnation.iter_mut().zip(self.rng.bytes()).for_each(|(to, from)| *to = from);
        let info = LinkInfo {
            peer,
            incarnation: Incarnation(incarnation),
            addresses: self.addresses(),
            direction: if self.rng.chance(0.5) { Direction::Outbound } else { Direction::Inbound },
            rtt: self.rng.chance(0.5).then(|| Duration::from_micros(self.rng.below(1_000_000))),
            parameters: subject.parameters(),
            credit: *self.rng.pick(&[0, 1, 1_000, 1 << 20, u64::MAX]).unwrap_or(&0),
            max_message: *self.rng.pick(&[1_024, 65_536, 16 << 20, u64::MAX]).unwrap_or(&1_024),
            since: UnixMillis(self.rng.below(4_000_000_000_000)),
        };
        Some(Step::Input(Input::Up { link, info }))
    }

    fn down<M, C>(&mut self, link: LinkId, why: Why) -> Option<Step<M, C>> {
        let index = self.links.iter().position(|(up, _)| *up == link)?;
        self.links.swap_remove(index);
        self.closing.retain(|closing| *closing != link);
        self.gone.push(link);
        Some(Step::Input(Input::Down { link, why }))
    }

    fn message<S: Subject>(&mut self, subject: &S, link: LinkId) -> StepOf<S> {
        Step::Input(Input::Message { link, message: subject.message(&mut self.rng) })
    }

    /// One of the dials ends; well, if the peer is or comes up.
    fn dial_ends<S: Subject>(&mut self, subject: &S) -> Vec<StepOf<S>> {
        if self.dials.is_empty() {
            return Vec::new();
        }
        let (dial, peer) = self.dials.swap_remove(self.rng.index(self.dials.len()));
        let peer = peer.unwrap_or_else(|| self.peer());
        let mut steps = Vec::new();
        if self.rng.chance(0.6) {
            steps.extend(self.up(subject, peer));
            if let Some((link, _)) = self.links.iter().find(|(_, up)| *up == peer) {
                steps.push(Step::Input(Input::Dialed { dial, link: *link }));
                return steps;
            }
        }
        steps.push(Step::Input(Input::DialFailed { dial, why: self.why() }));
        steps
    }

    /// A send, a batch or a check ends.
    fn something_ends<M, C>(&mut self) -> Option<Step<M, C>> {
        let good = self.rng.chance(0.7);
        let input = match self.rng.below(3) {
            0 if !self.sends.is_empty() => {
                let (send, link) = self.sends.swap_remove(self.rng.index(self.sends.len()));
                Input::Undelivered { send, link, why: Why::Full { queued: 9, limit: 10 } }
            }
            1 if !self.ops.is_empty() => {
                let op = self.ops.swap_remove(self.rng.index(self.ops.len()));
                Input::Stored {
                    op,
                    result: if good { Ok(()) } else { Err(StoreError::Failed("disk full".to_owned())) },
                }
            }
            2 if !self.jobs.is_empty() => {
                let job = self.jobs.swap_remove(self.rng.index(self.jobs.len()));
                Input::Verified { job, valid: good }
            }
            _ => return None,
        };
        Some(Step::Input(input))
    }

    /// Something about what never was or is over.
    fn stranger<S: Subject>(&mut self, subject: &S) -> StepOf<S> {
        let gone = self.rng.pick(&self.gone).copied().filter(|_| self.rng.chance(0.7));
        let link = gone.unwrap_or_else(|| LinkId(u64::MAX - self.rng.below(3)));
        let id = u64::MAX - self.rng.below(3);
        let why = self.why();
        Step::Input(match self.rng.below(10) {
            0 => Input::Message { link, message: subject.message(&mut self.rng) },
            1 => Input::Down { link, why },
            2 => Input::Dialed { dial: DialId(id), link },
            3 => Input::DialFailed { dial: DialId(id), why },
            4 => Input::Credit { link, class: Class::Bulk, bytes: id },
            5 => Input::Undelivered { send: SendId(id), link, why },
            6 => Input::Stored { op: OpId(id), result: Err(StoreError::Absent) },
            7 => Input::Verified { job: JobId(id), valid: true },
            8 => Input::Rtt { link, rtt: Duration::MAX },
            _ => Input::Message { link, message: subject.message(&mut self.rng) },
        })
    }

    /// Bytes that are, or nearly are, a message.
    pub(super) fn damaged<S: Subject>(&mut self, subject: &S) -> BytesMut {
        let mut bytes = BytesMut::new();
        subject.message(&mut self.rng).encode(&mut bytes);
        for _ in 0..self.rng.below(4) {
            let index = self.rng.index(bytes.len());
            match self.rng.below(3) {
                0 => bytes.truncate(index),
                1 => bytes.extend_from_slice(&self.rng.bytes()),
                _ => bytes.iter_mut().skip(index).take(1).for_each(|byte| *byte = self.rng.below(256) as u8),
            }
        }
        bytes
    }

    fn peer(&mut self) -> PeerId {
        // Few enough to come back, more than there are links.
        let number = self.rng.below(self.most_links as u64 * 2 + 2);
        PeerId::from_bytes(*blake3::hash(&number.to_le_bytes()).as_bytes())
    }

    fn addresses(&mut self) -> Vec<Address> {
        let count = self.rng.below(4);
        (0..count).filter_map(|_| format!("tcp://10.0.0.{}:4000", self.rng.below(256)).parse().ok()).collect()
    }

    fn why(&mut self) -> Why {
        let whys = [
            Why::Unheld,
            Why::Superseded,
            Why::Duplicate,
            Why::NoAddress,
            Why::SelfDial,
            Why::Lost("reset".to_owned()),
            Why::Shutdown { by: Side::Them, detail: "bye".to_owned() },
            Why::Silent { after: Duration::from_secs(10) },
            Why::Fault { by: Side::Us, what: "nonsense".to_owned() },
        ];
        self.rng.pick(&whys).cloned().unwrap_or(Why::NotUp)
    }

    fn span(&mut self, most: &[u64]) -> Duration {
        let most = self.rng.pick(most).copied().unwrap_or(1);
        Duration::from_micros(self.rng.below(most + 1))
    }
}
