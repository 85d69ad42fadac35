//! One machine, taken through steps, with every rule checked that can be checked on the way.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::BytesMut;

use super::{Asked, Rule, Step, StepOf, Subject};
use crate::{CallId, Effect, Instant, Machine, Message, Now, Outbox, OutboxOf, Seed, UnixMillis};

/// The wall clock at the start: 2026-01-01.
const WALL: u64 = 1_767_225_600_000;

/// A machine that wants its timer more often in one wait is taken to want it for ever.
const TIMERS_PER_WAIT: usize = 1_000_000;

type EffectOf<M> = Effect<<M as Machine>::Message, <M as Machine>::Event, <M as Machine>::Answer>;

/// A rule and how it was broken.
pub(super) type Broken = (Rule, String);

pub(super) struct Run<'a, S: Subject> {
    subject: &'a S,
    machine: S::Machine,
    now: Instant,
    /// What the wall clock is ahead of the steady one.
    wall: u64,
    out: OutboxOf<S::Machine>,
    used: [BTreeSet<u64>; 4],
    asked: BTreeSet<CallId>,
    ended: BTreeSet<CallId>,
    pub(super) effects: usize,
    pub(super) timers: usize,
}

impl<'a, S: Subject> Run<'a, S> {
    pub(super) fn new(subject: &'a S, seed: u64) -> Result<Self, Broken> {
        let now = Now { mono: Instant::START, wall: UnixMillis(WALL) };
        let machine = guarded(|| subject.make(now, Seed::from_u64(seed)))?;
        Ok(Self {
            subject,
            machine,
            now: Instant::START,
            wall: WALL,
            out: Outbox::new(),
            used: Default::default(),
            asked: BTreeSet::new(),
            ended: BTreeSet::new(),
            effects: 0,
            timers: 0,
        })
    }

    /// Questions without an answer.
    pub(super) fn unanswered(&self) -> Vec<CallId> {
        self.asked.difference(&self.ended).copied().collect()
    }

    fn now(&self) -> Now {
        Now { mono: self.now, wall: UnixMillis(self.wall.saturating_add(self.now.as_micros() / 1000)) }
    }

    /// Takes a step: its transcript, after every effect was shown to `see`.
    pub(super) fn step(
        &mut self,
        step: &StepOf<S>,
        mut see: impl FnMut(&EffectOf<S::Machine>),
    ) -> Result<String, Broken> {
        let mut transcript = String::new();
        let now = self.now();
        match step {
            Step::Input(input) => {
                let (machine, out) = (&mut self.machine, &mut self.out);
                guarded(|| machine.on_input(now, input.clone(), out))?;
                self.after(Rule::NoPanic, &mut transcript, &mut see)?;
            }
            Step::Command(command) => {
                let (subject, machine, out) = (self.subject, &mut self.machine, &mut self.out);
                let asked = guarded(|| subject.run(machine, command, now, out))?;
                let _ = write!(transcript, "{asked:?} ");
                match asked {
                    Asked::Call(call) if !self.asked.insert(call) => {
                        return Err((Rule::Answers, format!("{call} was asked before")));
                    }
                    Asked::Cancelled(call) => {
                        self.ended.insert(call);
                    }
                    _ => (),
                }
                self.after(Rule::NoPanic, &mut transcript, &mut see)?;
            }
            Step::Wait(span) => {
                let until = self.now + *span;
                let mut timers = 0;
                while let Some(deadline) = self.deadline()?.filter(|deadline| *deadline <= until) {
                    self.now = self.now.max(deadline);
                    self.fire(deadline, &mut transcript, &mut see)?;
                    timers += 1;
                    if timers > TIMERS_PER_WAIT {
                        return Err((Rule::Deadline, format!("{timers} timers within {span:?}")));
                    }
                }
                self.now = until;
            }
            Step::Pause(span) => self.now = self.now + *span,
            Step::Early => match self.deadline()? {
                Some(deadline) if deadline <= self.now => self.fire(deadline, &mut transcript, &mut see)?,
                before => self.early(before)?,
            },
            Step::Wall(wall) => self.wall = wall.0.saturating_sub(self.now.as_micros() / 1000),
        }
        let _ = write!(transcript, "deadline {:?}", self.deadline()?);
        Ok(transcript)
    }

    /// The deadline, read twice.
    fn deadline(&self) -> Result<Option<Instant>, Broken> {
        let (first, second) = guarded(|| (self.machine.deadline(), self.machine.deadline()))?;
        if first == second {
            Ok(first)
        } else {
            Err((
                Rule::Deadline,
                format!("read twice in a row, the deadline was {first:?} and then {second:?}"),
            ))
        }
    }

