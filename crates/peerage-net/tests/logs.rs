//! What gets into logs, and what does not.

#![expect(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it should be")]

mod common;

use std::io::Write;
use std::sync::{Arc, Mutex};

use common::{Node, Over, Toy, config, linked};
use peerage_net::Shards;
use tracing_subscriber::fmt::MakeWriter;

/// Collects what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// All that two endpoints log while they meet, one dial fails, and both close.
async fn said(log_addresses: bool) -> String {
    let log = Log::default();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(log.clone()).finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let over = Over::Tcp;
    let settings = || {
        config(|config| {
            config.log_addresses = log_addresses;
            // On this thread, whose subscriber it is.
            config.shards = Shards::Ambient;
        })
    };
    let mut a = Node::new(over.endpoint(1, settings()).await, "toy", Toy::default());
    let mut b = Node::new(over.endpoint(2, settings()).await, "toy", Toy::default());
    linked(&mut a, &mut b).await;
    a.endpoint.connect(&"tcp://127.0.0.1:1".parse().unwrap()).await.unwrap_err();
    let maintained = a.endpoint.maintain(&"tcp://127.0.0.1:1".parse().unwrap());
    while matches!(maintained.state(), peerage_net::LinkState::Dialling { .. }) {
        tokio::task::yield_now().await;
    }
    drop(maintained);
    a.endpoint.close().await;
    b.endpoint.close().await;
    drop(guard);
    log.text()
}

#[tokio::test]
async fn addresses_are_shown_in_spans_and_reasons_unless_they_are_not_to_be() {
    let shown = said(true).await;
    for expected in ["link up", "link ended", "could not connect", "dialled again", "127.0.0.1"] {
        assert!(shown.contains(expected), "{expected} is not in\n{shown}");
    }
    let hidden = said(false).await;
    for expected in ["link up", "link ended", "could not connect", "unreachable", "remote=hidden"] {
        assert!(hidden.contains(expected), "{expected} is not in\n{hidden}");
    }
    assert!(!hidden.contains("127.0.0.1"), "{hidden}");
}
