//! What the machine allows a broker: frames there and back over TCP, straight, through a task that passes bytes on, and
//! through one that opens and seals each record. Three threads with a current-thread runtime each; no handshake, no call
//! API: one loop that keeps so many frames under way.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use bytes::{Buf, BytesMut};
use peerage_wire::limits::{MAX_RECORD, RECORD_LENGTH_LEN, TAG_LEN};
use ring::aead::{Aad, Algorithm, LessSafeKey};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::cost;
use crate::echo::{self, Delay};
use crate::floor::{connect, join, key, nonce, on_a_thread};

/// Until buffers have found their sizes.
const WARM_UP: Duration = Duration::from_millis(200);
const WARM_UP_CALLS: usize = 2_000;
/// What is read at once.
const CHUNK: usize = 64 << 10;

/// What is between the ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    Direct,
    Relay,
    Sealed(&'static Algorithm),
}

/// One end of a connection, with what is on it.
struct End {
    socket: TcpStream,
    sealed: Option<Sealed>,
    /// Read, and not yet opened.
    input: BytesMut,
    output: Vec<u8>,
}

struct Sealed {
    key: LessSafeKey,
    opened: u64,
    sealed: u64,
}

impl End {
    fn new(socket: TcpStream, way: Way) -> Result<Self> {
        socket.set_nodelay(true)?;
        let sealed = match way {
            Way::Sealed(suite) => Some(Sealed { key: key(suite)?, opened: 0, sealed: 0 }),
            Way::Direct | Way::Relay => None,
        };
        Ok(Self { socket, sealed, input: BytesMut::with_capacity(2 * CHUNK), output: Vec::new() })
    }

    /// Appends what comes next; false at the end.
    async fn receive(&mut self, plain: &mut BytesMut) -> Result<bool> {
        loop {
            self.input.reserve(CHUNK);
            if self.socket.read_buf(&mut self.input).await? == 0 {
                return Ok(false);
            }
            let Some(sealed) = &mut self.sealed else {
                plain.extend_from_slice(&self.input);
                self.input.clear();
                return Ok(true);
            };
            let had = plain.len();
            while let Some(length) = self.input.first_chunk().map(|length| u16::from_be_bytes(*length)) {
                let end = RECORD_LENGTH_LEN + usize::from(length);
                let Some(record) = self.input.get_mut(RECORD_LENGTH_LEN..end) else { break };
                let opened = sealed.key.open_in_place(nonce(sealed.opened), Aad::empty(), record);
                plain.extend_from_slice(opened.map_err(|_| anyhow!("a record does not open"))?);
                sealed.opened += 1;
                self.input.advance(end);
            }
            if plain.len() > had {
                return Ok(true);
            }
        }
    }

    async fn send(&mut self, plain: &[u8]) -> Result<()> {
        let Some(sealed) = &mut self.sealed else {
            return Ok(self.socket.write_all(plain).await?);
        };
        self.output.clear();
        for piece in plain.chunks(MAX_RECORD - TAG_LEN) {
            self.output.extend_from_slice(&((piece.len() + TAG_LEN) as u16).to_be_bytes());
            let begin = self.output.len();
            self.output.extend_from_slice(piece);
            let place = self.output.get_mut(begin..).unwrap_or_default();
            let tag = sealed.key.seal_in_place_separate_tag(nonce(sealed.sealed), Aad::empty(), place);
            self.output.extend_from_slice(tag.map_err(|_| anyhow!("sealing failed"))?.as_ref());
            sealed.sealed += 1;
        }
        Ok(self.socket.write_all(&self.output).await?)
    }
}

