//! A link's task: moves bytes between the socket and the link, and what the link says to its instances.
//!
//! Reading and writing go on independently: a peer that does not read cannot keep us from hearing it.

mod admission;
mod bytes;
mod ending;
mod instances;

pub(crate) use bytes::WRITE_AHEAD;

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use ::bytes::{Bytes, BytesMut};
use peerage_link::{Link, LinkEvent, Setup};
use peerage_machine::{Few, Why};
use peerage_wire::{PeerId, Suite};
use tokio::sync::oneshot;
use tokio::time::Sleep;
use tracing::{Instrument, Span};

use crate::close::shut_down;
use crate::dropped::Dropped;
use crate::hosted::{Instance, NEAR};
use crate::hub::{Guest, Seat, Shared};
use crate::link_handle::{Command, LinkHandle};
use crate::scratch::{BATCH, COMMANDS, lock, with_room};
use crate::transport::{Connection, Stream};
use crate::waiter::Waiter;

/// Turns of the loop before other tasks of the shard have theirs.
const TURNS: u32 = 16;
/// The same as a time. A link on which a peer catches up must not keep others of the shard from being heard.
const SLICE: Duration = Duration::from_millis(2);

/// How a connection ended, for who dialled it.
pub(crate) enum Ending {
    /// It was a link, or its waiter was told otherwise.
    Over,
    /// It never was, and the waiter still waits.
    NeverUp {
        waiter: Waiter,
        why: Why,
        /// Who was at the other end, if it came to that.
        peer: Option<PeerId>,
        /// The cipher suite that the other end would take instead.
        counter_offer: Option<Suite>,
        /// Whether the other end asked for a cookie, which the next dial shows.
        asked: bool,
    },
}

enum State {
    /// The peer has not said.
    Offered,
    Up,
    /// The peer does not run it, or has closed it; it may come up yet, when the peer opens one.
    Down(Box<Why>),
    /// Closed here while it was offered; the peer is told once it has answered.
    Closing(String),
}

struct Channel {
    instance: Arc<dyn Instance>,
    state: State,
}

/// Somebody who waits for this link, or for an instance on it.
struct Waiting {
    waiter: Waiter,
    /// Until when the peer may leave an offered instance unanswered; from when the link is up.
    until: Option<peerage_machine::Instant>,
}

/// One connection, from its first byte to its end.
pub(crate) struct Driver {
    shared: Arc<Shared>,
    handle: Arc<LinkHandle>,
    ip: Option<IpAddr>,
    guest: Guest,
    link: Link,
    stream: Box<dyn Stream>,
    channels: Few<u32, Channel>,
    /// Instances that this link has yet to offer.
    deferred: Vec<Arc<dyn Instance>>,
    /// The dial that made this connection.
    dial: Option<Box<Waiter>>,
    waiters: Vec<Waiting>,
    /// Connections that wait to hear whether the peer still has this link.
    probers: Vec<Arc<LinkHandle>>,
    /// Those who wait until nothing waits to be sent.
    flushers: Vec<oneshot::Sender<()>>,
    /// Enough was read for a connection whose place is not decided.
    stalled: bool,
    /// Read and not yet used: part of a record.
    leftover: Vec<u8>,
    /// Sealed and not yet written.
    unsent: BytesMut,
    /// Messages that the link took from instances.
    taken: u64,
    /// Those that it dropped, as far as they are counted.
    dropped: u64,
    timer: Pin<Box<Sleep>>,
    armed: Option<peerage_machine::Instant>,
    was_up: bool,
    greeted: bool,
    /// The link is over: what is left is to flush and hang up.
    over: Option<Box<Why>>,
    broken: bool,
}

/// A connection that is being run.
pub(crate) struct Running {
    driver: Box<Driver>,
    span: Span,
    /// Nothing is left to run.
    is_over: bool,
}

impl Running {
    pub(crate) fn new(driver: Box<Driver>) -> Self {
        let span = tracing::debug_span!(
            "link",
            id = %driver.handle.id,
            remote = %driver.shared.shown(&driver.handle.remote),
            peer = tracing::field::Empty,
        );
        Self { driver, span, is_over: false }
    }

