//! In which order the calls of one caller are run.
//!
//! One-way calls run one after the other; a request starts when those before it are done, and runs beside what comes after.

use std::collections::VecDeque;

use crate::packet::{Call, Shape};

/// Calls of one caller that wait for a one-way call before them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate {
    running: Option<u64>,
    waiting: VecDeque<(u64, Call)>,
}

impl Gate {
    /// A call has come; gives it back when it is to be run now.
    pub(crate) fn enter(&mut self, seq: u64, call: Call) -> Option<(u64, Call)> {
        if self.running.is_some() {
            self.waiting.push_back((seq, call));
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

    /// The next call that may run now; one that nobody waits for any more is passed over.
    pub(crate) fn next(&mut self, is_wanted: impl Fn(u64) -> bool) -> Option<(u64, Call)> {
        if self.running.is_some() {
            return None;
        }
        loop {
            let (seq, call) = self.waiting.pop_front()?;
            if is_wanted(seq) {
                self.start(seq, &call);
                return Some((seq, call));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::packet::Destination;

    fn call(shape: Shape) -> Call {
        let (command, payload) = (Bytes::from_static(b"x"), Bytes::new());
        Call { command, payload, to: Destination::Peer, timeout_micros: 0, shape, caller: 0, origin: 0 }
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
        assert!(gate.next(|_| true).is_none(), "it did not wait for the request");
        gate.done(2);
        // Nobody waits for the fourth.
        while let Some((seq, _)) = gate.next(|seq| seq != 4) {
            running.push(seq);
        }
        assert_eq!(running, [1, 2, 3, 5]);
        gate.done(5);
        assert_eq!(gate.next(|_| true).map(|(seq, _)| seq), Some(6));
    }
}
