//! Accepts strangers, within limits.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use peerage_machine::Direction;

use crate::door::{self, AtTheDoor};
use crate::dropped::Dropped;
use crate::hub::{Guest, Shared};
use crate::shed::KeptOut;
use crate::transport::{Arrival, Listener};

/// After an error of `accept`, such as no file descriptors left: time for some to come free.
const PAUSE: Duration = Duration::from_millis(50);
/// Strangers in a row before other tasks of the shard have their turn: 0.5 ms in a flood.
const TURN: usize = 64;
/// Turns before those of them who said nothing are asked again.
const TURNS: usize = 8;

/// How long strangers have for their first word before they are waited for one by one. Those who come meanwhile are
/// accepted together, so that in a flood nobody is woken for each.
const BREATH: Duration = Duration::from_millis(1);

/// Accepts until it is aborted.
pub(crate) async fn accept(shared: Arc<Shared>, mut listener: Box<dyn Listener>) {
    let mut door = AtTheDoor::new(Arc::clone(&shared));
    let mut kept_out = KeptOut::new(&shared, &mut *listener);
    loop {
        // Made before the look, so that nobody's release is missed in between.
        let released = shared.released.notified();
        let due = kept_out.update(&shared, &mut *listener);
        door.counts = kept_out.works();
        let mut next = if door.listens() {
            tokio::time::sleep(BREATH).await;
            door.ask_again();
            listener.try_arrive()
        } else if let Some(due) = due {
            tokio::select! {
                arrived = listener.arrive() => Some(arrived),
                () = tokio::time::sleep_until(due) => None,
                () = released => None,
            }
        } else {
            Some(listener.arrive().await)
        };
        let mut seen = 0;
        while let Some(arrived) = next {
            match arrived {
                Ok(arrival) => admit(&shared, &mut door, arrival),
                Err(error) if is_of_one_connection(&error) => shared.counters.dropped(Dropped::Accept, 1),
                Err(error) => {
                    shared.counters.dropped(Dropped::Accept, 1);
                    tracing::warn!(address = %shared.shown(listener.address()), %error, "cannot accept connections; trying again");
                    tokio::time::sleep(PAUSE).await;
                    // Those who came in this turn have sockets, and must not wait for others to come free.
                    break;
                }
            }
            seen += 1;
            if seen % TURN == 0 {
                // The sooner somebody is kept out, the fewer have come.
                if seen == TURNS * TURN || kept_out.is_stale(&shared) {
                    break;
                }
                tokio::task::yield_now().await;
            }
            next = listener.try_arrive();
        }
    }
}

/// Lets a stranger in, or has it wait at the door, or turns it away.
fn admit(shared: &Arc<Shared>, door: &mut AtTheDoor, arrival: Arrival) {
    shared.counters.accepted.add(1);
    if !shared.lets_strangers_in() {
        return door.receive(arrival);
    }
    let connection = match arrival.connect() {
        Ok(connection) => connection,
        // Systems have different words for a stranger who has hung up by now; there is a socket, and only it is gone.
        Err(error) => {
            shared.counters.dropped(Dropped::Accept, 1);
            tracing::debug!(%error, "lost a stranger who had just come");
            return;
        }
    };
    match shared.seat(Direction::Inbound, connection.remote.clone(), connection.ip, Guest::Stranger) {
        Ok(seat) => door::begin(shared, connection, seat),
        // A stranger over a limit costs a socket for a moment, and no key operation.
        Err(refused) => {
            tracing::debug!(
                remote = %shared.shown(&connection.remote),
                why = shared.shown_why(&refused.why),
                "turned a stranger away"
            );
            door.turn_away(connection, refused);
        }
    }
}

/// Whether only this stranger is gone. Who waits after that lets strangers keep others out, one reset each.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, NotConnected};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | NotConnected)
}
