//! Messages as their origins signed them: read from the packets that they come in, and put into those that they leave in.

use std::ops::Range;

use bytes::{BufMut, Bytes};
use peerage_machine::{Malformed, UnixMillis};
use peerage_wire::PeerId;
use peerage_wire::proto::mesh::v1 as proto;
use prost::Message as _;
use prost::encoding::{WireType, decode_varint, encode_key, encode_varint, encoded_len_varint};

use super::fields::fields;
use super::{peer, signature, to_peer};
use crate::mesh::message::{GAP, MessageId, SIGNATURE, Signed, split};
use crate::mesh::packet::MAX_PARTS;

const NETWORK_TAG: u32 = 1;
const ORIGIN_TAG: u32 = 2;
const EPOCH_TAG: u32 = 3;
const SEQ_TAG: u32 = 4;
const SENT_TAG: u32 = 5;
const PARTS_TAG: u32 = 6;
const TARGET_TAG: u32 = 7;

/// A `Payload` or a `Whisper`, whose signed bytes go from where they are kept to where they leave from.
pub(super) struct Passed<'a> {
    pub(super) tag: u32,
    pub(super) message: &'a Signed,
    pub(super) hops: u32,
    pub(super) pulled: bool,
}

const BODY_TAG: u32 = 1;
const SIGNATURE_TAG: u32 = 2;
/// The tag and the length of a signature, as they are written.
const SIGNATURE_HEAD: [u8; GAP] =
    [(SIGNATURE_TAG << 3) as u8 | WireType::LengthDelimited as u8, SIGNATURE as u8];
const HOPS_TAG: u32 = 3;
const PULLED_TAG: u32 = 4;

/// The length of a packet with a body of `body` bytes, which has no part but what is in it.
pub(crate) fn passed_len(body: usize, hops: u32, pulled: bool) -> usize {
    in_field(inner_len(body, hops, pulled))
}

fn inner_len(body: usize, hops: u32, pulled: bool) -> usize {
    let hops = if hops > 0 { 1 + encoded_len_varint(hops.into()) } else { 0 };
    in_field(body) + in_field(SIGNATURE) + hops + if pulled { 2 } else { 0 }
}

/// So many bytes with a tag below 16 and their length before them.
fn in_field(len: usize) -> usize {
    1 + encoded_len_varint(len as u64) + len
}

impl Passed<'_> {
    fn inner_len(&self) -> usize {
        inner_len(self.message.body().len(), self.hops, self.pulled)
    }

    pub(super) fn encoded_len(&self) -> usize {
        in_field(self.inner_len())
    }

    pub(super) fn encode(&self, into: &mut impl BufMut) {
        let body = self.message.body();
        encode_key(self.tag, WireType::LengthDelimited, into);
        encode_varint(self.inner_len() as u64, into);
        encode_key(BODY_TAG, WireType::LengthDelimited, into);
        encode_varint(body.len() as u64, into);
        into.put_slice(body);
        encode_key(SIGNATURE_TAG, WireType::LengthDelimited, into);
        encode_varint(SIGNATURE as u64, into);
        into.put_slice(&self.message.signature());
        if self.hops > 0 {
            encode_key(HOPS_TAG, WireType::Varint, into);
            encode_varint(self.hops.into(), into);
        }
        if self.pulled {
            encode_key(PULLED_TAG, WireType::Varint, into);
            encode_varint(1, into);
        }
    }
}

/// What an origin signs.
pub(crate) struct Draft<'a> {
    pub(crate) network: &'a str,
    pub(crate) id: MessageId,
    pub(crate) sent: UnixMillis,
    pub(crate) parts: Vec<Bytes>,
    pub(crate) target: Option<PeerId>,
}

