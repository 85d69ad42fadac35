//! Notes are written while everything that carries them breaks: every client's connection, again and again, and the broker.

use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::hall::{Hall, Member, all, list, number};
use super::proxy::Proxy;
use crate::draw::Draw;
use crate::progress::Progress;

/// How long a client may be without a connection before a cut: the broker's restart is in between.
const CUT: Duration = Duration::from_secs(60);

/// How old a connection may be, at most, before a cut that is due, in microseconds.
const OLDEST_MICROS: u64 = 80_000;

/// What the writing may take, beside its own pace.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the seed decides.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Weather {
    /// For each client, after how many of its notes its connection is cut, and how old the connection is then at least:
    /// from so young that it is still being made, to one that is well at work.
    cuts: Vec<VecDeque<(u64, Duration)>>,
    /// After how many notes of the first client the broker is killed.
    death: u64,
    /// How long it stays dead.
    pause: Duration,
}

impl Weather {
    pub(super) fn draw(draw: &mut Draw, clients: usize, notes: u64, cuts: usize) -> Self {
        let below =
            |draw: &mut Draw, bound: u64| draw.below(usize::try_from(bound).unwrap_or(usize::MAX)) as u64;
        let each = |draw: &mut Draw| {
            let mut cuts: Vec<_> = (0..cuts).map(|_| below(draw, notes)).collect();
            cuts.sort_unstable();
            cuts.into_iter().map(|after| (after, Duration::from_micros(below(draw, OLDEST_MICROS)))).collect()
        };
        let cuts = (0..clients).map(|_| each(draw)).collect();
        let death = notes * 2 / 5 + below(draw, notes / 5 + 1);
        let pause = Duration::from_millis(100 + below(draw, 400));
        Self { cuts, death, pause }
    }
}

/// What the storm left.
pub(super) struct Aftermath {
    /// From the first note to the last word that all are done.
    pub(super) writing: Duration,
    pub(super) cuts: usize,
    /// How long the broker was away, from its death to its successor's first connection being possible.
    pub(super) away: Duration,
    /// Notes that the second broker found in the first one's file.
    pub(super) found: u64,
    /// One-way commands that were refused, sessions that were lost.
    pub(super) faults: Vec<String>,
}

/// Writes `notes` notes per client, at so many per second, and has `weather` at them.
pub(super) async fn write(
    hall: &mut Hall,
    proxies: &[Proxy],
    (notes, rate): (u64, u64),
    weather: Weather,
    progress: &mut Progress,
) -> Result<Aftermath> {
    let Weather { cuts, death, pause } = weather;
    let limit = PATIENCE + Duration::from_secs(notes / rate.max(1) + 1);
    let start = Instant::now();
    let writers = hall.clients.iter().map(|client| async move {
        let ask = json!({ "first": 0, "count": notes, "rate": rate });
        client.ask_within(limit, "write", ask).await
    });
    let cutters = hall.clients.iter().zip(proxies).zip(cuts).map(|((client, proxy), cuts)| async move {
        let (mut at, mut done) = (client.at(), 0);
        for (after, age) in cuts {
            reach(&mut at, after).await?;
            proxy.cut(age, CUT).await.with_context(|| format!("{}: cut {}", client.name, done + 1))?;
            done += 1;
        }
        Ok::<usize, anyhow::Error>(done)
    });
    let first = hall.clients.first().context("there are no clients")?.at();
    let restart = restart(&hall.broker, (hall.folder.path(), &hall.address), (first, death, pause));
    let total = notes * hall.clients.len() as u64;
    let far = hall.clients.iter().map(Member::at).collect::<Vec<_>>();
    let work = async { tokio::try_join!(all(writers), all(cutters), restart) };
    let mut work = Box::pin(work);
    progress.steps(usize::try_from(total).unwrap_or(usize::MAX));
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    let (wrote, cuts, (broker, begun, away)) = loop {
        tokio::select! {
            done = &mut work => break done?,
            _ = tick.tick() => {
                let written: u64 = far.iter().map(|at| *at.borrow()).sum();
                progress.at(usize::try_from(written).unwrap_or(usize::MAX), || format!("{written} of {total} notes written"));
            }
        }
    };
    let writing = start.elapsed();
    drop(work);
    hall.broker = broker;
    let mut faults = Vec::new();
    for (client, wrote) in hall.clients.iter().zip(&wrote) {
        match number(wrote, "failed")? {
            0 => {}
            failed => faults.push(format!("{}: {failed} notes were refused", client.name)),
        }
        if let Some(lost) = client.ask("lost", json!({})).await?.get("lost").and_then(Value::as_str) {
            faults.push(format!("{} lost its session: {lost}", client.name));
        }
    }
    Ok(Aftermath { writing, cuts: cuts.into_iter().sum(), away, found: number(&begun, "notes")?, faults })
}

