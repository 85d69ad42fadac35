//! The least of protocols: bytes from one end to the other, or there and back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant as WallInstant;

use anyhow::{Context, Result};
use bytes::{Bytes, BytesMut};
use peerage_identity::Identity;
use peerage_machine::{
    CallId, Class, Effect, Input, InstanceName, Instant, LinkId, Machine, Malformed, Message, Now, OutboxOf,
};
use peerage_net::{Config, Endpoint, Hosted, InstanceSpec, OnReturn, Sink};

/// Bytes, as they are.
#[derive(Clone, Debug)]
pub(crate) struct Blob(pub(crate) Bytes);

impl Message for Blob {
    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn encode(&self, into: &mut BytesMut) {
        into.extend_from_slice(&self.0);
    }

    fn to_bytes(&self) -> Bytes {
        self.0.clone()
    }

    fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        Ok(Self(bytes))
    }
}

/// What the ends of a pipe share with whoever measures.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    pub(crate) received: AtomicU64,
    pub(crate) stop: AtomicBool,
}

/// What an end does with what it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Sends as much as there is room for.
    Source,
    /// The same, as bulk.
    Bulk,
    /// Counts.
    Drain,
    /// Sends it back.
    Mirror,
    /// Sends one, and the next when it is back; tells each time.
    Pinger,
}

/// One end.
#[derive(Debug)]
pub(crate) struct Pipe {
    role: Role,
    body: Bytes,
    link: Option<LinkId>,
    /// Room on the link, in bytes.
    room: u64,
    meter: Arc<Meter>,
}

impl Pipe {
    fn pour(&mut self, out: &mut OutboxOf<Self>) {
        let size = self.body.len() as u64;
        let Some(link) = self.link else { return };
        if self.meter.stop.load(Ordering::Relaxed) {
            return;
        }
        while self.room >= size {
            self.room -= size;
            match self.role {
                Role::Bulk => out.push(Effect::Send {
                    to: vec![link],
                    message: Blob(self.body.clone()),
                    class: Class::Bulk,
                    id: None,
                }),
                _ => out.send(link, Blob(self.body.clone())),
            }
        }
    }

    /// Begins, now or when there is a link.
    pub(crate) fn start(&mut self, body: Bytes, out: &mut OutboxOf<Self>) {
        self.body = body;
        self.begin(out);
    }

    fn begin(&mut self, out: &mut OutboxOf<Self>) {
        match (self.role, self.link) {
            _ if self.body.is_empty() => {}
            (Role::Source | Role::Bulk, _) => self.pour(out),
            (Role::Pinger, Some(link)) => out.send(link, Blob(self.body.clone())),
            _ => {}
        }
    }
}

impl Machine for Pipe {
    type Message = Blob;
    type Event = ();
    type Answer = ();

    fn on_input(&mut self, _: Now, input: Input<Blob>, out: &mut OutboxOf<Self>) {
        match input {
            Input::Up { link, info } => {
                self.link = Some(link);
                self.room = info.credit;
                self.begin(out);
            }
            Input::Down { .. } => self.link = None,
            Input::Credit { bytes, .. } => {
                self.room += bytes;
                if matches!(self.role, Role::Source | Role::Bulk) && !self.body.is_empty() {
                    self.pour(out);
                }
            }
            Input::Message { link, message } => match self.role {
                Role::Drain => {
                    self.meter.received.fetch_add(1, Ordering::Relaxed);
                }
                Role::Mirror => out.send(link, message),
                Role::Pinger => {
                    out.emit(());
                    if !self.meter.stop.load(Ordering::Relaxed) {
                        out.send(link, message);
                    }
                }
                Role::Source | Role::Bulk => {}
            },
            _ => {}
        }
    }

    fn on_timer(&mut self, _: Now, _: &mut OutboxOf<Self>) {}

    fn deadline(&self) -> Option<Instant> {
        None
    }
}

