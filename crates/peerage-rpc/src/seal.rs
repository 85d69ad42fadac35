//! Calls that the broker carries and cannot read: a Noise XX channel between two sessions.
//!
//! The handshake's messages travel as sealed calls to the node, the second as the reply to the first. Its prologue names the
//! network, the caller's key and session, and the node's key, so that a channel fits nobody else's session; each end proves
//! its key to the other, whatever the broker says of them. What is sealed then has a number in its lane, and what both
//! ends know of it (which call it belongs to, in which part, and where in its stream) is checked with it: a broker cannot answer one call
//! with the reply to another, say anything twice or in another order, nor leave out a part of a stream. It can leave out calls.
//!
//! Pure: entropy is given, nothing waits.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use peerage_identity::{Handshake, Identity, Lane, LaneOpener, LaneSealer};
use peerage_wire::proto::rpc::v1 as proto;
use peerage_wire::{PeerId, Suite};
use prost::Message as _;

use crate::convert::{answer_from_bytes, answer_to_bytes};
use crate::packet::{SessionId, Shape};
use crate::status::Status;

const PROLOGUE: &[u8] = b"peerage rpc seal 1";

const FIRST: u32 = 1;
const SECOND: u32 = 2;
const THIRD: u32 = 3;
const BODY: u32 = 4;

/// What a sealed message belongs to, beside its call's tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Part {
    Call = 1,
    Reply = 2,
    ToCallee = 3,
    ToCaller = 4,
    EndToCallee = 5,
    EndToCaller = 6,
}

/// Why a channel cannot be made, or something sealed cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sealed channel is broken: {0}")]
pub(crate) struct SealError(String);

impl SealError {
    pub(crate) fn new(why: &str) -> Self {
        broken(why)
    }
}

fn broken(why: impl ToString) -> SealError {
    SealError(why.to_string())
}

/// Who has a channel with whom.
#[derive(Clone, Debug)]
pub(crate) struct Ends<'a> {
    pub(crate) network: &'a str,
    pub(crate) caller: PeerId,
    pub(crate) session: SessionId,
    pub(crate) node: PeerId,
}

impl Ends<'_> {
    fn prologue(&self) -> BytesMut {
        let mut prologue = BytesMut::from(PROLOGUE);
        prologue.put_u8(u8::try_from(self.network.len()).unwrap_or(u8::MAX));
        prologue.put_slice(self.network.as_bytes());
        prologue.put_slice(self.caller.as_bytes());
        prologue.put_slice(&self.session.0);
        prologue.put_slice(self.node.as_bytes());
        prologue
    }
}

/// The caller's end of a handshake that is under way.
#[derive(Debug)]
pub(crate) struct Caller {
    handshake: Handshake,
    node: PeerId,
    certificate: [u8; 64],
}

impl Caller {
    /// Begins; gives the parameters of the first call.
    pub(crate) fn begin(
        identity: &Identity,
        suite: Suite,
        ends: &Ends<'_>,
        entropy: [u8; 32],
    ) -> Result<(Self, Bytes), SealError> {
        let mut handshake =
            Handshake::initiator(identity, suite, &ends.prologue(), entropy).map_err(broken)?;
        let mut first = Vec::new();
        handshake.write(b"", &mut first).map_err(broken)?;
        let envelope = proto::Sealed { step: FIRST, suite: suite.id().into(), number: 0, data: first.into() };
        let certificate = *identity.noise_certificate();
        Ok((Self { handshake, node: ends.node, certificate }, envelope.encode_to_vec().into()))
    }

    /// The node has answered; gives the channel, and the parameters of the second call.
    pub(crate) fn go_on(mut self, reply: Bytes) -> Result<(Channel, Bytes), SealError> {
        let message = step(reply, SECOND)?;
        let hello = self.handshake.read(&message).map_err(broken)?;
        self.handshake.check_certificate(&self.node, &certificate(&hello)?).map_err(broken)?;
        let mut third = Vec::new();
        self.handshake.write(&hello_of(&self.certificate), &mut third).map_err(broken)?;
        let envelope = proto::Sealed { step: THIRD, suite: 0, number: 0, data: third.into() };
        Ok((Channel::new(self.handshake)?, envelope.encode_to_vec().into()))
    }
}

/// The node's end of a handshake that is under way.
#[derive(Debug)]
pub(crate) struct Callee {
    handshake: Handshake,
    caller: PeerId,
}