impl Draft<'_> {
    /// The length of the body.
    pub(crate) fn len(&self) -> usize {
        self.to_proto().encoded_len()
    }

    /// The message, signed by `sign`.
    pub(crate) fn sign(self, sign: impl FnOnce(&[u8]) -> [u8; SIGNATURE]) -> Signed {
        let body = self.to_proto().encode_to_vec();
        let bytes = joined(&body, &[], &sign(&body));
        Signed { id: self.id, sent: self.sent, bytes, target: self.target.map(Box::new) }
    }

    fn to_proto(&self) -> proto::WhisperBody {
        // A Body is a WhisperBody without a target: same tags, same bytes.
        proto::WhisperBody {
            network: self.network.to_owned(),
            origin: to_peer(&self.id.origin),
            epoch: self.id.epoch,
            seq: self.id.seq,
            sent: self.sent.0,
            parts: self.parts.clone(),
            target: self.target.as_ref().map(to_peer).unwrap_or_default(),
        }
    }
}

/// As they are in a packet that has the signature behind the body, which is in two pieces.
fn joined(head: &[u8], rest: &[u8], signature: &[u8]) -> Bytes {
    [head, rest, &SIGNATURE_HEAD, signature].concat().into()
}

/// What the body of a message begins with, as we write it: all but its parts; and but the time, when there is none.
fn head(network: &str, id: &MessageId, sent: Option<UnixMillis>) -> Vec<u8> {
    let mut head = Vec::with_capacity(head_len(network, id, sent));
    let mut bytes = |tag, bytes: &[u8]| {
        encode_key(tag, WireType::LengthDelimited, &mut head);
        encode_varint(bytes.len() as u64, &mut head);
        head.extend_from_slice(bytes);
    };
    bytes(NETWORK_TAG, network.as_bytes());
    bytes(ORIGIN_TAG, id.origin.as_bytes());
    for (tag, number) in [(EPOCH_TAG, id.epoch), (SEQ_TAG, id.seq), (SENT_TAG, in_head(sent))] {
        if number > 0 {
            encode_key(tag, WireType::Varint, &mut head);
            encode_varint(number, &mut head);
        }
    }
    head
}

/// The length of a head.
pub(crate) fn head_len(network: &str, id: &MessageId, sent: Option<UnixMillis>) -> usize {
    let number = |number| if number > 0 { 1 + encoded_len_varint(number) } else { 0 };
    in_field(network.len())
        + in_field(id.origin.as_bytes().len())
        + number(id.epoch)
        + number(id.seq)
        + number(in_head(sent))
}

/// A time of zero is not written.
fn in_head(sent: Option<UnixMillis>) -> u64 {
    sent.map_or(0, |sent| sent.0)
}

/// What of a message its head with this time does not say, in one piece of memory: its parts, its time if the head has none, and
/// the signature. `None` when its body begins otherwise: an origin may write the fields in whatever order, and what it signed is
/// passed on byte for byte.
pub(crate) fn cut(message: &Signed, network: &str, sent: Option<UnixMillis>) -> Option<Box<[u8]>> {
    let (body, signature) = split(&message.bytes);
    let rest = body.strip_prefix(head(network, &message.id, sent).as_slice())?;
    Some([rest, signature].concat().into())
}

/// The bytes of a message from those that [`cut`] left.
pub(crate) fn mend(left: &[u8], network: &str, id: &MessageId, sent: Option<UnixMillis>) -> Bytes {
    let (rest, signature) = left.split_at(left.len().saturating_sub(SIGNATURE));
    joined(&head(network, id, sent), rest, signature)
}

/// Where a body says what mesh it is for.
pub(crate) fn network(body: &[u8]) -> Range<usize> {
    let mut network = 0..0;
    // It was looked through when it came.
    let _ = fields("Body", body, |field| {
        if field.tag == NETWORK_TAG {
            network = field.place();
        }
        true
    });
    network
}

