//! The checks as a whole.

use std::ops::RangeInclusive;

use super::host::Host;
use super::run::{Broken, Run, guarded};
use super::{Failure, MessageOf, Rule, Step, StepOf, Subject};
use crate::Message;

/// How much to check.
#[derive(Clone, Debug)]
pub struct Plan {
    /// One machine, and one replay, for each. Default 0 to 15.
    pub seeds: RangeInclusive<u64>,
    /// Steps for each. Default 1000.
    pub steps: usize,
    /// The most links up at once. More than the machine has room for, so that it is seen to keep its bounds.
    /// Default 64.
    pub links: usize,
}

impl Default for Plan {
    fn default() -> Self {
        Self { seeds: 0..=15, steps: 1000, links: 64 }
    }
}

/// What was checked. A test that wants to be sure that something happened looks here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Steps taken, without replays.
    pub steps: usize,
    /// Effects seen.
    pub effects: usize,
    /// Deadlines met.
    pub timers: usize,
}

/// Checks the contract with steps of the kit's own making, for each seed of the plan.
///
/// # Errors
/// The first rule that the machine broke.
pub fn check<S: Subject>(subject: &S, plan: &Plan) -> Result<Report, Failure> {
    let mut report = Report::default();
    for seed in plan.seeds.clone() {
        let mut log = Log { seed, steps: Vec::new(), transcripts: Vec::new() };
        let done = explore(subject, plan, seed, &mut log).map_err(|broken| log.failure(broken))?;
        replay(subject, &log)?;
        report.steps += log.steps.len();
        report.effects += done.effects;
        report.timers += done.timers;
    }
    Ok(report)
}

/// Checks the contract with these steps: those of a property test, or of a bug once found.
///
/// Whoever makes the steps makes sure that links come up before they are used, if that is meant. Questions that are
/// open at the end are not held against the machine.
///
/// # Errors
/// The first rule that the machine broke.
pub fn check_steps<S: Subject>(subject: &S, seed: u64, steps: &[StepOf<S>]) -> Result<Report, Failure> {
    let mut log = Log { seed, steps: Vec::new(), transcripts: Vec::new() };
    let mut run = Run::new(subject, seed).map_err(|broken| log.failure(broken))?;
    for step in steps {
        log.take(&mut run, step.clone(), |_| ()).map_err(|broken| log.failure(broken))?;
    }
    replay(subject, &log)?;
    Ok(Report { steps: steps.len(), effects: run.effects, timers: run.timers })
}

/// What was done with one machine, and what it did.
struct Log<S: Subject> {
    seed: u64,
    steps: Vec<StepOf<S>>,
    transcripts: Vec<String>,
}

type EffectOf<S> = crate::Effect<
    MessageOf<S>,
    <<S as Subject>::Machine as crate::Machine>::Event,
    <<S as Subject>::Machine as crate::Machine>::Answer,
>;

impl<S: Subject> Log<S> {
    fn take(
        &mut self,
        run: &mut Run<'_, S>,
        step: StepOf<S>,
        see: impl FnMut(&EffectOf<S>),
    ) -> Result<(), Broken> {
        self.steps.push(step.clone());
        self.transcripts.push(run.step(&step, see)?);
        Ok(())
    }

    fn failure(&self, broken: Broken) -> Failure {
        self.failure_at(self.steps.len().saturating_sub(1), broken)
    }

    fn failure_at(&self, step: usize, (rule, what): Broken) -> Failure {
        let first = (step + 1).saturating_sub(12);
        let steps = self.steps.iter().take(step + 1).skip(first).map(|step| format!("{step:?}")).collect();
        Failure { rule, seed: self.seed, step, what, steps }
    }
}

/// Rules 2 to 5, and the codec.
fn explore<'a, S: Subject>(
    subject: &'a S,
    plan: &Plan,
    seed: u64,
    log: &mut Log<S>,
) -> Result<Run<'a, S>, Broken> {
    let mut host = Host::new(plan, seed);
    let mut run = Run::new(subject, seed)?;
    for _ in 0..plan.steps {
        for step in host.next(subject) {
            log.take(&mut run, step, |effect| host.see::<S::Machine>(effect))?;
        }
        let damaged = host.damaged(subject).freeze();
        guarded(|| MessageOf::<S>::decode(damaged.clone()).is_ok())
            .map_err(|(rule, what)| (rule, format!("decoding {damaged:?} {what}")))?;
    }
    // Everything under way ends, again and again, until the machine should have run out of retries.
    const ROUNDS: u32 = 64;
    for _ in 0..ROUNDS {
        for step in host.settle() {
            log.take(&mut run, step, |effect| host.see::<S::Machine>(effect))?;
        }
        let wait = Step::Wait(subject.patience() / ROUNDS);
        log.take(&mut run, wait, |effect| host.see::<S::Machine>(effect))?;
    }
    if let [first, rest @ ..] = &run.unanswered()[..] {
        let what = format!("{first} and {} more are unanswered after {:?}", rest.len(), subject.patience());
        return Err((Rule::Answers, what));
    }
    Ok(run)
}

/// Rule 1.
fn replay<S: Subject>(subject: &S, log: &Log<S>) -> Result<(), Failure> {
    let mut run = Run::new(subject, log.seed).map_err(|broken| log.failure_at(0, broken))?;
    for (index, (step, expected)) in log.steps.iter().zip(&log.transcripts).enumerate() {
        let again = run.step(step, |_| ()).map_err(|broken| log.failure_at(index, broken))?;
        if again != *expected {
            let what = format!("the first time: {expected}\nthe second time: {again}");
            return Err(log.failure_at(index, (Rule::Repeatable, what)));
        }
    }
    Ok(())
}
