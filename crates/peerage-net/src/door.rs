//! Strangers who are not in yet: of whom a cookie is asked, or who hear that there is no room.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use peerage_link::Knock;
use peerage_machine::Direction;
use peerage_wire::preface::{Busy, Notice};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::{AbortHandle, JoinSet};

use crate::driver;
use crate::dropped::Dropped;
use crate::hub::{Guest, Refused, Shared};
use crate::scratch::lock;
use crate::source::{Source, cookie_source};
use crate::transport::{Connection, Stream};

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
    waiting: VecDeque<AbortHandle>,
}

impl AtTheDoor {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, tasks: JoinSet::new(), waiting: VecDeque::new() }
    }

    /// One who needs a cookie.
    pub(crate) fn receive(&mut self, connection: Connection) {
        let shared = Arc::clone(&self.shared);
        self.spawn(async move {
            let after = shared.link_config.handshake_timeout;
            if tokio::time::timeout(after, receive(&shared, connection)).await.is_err() {
                shared.counters.dropped(Dropped::DoorTimedOut, 1);
            }
        });
    }

    /// One for whom there is no room.
    pub(crate) fn turn_away(&mut self, connection: Connection, refused: Refused) {
        let Some(busy) = refused.busy else { return };
        self.spawn(async move {
            // Told or not, it has had its time.
            let _ = tokio::time::timeout(LINGER, tell(connection.stream, busy)).await;
        });
    }

    fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        while self.tasks.try_join_next().is_some() {}
        let most = self.shared.config.max_at_door.max(1);
        while self.tasks.len() >= most {
            let Some(oldest) = self.waiting.pop_front() else { break };
            if !oldest.is_finished() {
                self.shared.counters.dropped(Dropped::Door, 1);
                oldest.abort();
                break;
            }
        }
        if self.waiting.len() >= 2 * most {
            self.waiting.retain(|waiting| !waiting.is_finished());
        }
        self.waiting.push_back(self.tasks.spawn(self.shared.shards.counted(task)));
    }
}

/// Says that there is no room, and waits for the other end to hang up.
async fn tell(mut stream: Box<dyn Stream>, busy: Busy) -> std::io::Result<()> {
    stream.write_all(&Notice::Busy(busy).encode()).await?;
    stream.shutdown().await?;
    let mut rest = [0; ENOUGH];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

async fn receive(shared: &Arc<Shared>, mut connection: Connection) {
    let source = cookie_source(connection.ip.map(Source::from), &connection.remote);
    let mut heard = [0; ENOUGH];
    let mut length = 0;
    loop {
        let read = connection.stream.read(heard.get_mut(length..).unwrap_or_default()).await;
        length += match read {
            Ok(read) if read > 0 => read,
            _ => return shared.counters.dropped(Dropped::DoorLost, 1),
        };
        let heard = heard.get(..length).unwrap_or_default();
        let now = shared.clock.mono();
        let knock = lock(&shared.door).knock(now, &source, heard);
        match knock {
            Knock::Wait => {}
            Knock::Enter => return enter(shared, connection, heard).await,
            Knock::Answer(word, turned) => {
                shared.counters.dropped(Dropped::from(turned), 1);
                let remote = shared.shown(&connection.remote);
                tracing::debug!(%remote, reason = ?turned, "turned a stranger away");
                // What it said has been read, so that nothing keeps the answer from arriving.
                let _ = connection.stream.write_all(&word).await;
                return;
            }
            Knock::Silence => return shared.counters.dropped(Dropped::NotPeerage, 1),
        }
    }
}

async fn enter(shared: &Arc<Shared>, connection: Connection, heard: &[u8]) {
    match shared.seat(Direction::Inbound, connection.remote.clone(), connection.ip, Guest::WithCookie) {
        Ok(mut seat) => {
            seat.heard = heard.to_vec();
            let task = Arc::clone(shared);
            let suites = shared.config.listen_suites.clone();
            shared.shards.spawn(async move {
                driver::run(task, connection, seat, suites, None, None).await;
            });
        }
        Err(Refused { busy: Some(busy), .. }) => {
            let _ = tokio::time::timeout(LINGER, tell(connection.stream, busy)).await;
        }
        Err(_) => {}
    }
}