/// The parts of a body, slices of it.
pub(crate) fn parts(body: &Bytes) -> Vec<Bytes> {
    let mut parts = Vec::with_capacity(1);
    // It was looked through when it came.
    let _ = fields("Body", body, |field| {
        if field.tag == PARTS_TAG {
            // A field ends where the body does, or before.
            parts.push(body.slice(field.place()));
        }
        true
    });
    parts
}

/// When a message that is kept was said, by its body or what is left of that.
pub(crate) fn sent(body: &[u8]) -> UnixMillis {
    let mut sent = 0;
    let _ = fields("Body", body, |field| {
        if field.tag == SENT_TAG {
            sent = decode_varint(&mut body.get(field.place()).unwrap_or_default()).unwrap_or_default();
        }
        true
    });
    UnixMillis(sent)
}

/// What a body says, beside its parts.
#[derive(Debug, PartialEq)]
struct Said {
    id: MessageId,
    sent: UnixMillis,
    target: Option<PeerId>,
}

/// Reads a body in one walk. What is wrong with one that is not as it should be is left to the generated code to say.
fn said(what: &'static str, body: &Bytes, whisper: bool) -> Result<Said, Malformed> {
    let mut parts = 0;
    let (mut origin, mut epoch, mut seq, mut sent, mut target) = (&[][..], 0, 0, 0, &[][..]);
    let mut is_usual = true;
    fields(what, body, |field| {
        let mut bytes = body.get(field.place()).unwrap_or_default();
        match (field.tag, field.wire_type) {
            (NETWORK_TAG, WireType::LengthDelimited) => is_usual &= std::str::from_utf8(bytes).is_ok(),
            (ORIGIN_TAG, WireType::LengthDelimited) => origin = bytes,
            (EPOCH_TAG | SEQ_TAG | SENT_TAG, WireType::Varint) => {
                let number = decode_varint(&mut bytes);
                is_usual &= number.is_ok();
                match field.tag {
                    EPOCH_TAG => epoch = number.unwrap_or_default(),
                    SEQ_TAG => seq = number.unwrap_or_default(),
                    _ => sent = number.unwrap_or_default(),
                }
            }
            (PARTS_TAG, wire_type) => {
                parts += 1;
                is_usual &= wire_type == WireType::LengthDelimited;
            }
            (TARGET_TAG, WireType::LengthDelimited) => target = bytes,
            (NETWORK_TAG..=SENT_TAG, _) => is_usual = false,
            (TARGET_TAG, _) => is_usual &= !whisper,
            _ => {}
        }
        parts <= MAX_PARTS
    })?;
    if !is_usual {
        let wrong = if whisper {
            proto::WhisperBody::decode(body.clone())
                .map(drop)
                .map_err(|error| Malformed::new("WhisperBody", error))
        } else {
            proto::Body::decode(body.clone()).map(drop).map_err(|error| Malformed::new("Body", error))
        };
        // It has a field of another type than it should.
        return Err(wrong.err().unwrap_or_else(|| Malformed::new(what, "its fields are not of their types")));
    }
    let target = if whisper { Some(peer("WhisperBody", target)?) } else { None };
    if parts == 0 {
        return Err(Malformed::new(what, "it has no part"));
    }
    if seq == 0 {
        return Err(Malformed::new(what, "sequence numbers begin with 1"));
    }
    Ok(Said { id: MessageId { origin: peer(what, origin)?, epoch, seq }, sent: UnixMillis(sent), target })
}

/// So many bytes more than a message a packet may have that is kept for it: tags, lengths and counts.
const BESIDES: usize = 32;

