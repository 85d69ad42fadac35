//! Bulk data beside the parameters or the reply.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::Notify;

use super::call::Made;
use super::inbox::{Found, Inbox};
use super::line::Line;
use super::sealed::{self, Seal};
use crate::event::{SendError, StreamKey};
use crate::party::Placed;
use crate::status::Status;

/// The most bytes of one piece: half of what a message may have, so that several are under way.
const PIECE: usize = 32 << 10;

/// What is sent as bulk data.
pub(super) type Source = Pin<Box<dyn AsyncRead + Send>>;

/// Sends all that `source` gives, as credit comes, until it ends or nobody takes it any more.
pub(super) async fn pump(
    line: Arc<dyn Line>,
    stream: StreamKey,
    room: Arc<Notify>,
    seal: Seal,
    mut source: Source,
) {
    let limit = usize::try_from(line.desk().limits().message_bytes).unwrap_or(PIECE).clamp(1, PIECE);
    let status = loop {
        let mut piece = BytesMut::with_capacity(limit);
        match poll_fn(|cx| poll_fill(source.as_mut(), cx, &mut piece, limit)).await {
            Ok(()) if piece.is_empty() => break None,
            Ok(()) => {}
            Err(error) => break Some(Status::data_loss(format!("the bulk data could not be read: {error}"))),
        }
        if send(&*line, stream, &room, &seal, piece.freeze()).await.is_err() {
            break Some(Status::cancelled("nobody takes it"));
        }
    };
    sealed::finish(&seal, &*line, stream, status);
    if !stream.is_ours {
        line.desk().close_flow(stream);
    }
}

/// Reads until the piece is full, the source ends, or nothing is there at the moment.
fn poll_fill(
    mut source: Pin<&mut (dyn AsyncRead + Send)>,
    cx: &mut Context<'_>,
    piece: &mut BytesMut,
    limit: usize,
) -> Poll<io::Result<()>> {
    while piece.len() < limit {
        let had = piece.len();
        piece.resize(limit, 0);
        let read = {
            let mut buffer = ReadBuf::new(piece.get_mut(had..).unwrap_or_default());
            source.as_mut().poll_read(cx, &mut buffer).map_ok(|()| buffer.filled().len())
        };
        piece.truncate(had + if let Poll::Ready(Ok(read)) = &read { *read } else { 0 });
        match read {
            Poll::Ready(Ok(0)) => break,
            Poll::Ready(Ok(_)) => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending if piece.is_empty() => return Poll::Pending,
            Poll::Pending => break,
        }
    }
    Poll::Ready(Ok(()))
}

/// Sends a message as soon as there is credit for it.
pub(super) async fn send(
    line: &dyn Line,
    stream: StreamKey,
    room: &Notify,
    seal: &Seal,
    message: Bytes,
) -> Result<(), SendError> {
    loop {
        match sealed::send(seal, line, stream, &message) {
            // Room that came since the try is kept for us.
            Err(SendError::Full) => room.notified().await,
            result => return result,
        }
    }
}

/// How much of what has come was used, and when that is worth a word to the sender.
#[derive(Debug)]
pub(super) struct Spent {
    messages: u32,
    bytes: u64,
    half_messages: u32,
    half_bytes: u64,
}

impl Spent {
    pub(super) fn new(line: &dyn Line) -> Self {
        let limits = line.desk().limits();
        Self {
            messages: 0,
            bytes: 0,
            half_messages: (limits.stream_messages / 2).max(1),
            half_bytes: (limits.stream_bytes / 2).max(1),
        }
    }

    /// So much has been used; the sender may send as much again when that is half of its window.
    pub(super) fn spend(&mut self, line: &dyn Line, stream: StreamKey, messages: u32, bytes: usize) {
        self.messages += messages;
        self.bytes += bytes as u64;
        if self.messages >= self.half_messages || self.bytes >= self.half_bytes {
            line.grant(stream, self.messages, self.bytes);
            (self.messages, self.bytes) = (0, 0);
        }
    }
}

/// Bulk data that comes. Dropping it ends the interest in it.
pub struct BulkReader {
    line: Arc<dyn Line>,
    stream: StreamKey,
    inbox: Arc<Inbox>,
    taken: VecDeque<(u32, Bytes)>,
    current: Bytes,
    spent: Spent,
    /// The call to cancel when this is dropped before the end.
    placed: Option<Placed>,
    seal: Seal,
    /// Pieces that were opened.
    opened: u64,
}

