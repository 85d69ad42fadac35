//! A small machine that does a little of everything, soundly, or with one flaw.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use peerage_machine::testing::{Asked, Subject};
use peerage_machine::{
    CallId, Calls, Class, DialId, Effect, Input, Instant, JobId, LinkId, Machine, Malformed, Message, Now,
    OpId, Outbox, Rng, Seed, SendId, Side, Target, Timers, Why, Write,
};
use peerage_wire::PeerId;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    None,
    HashOrder,
    OwnEntropy,
    StuckDeadline,
    ActsEarly,
    MakesUpForMissedPeriods,
    DeadlineMovesWhenRead,
    PanicsOnUnknownLink,
    PanicsOnUnknownJob,
    FloodsOnInput,
    RemembersEverything,
    ForgetsCalls,
    AnswersTwice,
    AnswersUnasked,
    ReusesDialIds,
    ReusesSendIds,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Talk {
    Question(u64),
    Reply(u64),
    Signed,
    Nonsense,
}

impl Message for Talk {
    fn encoded_len(&self) -> usize {
        9
    }

    fn encode(&self, into: &mut BytesMut) {
        let (kind, number) = match self {
            Self::Question(number) => (0, *number),
            Self::Reply(number) => (1, *number),
            Self::Signed => (2, 0),
            Self::Nonsense => (3, 0),
        };
        into.put_u8(kind);
        into.put_u64(number);
    }

    fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        let [kind, number @ ..] =
            bytes.first_chunk::<9>().ok_or_else(|| Malformed::new("talk", "it is short"))?;
        let number = u64::from_be_bytes(*number);
        match kind {
            0 => Ok(Self::Question(number)),
            1 => Ok(Self::Reply(number)),
            2 => Ok(Self::Signed),
            3 => Ok(Self::Nonsense),
            other => Err(Malformed::new("talk", format!("there is no kind {other}"))),
        }
    }
}

const LINKS: usize = 16;
const CALLS: usize = 8;
const JOBS: usize = 8;
const BEAT: Duration = Duration::from_secs(10);

type Out = Outbox<Talk, u64, Result<u64, Why>>;

pub(crate) struct Asker {
    flaw: Flaw,
    rng: Rng,
    links: BTreeMap<LinkId, PeerId>,
    hashed: HashMap<LinkId, PeerId>,
    calls: Calls<LinkId>,
    jobs: BTreeMap<JobId, LinkId>,
    timers: Timers<()>,
    dialling: Option<DialId>,
    given: u64,
    stuck: Option<Instant>,
    reads: Cell<u64>,
    log: Vec<u64>,
}

impl Asker {
    fn id(&mut self) -> u64 {
        self.given += 1;
        self.given
    }

    pub(crate) fn ask(&mut self, now: Now, out: &mut Out) -> Result<CallId, String> {
        let links: Vec<_> = self.links.keys().copied().collect();
        let link = *self.rng.pick(&links).ok_or("there is no link")?;
        let call =
            self.calls.open(now.mono + Duration::from_secs(5), link).map_err(|full| full.to_string())?;
        let send = if self.flaw == Flaw::ReusesSendIds { 0 } else { self.id() };
        let message = Talk::Question(call.0);
        out.push(Effect::Send { to: vec![link], message, class: Class::Interactive, id: Some(SendId(send)) });
        Ok(call)
    }

    pub(crate) fn cancel(&mut self, nth: usize) -> Option<CallId> {
        let call = self.calls.iter().nth(nth)?.0;
        self.calls.close(call).map(|_| call)
    }

    fn message(&mut self, link: LinkId, message: Talk, out: &mut Out) {
        if !self.links.contains_key(&link) {
            assert!(self.flaw != Flaw::PanicsOnUnknownLink, "no such link");
            return out.count("strangers_total", 1);
        }
        match message {
            Talk::Question(number) => out.send(link, Talk::Reply(number)),
            Talk::Reply(number) => match self.calls.close(CallId(number)) {
                Some(_) => {
                    out.answer(CallId(number), Ok(number));
                    if self.flaw == Flaw::AnswersTwice {
                        out.answer(CallId(number), Ok(number));
                    }
                }
                None if self.flaw == Flaw::AnswersUnasked => out.answer(CallId(number), Ok(number)),
                None => out.count("late_total", 1),
            },
            Talk::Signed if self.jobs.len() < JOBS => {
                let job = JobId(self.id());
                self.jobs.insert(job, link);
                let (signer, message) = (PeerId::from_bytes([1; 32]), Bytes::new());
                out.push(Effect::Verify { job, signer, domain: "test", message, signature: [0; 64] });
            }
            Talk::Signed => out.count("dropped_total", 1),
            Talk::Nonsense => out.push(Effect::Fault { link, what: "nonsense" }),
        }
        if self.flaw == Flaw::RemembersEverything {
            self.log.push(0);
        }
        if self.flaw == Flaw::FloodsOnInput {
            (0..self.log.len() * 50).for_each(|_| out.count("echoes_total", 1));
            self.log.push(0);
        }
    }

