//! Streams of messages, to be sent and received.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use prost::Message;
use tokio::sync::Notify;

use super::bulk::{self, Spent};
use super::call::{Made, Pending};
use super::command::decode_reply;
use super::inbox::{Found, Inbox, lock};
use super::line::Line;
use super::sealed::{self, Seal};
use crate::event::{SendError, StreamKey};
use crate::party::Placed;
use crate::status::Status;

/// Messages that come, in order and each once, also across lost links. Whoever does not read makes the sender wait, and
/// nobody else. Dropping it at the caller's side cancels the call.
pub struct Receiver<T> {
    line: Arc<dyn Line>,
    stream: StreamKey,
    inbox: Arc<Inbox>,
    taken: VecDeque<(u32, Bytes)>,
    current: Bytes,
    spent: Spent,
    is_over: bool,
    /// The call to cancel when this is dropped before the end.
    placed: Option<Placed>,
    /// Checks what a command requires of each message.
    decode: Decode<T>,
    seal: Seal,
    /// Messages that were opened.
    opened: u64,
}

/// Makes a message of its bytes.
pub(super) type Decode<T> = Box<dyn FnMut(Bytes) -> Result<T, Status> + Send + Sync>;

impl<T: Message + Default + 'static> Receiver<T> {
    pub(super) fn of_caller(line: &Arc<dyn Line>, made: &Made, inbox: Arc<Inbox>) -> Self {
        let (placed, seal) = (made.placed, made.seal.clone());
        Self::new(line, placed.stream(false), inbox, Some(placed), Box::new(decode_reply), seal)
    }
}

impl<T> Receiver<T> {
    pub(super) fn new(
        line: &Arc<dyn Line>,
        stream: StreamKey,
        inbox: Arc<Inbox>,
        placed: Option<Placed>,
        decode: Decode<T>,
        seal: Seal,
    ) -> Self {
        Self {
            line: Arc::clone(line),
            stream,
            inbox,
            taken: VecDeque::new(),
            current: Bytes::new(),
            spent: Spent::new(&**line),
            is_over: false,
            placed,
            decode,
            seal,
            opened: 0,
        }
    }

    /// The next message; `None` when the stream has ended well, or after an error. An error is the stream's last. Dropping
    /// the future loses nothing.
    pub async fn recv(&mut self) -> Option<Result<T, Status>> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// As [`Receiver::recv`].
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, Status>>> {
        loop {
            if self.is_over {
                return Poll::Ready(None);
            }
            if !self.current.is_empty() {
                let message = self
                    .next_message()
                    .and_then(|bytes| self.open(bytes))
                    .and_then(|bytes| (self.decode)(bytes));
                self.is_over = message.is_err();
                return Poll::Ready(Some(message));
            }
            if let Some((messages, items)) = self.taken.pop_front() {
                self.spent.spend(&*self.line, self.stream, messages, items.len());
                self.current = items;
                continue;
            }
            match ready!(self.inbox.poll_take(cx, &mut self.taken)) {
                Found::Chunks => {}
                Found::End(end) => {
                    self.is_over = true;
                    self.placed = None;
                    let end = match &self.seal {
                        Some(seal) => seal.open_end(self.stream, self.opened, end),
                        None => end,
                    };
                    return Poll::Ready(end.err().map(Err));
                }
            }
        }
    }

    fn open(&mut self, message: Bytes) -> Result<Bytes, Status> {
        let Some(seal) = &self.seal else { return Ok(message) };
        self.opened += 1;
        seal.open_message(self.stream, self.opened - 1, message)
    }

    fn next_message(&mut self) -> Result<Bytes, Status> {
        let length = prost::decode_length_delimiter(&mut self.current);
        match length {
            Ok(length) if length <= self.current.remaining() => Ok(self.current.split_to(length)),
            _ => Err(Status::data_loss("a stream's messages are not in their lengths")),
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        if let Some(placed) = self.placed {
            self.line.desk().forget(placed);
            self.line.cancel(placed);
        }
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("stream", &self.stream).finish_non_exhaustive()
    }
}

/// Sends messages, in order and each once, also across lost links; waits while the receiver takes none.
///
/// Dropped before [`Sender::finish`], it ends the stream as one that is not complete; a handler's stream ends with the
/// handler.
pub struct Sender<T> {
    line: Arc<dyn Line>,
    stream: StreamKey,
    room: Arc<Notify>,
    limit: u64,
    is_finished: bool,
    /// Where messages are encoded, many in one piece of memory.
    buffer: Mutex<BytesMut>,
    seal: Seal,
    types: PhantomData<fn(T)>,
}

/// What a sender's buffer holds before it is used again.
const BUFFER: usize = 16 << 10;

impl<T> Sender<T> {
    pub(super) fn new(line: &Arc<dyn Line>, stream: StreamKey, room: Arc<Notify>, seal: Seal) -> Self {
        let sealing = if seal.is_some() { sealed::MESSAGE_OVERHEAD } else { 0 };
        let limit = line.desk().limits().message_bytes.saturating_sub(sealing);
        let (line, buffer) = (Arc::clone(line), Mutex::default());
        Self { line, stream, room, limit, is_finished: false, buffer, seal, types: PhantomData }
    }

