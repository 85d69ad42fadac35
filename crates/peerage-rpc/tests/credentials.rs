//! What a user or a node keeps on its own machine.

#![expect(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it should be")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use peerage_identity::{Identity, KeyFileError};
use peerage_machine::{Seed, UnixMillis};
use peerage_rpc::accounts::{Accounts, AccountsConfig, Confirmation, Invite, Kind, NewInvite};
use peerage_rpc::credentials::{Credentials, CredentialsError, Existing, Home, default_location};
use peerage_wire::PeerId;
use proptest::prelude::*;
use tempfile::TempDir;

fn home() -> (TempDir, Home) {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::at(folder.path().join("peerage/notes"));
    (folder, home)
}

fn identity(seed: u8) -> Identity {
    Identity::from_seed([seed; 32])
}

fn credentials(seed: u8) -> Credentials {
    Credentials {
        identity: identity(seed),
        broker: PeerId::from_bytes([9; 32]),
        addresses: vec!["tcp://192.0.2.1:4000".parse().unwrap(), "tcp://[2001:db8::1]:4000".parse().unwrap()],
        network: "the notes".to_owned(),
    }
}

fn invite(seed: u64) -> Invite {
    let new = NewInvite {
        kind: Kind::User,
        label: String::new(),
        ttl: Duration::from_secs(1),
        confirmation: Confirmation::AtOnce,
    };
    let mut accounts = Accounts::new(AccountsConfig::default());
    let (token, _) = accounts.invite(UnixMillis(0), new, &mut Seed::from_u64(seed).rng()).unwrap();
    let Credentials { broker, addresses, network, .. } = credentials(0);
    Invite { broker, addresses, network, kind: Kind::User, token }
}

fn key_of(credentials: &Credentials) -> PeerId {
    credentials.identity.peer_id()
}

/// All that there is in a directory, by name.
fn contents(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found: Vec<_> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect();
    found.sort();
    found
}

#[test]
fn locations_stand_side_by_side_and_the_first_is_the_default() {
    let (_folder, home) = home();
    assert!(matches!(home.default_location(), Err(CredentialsError::NoDefault { .. })));
    assert_eq!(home.locations().unwrap(), [""; 0]);
    home.save("office", &credentials(1), Existing::Keep).unwrap();
    home.save("home.example", &credentials(2), Existing::Keep).unwrap();
    assert_eq!(home.locations().unwrap(), ["home.example", "office"]);
    assert_eq!(key_of(&home.default_location().unwrap()), key_of(&credentials(1)));
    home.set_default("home.example").unwrap();
    assert_eq!(home.default_name().unwrap().unwrap(), "home.example");
    let read = home.default_location().unwrap();
    let kept = credentials(2);
    assert_eq!(
        (key_of(&read), read.broker, read.addresses, read.network),
        (key_of(&kept), kept.broker, kept.addresses, kept.network)
    );
    assert_eq!(key_of(&home.location("office").unwrap()), key_of(&credentials(1)));
}

#[test]
fn what_is_not_there_is_named_with_its_path() {
    let (_folder, home) = home();
    home.save("office", &credentials(1), Existing::Keep).unwrap();
    for error in [
        home.location("hom").unwrap_err(),
        home.set_default("hom").unwrap_err(),
        home.remove("hom").unwrap_err(),
    ] {
        assert!(matches!(&error, CredentialsError::Absent { name, .. } if name == "hom"), "{error}");
        assert!(error.to_string().contains("peerage/notes/hom.location"), "{error}");
    }
    assert_eq!(home.default_name().unwrap().unwrap(), "office");
}

#[test]
fn a_location_is_overwritten_only_when_that_is_said() {
    let (_folder, home) = home();
    home.save("office", &credentials(1), Existing::Keep).unwrap();
    let before = contents(home.path());
    let error = home.save("office", &credentials(2), Existing::Keep).unwrap_err();
    assert!(matches!(error, CredentialsError::Exists { .. }), "{error}");
    let error = home.enrol("office", &invite(1), Existing::Keep).unwrap_err();
    assert!(matches!(error, CredentialsError::Exists { .. }), "{error}");
    assert_eq!(contents(home.path()), before);
    home.save("office", &credentials(2), Existing::Replace).unwrap();
    assert_eq!(key_of(&home.location("office").unwrap()), key_of(&credentials(2)));
    // The old key is gone, and nothing else has come.
    assert_eq!(contents(home.path()).len(), before.len());
    // The same again changes nothing.
    let before = contents(home.path());
    home.save("office", &credentials(2), Existing::Replace).unwrap();
    assert_eq!(contents(home.path()), before);
}

