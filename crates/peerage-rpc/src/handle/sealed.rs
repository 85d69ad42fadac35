//! One sealed call, at either end: what it says goes through its channel.
//!
//! Lock order: a stream's count, then the channel's sealing half, then the machine. The sink, which runs with the machine locked, only opens.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::inbox::lock;
use super::line::Line;
use crate::event::{Answer, SendError, StreamKey};
use crate::packet::Shape;
use crate::seal::{Channel, Flow, Opened, Opening, SealError, Sealing};
use crate::status::{MAX_DETAIL_BYTES, Status};

/// What sealing may add to a reply: a reply that is to be sealed has to be so much shorter than the limit.
pub(super) const OVERHEAD: u64 = 64;
/// What sealing adds to a message of a stream: its number, and a tag.
pub(super) const MESSAGE_OVERHEAD: u64 = 24;
/// The detail of a status that has, sealed, what the status really is.
const DETAIL: &str = "sealed";
/// Messages are sealed so many at a time, before it is known how many of them go.
const AT_ONCE: usize = 64;

/// A channel between a caller and a node, at either end.
#[derive(Debug)]
pub(super) struct Secret {
    out: Mutex<Outgoing>,
    into: Opening,
    /// The least numbers that calls without and with streams may have: a broker with a journal lets the latter pass the former.
    next: Mutex<[u64; 2]>,
    /// It is not used for new calls.
    is_over: AtomicBool,
}

#[derive(Debug)]
struct Outgoing {
    sealing: Sealing,
    next_tag: u64,
}

/// Why a call is not run.
#[derive(Debug)]
pub(super) enum Unopened {
    /// It has come before, or one after it has.
    Late,
    /// It is not what was sealed.
    Broken(SealError),
}

impl Secret {
    pub(super) fn new(channel: Channel) -> Arc<Self> {
        let Channel { out: sealing, into } = channel;
        Arc::new(Self {
            out: Mutex::new(Outgoing { sealing, next_tag: 0 }),
            into,
            next: Mutex::default(),
            is_over: AtomicBool::new(false),
        })
    }

    pub(super) fn is_usable(&self) -> bool {
        !self.is_over.load(Ordering::Acquire)
    }

    /// Makes new calls find another one. What is under way in it goes on.
    pub(super) fn abandon(&self) {
        self.is_over.store(true, Ordering::Release);
    }

    /// Seals a call and hands it on before any other call is sealed.
    pub(super) fn call<R>(
        self: &Arc<Self>,
        command: Bytes,
        payload: Bytes,
        shape: Shape,
        hand_on: impl FnOnce(Bytes, &Arc<SealedCall>) -> R,
    ) -> Result<R, Status> {
        let mut out = lock(&self.out);
        let tag = out.next_tag;
        let sealed = out.sealing.call(command, payload, tag, shape).map_err(|error| {
            self.abandon();
            Status::aborted(error.to_string())
        })?;
        out.next_tag += 1;
        Ok(hand_on(sealed, &SealedCall::new(self, tag, true)))
    }

    /// Opens a call that has come.
    pub(super) fn open(
        self: &Arc<Self>,
        number: u64,
        data: Bytes,
        shape: Shape,
    ) -> Result<(Opened, Arc<SealedCall>), Unopened> {
        let mut next = lock(&self.next);
        let [plain, with_streams] = &mut *next;
        let next = if shape.has_streams() { with_streams } else { plain };
        if number < *next {
            return Err(Unopened::Late);
        }
        let opened = self.into.call(number, data, shape).map_err(Unopened::Broken)?;
        *next = number + 1;
        let call = SealedCall::new(self, opened.tag, false);
        Ok((opened, call))
    }
}

/// What has gone out of one stream.
#[derive(Debug, Default)]
struct Sent {
    count: u64,
    is_ended: bool,
}

