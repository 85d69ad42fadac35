use super::*;

fn sent(lane: &mut Lane<u64>) -> Vec<u64> {
    let mut sent = Vec::new();
    lane.hand(|item, _| {
        sent.push(*item);
        true
    });
    lane.check().unwrap();
    sent
}

fn with(count: u64, until: impl Fn(u64) -> Until) -> Lane<u64> {
    let mut lane = Lane::default();
    for seq in 1..=count {
        assert_eq!(lane.push(seq, 10, until(seq)), seq);
    }
    lane
}

#[test]
fn items_are_handed_once_for_each_link_and_after_a_cut_from_where_it_was() {
    let mut lane = with(5, |_| Until::Acknowledged);
    assert_eq!(sent(&mut lane), [1, 2, 3, 4, 5]);
    assert!(sent(&mut lane).is_empty());
    lane.resume(3).unwrap();
    assert_eq!(sent(&mut lane), [4, 5]);
    lane.acknowledged(5).unwrap();
    assert_eq!(lane.kept(), (0, 0));
    assert!(!lane.has_unsent());
}

#[test]
fn calls_are_kept_until_they_are_answered() {
    let mut lane = with(4, |seq| if seq % 2 == 0 { Until::Answered } else { Until::Acknowledged });
    sent(&mut lane);
    lane.acknowledged(4).unwrap();
    assert_eq!(lane.kept(), (2, 20));
    assert!(lane.answered(4) && !lane.answered(4) && !lane.answered(3));
    assert_eq!(lane.kept(), (1, 10));
    lane.resume_from_journal(4).unwrap();
    assert_eq!(sent(&mut lane), [2]);
}

#[test]
fn one_call_that_takes_long_does_not_keep_the_places_of_those_after_it() {
    let mut lane = with(1, |_| Until::Answered);
    for seq in 2..10_000 {
        lane.push(seq, 1, Until::Acknowledged);
        sent(&mut lane);
        lane.acknowledged(seq).unwrap();
        assert!(lane.kept.len() <= 200, "{}", lane.kept.len());
    }
    assert_eq!(lane.kept(), (1, 10));
    lane.resume(0).unwrap();
    assert_eq!(sent(&mut lane), [1]);
}

#[test]
fn what_was_never_sent_is_not_acknowledged() {
    let mut lane = with(2, |_| Until::Acknowledged);
    assert_eq!(lane.acknowledged(1), Err(LaneFault::NeverSent { got: 1, sent: 0 }));
    sent(&mut lane);
    assert_eq!(lane.resume(3), Err(LaneFault::NeverSent { got: 3, sent: 2 }));
}

#[test]
fn nothing_arrives_twice_nor_with_something_missing_before_it() {
    let mut lane = Lane::<()>::default();
    assert_eq!(lane.arrives(1, 5, true), Ok(true));
    assert_eq!(lane.arrives(1, 5, true), Ok(false));
    assert_eq!(lane.arrives(3, 5, true), Err(LaneFault::Gap { expected: 2, got: 3 }));
    lane.allow_gaps_until(5);
    assert_eq!(lane.arrives(4, 5, true), Ok(true));
    assert_eq!(lane.arrives(6, 5, true), Ok(true), "the one after the gaps");
    assert_eq!(lane.arrives(8, 5, true), Err(LaneFault::Gap { expected: 7, got: 8 }));
}

#[test]
fn an_item_is_done_when_all_before_it_are() {
    let mut lane = Lane::<()>::default();
    for (seq, finishes) in [(1, true), (2, false), (3, true), (4, false)] {
        assert_eq!(lane.arrives(seq, 1, finishes), Ok(true));
    }
    assert_eq!(lane.tell(), (4, 1));
    lane.finished(4);
    assert_eq!(lane.untold(), (0, 0));
    lane.finished(2);
    assert_eq!((lane.untold(), lane.tell()), ((3, 0), (4, 4)));
}

#[test]
fn a_one_way_call_that_takes_long_does_not_keep_what_came_after_it() {
    let mut lane = with(4, |seq| if seq == 1 { Until::Done } else { Until::Acknowledged });
    sent(&mut lane);
    lane.acknowledged(4).unwrap();
    assert_eq!(lane.kept(), (1, 10));
    assert_eq!(lane.done_there(5), Err(LaneFault::DoneBefore { done: 5, arrived: 4 }));
    lane.done_there(4).unwrap();
    assert_eq!(lane.kept(), (0, 0));
    lane.check().unwrap();
}
