//! What pushes leave out: announcements that come, requests, summaries, and when to give up.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use peerage_machine::{Instant, LinkId};

use super::announce::Note;
use super::broadcast::{Broadcast, Timer};
use super::event::MeshEvent;
use super::links::Cx;
use super::message::{MessageId, StreamKey};
use super::missing::{Announcer, Ask, Fed};
use super::neighbour::{News, Owed};
use super::packet::{MAX_PACKET_RANGES, MAX_RUN_LEN, MAX_RUN_RANGES, MAX_RUNS, Run, Words};
use super::ranges::{Range, normalise};
use super::score::{Deed, MOST_BROKEN};
use super::stream::Stream;

/// The least time between two sweeps for what is too old.
const SWEEP: Duration = Duration::from_secs(1);
/// Within so long, a neighbour is blamed for so many broken promises at most: a link that is silent for twice as long is given up.
const BLAMED_FOR: Duration = Duration::from_secs(2);
/// The depth of a tree, in round trips of a peer's slowest neighbour: a way of twenty hops.
const TREE_ROUND_TRIPS: u32 = 10;

impl Broadcast {
    pub(crate) fn on_timer(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now.mono;
        while let Some(timer) = self.timers.expire(now) {
            match timer {
                Timer::Flush => self.flush(cx),
                Timer::Summary => {
                    self.compare(cx);
                    self.arm_upkeep(cx);
                }
                Timer::Sweep => self.sweep(cx),
                Timer::Stall => self.offer_room(cx),
                Timer::Settle => self.settle_trees(cx),
                Timer::Offers => self.push_offered(cx),
            }
        }
        if self.missing.deadline().is_some_and(|at| at <= now) {
            self.ask(cx);
        }
    }

    // Announced.

    /// There is room on the link: it gets what it is owed, and what was put off is pushed after all.
    pub(crate) fn room(&mut self, link: LinkId, cx: &mut Cx<'_>) {
        self.serve(link, cx);
        let limit = self.config.owed_ranges;
        if let Some(neighbour) = self.neighbours.get_mut(&link)
            && neighbour.owed.is_empty()
        {
            let put_off: Vec<StreamKey> = neighbour.announce.streams(News::PutOff).collect();
            for stream in put_off {
                let fits = neighbour
                    .announce
                    .get(&stream, News::PutOff)
                    .is_some_and(|note| neighbour.owed.len() + note.ranges.len() <= limit);
                if fits && let Some(Note { ranges, .. }) = neighbour.announce.remove(&stream, News::PutOff) {
                    neighbour.announce_ranges = neighbour.announce_ranges.saturating_sub(ranges.len());
                    neighbour.owed.extend(ranges.into_iter().map(|range| Owed {
                        stream,
                        range,
                        pulled: false,
                        asked: false,
                    }));
                }
            }
            self.serve(link, cx);
        }
        self.offer_room(cx);
    }

    pub(crate) fn on_announce(&mut self, link: LinkId, runs: Vec<Run>, cx: &mut Cx<'_>) {
        let mut dry = BTreeSet::new();
        let mut wait = None;
        for run in runs {
            if run.ranges.is_empty() && run.now {
                dry.insert(run.stream);
                continue;
            }
            let (mut all_seen, now) = (true, cx.now.mono);
            for range in &run.ranges {
                // Most of what is announced is here already.
                if !self.has_seen(run.stream, *range) {
                    let hurries = run.now || self.is_orphan(run.stream);
                    let wait = *wait.get_or_insert_with(|| self.graft_after(link, cx));
                    let due = if hurries { now } else { now + wait };
                    let trusted = cx.trusts(link, &run.stream.origin);
                    let by = Announcer { link, hops: run.hops, graft: !run.now, large: false, trusted };
                    all_seen &= self.hear_of(run.stream, *range, by, due, cx);
                }
                if let Some(neighbour) = self.neighbours.get_mut(&link) {
                    neighbour.has(run.stream, *range, run.hops.saturating_sub(1));
                }
            }
            if all_seen && !run.now {
                self.nearer(link, run.stream, run.hops, cx);
            }
        }
        if !dry.is_empty() && self.neighbours.contains_key(&link) {
            self.ran_dry(link, &dry, cx);
        }
    }