impl Callee {
    /// A caller begins; gives the reply.
    pub(crate) fn begin(
        identity: &Identity,
        ends: &Ends<'_>,
        first: &Sealed,
        entropy: [u8; 32],
    ) -> Result<(Self, Bytes), SealError> {
        let Sealed::First { suite, message } = first else { return Err(broken("no handshake begins so")) };
        let mut handshake =
            Handshake::responder(identity, *suite, &ends.prologue(), entropy).map_err(broken)?;
        handshake.read(message).map_err(broken)?;
        let mut second = Vec::new();
        handshake.write(&hello_of(identity.noise_certificate()), &mut second).map_err(broken)?;
        let envelope = proto::Sealed { step: SECOND, suite: 0, number: 0, data: second.into() };
        Ok((Self { handshake, caller: ends.caller }, envelope.encode_to_vec().into()))
    }

    /// The caller goes on: gives the channel.
    pub(crate) fn finish(mut self, third: &Sealed) -> Result<Channel, SealError> {
        let Sealed::Third(message) = third else { return Err(broken("no handshake goes on so")) };
        let hello = self.handshake.read(message).map_err(broken)?;
        self.handshake.check_certificate(&self.caller, &certificate(&hello)?).map_err(broken)?;
        Channel::new(self.handshake)
    }
}

fn hello_of(certificate: &[u8; 64]) -> Vec<u8> {
    proto::SealedHello { certificate: Bytes::copy_from_slice(certificate) }.encode_to_vec()
}

fn certificate(hello: &[u8]) -> Result<[u8; 64], SealError> {
    let hello = proto::SealedHello::decode(hello).map_err(broken)?;
    hello.certificate.as_ref().try_into().map_err(|_| broken("a certificate has 64 bytes"))
}

fn step(bytes: Bytes, step: u32) -> Result<Bytes, SealError> {
    let envelope = proto::Sealed::decode(bytes).map_err(broken)?;
    if envelope.step != step {
        return Err(broken(format!("step {} of a handshake in place of {step}", envelope.step)));
    }
    Ok(envelope.data)
}

/// The parameters of a sealed call, as a node finds them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sealed {
    First { suite: Suite, message: Bytes },
    Third(Bytes),
    Body { number: u64, data: Bytes },
}

impl Sealed {
    pub(crate) fn read(payload: Bytes) -> Result<Self, SealError> {
        let envelope = proto::Sealed::decode(payload).map_err(broken)?;
        match envelope.step {
            FIRST => {
                let number = u8::try_from(envelope.suite).map_err(broken)?;
                let suite = Suite::from_id(number).ok_or_else(|| broken("a suite that nobody knows"))?;
                Ok(Self::First { suite, message: envelope.data })
            }
            THIRD => Ok(Self::Third(envelope.data)),
            BODY => Ok(Self::Body { number: envelope.number, data: envelope.data }),
            step => Err(broken(format!("step {step} is none"))),
        }
    }
}

/// A channel; its halves are used apart.
#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) out: Sealing,
    pub(crate) into: Opening,
}

impl Channel {
    fn new(handshake: Handshake) -> Result<Self, SealError> {
        let (sealer, opener) = handshake.finish_in_lanes().map_err(broken)?;
        Ok(Self { out: Sealing(sealer), into: Opening(opener) })
    }
}

/// What both ends know of something sealed: its part, the call's tag, and its place in its flow.
fn known(part: Part, tag: u64, place: u64) -> [u8; 17] {
    let mut known = [part as u8; 17];
    let (_, rest) = known.split_at_mut(1);
    let numbers = tag.to_be_bytes().into_iter().chain(place.to_be_bytes());
    rest.iter_mut().zip(numbers).for_each(|(to, from)| *to = from);
    known
}

/// One direction of a stream of a call, or of bulk data.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flow {
    pub(crate) tag: u64,
    pub(crate) to_caller: bool,
    pub(crate) is_bulk: bool,
}

impl Flow {
    const fn lane(self) -> Lane {
        if self.is_bulk { Lane::Bulk } else { Lane::Interactive }
    }

    fn known(self, place: u64) -> [u8; 17] {
        known(if self.to_caller { Part::ToCaller } else { Part::ToCallee }, self.tag, place)
    }

    fn known_at_end(self, place: u64) -> [u8; 17] {
        known(if self.to_caller { Part::EndToCaller } else { Part::EndToCallee }, self.tag, place)
    }
}

/// What of a call's shape both ends have to agree on.
fn place_of(shape: Shape) -> u64 {
    (shape.bits() & !(Shape::IDEMPOTENT.bits() | Shape::SEALED.bits())).into()
}

/// What goes out. Calls must leave in the order in which they were sealed.
#[derive(Debug)]
pub(crate) struct Sealing(LaneSealer);

impl Sealing {
    fn envelope(&mut self, lane: Lane, known: &[u8], plaintext: &[u8]) -> Result<Bytes, SealError> {
        let mut data = BytesMut::with_capacity(plaintext.len() + 16);
        data.extend_from_slice(plaintext);
        let number = self.0.seal(lane, known, &mut data, 0).map_err(broken)?;
        let envelope = proto::Sealed { step: BODY, suite: 0, number, data: data.freeze() };
        Ok(envelope.encode_to_vec().into())
    }