fn listen() -> Result<(std::net::TcpListener, SocketAddr)> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Starts who answers, and who is between; gives where to connect, and their threads.
fn start(way: Way) -> Result<(SocketAddr, Vec<std::thread::JoinHandle<Result<()>>>)> {
    let (listener, address) = listen()?;
    let mut threads = vec![on_a_thread(async move {
        let (socket, _) = TcpListener::from_std(listener)?.accept().await?;
        let (mut end, mut plain) = (End::new(socket, way)?, BytesMut::new());
        while end.receive(&mut plain).await? {
            end.send(&plain).await?;
            plain.clear();
        }
        Ok(())
    })];
    if matches!(way, Way::Direct) {
        return Ok((address, threads));
    }
    let (between, front) = listen()?;
    threads.push(on_a_thread(async move {
        let (socket, _) = TcpListener::from_std(between)?.accept().await?;
        let (near, far) = (End::new(socket, way)?, End::new(connect(address).await?, way)?);
        relay(near, far).await
    }));
    Ok((front, threads))
}

/// Passes on what comes, either way, until both ends have no more.
async fn relay(mut near: End, mut far: End) -> Result<()> {
    let (mut there, mut back) = (BytesMut::new(), BytesMut::new());
    let mut near_goes_on = true;
    loop {
        tokio::select! {
            more = near.receive(&mut there), if near_goes_on => {
                near_goes_on = more?;
                if near_goes_on {
                    far.send(&there).await?;
                    there.clear();
                } else {
                    far.socket.shutdown().await?;
                }
            }
            more = far.receive(&mut back) => {
                if !more? {
                    return Ok(());
                }
                near.send(&back).await?;
                back.clear();
            }
        }
    }
}

/// So many frames under way at any time: how many a second, and microseconds of all threads for each.
pub(super) async fn flow(way: Way, size: usize, frames: usize, span: Duration) -> Result<(f64, f64)> {
    let (address, threads) = start(way)?;
    let (count, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let (counted, stopped) = (Arc::clone(&count), Arc::clone(&stop));
    let caller = on_a_thread(async move {
        let mut end = End::new(connect(address).await?, way)?;
        let (batch, mut plain) = (vec![b'x'; size * frames], BytesMut::new());
        end.send(&batch).await?;
        while !stopped.load(Ordering::Relaxed) && end.receive(&mut plain).await? {
            let back = plain.len() / size;
            plain.advance(back * size);
            counted.fetch_add(back as u64, Ordering::Relaxed);
            end.send(batch.get(..back * size).unwrap_or_default()).await?;
        }
        // What is under way comes back before the end.
        end.socket.shutdown().await?;
        while end.receive(&mut plain).await? {
            plain.clear();
        }
        Ok(())
    });
    tokio::time::sleep(WARM_UP).await;
    let (began, before, cpu) = (Instant::now(), count.load(Ordering::Relaxed), cost::cpu());
    tokio::time::sleep(span).await;
    let (span, count) = (began.elapsed(), (count.load(Ordering::Relaxed) - before) as f64);
    let cpu = cost::cpu().zip(cpu).map(|(after, before)| after.saturating_sub(before));
    stop.store(true, Ordering::Relaxed);
    join(caller)?;
    threads.into_iter().try_for_each(join)?;
    let cpu = cpu.context("there is no /proc to read the time from")?;
    Ok((count / span.as_secs_f64(), cpu.as_secs_f64() * 1e6 / count.max(1.0)))
}

/// One frame at a time.
pub(super) fn sequential(way: Way, size: usize, count: usize) -> Result<Delay> {
    let (address, threads) = start(way)?;
    let caller = on_a_thread(async move {
        let mut end = End::new(connect(address).await?, way)?;
        let (frame, mut plain) = (vec![b'x'; size], BytesMut::new());
        let mut times = Vec::with_capacity(WARM_UP_CALLS + count);
        for _ in 0..WARM_UP_CALLS + count {
            let began = Instant::now();
            end.send(&frame).await?;
            while plain.len() < size && end.receive(&mut plain).await? {}
            plain.clear();
            times.push(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX));
        }
        Ok(times)
    });
    let times = join(caller)?;
    threads.into_iter().try_for_each(join)?;
    Ok(echo::delay(times, WARM_UP_CALLS))
}
