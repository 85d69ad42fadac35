//! The only place where the generated messages become ours and back.

mod fields;
mod signed;

pub(crate) use signed::{Draft, cut, head_len, mend, network, parts, passed_len, sent};

use bytes::{Bytes, BytesMut};
use peerage_machine::{Malformed, Message, UnixMillis};
use peerage_reconcile::Message as Step;
use peerage_wire::proto::mesh::v1 as proto;
use peerage_wire::proto::mesh::v1::packet::Kind;
use peerage_wire::{Address, PeerId};
use prost::Message as _;

use self::fields::fields;
use self::signed::{Passed, signed};
use super::message::{MessageId, SIGNATURE, StreamKey};
use super::packet::{
    Contact, MAX_CONTACT_ADDRESSES, MAX_CONTACTS, MAX_HOPS, MAX_NAME, MAX_RUN_LEN, MAX_RUN_RANGES, MAX_RUNS,
    MAX_TTL, MAX_WHISPER_HOPS, Notice, Outcome, Packet, Run, Span, Words,
};
use super::ranges::Range;

impl Message for Packet {
    fn encoded_len(&self) -> usize {
        match self.form() {
            Form::Passed(passed) => passed.encoded_len(),
            Form::Ours(packet) => packet.encoded_len(),
        }
    }

    fn encode(&self, into: &mut BytesMut) {
        match self.form() {
            Form::Passed(passed) => passed.encode(into),
            Form::Ours(packet) => packet.encode_raw(into),
        }
    }

    fn to_bytes(&self) -> Bytes {
        // Made once, and not once more for its length.
        match self.form() {
            Form::Passed(passed) => {
                let mut bytes = Vec::with_capacity(passed.encoded_len());
                passed.encode(&mut bytes);
                bytes.into()
            }
            Form::Ours(packet) => packet.encode_to_vec().into(),
        }
    }

    fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        // Whoever reads from shared bytes shares them, though next to no small packet has any in it.
        let packet = match check_size(&bytes)? {
            Size::Small => proto::Packet::decode(bytes.as_ref()),
            Size::Large => proto::Packet::decode(bytes.clone()),
        };
        let packet = packet.map_err(|error| Malformed::new("mesh packet", error))?;
        let kind = packet.kind.ok_or_else(|| Malformed::new("mesh packet", "it is of no known kind"))?;
        words(kind, &bytes).map(Self)
    }
}

/// The longest packet that is neither Payload nor Whisper.
const MAX_SMALL: usize = 64 << 10;
const PAYLOAD_TAG: u32 = 8;
const WHISPER_TAG: u32 = 13;
/// Small packets have repeated fields that take many times their bytes when decoded, so their size is bounded first;
/// a Payload or Whisper holds two byte strings, which share the memory of the packet.
fn check_size(bytes: &Bytes) -> Result<Size, Malformed> {
    let (mut small, mut large) = (0, 0);
    fields("mesh packet", bytes, |field| {
        match field.tag {
            PAYLOAD_TAG | WHISPER_TAG => large += 1,
            _ => small += field.size,
        }
        large <= 1 && small <= MAX_SMALL
    })?;
    Ok(if large > 0 { Size::Large } else { Size::Small })
}

/// Whether a packet has byte strings in it that may be large.
enum Size {
    Small,
    Large,
}