    /// That was all: the receiver hears that the stream is complete.
    pub fn finish(mut self) {
        self.is_finished = true;
        sealed::finish(&self.seal, &*self.line, self.stream, None);
    }

    /// Ends the stream with a reason, which the receiver hears as its last.
    pub fn fail(mut self, status: Status) {
        self.is_finished = true;
        sealed::finish(&self.seal, &*self.line, self.stream, Some(status));
    }
}

impl<T: Message> Sender<T> {
    fn encode(&self, message: &T) -> Result<Bytes, Status> {
        let length = message.encoded_len();
        if length as u64 > self.limit {
            return Err(too_long("the message", length, self.limit));
        }
        let mut buffer = lock(&self.buffer);
        if buffer.capacity() < length {
            buffer.reserve(BUFFER.max(length));
        }
        message.encode(&mut *buffer).map_err(|error| Status::internal(error.to_string()))?;
        Ok(buffer.split().freeze())
    }

    /// Sends a message, as soon as there is credit for it. Dropped before it returns, the message may or may not go.
    ///
    /// # Errors
    /// The call is over, so nobody takes it; or the message is too long.
    pub async fn send(&self, message: T) -> Result<(), Status> {
        let bytes = self.encode(&message)?;
        bulk::send(&*self.line, self.stream, &self.room, &self.seal, bytes).await.map_err(nobody)
    }

    /// Sends a message if there is credit for it now.
    ///
    /// # Errors
    /// As [`Sender::send`], or [`crate::Code::ResourceExhausted`]: there is no credit.
    pub fn try_send(&self, message: &T) -> Result<(), Status> {
        let bytes = self.encode(message)?;
        sealed::send(&self.seal, &*self.line, self.stream, &bytes).map_err(nobody)
    }

    /// Sends several messages, as there is credit; cheaper than one by one.
    ///
    /// # Errors
    /// As [`Sender::send`]; none goes when one is too long.
    pub async fn send_all(&self, messages: impl IntoIterator<Item = T>) -> Result<(), Status> {
        let messages = messages.into_iter().map(|message| self.encode(&message));
        let messages = messages.collect::<Result<Vec<_>, _>>()?;
        let mut rest = messages.as_slice();
        while !rest.is_empty() {
            let (sent, result) = match &self.seal {
                Some(seal) => seal.send_all(&*self.line, self.stream, rest),
                None => self.line.send_all(self.stream, rest),
            };
            rest = rest.get(sent..).unwrap_or_default();
            match result {
                Err(SendError::Full) => self.room.notified().await,
                result => result.map_err(nobody)?,
            }
        }
        Ok(())
    }
}

fn nobody(error: SendError) -> Status {
    match error {
        SendError::Full => Status::resource_exhausted("the receiver takes nothing now"),
        SendError::Closed => Status::cancelled("nobody takes what is sent any more"),
        SendError::TooLong { bytes, limit } => {
            too_long("the message", usize::try_from(bytes).unwrap_or(usize::MAX), limit)
        }
    }
}

pub(super) fn too_long(what: &str, bytes: usize, limit: u64) -> Status {
    Status::resource_exhausted(format!(
        "{what} has {bytes} bytes, and {limit} is the limit; what is longer travels as bulk data"
    ))
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if !self.is_finished && self.stream.is_ours {
            let status = Status::cancelled("the sender was dropped before the end of the stream");
            sealed::finish(&self.seal, &*self.line, self.stream, Some(status));
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("stream", &self.stream).finish_non_exhaustive()
    }
}

/// A stream of messages to somebody who replies once. Dropping it cancels the call.
#[derive(Debug)]
pub struct ClientStream<T, R> {
    pub(super) sender: Sender<T>,
    pub(super) pending: Pending,
    pub(super) types: PhantomData<fn() -> R>,
}

impl<T: Message, R: Message + Default> ClientStream<T, R> {
    /// As [`Sender::send`]. When nobody takes it, [`ClientStream::finish`] says why.
    ///
    /// # Errors
    /// As [`Sender::send`].
    pub async fn send(&self, message: T) -> Result<(), Status> {
        self.sender.send(message).await
    }

    /// As [`Sender::send_all`].
    ///
    /// # Errors
    /// As [`Sender::send_all`].
    pub async fn send_all(&self, messages: impl IntoIterator<Item = T>) -> Result<(), Status> {
        self.sender.send_all(messages).await
    }

    /// Ends the stream, and waits for the reply.
    ///
    /// # Errors
    /// How the call ended.
    pub async fn finish(self) -> Result<R, Status> {
        self.sender.finish();
        decode_reply(self.pending.answer().await?)
    }
}