    /// The parameters of a call, which is `tag` from now on.
    pub(crate) fn call(
        &mut self,
        command: Bytes,
        payload: Bytes,
        tag: u64,
        shape: Shape,
    ) -> Result<Bytes, SealError> {
        let call = proto::SealedCall { command, payload, tag }.encode_to_vec();
        self.envelope(Lane::Interactive, &known(Part::Call, 0, place_of(shape)), &call)
    }

    /// The payload of a reply, or the status of a one-way call that was not run.
    pub(crate) fn reply(
        &mut self,
        tag: u64,
        result: &Result<Bytes, Box<Status>>,
    ) -> Result<Bytes, SealError> {
        self.envelope(Lane::Interactive, &known(Part::Reply, tag, 0), &answer_to_bytes(result))
    }

    /// The message of that place in its stream, or a piece of bulk data; the first has place 0.
    pub(crate) fn message(&mut self, flow: Flow, place: u64, message: &[u8]) -> Result<Bytes, SealError> {
        let mut sealed = BytesMut::with_capacity(8 + message.len() + 16);
        sealed.put_u64(0);
        sealed.extend_from_slice(message);
        let number = self.0.seal(flow.lane(), &flow.known(place), &mut sealed, 8).map_err(broken)?;
        if let Some(place) = sealed.first_chunk_mut::<8>() {
            *place = number.to_be_bytes();
        }
        Ok(sealed.freeze())
    }

    /// The end of a stream that had so many messages.
    pub(crate) fn end(
        &mut self,
        flow: Flow,
        count: u64,
        end: &Result<Bytes, Box<Status>>,
    ) -> Result<Bytes, SealError> {
        self.envelope(flow.lane(), &flow.known_at_end(count), &answer_to_bytes(end))
    }
}

/// What comes in.
#[derive(Debug)]
pub(crate) struct Opening(LaneOpener);

/// A call that was sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Opened {
    pub(crate) command: Bytes,
    pub(crate) payload: Bytes,
    pub(crate) tag: u64,
}

impl Opening {
    fn open(&self, lane: Lane, number: u64, known: &[u8], data: Bytes) -> Result<Bytes, SealError> {
        let mut data = BytesMut::from(data);
        let length = self.0.open_any(lane, number, known, &mut data).map_err(broken)?;
        data.truncate(length);
        Ok(data.freeze())
    }

    /// A call. The order of calls, by their numbers, is held by who calls this.
    pub(crate) fn call(&self, number: u64, data: Bytes, shape: Shape) -> Result<Opened, SealError> {
        let plaintext = self.open(Lane::Interactive, number, &known(Part::Call, 0, place_of(shape)), data)?;
        let proto::SealedCall { command, payload, tag } =
            proto::SealedCall::decode(plaintext).map_err(broken)?;
        if std::str::from_utf8(&command).is_err() || command.len() > crate::MAX_COMMAND {
            return Err(broken("a command's name is none"));
        }
        Ok(Opened { command, payload, tag })
    }

    fn answer(
        &self,
        lane: Lane,
        known: &[u8],
        payload: Bytes,
    ) -> Result<Result<Bytes, Box<Status>>, SealError> {
        let Sealed::Body { number, data } = Sealed::read(payload)? else {
            return Err(broken("a handshake in place of an answer"));
        };
        let plaintext = self.open(lane, number, known, data)?;
        answer_from_bytes(plaintext).ok_or_else(|| broken("an answer is none"))
    }

    /// The reply to the call of that tag.
    pub(crate) fn reply(&self, tag: u64, payload: Bytes) -> Result<Result<Bytes, Box<Status>>, SealError> {
        self.answer(Lane::Interactive, &known(Part::Reply, tag, 0), payload)
    }

    /// The message of that place in its stream, or a piece of bulk data.
    pub(crate) fn message(&self, flow: Flow, place: u64, mut message: Bytes) -> Result<Bytes, SealError> {
        let number = message.try_get_u64().map_err(broken)?;
        self.open(flow.lane(), number, &flow.known(place), message)
    }

