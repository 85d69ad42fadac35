//! Waiting for a broker that is not there, or does not take us.

mod notes;

use std::time::Duration;

use notes::within;
use peerage_net::MemoryTransport;
use peerage_rpc::accounts::Kind;
use peerage_rpc::{Broker, Client, Code, PartyBuilder};
use tokio::time::Instant;

#[tokio::test(start_paused = true)]
async fn who_asks_again_and_again_for_a_broker_that_is_away_hears_of_each_dial_once() {
    let memory = MemoryTransport::default();
    let (identity, ada) = (notes::identity(), notes::identity());
    let transport = memory.clone();
    let client = PartyBuilder::<Client>::new()
        .identity(notes::same(&ada))
        .with_endpoint(move |builder| builder.memory(&transport))
        .broker(identity.peer_id(), ["mem://away".parse().unwrap()])
        .configure(|config| config.redial_at_most = Duration::from_millis(800))
        .network("notes");
    let client = client.start().await.unwrap();
    let begun = Instant::now();
    let mut waits = Vec::new();
    while begun.elapsed() < Duration::from_secs(8) {
        let asked = Instant::now();
        // Both who wait hear of the same dial.
        let (one, two) = tokio::join!(client.ready(), client.ready());
        assert_eq!(one.unwrap_err().code, Code::Unavailable);
        assert_eq!(two.unwrap_err().code, Code::Unavailable);
        waits.push(asked.elapsed());
    }
    // The pauses double from 25 to 50 ms up to between 400 and 800 ms.
    assert!((10..=40).contains(&waits.len()), "{waits:?}");
    // A broker has threads of its own, which virtual time would not wait for.
    tokio::time::resume();
    let broker = Broker::builder()
        .identity(identity)
        .listen("mem://away".parse().unwrap())
        .with_endpoint(move |builder| builder.memory(&memory))
        .network("notes");
    let broker = broker.start().await.unwrap();
    // It has no account, which is final, and told as often as it is asked.
    while within("a refusal", client.ready()).await.unwrap_err().code != Code::Unauthenticated {}
    assert_eq!(within("the same", client.ready()).await.unwrap_err().code, Code::Unauthenticated);
    broker.admit(ada.peer_id(), Kind::User, "").await.unwrap();
    assert_eq!(within("the same", client.ready()).await.unwrap_err().code, Code::Unauthenticated);
}
