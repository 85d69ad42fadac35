//! Credit that is not used goes back when others want it: by an honest peer at once, and a greedy one is cut.

use std::sync::Arc;
use std::time::Duration;

use peerage_link::{LinkConfig, Memory};
use peerage_machine::{Class, Side, Why};
use peerage_wire::proto::link::v1 as proto;
use peerage_wire::proto::link::v1::control::Kind;

use crate::common::{Got, Stranger, body, instance, listener};

const SECOND: Duration = Duration::from_secs(1);
const FIRST: u64 = 64 << 10;

fn reclaim(channel: u32, class: u32, bytes: u64) -> Kind {
    Kind::Reclaim(proto::Reclaim { channel, class, bytes })
}

fn returned(channel: u32, class: u32, bytes: u64) -> Kind {
    Kind::Returned(proto::Returned { channel, class, bytes })
}

fn credit(channel: u32, class: u32, bytes: u64) -> Kind {
    Kind::Credit(proto::Credit { channel, class, bytes })
}

/// A stranger on a link whose windows grow, and what it may send in bulk.
struct Grower {
    stranger: Stranger,
    allowed: u64,
    asked: u64,
}

impl Grower {
    fn new(memory: &Memory) -> Self {
        let mut setup = listener(&["x"]);
        (setup.config, setup.memory) = (Arc::new(LinkConfig::default()), memory.clone());
        Self { stranger: Stranger::up(setup, vec![instance("x")]), allowed: FIRST, asked: 0 }
    }

    fn look(&mut self) {
        for kind in self.stranger.controls() {
            match kind {
                Kind::Credit(credit) => self.allowed += credit.bytes,
                Kind::Reclaim(reclaim) => {
                    assert_eq!((reclaim.channel, reclaim.class), (0, 2));
                    self.asked = reclaim.bytes;
                }
                _ => {}
            }
        }
    }

    /// As many messages as it has credit for, so many times.
    fn grow(&mut self, times: u32) {
        for _ in 0..times {
            while self.allowed >= 16_416 {
                self.allowed -= 16_416;
                self.stranger.data(0, 2, 0, &[1; 16_384]);
            }
            self.look();
        }
    }

    /// A second goes by, in which it says that it lives.
    fn live(&mut self) {
        self.stranger.now = self.stranger.now + SECOND;
        self.stranger.end.on_timer(self.stranger.now);
        if self.stranger.end.heard.closed().is_none() {
            self.stranger.control(Kind::Pong(proto::Pong { nonce: 0 }));
        }
        self.look();
    }

    fn grown(&self) -> u64 {
        self.stranger.end.link.borrowed_bytes().0
    }

    fn why(&self) -> Option<&Why> {
        self.stranger.end.heard.closed()
    }
}

#[test]
fn who_returns_what_it_is_asked_for_keeps_its_link_and_can_grow_again() {
    let memory = Memory::new(4 << 20, 16 << 20);
    let mut peers = [(); 3].map(|()| Grower::new(&memory));
    peers.iter_mut().for_each(|peer| peer.grow(20));
    assert!(memory.windows.left() < 2 << 20);
    for _ in 0..60 {
        for peer in &mut peers {
            peer.live();
            let asked = std::mem::take(&mut peer.asked).min(peer.allowed);
            if asked > 0 {
                peer.allowed -= asked;
                peer.stranger.control(returned(0, 2, asked));
            }
        }
    }
    assert!(memory.windows.left() >= 2 << 20, "{}", memory.windows.left());
    let poorest = peers.iter_mut().min_by_key(|peer| peer.grown()).unwrap();
    let before = poorest.grown();
    assert!(before < 1 << 20, "{before}");
    poorest.grow(20);
    assert!(poorest.grown() > 1 << 20, "{}", poorest.grown());
    assert!(peers.iter().all(|peer| peer.why().is_none()));
}

#[test]
fn who_keeps_credit_that_others_want_is_cut_within_a_minute_and_they_are_not() {
    let memory = Memory::new(4 << 20, 16 << 20);
    let mut greedy = Grower::new(&memory);
    greedy.grow(20);
    let mut busy = Grower::new(&memory);
    busy.grow(4);
    let mut seconds = 0;
    while greedy.why().is_none() {
        seconds += 1;
        assert!(seconds < 60, "it keeps {} bytes for ever", greedy.grown());
        greedy.live();
        busy.live();
        busy.grow(4);
    }
    let what = "memory that others wait for: ";
    match greedy.why() {
        Some(Why::Limit { by: Side::Us, what: found }) => assert!(found.starts_with(what), "{found}"),
        other => panic!("{other:?}"),
    }
    assert!(greedy.asked > 0);
    busy.live();
    busy.grow(4);
    assert_eq!((busy.why(), greedy.grown()), (None, 0));
    assert!(busy.grown() > (3 << 20) / 2, "{}", busy.grown());
}

