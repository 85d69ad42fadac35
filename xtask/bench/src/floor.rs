//! What the machine allows: tokio's TCP with nothing on it, and the same with bare sealed records of 64 KiB. Two threads,
//! each with a current-thread runtime, as endpoints have them.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use peerage_wire::limits::{MAX_RECORD, RECORD_LENGTH_LEN, TAG_LEN};
use ring::aead::{Aad, Algorithm, LessSafeKey, Nonce, UnboundKey};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The length before each message.
const LENGTH: usize = 4;
/// What raw TCP writes and reads at once.
const CHUNK: usize = 64 << 10;

/// What is on the TCP connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Floor {
    Raw,
    Sealed(&'static Algorithm),
}

/// A stream of messages under way.
pub(crate) struct Stream {
    received: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Stream {
    pub(crate) fn start(floor: Floor, size: usize) -> Result<Self> {
        let (received, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (count, stopped) = (Arc::clone(&received), Arc::clone(&stop));
        let reader = on_a_thread(async move {
            let (socket, _) = TcpListener::from_std(listener)?.accept().await?;
            socket.set_nodelay(true)?;
            match floor {
                Floor::Raw => drain(socket, size, &count).await,
                Floor::Sealed(suite) => open(socket, suite, &count).await,
            }
        });
        let writer = on_a_thread(async move {
            let socket = connect(address).await?;
            match floor {
                Floor::Raw => pour(socket, size, &stopped).await,
                Floor::Sealed(suite) => seal(socket, suite, size, &stopped).await,
            }
        });
        Ok(Self { received, stop, threads: vec![reader, writer] })
    }

    /// Messages that have arrived.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    pub(crate) fn stop(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().try_for_each(join)
    }
}

pub(crate) fn on_a_thread<T: Send + 'static>(
    task: impl Future<Output = Result<T>> + Send + 'static,
) -> JoinHandle<Result<T>> {
    std::thread::spawn(|| tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(task))
}

pub(crate) fn join<T>(thread: JoinHandle<Result<T>>) -> Result<T> {
    thread.join().map_err(|_| anyhow!("a thread of the floor panicked"))?
}

pub(crate) async fn connect(address: SocketAddr) -> Result<TcpStream> {
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

/// As many messages as fit into so many bytes, at least one, each with its length.
fn batch(size: usize, fit: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.is_empty() || bytes.len() + LENGTH + size <= fit {
        bytes.extend_from_slice(&(size as u32).to_be_bytes());
        bytes.resize(bytes.len() + size, b'x');
    }
    bytes
}

async fn pour(mut socket: TcpStream, size: usize, stop: &AtomicBool) -> Result<()> {
    let bytes = batch(size, CHUNK);
    while !stop.load(Ordering::Relaxed) {
        socket.write_all(&bytes).await?;
    }
    Ok(())
}

async fn drain(mut socket: TcpStream, size: usize, received: &AtomicU64) -> Result<()> {
    let (mut buffer, mut bytes) = (vec![0; CHUNK], 0_u64);
    loop {
        let read = socket.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        bytes += read as u64;
        received.store(bytes / (LENGTH + size) as u64, Ordering::Relaxed);
    }
}

pub(crate) fn key(suite: &'static Algorithm) -> Result<LessSafeKey> {
    UnboundKey::new(suite, &[7; 32]).map(LessSafeKey::new).map_err(|_| anyhow!("no such cipher"))
}

pub(crate) fn nonce(number: u64) -> Nonce {
    let mut nonce = [0; 12];
    if let Some(low) = nonce.get_mut(4..) {
        low.copy_from_slice(&number.to_le_bytes());
    }
    Nonce::assume_unique_for_key(nonce)
}

async fn seal(
    mut socket: TcpStream,
    suite: &'static Algorithm,
    size: usize,
    stop: &AtomicBool,
) -> Result<()> {
    let key = key(suite)?;
    let plain = batch(size, MAX_RECORD - TAG_LEN);
    let mut record = Vec::with_capacity(RECORD_LENGTH_LEN + MAX_RECORD);
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        record.clear();
        record.extend_from_slice(&((plain.len() + TAG_LEN) as u16).to_be_bytes());
        record.extend_from_slice(&plain);
        let place = record.get_mut(RECORD_LENGTH_LEN..).unwrap_or_default();
        let tag = key
            .seal_in_place_separate_tag(nonce(number), Aad::empty(), place)
            .map_err(|_| anyhow!("sealing failed"))?;
        record.extend_from_slice(tag.as_ref());
        socket.write_all(&record).await?;
    }
    Ok(())
}

async fn open(mut socket: TcpStream, suite: &'static Algorithm, received: &AtomicU64) -> Result<()> {
    let key = key(suite)?;
    let mut buffer = vec![0; 2 * (RECORD_LENGTH_LEN + MAX_RECORD)];
    let (mut filled, mut number, mut messages) = (0, 0, 0_u64);
    loop {
        let read = socket.read(buffer.get_mut(filled..).unwrap_or_default()).await?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        let mut used = 0;
        while let Some([high, low]) = buffer.get(used..filled).and_then(|rest| rest.first_chunk()) {
            let begin = used + RECORD_LENGTH_LEN;
            let end = begin + usize::from(u16::from_be_bytes([*high, *low]));
            if end > filled {
                break;
            }
            let record = buffer.get_mut(begin..end).unwrap_or_default();
            let mut plain: &[u8] = key
                .open_in_place(nonce(number), Aad::empty(), record)
                .map_err(|_| anyhow!("record {number} does not open"))?;
            while let Some((length, rest)) = plain.split_first_chunk::<LENGTH>() {
                plain = rest.get(u32::from_be_bytes(*length) as usize..).context("a message is cut")?;
                messages += 1;
            }
            number += 1;
            used = end;
        }
        received.store(messages, Ordering::Relaxed);
        buffer.copy_within(used..filled, 0);
        filled -= used;
    }
}

/// So many echoes over TCP alone; the time of each in nanoseconds.
pub(crate) fn echoes(size: usize, count: usize) -> Result<Vec<u64>> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let mirror = on_a_thread(async move {
        let (mut socket, _) = TcpListener::from_std(listener)?.accept().await?;
        socket.set_nodelay(true)?;
        let mut buffer = vec![0; size];
        while socket.read_exact(&mut buffer).await.is_ok() {
            socket.write_all(&buffer).await?;
        }
        Ok(())
    });
    let times = on_a_thread(async move {
        let mut socket = connect(address).await?;
        let mut buffer = vec![b'x'; size];
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            let began = Instant::now();
            socket.write_all(&buffer).await?;
            socket.read_exact(&mut buffer).await?;
            times.push(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX));
        }
        Ok(times)
    });
    let times = join(times)?;
    join(mirror)?;
    Ok(times)
}
