//! Links and instances that are not wanted, and what both sides hear of it.

use bytes::{Bytes, BytesMut};
use peerage_link::Setup;
use peerage_machine::{Direction, InstanceName, Instant, Refusal, RefusalReason, Side, Why};
use peerage_wire::Suite;
use peerage_wire::preface::Preface;

use crate::common::{Channel, End, Pair, dialer, instance, listener, of_suites, peer, setup, with};

fn name(name: &str) -> InstanceName {
    InstanceName { protocol: "test".to_owned(), name: name.to_owned() }
}

fn by_them(instance: &str, reason: RefusalReason) -> Refusal {
    Refusal { by: Side::Them, instance: name(instance), reason }
}

fn version(setup: &mut Setup, place: usize, version: u32) {
    setup.instances[place].version = version;
}

fn run(a: Setup, b: Setup) -> Pair {
    let mut pair = Pair::new(a, b);
    pair.run();
    pair
}

fn assert_refused(pair: &Pair, a: &Refusal, b: &Refusal) {
    assert!(!pair.a.heard.is_up() && !pair.b.heard.is_up());
    assert_eq!(pair.a.closed(), &Why::Refused(a.clone()));
    assert_eq!(pair.b.closed(), &Why::Refused(b.clone()));
}

#[test]
fn names_that_differ_refuse_the_link_on_both_sides() {
    let pair = run(dialer(&["x"]), listener(&["y"]));
    let unknown = RefusalReason::UnknownInstance;
    assert_refused(&pair, &by_them("x", unknown.clone()), &by_them("y", unknown));
    assert_eq!(
        pair.a.closed().to_string(),
        "the peer refused test \"x\": it runs no instance of that protocol and name"
    );
}

#[test]
fn versions_that_differ_refuse_the_link_with_both_versions() {
    let mut a = dialer(&["x"]);
    version(&mut a, 0, 7);
    let pair = run(a, listener(&["x"]));
    assert_refused(
        &pair,
        &by_them("x", RefusalReason::Version { ours: 7, theirs: "1".to_owned() }),
        &by_them("x", RefusalReason::Version { ours: 1, theirs: "7".to_owned() }),
    );
}

#[test]
fn parameters_that_differ_refuse_the_link_with_both_parameters() {
    let (mut a, mut b) = (dialer(&["x"]), listener(&["x"]));
    a.instances[0].parameters = Bytes::from_static(&[0xab, 4]);
    b.instances[0].parameters = Bytes::from(vec![0x11; 1024]);
    let pair = run(a, b);
    let long = format!("{}…", "11".repeat(64));
    let parameters = |ours: &str, theirs: &str| RefusalReason::Parameters {
        ours: ours.to_owned(),
        theirs: theirs.to_owned(),
    };
    assert_refused(&pair, &by_them("x", parameters("ab04", &long)), &by_them("x", parameters(&long, "ab04")));
}

#[test]
fn a_difference_says_more_than_a_name_that_is_missing() {
    let mut a = dialer(&["other", "x"]);
    version(&mut a, 1, 2);
    let pair = run(a, listener(&["x"]));
    assert!(matches!(pair.a.closed(), Why::Refused(Refusal { reason: RefusalReason::Version { .. }, .. })));
}

#[test]
fn one_instance_in_common_is_enough_and_the_others_are_refused_on_both_sides() {
    let (mut a, mut b) = (dialer(&["v", "x", "only a", "p"]), listener(&["x", "only b", "p", "v"]));
    version(&mut a, 0, 2);
    b.instances[2].parameters = Bytes::from_static(b"!");
    let pair = Pair::up(a, b);
    let unknown = RefusalReason::UnknownInstance;
    let version = |ours: u32, theirs: &str| RefusalReason::Version { ours, theirs: theirs.to_owned() };
    let parameters = |ours: &str, theirs: &str| RefusalReason::Parameters {
        ours: ours.to_owned(),
        theirs: theirs.to_owned(),
    };
    let of_a = [
        Channel::Up(1),
        Channel::Refused(0, by_them("v", version(2, "1"))),
        Channel::Refused(2, by_them("only a", unknown.clone())),
        Channel::Refused(3, by_them("p", parameters("", "21"))),
    ];
    let of_b = [
        Channel::Up(0),
        Channel::Refused(1, by_them("only b", unknown)),
        Channel::Refused(2, by_them("p", parameters("21", ""))),
        Channel::Refused(3, by_them("v", version(1, "2"))),
    ];
    assert_eq!(pair.a.heard.channels(), of_a);
    assert_eq!(pair.b.heard.channels(), of_b);
}

