//! A broker, a node and a client on one thread: how many calls go from the client through the broker to the node and back in a
//! second, over encrypted links on loopback. `cargo run --release -p peerage-rpc --example one_thread`.

use std::time::{Duration, Instant};

use peerage_identity::Identity;
use peerage_net::Shards;
use peerage_rpc::accounts::Kind;
use peerage_rpc::{Broker, Client, Command, Declaration, Node};
use tokio::task::{JoinSet, LocalSet};

#[derive(Clone, PartialEq, prost::Message)]
struct Echo {
    #[prost(bytes = "bytes", tag = "1")]
    payload: bytes::Bytes,
}

impl Command for Echo {
    const NAME: &'static str = "echo";
    type Reply = Self;
}

#[derive(Clone, PartialEq, prost::Message)]
struct Count {
    #[prost(uint64, tag = "1")]
    messages: u64,
}

impl Command for Count {
    const NAME: &'static str = "count";
    type Reply = Echo;

    fn declaration() -> Declaration {
        Declaration::server_stream()
    }
}

/// Time that this thread has had on a processor, where the system says so.
fn on_cpu() -> f64 {
    let read = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    read.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(f64::NAN) / 1e9
}

type Failure = Box<dyn std::error::Error>;

async fn run() -> Result<(), Failure> {
    let broker = Broker::builder()
        .identity(Identity::generate()?)
        .listen("tcp://127.0.0.1:0".parse()?)
        .with_endpoint(|builder| builder.configure(|config| config.shards = Shards::Ambient))
        .network("rate")
        .start()
        .await?;
    let (ada, calculator) = (Identity::generate()?, Identity::generate()?);
    broker.admit(ada.peer_id(), Kind::User, "Ada").await?;
    broker.admit(calculator.peer_id(), Kind::Node, "calculator").await?;
    let addresses = broker.endpoint().addresses();
    let node = Node::builder()
        .identity(calculator)
        .broker(broker.peer_id(), addresses.clone())
        .network("rate")
        .command::<Echo, _, _>(|_, echo| async { Ok(echo) })
        .server_stream::<Count, _, _>(|_, count, sender| async move {
            let payload = bytes::Bytes::from(vec![7; 60]);
            for _ in 0..count.messages {
                sender.send(Echo { payload: payload.clone() }).await?;
            }
            Ok(())
        })
        .connect()
        .await?;
    let client =
        Client::builder().identity(ada).broker(broker.peer_id(), addresses).network("rate").connect().await?;
    let target = client.node(node.endpoint().peer_id());

    let (payload, time) = (bytes::Bytes::from(vec![7; 60]), Duration::from_secs(2));
    for in_flight in [1, 64] {
        let until = Instant::now() + time;
        let mut callers = JoinSet::new();
        let (begun, had) = (Instant::now(), on_cpu());
        for _ in 0..in_flight {
            let (target, payload) = (target.clone(), payload.clone());
            callers.spawn_local(async move {
                let mut calls = 0_u64;
                while Instant::now() < until {
                    target
                        .call(Echo { payload: payload.clone() })
                        .await
                        .map_err(|status| status.to_string())?;
                    calls += 1;
                }
                Ok::<_, String>(calls)
            });
        }
        let calls: u64 = callers.join_all().await.into_iter().sum::<Result<u64, String>>()?;
        let rate = calls as f64 / begun.elapsed().as_secs_f64();
        let cpu = 1e6 * (on_cpu() - had) / calls as f64;
        println!("{in_flight:3} in flight: {rate:9.0} calls/s, {cpu:.2} µs of processor time each");
    }
    let (begun, had) = (Instant::now(), on_cpu());
    let messages = 2_000_000;
    let mut stream = target.server_stream(Count { messages }).await?;
    let mut seen = 0;
    while let Some(message) = stream.recv().await {
        message?;
        seen += 1;
    }
    let (rate, cpu) =
        (f64::from(seen) / begun.elapsed().as_secs_f64(), 1e6 * (on_cpu() - had) / f64::from(seen));
    println!("one stream: {rate:.0} messages/s, {cpu:.2} µs of processor time each");
    client.close().await;
    node.close().await;
    broker.close().await;
    Ok(())
}

fn main() -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, run())
}
