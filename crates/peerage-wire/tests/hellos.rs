//! What a Hello may be, and what it may not.
#![expect(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it should be")]

use bytes::Bytes;
use peerage_wire::hello::{Hello, HelloError, Instance, InstanceError, Limits};
use peerage_wire::limits::*;
use peerage_wire::proto::link::v1 as proto;
use peerage_wire::{Address, PeerId};
use proptest::prelude::*;
use prost::Message;

fn instance(protocol: &str, name: &str) -> Instance {
    let parameters = Bytes::from_static(b"\x08\x01");
    Instance { protocol: protocol.to_owned(), name: name.to_owned(), version: 3, parameters }
}

fn hello() -> Hello {
    Hello {
        identity: PeerId::from_bytes([1; 32]),
        signature: [2; 64],
        incarnation: [3; 16],
        software: "example 1.0".to_owned(),
        limits: Limits {
            max_message: 1 << 20,
            window: 65_536,
            max_channels: 64,
            max_messages_per_second: 0,
            max_controls_per_second: 10_000,
            max_links: 4_096,
            max_links_per_address: 1_024,
            max_handshakes: 512,
            handshake_timeout_ms: 5_000,
        },
        addresses: vec!["tcp://192.0.2.1:4000".parse().unwrap(), "mem://alice".parse().unwrap()],
        instances: vec![instance("mesh", "lobby"), instance("dict", "")],
    }
}

fn raw(change: impl Fn(&mut proto::Hello)) -> Vec<u8> {
    let mut message = proto::Hello::decode(hello().encode().as_slice()).unwrap();
    change(&mut message);
    message.encode_to_vec()
}

#[test]
fn a_hello_comes_back_as_it_went() {
    assert_eq!(hello().check(), Ok(()));
    assert_eq!(Hello::decode(&hello().encode()), Ok(hello()));
}

#[test]
fn addresses_of_schemes_to_come_are_left_out_and_the_rest_stays() {
    let bytes = raw(|message| {
        message.addresses.insert(0, "QUIC+v2 somewhere".to_owned());
        message.addresses.push(String::new());
    });
    assert_eq!(Hello::decode(&bytes), Ok(hello()));
}

#[test]
fn fields_of_a_later_version_are_skipped() {
    let bytes = [hello().encode(), vec![0xf8, 0x07, 0x01, 0xfa, 0x07, 0x01, 0x00]].concat();
    assert_eq!(Hello::decode(&bytes), Ok(hello()));
}