    /// `on_timer` at the deadline or late.
    fn fire(
        &mut self,
        before: Instant,
        transcript: &mut String,
        see: &mut impl FnMut(&EffectOf<S::Machine>),
    ) -> Result<(), Broken> {
        let now = self.now();
        let (machine, out) = (&mut self.machine, &mut self.out);
        guarded(|| machine.on_timer(now, out))?;
        self.timers += 1;
        self.after(Rule::Deadline, transcript, see)?;
        match self.deadline()? {
            Some(after) if after <= now.mono => {
                let late = now.mono.since(before);
                let what = format!(
                    "on_timer at {:?}, {late:?} after the deadline of {before:?}, leaves the deadline at {after:?}",
                    now.mono
                );
                Err((Rule::Deadline, what))
            }
            _ => Ok(()),
        }
    }

    /// `on_timer` before the deadline.
    fn early(&mut self, before: Option<Instant>) -> Result<(), Broken> {
        let now = self.now();
        let (machine, out) = (&mut self.machine, &mut self.out);
        guarded(|| machine.on_timer(now, out))?;
        if let Some(effect) = self.out.drain().next() {
            return Err((
                Rule::Deadline,
                format!("on_timer at {:?}, due at {before:?}, had an effect: {effect:?}", now.mono),
            ));
        }
        let after = self.deadline()?;
        if after != before {
            return Err((
                Rule::Deadline,
                format!("on_timer at {:?} moved the deadline from {before:?} to {after:?}", now.mono),
            ));
        }
        Ok(())
    }

    /// What is to be checked after every call.
    fn after(
        &mut self,
        rule: Rule,
        transcript: &mut String,
        see: &mut impl FnMut(&EffectOf<S::Machine>),
    ) -> Result<(), Broken> {
        let (effects, limit) = (self.out.len(), self.subject.effects_per_call());
        if effects > limit {
            return Err((rule, format!("one call had {effects} effects, the limit is {limit}")));
        }
        self.effects += effects;
        let mut out = std::mem::take(&mut self.out);
        for effect in out.drain() {
            let _ = write!(transcript, "{effect:?} ");
            self.effect(&effect, transcript)?;
            see(&effect);
        }
        self.out = out;
        let (held, worst) =
            (guarded(|| self.subject.held_bytes(&self.machine))?, self.subject.worst_case_bytes());
        if held > worst {
            return Err((Rule::Memory, format!("the machine holds {held} bytes, its worst case is {worst}")));
        }
        Ok(())
    }

    fn effect(&mut self, effect: &EffectOf<S::Machine>, transcript: &mut String) -> Result<(), Broken> {
        let [dials, sends, ops, jobs] = &mut self.used;
        let (fresh, id): (bool, &dyn std::fmt::Debug) = match effect {
            Effect::Send { message, id, .. } => {
                let _ = write!(transcript, "{:?} ", coded(message)?);
                match id {
                    Some(id) => (sends.insert(id.0), id),
                    None => return Ok(()),
                }
            }
            Effect::Dial { id, .. } => (dials.insert(id.0), id),
            Effect::Store { op, .. } => (ops.insert(op.0), op),
            Effect::Verify { job, .. } => (jobs.insert(job.0), job),
            Effect::Answer { call, .. } => {
                if !self.asked.contains(call) {
                    return Err((Rule::Answers, format!("{call} is answered and was not asked")));
                }
                (self.ended.insert(*call), call)
            }
            _ => return Ok(()),
        };
        if fresh {
            return Ok(());
        }
        Err((Rule::Answers, format!("{id:?} was used, answered or cancelled before: {effect:?}")))
    }
}

/// The message as bytes, which it survives.
fn coded<M: Message>(message: &M) -> Result<BytesMut, Broken> {
    let broken = |what: String| Err((Rule::Codec, format!("{what}: {message:?}")));
    let mut bytes = BytesMut::new();
    guarded(|| message.encode(&mut bytes))?;
    let said = guarded(|| message.encoded_len())?;
    if said != bytes.len() {
        return broken(format!("the message says that it has {said} bytes and has {}", bytes.len()));
    }
    match guarded(|| M::decode(bytes.clone().freeze()))? {
        Err(malformed) => broken(malformed.to_string()),
        Ok(read) => {
            let mut again = BytesMut::new();
            guarded(|| read.encode(&mut again))?;
            if again == bytes { Ok(bytes) } else { broken(format!("read back, the message is {read:?}")) }
        }
    }
}

/// Runs what must not panic.
pub(super) fn guarded<R>(run: impl FnOnce() -> R) -> Result<R, Broken> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|payload| {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text =
            text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("something without a text");
        (Rule::NoPanic, format!("panicked with: {text}"))
    })
}