    /// Until it is a link or over; whether it is, or was, a link. It is then to be run [until its end](Self::until_end).
    pub(crate) async fn until_link(&mut self) -> bool {
        std::future::poll_fn(|cx| match self.poll(cx) {
            Poll::Pending if !self.driver.was_up => Poll::Pending,
            _ => Poll::Ready(self.driver.was_up),
        })
        .await
    }

    /// Until its end; one that was no link is left to hang up by itself, and its dialer hears at once.
    pub(crate) async fn until_end(mut self) -> Ending {
        std::future::poll_fn(|cx| self.poll(cx)).await;
        // In a box: the task has room for it for as long as the link lives.
        Box::pin(end(self.driver, self.span)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_over {
            std::task::ready!(self.span.in_scope(|| self.driver.poll(cx)));
            self.is_over = true;
        }
        Poll::Ready(())
    }
}

async fn end(mut driver: Box<Driver>, span: Span) -> Ending {
    let ending = driver.ending();
    let shared = Arc::clone(&driver.shared);
    let hang_up = driver.hang_up().instrument(span);
    match ending {
        Ending::Over => hang_up.await,
        Ending::NeverUp { .. } => drop(tokio::spawn(shared.shards.counted(hang_up))),
    }
    ending
}

impl Driver {
    /// Made before the task that runs it, and in a box: a task holds what it is given for as long as it lives, has room for
    /// it wherever it is moved to, and for what it is made of besides.
    pub(crate) fn new(
        shared: Arc<Shared>,
        connection: Connection,
        seat: Seat,
        suites: Vec<Suite>,
        expected: Option<PeerId>,
        dial: Option<Waiter>,
    ) -> Box<Self> {
        let Seat { handle, guest, instances, heard } = seat;
        let Connection { stream, remote, ip } = connection;
        let setup = Setup {
            direction: handle.direction,
            identity: Arc::clone(&shared.identity),
            incarnation: shared.incarnation,
            software: shared.config.software.clone(),
            addresses: shared.own.addresses(),
            // Who is seen by a transport without IP addresses would learn nothing.
            observed: ip.is_some().then(|| remote.clone()),
            instances: instances.iter().map(|(_, wire)| wire.clone()).collect(),
            expected,
            suites,
            cookie: dial.as_ref().and_then(|_| lock(&shared.cookies).of(&remote, shared.clock.mono())),
            entropy: shared.seed.fork(&format!("link {}", handle.id)).rng().bytes(),
            config: Arc::clone(&shared.link_config),
            memory: shared.memory.clone(),
            capacity: shared.config.capacity(),
        };
        if let Some(waiter) = &dial {
            handle.hold(waiter.key());
        }
        let link = Link::new(setup, shared.clock.mono());
        let channels = instances.into_iter().map(|(instance, _)| Channel { instance, state: State::Offered });
        let mut driver = Box::new(Self {
            ip,
            guest,
            link,
            stream,
            channels: (0..).zip(channels).collect(),
            deferred: Vec::new(),
            dial: dial.map(Box::new),
            waiters: Vec::new(),
            probers: Vec::new(),
            flushers: Vec::new(),
            stalled: false,
            leftover: Vec::new(),
            unsent: BytesMut::new(),
            taken: 0,
            dropped: 0,
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            armed: None,
            was_up: false,
            greeted: false,
            over: None,
            broken: false,
            handle,
            shared,
        });
        driver.hear(heard);
        driver
    }

    /// What its dialer hears, who waits no more if it was a link.
    fn ending(&mut self) -> Ending {
        let (Some(waiter), Some(why)) = (self.dial.take().map(|dial| *dial), &self.over) else {
            return Ending::Over;
        };
        let cookie = self.link.cookie();
        if let Some(cookie) = cookie {
            let now = self.shared.clock.mono();
            lock(&self.shared.cookies).keep(self.handle.remote.clone(), cookie, now);
        }
        let (why, peer) = (Why::clone(why), self.link.peer());
        let counter_offer = self.link.counter_offer();
        Ending::NeverUp { waiter, why, peer, counter_offer, asked: cookie.is_some() }
    }

