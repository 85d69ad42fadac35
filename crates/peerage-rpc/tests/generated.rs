//! A service that was generated from a `.proto` file, at a broker and at a node, called by its generated client. The code is
//! the golden file of `peerage-rpc-build`.
#![expect(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it should be")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use calculator::{
    Calculator, CalculatorClient, CalculatorServer, DivideReply, DivideRequest, Line, TailRequest,
};
use peerage_identity::Identity;
use peerage_net::MemoryTransport;
use peerage_rpc::accounts::Kind;
use peerage_rpc::{
    Broker, Caller, Client, Code, Context, Node, PartyBuilder, Place, Receiver, Sender, Status,
};
use shared::Number;

#[expect(unreachable_pub, reason = "generated, to be used anywhere")]
mod shared {
    include!(concat!(env!("CARGO_MANIFEST_DIR"), "/../peerage-rpc-build/tests/golden/test.shared.rs"));
}
#[expect(unreachable_pub, reason = "generated, to be used anywhere")]
mod calculator {
    include!(concat!(env!("CARGO_MANIFEST_DIR"), "/../peerage-rpc-build/tests/golden/test.calculator.rs"));
}

/// The golden file's option: nodes may reset.
fn may_reset(caller: &Caller) -> bool {
    caller.kind != Some(Kind::User)
}

/// Far more than anything here takes.
async fn within<T>(future: impl IntoFuture<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future.into_future()).await.unwrap()
}

#[derive(Default)]
struct Maths {
    noted: AtomicU64,
}

/// At broker and node alike.
impl<M: Place> Calculator<M> for Maths {
    async fn divide(&self, _: Context<M>, request: DivideRequest) -> Result<DivideReply, Status> {
        if request.divisor() == 0.0 {
            return Err(Status::invalid_argument("division by zero"));
        }
        Ok(DivideReply { quotient: request.dividend() / request.divisor() })
    }

    async fn tail(&self, _: Context<M>, request: TailRequest, to: Sender<Line>) -> Result<(), Status> {
        for number in 0..request.lines {
            to.send(Line { number }).await?;
        }
        Ok(())
    }

    async fn sum(&self, _: Context<M>, mut from: Receiver<Number>) -> Result<Number, Status> {
        let mut value = 0;
        while let Some(number) = from.recv().await {
            value += number?.value;
        }
        Ok(Number { value, unit: None })
    }

    async fn echo(
        &self,
        _: Context<M>,
        mut from: Receiver<Number>,
        to: Sender<Number>,
    ) -> Result<(), Status> {
        while let Some(number) = from.recv().await {
            to.send(number?).await?;
        }
        Ok(())
    }

    async fn note(&self, _: Context<M>, request: Number) -> Result<(), Status> {
        self.noted.fetch_add(request.value, Ordering::SeqCst);
        Ok(())
    }

    async fn reset(&self, _: Context<M>, (): ()) -> Result<(), Status> {
        self.noted.store(0, Ordering::SeqCst);
        Ok(())
    }

    async fn new_(&self, ctx: Context<M>, request: DivideRequest) -> Result<DivideReply, Status> {
        self.divide(ctx, request).await
    }

    async fn r#type(&self, _: Context<M>, _: DivideRequest) -> Result<DivideReply, Status> {
        Err(Status::unimplemented("there are no types here"))
    }
}

/// A broker and a node that both calculate, a client, and the numbers that broker and node have noted.
struct World {
    _broker: Broker,
    client: Client,
    node: Node,
    maths: [Arc<Maths>; 2],
}

