//! Two links joined back to back.

use std::time::Duration;

use bytes::BytesMut;
use peerage_link::{Link, LinkEvent, Setup};
use peerage_machine::{Instant, Why};

use super::Heard;

/// One link, what it said that is on its way, and what it heard.
pub(crate) struct End {
    pub(crate) link: Link,
    /// Said, and not at the other end yet.
    pub(crate) wire: BytesMut,
    /// Arrived, and not used yet.
    input: BytesMut,
    pub(crate) heard: Heard,
    /// How a greeting is answered; nobody answers when it is `None`.
    pub(crate) answer: Option<Result<(), Why>>,
}

impl End {
    pub(crate) fn new(setup: Setup, now: Instant) -> Self {
        Self::of(Link::new(setup, now))
    }

    fn of(link: Link) -> Self {
        Self {
            link,
            wire: BytesMut::new(),
            input: BytesMut::new(),
            heard: Heard::default(),
            answer: Some(Ok(())),
        }
    }

    pub(crate) fn flush(&mut self, budget: usize) {
        let mut said = BytesMut::new();
        // As a host does: it asks first.
        if self.link.has_work() {
            self.link.transmit(&mut said, budget);
        }
        self.wire.unsplit(said);
    }

    /// Takes what the link has to say.
    pub(crate) fn poll(&mut self) {
        while let Some(event) = self.link.poll_event() {
            let greeted = matches!(event, LinkEvent::Greeted(_));
            self.heard.0.push(event);
            match (greeted, &self.answer) {
                (true, Some(Ok(()))) => self.link.admit(),
                (true, Some(Err(why))) => self.link.refuse(why.clone()),
                _ => {}
            }
        }
    }

    /// These bytes arrive. Events are not taken; what the link leaves for later stays.
    pub(crate) fn arrive(&mut self, now: Instant, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        self.go_on(now);
    }

    /// Offers again what the link left.
    pub(crate) fn go_on(&mut self, now: Instant) -> bool {
        let mut moved = false;
        loop {
            let used = self.link.receive(now, &mut self.input);
            if used == 0 {
                return moved;
            }
            moved = true;
            let _ = self.input.split_to(used);
        }
    }

    /// Takes events and offers the rest until neither changes anything.
    pub(crate) fn settle(&mut self, now: Instant) {
        loop {
            self.poll();
            if !self.go_on(now) {
                return self.poll();
            }
        }
    }

    pub(crate) fn closed(&self) -> &Why {
        self.heard.closed().expect("the link ended")
    }
}

/// A dialer and a listener.
pub(crate) struct Pair {
    pub(crate) now: Instant,
    pub(crate) a: End,
    pub(crate) b: End,
}

impl Pair {
    /// Joined, and nothing said yet.
    pub(crate) fn new(a: Setup, b: Setup) -> Self {
        let now = Instant::from_micros(1_000_000);
        Self { now, a: End::new(a, now), b: End::new(b, now) }
    }

    /// Joined without a handshake, and nothing said yet.
    pub(crate) fn without_handshake(a: Setup, b: Setup) -> Result<Self, Why> {
        let now = Instant::from_micros(1_000_000);
        Link::pair(a, b, now).map(|(a, b)| Self { now, a: End::of(a), b: End::of(b) })
    }

    /// Joined and up.
    pub(crate) fn up(a: Setup, b: Setup) -> Self {
        let mut pair = Self::new(a, b);
        pair.run();
        assert!(pair.a.heard.is_up() && pair.b.heard.is_up(), "{:?} {:?}", pair.a.heard, pair.b.heard);
        assert_eq!((pair.a.heard.closed(), pair.b.heard.closed()), (None, None));
        pair
    }

    /// Both speak and listen until neither has anything to say; time stands still.
    pub(crate) fn run(&mut self) {
        self.run_in_pieces(|_| usize::MAX);
    }

    /// As [`Pair::run`], the stream cut into pieces of these lengths, each settled before the next comes.
    pub(crate) fn run_in_pieces(&mut self, mut piece: impl FnMut(usize) -> usize) {
        for _ in 0..1_000_000 {
            self.a.settle(self.now);
            self.b.settle(self.now);
            self.a.flush(256 << 10);
            self.b.flush(256 << 10);
            if self.a.wire.is_empty() && self.b.wire.is_empty() {
                self.a.settle(self.now);
                self.b.settle(self.now);
                if !self.a.link.has_work() && !self.b.link.has_work() {
                    return;
                }
                continue;
            }
            while !self.a.wire.is_empty() || !self.b.wire.is_empty() {
                self.cross(piece(self.a.wire.len()), piece(self.b.wire.len()));
                self.a.settle(self.now);
                self.b.settle(self.now);
            }
        }
        panic!("the two never fall silent");
    }

    /// At most so many bytes of each side reach the other, which takes no events.
    pub(crate) fn cross(&mut self, of_a: usize, of_b: usize) {
        let from_a = self.a.wire.split_to(of_a.min(self.a.wire.len()));
        let from_b = self.b.wire.split_to(of_b.min(self.b.wire.len()));
        self.b.arrive(self.now, &from_a);
        self.a.arrive(self.now, &from_b);
    }

    /// Both speak once and hear each other once after a one-way delay.
    pub(crate) fn exchange(&mut self, one_way: Duration) {
        self.a.flush(usize::MAX);
        self.b.flush(usize::MAX);
        self.now = self.now + one_way;
        self.cross(usize::MAX, usize::MAX);
        self.a.settle(self.now);
        self.b.settle(self.now);
    }

    /// Goes to the next deadline of either side, if it comes within the span, and runs it and what follows. False when
    /// there is none.
    pub(crate) fn tick(&mut self, until: Instant) -> bool {
        let due = [&self.a, &self.b].into_iter().filter_map(|end| end.link.deadline()).min();
        let Some(due) = due.filter(|due| *due <= until) else {
            self.now = self.now.max(until);
            return false;
        };
        self.now = self.now.max(due);
        for end in [&mut self.a, &mut self.b] {
            end.on_timer(self.now);
        }
        true
    }

    /// Lets so much time go by, with all that is said in it.
    pub(crate) fn elapse(&mut self, span: Duration) {
        let until = self.now + span;
        self.run();
        while self.tick(until) {
            self.run();
        }
    }
}

impl End {
    /// The timer, and that it keeps its contract: early it does nothing, and when due it moves its deadline on.
    pub(crate) fn on_timer(&mut self, now: Instant) {
        let before = self.link.deadline();
        self.link.on_timer(now);
        self.poll();
        match (before, self.link.deadline()) {
            (Some(before), after) if before > now => assert_eq!(after, Some(before), "early, and yet"),
            (Some(_), Some(after)) => assert!(after > now, "due, and due again at {after:?} at {now:?}"),
            (None, after) => assert_eq!(after, None),
            (Some(_), None) => {}
        }
    }
}
