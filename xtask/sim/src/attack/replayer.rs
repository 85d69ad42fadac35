//! Neighbours that say again what was said.

use std::collections::VecDeque;
use std::time::Duration;

use peerage_machine::{LinkId, Now, Rng};
use peerage_sim::Start;
use peerage_wire::proto::mesh::v1 as proto;
use peerage_wire::proto::mesh::v1::packet::Kind;

use super::scripted::{Script, Voice};

/// Messages that it keeps.
const KEPT: usize = 256;

/// Sends a genuine message that it has heard to everyone, ten times a second: every other time as if it had been asked for it.
#[derive(Debug)]
pub(super) struct Replayer {
    heard: VecDeque<proto::Payload>,
    rng: Rng,
    pulled: bool,
}

impl Replayer {
    pub(super) fn new(start: &Start) -> Self {
        Self { heard: VecDeque::new(), rng: start.seed.fork("replayer").rng(), pulled: false }
    }
}

impl Script for Replayer {
    fn every(&self) -> Duration {
        Duration::from_millis(100)
    }

    fn hear(&mut self, _: Now, _: LinkId, kind: &Kind, _: &mut Voice<'_>) {
        if let Kind::Payload(payload) = kind {
            if self.heard.len() >= KEPT {
                self.heard.pop_front();
            }
            self.heard.push_back(payload.clone());
        }
    }

    fn turn(&mut self, _: Now, voice: &mut Voice<'_>) {
        let Some(payload) = self.heard.get(self.rng.index(self.heard.len().max(1))) else { return };
        self.pulled = !self.pulled;
        let again = proto::Payload { hops: 1, pulled: self.pulled, ..payload.clone() };
        voice.everywhere(None, Kind::Payload(again));
    }
}
