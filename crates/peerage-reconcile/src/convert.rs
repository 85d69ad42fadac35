//! Messages as protobuf, and back.

use bytes::{Bytes, BytesMut};
use peerage_wire::proto::reconcile::v1 as proto;
use peerage_wire::proto::reconcile::v1::answer::End as ProtoEnd;
use peerage_wire::proto::reconcile::v1::reconcile::Kind;
use prost::Message as _;

use crate::error::MessageError;
use crate::message::{Answer, Batch, End, Message, Open};
use crate::short::{Fingerprint, Salt, ShortId};

impl Message {
    /// How many bytes [`encode`](Self::encode) writes.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        proto::Reconcile::from(self.clone()).encoded_len()
    }

    /// The message as protobuf, for whoever carries it as bytes.
    pub fn encode(&self, into: &mut BytesMut) {
        let message = proto::Reconcile::from(self.clone());
        into.reserve(message.encoded_len());
        // There is room, and that is all that may lack.
        let _ = message.encode(into);
    }

    /// Reads a message. The bytes' length is the caller's to limit: what is read takes at most eight times as many.
    ///
    /// # Errors
    ///
    /// [`MessageError`] for bytes that are no message.
    pub fn decode(bytes: Bytes) -> Result<Self, MessageError> {
        proto::Reconcile::decode(bytes)
            .map_err(|error| MessageError::Protobuf { detail: error.to_string() })?
            .try_into()
    }
}

impl From<Message> for proto::Reconcile {
    fn from(message: Message) -> Self {
        let kind = match message {
            Message::Open(open) => Kind::Open(proto::Open {
                salt: Bytes::copy_from_slice(open.salt.as_bytes()),
                count: open.count,
                fingerprint: from_fingerprint(open.fingerprint),
                max_symbols: open.max_symbols,
                symbols: Some(from_batch(open.symbols)),
            }),
            Message::More { until } => Kind::More(proto::More { until }),
            Message::Symbols { from, symbols } => {
                Kind::Symbols(proto::Symbols { from, symbols: Some(from_batch(symbols)) })
            }
            Message::AskList => Kind::AskList(proto::AskList {}),
            Message::List { ids, through } => {
                Kind::List(proto::List { ids: from_ids(ids), through: through.0 })
            }
            Message::Answer(Answer { want, have, end }) => {
                let (end, common) = match end {
                    End::Continues => (ProtoEnd::Continues, Bytes::new()),
                    End::Next => (ProtoEnd::Next, Bytes::new()),
                    End::Complete(common) => (ProtoEnd::Complete, from_fingerprint(common)),
                    End::Partial => (ProtoEnd::Partial, Bytes::new()),
                };
                Kind::Answer(proto::Answer {
                    want: from_ids(want),
                    have: from_ids(have),
                    end: end.into(),
                    common,
                })
            }
            Message::Stop => Kind::Stop(proto::Stop {}),
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<proto::Reconcile> for Message {
    type Error = MessageError;

    fn try_from(message: proto::Reconcile) -> Result<Self, MessageError> {
        Ok(match message.kind.ok_or(MessageError::Kind)? {
            Kind::Open(open) => Self::Open(Open {
                salt: Salt::new(sixteen("salt", &open.salt)?),
                count: open.count,
                fingerprint: fingerprint("fingerprint", &open.fingerprint)?,
                max_symbols: open.max_symbols,
                symbols: batch(open.symbols)?,
            }),
            Kind::More(more) => Self::More { until: more.until },
            Kind::Symbols(symbols) => Self::Symbols { from: symbols.from, symbols: batch(symbols.symbols)? },
            Kind::AskList(_) => Self::AskList,
            Kind::List(list) => Self::List { ids: ids(list.ids), through: ShortId(list.through) },
            Kind::Answer(answer) => {
                let end = match ProtoEnd::try_from(answer.end) {
                    Ok(ProtoEnd::Continues) => End::Continues,
                    Ok(ProtoEnd::Next) => End::Next,
                    Ok(ProtoEnd::Complete) => End::Complete(fingerprint("common", &answer.common)?),
                    Ok(ProtoEnd::Partial) => End::Partial,
                    Ok(ProtoEnd::Unspecified) | Err(_) => return Err(MessageError::End { end: answer.end }),
                };
                Self::Answer(Answer { want: ids(answer.want), have: ids(answer.have), end })
            }
            Kind::Stop(_) => Self::Stop,
        })
    }
}

fn from_batch(batch: Batch) -> proto::Batch {
    proto::Batch { sums: batch.sums, checks: batch.checks, counts: batch.excesses }
}

fn batch(batch: Option<proto::Batch>) -> Result<Batch, MessageError> {
    let proto::Batch { sums, checks, counts } = batch.unwrap_or_default();
    if sums.len() != checks.len() || sums.len() != counts.len() {
        return Err(MessageError::Ragged { sums: sums.len(), checks: checks.len(), counts: counts.len() });
    }
    Ok(Batch { sums, checks, excesses: counts })
}

fn from_ids(ids: Vec<ShortId>) -> Vec<u64> {
    ids.into_iter().map(|id| id.0).collect()
}

fn ids(ids: Vec<u64>) -> Vec<ShortId> {
    ids.into_iter().map(ShortId).collect()
}

fn from_fingerprint(fingerprint: Fingerprint) -> Bytes {
    Bytes::copy_from_slice(&fingerprint.0.to_le_bytes())
}

fn fingerprint(field: &'static str, bytes: &[u8]) -> Result<Fingerprint, MessageError> {
    sixteen(field, bytes).map(|bytes| Fingerprint(u128::from_le_bytes(bytes)))
}

fn sixteen(field: &'static str, bytes: &[u8]) -> Result<[u8; 16], MessageError> {
    bytes.try_into().map_err(|_| MessageError::Length { field, len: bytes.len(), expected: 16 })
}
