//! Attackers that are no mesh at all: a foothold, and a script of what to say there.

use std::rc::Rc;
use std::time::Duration;

use peerage_machine::{Input, Instant, LinkId, Machine, Now, OutboxOf};
use peerage_overlay::{MeshAnswer, MeshEvent, MeshMachine, Packet};
use peerage_sim::Start;
use peerage_wire::proto::mesh::v1::packet::Kind;

use super::foothold::{Aim, Foothold};
use super::{Gang, words};

/// What an attacker does on the links that it has.
pub(super) trait Script {
    /// From one turn to the next.
    fn every(&self) -> Duration {
        Duration::from_secs(3600)
    }

    /// Somebody said something.
    fn hear(&mut self, now: Now, from: LinkId, kind: &Kind, voice: &mut Voice<'_>) {
        let _ = (now, from, kind, voice);
    }

    /// It is its turn.
    fn turn(&mut self, now: Now, voice: &mut Voice<'_>) {
        let _ = (now, voice);
    }
}

/// How a script says something. Each word is an act of the gang's.
pub(super) struct Voice<'a> {
    foothold: &'a Foothold,
    gang: &'a Gang,
    out: &'a mut OutboxOf<MeshMachine>,
}

impl Voice<'_> {
    /// To all links but one, whether it is a neighbour there or not.
    pub(super) fn everywhere(&mut self, but: Option<LinkId>, kind: Kind) {
        self.say(self.foothold.links().filter(|link| Some(*link) != but).collect(), kind);
    }

    /// To those that it is a neighbour of, but for one.
    pub(super) fn nearby(&mut self, but: Option<LinkId>, kind: Kind) {
        self.say(self.foothold.neighbours().filter(|link| Some(*link) != but).collect(), kind);
    }

    fn say(&mut self, to: Vec<LinkId>, kind: Kind) {
        let is_payload = matches!(kind, Kind::Payload(_));
        let Some(packet) = words::packet(kind) else { return };
        for link in to {
            self.gang.act();
            if is_payload {
                self.out.send(link, packet.clone());
            } else {
                self.out.control(link, packet.clone());
            }
        }
    }

    /// Something that it should have done and did not.
    pub(super) fn withhold(&mut self) {
        self.gang.act();
    }
}

/// A script, played.
pub(super) struct Scripted<S> {
    gang: Rc<Gang>,
    foothold: Foothold,
    script: S,
    next: Instant,
}

impl<S: Script> Scripted<S> {
    pub(super) fn new(gang: &Rc<Gang>, aim: Aim, script: S, start: &Start) -> Self {
        let foothold = Foothold::new(Rc::clone(gang), aim, start);
        let mut rng = start.seed.fork("script").rng();
        let next = start.now.mono + rng.duration_between(Duration::ZERO, script.every());
        Self { gang: Rc::clone(gang), foothold, script, next }
    }
}

impl<S: Script> Machine for Scripted<S> {
    type Message = Packet;
    type Event = MeshEvent;
    type Answer = MeshAnswer;

    fn on_input(&mut self, now: Now, input: Input<Packet>, out: &mut OutboxOf<Self>) {
        if let Some((from, kind)) = self.foothold.on_input(input, out) {
            let mut voice = Voice { foothold: &self.foothold, gang: &self.gang, out };
            self.script.hear(now, from, &kind, &mut voice);
        }
    }

    fn on_timer(&mut self, now: Now, out: &mut OutboxOf<Self>) {
        self.foothold.on_timer(now.mono, out);
        if self.next <= now.mono {
            self.next = now.mono + self.script.every();
            let mut voice = Voice { foothold: &self.foothold, gang: &self.gang, out };
            self.script.turn(now, &mut voice);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        Some(self.foothold.deadline().min(self.next))
    }
}
