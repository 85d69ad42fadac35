//! What a recorder of the `metrics` facade gets, and whether `docs/metrics.md` tells of all of it.

#![expect(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it should be")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use common::{Over, config, linked, toy};
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use peerage_net::Shards;

const PAGE: &str = include_str!("../../../docs/metrics.md");

/// Name and labels.
type Row = (String, Vec<String>);

/// Keeps each counter by its name and its labels.
#[derive(Default)]
struct Book(Mutex<BTreeMap<Row, Arc<AtomicU64>>>);

impl Book {
    /// The counters of a name, by labels that are not zero.
    fn read(&self, name: &str) -> BTreeMap<String, u64> {
        let counters = self.0.lock().unwrap();
        let counters = counters.iter().filter(|((known, _), _)| known == name);
        let values = counters.map(|((_, labels), count)| (labels.join(" "), count.load(Ordering::Relaxed)));
        values.filter(|(_, count)| *count > 0).collect()
    }

    fn sum(&self, name: &str) -> u64 {
        self.read(name).values().sum()
    }

    fn names(&self) -> BTreeSet<String> {
        self.0.lock().unwrap().keys().map(|(name, _)| name.clone()).collect()
    }

    /// Every value of this label that a counter was made with.
    fn values(&self, name: &str, label: &str) -> BTreeSet<String> {
        let counters = self.0.lock().unwrap();
        let labels = counters.keys().filter(|(known, _)| known == name).flat_map(|(_, labels)| labels);
        labels.filter_map(|known| known.strip_prefix(label)?.strip_prefix('=')).map(str::to_owned).collect()
    }
}

impl Recorder for Book {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let labels = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        let mut counters = self.0.lock().unwrap();
        Counter::from_arc(Arc::clone(counters.entry((key.name().to_owned(), labels)).or_default()))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

/// The words in backticks of the first column of the page's tables with this head.
fn told(head: &str) -> Vec<BTreeSet<String>> {
    let tables = PAGE.split("\n\n").filter(|table| table.trim_start().starts_with(head));
    let first = |row: &str| {
        let cell = row.split('|').nth(1).unwrap_or_default().to_owned();
        cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()
    };
    tables.map(|table| table.trim_start().lines().skip(2).flat_map(first).collect()).collect()
}

#[tokio::test]
async fn the_page_tells_of_every_counter_and_of_every_reason_and_of_no_other() {
    let book = Book::default();
    let _guard = metrics::set_default_local_recorder(&book);
    let node = Over::memory().node(1, config(|config| config.shards = Shards::Ambient)).await;
    let [ended, dropped] = &told("| `reason` |")[..] else { panic!("two tables of reasons") };
    assert_eq!(*ended, book.values("peerage_connections_ended_total", "reason"));
    assert_eq!(*dropped, book.values("peerage_dropped_total", "reason"));
    let counters: BTreeSet<_> = told("| counter |").into_iter().flatten().collect();
    let ours = |name: &&String| name.starts_with("peerage_");
    assert_eq!(counters.iter().filter(ours).cloned().collect::<BTreeSet<_>>(), book.names());
    node.endpoint.close().await;
}

#[tokio::test]
async fn a_recorder_has_what_the_snapshots_have() {
    let book = Book::default();
    let _guard = metrics::set_default_local_recorder(&book);
    let over = Over::Tcp;
    let ambient = || config(|config| config.shards = Shards::Ambient);
    let (mut a, mut b) = (over.node(1, ambient()).await, over.node(2, ambient()).await);
    let (at_a, _) = linked(&mut a, &mut b).await;
    for _ in 0..10 {
        toy::send(&a.toy, at_a, "one of ten");
        b.got().await;
    }
    toy::send(&a.toy, peerage_machine::LinkId(77), "to nobody");
    let (at_a, at_b) = (a.endpoint.clone(), b.endpoint.clone());
    at_a.close().await;
    at_b.close().await;

    let totals = [at_a.snapshot().totals, at_b.snapshot().totals];
    let sum = |of: fn(&peerage_net::Totals) -> u64| totals.iter().map(of).sum::<u64>();
    assert!(sum(|totals| totals.messages_received) >= 10);
    for (name, expected) in [
        ("peerage_sent_bytes_total", sum(|totals| totals.bytes_sent)),
        ("peerage_received_bytes_total", sum(|totals| totals.bytes_received)),
        ("peerage_sent_messages_total", sum(|totals| totals.messages_sent)),
        ("peerage_received_messages_total", sum(|totals| totals.messages_received)),
        ("peerage_links_up_total", 2),
        ("peerage_dials_total", 1),
        ("peerage_accepted_total", 1),
        ("peerage_cookies_total", 0),
    ] {
        assert_eq!(book.sum(name), expected, "{name}");
    }
    let dropped = BTreeMap::from([("reason=not_up".to_owned(), 1)]);
    assert_eq!(book.read("peerage_dropped_total"), dropped);
    let ended = BTreeMap::from([("stage=link reason=shutdown".to_owned(), 2)]);
    assert_eq!(book.read("peerage_connections_ended_total"), ended);
}
