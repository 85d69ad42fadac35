//! Which rule was broken, and how to see it again.

use std::fmt;

/// A rule of the contract, and what the kit checks of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Rule 1: two machines of one seed, given the same steps, have the same effects (by their `Debug` form and their
    /// messages' encoding) and deadlines.
    Repeatable,
    /// Rule 2: `on_timer` at or after the deadline leaves it in the future or `None`, with a bounded number of effects;
    /// early it has no effects and leaves the deadline; reading the deadline does not change it.
    Deadline,
    /// Rule 3: nothing panics, with ids that never were or are over, with damaged bytes, after clock jumps; and no
    /// input has an unbounded number of effects.
    NoPanic,
    /// Rule 4: the machine never holds more than its worst case.
    Memory,
    /// Rule 5: ids of dials, sends, batches and checks are used once; every question is answered once or cancelled, and
    /// nothing else is answered.
    Answers,
    /// What hosts on real links rely on: a message has the length it says, can be read back, and is the same then.
    Codec,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Repeatable => "rule 1 (same seed, same inputs: same effects)",
            Self::Deadline => "rule 2 (on_timer moves the deadline)",
            Self::NoPanic => "rule 3 (no input panics)",
            Self::Memory => "rule 4 (memory is bounded)",
            Self::Answers => "rule 5 (commands answer)",
            Self::Codec => "the codec (what is sent can be read)",
        })
    }
}

/// A machine broke a rule. Its `Debug` form is meant to be read, so that `check(…).unwrap()` says it all.
#[derive(Clone, PartialEq, Eq)]
pub struct Failure {
    /// Which rule.
    pub rule: Rule,
    /// The seed of the machine and, in [`super::check`], of the steps.
    pub seed: u64,
    /// The step, from 0.
    pub step: usize,
    /// What happened.
    pub what: String,
    /// The last steps up to this one.
    pub steps: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "broken: {}, seed {}, step {}: {}", self.rule, self.seed, self.step, self.what)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}\nagain: Plan {{ seeds: {}..={}, .. }}\nlast steps:", self.seed, self.seed)?;
        let first = (self.step + 1).saturating_sub(self.steps.len());
        for (index, step) in self.steps.iter().enumerate() {
            write!(f, "\n  {:5}  {step}", first + index)?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}
