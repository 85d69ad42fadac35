//! Of which streams do you not hold the same: for windows of many origins, of which telling all would cost far more than
//! what differs.
//!
//! The keys of the sets that `peerage-reconcile` compares are streams, each with a hash of what is held of it. Both sides
//! come to know which of theirs differ, and sum up those alone.

use peerage_machine::{Instant, LinkId};
use peerage_reconcile::{Config, KeyedSet, Message as Step, Open, Salt, Session};

use super::broadcast::Broadcast;
use super::links::Cx;
use super::message::StreamKey;
use super::packet::{Run, Span, Words};
use super::ranges::Range;
use super::repair::packets;

/// More streams than these are told outright: peers remember fewer.
pub(crate) const MAX_STREAMS: usize = 2048;
/// What a set takes in memory for each of its streams.
const KEY_BYTES: usize = 160;
/// A session that is not over by then gives way to another one, and a peer of a larger key may begin one again.
const GIVE_UP: std::time::Duration = std::time::Duration::from_secs(15);

/// What a session may cost.
const CONFIG: Config = Config {
    first_symbols: 16,
    max_symbols: 1024,
    max_differences: MAX_STREAMS as u32,
    max_set: MAX_STREAMS,
    max_message: 24_000,
};

/// What a session takes in memory, with its set.
pub(crate) const SESSION_BYTES: usize = CONFIG.worst_case_bytes() + MAX_STREAMS * KEY_BYTES;

/// Origin, epoch, and what of the ranges' hash fits.
type Key = [u8; 48];

/// A session with a neighbour.
#[derive(Debug)]
pub(crate) struct Comparing {
    name: u32,
    span: Span,
    set: KeyedSet<Key>,
    session: Session,
    since: Instant,
    /// Whether we began it.
    ours: bool,
}

impl Comparing {
    fn is_over(&self, now: Instant) -> bool {
        self.since + GIVE_UP <= now || self.session.is_over()
    }

    pub(crate) fn footprint(&self) -> usize {
        self.session.held_bytes() + self.set.len() * KEY_BYTES
    }
}

fn key(stream: StreamKey, ranges: &[Range]) -> Key {
    let mut hasher = blake3::Hasher::new();
    for range in ranges {
        hasher.update(&range.first.to_le_bytes());
        hasher.update(&range.last.to_le_bytes());
    }
    let mut key = [0; 48];
    let (origin, rest) = key.split_at_mut(32);
    let (epoch, hash) = rest.split_at_mut(8);
    origin.copy_from_slice(stream.origin.as_bytes());
    epoch.copy_from_slice(&stream.epoch.to_le_bytes());
    hasher.finalize_xof().fill(hash);
    key
}

fn stream(key: &Key) -> Option<StreamKey> {
    let (origin, rest) = key.split_first_chunk::<32>()?;
    let epoch = u64::from_le_bytes(*rest.first_chunk()?);
    Some(StreamKey { origin: peerage_wire::PeerId::from_bytes(*origin), epoch })
}

impl Broadcast {
    /// Finds out what only one of us has of what was said in a span: all that is held is told when that is little, and
    /// otherwise what differs. `ask` for the same in turn in the first case; the second always tells both.
    pub(crate) fn find_difference(&mut self, link: LinkId, span: Span, ask: bool, cx: &mut Cx<'_>) {
        let streams = self.window.streams(span);
        if !self.are_many(streams.len()) {
            return self.send_summary(link, ask, cx);
        }
        if cx.links.get(link).is_none_or(|link| link.is_busy(cx.now.mono)) {
            return;
        }
        let [low, high] = [self.rng.next_u64(), self.rng.next_u64()];
        let salt = Salt::new((u128::from(high) << 64 | u128::from(low)).to_le_bytes());
        let name = self.rng.next_u64() as u32;
        let set = KeyedSet::from_keys(salt, streams.iter().map(|(stream, ranges)| key(*stream, ranges)));
        // Set and configuration are within the limits.
        let Ok((session, hello)) = Session::start(&set, CONFIG) else { return };
        let Some(neighbour) = self.neighbours.get_mut(&link) else { return };
        let since = cx.now.mono;
        neighbour.comparing = Some(Box::new(Comparing { name, span, set, session, since, ours: true }));
        cx.out.count("mesh_sessions_total", 1);
        send(link, name, span, hello, cx);
    }

