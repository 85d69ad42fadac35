//! What peers and addresses are called.

use std::net::SocketAddr;

use peerage_wire::{Address, AddressError, PeerId, PeerIdError};
use proptest::prelude::*;

/// Made with `base32` of GNU coreutils.
#[test]
fn a_peer_is_printed_in_lower_case_base32() {
    let peer = PeerId::from_bytes(std::array::from_fn(|index| index as u8));
    let text = "aaaqeayeaudaocajbifqydiob4ibceqtcqkrmfyydenbwha5dypq";
    assert_eq!(peer.to_string(), text);
    assert_eq!(peer.short(), "aaaqeayeau");
    assert_eq!(format!("{peer:?}"), "PeerId(aaaqeayeau)");
    assert_eq!(text.parse(), Ok(peer));
    assert_eq!(text.to_uppercase().parse(), Ok(peer));
}

#[test]
fn peers_are_ordered_as_their_bytes_are() {
    let bytes = |at, byte| std::array::from_fn(|index| if index == at { byte } else { 0x7f });
    let all: Vec<[u8; 32]> =
        (0..32).flat_map(|at| [0, 0x7f, 0x80, 0xff].map(|byte| bytes(at, byte))).collect();
    for one in &all {
        for other in &all {
            assert_eq!(PeerId::from_bytes(*one).cmp(&PeerId::from_bytes(*other)), one.cmp(other));
        }
    }
}

#[test]
fn what_names_no_peer_says_why() {
    let message = |text: &str| text.parse::<PeerId>().unwrap_err().to_string();
    assert_eq!(message("alice"), "a peer id is 52 characters of base32 (a-z, 2-7), this has 5: \"alice\"");
    let long = "a".repeat(1_000_000);
    let cut = "a".repeat(64);
    let expected = format!("a peer id is 52 characters of base32 (a-z, 2-7), this has 1000000: \"{cut}\"");
    assert_eq!(message(&long), expected);
    // 0, 1, 8, 9, padding, a letter that is two bytes, and a last character with bits to spare.
    for wrong in ["0", "1", "8", "9", "=", "\u{fc}", " "] {
        let text = "a".repeat(52 - wrong.len()) + wrong;
        assert!(matches!(text.parse::<PeerId>(), Err(PeerIdError::Base32 { .. })), "{text}");
    }
    assert!(("a".repeat(51) + "b").parse::<PeerId>().is_err(), "a second text for the same key");
    assert_eq!(PeerId::try_from(&[0; 31][..]), Err(PeerIdError::Length { found: 31 }));
    assert_eq!(PeerIdError::Length { found: 31 }.to_string(), "a peer id is 32 bytes, this has 31");
}

#[test]
fn an_address_has_a_scheme_and_a_rest() {
    let address: Address = "tcp://[::1]:4000".parse().unwrap();
    assert_eq!((address.scheme(), address.rest()), ("tcp", "[::1]:4000"));
    assert_eq!(address, Address::tcp("[::1]:4000".parse().unwrap()));
    assert_eq!(format!("{address} {address:?} {}", address.as_str()), "tcp://[::1]:4000 ".repeat(3).trim());
    let odd: Address = "x2://a://b".parse().unwrap();
    assert_eq!((odd.scheme(), odd.rest()), ("x2", "a://b"), "the first :// counts");
}

#[test]
fn what_is_no_address_says_why() {
    let why = |text: &str| {
        let error: AddressError = text.parse::<Address>().unwrap_err();
        let message = error.to_string();
        let (start, why) = message.split_once(" is not an address like tcp://127.0.0.1:4000: ").unwrap();
        (start.to_owned(), why.to_owned())
    };
    assert_eq!(why("127.0.0.1:4000"), ("\"127.0.0.1:4000\"".to_owned(), "there is no \"://\"".to_owned()));
    for text in ["://x", "TCP://x", "t-p://x", "tcp ://x"] {
        assert_eq!(why(text).1, "the scheme is not lower-case letters and digits", "{text}");
    }
    for text in ["tcp://", "tcp://a b", "tcp://a\n", "tcp://ü", "tcp://\u{7f}"] {
        assert_eq!(why(text).1, "what follows \"://\" is empty or not printable ASCII", "{text}");
    }
    let long = format!("tcp://{}", "x".repeat(250));
    assert_eq!(why(&long), (format!("{:?}", &long[..64]), "it is longer than 255 bytes".to_owned()));
    assert!(long[..255].parse::<Address>().is_ok());
    // A terminal's control sequence does not reach the terminal.
    assert_eq!(why("\u{1b}[2J").0, "\"\\u{1b}[2J\"");
}

proptest! {
    #[test]
    fn a_peers_text_leads_back_to_it_and_sorts_as_its_bytes(one: [u8; 32], other: [u8; 32]) {
        let (one, other) = (PeerId::from_bytes(one), PeerId::from_bytes(other));
        prop_assert_eq!(one.to_string().parse(), Ok(one));
        prop_assert_eq!(one.to_string().len(), PeerId::TEXT_LEN);
        prop_assert_eq!(PeerId::try_from(&one.as_bytes()[..]), Ok(one));
        prop_assert_eq!(one.cmp(&other), one.as_bytes().cmp(other.as_bytes()));
    }

    #[test]
    fn any_text_is_a_peer_or_an_error(text in ".{0,60}") {
        if let Ok(peer) = text.parse::<PeerId>() {
            prop_assert_eq!(peer.to_string(), text.to_lowercase());
        }
    }

    #[test]
    fn any_text_is_an_address_that_prints_as_it_was_or_an_error(text in "([a-z0-9]{0,4}://)?.{0,20}") {
        if let Ok(address) = text.parse::<Address>() {
            prop_assert_eq!(address.as_str(), &text);
            prop_assert_eq!(format!("{}://{}", address.scheme(), address.rest()), text);
        }
    }

    #[test]
    fn every_socket_address_is_an_address(socket: SocketAddr) {
        let address = Address::tcp(socket);
        prop_assert_eq!(address.to_string().parse(), Ok(address.clone()));
        // As text, because that of an IPv6 address is without its flow label.
        prop_assert_eq!(address.rest().parse::<SocketAddr>().unwrap().to_string(), socket.to_string());
    }
}