    /// The end of a stream, of which so many messages have come.
    pub(crate) fn end(
        &self,
        flow: Flow,
        count: u64,
        end: Bytes,
    ) -> Result<Result<Bytes, Box<Status>>, SealError> {
        self.answer(flow.lane(), &flow.known_at_end(count), end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends() -> (Identity, Identity, Ends<'static>) {
        let (caller, node) = (Identity::from_seed([1; 32]), Identity::from_seed([2; 32]));
        let ends = Ends {
            network: "notes",
            caller: caller.peer_id(),
            session: SessionId([7; 16]),
            node: node.peer_id(),
        };
        (caller, node, ends)
    }

    fn channel() -> (Channel, Channel) {
        let (caller, node, ends) = ends();
        let (begun, first) = Caller::begin(&caller, Suite::AesGcm, &ends, [3; 32]).unwrap();
        let first = Sealed::read(first).unwrap();
        let (answering, second) = Callee::begin(&node, &ends, &first, [4; 32]).unwrap();
        let (ours, third) = begun.go_on(second).unwrap();
        (ours, answering.finish(&Sealed::read(third).unwrap()).unwrap())
    }

    #[test]
    fn a_call_and_its_reply_go_through_and_nothing_of_them_is_in_clear() {
        let (mut caller, mut node) = channel();
        let as_request = Shape::REQUEST.and(Shape::SEALED);
        let (command, secret) = (Bytes::from_static(b"divide"), Bytes::from_static(b"a secret parameter"));
        let payload = caller.out.call(command.clone(), secret.clone(), 9, Shape::REQUEST).unwrap();
        for text in [&command, &secret] {
            assert!(!payload.windows(text.len()).any(|window| window == text.as_ref()));
        }
        let Sealed::Body { number, data } = Sealed::read(payload).unwrap() else { panic!("it is no call") };
        let opened = node.into.call(number, data.clone(), as_request).unwrap();
        assert_eq!(opened, Opened { command, payload: secret, tag: 9 });
        assert!(node.into.call(number, data, Shape::ONE_WAY).is_err(), "the broker changes what flows");
        let status: Result<Bytes, Box<Status>> = Err(Box::new(Status::invalid_argument("by zero")));
        let reply = node.out.reply(9, &status).unwrap();
        assert!(caller.into.reply(8, reply.clone()).is_err(), "it is the reply to another call");
        assert_eq!(caller.into.reply(9, reply), Ok(status));
    }

    #[test]
    fn streams_go_both_ways_and_bulk_data_falls_behind() {
        let (mut caller, mut node) = channel();
        let up = Flow { tag: 1, to_caller: false, is_bulk: false };
        let (bulk, down) = (Flow { is_bulk: true, ..up }, Flow { to_caller: true, ..up });
        let piece = caller.out.message(bulk, 0, b"piece").unwrap();
        let message = caller.out.message(up, 0, b"up").unwrap();
        let answer = node.out.message(down, 0, b"down").unwrap();
        assert_eq!(node.into.message(up, 0, message.clone()).unwrap(), "up");
        assert_eq!(node.into.message(bulk, 0, piece.clone()).unwrap(), "piece");
        assert!(node.into.message(up, 1, message.clone()).is_err(), "it is said twice");
        assert!(node.into.message(Flow { tag: 2, ..up }, 0, message).is_err(), "it is another call's");
        assert!(node.into.message(up, 0, piece).is_err(), "it is bulk data");
        assert!(caller.into.message(up, 0, answer.clone()).is_err(), "it goes the other way");
        assert_eq!(caller.into.message(down, 0, answer).unwrap(), "down");
        let end = node.out.end(down, 2, &Ok(Bytes::new())).unwrap();
        assert!(caller.into.end(down, 1, end.clone()).is_err(), "one was left out");
        assert_eq!(caller.into.end(down, 2, end).unwrap(), Ok(Bytes::new()));
    }

    #[test]
    fn nobody_else_can_take_the_node_s_place_nor_the_caller_s_session() {
        let (caller, node, ends) = ends();
        let broker = Identity::from_seed([5; 32]);
        let begin = || {
            let (begun, first) = Caller::begin(&caller, Suite::ChaChaPoly, &ends, [3; 32]).unwrap();
            (begun, Sealed::read(first).unwrap())
        };
        // The broker answers itself.
        let (begun, first) = begin();
        let (_, second) = Callee::begin(&broker, &ends, &first, [4; 32]).unwrap();
        assert!(begun.go_on(second).is_err());
        // It says that the caller is somebody else, or has another session.
        for other in [
            Ends { session: SessionId([8; 16]), ..ends.clone() },
            Ends { caller: broker.peer_id(), ..ends.clone() },
        ] {
            let (begun, first) = begin();
            let (_, second) = Callee::begin(&node, &other, &first, [4; 32]).unwrap();
            assert!(begun.go_on(second).is_err());
        }
        // It poses as the caller.
        let (begun, first) = Caller::begin(&broker, Suite::AesGcm, &ends, [3; 32]).unwrap();
        let (answering, second) =
            Callee::begin(&node, &ends, &Sealed::read(first).unwrap(), [4; 32]).unwrap();
        let (_, third) = begun.go_on(second).unwrap();
        assert!(answering.finish(&Sealed::read(third).unwrap()).is_err());
    }
}
