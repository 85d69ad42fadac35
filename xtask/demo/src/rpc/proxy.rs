//! A road between a client and its broker that can be cut.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Passes connections on, until it is dropped.
#[derive(Debug)]
pub(super) struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct State {
    /// Connections that are whole.
    live: watch::Sender<usize>,
    /// Connections that have ended.
    ended: watch::Sender<u64>,
    /// How often all were cut.
    cuts: watch::Sender<u64>,
}

impl Proxy {
    /// To this address, `tcp://127.0.0.1:PORT`.
    pub(super) async fn to(address: &str) -> Result<Self> {
        let to: SocketAddr = address.trim_start_matches("tcp://").parse().context("the broker's address")?;
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listening for a client")?;
        let address = listener.local_addr().context("listening for a client")?;
        let state = Arc::new(State {
            live: watch::Sender::new(0),
            ended: watch::Sender::new(0),
            cuts: watch::Sender::new(0),
        });
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((from, _)) = listener.accept().await {
                tokio::spawn(Arc::clone(&shared).pass(from, to));
            }
        });
        Ok(Self { address, state, task })
    }

    pub(super) fn address(&self) -> String {
        format!("tcp://{}", self.address)
    }

    /// Cuts the connection when it has been whole for so long, in the middle of whatever it carries then; waits for one, if
    /// there is none.
    pub(super) async fn cut(&self, age: Duration, within: Duration) -> Result<()> {
        let (mut live, mut ended) = (self.state.live.subscribe(), self.state.ended.subscribe());
        let cut = async {
            let before = loop {
                live.wait_for(|live| *live > 0).await?;
                let before = *ended.borrow_and_update();
                tokio::select! {
                    () = tokio::time::sleep(age) => break before,
                    // It has ended by itself, and does not count.
                    ended = ended.wait_for(|ended| *ended > before) => drop(ended?),
                }
            };
            self.state.cuts.send_modify(|cuts| *cuts += 1);
            ended.wait_for(|ended| *ended > before).await?;
            Ok::<_, watch::error::RecvError>(())
        };
        match tokio::time::timeout(within, cut).await {
            Ok(done) => done.context("cutting a connection"),
            Err(_) => bail!("waited {} s for a connection to cut", within.as_secs()),
        }
    }
}

impl State {
    async fn pass(self: Arc<Self>, mut from: TcpStream, to: SocketAddr) {
        let mut cuts = self.cuts.subscribe();
        // A broker that is not there: the client's connection ends, and it tries again.
        let Ok(mut onward) = TcpStream::connect(to).await else { return };
        // Small words are not to wait for each other here.
        let _ = (from.set_nodelay(true), onward.set_nodelay(true));
        self.live.send_modify(|live| *live += 1);
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut from, &mut onward) => {}
            _ = cuts.changed() => {}
        }
        // Closed before it counts as gone.
        drop((from, onward));
        self.live.send_modify(|live| *live -= 1);
        self.ended.send_modify(|ended| *ended += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}