/// What a packet of these bytes says.
fn words(kind: Kind, bytes: &Bytes) -> Result<Words, Malformed> {
    Ok(match kind {
        Kind::Join(it) => Words::Join { urgent: it.urgent },
        Kind::Neighbour(it) => Words::Neighbour { urgent: it.urgent },
        Kind::NeighbourReply(it) => {
            Words::NeighbourReply { accepted: it.accepted, others: contacts("NeighbourReply", it.others)? }
        }
        Kind::Disconnect(it) => {
            Words::Disconnect { leaving: it.leaving, others: contacts("Disconnect", it.others)? }
        }
        Kind::ForwardJoin(it) => {
            let joiner = it.joiner.ok_or_else(|| Malformed::new("ForwardJoin", "there is no joiner"))?;
            Words::ForwardJoin {
                joiner: contact("ForwardJoin", joiner)?,
                ttl: at_most("ForwardJoin", "ttl", it.ttl, MAX_TTL)?,
            }
        }
        Kind::Shuffle(it) => Words::Shuffle {
            nonce: it.nonce,
            ttl: at_most("Shuffle", "ttl", it.ttl, MAX_TTL)?,
            sample: contacts("Shuffle", it.sample)?,
        },
        Kind::ShuffleReply(it) => {
            Words::ShuffleReply { nonce: it.nonce, sample: contacts("ShuffleReply", it.sample)? }
        }
        Kind::Payload(it) => Words::Payload {
            hops: at_most("Payload", "hops", it.hops, MAX_HOPS)?,
            pulled: it.pulled,
            message: signed("Payload", bytes, &it.body, &it.signature, false)?,
        },
        Kind::Announce(it) => Words::Announce { notices: notices("Announce", it.runs)? },
        Kind::Want(it) => Words::Want { runs: runs("Want", it.runs)? },
        Kind::Prune(it) => Words::Prune { origin: peer("Prune", &it.origin)? },
        Kind::Summary(it) => Words::Summary { notices: notices("Summary", it.runs)?, ask: it.ask },
        Kind::Compare(it) => {
            Words::Compare { since: UnixMillis(it.since), until: UnixMillis(it.until), hash: it.hash }
        }
        Kind::Reconcile(it) => {
            let step = it.step.ok_or_else(|| Malformed::new("Reconcile", "there is no step"))?;
            let step = Step::try_from(step).map_err(|error| Malformed::new("Reconcile", error))?;
            let span = Span { since: UnixMillis(it.since), until: UnixMillis(it.until) };
            Words::Reconcile { session: it.session, span, step: Box::new(step) }
        }
        Kind::Spare(it) => Words::Spare { notices: notices("Spare", it.runs)? },
        Kind::Probe(it) => Words::Probe { answer: it.answer },
        Kind::Whisper(it) => Words::Whisper {
            hops: at_most("Whisper", "hops", it.hops, MAX_WHISPER_HOPS)?,
            message: signed("Whisper", bytes, &it.body, &it.signature, true)?,
        },
        Kind::WhisperResult(it) => {
            let outcome = match it.outcome() {
                proto::whisper_result::Outcome::Delivered => {
                    Outcome::Delivered(signature("WhisperResult", &it.signature)?)
                }
                proto::whisper_result::Outcome::NoRoute => Outcome::NoRoute,
                proto::whisper_result::Outcome::Busy => Outcome::Busy,
                proto::whisper_result::Outcome::Unspecified => {
                    return Err(Malformed::new(
                        "WhisperResult",
                        format!("outcome {} is unknown", it.outcome),
                    ));
                }
            };
            let id = MessageId { origin: peer("WhisperResult", &it.origin)?, epoch: it.epoch, seq: it.seq };
            Words::WhisperResult { id, outcome }
        }
    })
}