    /// Ready when the link is over.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut began = None;
        for _ in 0..TURNS {
            if self.over.is_some() {
                return Poll::Ready(());
            }
            let now = self.shared.clock.mono();
            if now.since(*began.get_or_insert(now)) > SLICE {
                break;
            }
            let mut moved = self.take_commands();
            let mut is_done = false;
            if self.over.is_none() {
                let was_stalled = self.stalled;
                let has_read = self.poll_read(cx, now);
                if has_read {
                    moved = true;
                    // What instances answer to that goes out together with what the link does.
                    self.take_commands();
                    if self.over.is_some() {
                        continue;
                    }
                }
                moved |= self.poll_write(cx);
                moved |= self.ring(now);
                if moved {
                    self.report();
                    self.tell_flushed();
                }
                // There was nothing to read, so the socket wakes this task; and all has been written.
                let waits_for_socket = !has_read && !was_stalled;
                is_done = waits_for_socket && self.unsent.is_empty() && !self.link.has_work();
            }
            if (!moved || (is_done && self.over.is_none())) && self.rest(cx, now) {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Whether there is nothing to do until somebody wakes this task: mail, or the timer. The socket will, too.
    fn rest(&mut self, cx: &mut Context<'_>, now: peerage_machine::Instant) -> bool {
        if !self.handle.await_mail(cx.waker()) {
            return false;
        }
        let Some(deadline) = self.deadline() else { return true };
        // A link that hears something has a later deadline each time. The timer may ring too early: it is only set anew when
        // it does or must be sooner, or when it soon would, and long before it has to.
        let is_vain = |armed: peerage_machine::Instant| {
            armed > now && armed.since(now) < NEAR && deadline.since(armed) >= NEAR
        };
        if self.armed.is_none_or(|armed| deadline < armed || is_vain(armed)) {
            self.arm(deadline);
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            if self.armed == Some(deadline) {
                return false;
            }
            self.arm(deadline);
        }
        true
    }

    fn arm(&mut self, deadline: peerage_machine::Instant) {
        self.armed = Some(deadline);
        self.timer.as_mut().reset(self.shared.clock.at(deadline));
    }

    fn take_commands(&mut self) -> bool {
        with_room(&COMMANDS, |commands| {
            if !self.handle.take_mail(commands) {
                return false;
            }
            for command in commands.drain(..) {
                if self.over.is_some() {
                    self.too_late(command);
                    continue;
                }
                self.command(command);
                if self.link.is_closed() {
                    self.pump();
                }
            }
            self.pump();
            true
        })
    }

    fn tell_flushed(&mut self) {
        if self.flushers.is_empty() || self.link.queued() != (0, 0) || !self.unsent.is_empty() {
            return;
        }
        for flushed in self.flushers.drain(..) {
            // Whoever waits may have stopped.
            let _ = flushed.send(());
        }
    }

    /// A command to a link that is over.
    fn too_late(&mut self, command: Command) {
        match command {
            Command::Await(waiter) => self.reroute(waiter),
            Command::Probe(asker) => {
                asker.ask(Command::Probed { rival: self.handle.id, alive: false });
            }
            Command::Send { .. } => self.shared.counters.dropped(Dropped::NotUp, 1),
            Command::Abort => self.broken = true,
            _ => {}
        }
    }

    fn reroute(&self, waiter: Waiter) {
        let Some(why) = self.over.as_deref().cloned() else { return };
        self.shared.reroute(self.link.peer(), waiter, why);
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Send { channel, class, message } => {
                let size = message.len() as u64;
                self.taken += 1;
                if let Err(why) = self.link.send(channel, class, message) {
                    self.taken -= 1;
                    // The host has checked what it could: this is a channel or link that has just ended.
                    self.shared.counters.dropped(Dropped::from(&why), 1);
                    if let Some(channel) = self.channels.get(channel) {
                        channel.instance.room(self.handle.id, class, size);
                    }
                }
            }
            Command::Open(instance) => {
                self.deferred.push(instance);
                self.open_deferred();
            }
            Command::CloseInstance { key, detail } => self.close_instance(key, &detail),
            Command::Await(waiter) => {
                self.add_waiters([waiter]);
                self.answer_waiters();
            }
            Command::Superseded => self.superseded(),
            Command::Probe(asker) => self.probe(asker),
            Command::Probed { rival, alive } => self.probed(rival, alive),
            Command::Flush(flushed) => self.flushers.push(flushed),
            Command::HeldChanged => {
                let now = self.shared.clock.mono();
                self.link.set_held(now, self.handle.is_held());
            }
            Command::Fault(what) => self.link.fault(what),
            Command::Close(why) => self.link.close(*why),
            Command::Drain(why) => self.link.drain(*why),
            Command::Abort => {
                self.broken = true;
                self.link.close(shut_down());
            }
        }
    }

    /// When something is due whatever the peer does.
    fn deadline(&self) -> Option<peerage_machine::Instant> {
        self.link.deadline().into_iter().chain(self.waiters_due()).min()
    }

    /// When the first of those who wait has waited long enough.
    fn waiters_due(&self) -> Option<peerage_machine::Instant> {
        self.waiters.iter().filter_map(|waiting| waiting.until).min()
    }

    /// Rings the link's timer when it is due, and tells those who have waited long enough.
    fn ring(&mut self, now: peerage_machine::Instant) -> bool {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return false;
        }
        self.link.on_timer(now);
        self.pump();
        if self.waiters_due().is_some_and(|due| now >= due) {
            self.answer_waiters();
        }
        true
    }

