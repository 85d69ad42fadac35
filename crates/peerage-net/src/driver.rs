//! A link's task: moves bytes between the socket and the link, and what the link says to its instances.
//!
//! Reading and writing go on independently: a peer that does not read cannot keep us from hearing it.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use peerage_link::{Link, LinkEvent, LinkStats, Setup};
use peerage_machine::{Incarnation, LinkInfo, Refusal, Side, Why};
use peerage_wire::PeerId;
use peerage_wire::hello::Hello;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;
use tracing::Instrument;

use crate::clock::Clock;
use crate::counters::add;
use crate::hosted::Instance;
use crate::hub::{Seat, Shared};
use crate::link_handle::{Command, InstanceKey, Known, LinkHandle, Waiter};
use crate::scratch::{lock, with_read_buffer};
use crate::transport::{Connection, Stream};

/// Bytes sealed ahead of the socket. More would only wait where it can no longer be ordered.
const WRITE_AHEAD: usize = 128 << 10;
/// Turns of the loop before other tasks of the shard have theirs.
const TURNS: u32 = 16;
/// How long a finished connection waits for its last bytes to leave and for the peer to hang up too.
const LINGER: Duration = Duration::from_secs(1);

/// How a connection ended, for who dialled it.
pub(crate) enum Ending {
    /// It was a link, or its waiter was told otherwise.
    Over,
    /// It never was, and the waiter still waits.
    NeverUp(Waiter, Why),
}

enum State {
    Offered,
    Up,
    Refused(Refusal),
}

struct Channel {
    instance: Arc<dyn Instance>,
    state: State,
}

struct Driver {
    shared: Arc<Shared>,
    handle: Arc<LinkHandle>,
    ip: Option<IpAddr>,
    link: Link,
    stream: Box<dyn Stream>,
    channels: BTreeMap<u32, Channel>,
    /// The dial that made this connection.
    dial: Option<Waiter>,
    waiters: Vec<Waiter>,
    commands: Vec<Command>,
    /// Read and not yet used: part of a record.
    leftover: Vec<u8>,
    /// Sealed and not yet written.
    unsent: BytesMut,
    reported: LinkStats,
    timer: Pin<Box<Sleep>>,
    armed: Option<peerage_machine::Instant>,
    was_up: bool,
    greeted: bool,
    /// The link is over: what is left is to flush and hang up.
    over: Option<Why>,
    linger_until: Option<tokio::time::Instant>,
    flushed: bool,
    broken: bool,
}

/// Runs one connection to its end.
pub(crate) async fn run(
    shared: Arc<Shared>,
    connection: Connection,
    seat: Seat,
    expected: Option<PeerId>,
    dial: Option<Waiter>,
) -> Ending {
    let Seat { handle, instances } = seat;
    let Connection { stream, remote, ip } = connection;
    let span = tracing::debug_span!("link", id = %handle.id, %remote, peer = tracing::field::Empty);
    let setup = Setup {
        direction: handle.direction,
        identity: Arc::clone(&shared.identity),
        incarnation: shared.incarnation,
        software: shared.config.software.clone(),
        addresses: shared.addresses.clone(),
        instances: instances.iter().map(|(_, wire)| wire.clone()).collect(),
        expected,
        entropy: shared.seed.fork(&format!("link {}", handle.id)).rng().bytes(),
        config: Arc::clone(&shared.link_config),
    };
    if let Some(waiter) = &dial {
        handle.hold(waiter.key());
    }
    let link = Link::new(setup, shared.clock.mono());
    let channels = (0..)
        .zip(instances)
        .map(|(number, (instance, _))| (number, Channel { instance, state: State::Offered }));
    let mut driver = Driver {
        ip,
        link,
        stream,
        channels: channels.collect(),
        dial,
        waiters: Vec::new(),
        commands: Vec::new(),
        leftover: Vec::new(),
        unsent: BytesMut::new(),
        reported: LinkStats::default(),
        timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
        armed: None,
        was_up: false,
        greeted: false,
        over: None,
        linger_until: None,
        flushed: false,
        broken: false,
        handle,
        shared,
    };
    async {
        std::future::poll_fn(|cx| driver.poll(cx)).await;
        driver.finish()
    }
    .instrument(span)
    .await
}