/// What `packet` has in it: these two, which are parts of it.
pub(super) fn signed(
    what: &'static str,
    packet: &Bytes,
    body: &Bytes,
    signature_bytes: &Bytes,
    whisper: bool,
) -> Result<Signed, Malformed> {
    signature(what, signature_bytes)?;
    let Said { id, sent, target } = said(what, body, whisper)?;
    // A slice of the packet, which has hardly anything else in it.
    let at = |part: &[u8]| (part.as_ptr() as usize).wrapping_sub(packet.as_ptr() as usize);
    let (start, end) = (at(body), at(signature_bytes).wrapping_add(SIGNATURE));
    let is_usual = at(signature_bytes) == start.wrapping_add(body.len() + GAP);
    let bytes = match packet.get(start..end).filter(|_| is_usual) {
        Some(both) if both.len() + BESIDES >= packet.len() => packet.slice(start..end),
        _ => joined(body, &[], signature_bytes),
    };
    Ok(Signed { id, sent, bytes, target: target.map(Box::new) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What the generated code reads.
    fn generated(body: &Bytes, whisper: bool) -> Option<Said> {
        // A Body is a WhisperBody whose target is not looked at.
        let it = proto::WhisperBody::decode(body.clone());
        let parts = match (&it, whisper) {
            (Ok(it), true) => it.parts.len(),
            _ => proto::Body::decode(body.clone()).ok()?.parts.len(),
        };
        let (origin, epoch, seq, sent, target) = if whisper {
            let it = it.ok()?;
            (it.origin, it.epoch, it.seq, it.sent, Some(PeerId::try_from(it.target.as_ref()).ok()?))
        } else {
            let it = proto::Body::decode(body.clone()).ok()?;
            (it.origin, it.epoch, it.seq, it.sent, None)
        };
        let origin = PeerId::try_from(origin.as_ref()).ok()?;
        let is_whole = (1..=MAX_PARTS).contains(&parts) && seq > 0;
        is_whole.then_some(Said { id: MessageId { origin, epoch, seq }, sent: UnixMillis(sent), target })
    }

    fn field() -> impl Strategy<Value = Vec<u8>> {
        let number = any::<u64>().prop_map(|number| {
            let mut bytes = Vec::new();
            encode_varint(number, &mut bytes);
            bytes
        });
        let bytes = |bytes: Vec<u8>| {
            let mut all = Vec::new();
            encode_varint(bytes.len() as u64, &mut all);
            all.extend(bytes);
            all
        };
        let key = (1_u8..9, 0_u8..6);
        let value = prop_oneof![
            number,
            any::<[u8; 32]>().prop_map(move |key| bytes(key.to_vec())),
            prop::collection::vec(any::<u8>(), 0..150).prop_map(bytes),
        ];
        (key, value).prop_map(|((tag, wire), value)| {
            let is_right = if matches!(tag, 3..=5) { 0 } else { 2 };
            // One in six is of any type.
            let mut all = vec![tag << 3 | if wire == 5 { tag % 6 } else { is_right }];
            all.extend(value);
            all
        })
    }

    proptest! {
        #[test]
        fn a_body_is_read_as_the_generated_code_reads_it(
            more in prop::collection::vec(field(), 0..4),
            flip in (any::<bool>(), any::<prop::sample::Index>(), 0_u8..8),
            cut in (any::<bool>(), any::<prop::sample::Index>()),
            targeted in any::<bool>(),
            whisper in any::<bool>(),
        ) {
            let id = MessageId { origin: PeerId::from_bytes([7; 32]), epoch: 1 << 40, seq: 300 };
            let target = targeted.then(|| PeerId::from_bytes([8; 32]));
            let parts = vec![Bytes::from_static(&[9; 200]), Bytes::new()];
            let draft = Draft { network: "news", id, sent: UnixMillis(1 << 41), parts, target };
            let mut body = draft.to_proto().encode_to_vec();
            body.extend(more.into_iter().flatten());
            if cut.0 {
                body.truncate(cut.1.index(body.len()));
            }
            if flip.0 && !body.is_empty() {
                let at = flip.1.index(body.len());
                body[at] ^= 1 << flip.2;
            }
            let body = Bytes::from(body);
            prop_assert_eq!(said("Body", &body, whisper).ok(), generated(&body, whisper));
        }
    }
}