impl Packet {
    fn form(&self) -> Form<'_> {
        let kind = match &self.0 {
            Words::Join { urgent } => Kind::Join(proto::Join { urgent: *urgent }),
            Words::Neighbour { urgent } => Kind::Neighbour(proto::Neighbour { urgent: *urgent }),
            Words::NeighbourReply { accepted, others } => Kind::NeighbourReply(proto::NeighbourReply {
                accepted: *accepted,
                others: to_contacts(others),
            }),
            Words::Disconnect { leaving, others } => {
                Kind::Disconnect(proto::Disconnect { leaving: *leaving, others: to_contacts(others) })
            }
            Words::ForwardJoin { joiner, ttl } => {
                Kind::ForwardJoin(proto::ForwardJoin { joiner: Some(to_contact(joiner)), ttl: *ttl })
            }
            Words::Shuffle { nonce, ttl, sample } => {
                Kind::Shuffle(proto::Shuffle { nonce: *nonce, ttl: *ttl, sample: to_contacts(sample) })
            }
            Words::ShuffleReply { nonce, sample } => {
                Kind::ShuffleReply(proto::ShuffleReply { nonce: *nonce, sample: to_contacts(sample) })
            }
            Words::Payload { message, hops, pulled } => {
                return Form::Passed(Passed { tag: PAYLOAD_TAG, message, hops: *hops, pulled: *pulled });
            }
            Words::Announce { notices } => Kind::Announce(proto::Announce { runs: to_notices(notices) }),
            Words::Want { runs } => Kind::Want(proto::Want { runs: to_runs(runs) }),
            Words::Prune { origin } => Kind::Prune(proto::Prune { origin: to_peer(origin) }),
            Words::Summary { notices, ask } => {
                Kind::Summary(proto::Summary { runs: to_notices(notices), ask: *ask })
            }
            Words::Compare { since, until, hash } => {
                Kind::Compare(proto::Compare { since: since.0, until: until.0, hash: *hash })
            }
            Words::Reconcile { session, span, step } => Kind::Reconcile(proto::Reconcile {
                session: *session,
                since: span.since.0,
                until: span.until.0,
                step: Some(step.as_ref().clone().into()),
            }),
            Words::Spare { notices } => Kind::Spare(proto::Spare { runs: to_notices(notices) }),
            Words::Probe { answer } => Kind::Probe(proto::Probe { answer: *answer }),
            Words::Whisper { message, hops } => {
                return Form::Passed(Passed { tag: WHISPER_TAG, message, hops: *hops, pulled: false });
            }
            Words::WhisperResult { id, outcome } => {
                let (outcome, signature) = match outcome {
                    Outcome::Delivered(signature) => {
                        (proto::whisper_result::Outcome::Delivered, Bytes::copy_from_slice(signature))
                    }
                    Outcome::NoRoute => (proto::whisper_result::Outcome::NoRoute, Bytes::new()),
                    Outcome::Busy => (proto::whisper_result::Outcome::Busy, Bytes::new()),
                };
                Kind::WhisperResult(proto::WhisperResult {
                    origin: to_peer(&id.origin),
                    epoch: id.epoch,
                    seq: id.seq,
                    outcome: outcome.into(),
                    signature,
                })
            }
        };
        Form::Ours(proto::Packet { kind: Some(kind) })
    }
}

/// What a packet is encoded from.
enum Form<'a> {
    Passed(Passed<'a>),
    Ours(proto::Packet),
}

/// An address book, as it is stored.
pub(crate) fn encode_book(contacts: &[Contact]) -> Bytes {
    proto::Book { contacts: to_contacts(contacts) }.encode_to_vec().into()
}

/// The same back, at most so many; `None` when it is damaged.
pub(crate) fn decode_book(bytes: Bytes, most: usize) -> Option<Vec<Contact>> {
    let book = proto::Book::decode(bytes).ok()?;
    book.contacts.into_iter().take(most).map(|it| contact("Book", it).ok()).collect()
}

fn signature(what: &'static str, bytes: &Bytes) -> Result<[u8; SIGNATURE], Malformed> {
    bytes
        .as_ref()
        .try_into()
        .map_err(|_| Malformed::new(what, format!("a signature of {} bytes", bytes.len())))
}

fn at_most(what: &'static str, field: &str, value: u32, limit: u32) -> Result<u32, Malformed> {
    if value > limit {
        return Err(Malformed::new(what, format!("{field} is {value}, at most {limit} is allowed")));
    }
    Ok(value)
}

fn peer(what: &'static str, bytes: &[u8]) -> Result<PeerId, Malformed> {
    PeerId::try_from(bytes).map_err(|error| Malformed::new(what, error))
}

fn to_peer(peer: &PeerId) -> Bytes {
    Bytes::copy_from_slice(peer.as_bytes())
}

fn contacts(what: &'static str, contacts: Vec<proto::Contact>) -> Result<Vec<Contact>, Malformed> {
    if contacts.len() > MAX_CONTACTS {
        return Err(Malformed::new(
            what,
            format!("{} contacts, at most {MAX_CONTACTS} are allowed", contacts.len()),
        ));
    }
    contacts.into_iter().map(|one| contact(what, one)).collect()
}

fn contact(what: &'static str, contact: proto::Contact) -> Result<Contact, Malformed> {
    if contact.addresses.len() > MAX_CONTACT_ADDRESSES {
        return Err(Malformed::new(what, format!("a contact with {} addresses", contact.addresses.len())));
    }
    // Many are kept, most with one address.
    let mut addresses: Vec<Address> = Vec::with_capacity(contact.addresses.len());
    for text in &contact.addresses {
        addresses.push(text.parse().map_err(|error| Malformed::new(what, error))?);
    }
    Ok(Contact { peer: peer(what, &contact.peer)?, addresses })
}

