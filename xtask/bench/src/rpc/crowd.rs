//! Ten thousand sessions that say nothing: what they take at the broker, and how long it takes until all are back when all
//! of them lose their links at once.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use peerage_identity::Identity;
use peerage_net::TcpTransport;
use peerage_net::transport::{BoxFuture, Connection, Listener, Stream, Transport};
use peerage_rpc::{Client, Standing};
use peerage_wire::{Address, PeerId, Suite};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::part::{Orders, Part, Role, word};
use super::roles::on_one_thread;
use crate::cost;
use crate::figure::Figures;

/// How many the goals speak of.
pub(crate) const SESSIONS: usize = 10_000;
/// Who connect at the same time, at first.
const AT_ONCE: usize = 64;
/// After the last handshake, for buffers to be given back.
const SETTLE: Duration = Duration::from_secs(1);
/// Far longer than it takes until all are back.
const PATIENCE: Duration = Duration::from_secs(120);

/// Measures both.
pub(super) fn measure(suite: Suite, sessions: usize, figures: &mut Figures) -> Result<()> {
    eprintln!("{sessions} sessions");
    let count = sessions.to_string();
    let mut broker = Part::start(Role::Broker, suite, &[])?;
    let mut crowd = Part::start(Role::Crowd, suite, &["--count", &count])?;
    for _ in 0..sessions {
        broker.tell(&format!("user {}", crowd.hear()?.concat()))?;
    }
    broker.tell("start")?;
    let place = broker.hear()?.join(" ");
    let before = cost::resident_of(broker.id()).context("there is no /proc to read the memory from")?;
    eprintln!("{sessions} sessions: connecting");
    crowd.tell(&place)?;
    let said = crowd.hear()?;
    ensure!(said == ["ready"], "the crowd said {said:?}");
    std::thread::sleep(SETTLE);
    let after = cost::resident_of(broker.id()).context("there is no /proc to read the memory from")?;
    figures.add("idle_sessions_rss", "MiB", after.saturating_sub(before) as f64 / f64::from(1 << 20));
    eprintln!("{sessions} sessions: cut, and resumed");
    let [seconds] = crowd.ask("cut")?;
    figures.add("resume_storm", "s", seconds);
    Ok(())
}

/// The process of the parties, a client with an endpoint each: says who they are, takes where to connect, and at `cut` cuts
/// all their connections and says after how many seconds all sessions have a link again.
pub(super) async fn crowd(suite: Suite, count: usize, mut orders: Orders) -> Result<()> {
    let mut identities = Vec::with_capacity(count);
    for _ in 0..count {
        let identity = Identity::generate().context("no entropy for an identity")?;
        println!("{}", identity.peer_id());
        identities.push(identity);
    }
    let Some(words) = orders.next().await else { return Ok(()) };
    let (broker, address): (PeerId, Address) = (word(&words, 0)?, word(&words, 1)?);
    let scissors = Arc::new(Scissors::default());
    let room = Arc::new(tokio::sync::Semaphore::new(AT_ONCE));
    let mut tasks = tokio::task::JoinSet::new();
    for identity in identities {
        let builder = Client::builder().identity(identity).with_endpoint(on_one_thread(suite));
        let transport: Arc<dyn Transport> = Arc::clone(&scissors) as Arc<dyn Transport>;
        let builder = builder.with_endpoint(|builder| builder.transport(transport));
        let builder = builder.broker(broker, vec![address.clone()]);
        let room = Arc::clone(&room);
        tasks.spawn(async move {
            let place = room.acquire_owned().await;
            let client = builder.connect().await;
            drop(place);
            client
        });
    }
    let mut clients = Vec::with_capacity(count);
    while let Some(client) = tasks.join_next().await {
        clients.push(client??);
    }
    println!("ready");
    while let Some(words) = orders.next().await {
        ensure!(words == ["cut"], "a crowd does not know {words:?}");
        let seconds = storm(&clients, &scissors).await?;
        println!("{seconds}");
    }
    Ok(())
}

async fn storm(clients: &[Client], scissors: &Scissors) -> Result<f64> {
    let mut watches: Vec<_> = clients.iter().map(|client| client.standing()).collect();
    let session = |standing: &Standing| match standing {
        Standing::Connected { session, .. } => Some(*session),
        _ => None,
    };
    let before: Vec<_> = watches.iter_mut().map(|watch| session(&watch.borrow_and_update())).collect();
    let began = Instant::now();
    scissors.cut();
    for (watch, before) in watches.iter_mut().zip(before) {
        // The first change is that the link is lost.
        tokio::time::timeout(PATIENCE, watch.changed()).await.context("a link is not lost")??;
        let is_back = watch.wait_for(|standing| session(standing).is_some());
        let standing = tokio::time::timeout(PATIENCE, is_back).await.context("a session is not back")??;
        if session(&standing) != before {
            bail!("a session was lost: {:?}", *standing);
        }
    }
    Ok(began.elapsed().as_secs_f64())
}

/// TCP whose connections can all be cut at once, as when a network goes away.
#[derive(Default)]
struct Scissors(Mutex<Vec<Arc<Thread>>>);

/// One connection's.
#[derive(Default)]
struct Thread(Mutex<Cut>);

#[derive(Default)]
struct Cut {
    is_cut: bool,
    reader: Option<Waker>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Scissors {
    fn cut(&self) {
        for thread in std::mem::take(&mut *lock(&self.0)) {
            let mut cut = lock(&thread.0);
            cut.is_cut = true;
            if let Some(reader) = cut.reader.take() {
                reader.wake();
            }
        }
    }
}

impl Transport for Scissors {
    fn scheme(&self) -> &'static str {
        "tcp"
    }

    fn dial<'a>(&'a self, to: &'a Address) -> BoxFuture<'a, io::Result<Connection>> {
        Box::pin(async move {
            let Connection { stream, remote, ip } = TcpTransport.dial(to).await?;
            let thread = Arc::new(Thread::default());
            lock(&self.0).push(Arc::clone(&thread));
            Ok(Connection { stream: Box::new(Cuttable { stream, thread }), remote, ip })
        })
    }

    fn listen<'a>(&'a self, at: &'a Address) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        TcpTransport.listen(at)
    }
}

struct Cuttable {
    stream: Box<dyn Stream>,
    thread: Arc<Thread>,
}

impl Cuttable {
    fn check(&self, cx: &TaskContext<'_>) -> io::Result<()> {
        let mut cut = lock(&self.thread.0);
        if cut.is_cut {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if !cut.reader.as_ref().is_some_and(|reader| reader.will_wake(cx.waker())) {
            cut.reader = Some(cx.waker().clone());
        }
        Ok(())
    }
}

impl AsyncRead for Cuttable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl AsyncWrite for Cuttable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
