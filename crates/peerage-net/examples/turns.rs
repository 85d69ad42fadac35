//! What a turn of a hosted machine costs, beside what it would cost to hand the same work to a task of the machine's
//! own: the figures of `docs/adr/0001-machines-behind-a-lock.md`.
//!
//! `cargo run --release -p peerage-net --example turns`

use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use peerage_identity::Identity;
use peerage_machine::{CallId, Input, InstanceName, Machine, Malformed, Message, Now, OutboxOf};
use peerage_net::{Endpoint, InstanceSpec, OnReturn, Sink};
use tokio::sync::{mpsc, oneshot};

#[derive(Clone, Debug)]
struct Nothing;

impl Message for Nothing {
    fn encoded_len(&self) -> usize {
        0
    }

    fn encode(&self, _: &mut BytesMut) {}

    fn decode(_: Bytes) -> Result<Self, Malformed> {
        Ok(Self)
    }
}

/// Counts, and does nothing else.
struct Counter(u64);

impl Machine for Counter {
    type Message = Nothing;
    type Event = ();
    type Answer = ();

    fn on_input(&mut self, _: Now, _: Input<Nothing>, _: &mut OutboxOf<Self>) {}

    fn on_timer(&mut self, _: Now, _: &mut OutboxOf<Self>) {}

    fn deadline(&self) -> Option<peerage_machine::Instant> {
        None
    }
}

struct Deaf;

impl Sink<Counter> for Deaf {
    fn event(&mut self, (): ()) {}

    fn answer(&mut self, _: CallId, (): ()) {}

    fn closed(&mut self) {}
}

type Question = oneshot::Sender<u64>;

/// A machine as a task: a question in, an answer out.
async fn serve(mut questions: mpsc::Receiver<Question>) {
    let mut count = 0;
    while let Some(answer) = questions.recv().await {
        count += 1;
        // Whoever asked may be gone.
        let _ = answer.send(black_box(count));
    }
}

async fn ask(service: &mpsc::Sender<Question>, times: u32) -> Result<Duration, Box<dyn Error>> {
    let began = Instant::now();
    for _ in 0..times {
        let (answer, answered) = oneshot::channel();
        service.send(answer).await?;
        black_box(answered.await?);
    }
    Ok(began.elapsed() / times)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    const CALLS: u32 = 1_000_000;
    const HOPS: u32 = 100_000;

    let endpoint = Endpoint::builder().identity(Identity::generate()?).bind().await?;
    let spec = InstanceSpec {
        name: InstanceName { protocol: "counter".to_owned(), name: String::new() },
        version: 1,
        parameters: Bytes::new(),
        on_return: OnReturn::default(),
    };
    let hosted = endpoint.host(spec, |_| Counter(0), Deaf)?;
    let call = || {
        hosted.call(|machine, now, _| {
            machine.0 += 1;
            black_box(now);
        })
    };
    let timed = |times: u32| -> Result<Duration, Box<dyn Error>> {
        let began = Instant::now();
        for _ in 0..times {
            call()?;
        }
        Ok(began.elapsed() / times)
    };
    println!("a call, alone:                          {:>8?}", timed(CALLS)?);
    let contended = std::thread::scope(|scope| {
        let others = scope.spawn(|| (0..CALLS).try_for_each(|_| call()));
        let own = timed(CALLS).map_err(|error| error.to_string());
        others.join().map_err(|_| "a thread failed".to_owned())?.map_err(|error| error.to_string())?;
        own
    })?;
    println!("a call, while another thread calls too: {contended:>8?}");

    let (here, questions) = mpsc::channel(64);
    tokio::spawn(serve(questions));
    println!("a question to a task of this thread:    {:>8?}", ask(&here, HOPS).await?);

    let (there, questions) = mpsc::channel(64);
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let thread = std::thread::spawn(move || runtime.block_on(serve(questions)));
    println!("a question to a task of another thread: {:>8?}", ask(&there, HOPS).await?);
    drop(there);
    thread.join().map_err(|_| "a thread failed")?;
    Ok(())
}
