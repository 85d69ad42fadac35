use bytes::Bytes;
use peerage_machine::{CallId, Class, DialId, Effect, JobId, LinkId, OpId, Outbox, SendId, Target};
use peerage_wire::PeerId;

fn filled() -> Outbox<u8, u8, u8> {
    let mut out = Outbox::new();
    let peer = PeerId::from_bytes([0; 32]);
    out.send(LinkId(3), 1);
    out.push(Effect::Send { to: vec![LinkId(3)], message: 2, class: Class::Bulk, id: Some(SendId(3)) });
    out.dial(DialId(3), Target::Peer { peer, addresses: Vec::new() });
    out.push(Effect::Store { op: OpId(3), batch: Vec::new() });
    let (message, signature) = (Bytes::new(), [0; 64]);
    out.push(Effect::Verify { job: JobId(3), signer: peer, domain: "d", message, signature });
    out.answer(CallId(3), 5);
    out.emit(6);
    out.emit(7);
    out.count("things_total", 3);
    out
}

#[test]
fn renumbering_changes_the_ids_that_machines_choose_and_no_others() {
    let mut out = filled();
    out.renumber(|id| 2 * id + 1);
    let text = format!("{:?}", out.drain().collect::<Vec<_>>());
    for id in ["send-7", "dial-7", "op-7", "job-7", "call-7", "[L3]"] {
        assert!(text.contains(id), "{id}: {text}");
    }
    assert!(!text.contains("-3"), "{text}");
}

#[test]
fn mapping_keeps_the_order_turns_the_words_and_may_keep_events_back() {
    let mut outer: Outbox<String, String, String> = Outbox::new();
    let mut inner = filled();
    let word = |word: u8| word.to_string();
    outer.map(&mut inner, word, |event| (event != 6).then(|| word(event)), word);
    assert!(inner.is_empty());
    assert_eq!(outer.len(), 8);
    let kinds: Vec<_> = outer.drain().map(|effect| format!("{effect:?}")).collect();
    assert!(kinds[0].starts_with("Send") && kinds[0].contains("message: \"1\""), "{kinds:?}");
    assert_eq!(kinds[5..7], ["Answer { call: call-3, answer: \"5\" }", "Emit(\"7\")"]);
}
