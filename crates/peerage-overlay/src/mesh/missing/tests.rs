use super::*;
use peerage_wire::PeerId;

const STREAM: StreamKey = StreamKey { origin: PeerId::from_bytes([1; 32]), epoch: 1 };
const NOW: Instant = Instant::START;
const LATER: Instant = Instant::from_micros(1_000_000);

fn due_of(missing: &mut Missing, now: Instant) -> (Vec<Ask>, u64, Vec<LinkId>) {
    let second = |_| Duration::from_secs(1);
    missing.due(now, |_, _| Duration::from_secs(1), second, |_| Instant::START, |_, _| Fed::Not, |_, _| true)
}

fn due(missing: &mut Missing, now: Instant) -> Vec<(u64, u64, u64)> {
    let (asks, _, _) = due_of(missing, now);
    asks.into_iter().map(|ask| (ask.link.0, ask.range.first, ask.range.last)).collect()
}

#[test]
fn a_range_is_split_where_only_part_of_it_is_announced_or_arrives() {
    let mut missing = Missing::new(16);
    let by = |link, hops| Announcer { link: LinkId(link), hops, graft: true, large: false, trusted: true };
    assert!(missing.announced(STREAM, Range::new(1, 9), by(1, 4), NOW, LATER));
    assert!(missing.announced(STREAM, Range::new(4, 12), by(2, 3), NOW, LATER));
    let nearest = Some((LinkId(2), 3));
    assert_eq!(
        missing.arrived(&STREAM.message(6), None),
        Some(Awaited {
            heard: NOW,
            credible: true,
            asked: None,
            nearest,
            sources: vec![LinkId(1), LinkId(2)]
        })
    );
    assert_eq!(missing.arrived(&STREAM.message(6), None), None);
    assert_eq!(due(&mut missing, LATER - Duration::from_micros(1)), []);
    assert_eq!(due(&mut missing, LATER), [(1, 1, 3), (1, 4, 5), (1, 7, 9), (2, 10, 12)]);
    // The next in line is asked when the first does not answer.
    assert_eq!(
        due(&mut missing, LATER + Duration::from_secs(1)),
        [(1, 1, 3), (2, 4, 5), (2, 7, 9), (2, 10, 12)]
    );
    missing.link_down(LinkId(2), LATER);
    assert_eq!(missing.len(), 3);
}

#[test]
fn one_who_announces_what_there_is_not_leaves_room_for_others() {
    let mut missing = Missing::new(30);
    let by = |link| Announcer { link: LinkId(link), hops: 1, graft: false, large: false, trusted: true };
    let taken = |missing: &mut Missing, link, from: u64| {
        (from..from + 20)
            .filter(|seq| missing.announced(STREAM, Range::one(seq * 2), by(link), NOW, LATER))
            .count()
    };
    assert_eq!(taken(&mut missing, 1, 1), 10);
    assert_eq!(taken(&mut missing, 2, 100), 10);
    (1..=10).for_each(|seq| assert!(missing.arrived(&STREAM.message(seq * 2), None).is_some()));
    assert_eq!(taken(&mut missing, 1, 50), 10);
    missing.link_down(LinkId(1), NOW);
    missing.forget(STREAM, Range::new(1, 1000));
    assert_eq!((missing.len(), missing.counts.len()), (0, 0));
}

#[test]
fn who_sent_what_it_was_asked_for_has_broken_nothing() {
    let mut missing = Missing::new(16);
    let by = Announcer { link: LinkId(1), hops: 1, graft: false, large: false, trusted: true };
    missing.announced(STREAM, Range::new(1, 3), by, NOW, NOW);
    assert_eq!(due(&mut missing, NOW), [(1, 1, 3)]);
    assert!(!missing.came(&STREAM.message(2), LinkId(2)));
    assert!(missing.came(&STREAM.message(2), LinkId(1)));
    let (asks, _, broken) = due_of(&mut missing, LATER);
    // It was of no use, so it is asked for again, as the others are; those alone are broken promises.
    assert_eq!((asks.len(), broken.len()), (3, 2));
}

#[test]
fn what_nobody_sends_is_given_up() {
    let mut missing = Missing::new(16);
    let by = Announcer { link: LinkId(1), hops: 1, graft: false, large: false, trusted: true };
    missing.announced(STREAM, Range::one(1), by, NOW, NOW);
    let mut now = NOW;
    let mut asked = 0;
    while let Some(at) = missing.deadline() {
        assert!(at > now || now == NOW, "the deadline moves");
        now = at;
        asked += due(&mut missing, now).len();
    }
    assert_eq!((asked, missing.len()), (3, 0));
}

#[test]
fn one_who_is_not_trusted_has_its_time_before_the_next_is_asked_however_many_announce_it() {
    let mut missing = Missing::new(64);
    let ask = |missing: &mut Missing, now| {
        let millis = |millis| move |_| Duration::from_millis(millis);
        let (asks, ..) = missing.due(
            now,
            |_, _| Duration::from_secs(1),
            millis(20),
            |_| Instant::START,
            |_, _| Fed::Not,
            |_, _| false,
        );
        asks.into_iter().map(|ask| ask.link.0).collect::<Vec<_>>()
    };
    let mut asked = Vec::new();
    for link in 1..=5 {
        let now = LATER + Duration::from_millis(link);
        let by = Announcer { link: LinkId(link), hops: 1, graft: false, large: false, trusted: false };
        missing.announced(STREAM, Range::one(1), by, now, now);
        asked.extend(ask(&mut missing, now));
    }
    assert_eq!(asked, [1]);
    assert_eq!(ask(&mut missing, LATER + Duration::from_millis(20)), []);
    assert_eq!(missing.deadline(), Some(LATER + Duration::from_millis(21)));
    assert_eq!(ask(&mut missing, LATER + Duration::from_millis(21)), [2]);
}
