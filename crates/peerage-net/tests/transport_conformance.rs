//! What each transport promises, asked of each.

#![expect(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it should be")]

mod common;

use std::future::poll_fn;
use std::io::ErrorKind;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::within;
use peerage_net::transport::{Connection, Listener, MemoryTransport, Stream, TcpTransport, Transport};
use peerage_wire::Address;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

type Pipe = Box<dyn Stream>;

async fn listen(over: &dyn Transport, at: &Address) -> Box<dyn Listener> {
    within("the listener", over.listen(at)).await.unwrap()
}

async fn connect(over: &dyn Transport, listener: &mut dyn Listener) -> (Pipe, Pipe) {
    let to = listener.address();
    let (dialled, accepted) = tokio::join!(over.dial(&to), listener.accept());
    let (dialled, accepted): (Connection, Connection) = (dialled.unwrap(), accepted.unwrap());
    assert_eq!(dialled.remote, to);
    (dialled.stream, accepted.stream)
}

async fn pair(over: &dyn Transport, at: &Address) -> (Pipe, Pipe) {
    let mut listener = listen(over, at).await;
    connect(over, listener.as_mut()).await
}

async fn bytes_go_in_both_directions(over: &dyn Transport, at: Address) {
    let (mut a, mut b) = pair(over, &at).await;
    for round in 0..3_u8 {
        a.write_all(&[round; 1000]).await.unwrap();
        b.write_all(&[round + 100; 500]).await.unwrap();
        let (mut at_b, mut at_a) = ([0; 1000], [0; 500]);
        within("bytes", b.read_exact(&mut at_b)).await.unwrap();
        within("bytes", a.read_exact(&mut at_a)).await.unwrap();
        assert_eq!((at_b, at_a), ([round; 1000], [round + 100; 500]));
    }
}

async fn one_half_can_end_before_the_other(over: &dyn Transport, at: Address) {
    let (mut a, mut b) = pair(over, &at).await;
    a.write_all(b"last words").await.unwrap();
    a.shutdown().await.unwrap();
    let mut heard = Vec::new();
    within("the end of one half", b.read_to_end(&mut heard)).await.unwrap();
    assert_eq!(heard, b"last words");
    b.write_all(b"an answer").await.unwrap();
    drop(b);
    heard.clear();
    within("the end of the other half", a.read_to_end(&mut heard)).await.unwrap();
    assert_eq!(heard, b"an answer");
}

async fn a_dropped_connection_ends_at_the_other_end(over: &dyn Transport, at: Address) {
    let (a, mut b) = pair(over, &at).await;
    drop(a);
    let mut rest = Vec::new();
    // The end of the bytes or an error: both say it.
    let _ = within("the end", b.read_to_end(&mut rest)).await;
    assert!(rest.is_empty());
    within("an error of writing", async { while b.write_all(&[0; 4096]).await.is_ok() {} }).await;
}

