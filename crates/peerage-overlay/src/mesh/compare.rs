//! What do you keep that I lack: anti-entropy between neighbours.
//!
//! A new neighbour is told all that is kept, as ranges. Later, a random one is told a hash of what is neither so new
//! that it may be under way nor so old that it may be gone; only when its own differs, both tell all. Where all is much,
//! a session (`sessions.rs`) finds what differs, and both tell that.

use peerage_machine::{LinkId, UnixMillis};

use super::broadcast::Broadcast;
use super::links::Cx;
use super::missing::Announcer;
use super::packet::{Run, Span, Words};
use super::repair::packets;

/// So many comparisons by hash, and then one of everything: messages by clocks that are far off are in no hash.
const HASHES: u32 = 5;

impl Broadcast {
    /// All that is kept, to one neighbour; `ask` for the same in turn.
    pub(crate) fn send_summary(&mut self, link: LinkId, ask: bool, cx: &mut Cx<'_>) {
        if cx.links.get(link).is_none_or(|link| link.is_busy(cx.now.mono)) {
            return;
        }
        let runs = self.window.streams(Span::ALL).into_iter().map(|(stream, ranges)| Run {
            stream,
            ranges,
            hops: 0,
            now: false,
        });
        let mut all = packets(runs);
        if all.is_empty() && ask {
            all.push(Vec::new());
        }
        let last = all.len().saturating_sub(1);
        for (at, runs) in all.into_iter().enumerate() {
            let notices = cx.links.notices(link, runs, cx.now.mono);
            cx.links.control_if_room(link, Words::Summary { notices, ask: ask && at == last }, cx.out);
        }
    }

    /// Compares what is kept with a random neighbour.
    pub(crate) fn compare(&mut self, cx: &mut Cx<'_>) {
        let links: Vec<LinkId> = self.neighbours.keys().copied().collect();
        let Some(link) = self.rng.pick(&links).copied() else { return };
        if self.window.is_empty() {
            return;
        }
        self.compared = self.compared.wrapping_add(1);
        if self.compared.is_multiple_of(HASHES + 1) {
            return self.find_difference(link, Span::ALL, false, cx);
        }
        let keep = u64::try_from(self.config.retain_for.as_millis()).unwrap_or(u64::MAX);
        let since = UnixMillis(cx.now.wall.0.saturating_sub(keep / 4 * 3));
        let until = UnixMillis(cx.now.wall.0.saturating_sub(keep / 12));
        let hash = self.hash_of(Span { since, until });
        cx.links.control_if_room(link, Words::Compare { since, until, hash }, cx.out);
    }

    fn hash_of(&self, span: Span) -> u64 {
        let mut hasher = blake3::Hasher::new();
        for id in self.window.between(span) {
            hasher.update(id.origin.as_bytes());
            hasher.update(&id.epoch.to_le_bytes());
            hasher.update(&id.seq.to_le_bytes());
        }
        let mut first = [0; 8];
        hasher.finalize_xof().fill(&mut first);
        u64::from_le_bytes(first)
    }

    /// Each reads the whole window, and costs the neighbour next to nothing.
    pub(crate) fn is_compared_too_often(&self, link: LinkId, cx: &mut Cx<'_>) -> bool {
        let now = cx.now.mono;
        let over = cx.links.get_mut(link).is_none_or(|it| it.meters.compares.is_over(now));
        if over {
            cx.out.count("mesh_comparisons_refused_total", 1);
        }
        over
    }

    pub(crate) fn on_compare(&mut self, link: LinkId, span: Span, hash: u64, cx: &mut Cx<'_>) {
        if self.is_compared_too_often(link, cx) {
            return;
        }
        if self.hash_of(span) != hash {
            cx.out.count("mesh_windows_differ_total", 1);
            self.find_difference(link, span, true, cx);
        }
    }

    pub(crate) fn on_summary(&mut self, link: LinkId, runs: Vec<Run>, ask: bool, cx: &mut Cx<'_>) {
        for run in runs {
            let now = cx.now.mono;
            let due = if self.is_orphan(run.stream) { now } else { now + self.graft_after(link, cx) };
            let trusted = cx.trusts(link, &run.stream.origin);
            let by = Announcer { link, hops: u32::MAX, graft: false, large: false, trusted };
            for range in run.ranges {
                self.hear_of(run.stream, range, by, due, cx);
            }
        }
        if ask && !self.is_compared_too_often(link, cx) {
            self.send_summary(link, false, cx);
        }
    }
}
