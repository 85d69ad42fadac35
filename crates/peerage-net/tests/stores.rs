//! What a machine wants kept, and how it hears that it is.

#![expect(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it should be")]

mod common;

use std::sync::{Arc, Mutex, OnceLock};

use bytes::Bytes;
use common::{Event, Heard, Over, Toy, ToySink, spec, toy};
use peerage_machine::{CallId, Effect, OpId, StoreError, Write};
use peerage_net::{Closed, Config, Hosted, Sink, StoreAnswer, WeakHosted};
use peerage_store::{Change, Committer, MemoryStore, Store};
use tokio::sync::mpsc::UnboundedReceiver;

/// Passes batches on, and whatever else there is to a toy's own.
struct Passing<F> {
    told: ToySink,
    back: Arc<OnceLock<WeakHosted<Toy>>>,
    pass: F,
}

impl<F: FnMut(OpId, Vec<Write>) -> StoreAnswer + Send + 'static> Sink<Toy> for Passing<F> {
    fn hosted(&mut self, machine: WeakHosted<Toy>) {
        self.back.set(machine).unwrap();
    }

    fn event(&mut self, event: Event) {
        self.told.event(event);
    }

    fn answer(&mut self, call: CallId, answer: u64) {
        self.told.answer(call, answer);
    }

    fn store(&mut self, op: OpId, batch: Vec<Write>) -> StoreAnswer {
        (self.pass)(op, batch)
    }

    fn closed(&mut self) {
        self.told.closed();
    }
}

type Way = Arc<OnceLock<WeakHosted<Toy>>>;

async fn host(
    back: &Way,
    pass: impl FnMut(OpId, Vec<Write>) -> StoreAnswer + Send + 'static,
) -> (Hosted<Toy>, UnboundedReceiver<Heard>) {
    let (told, heard) = ToySink::new();
    let sink = Passing { told, back: Arc::clone(back), pass };
    let endpoint = Over::memory().endpoint(1, Config::default()).await;
    (endpoint.host(spec("toy"), |_| Toy::default(), sink).unwrap(), heard)
}

fn want(toy: &Hosted<Toy>, op: u64) {
    let key = Bytes::copy_from_slice(&op.to_be_bytes());
    let batch = vec![Write { key, value: Some(Bytes::from_static(b"kept")) }];
    toy::want(toy, Effect::Store { op: OpId(op), batch });
}

/// Of storage, what is there to hear now.
fn stored(heard: &mut UnboundedReceiver<Heard>) -> Vec<(u64, Result<(), StoreError>)> {
    let now = std::iter::from_fn(|| heard.try_recv().ok());
    now.filter_map(|heard| match heard {
        Heard::Event(Event::Stored(op, result)) => Some((op.0, result)),
        _ => None,
    })
    .collect()
}

#[tokio::test]
async fn an_answer_at_once_is_heard_in_the_same_turn() {
    let full = StoreError::Failed("full".to_owned());
    let answer = full.clone();
    let (toy, mut heard) = host(&Way::default(), move |op, _| {
        StoreAnswer::Now(if op == OpId(2) { Err(answer.clone()) } else { Ok(()) })
    })
    .await;
    want(&toy, 1);
    want(&toy, 2);
    assert_eq!(stored(&mut heard), [(1, Ok(())), (2, Err(full))]);
}

#[tokio::test]
async fn an_answer_that_comes_later_is_heard_when_it_comes_and_once() {
    let batches = Arc::new(Mutex::new(Vec::new()));
    let taken = Arc::clone(&batches);
    let (toy, mut heard) = host(&Way::default(), move |op, batch| {
        taken.lock().unwrap().push((op, batch));
        StoreAnswer::Later
    })
    .await;
    (1..=4).for_each(|op| want(&toy, op));
    assert_eq!(stored(&mut heard), []);
    let batches = std::mem::take(&mut *batches.lock().unwrap());
    assert_eq!(
        batches.iter().map(|(op, batch)| (op.0, batch.len())).collect::<Vec<_>>(),
        [(1, 1), (2, 1), (3, 1), (4, 1)]
    );
    // Several in one turn, in the order in which they are told.
    let failed = StoreError::Failed("full".to_owned());
    toy.stored([(OpId(1), Ok(())), (OpId(3), Err(failed.clone())), (OpId(2), Ok(()))]).unwrap();
    assert_eq!(stored(&mut heard), [(1, Ok(())), (3, Err(failed)), (2, Ok(()))]);
    toy.downgrade().stored([(OpId(4), Ok(()))]).unwrap();
    assert_eq!(stored(&mut heard), [(4, Ok(()))]);
}

#[tokio::test]
async fn a_machine_that_is_closed_or_gone_hears_nothing_of_its_store() {
    let back = Way::default();
    let (toy, mut heard) = host(&back, |_, _| StoreAnswer::Later).await;
    want(&toy, 1);
    toy.close();
    assert_eq!(toy.stored([(OpId(1), Ok(()))]), Err(Closed));
    assert_eq!(stored(&mut heard), []);

    let back = Way::default();
    let (toy, heard) = host(&back, |_, _| StoreAnswer::Later).await;
    let back = back.get().unwrap();
    assert_eq!(back.call(|toy, _, _| toy.got), Ok(0));
    want(&toy, 1);
    // The way back keeps neither machine nor endpoint.
    drop(toy);
    assert_eq!(back.stored([(OpId(1), Ok(()))]), Err(Closed));
    assert_eq!(back.call(|toy, _, _| toy.got), Err(Closed));
    drop(heard);
}

#[tokio::test]
async fn a_committer_answers_every_operation_in_order_and_after_the_store_has_it() {
    const MANY: u64 = 5000;
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let back = Way::default();
    let way = Arc::clone(&back);
    let committer = Committer::start(Arc::clone(&store), move |group| {
        let result = |result: Result<(), peerage_store::StoreError>| {
            result.map_err(|error| StoreError::Failed(error.to_string()))
        };
        let results = group.into_iter().map(|batch| (OpId(batch.ticket), result(batch.result)));
        way.get().unwrap().stored(results).unwrap();
    })
    .unwrap();
    let committer = Arc::new(committer);
    let (toy, mut heard) = host(&back, {
        let committer = Arc::clone(&committer);
        move |op, batch| {
            let batch = batch.into_iter().map(|write| Change { key: write.key, value: write.value });
            match committer.submit(op.0, batch.collect()) {
                Ok(()) => StoreAnswer::Later,
                Err(error) => StoreAnswer::Now(Err(StoreError::Failed(error.to_string()))),
            }
        }
    })
    .await;
    (0..MANY).for_each(|op| want(&toy, op));
    committer.flush();
    assert_eq!(stored(&mut heard), (0..MANY).map(|op| (op, Ok(()))).collect::<Vec<_>>());
    assert_eq!(store.scan(b"").unwrap().len() as u64, MANY);
}
