//! Strangers over real sockets: whatever they do ends in a counted reason, and costs nobody else.

mod common;

use std::time::Duration;

use bytes::{BufMut, BytesMut};
use common::stranger::{Stranger, hello};
use common::target::Target;
use common::{Over, config, connections, dropped, ended, eventually, identity, peer, toy};
use peerage_machine::Why;
use peerage_net::{Config, Shards};
use peerage_wire::Suite;
use peerage_wire::hello::Instance;
use peerage_wire::preface::Preface;
use peerage_wire::proto::link::v1::control::Kind;
use peerage_wire::proto::link::v1::goodbye::Code;
use peerage_wire::proto::link::v1::{Accept, Interest};
use tokio::io::AsyncReadExt;

#[tokio::test]
async fn strangers_who_do_not_speak_peerage_are_hung_up_on_at_once() {
    let mut target = Target::new(Config::default()).await;
    let http: &[u8] = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n";
    let tls: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    let almost: &[u8] = b"PEERAGF";
    let noise: Vec<u8> =
        (0..100_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8 | 128).collect();
    for (count, garbage) in (1..).zip([http, tls, almost, b"\0", &noise]) {
        let mut stranger = target.stranger().await;
        stranger.write(garbage).await;
        stranger.until_hung_up().await;
        drop(stranger);
        target.unharmed("fault", count).await;
    }
}

#[tokio::test]
async fn a_stranger_of_another_version_or_suite_is_told_in_clear_what_would_do() {
    let mut target = Target::new(config(|config| config.listen_suites = vec![Suite::ChaChaPoly])).await;
    // The friend prefers AESGCM where its processor does, and then was one of them.
    let told = target.node.snapshot().totals.ended.get("incompatible").copied().unwrap_or(0);
    target.ended = told;
    let version = Preface { version: 9, suite: 1 };
    let suite = Preface { version: 1, suite: 3 };
    for (count, preface) in (told + 1..).zip([version, suite, Preface::new(Suite::AesGcm)]) {
        let mut stranger = target.stranger().await;
        stranger.write(&preface.encode()).await;
        let mut answer = Vec::new();
        common::within("the answer", stranger.socket.read_to_end(&mut answer)).await.unwrap();
        assert_eq!(answer, Preface::CURRENT.encode());
        drop(stranger);
        target.unharmed("incompatible", count).await;
    }
}

#[tokio::test]
async fn a_stranger_who_stops_in_the_middle_has_the_handshakes_time() {
    let short = config(|config| config.link.handshake_timeout = Duration::from_millis(300));
    let mut target = Target::new(short).await;
    let identity = identity(66);
    // After nothing, half a preface, a preface, the length of a message, the first message, the third.
    let mut stranger = target.stranger().await;
    for count in 1..=6 {
        match count {
            1 => {}
            2 => stranger.write(b"PEER").await,
            3 => stranger.write(&Preface::CURRENT.encode()).await,
            4 => stranger.write(b"PEERAGE\x01\x01\x00\x20\x01\x02").await,
            5 => drop(stranger.begin(&identity).await),
            _ => {
                let noise = stranger.begin(&identity).await;
                stranger.finish(noise, &hello(&identity).encode()).await;
            }
        }
        stranger.until_hung_up().await;
        drop(stranger);
        target.unharmed("timed_out", count).await;
        stranger = target.stranger().await;
    }
    drop(stranger);
    ended(&target.node.endpoint, "lost", 1).await;
}

#[tokio::test]
async fn a_stranger_who_leaves_in_the_middle_is_lost() {
    let mut target = Target::new(Config::default()).await;
    let identity = identity(66);
    for count in 1..=5 {
        let mut stranger = if count == 5 { target.up().await } else { target.stranger().await };
        match count {
            2 => stranger.write(b"PEERAGE\x01\x01\x00\x20half of it").await,
            3 => drop(stranger.begin(&identity).await),
            4 => {
                let noise = stranger.begin(&identity).await;
                stranger.finish(noise, &hello(&identity).encode()).await;
            }
            _ => {}
        }
        drop(stranger);
        target.unharmed("lost", count).await;
    }
    assert!(!target.node.pending().iter().any(|heard| format!("{heard:?}").contains("Down")));
}

#[tokio::test]
async fn one_byte_at_a_time_is_slow_and_nothing_worse() {
    let mut target = Target::new(Config::default()).await;
    let identity = identity(66);
    let preface = Preface::CURRENT.encode();
    let mut stranger = target.stranger().await;
    let mut noise =
        peerage_identity::Handshake::initiator(&identity, Suite::ChaChaPoly, &preface, [9; 32]).unwrap();
    let mut first = Vec::new();
    noise.write(&[], &mut first).unwrap();
    let mut bytes = BytesMut::from(&preface[..]);
    peerage_wire::handshake::put_message(&mut bytes, &first).unwrap();
    for byte in bytes {
        stranger.write(&[byte]).await;
        tokio::task::yield_now().await;
    }
    noise.read(&stranger.message().await).unwrap();
    let mut third = Vec::new();
    noise.write(&hello(&identity).encode(), &mut third).unwrap();
    let mut bytes = BytesMut::new();
    peerage_wire::handshake::put_message(&mut bytes, &third).unwrap();
    for byte in bytes {
        stranger.write(&[byte]).await;
    }
    stranger.take_keys(noise);
    stranger.control_in_single_bytes(Kind::Accept(Accept::default())).await;
    assert!(matches!(stranger.read_control().await, Some(Kind::Accept(_))));
    connections(&target.node.endpoint, 2).await;
    eventually("the stranger's link", || {
        let snapshot = target.node.snapshot();
        let seen = snapshot.links.iter().find(|link| link.peer == Some(peer(66)) && link.is_up);
        seen.filter(|link| link.software == "a stranger").map(drop).ok_or_else(|| format!("{snapshot:#?}"))
    })
    .await;
    drop(stranger);
    target.unharmed("lost", 1).await;
}

