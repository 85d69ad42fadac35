//! Several protocols on one link, and those that do not match.

mod common;

use bytes::Bytes;
use common::{Event, Heard, Node, Over, Toy, config, connections, ended, linked, spec, toy};
use peerage_machine::{Refusal, RefusalReason, Side, Target, Why};
use peerage_net::{Config, InstanceSpec, Shards};

fn refusal(spec: &InstanceSpec, reason: RefusalReason) -> Why {
    Why::Refused(Refusal { by: Side::Them, instance: spec.name.clone(), reason })
}

#[tokio::test]
async fn two_instances_share_one_link_and_do_not_meet() {
    for over in Over::both() {
        let mut a = over.node(1, Config::default()).await;
        let mut b = over.node(2, Config::default()).await;
        let mut a2 = Node::new(a.endpoint.clone(), "second", Toy::default());
        let mut b2 = Node::new(b.endpoint.clone(), "second", Toy::default());
        let (link, at_b) = linked(&mut a, &mut b).await;
        assert_eq!((a2.up().await.0, b2.up().await.0), (link, at_b));
        for number in 0..100_u8 {
            toy::send(&a.toy, link, vec![1, number]);
            toy::send(&a2.toy, link, vec![2, number]);
            toy::send(&b2.toy, at_b, vec![3, number]);
        }
        for number in 0..100_u8 {
            assert_eq!(b.got().await, (at_b, Bytes::from(vec![1, number])));
            assert_eq!(b2.got().await, (at_b, Bytes::from(vec![2, number])));
            assert_eq!(a2.got().await, (link, Bytes::from(vec![3, number])));
        }
        assert!(!a.pending().iter().any(|heard| matches!(heard, Heard::Event(Event::Got(..)))));
        connections(&a.endpoint, 1).await;
        connections(&b.endpoint, 1).await;
        // One of them ends; the other does not notice.
        a2.toy.close();
        b2.down(at_b).await;
        toy::send(&a.toy, link, "still here");
        assert_eq!(b.got().await.1, "still here");
    }
}

/// What is wrong with it, and what the dialer, whose toy is the usual one, hears of it.
fn mismatches() -> Vec<(InstanceSpec, RefusalReason)> {
    let mut version = spec("toy");
    version.version = 7;
    let mut parameters = spec("toy");
    parameters.parameters = Bytes::from_static(b"\x01\xff");
    let ours: String = b"parameters".iter().map(|byte| format!("{byte:02x}")).collect();
    vec![
        (spec("another name"), RefusalReason::UnknownInstance),
        (version, RefusalReason::Version { ours: 1, theirs: "7".to_owned() }),
        (parameters, RefusalReason::Parameters { ours, theirs: "01ff".to_owned() }),
    ]
}

#[tokio::test]
async fn nothing_in_common_is_a_refusal_at_both_ends_and_harms_no_other_link() {
    for over in Over::both() {
        for (theirs, reason) in mismatches() {
            let mut a = over.node(1, Config::default()).await;
            let endpoint = over.endpoint(2, Config::default()).await;
            let mut b = Node::with_spec(endpoint, theirs.clone(), Toy::default());
            let mut friend =
                Node::with_spec(over.endpoint(3, Config::default()).await, theirs.clone(), Toy::default());
            let (_, at_b) = linked(&mut friend, &mut b).await;

            toy::dial(&a.toy, 1, Target::Address(b.address()));
            assert_eq!(a.dialed(1).await, Err(refusal(&spec("toy"), reason.clone())));
            let error = a.endpoint.connect(&b.address()).await.unwrap_err();
            assert_eq!(error.why, refusal(&spec("toy"), reason));
            ended(&a.endpoint, "refused", 2).await;
            ended(&b.endpoint, "refused", 2).await;

            toy::send(&b.toy, at_b, "unharmed");
            assert_eq!(friend.got().await.1, "unharmed");
            connections(&a.endpoint, 0).await;
            connections(&b.endpoint, 1).await;
            assert!(a.pending().is_empty(), "the machine hears the dial's end and nothing else");
        }
    }
}

#[tokio::test]
async fn an_instance_that_does_not_match_leaves_the_link_to_those_that_do() {
    for over in Over::both() {
        for (theirs, reason) in mismatches() {
            let mut a = over.node(1, Config::default()).await;
            let mut a_common = Node::new(a.endpoint.clone(), "common", Toy::default());
            let endpoint = over.endpoint(2, Config::default()).await;
            let mut b_common = Node::new(endpoint.clone(), "common", Toy::default());
            let mut b = Node::with_spec(endpoint, theirs.clone(), Toy::default());

            toy::dial(&a.toy, 1, Target::Address(b.address()));
            assert_eq!(a.dialed(1).await, Err(refusal(&spec("toy"), reason)));
            toy::dial(&a_common.toy, 1, Target::Peer { peer: b.id(), addresses: vec![b.address()] });
            let link = a_common.dialed(1).await.unwrap();
            let (at_b, _) = b_common.up().await;
            toy::send(&a_common.toy, link, "hello");
            assert_eq!(b_common.got().await, (at_b, "hello".into()));
            assert!(a.pending().is_empty() && b.pending().is_empty());
        }
    }
}

