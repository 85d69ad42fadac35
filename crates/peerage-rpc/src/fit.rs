//! What fits: no packet is longer than the longest message that the link takes which is to carry it.
//!
//! Each end knows what the other one's link takes ([`peerage_machine::LinkInfo::max_message`]), and bounds by it what one packet
//! may hold. A packet that were longer would be refused by the host each time, and its session would wait for ever.

use crate::flow::GATHER;
use crate::packet::Limits;
use crate::status::Status;

/// The least that the links of a broker and its parties must take, in bytes (`LinkConfig::max_message`). 64 KiB: what
/// is said to open a session may have as much by itself, and a piece of bulk data and the longest status go into it.
pub const LEAST_MAX_MESSAGE: u64 = 64 << 10;

/// What a packet has at most besides one message, or parameters, or a reply: what has gathered before it, and what is said of it.
const BESIDES: u64 = GATHER as u64 + (8 << 10);

/// Details of a status that any link takes.
const DETAILS: u64 = LEAST_MAX_MESSAGE - BESIDES;

/// That a link takes enough to be of use.
pub(crate) fn is_enough(whose: &str, max_message: u64) -> Result<(), Status> {
    if max_message >= LEAST_MAX_MESSAGE {
        return Ok(());
    }
    Err(Status::failed_precondition(format!(
        "the link takes messages of at most {max_message} bytes, by {whose} configuration (`max_message`), and sessions need \
         {LEAST_MAX_MESSAGE}"
    )))
}

impl Limits {
    /// These, as far as they fit into the messages that a link takes.
    #[must_use]
    pub(crate) fn within(self, max_message: u64) -> Self {
        let most = max_message.max(LEAST_MAX_MESSAGE) - BESIDES;
        Self { message_bytes: self.message_bytes.min(most), ..self }
    }

    /// That parameters are no longer than what a packet may hold.
    pub(crate) fn take_parameters(&self, bytes: usize) -> Result<(), Status> {
        let limit = self.message_bytes;
        if bytes as u64 <= limit {
            return Ok(());
        }
        Err(Status::invalid_argument(format!("the parameters have {bytes} bytes, the limit is {limit}")))
    }
}

impl Status {
    /// As it fits into a packet of a session with these limits: without its details, if those are too long.
    pub(crate) fn fit(&mut self, limits: &Limits) {
        let bytes: usize = self.details.iter().map(|(kind, value)| kind.len() + value.len()).sum();
        if bytes as u64 > limits.message_bytes.max(DETAILS) {
            self.details.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use peerage_machine::Message as _;

    use super::*;
    use crate::convert::encode_slowly;
    use crate::flow::longest_items;
    use crate::packet::{Call, Destination, Item, MAX_COMMAND, MAX_GROUP, Packet, Shape, Stream};
    use crate::status::MAX_STATUS_MESSAGE;

    #[test]
    fn whatever_a_session_may_say_at_once_fits_into_what_its_link_takes() {
        for max_message in [LEAST_MAX_MESSAGE, 70_000, 88 << 10, 16 << 20] {
            let limits = Limits { message_bytes: 1984 << 10, ..Limits::default() }.within(max_message);
            let longest = vec![0; limits.message_bytes as usize];
            let stream = Stream { call: u64::MAX, to_caller: true };
            let mut status = Status::internal("x".repeat(MAX_STATUS_MESSAGE));
            for _ in 0..16 {
                status.details.push(("x".repeat(16), vec![0; longest.len() / 16 - 16].into()));
            }
            status.fit(&limits);
            assert!(!status.details.is_empty());
            let items = [
                Item::Call(Box::new(Call {
                    command: vec![b'x'; MAX_COMMAND].into(),
                    payload: longest.into(),
                    to: Destination::Group(vec![b'x'; MAX_GROUP].into()),
                    timeout_micros: u64::MAX,
                    shape: Shape::SEALED,
                    caller: u64::MAX,
                    origin: u64::MAX,
                })),
                Item::Items { stream, count: u32::MAX, items: vec![0; longest_items(&limits)].into() },
                Item::Reply { to: u64::MAX, result: Err(Box::new(status.clone())) },
                Item::End { stream, status: Some(Box::new(status)) },
            ];
            for item in items {
                let bytes = Packet::encoded(encode_slowly(u64::MAX >> 2, true, &item)).encoded_len() as u64;
                assert!(bytes <= max_message, "{bytes} bytes, the link takes {max_message}");
            }
        }
    }

    #[test]
    fn a_status_whose_details_are_longer_than_a_packet_goes_without_them() {
        let limits = Limits::default().within(LEAST_MAX_MESSAGE);
        let mut status = Status::internal("why");
        status.details.push(("kind".to_owned(), Bytes::from(vec![0; 60 << 10])));
        let mut whole = status.clone();
        status.fit(&limits);
        whole.fit(&Limits::default());
        assert_eq!((status, whole.details.len()), (Status::internal("why"), 1));
    }
}
