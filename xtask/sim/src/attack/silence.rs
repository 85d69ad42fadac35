//! Neighbours that pass nothing on.

use peerage_machine::{LinkId, Now};
use peerage_wire::proto::mesh::v1::packet::Kind;

use super::scripted::{Script, Voice};

/// Neither sends nor announces any message.
#[derive(Debug)]
pub(super) struct Silence;

impl Script for Silence {
    fn hear(&mut self, _: Now, _: LinkId, kind: &Kind, voice: &mut Voice<'_>) {
        if matches!(kind, Kind::Payload(_)) {
            voice.withhold();
        }
    }
}
