//! A link, as everybody but its own task sees it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::task::Waker;

use bytes::Bytes;
use peerage_machine::{Class, Direction, Few, Incarnation, LinkId, OnReturn, UnixMillis, Why};
use peerage_wire::{Address, PeerId, Suite};
use tokio::sync::oneshot;

use crate::hosted::Instance;
use crate::scratch::lock;
use crate::waiter::Waiter;

/// Names an instance within its endpoint, or whoever else holds a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct InstanceKey(pub(crate) u64);

impl InstanceKey {
    /// The application itself, through `connect`.
    pub(crate) const APPLICATION: Self = Self(0);
}

/// What a link's task is asked to do.
pub(crate) enum Command {
    Send {
        channel: u32,
        class: Class,
        message: Bytes,
    },
    Open(Arc<dyn Instance>),
    CloseInstance {
        key: InstanceKey,
        detail: String,
    },
    /// Tell this waiter when its instance is up on this link, or why not.
    Await(Waiter),
    HeldChanged,
    /// A newer incarnation of the peer has a link: only what coexists stays on this one.
    Superseded,
    /// See whether the peer still has this link, and tell that connection, which else would take its place.
    Probe(Arc<LinkHandle>),
    /// What became of the link that was in this connection's way.
    Probed {
        rival: LinkId,
        alive: bool,
    },
    /// Tell when all that was asked to be sent before this has been written.
    Flush(oneshot::Sender<()>),
    Fault(&'static str),
    /// In boxes: every link keeps room for some commands, most of which are of half the size.
    Close(Box<Why>),
    Drain(Box<Why>),
    /// Drop everything now.
    Abort,
}

/// What is known of the peer once the handshake is over.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) peer: PeerId,
    pub(crate) incarnation: Incarnation,
    pub(crate) suite: Option<Suite>,
    pub(crate) addresses: Vec<Address>,
    pub(crate) software: String,
    pub(crate) since: UnixMillis,
}

#[derive(Debug, Default)]
pub(crate) struct LinkCounters {
    pub(crate) bytes_sent: AtomicU64,
    pub(crate) bytes_received: AtomicU64,
    pub(crate) messages_sent: AtomicU64,
    pub(crate) messages_received: AtomicU64,
    pub(crate) queued_messages: AtomicU64,
    pub(crate) queued_bytes: AtomicU64,
    pub(crate) rtt_micros: AtomicU64,
    pub(crate) late_fragments: AtomicU64,
    /// Of messages that have arrived and wait: in parts, or to be taken.
    pub(crate) held_bytes: AtomicU64,
    /// What the link has of the endpoint's memory.
    pub(crate) borrowed_bytes: AtomicU64,
    /// Sealed, and not yet taken by the transport.
    pub(crate) unsent_bytes: AtomicU64,
}

/// Those who wait for a link's end, or how it came.
enum End {
    Awaited(Vec<oneshot::Sender<Why>>),
    Came(Box<Why>),
}

impl Default for End {
    fn default() -> Self {
        Self::Awaited(Vec::new())
    }
}

/// The room for commands that a link keeps: 224 bytes.
const KEPT_COMMANDS: usize = 4;

#[derive(Default)]
struct Mail {
    commands: Vec<Command>,
    /// Whom to wake, when it rests.
    waker: Option<Waker>,
    /// The link's task has nothing to do. While it has, it looks here by itself: a message that is answered in the same
    /// turn wakes nobody.
    rests: bool,
    gone: bool,
}

pub(crate) struct LinkHandle {
    pub(crate) id: LinkId,
    pub(crate) direction: Direction,
    pub(crate) remote: Address,
    pub(crate) known: OnceLock<Known>,
    pub(crate) up: AtomicBool,
    pub(crate) counters: LinkCounters,
    /// Instances that are open on the link.
    pub(crate) open: Mutex<Few<InstanceKey, Arc<dyn Instance>>>,
    /// Taken from its instances: it comes up for none of them any more.
    detached: AtomicBool,
    /// Left to the instances that coexist: it is not the link to its peer any more.
    superseded: AtomicBool,
    end: Mutex<End>,
    holders: Mutex<Few<InstanceKey, ()>>,
    mail: Mutex<Mail>,
}

impl LinkHandle {
    pub(crate) fn new(id: LinkId, direction: Direction, remote: Address) -> Self {
        Self {
            id,
            direction,
            remote,
            known: OnceLock::new(),
            up: AtomicBool::new(false),
            counters: LinkCounters::default(),
            open: Mutex::default(),
            detached: AtomicBool::new(false),
            superseded: AtomicBool::new(false),
            end: Mutex::default(),
            holders: Mutex::default(),
            mail: Mutex::default(),
        }
    }

    /// Asks the link's task; false when the task is gone, and then whoever cares hears of the link's end.
    pub(crate) fn ask(&self, command: Command) -> bool {
        let mail = lock(&self.mail);
        // Who hangs up and lingers can still be told not to.
        if mail.gone && !matches!(command, Command::Abort) {
            return false;
        }
        Self::put(mail, command);
        true
    }

    /// Lets a waiter wait for this link; gives it back when the link's task is gone.
    pub(crate) fn wait(&self, waiter: Waiter) -> Result<(), Waiter> {
        let mail = lock(&self.mail);
        if mail.gone {
            return Err(waiter);
        }
        Self::put(mail, Command::Await(waiter));
        Ok(())
    }