impl BulkReader {
    pub(super) fn of_callee(line: &Arc<dyn Line>, stream: StreamKey, seal: Seal) -> Option<Self> {
        let inbox = line.desk().inbox(stream)?;
        Some(Self::new(line, stream, inbox, None, seal))
    }

    pub(super) fn of_caller(line: &Arc<dyn Line>, made: &Made, inbox: Arc<Inbox>) -> Self {
        Self::new(line, made.placed.stream(true), inbox, Some(made.placed), made.seal.clone())
    }

    fn new(
        line: &Arc<dyn Line>,
        stream: StreamKey,
        inbox: Arc<Inbox>,
        placed: Option<Placed>,
        seal: Seal,
    ) -> Self {
        Self {
            line: Arc::clone(line),
            stream,
            inbox,
            taken: VecDeque::new(),
            current: Bytes::new(),
            spent: Spent::new(&**line),
            placed,
            seal,
            opened: 0,
        }
    }

    fn open(&mut self, piece: Bytes) -> Result<Bytes, Status> {
        let Some(seal) = &self.seal else { return Ok(piece) };
        let opened = seal.open_message(self.stream, self.opened, piece);
        self.opened += 1;
        if let Err(status) = &opened {
            self.taken.clear();
            self.inbox.fail(status);
        }
        opened
    }

    fn poll_piece(&mut self, cx: &Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        loop {
            if !self.current.is_empty() {
                return Poll::Ready(Some(Ok(std::mem::take(&mut self.current))));
            }
            if let Some((messages, piece)) = self.taken.pop_front() {
                self.spent.spend(&*self.line, self.stream, messages, piece.len());
                // When it does not open, the inbox says so next.
                self.current = self.open(piece).unwrap_or_default();
                continue;
            }
            match ready!(self.inbox.poll_take(cx, &mut self.taken)) {
                Found::Chunks => {}
                Found::End(end) => {
                    let end = match &self.seal {
                        Some(seal) => seal.open_end(self.stream, self.opened, end),
                        None => end,
                    };
                    if self.placed.take().is_some() {
                        self.line.desk().close_flow(self.stream);
                    }
                    return Poll::Ready(end.err().map(Err));
                }
            }
        }
    }

    /// The next piece, as it came; `None` after the last. A piece that fails says why, and is the last.
    ///
    /// Dropping the future loses nothing.
    pub async fn piece(&mut self) -> Option<Result<Bytes, Status>> {
        poll_fn(|cx| self.poll_piece(cx)).await
    }

    /// All of it, at most so many bytes.
    ///
    /// # Errors
    /// Why it is not complete, or that it is longer.
    pub async fn collect(mut self, at_most: usize) -> Result<Bytes, Status> {
        let mut all = BytesMut::new();
        while let Some(piece) = self.piece().await {
            let piece = piece?;
            if all.len() + piece.len() > at_most {
                return Err(Status::resource_exhausted(format!(
                    "the bulk data is longer than {at_most} bytes"
                )));
            }
            all.extend_from_slice(&piece);
        }
        Ok(all.freeze())
    }
}

/// The error of a reading that fails has the [`Status`] inside.
impl AsyncRead for BulkReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match ready!(self.poll_piece(cx)) {
            None => Poll::Ready(Ok(())),
            Some(Err(status)) => Poll::Ready(Err(io::Error::other(status))),
            Some(Ok(mut piece)) => {
                let fits = piece.split_to(piece.len().min(into.remaining()));
                into.put_slice(&fits);
                self.current = piece;
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl Drop for BulkReader {
    fn drop(&mut self) {
        if let Some(placed) = self.placed {
            self.line.desk().forget(placed);
            self.line.cancel(placed);
        }
    }
}

impl fmt::Debug for BulkReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BulkReader").field("stream", &self.stream).finish_non_exhaustive()
    }
}

/// Bytes that are there already, as something to read.
#[derive(Debug)]
pub(super) struct Held(pub(super) Bytes);

impl AsyncRead for Held {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let len = self.0.len().min(into.remaining());
        into.put_slice(&self.0.split_to(len));
        Poll::Ready(Ok(()))
    }
}