    /// Tells the instances what the link has to say; messages in batches.
    fn pump(&mut self) {
        with_room(&BATCH, |batch| {
            let mut batch_of = 0;
            while let Some(event) = self.link.poll_event() {
                if let LinkEvent::Message { channel, message } = event {
                    if channel != batch_of {
                        self.deliver(batch_of, batch);
                        batch_of = channel;
                    }
                    batch.push(message);
                    continue;
                }
                self.deliver(batch_of, batch);
                self.event(event);
            }
            self.deliver(batch_of, batch);
        });
    }

    fn deliver(&self, channel: u32, batch: &mut Vec<Bytes>) {
        if batch.is_empty() {
            return;
        }
        match self.channels.get(channel) {
            Some(channel) => channel.instance.messages(self.handle.id, batch),
            None => batch.clear(),
        }
    }

    fn event(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Greeted(hello) => self.greet(*hello),
            LinkEvent::Up { rtt, observed } => {
                self.up(rtt);
                self.observed(observed);
            }
            LinkEvent::ChannelUp { channel } => self.channel_up(channel),
            LinkEvent::ChannelRefused { channel, refusal } => {
                tracing::debug!(%refusal, "instance not in common");
                self.channel_not_up(channel, Why::Refused(refusal));
            }
            LinkEvent::ChannelDown { channel, why } => self.channel_not_up(channel, why),
            LinkEvent::Room { channel, class, bytes } => {
                if let Some(channel) = self.channels.get(channel) {
                    channel.instance.room(self.handle.id, class, bytes);
                }
            }
            LinkEvent::Rtt(rtt) => {
                self.store_rtt(rtt);
                for channel in self.channels.values().filter(|channel| matches!(channel.state, State::Up)) {
                    channel.instance.rtt(self.handle.id, rtt);
                }
            }
            LinkEvent::Answered => self.tell_probers(true),
            LinkEvent::Closed(why) => self.closed(why),
            // Messages are taken in batches, by `pump`.
            _ => {}
        }
    }

    fn store_rtt(&self, rtt: Duration) {
        let micros = u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX);
        self.handle.counters.rtt_micros.store(micros, Ordering::Relaxed);
    }

    fn handshake_over(&mut self) {
        if !std::mem::replace(&mut self.greeted, true) {
            self.shared.handshake_over(self.handle.direction, self.ip, self.guest);
        }
    }
}