#[test]
fn a_removed_location_leaves_nothing() {
    let (_folder, home) = home();
    home.save("office", &credentials(1), Existing::Keep).unwrap();
    home.save("home", &credentials(2), Existing::Keep).unwrap();
    home.remove("office").unwrap();
    assert_eq!(home.locations().unwrap(), ["home"]);
    assert!(matches!(home.default_location(), Err(CredentialsError::NoDefault { .. })));
    home.remove("home").unwrap();
    assert_eq!(contents(home.path()), []);
}

#[test]
fn a_newcomers_location_is_there_when_the_broker_has_accepted_it_and_not_before() {
    let (_folder, home) = home();
    let newcomer = home.enrol("office", &invite(1), Existing::Keep).unwrap();
    let key = key_of(newcomer.credentials());
    assert_eq!(newcomer.credentials().network, "the notes");
    assert_eq!(home.locations().unwrap(), [""; 0]);
    assert_eq!(key_of(&newcomer.accepted().unwrap()), key);
    assert_eq!(key_of(&home.default_location().unwrap()), key);
}

#[test]
fn a_try_that_was_cut_goes_on_with_the_same_key() {
    let (_folder, home) = home();
    let first = home.enrol("office", &invite(1), Existing::Keep).unwrap();
    let key = key_of(first.credentials());
    // The broker has accepted it, and the answer or the process is lost.
    drop(first);
    let again = home.enrol("office", &invite(1), Existing::Keep).unwrap();
    assert_eq!(key_of(again.credentials()), key);
    again.accepted().unwrap();
    // Another invite is for another key.
    let other = home.enrol("home", &invite(2), Existing::Keep).unwrap();
    assert_ne!(key_of(other.credentials()), key);
}

#[test]
fn a_refused_newcomer_leaves_what_was() {
    let (_folder, home) = home();
    home.save("office", &credentials(1), Existing::Keep).unwrap();
    let before = contents(home.path());
    home.enrol("office", &invite(1), Existing::Replace).unwrap().refused().unwrap();
    assert_eq!(contents(home.path()), before);
    // Also one whose key has been accepted before.
    home.enrol("office", &invite(1), Existing::Replace).unwrap().accepted().unwrap();
    let before = contents(home.path());
    home.enrol("office", &invite(1), Existing::Replace).unwrap().refused().unwrap();
    assert_eq!(contents(home.path()), before);
    home.location("office").unwrap();
}

#[test]
fn of_two_newcomers_of_one_name_the_second_is_told() {
    let (_folder, home) = home();
    let first = home.enrol("office", &invite(1), Existing::Keep).unwrap();
    let second = home.enrol("office", &invite(2), Existing::Keep).unwrap();
    let key = key_of(&first.accepted().unwrap());
    let error = second.accepted().unwrap_err();
    assert!(matches!(error, CredentialsError::Exists { .. }), "{error}");
    assert_eq!(key_of(&home.location("office").unwrap()), key);
    // Its key is still there for who wants to replace the first.
    let again = home.enrol("office", &invite(2), Existing::Replace).unwrap();
    let key = key_of(&again.accepted().unwrap());
    assert_eq!(key_of(&home.location("office").unwrap()), key);
}

#[test]
fn keys_are_encrypted_when_there_is_a_passphrase() {
    let (_folder, home) = home();
    let locked = home.clone().with_passphrase("correct horse");
    locked.save("office", &credentials(1), Existing::Keep).unwrap();
    assert_eq!(key_of(&locked.location("office").unwrap()), key_of(&credentials(1)));
    let error = home.location("office").unwrap_err();
    assert!(matches!(error, CredentialsError::Key(KeyFileError::Encrypted { .. })), "{error}");
    let error = home.with_passphrase("battery staple").location("office").unwrap_err();
    assert!(matches!(error, CredentialsError::Key(KeyFileError::Passphrase { .. })), "{error}");
    assert!(!format!("{locked:?}").contains("horse"));
}

