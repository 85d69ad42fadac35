//! Peers with a link that is up, and no good in mind: each ends in a counted reason, and a friend's link carries on.

#![expect(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it should be")]

mod common;

use std::time::Duration;

use bytes::BytesMut;
use common::config;
use common::stranger::{Stranger, hello};
use common::target::Target;
use peerage_net::Config;
use peerage_wire::frame::{DataHeader, put_control, put_data};
use peerage_wire::hello::Instance;
use peerage_wire::proto::link::v1::control::Kind;
use peerage_wire::proto::link::v1::goodbye::Code;
use peerage_wire::proto::link::v1::{Closed, Credit, Open, Ping, Returned};

fn ping(nonce: u64) -> Kind {
    Kind::Ping(Ping { nonce })
}

fn open(channel: u32) -> Kind {
    let instance = Instance {
        protocol: "nobody".to_owned(),
        name: format!("runs {channel}"),
        version: 1,
        parameters: bytes::Bytes::new(),
    };
    Kind::Open(Open { channel, instance: Some((&instance).into()) })
}

fn records_of(kinds: impl Iterator<Item = Kind>, each: usize) -> Vec<BytesMut> {
    let mut records = vec![BytesMut::new()];
    for (at, kind) in kinds.enumerate() {
        if at > 0 && at % each == 0 {
            records.push(BytesMut::new());
        }
        put_control(records.last_mut().unwrap(), &kind);
    }
    records
}

/// A stranger that runs the target's instance, as its channel 0, and is up on it.
async fn in_common(target: &mut Target) -> Stranger {
    let identity = common::identity(66);
    let mut hello = hello(&identity);
    let spec = common::spec("toy");
    hello.instances.push(Instance {
        protocol: spec.name.protocol.clone(),
        name: spec.name.name.clone(),
        version: spec.version,
        parameters: spec.parameters.clone(),
    });
    let stranger = Stranger::up(&target.node.address(), &identity, &hello).await;
    target.node.up().await;
    stranger
}

async fn accused(target: &mut Target, mut stranger: Stranger, of: &str) {
    let goodbye = stranger.goodbye().await;
    assert_eq!(goodbye.code(), Code::Fault);
    assert!(goodbye.detail.contains(of), "{goodbye:?}");
    drop(stranger);
    target.unharmed("fault", 1).await;
}

#[tokio::test]
async fn a_flood_of_controls_is_a_fault_and_does_not_hold_a_friend_up() {
    // Twice what there is at once, so that it is a fault however slow the machine is.
    let fewer = config(|config| config.link.max_controls_per_second = 1_000);
    let mut target = Target::new(fewer).await;
    let mut stranger = target.up().await;
    for record in records_of((0..32_000).map(ping), 4_000) {
        stranger.record(&record).await;
    }
    accused(&mut target, stranger, "more than 1000 controls a second").await;
}

#[tokio::test]
async fn a_flood_of_messages_is_a_fault_where_they_are_limited() {
    let limited = config(|config| {
        config.link.max_messages_per_second = Some(100);
        config.link.silent_after = Duration::from_secs(1);
    });
    let mut target = Target::new(limited).await;
    let mut stranger = in_common(&mut target).await;
    let mut frames = BytesMut::new();
    // Of class 1, which needs no credit; as toys write a message.
    for _ in 0..400 {
        put_data(&mut frames, DataHeader { channel: 0, class: 1, total: 0 }, b"\x00more");
    }
    stranger.record(&frames).await;
    accused(&mut target, stranger, "more than 100 messages a second").await;
}

#[tokio::test]
async fn ten_thousand_streams_are_refused_one_by_one_when_the_answers_are_read() {
    let mut target = Target::new(Config::default()).await;
    let mut stranger = target.up().await;
    let mut refused = 0;
    for record in records_of((0..10_000).map(open), 500) {
        stranger.record(&record).await;
        // All of a record's answers are there before that to a ping behind it.
        stranger.control(ping(1)).await;
        while !stranger.controls().await.iter().any(|kind| {
            refused += u32::from(matches!(kind, Kind::Closed(_)));
            matches!(kind, Kind::Pong(_))
        }) {}
    }
    assert_eq!(refused, 10_000);
    assert_eq!(target.node.snapshot().links.len(), 2);
    drop(stranger);
    target.unharmed("lost", 1).await;
}

#[tokio::test]
async fn ten_thousand_streams_at_once_are_a_fault() {
    let mut target = Target::new(Config::default()).await;
    let mut stranger = target.up().await;
    for record in records_of((0..10_000).map(open), 1_200) {
        stranger.record(&record).await;
    }
    accused(&mut target, stranger, "answers unread").await;
}