impl Driver {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..TURNS {
            if self.over.is_some() {
                return self.poll_hang_up(cx);
            }
            let mut moved = self.take_commands(cx);
            if self.over.is_none() {
                moved |= self.poll_read(cx);
                moved |= self.poll_write(cx);
                moved |= self.poll_timer(cx);
                self.report();
            }
            if !moved {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn take_commands(&mut self, cx: &Context<'_>) -> bool {
        let mut commands = std::mem::take(&mut self.commands);
        self.handle.take_mail(&mut commands, cx.waker());
        let moved = !commands.is_empty();
        for command in commands.drain(..) {
            self.command(command);
        }
        self.commands = commands;
        if moved {
            self.pump();
        }
        moved
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Send { channel, class, message } => {
                let size = message.len() as u64;
                if let Err(why) = self.link.send(channel, class, message) {
                    // The host has checked what it could: this is a channel or link that has just ended.
                    self.shared.counters.dropped(why.label(), 1);
                    if let Some(channel) = self.channels.get(&channel) {
                        channel.instance.room(self.handle.id, class, size);
                    }
                }
            }
            Command::Open(instance, wire) => {
                let number = self.link.open(wire);
                self.channels.insert(number, Channel { instance, state: State::Offered });
            }
            Command::CloseInstance { key, detail } => {
                let numbers: Vec<u32> = self
                    .channels
                    .iter()
                    .filter(|(_, channel)| channel.instance.key() == key)
                    .map(|(number, _)| *number)
                    .collect();
                for number in numbers {
                    self.link.close_channel(number, &detail);
                    self.channels.remove(&number);
                }
            }
            Command::Await(waiter) => {
                self.waiters.push(waiter);
                self.answer_waiters();
            }
            Command::HeldChanged => {
                let now = self.shared.clock.mono();
                self.link.set_held(now, self.handle.is_held());
            }
            Command::Fault(what) => self.link.fault(what),
            Command::Close(why) => self.link.close(why),
            Command::Drain(why) => self.link.drain(why),
            Command::Abort => {
                self.broken = true;
                self.link.close(Why::Shutdown { by: Side::Us, detail: String::new() });
            }
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        // Reads are few before writes have their turn; a full buffer means that there may be more.
        for _ in 0..4 {
            let (Poll::Ready(more), was_over) = (self.poll_read_once(cx), self.over.is_some()) else { break };
            moved = true;
            if !more || was_over {
                break;
            }
        }
        moved
    }

    /// Ready with whether there may be more at once.
    fn poll_read_once(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        with_read_buffer(|buffer| {
            let held = self.leftover.len();
            if let Some(front) = buffer.get_mut(..held) {
                front.copy_from_slice(&self.leftover);
            }
            let filled = {
                let mut read = ReadBuf::new(buffer.get_mut(held..).unwrap_or_default());
                match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read)) {
                    Ok(()) if read.filled().is_empty() => {
                        self.broken("the peer hung up");
                        return Poll::Ready(false);
                    }
                    Ok(()) => read.filled().len(),
                    Err(error) => {
                        self.broken(&error.to_string());
                        return Poll::Ready(false);
                    }
                }
            };
            add(&self.handle.counters.bytes_received, filled as u64);
            add(&self.shared.counters.bytes_received, filled as u64);
            let end = held + filled;
            let mut used = 0;
            loop {
                let now = self.shared.clock.mono();
                let Some(rest) = buffer.get_mut(used..end) else { break };
                let taken = self.link.receive(now, rest);
                used += taken;
                self.pump();
                if taken == 0 {
                    break;
                }
            }
            self.leftover.clear();
            self.leftover.extend_from_slice(buffer.get(used..end).unwrap_or_default());
            if self.leftover.is_empty() {
                self.leftover = Vec::new();
            }
            Poll::Ready(end == buffer.len())
        })
    }