    fn put(mut mail: MutexGuard<'_, Mail>, command: Command) {
        mail.commands.push(command);
        let waker = std::mem::take(&mut mail.rests).then(|| mail.waker.clone()).flatten();
        drop(mail);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// What has been asked since the last call, behind what is in `into`; whether there is any.
    pub(crate) fn take_mail(&self, into: &mut Vec<Command>) -> bool {
        let mut mail = lock(&self.mail);
        mail.rests = false;
        if mail.commands.is_empty() {
            return false;
        }
        let needed = mail.commands.len().max(KEPT_COMMANDS);
        into.append(&mut mail.commands);
        let room = mail.commands.capacity();
        if room >= 2 * needed {
            // What was needed in busier times: it goes in halves, so that a link that is busy again has most of it.
            mail.commands.shrink_to(room / 2);
        }
        true
    }

    /// Has the link's task woken by the next command; false when there is one already.
    pub(crate) fn await_mail(&self, waker: &Waker) -> bool {
        let mut mail = lock(&self.mail);
        if !mail.commands.is_empty() {
            return false;
        }
        mail.rests = true;
        match &mail.waker {
            Some(known) if known.will_wake(waker) => {}
            _ => mail.waker = Some(waker.clone()),
        }
        true
    }

    /// No more commands but [`Command::Abort`]; those that nobody took.
    pub(crate) fn shut_mail(&self) -> Vec<Command> {
        let mut mail = lock(&self.mail);
        mail.gone = true;
        std::mem::take(&mut mail.commands)
    }

    pub(crate) fn hold(&self, key: InstanceKey) {
        let changed = {
            let mut holders = lock(&self.holders);
            let was = holders.is_empty();
            holders.insert(key, ());
            was
        };
        if changed {
            self.ask(Command::HeldChanged);
        }
    }

    pub(crate) fn release(&self, key: InstanceKey) {
        let changed = {
            let mut holders = lock(&self.holders);
            holders.remove(key).is_some() && holders.is_empty()
        };
        if changed {
            self.ask(Command::HeldChanged);
        }
    }

    pub(crate) fn is_held(&self) -> bool {
        !lock(&self.holders).is_empty()
    }

    /// Takes the link from its instances at once, before its task gets to it.
    pub(crate) fn detach(&self, why: &Why) {
        self.detached.store(true, Ordering::SeqCst);
        let open = std::mem::take(&mut *lock(&self.open));
        for (_, instance) in open {
            instance.down(self.id, why.clone());
        }
        self.tell_end(why);
    }

    pub(crate) fn is_detached(&self) -> bool {
        self.detached.load(Ordering::SeqCst)
    }

    /// Whether an instance is open that wants to keep it beside a newer one.
    pub(crate) fn coexists(&self) -> bool {
        lock(&self.open).values().any(|instance| instance.spec().on_return == OnReturn::Coexist)
    }

    /// Takes the link at once from all but the instances that coexist.
    pub(crate) fn supersede(&self) {
        self.superseded.store(true, Ordering::SeqCst);
        let mut taken = Vec::new();
        lock(&self.open).retain(|_, instance| {
            let stays = instance.spec().on_return == OnReturn::Coexist;
            if !stays {
                taken.push(Arc::clone(instance));
            }
            stays
        });
        for instance in &taken {
            instance.down(self.id, Why::Superseded);
        }
        self.tell_end(&Why::Superseded);
        self.ask(Command::Superseded);
    }

    pub(crate) fn is_superseded(&self) -> bool {
        self.superseded.load(Ordering::SeqCst)
    }

    /// Whether the instance has no place on this link any more.
    pub(crate) fn bars(&self, instance: &dyn Instance) -> bool {
        self.is_superseded() && instance.spec().on_return == OnReturn::Replace
    }

    /// Ends what holds the link, but for these.
    pub(crate) fn release_all_but(&self, stay: &[InstanceKey]) {
        let changed = {
            let mut holders = lock(&self.holders);
            let was = !holders.is_empty();
            holders.retain(|key, ()| stay.contains(&key));
            was && holders.is_empty()
        };
        if changed {
            self.ask(Command::HeldChanged);
        }
    }

    fn tell_end(&self, why: &Why) {
        let mut end = lock(&self.end);
        if let End::Awaited(waiting) = &mut *end {
            for waiting in std::mem::take(waiting) {
                // Whoever waits may have stopped.
                let _ = waiting.send(why.clone());
            }
            *end = End::Came(Box::new(why.clone()));
        }
    }

    /// Returns when this is no link any more for whoever is no instance, with the reason.
    pub(crate) async fn ended(&self) -> Why {
        let (answer, ended) = oneshot::channel();
        match &mut *lock(&self.end) {
            End::Came(why) => return Why::clone(why),
            End::Awaited(waiting) => {
                waiting.retain(|waiting| !waiting.is_closed());
                waiting.push(answer);
            }
        }
        ended.await.unwrap_or(Why::NotUp)
    }
}

impl std::fmt::Debug for LinkHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LinkHandle")
            .field("id", &self.id)
            .field("remote", &self.remote)
            .finish_non_exhaustive()
    }
}
