//! Neighbours that announce what there is not.

use std::time::Duration;

use peerage_machine::{LinkId, Now};
use peerage_wire::proto::mesh::v1 as proto;
use peerage_wire::proto::mesh::v1::packet::Kind;

use super::scripted::{Script, Voice};
use super::words::{self, Streams};

/// Streams in one announcement, as many as it may have.
const RUNS: usize = 64;
/// Numbers of each stream that nobody has said yet: some, with gaps between, so that each takes memory.
const AHEAD: u64 = 8;

/// Ten times a second, announces to all neighbours what the origins have not said yet, as if it were next to each of them.
#[derive(Debug, Default)]
pub(super) struct Announcer {
    streams: Streams,
}

impl Script for Announcer {
    fn every(&self) -> Duration {
        Duration::from_millis(100)
    }

    fn hear(&mut self, _: Now, _: LinkId, kind: &Kind, _: &mut Voice<'_>) {
        self.streams.hear(kind);
    }

    fn turn(&mut self, _: Now, voice: &mut Voice<'_>) {
        let ahead = |(origin, epoch, last): (_, u64, u64)| {
            let first = words::run(origin, epoch, last + 1, last + 1);
            let ranges = first.ranges.iter().copied().chain([1, 0].repeat(AHEAD as usize - 1)).collect();
            proto::Run { ranges, hops: 1, ..first }
        };
        let runs: Vec<proto::Run> = self.streams.iter().take(RUNS).map(ahead).collect();
        if !runs.is_empty() {
            voice.nearby(None, Kind::Announce(proto::Announce { runs }));
        }
    }
}
