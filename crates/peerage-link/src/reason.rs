//! Reasons on the wire: [`Why`] to a `Goodbye` or `Refuse`, and back as the other side sees it.

use peerage_machine::{Side, Why};
use peerage_wire::PeerId;
use peerage_wire::proto::link::v1::goodbye::Code;

/// What the peer is told. Long details are cut where the frame is made.
pub(crate) fn to_wire(why: &Why) -> (Code, String) {
    match why {
        Why::Shutdown { detail, .. } => (Code::Shutdown, detail.clone()),
        Why::Unheld => (Code::Unheld, String::new()),
        Why::Superseded => (Code::Superseded, String::new()),
        Why::Duplicate => (Code::Duplicate, String::new()),
        Why::Fault { what, .. } => (Code::Fault, what.clone()),
        Why::Limit { what, .. } => (Code::Limit, what.clone()),
        Why::Refused(refusal) => (Code::NoCommonInstance, refusal.to_string()),
        Why::WrongPeer { expected, .. } => (Code::WrongPeer, expected.to_string()),
        Why::SelfDial => (Code::SelfDial, String::new()),
        Why::Silent { after } => (Code::Silent, format!("{after:?}")),
        other => (Code::Unspecified, other.to_string()),
    }
}

/// What the peer meant, seen from this side.
pub(crate) fn from_wire(code: i32, detail: &str, us: PeerId) -> Why {
    let detail = detail.to_owned();
    match Code::try_from(code) {
        Ok(Code::Shutdown) => Why::Shutdown { by: Side::Them, detail },
        Ok(Code::Unheld) => Why::Unheld,
        Ok(Code::Superseded) => Why::Superseded,
        Ok(Code::Duplicate) => Why::Duplicate,
        Ok(Code::Fault) => Why::Fault { by: Side::Us, what: detail },
        Ok(Code::Limit) => Why::Limit { by: Side::Them, what: detail },
        Ok(Code::WrongPeer) => match detail.parse() {
            Ok(expected) => Why::WrongPeer { expected, found: us },
            Err(_) => Why::Lost(format!("the peer meant somebody else: {detail}")),
        },
        Ok(Code::SelfDial) => Why::SelfDial,
        Ok(Code::Silent) => Why::Lost(format!("the peer heard nothing from this endpoint for {detail}")),
        Ok(Code::NoCommonInstance) => Why::Lost(format!("the peer found no instance in common: {detail}")),
        Ok(Code::Unspecified) => Why::Lost(format!("the peer said goodbye: {detail}")),
        Err(_) => Why::Lost(format!("the peer said goodbye with the unknown code {code}: {detail}")),
    }
}