/// Something to change, and what is said of it.
type Case = (&'static str, fn(&mut proto::Hello), HelloError);

#[test]
fn whatever_is_out_of_bounds_is_refused_with_the_numbers() {
    let length = |field, found, expected| HelloError::Length { field, found, expected };
    let cases: [Case; 13] = [
        ("no identity", |hello| hello.identity = Bytes::new(), length("identity", 0, 32)),
        ("long identity", |hello| hello.identity = vec![0; 33].into(), length("identity", 33, 32)),
        ("short signature", |hello| hello.signature = vec![0; 63].into(), length("signature", 63, 64)),
        ("no incarnation", |hello| hello.incarnation = Bytes::new(), length("incarnation", 0, 16)),
        ("no limits", |hello| hello.limits = None, HelloError::NoLimits),
        (
            "long software",
            |hello| hello.software = "s".repeat(129),
            HelloError::Software { length: 129, limit: MAX_SOFTWARE },
        ),
        (
            "many addresses",
            |hello| hello.addresses = vec!["unparsable".to_owned(); 17],
            HelloError::Addresses { count: 17, limit: MAX_ADDRESSES },
        ),
        (
            "many instances",
            |hello| hello.instances = vec![proto::Instance::default(); 257],
            HelloError::Instances { count: 257, limit: MAX_INSTANCES },
        ),
        (
            "very many instances",
            |hello| hello.instances = vec![proto::Instance::default(); 8_000],
            HelloError::Instances { count: 8_000, limit: MAX_INSTANCES },
        ),
        (
            "nameless protocol",
            |hello| hello.instances[1].protocol.clear(),
            HelloError::Instance {
                channel: 1,
                error: InstanceError::Protocol { length: 0, limit: MAX_PROTOCOL },
            },
        ),
        (
            "long protocol",
            |hello| hello.instances[0].protocol = "p".repeat(33),
            HelloError::Instance {
                channel: 0,
                error: InstanceError::Protocol { length: 33, limit: MAX_PROTOCOL },
            },
        ),
        (
            "long name",
            |hello| hello.instances[0].name = "n".repeat(129),
            HelloError::Instance { channel: 0, error: InstanceError::Name { length: 129, limit: MAX_NAME } },
        ),
        (
            "long parameters",
            |hello| hello.instances[0].parameters = vec![0; 1_025].into(),
            HelloError::Instance {
                channel: 0,
                error: InstanceError::Parameters { length: 1_025, limit: MAX_PARAMETERS },
            },
        ),
    ];
    for (name, change, error) in cases {
        assert_eq!(Hello::decode(&raw(change)), Err(error), "{name}");
    }
}

#[test]
fn a_hello_longer_than_the_handshake_has_room_for_is_refused_before_it_is_read() {
    let error = HelloError::TooLong { length: MAX_HELLO + 1, limit: MAX_HELLO };
    assert_eq!(Hello::decode(&vec![0xff; MAX_HELLO + 1]), Err(error));
}

/// What `check` says of one's own is what the other end would say.
#[test]
fn a_hello_can_be_checked_before_it_is_sent() {
    let mut large = hello();
    large.instances = vec![instance("p", &"n".repeat(128)); 130];
    let length = large.encode().len();
    let error = HelloError::TooLong { length, limit: MAX_HELLO };
    assert_eq!(large.check(), Err(error.clone()));
    assert_eq!(Hello::decode(&large.encode()), Err(error));

    let mut unnamed = hello();
    unnamed.instances.push(instance("", "x"));
    assert_eq!(unnamed.check(), Hello::decode(&unnamed.encode()).map(drop));
    let mut many = hello();
    many.addresses = vec![Address::tcp("127.0.0.1:1".parse().unwrap()); 17];
    assert_eq!(many.check(), Hello::decode(&many.encode()).map(drop));
    let mut wordy = hello();
    wordy.software = "s".repeat(129);
    assert_eq!(wordy.check(), Hello::decode(&wordy.encode()).map(drop));
    assert!(unnamed.check().is_err() && many.check().is_err() && wordy.check().is_err());
}

#[test]
fn every_prefix_and_every_changed_byte_is_a_hello_or_an_error() {
    let bytes = hello().encode();
    for length in 0..bytes.len() {
        if let Ok(shorter) = Hello::decode(&bytes[..length]) {
            assert!(shorter.instances.len() < 2, "{length}");
        }
    }
    for at in 0..bytes.len() {
        for byte in 0..=255 {
            let mut changed = bytes.clone();
            changed[at] = byte;
            if let Ok(other) = Hello::decode(&changed) {
                assert_eq!(Hello::decode(&other.encode()), Ok(other), "byte {at} as {byte}");
            }
        }
    }
}

#[test]
fn a_huge_announced_length_is_an_error_and_not_an_allocation() {
    for tag in 1..8_u8 {
        // A length of 2^62 for each field that can have one.
        let bytes = [&[tag << 3 | 2][..], &[0x80; 8], &[0x40]].concat();
        assert!(matches!(Hello::decode(&bytes), Err(HelloError::Malformed { .. })), "field {tag}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn random_bytes_are_a_hello_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Hello::decode(&bytes);
    }

    #[test]
    fn any_hello_within_the_limits_comes_back(
        keys: ([u8; 32], [u8; 32], [u8; 16]),
        software in "[ -~]{0,128}",
        limits: (u64, u64, u32, u64, u32),
        capacity: (u32, u32, u32, u32),
        addresses in proptest::collection::vec("[a-z]{1,5}://[!-~]{1,40}", 0..16),
        instances in proptest::collection::vec(
            (".{1,8}", ".{0,32}", any::<u32>(), proptest::collection::vec(any::<u8>(), 0..100)),
            0..20,
        ),
    ) {
        let (identity, half, incarnation) = keys;
        let mut signature = [0; 64];
        signature[32..].copy_from_slice(&half);
        let (max_message, window, max_channels, max_messages_per_second, max_controls_per_second) = limits;
        let (max_links, max_links_per_address, max_handshakes, handshake_timeout_ms) = capacity;
        let hello = Hello {
            identity: PeerId::from_bytes(identity),
            signature,
            incarnation,
            software,
            limits: Limits {
                max_message,
                window,
                max_channels,
                max_messages_per_second,
                max_controls_per_second,
                max_links,
                max_links_per_address,
                max_handshakes,
                handshake_timeout_ms,
            },
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            instances: instances
                .into_iter()
                .map(|(protocol, name, version, parameters)| {
                    Instance { protocol, name, version, parameters: parameters.into() }
                })
                .collect(),
        };
        prop_assert_eq!(hello.check(), Ok(()));
        prop_assert_eq!(Hello::decode(&hello.encode()), Ok(hello));
    }
}
