//! A machine on real links: a lock around it, and hands that carry its effects out.
//!
//! Whoever has something for the machine (a link's task with a batch of messages, the application with a command, the
//! timer) takes the lock, runs it, and carries the effects out before letting go: effects keep their order, commands
//! answer at once, and a message goes from one link to the next without changing tasks. Signatures are checked between
//! two turns, with the lock free, and together where a batch of messages has brought several.

mod handle;

pub use handle::{Hosted, WeakHosted};

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use bytes::Bytes;
use peerage_identity::{Check, verify_all};
use peerage_machine::{
    Class, DialId, Effect, Input, Instant, JobId, LinkId, LinkInfo, Machine, Message, Now, OutboxOf, Why,
};
use peerage_wire::PeerId;
use tokio::sync::Notify;

use crate::dropped::Dropped;
use crate::error::Closed;
use crate::hub::Shared;
use crate::link_handle::{Command, InstanceKey, LinkHandle};
use crate::scratch::lock;
use crate::spec::{InstanceSpec, Sink, StoreAnswer};
use crate::waiter::Waiter;

/// Generations of effects and of the inputs that follow from them at once. A machine that goes on beyond is in a loop.
const MAX_ROUNDS: usize = 1000;
/// Signatures that are checked before the machine hears of the first: about 1.5 ms.
const MAX_CHECKS: usize = 64;

/// A timer that is so near is set anew when its machine, or its link, wants it so much later. While one is nearer than the system's next tick, each
/// wait for a socket sets the processor's clock, which takes 10 us where that belongs to a hypervisor; and tokio looks at its timers
/// every 64 ms while one is due soon after that.
pub(crate) const NEAR: Duration = Duration::from_millis(100);

/// A hosted machine, whatever its type.
pub(crate) trait Instance: Send + Sync {
    fn key(&self) -> InstanceKey;
    fn spec(&self) -> &InstanceSpec;
    fn up(&self, link: &Arc<LinkHandle>, channel: u32, info: LinkInfo);
    fn down(&self, link: LinkId, why: Why);
    fn messages(&self, link: LinkId, batch: &mut Vec<Bytes>);
    fn room(&self, link: LinkId, class: Class, bytes: u64);
    fn rtt(&self, link: LinkId, rtt: Duration);
    /// False when the instance has just lost the link, and has not been told of it.
    fn dialed(&self, dial: DialId, link: LinkId) -> bool;
    fn dial_failed(&self, dial: DialId, why: Why);
    /// The endpoint's addresses have changed.
    fn own_addresses(&self);
    fn shut(&self);
}

/// One link, as an instance sees it.
struct Peer {
    handle: Arc<LinkHandle>,
    channel: u32,
    max_message: u64,
    queued: u64,
    queued_control: u64,
}

struct Job {
    job: JobId,
    signer: PeerId,
    domain: &'static str,
    message: Bytes,
    signature: [u8; 64],
}

struct Inner<M: Machine> {
    machine: M,
    out: OutboxOf<M>,
    sink: Box<dyn Sink<M>>,
    links: BTreeMap<LinkId, Peer>,
    /// Inputs that follow from effects at once.
    follow: VecDeque<Input<M::Message>>,
    jobs: Vec<Job>,
    /// When the machine wants its timer.
    armed: Option<Instant>,
    /// When it rings next, which may be too early.
    rings: Option<Instant>,
    closed: bool,
}

/// A machine and its lock.
pub(crate) struct Cell<M: Machine> {
    key: InstanceKey,
    spec: InstanceSpec,
    shared: Weak<Shared>,
    rearm: Notify,
    me: Weak<Self>,
    inner: Mutex<Inner<M>>,
}

