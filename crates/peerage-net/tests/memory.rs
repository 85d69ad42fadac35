//! What an endpoint holds at most, with peers that fill whatever there is to fill.

mod common;

use bytes::BytesMut;
use peerage_machine::{Class, LinkId};
use peerage_net::Config;
use peerage_wire::frame::{DataHeader, put_data};

use common::stranger::{Stranger, hello};
use common::{Node, Over, config, connections, eventually, identity, spec, toy};

const LINKS: usize = 8;
const MESSAGE: u64 = 1 << 20;

/// Small enough to be filled in no time. That windows grow no further than their budget is tried in `peerage-link`.
fn small() -> Config {
    config(|config| {
        config.max_links = LINKS;
        config.queue_bytes = 256 << 10;
        config.window_memory = 0;
        config.message_memory = 2 << 20;
        config.link.max_message = MESSAGE;
        config.link.reassembly = MESSAGE;
        config.link.control_queue = 64 << 10;
        config.link.window = 256 << 10;
        config.link.max_window = 256 << 10;
    })
}

/// Fragments of a message that is never whole, as far as credit goes; what was written.
async fn fill(stranger: &mut Stranger, class: u32, credit: u64) {
    let mut total = MESSAGE;
    for _ in 0..credit / 9_032 {
        let mut plain = BytesMut::new();
        put_data(&mut plain, DataHeader { channel: 0, class, total }, &[1; 9_000]);
        stranger.record(&plain).await;
        total = 0;
    }
}

fn held(node: &Node) -> u64 {
    let links = node.snapshot().links;
    links.iter().map(|link| link.held_bytes + link.queued_bytes + link.unsent_bytes).sum()
}

#[tokio::test]
async fn an_endpoint_full_of_peers_that_fill_it_holds_what_its_config_says_and_no_more() {
    let over = Over::Tcp;
    let bound = small().worst_case_bytes_with(1);
    let mut node = over.node(1, small()).await;
    let mut strangers = Vec::new();
    let mut links: Vec<LinkId> = Vec::new();
    for number in 0..LINKS as u8 {
        let identity = identity(60 + number);
        let mut hello = hello(&identity);
        hello.incarnation = [number; 16];
        // One that allows nothing, so that all that we send to it waits.
        hello.limits.window = 0;
        hello.instances.push((&spec("toy")).into());
        strangers.push(Stranger::up(&node.address(), &identity, &hello).await);
        links.push(node.up().await.0);
    }
    for stranger in &mut strangers {
        for class in [0, 2] {
            fill(stranger, class, 256 << 10).await;
        }
        // A control message, but for its last byte.
        let mut plain = BytesMut::new();
        put_data(&mut plain, DataHeader { channel: 0, class: 1, total: 65_536 }, &[2; 16_384]);
        (0..2)
            .for_each(|_| put_data(&mut plain, DataHeader { channel: 0, class: 1, total: 0 }, &[2; 16_384]));
        stranger.record(&plain).await;
    }
    for link in links {
        // Alone in its queue, a message may be longer than that.
        toy::send_as(&node.toy, link, vec![3; MESSAGE as usize], Class::Bulk, None);
        toy::send_as(&node.toy, link, vec![3; 1_000], Class::Bulk, None);
    }
    let full = eventually("all of it to be there", || {
        let held = held(&node);
        let incoming = node.snapshot().links.iter().all(|link| link.held_bytes > 540 << 10);
        if incoming && held > bound / 2 { Ok(held) } else { Err(format!("{held} of {bound}")) }
    })
    .await;
    assert!(full <= bound, "{full} of {bound}");
    // Two have room for their message.
    let borrowed: u64 = node.snapshot().links.iter().map(|link| link.borrowed_bytes).sum();
    assert!((MESSAGE..=2 * MESSAGE).contains(&borrowed), "{borrowed}");
    assert_eq!(node.snapshot().totals.dropped.get("full"), Some(&(LINKS as u64)));
    drop(strangers);
    connections(&node.endpoint, 0).await;
    assert_eq!(held(&node), 0);
}

#[test]
fn the_worst_case_is_what_each_part_of_it_comes_to() {
    let config = Config::default();
    let of = |instances| config.worst_case_bytes_with(instances);
    assert_eq!(config.worst_case_bytes(), of(64));
    assert_eq!(of(64), of(1_000));
    let instance = (of(2) - of(1)) / config.max_links as u64;
    // Two windows and what their buffers spare, a control message under way, the longest message in the queue, and a
    // full queue of control messages.
    assert_eq!(instance, 2 * ((72 << 10) + (16 << 10)) + (64 << 10) + (16 << 20) + (256 << 10));
    let mut more = Config::default();
    more.window_memory += 8;
    more.message_memory += 1;
    assert_eq!(more.worst_case_bytes() - config.worst_case_bytes(), 9 + 1);
}
