//! Accepts strangers, within limits.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use peerage_machine::Direction;

use crate::door::AtTheDoor;
use crate::driver;
use crate::dropped::Dropped;
use crate::hub::{Guest, Shared};
use crate::transport::Listener;

/// After an error of `accept`, such as no file descriptors left: time for some to come free.
const PAUSE: Duration = Duration::from_millis(50);

/// Accepts until it is aborted.
pub(crate) async fn accept(shared: Arc<Shared>, mut listener: Box<dyn Listener>) {
    let mut door = AtTheDoor::new(Arc::clone(&shared));
    loop {
        match listener.accept().await {
            Ok(connection) => {
                shared.counters.accepted.add(1);
                if !shared.lets_strangers_in() {
                    door.receive(connection);
                    continue;
                }
                let remote = connection.remote.clone();
                match shared.seat(Direction::Inbound, remote, connection.ip, Guest::Stranger) {
                    Ok(seat) => {
                        let task = Arc::clone(&shared);
                        shared.shards.spawn(async move {
                            let suites = task.config.listen_suites.clone();
                            driver::run(task, connection, seat, suites, None, None).await;
                        });
                    }
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
            Err(error) => {
                shared.counters.dropped(Dropped::Accept, 1);
                if !is_of_one_connection(&error) {
                    tracing::warn!(address = %shared.shown(listener.address()), %error, "cannot accept connections; trying again");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

/// Whether only this stranger is gone. Who waits after that lets strangers keep others out, one reset each.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, NotConnected};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | NotConnected)
}
