//! The machine keeps the contract of machines, whoever hosts it and whatever peers say.
#![expect(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it should be")]

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::{identity, packets};
use peerage_machine::testing::{Asked, Plan, Subject, check};
use peerage_machine::{CallId, Incarnation, Now, OutboxOf, Rng, Seed};
use peerage_overlay::{MeshConfig, MeshMachine, MeshStart, Packet};
use peerage_wire::{Address, PeerId};

/// The mesh with bounds that random inputs reach.
struct Mesh {
    config: MeshConfig,
}

#[derive(Clone, Debug)]
enum Command {
    Join(Vec<Address>),
    Broadcast(Vec<Bytes>),
    Whisper(PeerId, Vec<Bytes>),
    Cancel(CallId),
    Leave,
}

fn small() -> MeshConfig {
    let mut config = MeshConfig::named("news");
    config.max_message = 4096;
    config.active_view = 3;
    config.passive_view = 8;
    config.retain_bytes = 8192;
    config.retain_messages = 16;
    config.retain_for = Duration::from_secs(20);
    config.origins = 6;
    config.trees = 3;
    config.ranges_per_origin = 4;
    config.missing_ranges = 24;
    config.owed_ranges = 16;
    config.verifying = (4, 8192);
    config.whispers = (4, 8192);
    config.relays = 8;
    config.routes = 8;
    config.max_links = 6;
    config
}

fn asked<T>(result: Result<T, impl std::fmt::Display>, of: impl FnOnce(T) -> Asked) -> Asked {
    match result {
        Ok(value) => of(value),
        Err(error) => Asked::Refused(error.to_string()),
    }
}

impl Subject for Mesh {
    type Machine = MeshMachine;
    type Command = Command;

    fn make(&self, now: Now, seed: Seed) -> MeshMachine {
        let addresses = vec!["tcp://127.0.0.1:4000".parse().unwrap()];
        let start =
            MeshStart { now, seed, identity: identity(0), incarnation: Incarnation([1; 16]), addresses };
        MeshMachine::new(self.config.clone(), start)
    }

    fn message(&self, rng: &mut Rng) -> Packet {
        packets::random(rng, 1_767_225_600_000)
    }

    fn command(&self, rng: &mut Rng) -> Option<Command> {
        let parts =
            |rng: &mut Rng| (0..rng.below(4)).map(|n| Bytes::from(vec![1; 900 * n as usize])).collect();
        Some(match rng.below(2000) {
            0 => Command::Leave,
            1..200 => Command::Join(
                (0..rng.below(3)).map(|n| format!("tcp://10.0.0.{n}:1").parse().unwrap()).collect(),
            ),
            200..1100 => Command::Broadcast(parts(rng)),
            1100..1800 => Command::Whisper(identity(rng.below(6) as u32).peer_id(), parts(rng)),
            _ => Command::Cancel(CallId(rng.below(40))),
        })
    }

    fn run(
        &self,
        machine: &mut MeshMachine,
        command: &Command,
        now: Now,
        out: &mut OutboxOf<MeshMachine>,
    ) -> Asked {
        match command.clone() {
            Command::Join(contacts) => asked(machine.join(now, contacts, out), Asked::Call),
            Command::Broadcast(parts) => asked(machine.broadcast(now, parts, out), |_| Asked::Done),
            Command::Whisper(to, parts) => asked(machine.whisper(now, to, parts, out), Asked::Call),
            Command::Cancel(call) => {
                if machine.cancel(now, call, out) {
                    Asked::Cancelled(call)
                } else {
                    Asked::Refused("not pending".into())
                }
            }
            Command::Leave => {
                machine.leave(now, out);
                Asked::Done
            }
        }
    }

    fn held_bytes(&self, machine: &MeshMachine) -> usize {
        machine.holds_within(&self.config).unwrap();
        machine.snapshot().memory as usize
    }

    fn worst_case_bytes(&self) -> usize {
        self.config.worst_case_bytes() as usize
    }

    fn parameters(&self) -> Bytes {
        self.config.parameters()
    }
}

#[test]
fn a_mesh_with_tight_bounds_keeps_the_contract() {
    let plan = Plan { seeds: 0..=6, ..Plan::default() };
    let report = check(&Mesh { config: small() }, &plan).unwrap_or_else(|failure| panic!("{failure}"));
    assert!(report.effects > 8_000 && report.timers > 1_000, "too little happened: {report:?}");
}

#[test]
fn a_mesh_with_the_usual_bounds_keeps_the_contract() {
    let mesh = Mesh { config: MeshConfig::named("news") };
    let plan = Plan { seeds: 0..=2, ..Plan::default() };
    let report = check(&mesh, &plan).unwrap_or_else(|failure| panic!("{failure}"));
    assert!(report.effects > 3_000 && report.timers > 500, "too little happened: {report:?}");
}
