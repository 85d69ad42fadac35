#![expect(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it should be")]
//! Both machines keep the contract of machines, whoever hosts them and whatever the other end says.

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::wire;
use peerage_machine::testing::{Asked, Plan, Subject, check};
use peerage_machine::{CallId, Now, OutboxOf, Rng, Seed};
use peerage_rpc::{
    BrokerConfig, BrokerMachine, Destination, Limits, NotPlaced, Packet, PartyConfig, PartyMachine, Placed,
    Placing, RunKey, SessionKey, Shape, Status, StreamKey,
};
use peerage_sim::{address, peer};

#[derive(Clone, Debug)]
enum Command {
    Call(SessionKey, u32, usize, Option<u64>),
    Complete(RunKey, bool, usize),
    Send(StreamKey, usize),
    Grant(StreamKey, u32, u64),
    Finish(StreamKey),
    Cancel(Placed),
    Other(u64),
}

fn limits() -> Limits {
    Limits {
        calls: 8,
        call_bytes: 4096,
        streams: 3,
        stream_messages: 16,
        stream_bytes: 2048,
        message_bytes: 1024,
    }
}

fn command(rng: &mut Rng) -> Command {
    let session = SessionKey(rng.below(12));
    let stream =
        StreamKey { session, call: rng.below(12), is_ours: rng.chance(0.5), is_bulk: rng.chance(0.5) };
    let len = rng.below(1100) as usize;
    match rng.below(16) {
        0..4 => {
            Command::Call(session, rng.below(130) as u32, len, rng.chance(0.3).then(|| rng.below(5_000_000)))
        }
        4..7 => Command::Complete(RunKey { session, seq: rng.below(12) }, rng.chance(0.7), len),
        7..10 => Command::Send(stream, len),
        10..12 => Command::Grant(stream, rng.below(20) as u32, rng.below(3000)),
        12 => Command::Finish(stream),
        13 => Command::Cancel(Placed { id: CallId(rng.below(20)), session, seq: rng.below(12) }),
        n => Command::Other(n),
    }
}

fn placing(rng_flags: u32, len: usize, timeout: Option<u64>) -> Placing {
    let mut shape = Shape::REQUEST;
    let all = [
        Shape::ONE_WAY,
        Shape::STREAM_UP,
        Shape::STREAM_DOWN,
        Shape::BULK_UP,
        Shape::BULK_DOWN,
        Shape::IDEMPOTENT,
    ];
    for (bit, flag) in all.into_iter().enumerate() {
        if rng_flags >> bit & 1 == 1 {
            shape = shape.and(flag);
        }
    }
    Placing {
        command: Bytes::from_static(b"x"),
        payload: vec![0; len].into(),
        to: Destination::Peer,
        shape,
        // Each question is to have an end, whatever the other end says.
        timeout: Some(timeout.map_or(Duration::from_secs(60), Duration::from_micros)),
    }
}

fn asked(placed: Result<Placed, NotPlaced>, shape: u32) -> Asked {
    match placed {
        Ok(_) if shape & 1 == 1 => Asked::Done,
        Ok(placed) => Asked::Call(placed.id),
        Err(error) => Asked::Refused(format!("{error:?}")),
    }
}

struct Party;

impl Subject for Party {
    type Machine = PartyMachine;
    type Command = Command;

    fn make(&self, now: Now, seed: Seed) -> PartyMachine {
        // The host's peers have keys of its own making; the broker's is one of them.
        PartyMachine::new(PartyConfig::new(wire::host_peer(), vec![address(0)]), now.mono, &seed)
    }

    fn message(&self, rng: &mut Rng) -> Packet {
        wire::random(rng, true)
    }

    fn command(&self, rng: &mut Rng) -> Option<Command> {
        Some(command(rng))
    }

