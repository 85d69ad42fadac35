//! Strangers who are not in yet: of whom a cookie is asked, or who hear that there is no room.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use peerage_link::Knock;
use peerage_machine::Direction;
use peerage_wire::Address;
use peerage_wire::preface::{Busy, Notice};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::{AbortHandle, JoinSet};

use crate::driver::{Driver, Running};
use crate::dropped::Dropped;
use crate::hub::{Guest, Refused, Seat, Shared};
use crate::scratch::lock;
use crate::source::{Source, cookie_source};
use crate::transport::{Arrival, Caller, Connection, Stream};

/// More than preface, length, key and cookie; what a dialer sends behind that before it is answered, no dialer sends.
const ENOUGH: usize = 128;
/// How long one who was told that there is no room may take to hang up: a socket closed with unread bytes would take the
/// word back.
const LINGER: Duration = Duration::from_secs(1);

/// Those at the door of one listener. All are hung up on when it is dropped.
pub(crate) struct AtTheDoor {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
    /// Who came first is first. Some have gone.
    waiting: VecDeque<(AbortHandle, Option<Source>)>,
    /// Whether strangers are counted by address.
    pub(crate) counts: bool,
    /// Those who came in this turn and have not said enough.
    fresh: Vec<(Box<dyn Caller>, Visit)>,
}

impl AtTheDoor {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, tasks: JoinSet::new(), waiting: VecDeque::new(), counts: false, fresh: Vec::new() }
    }

    /// One who needs a cookie. Most have said enough already, or say it before they are asked again: they are answered and
    /// hung up on without a task of their own.
    pub(crate) fn receive(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Caller(caller) => {
                let visit = Visit::of(self.counts, caller.ip(), || caller.remote());
                self.hear(caller, visit, true);
            }
            Arrival::Connection(connection) => {
                let visit = Visit::of(self.counts, connection.ip, || connection.remote.clone());
                self.wait(connection, visit);
            }
        }
    }

    /// Whether there are some who have just come and have not said enough.
    pub(crate) fn listens(&self) -> bool {
        !self.fresh.is_empty()
    }

    /// They had a moment. Who has used it is answered, and of the others each gets a task.
    pub(crate) fn ask_again(&mut self) {
        for (caller, visit) in std::mem::take(&mut self.fresh) {
            self.hear(caller, visit, false);
        }
    }

    fn hear(&mut self, mut caller: Box<dyn Caller>, mut visit: Visit, is_fresh: bool) {
        let met = match caller.try_read(visit.room()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Met::Waits,
            read => visit.said(&self.shared, read),
        };
        match met {
            Met::Leaves => {}
            Met::Hears(word, reason) => {
                turned_away(&self.shared, || caller.remote(), reason);
                // A new connection has room for a first word; and who has gone needs none.
                let _ = caller.try_write(&word);
            }
            Met::Waits if is_fresh => self.fresh.push((caller, visit)),
            Met::Waits | Met::Enters => {
                let Ok(connection) = caller.connect() else {
                    return visit.is_over(&self.shared, Dropped::DoorLost);
                };
                if matches!(met, Met::Waits) {
                    return self.wait(connection, visit);
                }
                match enter(&self.shared, &connection, &visit) {
                    Ok(seat) => begin(&self.shared, connection, seat),
                    Err(refused) => self.turn_away(connection, refused),
                }
            }
        }
    }

    fn wait(&mut self, connection: Connection, visit: Visit) {
        let shared = Arc::clone(&self.shared);
        let counted = visit.counted;
        self.spawn(counted, async move {
            let after = shared.link_config.handshake_timeout;
            if tokio::time::timeout(after, wait(&shared, connection, visit)).await.is_err() {
                over(&shared, counted, Dropped::DoorTimedOut);
            }
        });
    }

    /// One for whom there is no room.
    pub(crate) fn turn_away(&mut self, connection: Connection, refused: Refused) {
        let Some(busy) = refused.busy else { return };
        self.spawn(None, async move {
            // Told or not, it has had its time.
            let _ = tokio::time::timeout(LINGER, tell(connection.stream, busy)).await;
        });
    }

    fn spawn(&mut self, counted: Option<Source>, task: impl Future<Output = ()> + Send + 'static) {
        while self.tasks.try_join_next().is_some() {}
        let most = self.shared.config.max_at_door.max(1);
        while self.tasks.len() >= most {
            let Some((oldest, counted)) = self.waiting.pop_front() else { break };
            if !oldest.is_finished() {
                over(&self.shared, counted, Dropped::Door);
                oldest.abort();
                break;
            }
        }
        if self.waiting.len() >= 2 * most {
            self.waiting.retain(|(waiting, _)| !waiting.is_finished());
        }
        self.waiting.push_back((self.tasks.spawn(self.shared.shards.counted(task)), counted));
    }
}