    fn beat(&mut self, now: Now, out: &mut Out) {
        static ENTROPY: AtomicU64 = AtomicU64::new(0);
        let to: Vec<_> = match self.flaw {
            Flaw::HashOrder => self.hashed.keys().copied().collect(),
            _ => self.links.keys().copied().collect(),
        };
        let number = match self.flaw {
            Flaw::OwnEntropy => ENTROPY.fetch_add(1, Ordering::Relaxed),
            _ => self.rng.next_u64(),
        };
        out.push(Effect::Send { to, message: Talk::Question(number), class: Class::Control, id: None });
        if self.dialling.is_none() && self.links.len() < LINKS {
            let dial = DialId(if self.flaw == Flaw::ReusesDialIds { 0 } else { self.id() });
            self.dialling = Some(dial);
            out.dial(
                dial,
                Target::Peer { peer: PeerId::from_bytes(self.rng.bytes()), addresses: Vec::new() },
            );
        }
        let op = OpId(self.id());
        out.push(Effect::Store { op, batch: vec![Write { key: Bytes::from_static(b"beat"), value: None }] });
        self.timers.arm((), now.mono + BEAT);
    }
}

impl Machine for Asker {
    type Message = Talk;
    type Event = u64;
    type Answer = Result<u64, Why>;

    fn on_input(&mut self, _: Now, input: Input<Talk>, out: &mut Out) {
        match input {
            Input::Up { link, .. } if self.links.len() >= LINKS => {
                let why = Why::Limit { by: Side::Us, what: format!("{LINKS} links") };
                out.push(Effect::CloseChannel { link, why });
            }
            Input::Up { link, info } => {
                self.links.insert(link, info.peer);
                self.hashed.insert(link, info.peer);
            }
            Input::Down { link, why } => {
                self.hashed.remove(&link);
                if self.links.remove(&link).is_some() {
                    let lost: Vec<_> =
                        self.calls.iter().filter(|(_, to)| **to == link).map(|(call, _)| call).collect();
                    for call in lost {
                        self.calls.close(call);
                        if self.flaw != Flaw::ForgetsCalls {
                            out.answer(call, Err(why.clone()));
                        }
                    }
                }
            }
            Input::Message { link, message } => self.message(link, message, out),
            Input::Dialed { dial, .. } | Input::DialFailed { dial, .. } if self.dialling == Some(dial) => {
                self.dialling = None;
            }
            Input::Verified { job, valid } => match self.jobs.remove(&job) {
                Some(_) => out.emit(u64::from(valid)),
                None => {
                    assert!(self.flaw != Flaw::PanicsOnUnknownJob, "no such job");
                    out.count("late_total", 1);
                }
            },
            _ => (),
        }
    }

    fn on_timer(&mut self, now: Now, out: &mut Out) {
        if self.flaw == Flaw::ActsEarly {
            out.count("wakes_total", 1);
        }
        let due = self.timers.deadline();
        while let Some(()) = self.timers.expire(now.mono) {
            if self.flaw == Flaw::MakesUpForMissedPeriods {
                let missed = now.mono.since(due.unwrap_or_default()).as_secs() / BEAT.as_secs();
                (0..missed).for_each(|_| self.beat(now, out));
            }
            if self.flaw == Flaw::StuckDeadline && self.links.len() > 3 {
                self.stuck = due;
            }
            self.beat(now, out);
        }
        while let Some((call, _)) = self.calls.expire(now.mono) {
            let why = Why::TimedOut { what: "the reply", after: Duration::from_secs(5) };
            out.answer(call, Err(why));
        }
    }

    fn deadline(&self) -> Option<Instant> {
        if self.flaw == Flaw::DeadlineMovesWhenRead && self.links.len() > 3 {
            self.reads.set(self.reads.get() + 1);
            return Some(Instant::from_micros(u64::MAX - self.reads.get()));
        }
        self.stuck.or([self.timers.deadline(), self.calls.deadline()].into_iter().flatten().min())
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Ask {
    Ask,
    Cancel(usize),
}

pub(crate) struct Askers(pub(crate) Flaw);

impl Subject for Askers {
    type Machine = Asker;
    type Command = Ask;

    fn make(&self, now: Now, seed: Seed) -> Asker {
        let mut timers = Timers::new();
        timers.arm((), now.mono + BEAT);
        Asker {
            flaw: self.0,
            rng: seed.rng(),
            links: BTreeMap::new(),
            hashed: HashMap::new(),
            calls: Calls::new(CALLS),
            jobs: BTreeMap::new(),
            timers,
            dialling: None,
            given: 0,
            stuck: None,
            reads: Cell::new(0),
            log: Vec::new(),
        }
    }

    fn message(&self, rng: &mut Rng) -> Talk {
        match rng.below(4) {
            0 => Talk::Question(rng.next_u64()),
            1 => Talk::Reply(rng.below(60)),
            2 => Talk::Signed,
            _ => Talk::Nonsense,
        }
    }

    fn command(&self, rng: &mut Rng) -> Option<Ask> {
        Some(if rng.chance(0.8) { Ask::Ask } else { Ask::Cancel(rng.index(CALLS)) })
    }

    fn run(&self, machine: &mut Asker, command: &Ask, now: Now, out: &mut Out) -> Asked {
        match command {
            Ask::Ask => machine.ask(now, out).map_or_else(Asked::Refused, Asked::Call),
            Ask::Cancel(nth) => machine.cancel(*nth).map_or(Asked::Done, Asked::Cancelled),
        }
    }

    fn held_bytes(&self, machine: &Asker) -> usize {
        let entries =
            machine.links.len() + machine.hashed.len() + machine.calls.len() * 2 + machine.jobs.len();
        size_of::<Asker>() + entries * 64 + machine.log.len() * 8
    }

    fn worst_case_bytes(&self) -> usize {
        size_of::<Asker>() + (LINKS * 2 + CALLS * 2 + JOBS) * 64
    }
}