async fn world() -> World {
    let memory = MemoryTransport::default();
    let maths = [Arc::<Maths>::default(), Arc::default()];
    let [identity, ada, worker] = std::array::from_fn(|_| Identity::generate().unwrap());
    let transport = memory.clone();
    let broker = Broker::builder()
        .identity(identity)
        .with_endpoint(move |builder| builder.memory(&transport))
        .listen("mem://broker".parse().unwrap())
        .service(CalculatorServer::shared(Arc::clone(&maths[0])))
        .start();
    let broker = within(broker).await.unwrap();
    broker.admit(ada.peer_id(), Kind::User, "Ada").await.unwrap();
    broker.admit(worker.peer_id(), Kind::Node, "").await.unwrap();
    let (key, addresses) = (broker.peer_id(), broker.endpoint().addresses());
    let there = |memory: &MemoryTransport| {
        let memory = memory.clone();
        move |builder: peerage_net::Builder| builder.memory(&memory)
    };
    let node = Node::builder()
        .identity(worker)
        .with_endpoint(there(&memory))
        .broker(key, addresses.clone())
        .group("calc")
        .service(CalculatorServer::shared(Arc::clone(&maths[1])));
    let client: PartyBuilder<Client> =
        Client::builder().identity(ada).with_endpoint(there(&memory)).broker(key, addresses);
    let (node, client) = (within(node.connect()).await.unwrap(), within(client.connect()).await.unwrap());
    World { _broker: broker, client, node, maths }
}

#[tokio::test]
async fn one_service_runs_at_broker_node_and_group_sealed_or_not_and_one_client_calls_them_all() {
    let world = world().await;
    let node = world.client.node(world.node.endpoint().peer_id());
    let ways = [(**world.client).clone(), node.clone(), node.sealed(), world.client.group("calc")];
    for way in ways {
        let calculator = CalculatorClient::new(&way);
        let ten = |divisor| DivideRequest { dividend: Some(10.0), divisor };
        assert_eq!(within(calculator.divide(ten(Some(4.0)))).await.unwrap().quotient, 2.5);
        assert_eq!(within(calculator.new_(ten(Some(5.0)))).await.unwrap().quotient, 2.0);
        let status = within(calculator.divide(ten(Some(0.0)))).await.unwrap_err();
        assert_eq!(status, Status::invalid_argument("division by zero"));
        let status = within(calculator.divide(ten(None))).await.unwrap_err();
        assert_eq!(status.message, "`test.calculator.Calculator/Divide` needs `divisor`");
        assert_eq!(within(calculator.r#type(ten(None))).await.unwrap_err().code, Code::InvalidArgument);
        assert_eq!(within(calculator.r#type(ten(Some(1.0)))).await.unwrap_err().code, Code::Unimplemented);

        let mut lines = within(calculator.tail(TailRequest { lines: 500 })).await.unwrap();
        for number in 0..500 {
            assert_eq!(within(lines.recv()).await.unwrap().unwrap(), Line { number });
        }
        assert!(within(lines.recv()).await.is_none());

        let (to, mut from) = within(calculator.echo()).await.unwrap();
        for value in 0..50 {
            to.send(Number { value, unit: None }).await.unwrap();
            assert_eq!(within(from.recv()).await.unwrap().unwrap().value, value);
        }
        to.finish();
        assert!(within(from.recv()).await.is_none());
    }
}

#[tokio::test]
async fn what_was_declared_in_the_build_script_counts() {
    let world = world().await;
    let (as_user, as_node) = (CalculatorClient::new(&world.client), CalculatorClient::new(&world.node));
    // `nodes_only`.
    let refused = within(as_user.sum()).await.unwrap();
    assert_eq!(within(refused.finish()).await.unwrap_err().code, Code::PermissionDenied);
    let sum = within(as_node.sum()).await.unwrap();
    within(sum.send_all((1..=10).map(|value| Number { value, unit: None }))).await.unwrap();
    assert_eq!(within(sum.finish()).await.unwrap().value, 55);
    // `one_way`: in order, and before what is asked later.
    for value in 1..=100 {
        as_user.note(Number { value, unit: None }).await.unwrap();
    }
    within(world.client.flush()).await.unwrap();
    assert_eq!(world.maths[0].noted.load(Ordering::SeqCst), 5050);
    // `accounts`.
    assert_eq!(within(as_user.reset(())).await.unwrap_err().code, Code::PermissionDenied);
    assert_eq!(world.maths[0].noted.load(Ordering::SeqCst), 5050);
    within(as_node.reset(())).await.unwrap();
    assert_eq!(world.maths[0].noted.load(Ordering::SeqCst), 0);
    assert_eq!(world.maths[1].noted.load(Ordering::SeqCst), 0);
}