impl<M: Machine + Send + 'static> Cell<M> {
    pub(crate) fn new(
        key: InstanceKey,
        spec: InstanceSpec,
        shared: &Arc<Shared>,
        machine: M,
        mut sink: impl Sink<M>,
    ) -> Arc<Self> {
        // Machines may want their timer before anything happens.
        let armed = machine.deadline();
        Arc::new_cyclic(|me| {
            sink.hosted(WeakHosted::new(me.clone()));
            Self {
                key,
                spec,
                shared: Arc::downgrade(shared),
                rearm: Notify::new(),
                me: me.clone(),
                inner: Mutex::new(Inner {
                    machine,
                    out: OutboxOf::<M>::new(),
                    sink: Box::new(sink),
                    links: BTreeMap::new(),
                    follow: VecDeque::new(),
                    jobs: Vec::new(),
                    armed,
                    rings: None,
                    closed: false,
                }),
            }
        })
    }

    /// Runs the machine once, and what follows from it.
    fn turn<R>(&self, run: impl FnOnce(&mut Inner<M>, Now) -> R) -> Result<R, Closed> {
        let shared = self.shared.upgrade().ok_or(Closed)?;
        let mut inner = lock(&self.inner);
        if inner.closed {
            return Err(Closed);
        }
        // Read with the lock held: a machine's time never goes back.
        let now = shared.clock.now();
        let answer = run(&mut inner, now);
        let mut jobs = self.settle(&shared, &mut inner, now);
        drop(inner);
        while !jobs.is_empty() {
            // What has come up meanwhile is checked together; nothing waits for more to come.
            let later = jobs.split_off(jobs.len().min(MAX_CHECKS));
            let verified = check(&jobs);
            let mut inner = lock(&self.inner);
            if inner.closed {
                break;
            }
            let now = shared.clock.now();
            for (job, valid) in verified {
                inner.input(now, Input::Verified { job, valid });
            }
            jobs = later;
            jobs.extend(self.settle(&shared, &mut inner, now));
        }
        Ok(answer)
    }

    /// Carries effects out until there are none; gives the signatures to check.
    fn settle(&self, shared: &Arc<Shared>, inner: &mut Inner<M>, now: Now) -> Vec<Job> {
        let mut rounds = 0;
        self.carry_out(shared, inner);
        while !inner.follow.is_empty() {
            rounds += 1;
            let generation = std::mem::take(&mut inner.follow);
            if rounds > MAX_ROUNDS {
                tracing::error!(instance = %self.spec.name, "a machine answers its own effects without end");
                shared.counters.dropped(Dropped::MachineLoop, generation.len() as u64);
                break;
            }
            for input in generation {
                inner.input(now, input);
                self.carry_out(shared, inner);
            }
        }
        inner.out.rest();
        inner.armed = inner.machine.deadline();
        // A timer that rings too early finds the later deadline by itself; only a sooner one must wake it.
        let is_late = match (inner.armed, inner.rings) {
            (Some(wanted), Some(rings)) => wanted < rings,
            (wanted, None) => wanted.is_some(),
            (None, Some(_)) => false,
        };
        // One that will soon ring, and long before that, is put off.
        let is_vain = inner.rings.is_some_and(|rings| {
            let is_near = rings > now.mono && rings.since(now.mono) < NEAR;
            is_near && inner.armed.is_some_and(|wanted| wanted.since(rings) >= NEAR)
        });
        if is_late || is_vain {
            inner.rings = inner.armed;
            self.rearm.notify_one();
        }
        std::mem::take(&mut inner.jobs)
    }

    fn carry_out(&self, shared: &Arc<Shared>, inner: &mut Inner<M>) {
        let Inner { out, sink, links, follow, jobs, .. } = inner;
        for effect in out.drain() {
            match effect {
                Effect::Send { to, message, class, id } => {
                    let mut encoded: Option<Bytes> = None;
                    let mut to = to.into_iter();
                    while let Some(link) = to.next() {
                        let outcome = match links.get_mut(&link) {
                            Some(peer) => {
                                let bytes = encoded.take().unwrap_or_else(|| message.to_bytes());
                                if !to.as_slice().is_empty() {
                                    // Bytes that are shared cost another piece of memory: most go to one link.
                                    encoded = Some(bytes.clone());
                                }
                                peer.send(shared, class, bytes)
                            }
                            None => Err(Why::NotUp),
                        };
                        if let Err(why) = outcome {
                            match id {
                                Some(send) => follow.push_back(Input::Undelivered { send, link, why }),
                                None => shared.counters.dropped(Dropped::from(&why), 1),
                            }
                        }
                    }
                }
                Effect::SendOne { to, message, class } => {
                    let sent = match links.get_mut(&to) {
                        Some(peer) => peer.send(shared, class, message.into_bytes()),
                        None => Err(Why::NotUp),
                    };
                    if let Err(why) = sent {
                        shared.counters.dropped(Dropped::from(&why), 1);
                    }
                }
                Effect::Dial { id, target } => {
                    if let Some(me) = self.me.upgrade() {
                        shared.dial(Waiter::machine(me, id), target, |_, why| {
                            follow.push_back(Input::DialFailed { dial: id, why });
                        });
                    }
                }
                Effect::Hold(link) => {
                    if let Some(peer) = links.get(&link) {
                        peer.handle.hold(self.key);
                    }
                }
                Effect::Release(link) => {
                    if let Some(peer) = links.get(&link) {
                        peer.handle.release(self.key);
                    }
                }
                Effect::CloseChannel { link, why } => {
                    if let Some(peer) = links.remove(&link) {
                        peer.handle.release(self.key);
                        lock(&peer.handle.open).remove(self.key);
                        peer.handle.ask(Command::CloseInstance { key: self.key, detail: why.to_string() });
                        follow.push_back(Input::Down { link, why });
                    }
                }
                Effect::Fault { link, what } => {
                    shared.counters.dropped(Dropped::Fault, 1);
                    tracing::debug!(instance = %self.spec.name, %link, what, "a peer broke the protocol");
                    if let Some(peer) = links.get(&link) {
                        peer.handle.ask(Command::Fault(what));
                    }
                }
                Effect::Store { op, batch } => match sink.store(op, batch) {
                    StoreAnswer::Now(result) => follow.push_back(Input::Stored { op, result }),
                    StoreAnswer::Later => {}
                },
                Effect::Verify { job, signer, domain, message, signature } => {
                    jobs.push(Job { job, signer, domain, message, signature });
                }
                Effect::Emit(event) => sink.event(event),
                Effect::Answer { call, answer } => sink.answer(call, answer),
                Effect::Count { name, by } => shared.counters.machine(name, by),
                Effect::Observe { name, value } => metrics::histogram!(name).record(value),
                other => {
                    tracing::error!(
                        effect = std::any::type_name_of_val(&other),
                        "an effect that this host does not know"
                    );
                    shared.counters.dropped(Dropped::UnknownEffect, 1);
                }
            }
        }
    }

    fn feed(&self, input: Input<M::Message>) {
        // A closed instance hears nothing more.
        let _ = self.turn(|inner, now| inner.input(now, input));
    }

    /// Rings the machine's timer until the instance is closed.
    pub(crate) async fn keep_time(self: Arc<Self>) {
        loop {
            let (armed, closed) = {
                let mut inner = lock(&self.inner);
                inner.rings = inner.armed;
                (inner.armed, inner.closed)
            };
            let Some(shared) = self.shared.upgrade().filter(|_| !closed) else { return };
            let due = armed.map(|at| (shared.clock.mono() >= at, shared.clock.at(at)));
            drop(shared);
            match due {
                None => self.rearm.notified().await,
                Some((true, _)) => {
                    let rung = self.turn(|inner, now| {
                        if inner.machine.deadline().is_some_and(|at| at <= now.mono) {
                            inner.machine.on_timer(now, &mut inner.out);
                        }
                    });
                    if rung.is_err() {
                        return;
                    }
                    // A machine that stands still would spin here: its rule is to move on.
                    tokio::task::yield_now().await;
                }
                Some((false, at)) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(at) => {}
                        () = self.rearm.notified() => {}
                    }
                }
            }
        }
    }
}

