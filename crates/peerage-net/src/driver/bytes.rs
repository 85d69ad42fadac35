//! Bytes: from the socket to the link, from the link to the socket, and the end of both.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Buf;
use peerage_machine::{Instant, Why};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Driver, SLICE};
use crate::counters::add;
use crate::scratch::{READ, READS, give_write_buffer, take_write_buffer, with_read_buffer};

/// Bytes sealed ahead of the socket. More would only wait where it can no longer be ordered.
pub(crate) const WRITE_AHEAD: usize = 128 << 10;
/// Writes, one behind the other, before the link's other work has its turn.
const WRITES: usize = 8;
/// How long a finished connection waits for the peer to hang up too.
const LINGER: Duration = Duration::from_secs(1);

/// How far a link that is over has come with hanging up.
pub(super) struct HangingUp {
    began: tokio::time::Instant,
    /// When all was written and the sending half was shut.
    flushed: Option<tokio::time::Instant>,
}

impl HangingUp {
    pub(super) fn now() -> Self {
        Self { began: tokio::time::Instant::now(), flushed: None }
    }
}

impl Driver {
    /// What the other end said before the link was made.
    pub(super) fn hear(&mut self, mut heard: Vec<u8>) {
        if heard.is_empty() {
            return;
        }
        let used = self.link.receive(self.shared.clock.mono(), &mut heard);
        self.leftover = heard.split_off(used.min(heard.len()));
        self.pump();
    }

    /// A few reads, one behind the other, and all that follows from them; whether there was any. What is left of a record
    /// is put aside once, and not after each.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, began: Instant) -> bool {
        if self.stalled {
            return false;
        }
        with_read_buffer(|buffer| {
            let held = self.leftover.len();
            let (mut used, mut end) = (0, held);
            let mut now = began;
            for read in 0..READS {
                let filled = match self.fill(cx, buffer.get_mut(end..end + READ).unwrap_or_default()) {
                    Poll::Ready(Ok(filled)) => filled,
                    Poll::Ready(Err(detail)) => {
                        self.broken(&detail);
                        return true;
                    }
                    Poll::Pending if read == 0 => return false,
                    Poll::Pending => break,
                };
                if read == 0
                    && let Some(front) = buffer.get_mut(..held)
                {
                    front.copy_from_slice(&self.leftover);
                }
                end += filled;
                used += self.digest(now, buffer.get_mut(used..end).unwrap_or_default());
                if filled < READ || self.stalled || self.over.is_some() {
                    break;
                }
                now = self.shared.clock.mono();
                if now.since(began) > SLICE {
                    break;
                }
            }
            self.leftover.clear();
            self.leftover.extend_from_slice(buffer.get(used..end).unwrap_or_default());
            if self.leftover.is_empty() {
                self.leftover = Vec::new();
            }
            true
        })
    }

    fn fill(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<Result<usize, String>> {
        let mut read = ReadBuf::new(buffer);
        let outcome = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read));
        let filled = read.filled().len();
        Poll::Ready(match outcome {
            Ok(()) if filled == 0 => Err("the peer hung up".to_owned()),
            Ok(()) => {
                add(&self.handle.counters.bytes_received, filled as u64);
                self.shared.counters.bytes_received.add(filled as u64);
                Ok(filled)
            }
            Err(error) => Err(error.to_string()),
        })
    }

    /// Hands the link what it has left unread.
    pub(super) fn go_on(&mut self) {
        let mut leftover = std::mem::take(&mut self.leftover);
        let used = self.digest(self.shared.clock.mono(), &mut leftover);
        self.leftover = leftover.split_off(used);
    }

    /// Lets the link use what it can, and says how much that was.
    fn digest(&mut self, now: Instant, bytes: &mut [u8]) -> usize {
        let mut used = 0;
        let end = bytes.len();
        while let Some(rest) = bytes.get_mut(used..) {
            let taken = self.link.receive(now, rest);
            used += taken;
            self.pump();
            if taken == 0 || used == end {
                break;
            }
        }
        // The link takes nothing before it is decided, and then an `Accept`: reading on would only fill memory.
        self.stalled = self.link.is_deciding() && used < end;
        used
    }

    fn broken(&mut self, detail: &str) {
        self.broken = true;
        self.link.close(Why::Lost(detail.to_owned()));
        self.pump();
    }

    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        for _ in 0..WRITES {
            if self.unsent.is_empty() {
                if self.unsent.capacity() > 0 {
                    give_write_buffer(std::mem::take(&mut self.unsent));
                }
                if !self.link.has_work() {
                    return moved;
                }
                // An idle link keeps no buffer.
                self.unsent = take_write_buffer();
                self.seal();
                if self.unsent.is_empty() {
                    give_write_buffer(std::mem::take(&mut self.unsent));
                    return moved;
                }
            }
            match self.write_some(cx) {
                Poll::Ready(Ok(())) => moved = true,
                Poll::Ready(Err(error)) => {
                    // What the peer said last may still be there to read, and says more than a broken pipe.
                    self.poll_read(cx, self.shared.clock.mono());
                    if self.over.is_none() {
                        self.broken(&error.to_string());
                    }
                    return true;
                }
                Poll::Pending => return moved,
            }
        }
        moved
    }

    /// Seals what the link has to send, and what instances say to the room that comes of it: one write takes all of it.
    fn seal(&mut self) {
        loop {
            let sealed = self.unsent.len();
            self.link.transmit(&mut self.unsent, WRITE_AHEAD);
            self.pump();
            let is_full = self.unsent.len() == sealed || self.unsent.len() >= WRITE_AHEAD;
            if is_full || self.over.is_some() || !self.take_commands() {
                return;
            }
        }
    }

    fn write_some(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.unsent))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.unsent.advance(written);
        add(&self.handle.counters.bytes_sent, written as u64);
        self.shared.counters.bytes_sent.add(written as u64);
        Poll::Ready(Ok(()))
    }

    /// Flushes the goodbye, ends the sending half, and waits a little for the peer to do the same: a socket closed with
    /// unread bytes would take the goodbye back.
    pub(super) fn poll_hang_up(&mut self, cx: &mut Context<'_>, at: &mut HangingUp) -> Poll<()> {
        let mut commands = Vec::new();
        self.handle.take_mail(&mut commands);
        // All that is still asked of it is to stop.
        if self.broken || !commands.is_empty() || !self.handle.await_mail(cx.waker()) {
            return Poll::Ready(());
        }
        let until = match at.flushed {
            Some(flushed) => flushed + LINGER,
            None => at.began + self.shared.config.close_grace.max(LINGER),
        };
        self.timer.as_mut().reset(until);
        if self.timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        while at.flushed.is_none() {
            self.link.transmit(&mut self.unsent, WRITE_AHEAD);
            self.report();
            if self.unsent.is_empty() {
                match Pin::new(&mut self.stream).poll_shutdown(cx) {
                    Poll::Ready(Ok(())) => {
                        at.flushed = Some(tokio::time::Instant::now());
                        cx.waker().wake_by_ref();
                    }
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Pending => break,
                }
            } else {
                match self.write_some(cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Pending => break,
                }
            }
        }
        with_read_buffer(|buffer| {
            loop {
                let mut read = ReadBuf::new(buffer);
                match Pin::new(&mut self.stream).poll_read(cx, &mut read) {
                    Poll::Ready(Ok(())) if !read.filled().is_empty() => {}
                    Poll::Ready(_) if at.flushed.is_some() => return Poll::Ready(()),
                    // The peer is done and we are not: the writer goes on until it is, or the time is.
                    Poll::Ready(Ok(())) => return Poll::Pending,
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
    }
}