#[cfg(unix)]
mod modes {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    fn set(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn everything_is_made_for_its_owner_alone() {
        let (_folder, home) = home();
        home.save("office", &credentials(1), Existing::Keep).unwrap();
        home.enrol("home", &invite(1), Existing::Keep).unwrap().accepted().unwrap();
        assert_eq!(mode(home.path()), 0o700);
        assert_eq!(mode(home.path().parent().unwrap()), 0o700);
        let files: Vec<String> = contents(home.path()).into_iter().map(|(name, _)| name).collect();
        assert_eq!(files.len(), 5, "{files:?}");
        for file in files {
            assert_eq!(mode(&home.path().join(&file)), 0o600, "{file}");
        }
    }

    #[test]
    fn what_others_may_get_at_is_refused_by_name() {
        let (_folder, home) = home();
        home.save("office", &credentials(1), Existing::Keep).unwrap();
        for (name, _) in contents(home.path()) {
            let path = home.path().join(&name);
            for loose in [0o640, 0o604, 0o620, 0o666] {
                set(&path, loose);
                let error = home.default_location().unwrap_err().to_string();
                assert!(error.contains(&name) && error.contains("chmod 600"), "{error}");
            }
            set(&path, 0o600);
        }
        for loose in [0o750, 0o701, 0o777] {
            set(home.path(), loose);
            for error in [
                home.default_location().unwrap_err(),
                home.locations().unwrap_err(),
                home.set_default("office").unwrap_err(),
                home.save("home", &credentials(2), Existing::Keep).unwrap_err(),
                home.enrol("home", &invite(1), Existing::Keep).unwrap_err(),
            ] {
                let is_mode = matches!(
                    &error,
                    CredentialsError::Mode { path, mode, wanted: 0o700 } if path == home.path() && *mode == loose
                );
                assert!(is_mode, "{error}");
            }
        }
        set(home.path(), 0o700);
        home.default_location().unwrap();
        assert_eq!(contents(home.path()).len(), 3);
    }
}

#[test]
fn names_that_would_lead_elsewhere_are_refused() {
    let (_folder, home) = home();
    let long = "x".repeat(65);
    for name in ["", ".", "..", "../office", "a/b", "a\\b", "-x", ".x", "Büro", "OFFICE", "a b", "c:", &long]
    {
        for error in [
            home.location(name).unwrap_err(),
            home.set_default(name).unwrap_err(),
            home.remove(name).unwrap_err(),
            home.save(name, &credentials(1), Existing::Replace).unwrap_err(),
            home.enrol(name, &invite(1), Existing::Replace).unwrap_err(),
            Home::of(name).unwrap_err(),
        ] {
            assert!(matches!(error, CredentialsError::Name { .. }), "{name:?}: {error}");
        }
    }
    assert!(!home.path().exists());
    home.save(&"x".repeat(64), &credentials(1), Existing::Keep).unwrap();
}

#[test]
fn credentials_that_could_not_be_read_again_are_not_kept() {
    let (_folder, home) = home();
    let none = Credentials { addresses: Vec::new(), ..credentials(1) };
    let many = Credentials { addresses: vec!["tcp://a:1".parse().unwrap(); 17], ..credentials(1) };
    let lines = Credentials { network: "a\nkey b".to_owned(), ..credentials(1) };
    let long = Credentials { network: "n".repeat(129), ..credentials(1) };
    for unfit in [none, many, lines, long] {
        let error = home.save("office", &unfit, Existing::Keep).unwrap_err();
        assert!(matches!(error, CredentialsError::Unfit { .. }), "{error}");
    }
    assert!(!home.path().exists());
}

#[test]
fn a_file_that_makes_no_sense_says_where() {
    let (_folder, home) = home();
    home.save("office", &credentials(1), Existing::Keep).unwrap();
    let path = home.path().join("office.location");
    let good = fs::read_to_string(&path).unwrap();
    let fails = |text: &str, at: usize, what: &str| {
        fs::write(&path, text).unwrap();
        let error = home.location("office").unwrap_err();
        let is_there = matches!(&error, CredentialsError::Malformed { line, .. } if *line == at);
        assert!(is_there && error.to_string().contains(what), "{text:?}: {error}");
        assert!(error.to_string().contains("office.location"), "{error}");
    };
    fails("", 1, "it is not");
    fails(&good.replacen("location 1", "location 2", 1), 1, "\"peerage location 1\"");
    fails(&good.replacen("key ", "kay ", 1), 2, "\"kay\" is no word");
    fails(&good.replacen("key ", "key ../", 1), 2, "no name of a key file");
    fails(&good.replacen("broker ", "broker 8", 1), 3, "52 characters");
    fails(&good.replacen("network the", "network \u{1b}the", 1), 4, "control characters");
    fails(&good.replacen("tcp://", "tcp:/", 1), 5, "is not an address");
    fails(&(good.clone() + "network again\n"), 7, "one network too many");
    fails(&(good.clone() + &"address tcp://a:1\n".repeat(15)), 21, "one address too many");
    for missing in ["key", "broker", "network", "address"] {
        let rest: String =
            good.lines().filter(|line| !line.starts_with(missing)).map(|line| format!("{line}\n")).collect();
        fails(&rest, rest.lines().count(), &format!("no {missing} in it"));
    }
    fails(&"#\n".repeat(10_000), 1, "longer than");
    fs::write(&path, b"peerage location 1\n\xff").unwrap();
    assert!(home.location("office").unwrap_err().to_string().contains("not text"));
    // People edit files.
    fs::write(&path, good.replace('\n', "\r\n\r\n# moved in May\r\n")).unwrap();
    home.location("office").unwrap();
    // And a location that makes no sense can be replaced.
    fs::write(&path, "nonsense").unwrap();
    assert!(matches!(
        home.save("office", &credentials(2), Existing::Keep),
        Err(CredentialsError::Exists { .. })
    ));
    home.save("office", &credentials(2), Existing::Replace).unwrap();
    assert_eq!(key_of(&home.location("office").unwrap()), key_of(&credentials(2)));
    fs::write(home.path().join("default"), "../other\n").unwrap();
    assert!(matches!(home.default_location(), Err(CredentialsError::Malformed { line: 1, .. })));
    fs::write(home.path().join("default"), "gone\n").unwrap();
    assert!(matches!(home.default_location(), Err(CredentialsError::Absent { .. })));
}

#[test]
fn a_location_whose_key_is_gone_says_so() {
    let (_folder, home) = home();
    home.save("office", &credentials(1), Existing::Keep).unwrap();
    let names = contents(home.path());
    let (key, _) = names.iter().find(|(name, _)| name.ends_with(".key")).unwrap();
    fs::remove_file(home.path().join(key)).unwrap();
    let error = home.location("office").unwrap_err();
    assert!(
        matches!(&error, CredentialsError::Key(KeyFileError::Absent { path }) if path.ends_with(key)),
        "{error}"
    );
}

/// Set for the child: the key that it should find.
const EXPECTED: &str = "PEERAGE_TEST_EXPECTED";

/// Not a test by itself: a program that looks for its default location.
#[test]
fn child() {
    let Ok(expected) = std::env::var(EXPECTED) else { return };
    assert_eq!(default_location("notes").unwrap().identity.peer_id().to_string(), expected);
    let other = default_location("films").unwrap_err();
    assert!(matches!(other, CredentialsError::NoDefault { .. }), "{other}");
}

#[test]
fn a_program_finds_its_default_location_by_the_variable_and_in_the_users_home() {
    let folder = tempfile::tempdir().unwrap();
    for (variable, value, base) in [
        ("PEERAGE_HOME", folder.path().join("here"), folder.path().join("here")),
        ("HOME", folder.path().join("ada"), folder.path().join("ada/.peerage")),
    ] {
        Home::at(base.join("notes")).save("office", &credentials(7), Existing::Keep).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "child"]).env_remove("PEERAGE_HOME");
        command.env(EXPECTED, identity(7).peer_id().to_string()).env(variable, value);
        let ran = command.output().unwrap();
        assert!(ran.status.success(), "{variable}: {}", String::from_utf8_lossy(&ran.stdout));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_was_kept_is_what_is_read(
        network in "[^\\p{Cc}]{0,30}",
        ports in proptest::collection::vec(any::<u16>(), 1..=16),
        key in any::<[u8; 32]>(),
    ) {
        let (_folder, home) = home();
        let kept = Credentials {
            identity: Identity::from_seed(key),
            broker: PeerId::from_bytes(key),
            addresses: ports.iter().map(|port| format!("tcp://192.0.2.1:{port}").parse().unwrap()).collect(),
            network,
        };
        home.save("office", &kept, Existing::Keep).unwrap();
        let read = home.location("office").unwrap();
        prop_assert_eq!(key_of(&read), key_of(&kept));
        prop_assert_eq!((read.broker, read.addresses, read.network), (kept.broker, kept.addresses, kept.network));
    }

    /// Whatever is done to a file: an error that names it, or credentials.
    #[test]
    fn no_file_makes_it_panic(at in any::<proptest::sample::Index>(), with in "\\PC{0,5}\n?\\PC{0,5}") {
        let (_folder, home) = home();
        home.save("office", &credentials(1), Existing::Keep).unwrap();
        let path = home.path().join("office.location");
        let mut text = fs::read_to_string(&path).unwrap();
        let at = at.index(text.len());
        text.replace_range(at..=at, &with);
        fs::write(&path, text).unwrap();
        match home.location("office") {
            Ok(_) => {}
            Err(CredentialsError::Malformed { path: named, .. }) => prop_assert_eq!(named, path),
            Err(CredentialsError::Key(KeyFileError::Absent { .. })) => {}
            Err(other) => prop_assert!(false, "{}", other),
        }
    }
}
