//! Neighbours that want everything, again and again.

use std::time::Duration;

use peerage_machine::{LinkId, Now};
use peerage_wire::proto::mesh::v1 as proto;
use peerage_wire::proto::mesh::v1::packet::Kind;

use super::scripted::{Script, Voice};
use super::words::{self, Streams};

/// Streams in one request, as many as it may have.
const RUNS: usize = 64;

/// Ten times a second, asks all neighbours to push every origin's messages to it, and to send all that there ever were.
#[derive(Debug, Default)]
pub(super) struct Grafter {
    streams: Streams,
}

impl Script for Grafter {
    fn every(&self) -> Duration {
        Duration::from_millis(100)
    }

    fn hear(&mut self, _: Now, _: LinkId, kind: &Kind, _: &mut Voice<'_>) {
        self.streams.hear(kind);
    }

    fn turn(&mut self, _: Now, voice: &mut Voice<'_>) {
        let all = |(origin, epoch, last)| proto::Run { now: true, ..words::run(origin, epoch, 1, last) };
        let runs: Vec<proto::Run> = self.streams.iter().take(RUNS).map(all).collect();
        if !runs.is_empty() {
            voice.nearby(None, Kind::Want(proto::Want { runs }));
        }
    }
}