    fn are_many(&self, streams: usize) -> bool {
        streams > self.config.told_streams && streams <= MAX_STREAMS
    }

    pub(crate) fn on_reconcile(&mut self, link: LinkId, name: u32, span: Span, step: Step, cx: &mut Cx<'_>) {
        if let Step::Open(open) = step {
            return self.on_open(link, name, span, &open, cx);
        }
        let Some(neighbour) = self.neighbours.get_mut(&link) else { return };
        let Some(comparing) = neighbour.comparing.as_mut().filter(|it| it.name == name) else { return };
        let span = comparing.span;
        match comparing.session.on_message(step) {
            Ok(step) => self.carry_on(link, name, span, step, cx),
            // By chance, or by a peer that makes things up. Another salt mends the one, and the other costs us no more.
            Err(_) => {
                neighbour.comparing = None;
                cx.out.count("mesh_sessions_failed_total", 1);
            }
        }
    }

    /// A neighbour begins a session.
    fn on_open(&mut self, link: LinkId, name: u32, span: Span, open: &Open, cx: &mut Cx<'_>) {
        let now = cx.now.mono;
        let Some(peer) = cx.links.get(link).map(|link| link.peer) else { return };
        let Some(neighbour) = self.neighbours.get(&link) else { return };
        // Of two that cross, the one by the smaller key stays.
        if self.me < peer && neighbour.comparing.as_ref().is_some_and(|it| it.ours && !it.is_over(now)) {
            return;
        }
        if self.is_compared_too_often(link, cx) {
            return;
        }
        let streams = self.window.streams(span);
        let ours = streams.len() as u64;
        // Most of the larger set is only there: telling all costs less than finding that out.
        let unequal = ours < open.count / 2 || ours / 2 > open.count;
        if unequal || !self.are_many(streams.len()) {
            return self.send_summary(link, true, cx);
        }
        let set = KeyedSet::from_keys(open.salt, streams.iter().map(|(stream, ranges)| key(*stream, ranges)));
        let Ok((session, step)) = Session::accept(&set, CONFIG, open) else {
            return cx.out.count("mesh_sessions_failed_total", 1);
        };
        if let Some(neighbour) = self.neighbours.get_mut(&link) {
            neighbour.comparing =
                Some(Box::new(Comparing { name, span, set, session, since: now, ours: false }));
            self.carry_on(link, name, span, step, cx);
        }
    }

    /// Sends what a session wants sent, and sums up what it found.
    fn carry_on(
        &mut self,
        link: LinkId,
        name: u32,
        span: Span,
        step: peerage_reconcile::Step,
        cx: &mut Cx<'_>,
    ) {
        for message in step.send {
            send(link, name, span, message, cx);
        }
        let Some(neighbour) = self.neighbours.get_mut(&link) else { return };
        let Some(comparing) = &neighbour.comparing else { return };
        let differing: Vec<StreamKey> = step.difference.map_or_else(Vec::new, |difference| {
            difference.ours.iter().filter_map(|short| stream(comparing.set.key(*short)?)).collect()
        });
        if comparing.session.is_over() {
            neighbour.comparing = None;
        }
        let runs = differing.into_iter().map(|stream| Run {
            stream,
            ranges: self.window.ranges(stream),
            hops: 0,
            now: false,
        });
        let runs: Vec<Run> = runs.filter(|run| !run.ranges.is_empty()).collect();
        for runs in packets(runs.into_iter()) {
            let notices = cx.links.notices(link, runs, cx.now.mono);
            cx.links.control_if_room(link, Words::Summary { notices, ask: false }, cx.out);
        }
    }
}

fn send(link: LinkId, session: u32, span: Span, step: Step, cx: &mut Cx<'_>) {
    let words = Words::Reconcile { session, span, step: Box::new(step) };
    cx.links.control_if_room(link, words, cx.out);
}