#[test]
fn who_keeps_credit_that_nobody_wants_keeps_its_link() {
    let memory = Memory::new(4 << 20, 16 << 20);
    let mut only = Grower::new(&memory);
    only.grow(20);
    for _ in 0..300 {
        only.live();
    }
    assert_eq!((only.why(), only.asked, only.grown()), (None, 0, 2 << 20));
}

#[test]
fn returning_what_one_does_not_have_is_a_fault() {
    type Wrong = fn(&mut Stranger);
    let wrong: [(&str, Wrong); 4] = [
        ("returned 262145 bytes of credit and had 262144", |it| it.control(returned(0, 2, (256 << 10) + 1))),
        ("returned 18446744073709551615 bytes", |it| it.control(returned(0, 0, u64::MAX))),
        ("credit of class 1, which takes none", |it| it.control(returned(0, 1, 1))),
        ("channel 7 was never opened", |it| it.control(returned(7, 2, 1))),
    ];
    for (of, does) in wrong {
        let mut stranger = Stranger::up(listener(&["x"]), vec![instance("x")]);
        does(&mut stranger);
        stranger.assert_accused(of);
    }
}

#[test]
fn credit_that_is_returned_unasked_comes_back() {
    let mut stranger = Stranger::up(listener(&["x"]), vec![instance("x")]);
    stranger.control(returned(0, 2, 256 << 10));
    assert_eq!(stranger.controls(), [credit(0, 2, 256 << 10)]);
    stranger.control(returned(0, 2, 0));
    assert_eq!((stranger.controls(), stranger.end.heard.closed()), (vec![], None));
}

#[test]
fn a_sender_returns_what_it_has_and_goes_on_when_it_gets_more() {
    let mut stranger = Stranger::up(listener(&["x"]), vec![instance("x")]);
    stranger.control(reclaim(0, 2, 200 << 10));
    assert_eq!(stranger.controls(), [returned(0, 2, 200 << 10)]);
    stranger.control(reclaim(0, 2, u64::MAX));
    stranger.control(reclaim(0, 2, 1));
    assert_eq!(stranger.controls(), [returned(0, 2, 56 << 10)]);
    stranger.end.link.send(0, Class::Bulk, body(1, 1_000)).unwrap();
    stranger.end.link.send(0, Class::Interactive, body(2, 1_000)).unwrap();
    stranger.read();
    let bytes = |got: &[Got]| -> Vec<usize> {
        let data = got.iter().filter_map(|got| match got {
            Got::Data(_, payload) => Some(payload.len()),
            Got::Control(_) => None,
        });
        data.collect()
    };
    // The other class has its own.
    assert_eq!(bytes(&stranger.got), [1_000]);
    assert_eq!(stranger.end.link.queued(), (1, 1_000));
    stranger.control(credit(0, 2, 1_032));
    stranger.read();
    assert_eq!((bytes(&stranger.got).len(), stranger.end.link.queued()), (2, (0, 0)));
}

#[test]
fn wanting_back_what_was_not_given_is_nothing_or_a_fault_and_a_flood_of_it_no_mountain() {
    let mut stranger = Stranger::up(listener(&["x"]), vec![instance("x")]);
    stranger.control(reclaim(9, 2, 1));
    for _ in 0..10_000 {
        stranger.control(reclaim(0, 2, 7));
    }
    assert_eq!((stranger.controls(), stranger.end.heard.closed()), (vec![returned(0, 2, 70_000)], None));
    stranger.control(reclaim(0, 1, 1));
    stranger.assert_accused("wanted credit of class 1 back");
}

#[test]
fn credit_that_crosses_the_end_of_its_channel_still_lets_the_peer_finish() {
    let mut stranger = Stranger::up(listener(&["x"]), vec![instance("x")]);
    // The link has something to say that needs credit it has not.
    stranger.end.link.send(0, Class::Bulk, body(1, 1 << 20)).unwrap();
    stranger.controls();
    stranger.end.link.close_channel(stranger.now, 0, "done");
    stranger.control(returned(0, 2, 256 << 10));
    assert_eq!(stranger.controls(), [credit(0, 2, 256 << 10)]);
    // Once it is over, nobody needs any.
    stranger.control(credit(0, 2, 2 << 20));
    stranger.controls();
    stranger.control(returned(0, 2, 5));
    assert_eq!((stranger.controls(), stranger.end.heard.closed()), (vec![], None));
}