#[tokio::test]
async fn credit_that_is_spent_twice_is_a_fault() {
    let small = config(|config| config.link.window = 32 << 10);
    let mut target = Target::new(small).await;
    let mut stranger = in_common(&mut target).await;
    // In one record, so that nothing can have been given back in between.
    let mut frames = BytesMut::new();
    for _ in 0..3 {
        put_data(&mut frames, DataHeader { channel: 0, class: 0, total: 0 }, &[0; 16_000]);
    }
    stranger.record(&frames).await;
    accused(&mut target, stranger, "bytes of credit left").await;
}

#[tokio::test]
async fn credit_where_there_is_none_to_give_is_a_fault() {
    let mut target = Target::new(Config::default()).await;
    let mut stranger = in_common(&mut target).await;
    stranger.control(Kind::Credit(Credit { channel: 0, class: 1, bytes: 1 << 40 })).await;
    accused(&mut target, stranger, "credit for class 1").await;
}

#[tokio::test]
async fn credit_that_overflows_is_a_fault() {
    let mut target = Target::new(Config::default()).await;
    let mut stranger = in_common(&mut target).await;
    stranger.control(Kind::Credit(Credit { channel: 0, class: 0, bytes: u64::MAX })).await;
    accused(&mut target, stranger, "overflows").await;
}

#[tokio::test]
async fn credit_that_is_returned_and_was_never_had_is_a_fault() {
    let mut target = Target::new(Config::default()).await;
    let mut stranger = in_common(&mut target).await;
    stranger.control(Kind::Returned(Returned { channel: 0, class: 2, bytes: 1 << 40 })).await;
    accused(&mut target, stranger, "returned 1099511627776 bytes of credit").await;
}

#[tokio::test]
async fn who_lies_about_lengths_takes_no_memory_for_them_and_ends_or_waits_alone() {
    let mut target = Target::new(Config::default()).await;
    let first = |total: u64, length: usize| {
        let mut frames = BytesMut::new();
        put_data(&mut frames, DataHeader { channel: 0, class: 2, total }, &vec![0; length]);
        frames
    };
    // Longer than may be, shorter than what is there already, and more than was announced.
    let mut more = first(20_000, 16_000);
    put_data(&mut more, DataHeader { channel: 0, class: 2, total: 0 }, &[0; 16_000]);
    let lies = [
        (first((16 << 20) + 1, 1), "a message of 16777217 bytes, the limit is 16777216"),
        (first(u64::MAX, 1), "a message of 18446744073709551615 bytes"),
        (first(10, 11), "a first fragment of 11 bytes of a message of 10"),
        (more, "fragments of 32000 bytes for a message of 20000"),
        // A frame that says it is longer than its record, or than any frame may be.
        (BytesMut::from(&[100, 1, 2, 3][..]), "frame: "),
        (BytesMut::from(&[0xff, 0xff, 0xff, 0xff, 0x0f][..]), "frame: "),
    ];
    for (count, (frames, of)) in (1..).zip(lies) {
        let mut stranger = in_common(&mut target).await;
        stranger.record(&frames).await;
        let goodbye = stranger.goodbye().await;
        assert!(goodbye.code() == Code::Fault && goodbye.detail.contains(of), "{goodbye:?}, not {of}");
        drop(stranger);
        target.unharmed("fault", count).await;
    }
    // What is announced and does not come costs what has come.
    let mut stranger = in_common(&mut target).await;
    stranger.record(&first(16 << 20, 100)).await;
    common::eventually("the fragment", || {
        let held: u64 = target.node.snapshot().links.iter().map(|link| link.held_bytes).sum();
        if (100..=16 << 10).contains(&held) { Ok(()) } else { Err(held.to_string()) }
    })
    .await;
    target.still().await;
}