/// Times from one echo to the next, in nanoseconds. Handed over once there are enough: whoever waits for them is not
/// woken before.
pub(crate) struct Times {
    last: WallInstant,
    times: Vec<u64>,
    enough: usize,
    into: std::sync::mpsc::Sender<Vec<u64>>,
}

impl Sink<Pipe> for Times {
    fn event(&mut self, (): ()) {
        let now = WallInstant::now();
        self.times.push(u64::try_from(now.duration_since(self.last).as_nanos()).unwrap_or(u64::MAX));
        self.last = now;
        if self.times.len() == self.enough {
            // Whoever measured may be done.
            let _ = self.into.send(std::mem::take(&mut self.times));
        }
    }

    fn answer(&mut self, _: CallId, (): ()) {}

    fn closed(&mut self) {}
}

/// Two endpoints with a link over TCP on loopback, and a pipe on it.
pub(crate) struct Pair {
    pub(crate) near: Hosted<Pipe>,
    far: Hosted<Pipe>,
    pub(crate) meter: Arc<Meter>,
    pub(crate) times: std::sync::mpsc::Receiver<Vec<u64>>,
}

impl Pair {
    /// The near end tells the times of `echoes` echoes together.
    pub(crate) async fn new(config: &Config, near: Role, far: Role, echoes: usize) -> Result<Self> {
        let meter = Arc::new(Meter::default());
        let (into, times) = std::sync::mpsc::channel();
        let (far_end, near_end) = (endpoint(config, true).await?, endpoint(config, false).await?);
        let far = host(&far_end, "bench", far, &meter, echoes, &into)?;
        let near = host(&near_end, "bench", near, &meter, echoes, &into)?;
        let address = far_end.addresses().first().cloned().context("the far end listens nowhere")?;
        near_end.connect(&address).await?;
        Ok(Self { near, far, meter, times })
    }

    /// One more pipe on the same link, which sends messages of so many bytes as bulk to one that counts them, until its
    /// meter says stop.
    pub(crate) fn bulk(&self, size: usize) -> Result<Arc<Meter>> {
        let meter = Arc::new(Meter::default());
        let (into, _) = std::sync::mpsc::channel();
        host(self.far.endpoint(), "bulk", Role::Drain, &meter, 0, &into)?;
        let near = host(self.near.endpoint(), "bulk", Role::Bulk, &meter, 0, &into)?;
        near.call(|pipe, _, out| pipe.start(Bytes::from(vec![b'x'; size]), out))?;
        Ok(meter)
    }

    pub(crate) fn start(&self, size: usize) -> Result<()> {
        self.near.call(|pipe, _, out| pipe.start(Bytes::from(vec![b'x'; size]), out))?;
        Ok(())
    }

    pub(crate) async fn close(self) {
        self.meter.stop.store(true, Ordering::Relaxed);
        self.near.endpoint().close().await;
        self.far.endpoint().close().await;
    }
}

fn host(
    endpoint: &Endpoint,
    name: &str,
    role: Role,
    meter: &Arc<Meter>,
    echoes: usize,
    into: &std::sync::mpsc::Sender<Vec<u64>>,
) -> Result<Hosted<Pipe>> {
    let spec = InstanceSpec {
        name: InstanceName { protocol: "pipe".to_owned(), name: name.to_owned() },
        version: 1,
        parameters: Bytes::new(),
        on_return: OnReturn::default(),
    };
    let machine = Pipe { role, body: Bytes::new(), link: None, room: 0, meter: Arc::clone(meter) };
    let times = Vec::with_capacity(echoes);
    let sink = Times { last: WallInstant::now(), times, enough: echoes, into: into.clone() };
    Ok(endpoint.host(spec, |_| machine, sink)?)
}

/// An endpoint of its own, listening or not.
pub(crate) async fn endpoint(config: &Config, listens: bool) -> Result<Endpoint> {
    let identity = Identity::generate().context("no entropy for an identity")?;
    let mut builder = Endpoint::builder().identity(identity).config(config.clone());
    if listens {
        builder = builder.listen("tcp://127.0.0.1:0".parse()?);
    }
    Ok(builder.bind().await?)
}