#[test]
fn hundreds_of_long_refusals_arrive_all_the_same() {
    let make = |mut setup: Setup, version: u32| {
        setup.instances = (0..100).map(|number| instance(&number.to_string())).collect();
        setup.instances.iter_mut().skip(1).for_each(|instance| {
            instance.version = version;
            instance.parameters = Bytes::from(vec![version as u8; 100]);
        });
        setup
    };
    let pair = Pair::up(make(dialer(&[]), 1), make(listener(&[]), 2));
    assert_eq!(pair.a.heard.channels().len(), 100);
    assert_eq!(pair.b.heard.channels().len(), 100);
}

#[test]
fn without_instances_on_one_side_the_link_is_up() {
    let pair = Pair::up(dialer(&[]), listener(&["x"]));
    assert_eq!(pair.a.heard.channels(), []);
    assert_eq!(pair.b.heard.channels(), [Channel::Refused(0, by_them("x", RefusalReason::UnknownInstance))]);
}

#[test]
fn equal_instances_meet_in_the_order_of_their_numbers() {
    let pair = Pair::up(dialer(&["x", "x"]), listener(&["y", "x", "x", "x"]));
    assert_eq!(pair.a.heard.channels(), [Channel::Up(0), Channel::Up(1)]);
    assert_eq!(pair.b.heard.channels()[..2], [Channel::Up(1), Channel::Up(2)]);
}

#[test]
fn channels_beyond_the_limit_are_refused_on_both_sides_with_its_number() {
    let pair = Pair::up(
        dialer(&["x", "y", "z"]),
        with(listener(&["x", "y", "z"]), |config| config.max_channels = 2),
    );
    let limit = RefusalReason::Limit("2 channels".to_owned());
    assert_eq!(
        pair.a.heard.channels(),
        [Channel::Up(0), Channel::Up(1), Channel::Refused(2, by_them("z", limit.clone()))]
    );
    let own = Refusal { by: Side::Us, instance: name("z"), reason: limit };
    assert_eq!(pair.b.heard.channels(), [Channel::Up(0), Channel::Up(1), Channel::Refused(2, own)]);
}

#[test]
fn somebody_else_at_the_other_end_is_a_wrong_peer_on_both_sides() {
    let mut a = dialer(&["x"]);
    a.expected = Some(peer(3));
    let pair = run(a, listener(&["x"]));
    let wrong = Why::WrongPeer { expected: peer(3), found: peer(2) };
    assert_eq!((pair.a.closed(), pair.b.closed()), (&wrong, &wrong));
    assert!(pair.a.heard.hello().is_none());
}

#[test]
fn the_expected_peer_is_welcome() {
    let mut a = dialer(&["x"]);
    a.expected = Some(peer(2));
    Pair::up(a, listener(&["x"]));
}

#[test]
fn a_dial_to_oneself_is_known_on_both_sides() {
    let pair = run(dialer(&["x"]), setup(Direction::Inbound, 1, &["x"]));
    assert_eq!((pair.a.closed(), pair.b.closed()), (&Why::SelfDial, &Why::SelfDial));
}

#[test]
fn a_host_that_refuses_says_why() {
    for (why, heard) in [
        (Why::Duplicate, Why::Duplicate),
        (
            Why::Limit { by: Side::Us, what: "64 links".to_owned() },
            Why::Limit { by: Side::Them, what: "64 links".to_owned() },
        ),
    ] {
        let mut pair = Pair::new(dialer(&["x"]), listener(&["x"]));
        pair.b.answer = Some(Err(why.clone()));
        pair.run();
        assert_eq!((pair.b.closed(), pair.a.closed()), (&why, &heard));
        assert!(!pair.a.heard.is_up());
    }
}

