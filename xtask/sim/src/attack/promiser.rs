//! Neighbours that announce and never send.

use peerage_machine::{LinkId, Now};
use peerage_wire::proto::mesh::v1 as proto;
use peerage_wire::proto::mesh::v1::packet::Kind;

use super::scripted::{Script, Voice};
use super::words;

/// Announces every message that it hears of to everyone else, at once and as if it were the origin's neighbour, so that they
/// ask it first and take it for a better parent than theirs; and sends nothing.
#[derive(Debug)]
pub(super) struct Promiser;

impl Script for Promiser {
    fn hear(&mut self, _: Now, from: LinkId, kind: &Kind, voice: &mut Voice<'_>) {
        let runs: Vec<proto::Run> = match kind {
            Kind::Payload(payload) => {
                let body = words::body(payload).into_iter();
                body.map(|body| words::run(&body.origin, body.epoch, body.seq, body.seq)).collect()
            }
            Kind::Announce(proto::Announce { runs }) => {
                runs.iter().filter(|run| !run.ranges.is_empty()).cloned().collect()
            }
            Kind::Want(_) => return voice.withhold(),
            _ => return,
        };
        if runs.is_empty() {
            return;
        }
        let runs = runs.into_iter().map(|run| proto::Run { hops: 1, now: false, ..run }).collect();
        voice.nearby(Some(from), Kind::Announce(proto::Announce { runs }));
    }
}