    fn broken(&mut self, detail: &str) {
        self.broken = true;
        self.link.close(Why::Lost(detail.to_owned()));
        self.pump();
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        loop {
            if self.unsent.is_empty() {
                self.unsent.clear();
                self.link.transmit(&mut self.unsent, WRITE_AHEAD);
                self.pump();
                if self.unsent.is_empty() {
                    // An idle link keeps no buffer.
                    self.unsent = BytesMut::new();
                    return moved;
                }
            }
            match self.write_some(cx) {
                Poll::Ready(Ok(())) => moved = true,
                Poll::Ready(Err(error)) => {
                    self.broken(&error.to_string());
                    return true;
                }
                Poll::Pending => return moved,
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
        add(&self.shared.counters.bytes_sent, written as u64);
        Poll::Ready(Ok(()))
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(deadline) = self.link.deadline() else { return false };
        if self.shared.clock.mono() >= deadline {
            self.link.on_timer(self.shared.clock.mono());
            self.pump();
            return true;
        }
        if self.armed != Some(deadline) {
            self.armed = Some(deadline);
            self.timer.as_mut().reset(self.shared.clock.at(deadline));
        }
        self.timer.as_mut().poll(cx).is_ready()
    }

    /// Tells the instances what the link has to say; messages in batches.
    fn pump(&mut self) {
        let mut batch: Vec<Bytes> = Vec::new();
        let mut batch_of = 0;
        while let Some(event) = self.link.poll_event() {
            if let LinkEvent::Message { channel, message } = event {
                if channel != batch_of {
                    self.deliver(batch_of, &mut batch);
                    batch_of = channel;
                }
                batch.push(message);
                continue;
            }
            self.deliver(batch_of, &mut batch);
            self.event(event);
        }
        self.deliver(batch_of, &mut batch);
    }

    fn deliver(&self, channel: u32, batch: &mut Vec<Bytes>) {
        if batch.is_empty() {
            return;
        }
        match self.channels.get(&channel) {
            Some(channel) => channel.instance.messages(self.handle.id, batch),
            None => batch.clear(),
        }
    }

    fn event(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Greeted(hello) => self.greet(*hello),
            LinkEvent::Up { rtt } => self.up(rtt),
            LinkEvent::ChannelUp { channel } => self.channel_up(channel),
            LinkEvent::ChannelRefused { channel, refusal } => {
                tracing::debug!(%refusal, "instance not in common");
                if let Some(channel) = self.channels.get_mut(&channel) {
                    channel.state = State::Refused(refusal);
                }
                self.answer_waiters();
            }
            LinkEvent::ChannelDown { channel, why } => {
                if let Some(channel) = self.channels.get_mut(&channel) {
                    channel.state = State::Offered;
                    lock(&self.handle.open).remove(&channel.instance.key());
                    channel.instance.down(self.handle.id, why);
                    self.handle.release(channel.instance.key());
                }
            }
            LinkEvent::Room { channel, class, bytes } => {
                if let Some(channel) = self.channels.get(&channel) {
                    channel.instance.room(self.handle.id, class, bytes);
                }
            }
            LinkEvent::Rtt(rtt) => {
                self.store_rtt(rtt);
                for channel in self.channels.values().filter(|channel| matches!(channel.state, State::Up)) {
                    channel.instance.rtt(self.handle.id, rtt);
                }
            }
            LinkEvent::Closed(why) => self.closed(why),
            // Messages are taken in batches, by `pump`.
            _ => {}
        }
    }

    fn store_rtt(&self, rtt: Duration) {
        let micros = u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX);
        self.handle.counters.rtt_micros.store(micros, Ordering::Relaxed);
    }

    fn greet(&mut self, hello: Hello) {
        let (peer, incarnation) = (hello.identity, Incarnation(hello.incarnation));
        tracing::Span::current().record("peer", tracing::field::display(peer.short()));
        let known = Known {
            peer,
            incarnation,
            addresses: hello.addresses,
            software: hello.software,
            since: Clock::wall(),
        };
        // Set once: a link greets once.
        let _ = self.handle.known.set(known);
        match self.shared.consider(&self.handle, peer, incarnation) {
            Ok(()) => self.link.admit(),
            Err(why) => self.link.refuse(why),
        }
    }

    fn handshake_over(&mut self) {
        if !std::mem::replace(&mut self.greeted, true) {
            self.shared.handshake_over(self.handle.direction);
        }
    }

    fn up(&mut self, rtt: Option<Duration>) {
        self.handshake_over();
        let Some(known) = self.handle.known.get() else { return };
        if let Some(rtt) = rtt {
            self.store_rtt(rtt);
        }
        let established = self.shared.established(&self.handle, known.peer, known.incarnation);
        self.waiters.extend(established.waiters);
        if established.gives_way {
            return self.link.close(Why::Duplicate);
        }
        if let Some((old, why)) = established.replaced {
            // Before anybody hears of this link: nobody ever sees two to one peer.
            old.detach(&why);
            old.ask(Command::Close(why));
        }
        self.was_up = true;
        self.handle.up.store(true, Ordering::Release);
        add(&self.shared.counters.links_up, 1);
        metrics::counter!("peerage_links_up_total").increment(1);
        tracing::debug!(software = known.software, "link up");
        self.waiters.extend(self.dial.take());
        let now = self.shared.clock.mono();
        self.link.set_held(now, self.handle.is_held());
        self.answer_waiters();
    }