/// Says that there is no room, and waits for the other end to hang up.
async fn tell(mut stream: Box<dyn Stream>, busy: Busy) -> io::Result<()> {
    stream.write_all(&Notice::Busy(busy).encode()).await?;
    stream.shutdown().await?;
    let mut rest = [0; ENOUGH];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

/// What a stranger has said so far, and whose cookie it needs.
struct Visit {
    source: Vec<u8>,
    /// Where it is, if strangers are counted by address.
    counted: Option<Source>,
    heard: [u8; ENOUGH],
    length: usize,
}

/// What becomes of a stranger now.
enum Met {
    /// It has not said enough.
    Waits,
    Enters,
    /// It hears this, for this reason, and is hung up on.
    Hears(Vec<u8>, Dropped),
    Leaves,
}

impl Visit {
    fn of(counts: bool, ip: Option<IpAddr>, remote: impl FnOnce() -> Address) -> Self {
        let source = ip.map(Source::from);
        let counted = source.filter(|_| counts);
        Self { source: cookie_source(source, remote), counted, heard: [0; ENOUGH], length: 0 }
    }

    /// For what it says next.
    fn room(&mut self) -> &mut [u8] {
        self.heard.get_mut(self.length..).unwrap_or_default()
    }

    fn heard(&self) -> &[u8] {
        self.heard.get(..self.length).unwrap_or_default()
    }

    /// It has not come in, for this reason.
    fn is_over(&self, shared: &Shared, reason: Dropped) {
        over(shared, self.counted, reason);
    }

    /// So much was read into the room that there is.
    fn said(&mut self, shared: &Shared, read: io::Result<usize>) -> Met {
        match read {
            Ok(read) if read > 0 => self.length += read,
            _ => {
                self.is_over(shared, Dropped::DoorLost);
                return Met::Leaves;
            }
        }
        let knock = lock(&shared.door).knock(shared.clock.mono(), &self.source, self.heard());
        match knock {
            Knock::Wait => Met::Waits,
            Knock::Enter => {
                if let Some(source) = self.counted {
                    shared.vouch(source);
                }
                Met::Enters
            }
            // What it said has been read, so that nothing keeps the answer from arriving.
            Knock::Answer(word, turned) => {
                let reason = Dropped::from(turned);
                self.is_over(shared, reason);
                Met::Hears(word, reason)
            }
            Knock::Silence => {
                self.is_over(shared, Dropped::NotPeerage);
                Met::Leaves
            }
        }
    }
}

/// One of those at the door has not come in.
fn over(shared: &Shared, counted: Option<Source>, reason: Dropped) {
    shared.counters.dropped(reason, 1);
    if let Some(source) = counted {
        shared.met_stranger(source);
    }
}

fn turned_away(shared: &Shared, remote: impl FnOnce() -> Address, reason: Dropped) {
    tracing::debug!(remote = %shared.shown(remote()), reason = reason.label(), "turned a stranger away");
}

async fn wait(shared: &Arc<Shared>, mut connection: Connection, mut visit: Visit) {
    loop {
        let read = connection.stream.read(visit.room()).await;
        match visit.said(shared, read) {
            Met::Waits => {}
            Met::Hears(word, reason) => {
                turned_away(shared, || connection.remote.clone(), reason);
                // Who has gone needs no word.
                let _ = connection.stream.write_all(&word).await;
                return;
            }
            Met::Leaves => return,
            Met::Enters => {
                match enter(shared, &connection, &visit) {
                    Ok(seat) => begin(shared, connection, seat),
                    Err(Refused { busy: Some(busy), .. }) => {
                        let _ = tokio::time::timeout(LINGER, tell(connection.stream, busy)).await;
                    }
                    Err(_) => {}
                }
                return;
            }
        }
    }
}

/// A place for one who has shown its cookie.
fn enter(shared: &Shared, connection: &Connection, visit: &Visit) -> Result<Seat, Refused> {
    let remote = connection.remote.clone();
    let mut seat = shared.seat(Direction::Inbound, remote, connection.ip, Guest::WithCookie)?;
    seat.heard = visit.heard().to_vec();
    Ok(seat)
}

/// A task for one who has a place.
pub(crate) fn begin(shared: &Arc<Shared>, connection: Connection, seat: Seat) {
    let task = Arc::clone(shared);
    let newcomer = Box::new((connection, seat));
    shared.shards.spawn(async move {
        let driver = {
            let (connection, seat) = *newcomer;
            let suites = task.config.listen_suites.clone();
            Driver::new(task, connection, seat, suites, None, None)
        };
        Running::new(driver).until_end().await;
    });
}
