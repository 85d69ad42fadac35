//! How fast, between two looks.

use std::time::Duration;

use peerage_machine::LinkId;

use crate::snapshot::{LinkSnapshot, Snapshot};

/// What went through between two snapshots, per second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Rate {
    /// Bytes written a second.
    pub bytes_sent: f64,
    /// Bytes read a second.
    pub bytes_received: f64,
    /// Whole messages sent a second.
    pub messages_sent: f64,
    /// Whole messages received a second.
    pub messages_received: f64,
}

/// The rates of an endpoint and of each of its links.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Rates {
    /// Between the two snapshots.
    pub span: Duration,
    /// All links together, those included that have ended meanwhile.
    pub total: Rate,
    /// Each link of the later snapshot; one that is new counts from nothing.
    pub links: Vec<(LinkId, Rate)>,
}

impl Snapshot {
    /// What went through since an earlier snapshot of the same endpoint. All zeros when it is not earlier.
    pub fn rates_since(&self, earlier: &Self) -> Rates {
        let span = self.taken.since(earlier.taken);
        if self.taken <= earlier.taken {
            return Rates {
                links: self.links.iter().map(|link| (link.link, Rate::default())).collect(),
                ..Rates::default()
            };
        }
        let totals = |of: &Self| {
            let totals = &of.totals;
            [totals.bytes_sent, totals.bytes_received, totals.messages_sent, totals.messages_received]
        };
        let links = self.links.iter().map(|link| {
            let before = earlier.links.iter().find(|before| before.link == link.link);
            (link.link, rate(sums(link), before.map_or([0; 4], sums), span))
        });
        Rates { span, total: rate(totals(self), totals(earlier), span), links: links.collect() }
    }
}

fn sums(link: &LinkSnapshot) -> [u64; 4] {
    [link.bytes_sent, link.bytes_received, link.messages_sent, link.messages_received]
}

fn rate(after: [u64; 4], before: [u64; 4], span: Duration) -> Rate {
    let mut each = after
        .into_iter()
        .zip(before)
        .map(|(after, before)| after.saturating_sub(before) as f64 / span.as_secs_f64());
    let mut next = || each.next().unwrap_or_default();
    Rate { bytes_sent: next(), bytes_received: next(), messages_sent: next(), messages_received: next() }
}