/// A call in a channel, at its caller or at the node.
#[derive(Debug)]
pub(super) struct SealedCall {
    secret: Arc<Secret>,
    tag: u64,
    is_caller: bool,
    data: Mutex<Sent>,
    bulk: Mutex<Sent>,
    is_unknown: AtomicBool,
}

impl SealedCall {
    fn new(secret: &Arc<Secret>, tag: u64, is_caller: bool) -> Arc<Self> {
        Arc::new(Self {
            secret: Arc::clone(secret),
            tag,
            is_caller,
            data: Mutex::default(),
            bulk: Mutex::default(),
            is_unknown: AtomicBool::new(false),
        })
    }

    fn broken(&self, error: &SealError) -> Status {
        self.secret.abandon();
        Status::data_loss(error.to_string()).may_have_run()
    }

    fn flow_out(&self, stream: StreamKey) -> (Flow, &Mutex<Sent>) {
        let flow = Flow { tag: self.tag, to_caller: !self.is_caller, is_bulk: stream.is_bulk };
        (flow, if stream.is_bulk { &self.bulk } else { &self.data })
    }

    fn flow_in(&self, stream: StreamKey) -> Flow {
        Flow { tag: self.tag, to_caller: self.is_caller, is_bulk: stream.is_bulk }
    }

    // --- the answer ---

    /// Whether the node had no such channel, and so did not run the call.
    pub(super) fn is_unknown(&self) -> bool {
        self.is_unknown.load(Ordering::Acquire)
    }

    /// What the answer really is. A status in clear is the broker's word, or the node's machine's.
    pub(super) fn open_answer(&self, answer: Answer) -> Answer {
        match answer {
            Ok(payload) => match self.secret.into.reply(self.tag, payload) {
                Ok(result) => result.map_err(|status| *status),
                Err(error) => Err(self.broken(&error)),
            },
            Err(status) => Err(self.open_status(status)),
        }
    }

    /// What the status of a one-way call that was not run really is.
    pub(super) fn open_status(&self, status: Status) -> Status {
        if let Some(sealed) = sealed_in(&status) {
            return match self.secret.into.reply(self.tag, sealed) {
                Ok(Err(status)) => *status,
                Ok(Ok(_)) => self.broken(&SealError::new("a status is none")),
                Err(error) => self.broken(&error),
            };
        }
        if status.code == crate::Code::FailedPrecondition && !status.may_have_run {
            self.secret.abandon();
            self.is_unknown.store(true, Ordering::Release);
        }
        status
    }

    /// The payload of the reply.
    pub(super) fn seal_answer(&self, result: Result<Bytes, Status>) -> Result<Bytes, Status> {
        let sealed = lock(&self.secret.out).sealing.reply(self.tag, &result.map_err(Box::new));
        sealed.map_err(|error| self.broken(&error))
    }

    /// What is said of a one-way call.
    pub(super) fn seal_outcome(&self, result: Result<Bytes, Status>) -> Result<Bytes, Status> {
        let status = result.err().map(|status| self.seal_answer(Err(status)));
        match status {
            None => Ok(Bytes::new()),
            Some(Ok(sealed)) => Err(carrying(sealed)),
            Some(Err(status)) => Err(status),
        }
    }

    // --- streams ---

    pub(super) fn send(&self, line: &dyn Line, stream: StreamKey, message: &[u8]) -> Result<(), SendError> {
        let (flow, sent) = self.flow_out(stream);
        let mut sent = lock(sent);
        if sent.is_ended {
            return Err(SendError::Closed);
        }
        let sealed = lock(&self.secret.out).sealing.message(flow, sent.count, message);
        line.send(stream, sealed.map_err(|_| SendError::Closed)?)?;
        sent.count += 1;
        Ok(())
    }

