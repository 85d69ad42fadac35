#![expect(clippy::indexing_slicing, reason = "a test stops at the first thing that is not as it should be")]
//! What looks on catches machines that are wrong, each in its own way, and finds nothing wrong with ours.

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::broken::{Broken, Wrong};
use common::flows::Flows;
use common::ledger::Watching;
use common::{Actor, MS, SECOND, World};
use peerage_rpc::{BrokerConfig, Destination, Limits, Shape};
use peerage_sim::Config;

/// What is found to be wrong where the broker, or the node, is broken so.
fn found(wrong: Option<(Wrong, bool)>) -> Option<String> {
    let limits = Limits { stream_messages: 40, ..Limits::default() };
    let mut config = Config::seeded(3);
    config.link_loss_per_second = 0.2;
    let mut world = World::new(config, BrokerConfig { limits, ..BrokerConfig::default() }, 1, 1);
    let (watching, ledger) = Watching::new(limits);
    world.sim.watch(watching);
    let (broker, client, node) = (world.broker, world.parties[0], world.parties[1]);
    if let Some((wrong, at_broker)) = wrong {
        world.sim.command(if at_broker { broker } else { node }, |actor, _, _| {
            let spare = Actor::Party(Box::new(common::nobody()));
            let honest = std::mem::replace(actor, spare);
            *actor = Actor::Broken(Box::new(honest), Broken::new(wrong, 8));
        });
    }
    world.connect();
    let mut flows = Flows::new(world);
    flows.total = 60;
    let all = || Destination::Group(Bytes::from_static(b"all"));
    for _ in 0..12 {
        for shape in [Shape::STREAM_UP, Shape::STREAM_DOWN, Shape::BULK_UP, Shape::REQUEST] {
            flows.start(client, all(), shape);
        }
        if let Some(found) = flows.try_run_for(60 * MS) {
            return Some(found);
        }
    }
    for _ in 0..60 {
        if let Some(found) = flows.try_run_for(Duration::from_millis(200)) {
            return Some(found);
        }
    }
    let unanswered = ledger.borrow().unanswered();
    flows
        .try_run_for(SECOND)
        .or_else(|| (!unanswered.is_empty()).then(|| format!("unanswered: {unanswered:?}")))
}

#[test]
fn nothing_is_wrong_with_ours() {
    assert_eq!(found(None), None);
}

#[test]
fn a_call_that_is_run_twice_is_found() {
    let found = found(Some((Wrong::RunsTwice, false))).unwrap();
    assert!(found.contains("is run after"), "{found}");
}

#[test]
fn two_messages_that_are_swapped_are_found() {
    let found = found(Some((Wrong::Swaps, false))).unwrap();
    assert!(found.contains("is next"), "{found}");
}

#[test]
fn a_reply_that_is_forgotten_is_found() {
    let found = found(Some((Wrong::ForgetsReply, true))).unwrap();
    assert!(found.contains("unanswered"), "{found}");
}

#[test]
fn a_call_that_is_answered_twice_is_found() {
    let found = found(Some((Wrong::AnswersTwice, true))).unwrap();
    assert!(found.contains("twice") || found.contains("unanswered"), "{found}");
}

#[test]
fn a_stream_over_its_credit_is_found() {
    let found = found(Some((Wrong::Oversends, true))).unwrap();
    assert!(found.contains("over its credit"), "{found}");
}
