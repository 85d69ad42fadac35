//! The text that an administrator hands over.

#![expect(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it should be")]

use std::time::Duration;

use peerage_machine::{Seed, UnixMillis};
use peerage_rpc::accounts::{
    Accounts, AccountsConfig, Confirmation, Invite, InviteTextError, Kind, NewInvite, Token,
};
use peerage_wire::PeerId;
use proptest::prelude::*;

fn token(seed: u64) -> Token {
    let new = NewInvite {
        kind: Kind::User,
        label: String::new(),
        ttl: Duration::from_secs(1),
        confirmation: Confirmation::AtOnce,
    };
    let mut accounts = Accounts::new(AccountsConfig::default());
    accounts.invite(UnixMillis(0), new, &mut Seed::from_u64(seed).rng()).unwrap().0
}

fn invite() -> Invite {
    Invite {
        broker: PeerId::from_bytes([3; 32]),
        addresses: vec![
            "tcp://broker.example:4000".parse().unwrap(),
            "tcp://[2001:db8::1]:4000".parse().unwrap(),
        ],
        network: "notes".to_owned(),
        kind: Kind::Node,
        token: token(1),
    }
}

const TEXT: &str = "peerage-invite-1-biqagaydambqgaydambqgaydambqgaydambqgaydambqgaydambqgaysdf2gg4b2f4xwe4tpn\
    nsxeltfpbqw24dmmu5dimbqgajbq5ddoa5c6l23giydamj2mrrdqor2gfotunbqgaybublon52gk4zaaivba4mngge\
    nkjg4th3kyj7qygvfzlnq7gqos";

#[test]
fn an_invite_has_the_text_that_is_pinned_here() {
    assert_eq!(invite().to_string(), TEXT);
    assert_eq!(TEXT.parse::<Invite>(), Ok(invite()));
}

#[test]
fn mail_may_break_an_invite_into_lines_and_people_may_shout_it() {
    let (a, rest) = TEXT.split_at(30);
    let (b, c) = rest.split_at(76);
    let text = format!("  {a}\r\n{} \n\t{c}\n", b.to_uppercase());
    assert_eq!(text.parse::<Invite>(), Ok(invite()));
}

#[test]
fn what_is_no_invite_is_told_what_it_is() {
    let error = |text: &str| text.parse::<Invite>().unwrap_err();
    for other in ["", "peerage", "hello", "peerage-invite-", "peerage-invite-1", &TEXT[1..]] {
        assert_eq!(error(other), InviteTextError::NotAnInvite, "{other:?}");
    }
    let later = TEXT.replacen("-1-", "-2-", 1);
    assert_eq!(error(&later), InviteTextError::Version { found: "2".to_owned() });
    assert_eq!(error(&TEXT.replacen("-1-", "-1-8", 1)), InviteTextError::Character { found: '8', at: 17 });
    assert_eq!(error(&TEXT.replacen("-1-", "-1-é", 1)), InviteTextError::Character { found: 'é', at: 17 });
    assert_eq!(error("peerage-invite-1-"), InviteTextError::Checksum);
    let long = "x".repeat(20_000);
    assert_eq!(error(&long), InviteTextError::TooLong { length: 20_000, limit: 16_384 });
}

#[test]
fn an_invite_that_is_cut_anywhere_is_none() {
    for length in 0..TEXT.len() {
        assert!(TEXT[..length].parse::<Invite>().is_err(), "{length}");
    }
}

#[test]
fn a_token_shows_only_where_it_is_meant_to() {
    let shown = format!("{:?}", invite());
    assert!(shown.contains("Token(…)") && shown.contains("notes"), "{shown}");
}

proptest! {
    #[test]
    fn any_invite_is_read_as_it_was_written(
        key in any::<[u8; 32]>(),
        ports in proptest::collection::vec(any::<u16>(), 1..=16),
        network in "\\PC{0,30}",
        is_node in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let invite = Invite {
            broker: PeerId::from_bytes(key),
            addresses: ports.iter().map(|port| format!("tcp://192.0.2.1:{port}").parse().unwrap()).collect(),
            network,
            kind: if is_node { Kind::Node } else { Kind::User },
            token: token(seed),
        };
        prop_assert_eq!(invite.to_string().parse::<Invite>(), Ok(invite));
    }

    /// A checksum of 32 bits lets one in four thousand million through.
    #[test]
    fn an_invite_with_a_wrong_letter_is_none(at in 0..TEXT.len(), letter in "[a-z2-7]") {
        let mut text = TEXT.to_owned();
        text.replace_range(at..=at, &letter);
        prop_assert_eq!(text.parse::<Invite>().is_ok(), text == TEXT);
    }

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,200}", letters in "[a-z2-7]{0,200}") {
        prop_assert!(text.parse::<Invite>().is_err());
        let begun = format!("peerage-invite-1-{}", letters);
        prop_assert!(begun.parse::<Invite>().is_err());
    }
}