/// What comes of these, all of which are checked before the machine hears of any.
fn check(jobs: &[Job]) -> Vec<(JobId, bool)> {
    let checks: Vec<Check<'_>> = jobs
        .iter()
        .map(|job| Check {
            signer: job.signer,
            domain: job.domain,
            message: &job.message,
            signature: &job.signature,
        })
        .collect();
    let results = verify_all(&checks);
    jobs.iter().zip(results).map(|(job, result)| (job.job, result.is_ok())).collect()
}

impl<M: Machine> Inner<M> {
    fn input(&mut self, now: Now, input: Input<M::Message>) {
        self.machine.on_input(now, input, &mut self.out);
    }
}

impl Peer {
    fn send(&mut self, shared: &Shared, class: Class, message: Bytes) -> Result<(), Why> {
        let size = message.len() as u64;
        if size > self.max_message {
            return Err(Why::TooLarge { size, limit: self.max_message });
        }
        let (queued, limit, alone_fits) = match class {
            Class::Control => {
                if size > peerage_link::MAX_CONTROL_MESSAGE {
                    return Err(Why::TooLarge { size, limit: peerage_link::MAX_CONTROL_MESSAGE });
                }
                (&mut self.queued_control, shared.config.link.control_queue, false)
            }
            Class::Interactive | Class::Bulk => (&mut self.queued, shared.config.queue_bytes, true),
        };
        let alone = alone_fits && *queued == 0;
        if !alone && *queued + size > limit {
            return Err(Why::Full { queued: *queued, limit });
        }
        let command = Command::Send { channel: self.channel, class, message };
        if !self.handle.ask(command) {
            return Err(Why::NotUp);
        }
        *queued += size;
        Ok(())
    }
}