    /// As [`Line::send_all`].
    pub(super) fn send_all(
        &self,
        line: &dyn Line,
        stream: StreamKey,
        messages: &[Bytes],
    ) -> (usize, Result<(), SendError>) {
        let (flow, sent) = self.flow_out(stream);
        let mut sent = lock(sent);
        if sent.is_ended {
            return (0, Err(SendError::Closed));
        }
        let mut gone = 0;
        for chunk in messages.chunks(AT_ONCE) {
            let sealed: Result<Vec<_>, _> = {
                let mut out = lock(&self.secret.out);
                let places = sent.count..;
                places.zip(chunk).map(|(place, message)| out.sealing.message(flow, place, message)).collect()
            };
            let Ok(sealed) = sealed else { return (gone, Err(SendError::Closed)) };
            let (went, result) = line.send_all(stream, &sealed);
            gone += went;
            sent.count += went as u64;
            if result.is_err() {
                return (gone, result);
            }
        }
        (gone, Ok(()))
    }

    /// Ends a stream that goes out from here, once.
    pub(super) fn finish(&self, line: &dyn Line, stream: StreamKey, status: Option<Status>) {
        let (flow, sent) = self.flow_out(stream);
        let mut sent = lock(sent);
        if std::mem::replace(&mut sent.is_ended, true) {
            return;
        }
        let end = within(MAX_DETAIL_BYTES as u64 - OVERHEAD, status.map_or(Ok(Bytes::new()), Err));
        let end = end.map_err(Box::new);
        let sealed = lock(&self.secret.out).sealing.end(flow, sent.count, &end);
        let status = sealed.map_or_else(|error| self.broken(&error), carrying);
        line.finish(stream, Some(status));
    }

    pub(super) fn open_message(
        &self,
        stream: StreamKey,
        place: u64,
        message: Bytes,
    ) -> Result<Bytes, Status> {
        let opened = self.secret.into.message(self.flow_in(stream), place, message);
        opened.map_err(|error| self.broken(&error))
    }

    /// How a stream really ends, of which so many messages have come. That it is complete is only true when it is sealed.
    pub(super) fn open_end(
        &self,
        stream: StreamKey,
        count: u64,
        end: Result<(), Status>,
    ) -> Result<(), Status> {
        let lost = || Status::data_loss("a sealed stream was ended by somebody on the way").may_have_run();
        let status = end.map_or_else(Ok, |()| Err(lost()))?;
        let Some(sealed) = sealed_in(&status) else { return Err(status) };
        match self.secret.into.end(self.flow_in(stream), count, sealed) {
            Ok(end) => end.map(drop).map_err(|status| *status),
            Err(error) => Err(self.broken(&error)),
        }
    }
}

/// A status that says to those on the way only that there is one.
fn carrying(sealed: Bytes) -> Status {
    Status::aborted("what it is about is sealed").with_detail(DETAIL, sealed)
}

fn sealed_in(status: &Status) -> Option<Bytes> {
    match status.details.as_slice() {
        [(kind, sealed)] if kind == DETAIL => Some(sealed.clone()),
        _ => None,
    }
}

/// What of a result can be sealed in so many bytes: details go first.
pub(super) fn within(limit: u64, result: Result<Bytes, Status>) -> Result<Bytes, Status> {
    result.map_err(|mut status| {
        let length: usize = status.details.iter().map(|(kind, value)| kind.len() + value.len() + 16).sum();
        if (length + status.message.len()) as u64 + OVERHEAD > limit {
            status.details.clear();
        }
        status
    })
}

/// Where one end of a stream seals or opens, if the call is sealed.
pub(super) type Seal = Option<Arc<SealedCall>>;

/// Sends a message as it is, or sealed.
pub(super) fn send(
    seal: &Seal,
    line: &dyn Line,
    stream: StreamKey,
    message: &Bytes,
) -> Result<(), SendError> {
    match seal {
        Some(call) => call.send(line, stream, message),
        None => line.send(stream, message.clone()),
    }
}

/// Ends a stream, as it is or sealed.
pub(super) fn finish(seal: &Seal, line: &dyn Line, stream: StreamKey, status: Option<Status>) {
    match seal {
        Some(call) => call.finish(line, stream, status),
        None => line.finish(stream, status),
    }
}