#[tokio::test]
async fn an_instance_hosted_later_comes_up_on_the_links_there_are() {
    for over in Over::both() {
        let mut a = over.node(1, Config::default()).await;
        let mut b = over.node(2, Config::default()).await;
        let (link, at_b) = linked(&mut a, &mut b).await;
        let mut a2 = Node::new(a.endpoint.clone(), "late", Toy::default());
        // Nobody there yet: a dial for it says so.
        toy::dial(&a2.toy, 1, Target::Peer { peer: b.id(), addresses: Vec::new() });
        assert_eq!(a2.dialed(1).await, Err(refusal(&spec("late"), RefusalReason::UnknownInstance)));
        let mut b2 = Node::new(b.endpoint.clone(), "late", Toy::default());
        assert_eq!((a2.up().await.0, b2.up().await.0), (link, at_b));
        toy::send(&b2.toy, at_b, "late and well");
        assert_eq!(a2.got().await, (link, "late and well".into()));
    }
}

#[tokio::test]
async fn an_instance_hosted_while_links_come_up_misses_none_of_them() {
    for over in Over::both() {
        for round in 0..30_u32 {
            let shards = config(|config| config.shards = Shards::Threads(2));
            let a = over.endpoint(1, shards.clone()).await;
            let b = over.endpoint(2, shards).await;
            let (to, from) = (b.addresses().first().unwrap().clone(), a.clone());
            let dial = tokio::spawn(async move { from.connect(&to).await });
            // Later by a little more each round.
            for _ in 0..round * 3 {
                tokio::task::yield_now().await;
            }
            let mut on_a = Node::new(a, "toy", Toy::default());
            let mut on_b = Node::new(b, "toy", Toy::default());
            dial.await.unwrap().unwrap();
            let (link, _) = on_a.up().await;
            let (at_b, _) = on_b.up().await;
            toy::send(&on_a.toy, link, "there");
            assert_eq!(on_b.got().await, (at_b, "there".into()), "round {round}");
        }
    }
}

#[tokio::test]
async fn an_instance_closed_while_links_come_up_is_open_on_none_of_them() {
    let over = Over::memory();
    for round in 0..30_u32 {
        let mut a = over.node(1, Config::default()).await;
        let mut b = over.node(2, Config::default()).await;
        let _a_stays = Node::new(a.endpoint.clone(), "stays", Toy::default());
        let mut b_stays = Node::new(b.endpoint.clone(), "stays", Toy::default());
        let (to, from) = (b.address(), a.endpoint.clone());
        let dial = tokio::spawn(async move { from.connect(&to).await });
        for _ in 0..round * 3 {
            tokio::task::yield_now().await;
        }
        a.toy.close();
        dial.await.unwrap().unwrap();
        // Either it never came up at the peer, or it came up and ended: a later instance of the name shows which.
        let mut again = Node::new(a.endpoint.clone(), "toy", Toy::default());
        let (link, _) = again.up().await;
        b_stays.up().await;
        toy::send(&again.toy, link, "the new one");
        let mut open = 0;
        b.event("the message", |event| match event {
            Event::Up(..) => {
                open += 1;
                assert_eq!(open, 1, "round {round}: open twice");
                None
            }
            Event::Down(..) => {
                open -= 1;
                None
            }
            Event::Got(_, body) => {
                assert_eq!((body.as_ref(), open), (&b"the new one"[..], 1), "round {round}");
                Some(())
            }
            Event::Rtt(..) => None,
            other => panic!("round {round}: {other:?}"),
        })
        .await;
        assert!(!a.pending().iter().any(|heard| matches!(heard, Heard::Event(Event::Got(..)))));
    }
}

#[tokio::test]
async fn endpoints_that_run_nothing_have_links_all_the_same() {
    for over in Over::both() {
        let a = over.endpoint(1, Config::default()).await;
        let b = over.endpoint(2, Config::default()).await;
        a.connect(b.addresses().first().unwrap()).await.unwrap();
        connections(&b, 1).await;
        let mut late_a = Node::new(a, "toy", Toy::default());
        let mut late_b = Node::new(b, "toy", Toy::default());
        late_a.up().await;
        late_b.up().await;
    }
}