#[tokio::test]
async fn handshake_messages_that_are_too_long_or_forged_are_faults() {
    let mut target = Target::new(Config::default()).await;
    let identity = identity(66);
    for count in 1..=6 {
        let mut stranger = target.stranger().await;
        match count {
            // Announced too long: not waited for.
            1 => stranger.write(b"PEERAGE\x01\x01\xff\xff").await,
            2 => stranger.write(b"PEERAGE\x01\x01\x40\x01").await,
            // No room for a key.
            3 => stranger.write(b"PEERAGE\x01\x01\x00\x00").await,
            // The third message is not what the keys say.
            4 => {
                let _noise = stranger.begin(&identity).await;
                let mut forged = BytesMut::new();
                forged.put_u16(200);
                forged.put_bytes(0x5a, 200);
                stranger.write(&forged).await;
            }
            // Another's certificate.
            5 => {
                let noise = stranger.begin(&identity).await;
                let mut stolen = hello(&identity);
                (stolen.identity, stolen.signature) = (peer(2), *common::identity(2).noise_certificate());
                stranger.finish(noise, &stolen.encode()).await;
            }
            // No hello at all.
            _ => {
                let noise = stranger.begin(&identity).await;
                stranger.finish(noise, &[0xff; 300]).await;
            }
        }
        if count >= 5 {
            // The keys serve to tell why.
            let Some(Kind::Refuse(refuse)) = stranger.read_control().await else { panic!("no reason") };
            assert_eq!(refuse.code(), Code::Fault);
            assert!(!refuse.detail.is_empty());
        }
        stranger.until_hung_up().await;
        drop(stranger);
        target.unharmed("fault", count).await;
    }
}

#[tokio::test]
async fn a_peer_that_breaks_the_protocol_is_told_so_and_hung_up_on() {
    let mut target = Target::new(Config::default()).await;
    for count in 1..=8 {
        let mut stranger = target.up().await;
        match count {
            // A record that nobody sealed.
            1 => {
                stranger
                    .write(&[
                        0, 40, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22,
                        23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40,
                    ])
                    .await
            }
            // A record without a tag.
            2 => stranger.write(&[0, 3, 1, 2, 3]).await,
            // A frame that is longer than frames are.
            3 => stranger.record(&[0xff, 0xff, 0x03, 1, 2, 3]).await,
            // A frame that is longer than its record.
            4 => stranger.record(&[100, 1, 2, 3]).await,
            // A message for a channel that nobody opened.
            5 => stranger.record(&[4, 8, 77, 0x22, 0]).await,
            // A second Accept.
            6 => stranger.control(Kind::Accept(Accept::default())).await,
            // No protobuf.
            7 => stranger.record(&[3, 0xff, 0xff, 0xff]).await,
            // An Open without its instance.
            _ => stranger.record(&[4, 0x7a, 2, 0x32, 0]).await,
        }
        let goodbye = stranger.goodbye().await;
        assert_eq!((goodbye.code(), goodbye.detail.is_empty()), (Code::Fault, false), "{count}");
        stranger.until_hung_up().await;
        drop(stranger);
        target.unharmed("fault", count).await;
    }
}

#[tokio::test]
async fn more_than_its_credit_is_a_fault_of_the_peer() {
    let mut target = Target::new(Config::default()).await;
    let identity = identity(66);
    let mut hello = hello(&identity);
    let spec = common::spec("toy");
    hello.instances.push(Instance {
        protocol: spec.name.protocol.clone(),
        name: spec.name.name.clone(),
        version: spec.version,
        parameters: spec.parameters.clone(),
    });
    let mut stranger = Stranger::up(&target.node.address(), &identity, &hello).await;
    let (link, info) = target.node.up().await;
    assert_eq!((info.peer, info.max_message), (peer(66), 1 << 20));
    // A message of 16 MiB, of which 256 KiB may be on their way; and one of more than 16 MiB.
    let mut frame = BytesMut::new();
    let header = peerage_wire::frame::DataHeader { channel: 0, class: 0, total: (16 << 20) + 1 };
    peerage_wire::frame::put_data(&mut frame, header, &[0; 1000]);
    stranger.record(&frame).await;
    assert_eq!(stranger.goodbye().await.code(), Code::Fault);
    let why = target.node.down(link).await;
    assert!(matches!(&why, Why::Fault { what, .. } if what.contains("16777217")), "{why}");
    drop(stranger);
    target.unharmed("fault", 1).await;
}