#[test]
fn another_version_or_suite_is_told_to_both_sides() {
    for (place, theirs) in [(7, "version 2 with suite 1"), (8, "version 1 with suite 2 (AESGCM)")] {
        let mut pair = Pair::new(dialer(&["x"]), listener(&["x"]));
        pair.a.flush(usize::MAX);
        // A dialer of the future differs from ours in one byte of its preface.
        pair.a.wire[place] = 2;
        pair.run();
        let ours = "version 1 with suite 1 (ChaChaPoly)".to_owned();
        let why = Why::Incompatible { ours: ours.clone(), theirs: theirs.to_owned() };
        assert_eq!(pair.b.closed(), &why);
        // This dialer is of the present, and takes the answer for that of another program.
        assert_eq!(pair.a.closed(), &Why::Incompatible { ours: ours.clone(), theirs: ours });
        // It was what it dialled with in the first place; whether that is worth another dial is for the host to say.
        assert_eq!(pair.a.link.counter_offer(), Some(Suite::ChaChaPoly));
        assert_eq!((pair.a.link.suite(), pair.b.link.suite()), (None, None));
    }
}

#[test]
fn a_listener_that_does_not_take_the_suite_names_its_favourite() {
    let mut pair = Pair::new(
        of_suites(dialer(&["x"]), &[Suite::AesGcm, Suite::ChaChaPoly]),
        of_suites(listener(&["x"]), &[Suite::ChaChaPoly]),
    );
    pair.run();
    let (aes, chacha) = ("version 1 with suite 2 (AESGCM)", "version 1 with suite 1 (ChaChaPoly)");
    let incompatible =
        |ours: &str, theirs: &str| Why::Incompatible { ours: ours.to_owned(), theirs: theirs.to_owned() };
    assert_eq!(pair.a.closed(), &incompatible(aes, chacha));
    assert_eq!(pair.b.closed(), &incompatible(chacha, aes));
    assert_eq!(pair.a.link.counter_offer(), Some(Suite::ChaChaPoly));
    assert_eq!(pair.b.link.counter_offer(), None, "it was not asked");
}

#[test]
fn a_link_that_may_use_no_suite_ends_before_it_says_anything() {
    for setup in [dialer(&["x"]), listener(&["x"])] {
        let mut end = End::new(of_suites(setup, &[]), Instant::START);
        end.poll();
        assert!(matches!(end.closed(), Why::Limit { by: Side::Us, .. }), "{:?}", end.closed());
        end.flush(usize::MAX);
        assert!(end.wire.is_empty());
    }
}

#[test]
fn a_dialer_hears_what_a_listener_of_another_version_speaks() {
    let mut end = End::new(dialer(&["x"]), Instant::START);
    let answer = Preface { version: 3, suite: 2 }.encode();
    for byte in &answer[..8] {
        end.arrive(Instant::START, &[*byte]);
        end.poll();
        assert!(end.heard.closed().is_none());
    }
    end.arrive(Instant::START, &answer[8..]);
    end.poll();
    assert_eq!(
        end.closed().to_string(),
        "no common link protocol: this endpoint speaks version 1 with suite 1 (ChaChaPoly), the peer version 3 with \
         suite 2"
    );
    assert_eq!(end.link.counter_offer(), None, "what suite 2 is in version 3, nobody knows");
}

#[test]
fn what_is_not_peerage_is_told_by_its_first_byte_and_gets_no_answer() {
    for request in ["GET / HTTP/1.1\r\n\r\n", "G", "PEERAGG\u{1}\u{1}", "SSH-2.0-x\r\n", "\0\0\0\0"] {
        let mut end = End::new(listener(&["x"]), Instant::START);
        end.arrive(Instant::START, request.as_bytes());
        end.poll();
        assert!(matches!(end.closed(), Why::Fault { by: Side::Them, .. }), "{request:?}");
        end.flush(usize::MAX);
        assert_eq!(end.wire, BytesMut::new());
    }
    for answer in ["HTTP/1.1 400 Bad Request\r\n", "SSH-2.0-x\r\n", "PEACH PIE"] {
        let mut end = End::new(dialer(&["x"]), Instant::START);
        end.arrive(Instant::START, answer.as_bytes());
        end.poll();
        assert!(matches!(end.closed(), Why::Fault { by: Side::Them, .. }), "{answer:?}");
    }
}
