use peerage_machine::{CallId, Calls, CallsFull, Instant};

fn at(micros: u64) -> Instant {
    Instant::from_micros(micros)
}

#[test]
fn a_call_ends_once() {
    let mut calls = Calls::new(4);
    let call = calls.open(at(5), "question").unwrap();
    assert_eq!(calls.get(call), Some(&"question"));
    assert_eq!(calls.close(call), Some("question"));
    assert_eq!(calls.close(call), None);
    assert_eq!(calls.expire(at(9)), None);
    assert_eq!(calls.deadline(), None);
}

#[test]
fn calls_expire_in_the_order_of_their_deadlines() {
    let mut calls = Calls::new(4);
    let ids: Vec<_> = [7, 5, 7, 90].map(|when| calls.open(at(when), when).unwrap()).into();
    assert_eq!(calls.deadline(), Some(at(5)));
    assert_eq!(calls.expire(at(4)), None);
    let expired: Vec<_> = std::iter::from_fn(|| calls.expire(at(10))).collect();
    assert_eq!(expired, [(ids[1], 5), (ids[0], 7), (ids[2], 7)]);
    assert_eq!(calls.close(ids[1]), None, "late results of expired calls find nothing");
    assert_eq!(calls.iter().collect::<Vec<_>>(), [(ids[3], &90)]);
}

#[test]
fn a_full_table_says_so_and_has_room_again_after_an_end() {
    let mut calls = Calls::new(2);
    let first = calls.open(at(1), ()).unwrap();
    calls.open(at(1), ()).unwrap();
    assert!(calls.is_full());
    assert_eq!(calls.open(at(1), ()), Err(CallsFull { pending: 2, limit: 2 }));
    calls.close(first);
    assert_eq!(calls.open(at(1), ()), Ok(CallId(2)), "ids are not used again");
    assert_eq!(calls.len(), 2);
}

#[test]
fn a_deadline_can_be_moved() {
    let mut calls = Calls::new(1);
    let call = calls.open(at(5), ()).unwrap();
    assert!(calls.extend(call, at(50)));
    assert_eq!(calls.expire(at(49)), None);
    assert_eq!(calls.expire(at(50)), Some((call, ())));
    assert!(!calls.extend(call, at(90)));
    assert_eq!(calls.deadline(), None);
}