#[tokio::test]
async fn what_is_dropped_with_its_channel_is_counted_when_it_is_dropped_and_once() {
    let mut target = Target::new(Config::default()).await;
    let identity = common::identity(66);
    let mut hello = hello(&identity);
    hello.instances.push((&common::spec("toy")).into());
    hello.limits.window = 0;
    let mut stranger = Stranger::up(&target.node.address(), &identity, &hello).await;
    let (link, _) = target.node.up().await;
    for _ in 0..7 {
        common::toy::send(&target.node.toy, link, "stuck");
    }
    let queued = |target: &Target| -> u64 {
        target.node.snapshot().links.iter().map(|link| link.queued_messages).sum()
    };
    common::eventually("the queue", || match queued(&target) {
        7 => Ok(()),
        other => Err(other.to_string()),
    })
    .await;
    stranger.control(Kind::Closed(Closed { channel: 0, reason: 0, detail: String::new() })).await;
    let dropped = |target: &Target, of: &str| target.node.snapshot().totals.dropped.get(of).copied();
    common::eventually("the count", || match dropped(&target, "channel_ended") {
        Some(7) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert_eq!((queued(&target), target.node.snapshot().links.len()), (0, 2));
    drop(stranger);
    target.unharmed("lost", 1).await;
    assert!(dropped(&target, "link_ended").is_none_or(|count| count == 0));
}

#[tokio::test]
async fn strangers_are_told_all_limits() {
    let limited = config(|config| {
        (config.max_links, config.max_inbound_per_address, config.max_handshakes) = (70, 60, 50);
        config.link.handshake_timeout = Duration::from_millis(4_500);
    });
    let target = Target::new(limited).await;
    let mut stranger = target.stranger().await;
    let mut noise = stranger.knock(&common::identity(66), &[]).await;
    let second = stranger.message().await;
    let told = peerage_wire::hello::Hello::decode(&noise.read(&second).unwrap()).unwrap().limits;
    assert_eq!((told.max_links, told.max_links_per_address, told.max_handshakes), (70, 60, 50));
    assert_eq!((told.handshake_timeout_ms, told.max_messages_per_second), (4_500, 20_000_000));
    assert_eq!((told.max_message, told.window, told.max_channels), (16 << 20, 64 << 10, 64));
}

#[tokio::test]
async fn a_record_that_never_becomes_whole_has_its_time() {
    let short = config(|config| config.link.record_timeout = Duration::from_millis(100));
    let mut target = Target::new(short).await;
    for (count, part) in (1..).zip([&[0xff][..], &[0xff, 0xff], &[0xff, 0xff, 1, 2, 3]]) {
        let mut stranger = target.up().await;
        // It says how long it is, and is not.
        stranger.write(part).await;
        let goodbye = stranger.goodbye().await;
        assert_eq!((goodbye.code(), goodbye.detail.as_str()), (Code::Limit, "100ms for one record"));
        drop(stranger);
        target.unharmed("limit", count).await;
    }
}

#[tokio::test]
async fn a_peer_that_goes_silent_is_told_and_counted() {
    let short = config(|config| config.link.silent_after = Duration::from_millis(400));
    let mut target = Target::new(short).await;
    let mut friend = common::Over::Tcp.node(3, Config::default()).await;
    let mut stranger = target.up().await;
    assert_eq!(stranger.goodbye().await.code(), Code::Silent);
    drop(stranger);
    common::ended(&target.node.endpoint, "silent", 1).await;
    // Whoever comes then is as welcome as before.
    let (_, link) = common::linked(&mut friend, &mut target.node).await;
    common::toy::send(&target.node.toy, link, "well?");
    assert_eq!(friend.got().await.1, "well?");
}

#[tokio::test]
async fn who_comes_again_and_again_replaces_only_its_own_link() {
    // With the same incarnation, as who has lost its link; with others, as who starts again and again.
    for repeats in [true, false] {
        let mut target = Target::new(Config::default()).await;
        let identity = common::identity(66);
        let mut last = in_common(&mut target).await;
        let (code, reason) =
            if repeats { (Code::Duplicate, "duplicate") } else { (Code::Superseded, "superseded") };
        for count in 1..=20 {
            let mut hello = hello(&identity);
            if !repeats {
                hello.incarnation = [100 + count; 16];
            }
            let next = Stranger::up(&target.node.address(), &identity, &hello).await;
            assert_eq!(last.goodbye().await.code(), code);
            drop(last);
            common::ended(&target.node.endpoint, reason, u64::from(count)).await;
            common::connections(&target.node.endpoint, 2).await;
            target.still().await;
            last = next;
        }
    }
}

#[tokio::test]
async fn any_cut_of_what_a_peer_says_leaves_a_friend_alone() {
    let mut target = Target::new(Config::default()).await;
    let identity = common::identity(66);
    // Preface and first message, cut everywhere, and what was cut off never comes.
    let preface = peerage_wire::preface::Preface::CURRENT.encode();
    let mut noise =
        peerage_identity::Handshake::initiator(&identity, peerage_wire::Suite::ChaChaPoly, &preface, [9; 32])
            .unwrap();
    let mut first = Vec::new();
    noise.write(&[], &mut first).unwrap();
    let mut said = BytesMut::from(&preface[..]);
    peerage_wire::handshake::put_message(&mut said, &first).unwrap();
    for cut in 0..said.len() {
        let mut stranger = target.stranger().await;
        stranger.write(&said[..cut]).await;
        drop(stranger);
    }
    common::ended(&target.node.endpoint, "lost", said.len() as u64).await;
    common::connections(&target.node.endpoint, 1).await;
    target.still().await;
    let why = target.node.pending();
    assert!(!why.iter().any(|heard| format!("{heard:?}").contains("Down")), "{why:?}");
}