    /// Whether nobody pushes the stream to us: its last pusher is gone, or this peer has no part in any tree yet. A new
    /// origin's first message may still be on its way along the tree.
    pub(crate) fn is_orphan(&self, stream: StreamKey) -> bool {
        if self.streams.peek(&stream).is_some() { self.parent(stream).is_none() } else { !self.has_trees() }
    }

    fn has_seen(&self, stream: StreamKey, range: Range) -> bool {
        self.streams.peek(&stream).is_some_and(|known| known.seen.has_all(range))
    }

    /// A neighbour has these. Whether all of them are here.
    pub(crate) fn hear_of(
        &mut self,
        stream: StreamKey,
        range: Range,
        by: Announcer,
        due: Instant,
        cx: &mut Cx<'_>,
    ) -> bool {
        let missing = match self.streams.peek(&stream) {
            Some(known) => known.seen.missing_in(range, MAX_RUN_RANGES),
            None => vec![range],
        };
        let all_seen = missing.is_empty();
        for range in missing {
            if !self.missing.announced(stream, range, by, cx.now.mono, due) {
                cx.out.count("mesh_announcements_dropped_total", 1);
                break;
            }
        }
        all_seen
    }

    // Asking.

    fn due(&mut self, cx: &mut Cx<'_>) -> Vec<Ask> {
        let neighbours = &self.neighbours;
        let (least, most) = (self.least_wait(cx), self.config.graft_after_max);
        let links = &*cx.links;
        // An answer takes a round trip, and what is before it in the queue.
        let patience = |link: LinkId, large: bool| match links.get(link) {
            // Nobody knows how large it is, nor how fast the link. A neighbour that is gone is noticed otherwise.
            Some(_) if large => most.max(least),
            Some(link) => (link.rtt * 4 + least).min(most.max(least)),
            None => least,
        };
        let hasty = |link: LinkId| links.get(link).map_or(least, |link| link.rtt * 2);
        let answered = |link: LinkId| neighbours.get(&link).map_or(Instant::START, |it| it.answered);
        let (now, checked, streams) = (cx.now.mono, &self.verifying_ids, &self.streams);
        let silent_after = self.usual_lateness(cx).clamp(least, most.max(least));
        let fed = |id: &MessageId, heard: Instant| {
            if checked.contains_key(id) {
                return Fed::Soon(now + least);
            }
            let Some(stream) = streams.peek(&id.stream()).filter(|it| it.from.is_some()) else {
                return Fed::Not;
            };
            let silent_at = stream.pushes.max(stream.fed) + silent_after;
            match silent_at.min(heard + most) {
                until if until <= now => Fed::Not,
                until if stream.pushed < id.seq => Fed::Soon(until),
                _ => Fed::Passed,
            }
        };
        let trusted = |link: LinkId, stream: &StreamKey| links.trusts(link, &stream.origin, now);
        let (asks, given_up, broken) = self.missing.due(now, patience, hasty, answered, fed, trusted);
        self.blame(broken, cx);
        if given_up > 0 {
            cx.out.count("mesh_requests_given_up_total", given_up);
        }
        asks
    }

    /// A link that stalls answers nothing of all that it was asked for, and many times are up before that is noticed: only
    /// so many count.
    fn blame(&mut self, broken: Vec<LinkId>, cx: &mut Cx<'_>) {
        let now = cx.now.mono;
        for link in broken {
            let Some(neighbour) = self.neighbours.get_mut(&link) else { continue };
            let (since, times) = &mut neighbour.blamed;
            if *since + BLAMED_FOR <= now {
                (*since, *times) = (now, 0);
            }
            *times += 1;
            if *times <= MOST_BROKEN {
                cx.note(link, Deed::Broken);
            }
        }
    }

    /// How long a push may be behind its announcement: what was measured, and at least two round trips of the link that
    /// announced it.
    pub(crate) fn graft_after(&self, link: LinkId, cx: &Cx<'_>) -> Duration {
        let least = self.least_wait(cx);
        let round_trips = cx.links.slowest(std::iter::once(link)) * 2;
        self.usual_lateness(cx).max(round_trips).clamp(least, self.config.graft_after_max.max(least))
    }

    fn usual_lateness(&self, cx: &Cx<'_>) -> Duration {
        let (mean, deviation) = self.lateness(cx);
        mean + deviation * 4
    }

    /// How late pushes are, and how much that varies: twice the least wait in all, until something was measured.
    pub(crate) fn lateness(&self, cx: &Cx<'_>) -> (Duration, Duration) {
        self.lateness.unwrap_or_else(|| {
            let least = self.least_wait(cx);
            (least, least / 4)
        })
    }

