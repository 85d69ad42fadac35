//! In which order the calls of one caller are run.
//!
//! One-way calls run one after the other; a request starts when those before it are done, and runs beside what comes after.

use std::collections::BTreeMap;

use crate::packet::{Call, Shape};

/// Calls of one caller that wait for a one-way call before them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate {
    running: Option<u64>,
    waiting: BTreeMap<u64, Box<Call>>,
}

impl Gate {
    /// A call has come; gives it back when it is to be run now.
    pub(crate) fn enter(&mut self, seq: u64, call: Box<Call>) -> Option<(u64, Box<Call>)> {
        if self.running.is_some() {
            self.waiting.insert(seq, call.kept());
            return None;
        }
        self.start(seq, &call);
        Some((seq, call))
    }

    fn start(&mut self, seq: u64, call: &Call) {
        if call.shape.has(Shape::ONE_WAY) {
            self.running = Some(seq);
        }
    }

    /// A call is done. [`Gate::next`] gives what may run now.
    pub(crate) fn done(&mut self, seq: u64) {
        if self.running == Some(seq) {
            self.running = None;
        }
    }

    /// Nobody waits for that call any more.
    pub(crate) fn forget(&mut self, seq: u64) {
        self.waiting.remove(&seq);
    }

    /// The next call that may run now.
    pub(crate) fn next(&mut self) -> Option<(u64, Box<Call>)> {
        if self.running.is_some() {
            return None;
        }
        let (seq, call) = self.waiting.pop_first()?;
        self.start(seq, &call);
        Some((seq, call))
    }

    /// Calls that wait.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = u64> + '_ {
        self.waiting.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::packet::Destination;

    fn call(shape: Shape) -> Box<Call> {
        let (command, payload) = (Bytes::from_static(b"x"), Bytes::new());
        let to = Destination::Peer;
        Box::new(Call { command, payload, to, timeout_micros: 0, shape, caller: 0, origin: 0 })
    }

    #[test]
    fn one_way_calls_run_one_after_the_other_and_requests_wait_only_for_those_before_them() {
        let (mut gate, mut running) = (Gate::default(), Vec::new());
        let shapes =
            [Shape::REQUEST, Shape::ONE_WAY, Shape::REQUEST, Shape::REQUEST, Shape::ONE_WAY, Shape::ONE_WAY];
        for (seq, shape) in (1..).zip(shapes) {
            running.extend(gate.enter(seq, call(shape)).map(|(seq, _)| seq));
        }
        assert_eq!(running, [1, 2]);
        gate.done(1);
        assert!(gate.next().is_none(), "it did not wait for the request");
        gate.done(2);
        // Nobody waits for the fourth.
        gate.forget(4);
        while let Some((seq, _)) = gate.next() {
            running.push(seq);
        }
        assert_eq!(running, [1, 2, 3, 5]);
        gate.done(5);
        assert_eq!(gate.next().map(|(seq, _)| seq), Some(6));
    }
}