fn to_contacts(contacts: &[Contact]) -> Vec<proto::Contact> {
    contacts.iter().map(to_contact).collect()
}

fn to_contact(contact: &Contact) -> proto::Contact {
    let addresses = contact.addresses.iter().take(MAX_CONTACT_ADDRESSES).map(ToString::to_string).collect();
    proto::Contact { peer: to_peer(&contact.peer), addresses }
}

fn count_runs(what: &'static str, runs: &[proto::Run]) -> Result<(), Malformed> {
    if runs.len() > MAX_RUNS {
        return Err(Malformed::new(what, format!("{} runs, at most {MAX_RUNS} are allowed", runs.len())));
    }
    Ok(())
}

fn runs(what: &'static str, runs: Vec<proto::Run>) -> Result<Vec<Run>, Malformed> {
    count_runs(what, &runs)?;
    runs.into_iter()
        .map(|run| {
            Ok(Run {
                stream: stream(what, &run)?,
                ranges: ranges(what, &run)?,
                hops: at_most(what, "hops", run.hops, MAX_HOPS)?,
                now: run.now,
            })
        })
        .collect()
}

fn notices(what: &'static str, runs: Vec<proto::Run>) -> Result<Vec<Notice>, Malformed> {
    count_runs(what, &runs)?;
    runs.into_iter()
        .map(|run| {
            let name = at_most(what, "a run's name", run.name, MAX_NAME.into())?;
            let named = name > 0 && run.origin.is_empty();
            Ok(Notice {
                // It fits: at most 127.
                name: name as u8,
                stream: if named { None } else { Some(stream(what, &run)?) },
                ranges: ranges(what, &run)?,
                hops: at_most(what, "hops", run.hops, MAX_HOPS)?,
                now: run.now,
            })
        })
        .collect()
}

fn stream(what: &'static str, run: &proto::Run) -> Result<StreamKey, Malformed> {
    Ok(StreamKey { origin: peer(what, &run.origin)?, epoch: run.epoch })
}

fn ranges(what: &'static str, run: &proto::Run) -> Result<Vec<Range>, Malformed> {
    let wrong = |why: &str| Malformed::new(what, why);
    if run.ranges.len() > 2 * MAX_RUN_RANGES || !run.ranges.len().is_multiple_of(2) {
        return Err(wrong("a run's ranges are at most 512 pairs"));
    }
    let mut ranges = Vec::with_capacity(run.ranges.len() / 2);
    let (mut next, mut total) = (Some(1_u64), 0_u64);
    for pair in run.ranges.chunks_exact(2) {
        let &[skip, more] = pair else { continue };
        if skip == 0 && !ranges.is_empty() {
            return Err(wrong("two ranges of a run touch"));
        }
        let first = next.and_then(|next| next.checked_add(skip));
        let last = first.and_then(|first| first.checked_add(more));
        let (Some(first), Some(last)) = (first, last) else {
            return Err(wrong("a run goes beyond 2^64"));
        };
        total = total.saturating_add(Range::new(first, last).len());
        if total > MAX_RUN_LEN {
            return Err(wrong("a run of more than 2^20 messages"));
        }
        ranges.push(Range::new(first, last));
        next = last.checked_add(1);
    }
    Ok(ranges)
}

fn to_runs(runs: &[Run]) -> Vec<proto::Run> {
    let all = runs.iter();
    all.map(|run| to_run(0, Some(run.stream), &run.ranges, run.hops, run.now)).collect()
}

fn to_notices(notices: &[Notice]) -> Vec<proto::Run> {
    let all = notices.iter();
    all.map(|it| to_run(it.name, it.stream, &it.ranges, it.hops, it.now)).collect()
}

fn to_run(name: u8, stream: Option<StreamKey>, ranges: &[Range], hops: u32, now: bool) -> proto::Run {
    let mut pairs = Vec::with_capacity(2 * ranges.len());
    let mut next = 1_u64;
    for range in ranges {
        pairs.push(range.first.wrapping_sub(next));
        pairs.push(range.last.wrapping_sub(range.first));
        next = range.last.wrapping_add(1);
    }
    proto::Run {
        origin: stream.map(|stream| to_peer(&stream.origin)).unwrap_or_default(),
        epoch: stream.map_or(0, |stream| stream.epoch),
        ranges: pairs,
        hops,
        now,
        name: name.into(),
    }
}