impl<M: Machine + Send + 'static> Instance for Cell<M> {
    fn key(&self) -> InstanceKey {
        self.key
    }

    fn spec(&self) -> &InstanceSpec {
        &self.spec
    }

    fn up(&self, link: &Arc<LinkHandle>, channel: u32, info: LinkInfo) {
        let _ = self.turn(|inner, now| {
            let peer = Peer {
                handle: Arc::clone(link),
                channel,
                max_message: info.max_message,
                queued: 0,
                queued_control: 0,
            };
            inner.links.insert(link.id, peer);
            inner.input(now, Input::Up { link: link.id, info });
        });
    }

    fn down(&self, link: LinkId, why: Why) {
        let _ = self.turn(|inner, now| {
            if inner.links.remove(&link).is_some() {
                inner.input(now, Input::Down { link, why });
            }
        });
    }

    fn messages(&self, link: LinkId, batch: &mut Vec<Bytes>) {
        let mut fault = None;
        let _ = self.turn(|inner, now| {
            for bytes in batch.drain(..) {
                let Some(peer) = inner.links.get(&link) else { continue };
                match M::Message::decode(bytes) {
                    Ok(message) => inner.input(now, Input::Message { link, message }),
                    Err(malformed) => {
                        fault = Some((Arc::clone(&peer.handle), malformed));
                        break;
                    }
                }
            }
        });
        batch.clear();
        if let Some((handle, malformed)) = fault {
            // Bytes that are no message at all are no bug of a newer version: the link ends here.
            let by = peerage_machine::Side::Them;
            let why = Why::Fault { by, what: format!("{}: {malformed}", self.spec.name) };
            handle.ask(Command::Close(Box::new(why)));
        }
    }

    fn room(&self, link: LinkId, class: Class, bytes: u64) {
        if class == Class::Control {
            // The machine hears nothing of it, and has nothing to do.
            if let Some(peer) = lock(&self.inner).links.get_mut(&link) {
                peer.queued_control = peer.queued_control.saturating_sub(bytes);
            }
            return;
        }
        let _ = self.turn(|inner, now| {
            let Some(peer) = inner.links.get_mut(&link) else { return };
            peer.queued = peer.queued.saturating_sub(bytes);
            inner.input(now, Input::Credit { link, class, bytes });
        });
    }

    fn rtt(&self, link: LinkId, rtt: Duration) {
        let _ = self.turn(|inner, now| {
            if inner.links.contains_key(&link) {
                inner.input(now, Input::Rtt { link, rtt });
            }
        });
    }

    fn dialed(&self, dial: DialId, link: LinkId) -> bool {
        let told = self.turn(|inner, now| {
            let is_up = inner.links.contains_key(&link);
            if is_up {
                inner.input(now, Input::Dialed { dial, link });
            }
            is_up
        });
        // A closed instance waits for nothing.
        told.unwrap_or(true)
    }

    fn dial_failed(&self, dial: DialId, why: Why) {
        self.feed(Input::DialFailed { dial, why });
    }

    fn own_addresses(&self) {
        let Some(shared) = self.shared.upgrade() else { return };
        // Read in the turn: of two changes at once the machine hears the later one last.
        let _ = self.turn(|inner, now| inner.input(now, Input::OwnAddresses(shared.own.addresses())));
    }

    fn shut(&self) {
        let mut inner = lock(&self.inner);
        if std::mem::replace(&mut inner.closed, true) {
            return;
        }
        for (_, peer) in std::mem::take(&mut inner.links) {
            peer.handle.release(self.key);
            lock(&peer.handle.open).remove(self.key);
        }
        inner.sink.closed();
        drop(inner);
        self.rearm.notify_one();
    }
}