    /// The least wait for a push. It comes by several links in a row, which are about as slow as our own.
    fn least_wait(&self, cx: &Cx<'_>) -> Duration {
        let (least, most) = (self.config.graft_after_min, self.config.graft_after / 2);
        (cx.links.slowest(self.neighbours.keys().copied()) * TREE_ROUND_TRIPS).clamp(least, most.max(least))
    }

    fn ask(&mut self, cx: &mut Cx<'_>) {
        let mut asks = self.due(cx);
        // A parent that pushed nothing all the while is none: what else is announced need not wait as long again, here or
        // below. But who is not trusted may have announced what there is not.
        let silent: BTreeSet<StreamKey> = asks
            .iter()
            .filter(|ask| ask.graft && cx.trusts(ask.link, &ask.stream.origin))
            .filter(|ask| {
                let known = self.streams.peek(&ask.stream);
                known.is_some_and(|known| known.from.is_some() && known.fed <= ask.heard)
            })
            .map(|ask| ask.stream)
            .collect();
        if !silent.is_empty() {
            for parent in silent.iter().filter_map(|stream| self.parent(*stream)).collect::<Vec<_>>() {
                cx.doubt(parent);
            }
            self.orphaned(silent.into_iter().collect(), cx);
            asks.extend(self.due(cx));
        }
        let now = cx.now.mono;
        let mut by_link: BTreeMap<LinkId, Vec<Run>> = BTreeMap::new();
        let mut grafted: BTreeMap<StreamKey, LinkId> = BTreeMap::new();
        for mut ask in asks {
            if !self.neighbours.contains_key(&ask.link) {
                continue;
            }
            // One new parent will do, whoever announced what.
            ask.graft = ask.graft && *grafted.entry(ask.stream).or_insert(ask.link) == ask.link;
            if let Some(it) = cx.links.get_mut(ask.link).filter(|_| !ask.graft) {
                it.awaited = it.awaited.saturating_add(ask.range.len());
            }
            if ask.graft && cx.trusts(ask.link, &ask.stream.origin) {
                // Whoever fed us did not, in time. Until this one does, other announcements need not hurry. One who is not
                // trusted becomes the parent when it has sent this.
                self.graft(ask.stream, ask.link, now);
            }
            let runs = by_link.entry(ask.link).or_default();
            match runs.last_mut() {
                Some(run)
                    if run.stream == ask.stream
                        && run.now == ask.graft
                        && run.ranges.len() < MAX_RUN_RANGES =>
                {
                    run.ranges.push(ask.range);
                }
                _ => runs.push(Run { stream: ask.stream, ranges: vec![ask.range], hops: 0, now: ask.graft }),
            }
            self.stats.requested += 1;
        }
        for (link, runs) in by_link {
            let runs = runs.into_iter().map(|mut run| {
                normalise(&mut run.ranges);
                run
            });
            for runs in packets(runs) {
                cx.control(link, Words::Want { runs });
            }
        }
    }

    pub(crate) fn on_want(&mut self, link: LinkId, runs: Vec<Run>, cx: &mut Cx<'_>) {
        if !self.neighbours.contains_key(&link) {
            return;
        }
        let limit = self.config.owed_ranges;
        let mut left = MAX_PACKET_RANGES;
        for run in runs {
            if run.now && self.streams.peek(&run.stream).is_some() {
                self.tree(run.stream.origin).asked(link);
                self.feeds_us_no_more(run.stream, link, cx);
            }
            let Some(neighbour) = self.neighbours.get_mut(&link) else { return };
            for range in run.ranges {
                if neighbour.owed.len() >= limit || left == 0 {
                    cx.out.count("mesh_requests_dropped_total", 1);
                    break;
                }
                left -= 1;
                let queued = cx.links.get(link).into_iter().flat_map(|it| it.queued_of(run.stream));
                // What is owed already may leave many short ranges of a long one.
                let wanted = neighbour.not_under_way(run.stream, range, queued);
                let room = limit.saturating_sub(neighbour.owed.len());
                if wanted.len() > room {
                    cx.out.count("mesh_requests_dropped_total", 1);
                }
                neighbour.owed.extend(wanted.into_iter().take(room).map(|range| Owed {
                    stream: run.stream,
                    range,
                    pulled: !run.now,
                    asked: true,
                }));
            }
        }
        self.serve(link, cx);
    }