/// Waits until somebody has written so many notes.
async fn reach(at: &mut watch::Receiver<u64>, count: u64) -> Result<()> {
    at.wait_for(|at| *at >= count).await.map(drop).context("it ended while it wrote")
}

/// Kills the broker when it is time, and starts another one on what it has left.
async fn restart(
    broker: &Member,
    (folder, address): (&Path, &str),
    (mut at, death, pause): (watch::Receiver<u64>, u64, Duration),
) -> Result<(Member, Value, Duration)> {
    reach(&mut at, death).await?;
    let died = Instant::now();
    broker.kill().await?;
    tokio::time::sleep(pause).await;
    let (broker, begun) = Hall::another_broker(folder, address).await?;
    Ok((broker, begun, died.elapsed()))
}

/// What each client has of its own notes, against what it wrote: 0, 1, 2 and so on.
pub(super) async fn compare(hall: &Hall, expected: u64) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    for client in &hall.clients {
        let answer = client.ask("read", json!({})).await?;
        let notes: Vec<_> = list(&answer, "notes")?.iter().map(|note| note.as_str().unwrap_or("")).collect();
        faults.extend(differs(&notes, expected).map(|fault| format!("{}: {fault}", client.name)));
    }
    Ok(faults)
}

/// What is wrong with notes that should be numbered from 0.
fn differs(notes: &[&str], expected: u64) -> Option<String> {
    let wrong = (0..).zip(notes).find(|(number, note): &(u64, _)| **note != format!("note {number}"));
    match wrong {
        Some((number, note)) => Some(format!("where note {number} should be there is {note:?}")),
        None if notes.len() as u64 != expected => Some(format!("{} notes of {expected}", notes.len())),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_that_is_missing_twice_there_or_out_of_order_is_found() {
        assert_eq!(differs(&["note 0", "note 1"], 2), None);
        assert_eq!(differs(&["note 0"], 2).unwrap(), "1 notes of 2");
        assert_eq!(differs(&["note 0", "note 1"], 1).unwrap(), "2 notes of 1");
        for notes in
            [["note 0", "note 2", "note 3"], ["note 0", "note 0", "note 1"], ["note 0", "note 2", "note 1"]]
        {
            assert!(differs(&notes, 3).unwrap().starts_with("where note 1 should be"), "{notes:?}");
        }
    }

    #[test]
    fn the_seed_decides_the_weather_and_the_broker_dies_while_notes_are_written() {
        for seed in 0..200 {
            let weather = |seed| Weather::draw(&mut Draw::new(seed), 4, 2500, 20);
            let (one, again) = (weather(seed), weather(seed));
            assert_eq!(one, again, "seed {seed}");
            assert_eq!((one.cuts.len(), one.cuts.iter().map(VecDeque::len).sum::<usize>()), (4, 80));
            assert!(one.cuts.iter().flatten().all(|(after, _)| *after < 2500), "seed {seed}");
            assert!((1000..=1500).contains(&one.death), "seed {seed}");
        }
    }
}