#[tokio::test]
async fn a_link_that_nobody_holds_is_closed_in_good_order() {
    let short = config(|config| config.link.unheld_grace = Duration::from_millis(50));
    let mut target = Target::new(short).await;
    let mut stranger = target.up().await;
    stranger.control(Kind::Interest(Interest { held: false })).await;
    assert_eq!(stranger.goodbye().await.code(), Code::Unheld);
    // It lingers for as long as we do not hang up, but not for ever.
    stranger.until_hung_up().await;
    drop(stranger);
    target.unharmed("unheld", 1).await;
}

#[tokio::test]
async fn handshakes_at_once_are_limited() {
    let mut target = Target::new(config(|config| config.max_handshakes = 3)).await;
    let mut waiting = Vec::new();
    for _ in 0..3 {
        let mut stranger = target.stranger().await;
        stranger.write(b"PEER").await;
        waiting.push(stranger);
    }
    connections(&target.node.endpoint, 4).await;
    for count in 1..=5 {
        let mut one_more = target.stranger().await;
        one_more.until_hung_up().await;
        dropped(&target.node.endpoint, "handshakes", count).await;
    }
    // One that leaves makes room, and so does one that comes through.
    waiting.pop();
    ended(&target.node.endpoint, "lost", 1).await;
    let through = target.up().await;
    connections(&target.node.endpoint, 4).await;
    let mut another = target.stranger().await;
    another.write(b"PEER").await;
    connections(&target.node.endpoint, 5).await;
    drop((waiting, through, another));
    target.ended = 4;
    target.unharmed("lost", 5).await;
    assert_eq!(target.node.snapshot().totals.accepted, 11);
}

#[tokio::test]
async fn links_from_one_address_are_limited() {
    let target = Target::new(config(|config| config.max_inbound_per_address = 3)).await;
    let (first, second) = (target.stranger().await, target.stranger().await);
    connections(&target.node.endpoint, 3).await;
    for count in 1..=3 {
        target.stranger().await.until_hung_up().await;
        dropped(&target.node.endpoint, "address", count).await;
    }
    // What we dial ourselves does not count.
    let other = Over::Tcp.node(3, Config::default()).await;
    target.node.endpoint.connect(&other.address()).await.unwrap();
    drop(first);
    ended(&target.node.endpoint, "lost", 1).await;
    let third = target.stranger().await;
    connections(&target.node.endpoint, 4).await;
    drop((second, third));
    ended(&target.node.endpoint, "lost", 3).await;
    connections(&target.node.endpoint, 2).await;
}

#[tokio::test]
async fn links_in_all_are_limited() {
    let target = Target::new(config(|config| config.max_links = 2)).await;
    let one = target.stranger().await;
    connections(&target.node.endpoint, 2).await;
    for count in 1..=3 {
        target.stranger().await.until_hung_up().await;
        dropped(&target.node.endpoint, "links", count).await;
    }
    let other = Over::Tcp.node(3, Config::default()).await;
    let error = target.node.endpoint.connect(&other.address()).await.unwrap_err();
    assert!(
        matches!(&error.why, Why::Limit { by: peerage_machine::Side::Us, what } if what == "2 links"),
        "{error}"
    );
    drop(one);
    ended(&target.node.endpoint, "lost", 1).await;
    connections(&target.node.endpoint, 1).await;
    target.node.endpoint.connect(&other.address()).await.unwrap();
}

#[tokio::test]
async fn a_crowd_of_strangers_leaves_nothing_behind() {
    let crowd = config(|config| {
        config.shards = Shards::Threads(2);
        config.link.handshake_timeout = Duration::from_millis(500);
    });
    let mut target = Target::new(crowd).await;
    let address = target.node.address();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..120_u8 {
        let address = address.clone();
        tasks.spawn(async move {
            let identity = identity(100 + number);
            let mut stranger = Stranger::connect(&address).await;
            match number % 6 {
                0 => stranger.write(b"GET / HTTP/1.1\r\n\r\n").await,
                1 => stranger.write(b"PEERAGE\x01\x01").await,
                2 => drop(stranger.begin(&identity).await),
                3 => {
                    let noise = stranger.begin(&identity).await;
                    stranger.finish(noise, &[1; 20]).await;
                }
                4 => {
                    stranger = Stranger::up(&address, &identity, &hello(&identity)).await;
                    stranger.write(&[0xff; 70_000]).await;
                }
                _ => {}
            }
            if number % 2 == 0 {
                stranger.until_hung_up().await;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    connections(&target.node.endpoint, 1).await;
    let totals = target.node.snapshot().totals;
    // Every fifth of them opened a second connection.
    assert_eq!((totals.accepted, totals.ended.values().sum::<u64>()), (141, 140), "{totals:?}");
    toy::send(&target.node.toy, target.link, "well?");
    assert_eq!(target.friend.got().await.1, "well?");
    let report = target.node.endpoint.close().await;
    assert_eq!(report.links, 1);
}