    fn channel_up(&mut self, number: u32) {
        let Some(channel) = self.channels.get_mut(&number) else { return };
        let Some(known) = self.handle.known.get() else { return };
        channel.state = State::Up;
        lock(&self.handle.open).insert(channel.instance.key(), Arc::clone(&channel.instance));
        let info = LinkInfo {
            peer: known.peer,
            incarnation: known.incarnation,
            addresses: known.addresses.clone(),
            direction: self.handle.direction,
            rtt: self.link.rtt(),
            parameters: channel.instance.spec().parameters.clone(),
            credit: self.shared.config.queue_bytes,
            max_message: self.link.max_message(),
            since: known.since,
        };
        channel.instance.up(&self.handle, number, info);
        self.answer_waiters();
    }

    /// Tells those who wait for an instance on this link, as far as it is known by now.
    fn answer_waiters(&mut self) {
        if !self.was_up || self.over.is_some() {
            return;
        }
        for waiter in std::mem::take(&mut self.waiters) {
            let key = waiter.key();
            if key == InstanceKey(0) {
                self.handle.hold(key);
                waiter.done(&self.handle);
                continue;
            }
            match self
                .channels
                .values()
                .find(|channel| channel.instance.key() == key)
                .map(|channel| &channel.state)
            {
                Some(State::Up) => {
                    self.handle.hold(key);
                    waiter.done(&self.handle);
                }
                Some(State::Offered) => self.waiters.push(waiter),
                Some(State::Refused(refusal)) => {
                    self.handle.release(key);
                    waiter.failed(Why::Refused(refusal.clone()));
                }
                None => {
                    self.handle.release(key);
                    waiter.failed(Why::NotUp);
                }
            }
        }
    }

    fn closed(&mut self, why: Why) {
        if self.over.is_some() {
            return;
        }
        self.handshake_over();
        self.shared.counters.ended(self.was_up, why.label());
        tracing::debug!(%why, was_up = self.was_up, "link ended");
        self.over = Some(why.clone());
        self.handle.up.store(false, Ordering::Release);
        self.handle.detach(&why);
        self.waiters.extend(self.handle.shut_mail().into_iter().filter_map(|command| match command {
            Command::Await(waiter) => Some(waiter),
            _ => None,
        }));
        if let Some(peer) = self.link.peer() {
            self.waiters.extend(self.shared.detached(&self.handle, peer));
            for waiter in std::mem::take(&mut self.waiters) {
                // The link that stays instead, or that is on its way, serves as well.
                if let Err(waiter) = self.shared.await_peer(peer, waiter) {
                    waiter.failed(why.clone());
                }
            }
            if why == Why::Duplicate
                && let Some(dial) = self.dial.take()
            {
                self.dial = self.shared.await_peer(peer, dial).err();
            }
        }
        for waiter in std::mem::take(&mut self.waiters) {
            waiter.failed(why.clone());
        }
    }

    /// Flushes the goodbye, ends the sending half, and waits a little for the peer to do the same: a socket closed with
    /// unread bytes would take the goodbye back.
    fn poll_hang_up(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.broken {
            return Poll::Ready(());
        }
        let until = *self.linger_until.get_or_insert_with(|| tokio::time::Instant::now() + LINGER);
        self.timer.as_mut().reset(until);
        if self.timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        while !self.flushed {
            self.link.transmit(&mut self.unsent, WRITE_AHEAD);
            if self.unsent.is_empty() {
                match Pin::new(&mut self.stream).poll_shutdown(cx) {
                    Poll::Ready(Ok(())) => self.flushed = true,
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
                    Poll::Ready(_) if self.flushed => return Poll::Ready(()),
                    // The peer is done and we are not: the writer goes on until it is, or the time is.
                    Poll::Ready(Ok(())) => return Poll::Pending,
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
    }

    /// Totals, for whoever looks.
    fn report(&mut self) {
        let stats = self.link.stats();
        let sent = stats.messages_sent - self.reported.messages_sent;
        let received = stats.messages_received - self.reported.messages_received;
        let counters = &self.handle.counters;
        add(&counters.messages_sent, sent);
        add(&counters.messages_received, received);
        add(&self.shared.counters.messages_sent, sent);
        add(&self.shared.counters.messages_received, received);
        counters.late_fragments.store(stats.late_fragments, Ordering::Relaxed);
        let (messages, bytes) = self.link.queued();
        counters.queued_messages.store(messages, Ordering::Relaxed);
        counters.queued_bytes.store(bytes, Ordering::Relaxed);
        self.reported = stats;
    }

    fn finish(mut self) -> Ending {
        self.report();
        self.shared.unseat(&self.handle, self.ip);
        match (self.dial.take(), self.over.take()) {
            (Some(waiter), Some(why)) => Ending::NeverUp(waiter, why),
            _ => Ending::Over,
        }
    }
}