    fn run(
        &self,
        machine: &mut PartyMachine,
        command: &Command,
        now: Now,
        out: &mut OutboxOf<PartyMachine>,
    ) -> Asked {
        match command.clone() {
            Command::Call(_, shape, len, timeout) => {
                return asked(machine.call(now, placing(shape, len, timeout), out), shape);
            }
            Command::Complete(run, is_ok, len) => {
                let result = if is_ok { Ok(vec![0; len].into()) } else { Err(Status::internal("no")) };
                machine.complete(now, run, result, out);
            }
            Command::Send(stream, len) => {
                let _ = machine.send(stream, vec![0; len].into(), out);
            }
            Command::Grant(stream, messages, bytes) => machine.grant(stream, messages, bytes, out),
            Command::Finish(stream) => machine.finish(stream, None, out),
            Command::Cancel(_) | Command::Other(_) => {}
        }
        Asked::Done
    }

    fn held_bytes(&self, machine: &PartyMachine) -> usize {
        machine.check().unwrap();
        0
    }

    fn worst_case_bytes(&self) -> usize {
        1
    }
}

struct Broker;

impl Broker {
    fn config() -> BrokerConfig {
        BrokerConfig {
            limits: limits(),
            account_bytes: 64 << 10,
            broker_bytes: 192 << 10,
            max_sessions: 16,
            max_sessions_per_user: 3,
            max_unopened: 8,
            ..BrokerConfig::default()
        }
    }
}

impl Subject for Broker {
    type Machine = BrokerMachine;
    type Command = Command;

    fn make(&self, now: Now, seed: Seed) -> BrokerMachine {
        let accounts = common::accounts_of(&wire::host_peers());
        BrokerMachine::new(Self::config(), accounts, [], now, &seed)
    }

    fn message(&self, rng: &mut Rng) -> Packet {
        wire::random(rng, false)
    }

    fn command(&self, rng: &mut Rng) -> Option<Command> {
        Some(command(rng))
    }

    fn run(
        &self,
        machine: &mut BrokerMachine,
        command: &Command,
        now: Now,
        out: &mut OutboxOf<BrokerMachine>,
    ) -> Asked {
        match command.clone() {
            Command::Call(session, shape, len, timeout) => {
                return asked(machine.call(now, session, placing(shape, len, timeout), out), shape);
            }
            Command::Complete(run, is_ok, len) => {
                let result = if is_ok { Ok(vec![0; len].into()) } else { Err(Status::internal("no")) };
                machine.complete(now, run, result, Vec::new(), out);
            }
            Command::Send(stream, len) => {
                let _ = machine.send(stream, vec![0; len].into(), out);
            }
            Command::Grant(stream, messages, bytes) => machine.grant(stream, messages, bytes, out),
            Command::Finish(stream) => machine.finish(stream, None, out),
            Command::Cancel(placed) => {
                // One that is not under way stays without an answer.
                let _ = placed;
            }
            Command::Other(n) => machine.offer(peer(n as u32), vec![1; 100].into(), out),
        }
        Asked::Done
    }

    fn held_bytes(&self, machine: &BrokerMachine) -> usize {
        machine.check().unwrap();
        machine.sessions().map(|session| session.held_bytes).sum::<u64>() as usize
    }

    fn worst_case_bytes(&self) -> usize {
        Self::config().worst_case_bytes() as usize
    }
}

#[test]
fn a_party_keeps_the_contract() {
    // Few links, so that it is often the broker's.
    let plan = Plan { seeds: 0..=if cfg!(debug_assertions) { 8 } else { 400 }, links: 1, ..Plan::default() };
    let report = check(&Party, &plan).unwrap_or_else(|failure| panic!("{failure:?}"));
    assert!(report.effects > 300, "too little happened: {report:?}");
}

#[test]
fn a_broker_keeps_the_contract() {
    let plan = Plan { seeds: 0..=if cfg!(debug_assertions) { 8 } else { 400 }, links: 12, ..Plan::default() };
    let report = check(&Broker, &plan).unwrap_or_else(|failure| panic!("{failure:?}"));
    assert!(report.effects > 1_000 && report.timers > 100, "too little happened: {report:?}");
}