    // Giving up.

    /// Sees to it that old messages go, and that the window is compared with neighbours' while there is something in it.
    pub(crate) fn arm_upkeep(&mut self, cx: &Cx<'_>) {
        let now = cx.now.mono;
        if !self.window.is_empty() && !self.timers.is_armed(&Timer::Summary) {
            let wait = self.rng.jitter(self.config.summary_every, 0.2);
            self.timers.arm(Timer::Summary, now + wait);
        }
        if let Some(at) = self.window.deadline()
            && !self.timers.is_armed(&Timer::Sweep)
        {
            self.timers.arm(Timer::Sweep, at.max(now + SWEEP));
        }
    }

    fn sweep(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now.mono;
        self.window.expire(now);
        let horizon =
            (now.since(Instant::START) >= self.config.retain_for).then(|| now - self.config.retain_for);
        let (mut ripe, mut next) = (Vec::new(), None::<Instant>);
        for (key, stream) in self.streams.iter() {
            if let Some(since) = stream.seen.oldest_gap() {
                if horizon.is_some_and(|horizon| since <= horizon) {
                    ripe.push(*key);
                }
                let at = since + self.config.retain_for;
                next = Some(next.map_or(at, |next| next.min(at)));
            }
        }
        for key in ripe {
            self.give_up_gaps(key, horizon, cx);
        }
        self.arm_upkeep(cx);
        if let Some(at) = next {
            let at = at.max(now + SWEEP);
            if self.timers.at(&Timer::Sweep).is_none_or(|armed| at < armed) {
                self.timers.arm(Timer::Sweep, at);
            }
        }
    }

    /// Closes gaps that are too many, or known since before the horizon: nobody near retains what is in them.
    pub(crate) fn give_up_gaps(&mut self, key: StreamKey, horizon: Option<Instant>, cx: &mut Cx<'_>) {
        let limit = self.config.ranges_per_origin;
        while let Some(gap) =
            self.streams.peek_mut(&key).and_then(|it: &mut Stream| it.seen.give_up(limit, horizon))
        {
            self.missing.forget(key, gap);
            self.stats.missed = self.stats.missed.saturating_add(gap.len());
            cx.out.count("mesh_missed_total", gap.len());
            cx.out.emit(MeshEvent::Missed { origin: key.origin, missed: gap.len() });
        }
    }
}

/// Cuts runs into messages that stay below 24 KiB.
pub(crate) fn packets(runs: impl Iterator<Item = Run>) -> Vec<Vec<Run>> {
    let mut packets: Vec<Vec<Run>> = Vec::new();
    let mut ranges = 0;
    let mut put = |run: Run| {
        let room = packets.last().is_some_and(|packet| packet.len() < MAX_RUNS);
        if room && ranges + run.ranges.len() <= MAX_PACKET_RANGES {
            ranges += run.ranges.len();
            if let Some(packet) = packets.last_mut() {
                packet.push(run);
            }
        } else {
            ranges = run.ranges.len();
            packets.push(vec![run]);
        }
    };
    for run in runs {
        if is_one_piece(&run) {
            put(run);
        } else {
            pieces(run).into_iter().for_each(&mut put);
        }
    }
    packets
}

fn is_one_piece(run: &Run) -> bool {
    let total: u64 = run.ranges.iter().fold(0, |sum: u64, range| sum.saturating_add(range.len()));
    run.ranges.len() <= MAX_RUN_RANGES && total <= MAX_RUN_LEN
}

/// Cuts a run that has too many ranges, or too many messages, for one.
fn pieces(run: Run) -> Vec<Run> {
    let (mut pieces, mut ranges, mut len) = (Vec::new(), Vec::new(), 0_u64);
    for range in run.ranges {
        // What a window holds is at most as long as a run, so a range alone never is longer.
        let range = Range::new(range.first, range.last.min(range.first.saturating_add(MAX_RUN_LEN - 1)));
        if ranges.len() == MAX_RUN_RANGES || len + range.len() > MAX_RUN_LEN {
            let ranges = std::mem::take(&mut ranges);
            pieces.push(Run { stream: run.stream, ranges, hops: run.hops, now: run.now });
            len = 0;
        }
        len += range.len();
        ranges.push(range);
    }
    pieces.push(Run { stream: run.stream, ranges, hops: run.hops, now: run.now });
    pieces
}
