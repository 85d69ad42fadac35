//! What neighbours were asked for and still owe, though others have sent it meanwhile, or were asked as well.

use std::collections::VecDeque;

use peerage_machine::{Instant, LinkId};

use super::message::MessageId;

/// So many are remembered: of one who breaks promises, a few are enough.
pub(crate) const MAX_PROMISES: usize = 256;
/// What one takes in memory.
pub(crate) const PROMISE_BYTES: usize = 80;

/// A neighbour was asked for a message, and has until then.
#[derive(Clone, Copy, Debug)]
struct Promise {
    link: LinkId,
    id: MessageId,
    until: Instant,
}

#[derive(Debug, Default)]
pub(crate) struct Promises(VecDeque<Promise>);

impl Promises {
    /// Whether it is remembered.
    pub(crate) fn add(&mut self, link: LinkId, id: MessageId, until: Instant) -> bool {
        let room = self.0.len() < MAX_PROMISES;
        if room {
            self.0.push_back(Promise { link, id, until });
        }
        room
    }

    /// The link has sent the message: whether it owed it.
    pub(crate) fn keep(&mut self, link: LinkId, id: &MessageId) -> bool {
        let before = self.0.len();
        self.0.retain(|promise| promise.link != link || promise.id != *id);
        self.0.len() < before
    }

    pub(crate) fn link_down(&mut self, link: LinkId) {
        self.0.retain(|promise| promise.link != link);
    }

    /// Who has broken one by now, for each. A link that is at it has until `busy_until`.
    pub(crate) fn broken(&mut self, now: Instant, busy_until: impl Fn(LinkId) -> Instant) -> Vec<LinkId> {
        let mut broken = Vec::new();
        self.0.retain_mut(|promise| {
            promise.until = promise.until.max(busy_until(promise.link));
            let is_broken = promise.until <= now;
            broken.extend(is_broken.then_some(promise.link));
            !is_broken
        });
        broken
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.iter().map(|promise| promise.until).min()
    }

    pub(crate) fn footprint(&self) -> usize {
        self.0.len() * PROMISE_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::message::StreamKey;
    use peerage_wire::PeerId;
    use std::time::Duration;

    #[test]
    fn a_promise_is_broken_once_unless_it_is_kept_or_its_link_is_at_it() {
        let stream = StreamKey { origin: PeerId::from_bytes([1; 32]), epoch: 1 };
        let at = |secs| Instant::START + Duration::from_secs(secs);
        let mut promises = Promises::default();
        for link in 1..=3 {
            assert!(promises.add(LinkId(link), stream.message(7), at(1)));
        }
        assert!(
            !promises.keep(LinkId(1), &stream.message(8)) && promises.keep(LinkId(1), &stream.message(7))
        );
        let busy_until = |link| if link == LinkId(2) { at(5) } else { at(0) };
        assert_eq!(promises.broken(at(1), busy_until), [LinkId(3)]);
        assert_eq!((promises.broken(at(4), busy_until), promises.next()), (Vec::new(), Some(at(5))));
        assert_eq!(promises.broken(at(5), busy_until), [LinkId(2)]);
        assert_eq!((promises.footprint(), promises.next()), (0, None));
    }
}