async fn a_dial_to_nobody_is_refused(over: &dyn Transport, at: Address) {
    let nobody = listen(over, &at).await.address();
    let error = within("the refusal", over.dial(&nobody)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
}

async fn a_slow_reader_holds_the_writer_up_and_loses_nothing(over: &dyn Transport, at: Address) {
    const TOTAL: usize = 32 << 20;
    let (mut a, mut b) = pair(over, &at).await;
    let written = Arc::new(AtomicUsize::new(0));
    let progress = Arc::clone(&written);
    let writer = tokio::spawn(async move {
        let mut sent = 0;
        while sent < TOTAL {
            // A pattern that does not repeat with any power of two.
            let chunk: Vec<u8> = (sent..(sent + 50_000).min(TOTAL)).map(|at| (at % 251) as u8).collect();
            a.write_all(&chunk).await.unwrap();
            sent += chunk.len();
            progress.store(sent, Ordering::Relaxed);
        }
        a.shutdown().await.unwrap();
    });
    // Until it stands still, while nobody reads.
    let (mut before, mut still) = (0, 0);
    while still < 2000 {
        tokio::task::yield_now().await;
        let now = written.load(Ordering::Relaxed);
        still = if now == before { still + 1 } else { 0 };
        before = now;
    }
    assert!(before < TOTAL, "the writer was not held up");
    let mut read = 0;
    let mut buffer = vec![0; 100_000];
    within("all bytes", async {
        loop {
            let count = b.read(&mut buffer).await.unwrap();
            if count == 0 {
                break;
            }
            let whole = buffer.iter().take(count).zip(read..).all(|(byte, at)| *byte == (at % 251) as u8);
            assert!(whole, "bytes changed after {read}");
            read += count;
        }
    })
    .await;
    assert_eq!(read, TOTAL);
    writer.await.unwrap();
}

async fn single_bytes_arrive(over: &dyn Transport, at: Address) {
    let (mut a, mut b) = pair(over, &at).await;
    let reader = tokio::spawn(async move {
        let mut heard = Vec::new();
        b.read_to_end(&mut heard).await.unwrap();
        heard
    });
    for byte in 0..2000_u32 {
        let written = poll_fn(|cx| Pin::new(&mut a).poll_write(cx, &[byte as u8])).await.unwrap();
        assert_eq!(written, 1);
    }
    a.shutdown().await.unwrap();
    let heard = within("the bytes", reader).await.unwrap();
    assert_eq!(heard, (0..2000_u32).map(|byte| byte as u8).collect::<Vec<_>>());
}

async fn two_hundred_connections_stay_apart(over: &dyn Transport, at: Address) {
    let mut listener = listen(over, &at).await;
    let mut pairs = Vec::new();
    for number in 0..200_u32 {
        let (mut a, b) = connect(over, listener.as_mut()).await;
        a.write_all(&number.to_be_bytes()).await.unwrap();
        pairs.push((a, b, number));
    }
    for (mut a, mut b, number) in pairs.into_iter().rev() {
        assert_eq!(within("a number", b.read_u32()).await.unwrap(), number);
        b.write_u32(!number).await.unwrap();
        assert_eq!(within("a number", a.read_u32()).await.unwrap(), !number);
    }
}

async fn a_dropped_listener_frees_its_address_at_once(over: &dyn Transport, at: Address) {
    let mut listener = listen(over, &at).await;
    let address = listener.address();
    let connection = connect(over, listener.as_mut()).await;
    drop(listener);
    let mut again = listen(over, &address).await;
    assert_eq!(again.address(), address);
    drop(connection);
    let (mut a, mut b) = connect(over, again.as_mut()).await;
    a.write_all(b"new").await.unwrap();
    let mut heard = [0; 3];
    within("bytes", b.read_exact(&mut heard)).await.unwrap();
    assert_eq!(&heard, b"new");
}

async fn a_taken_address_is_refused(over: &dyn Transport, at: Address) {
    let listener = listen(over, &at).await;
    let error = within("the refusal", over.listen(&listener.address())).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::AddrInUse, "{error}");
}

macro_rules! conform {
    ($($name:ident)*) => {
        mod tcp {
            $(#[tokio::test]
            async fn $name() {
                super::$name(&super::TcpTransport, "tcp://127.0.0.1:0".parse().unwrap()).await;
            })*
        }
        mod memory {
            $(#[tokio::test]
            async fn $name() {
                super::$name(&super::MemoryTransport::new(), "mem://here".parse().unwrap()).await;
            })*
        }
    };
}

conform! {
    bytes_go_in_both_directions
    one_half_can_end_before_the_other
    a_dropped_connection_ends_at_the_other_end
    a_dial_to_nobody_is_refused
    a_slow_reader_holds_the_writer_up_and_loses_nothing
    single_bytes_arrive
    two_hundred_connections_stay_apart
    a_dropped_listener_frees_its_address_at_once
    a_taken_address_is_refused
}
