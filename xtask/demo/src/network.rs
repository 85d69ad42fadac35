//! All the peer processes together, and what is known of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::peer;
use crate::process::{Happening, Process};
use crate::protocol::{Command, Record, Report, Stats, wall_micros};

/// How long a process may take over its end before it is killed.
const END: Duration = Duration::from_secs(10);

/// What becomes of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// There from the start, and to the end.
    Stays,
    /// There from the start, and killed.
    Dies,
    /// Joins while the text is on its way.
    Joins,
}

/// Where a peer is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// Running.
    Alive,
    /// Killed by us.
    Killed,
    /// Asked to close, and maybe gone.
    Closing,
}

/// One peer.
pub(crate) struct Peer {
    process: Process,
    /// What becomes of it.
    pub(crate) fate: Fate,
    /// Where it is in its life.
    pub(crate) life: Life,
    /// Its id, in short, once it listens.
    pub(crate) id: Option<String>,
    /// Where it listens, once it does.
    pub(crate) address: Option<String>,
    /// When it had its first neighbour, by the wall clock, in microseconds.
    pub(crate) ready: Option<u64>,
    /// Its neighbours' ids.
    pub(crate) neighbours: BTreeSet<String>,
    /// What it received, in the order of arrival.
    pub(crate) records: Vec<Record>,
    /// Which lines it has.
    pub(crate) distinct: BTreeSet<u32>,
    /// How many lines it has broadcast.
    pub(crate) sent: usize,
    /// Its last answer about the wire.
    pub(crate) stats: Option<Stats>,
    /// How it closed.
    pub(crate) closed: Option<String>,
    /// Its contact, told as soon as it listens.
    contact: Option<String>,
}

impl Peer {
    /// Bytes that it wrote to sockets, as far as it said so.
    pub(crate) fn bytes_sent(&self) -> u64 {
        self.stats.as_ref().map_or(0, |stats| stats.bytes_sent)
    }
}

/// The peers, by number.
pub(crate) struct Network {
    peers: Vec<Peer>,
    happenings: mpsc::UnboundedReceiver<(usize, Happening<Report>)>,
    sender: mpsc::UnboundedSender<(usize, Happening<Report>)>,
}

impl Network {
    /// No peers yet.
    pub(crate) fn new() -> Self {
        let (sender, happenings) = mpsc::unbounded_channel();
        Self { peers: Vec::new(), happenings, sender }
    }

    /// Starts a peer and returns its number. With a contact, it joins there as soon as it listens.
    pub(crate) fn start(&mut self, fate: Fate, contact: Option<String>) -> Result<usize> {
        let number = self.peers.len();
        let process = Process::start(&[peer::SUBCOMMAND], number, Report::decode, self.sender.clone())?;
        self.peers.push(Peer {
            process,
            fate,
            life: Life::Alive,
            id: None,
            address: None,
            ready: None,
            neighbours: BTreeSet::new(),
            records: Vec::new(),
            distinct: BTreeSet::new(),
            sent: 0,
            stats: None,
            closed: None,
            contact,
        });
        Ok(number)
    }

    /// Every peer with its number, dead ones too.
    pub(crate) fn peers(&self) -> impl Iterator<Item = (usize, &Peer)> {
        self.peers.iter().enumerate()
    }

    /// Those that run.
    pub(crate) fn alive(&self) -> impl Iterator<Item = (usize, &Peer)> {
        self.peers().filter(|(_, peer)| peer.life == Life::Alive)
    }

    /// One peer.
    pub(crate) fn peer(&self, number: usize) -> Option<&Peer> {
        self.peers.get(number)
    }

    /// What to call a peer.
    pub(crate) fn name(&self, number: usize) -> String {
        match self.peer(number).and_then(|peer| peer.id.as_ref()) {
            Some(id) => format!("peer {number} ({id})"),
            None => format!("peer {number}"),
        }
    }

    /// Tells a peer something.
    pub(crate) async fn tell(&mut self, number: usize, command: &Command) {
        if let Some(peer) = self.peers.get_mut(number) {
            if *command == Command::Stats {
                peer.stats = None;
            }
            if *command == Command::Close {
                peer.life = Life::Closing;
            }
            peer.process.tell(&command.encode()).await;
        }
    }

    /// Kills a peer, without a word.
    pub(crate) fn kill(&mut self, number: usize) -> Result<()> {
        let Some(peer) = self.peers.get_mut(number) else { return Ok(()) };
        peer.life = Life::Killed;
        peer.process.kill()
    }

    /// Takes in the next thing that a peer does; returns whose it was, or `None` at the deadline.
    ///
    /// # Errors
    /// A peer that fails, or ends though nobody asked it to.
    pub(crate) async fn next(&mut self, deadline: Instant) -> Result<Option<usize>> {
        // The network holds a sender itself, so the channel never ends.
        let Ok(Some((number, happening))) = tokio::time::timeout_at(deadline, self.happenings.recv()).await
        else {
            return Ok(None);
        };
        self.take_in(number, happening).await?;
        Ok(Some(number))
    }

    async fn take_in(&mut self, number: usize, happening: Happening<Report>) -> Result<()> {
        let name = self.name(number);
        let Some(peer) = self.peers.get_mut(number) else { return Ok(()) };
        let report = match happening {
            Happening::Said(report) => report,
            Happening::Ended if peer.life == Life::Alive => {
                let status = peer.process.reap(END).await?;
                bail!("the process of {name} ended by itself: {status}{}", said(&peer.process.printed()));
            }
            Happening::Ended if peer.life == Life::Killed => {
                peer.process.reap(END).await?;
                return Ok(());
            }
            Happening::Ended => return Ok(()),
        };
        match report {
            Report::Listening { peer: id, address } => {
                peer.id = Some(id);
                peer.address = Some(address);
                if let Some(contact) = peer.contact.take() {
                    peer.process.tell(&Command::Join(contact).encode()).await;
                }
            }
            Report::Ready => peer.ready = Some(wall_micros()),
            Report::Neighbours(ids) => peer.neighbours = ids.into_iter().collect(),
            Report::Received(records) => {
                peer.distinct.extend(records.iter().map(|record| record.index));
                peer.records.extend(records);
            }
            Report::Sent(lines) => peer.sent = lines,
            Report::Stats(stats) => peer.stats = Some(stats),
            Report::Closed(how) => peer.closed = Some(how),
            Report::Failed(why) => bail!("{name} failed: {why}{}", said(&peer.process.printed())),
        }
        Ok(())
    }

    /// Waits until nothing lacks. Each entry says in a few words what lacks where.
    ///
    /// # Errors
    /// After `limit`, with what was waited for and what still lacks.
    pub(crate) async fn until(
        &mut self,
        what: &str,
        limit: Duration,
        lacks: impl Fn(&Self) -> Vec<String>,
    ) -> Result<()> {
        let deadline = Instant::now() + limit;
        while !lacks(self).is_empty() {
            if self.next(deadline).await?.is_none() {
                bail!("waited {} s for {what}; what lacks:\n  {}", limit.as_secs(), lacks(self).join("\n  "));
            }
        }
        Ok(())
    }

    /// Each living peer for which the predicate does not hold, with what it lacks.
    pub(crate) fn lacking(&self, what: &str, has: impl Fn(&Peer) -> bool) -> Vec<String> {
        self.alive()
            .filter(|(_, peer)| !has(peer))
            .map(|(number, _)| format!("{}: {what}", self.name(number)))
            .collect()
    }

    /// The islands that the living peers' neighbourhoods make: one when the mesh is connected.
    pub(crate) fn islands(&self) -> Vec<Vec<usize>> {
        let living: Vec<_> = self
            .alive()
            .filter_map(|(number, peer)| Some((number, peer.id.as_deref()?, &peer.neighbours)))
            .collect();
        islands(&living)
    }

    /// What keeps the mesh from being whole: islands, or a neighbour that is dead.
    pub(crate) fn cracks(&self) -> Vec<String> {
        let mut cracks = Vec::new();
        let islands = self.islands();
        if islands.len() > 1 {
            cracks.push(format!("the mesh is in {} pieces: {islands:?}", islands.len()));
        }
        for (dead, peer) in self.peers().filter(|(_, peer)| peer.life == Life::Killed) {
            let Some(id) = &peer.id else { continue };
            let holds = self.alive().filter(|(_, other)| other.neighbours.contains(id));
            cracks.extend(holds.map(|(number, _)| {
                format!("{} still has the killed peer {dead} as a neighbour", self.name(number))
            }));
        }
        cracks
    }

    /// Memory of every living process.
    pub(crate) fn memory(&self) -> Vec<crate::process::Memory> {
        self.alive().filter_map(|(_, peer)| peer.process.memory()).collect()
    }

    /// What the living processes have printed, for the reader of a failure.
    pub(crate) fn printed(&self) -> Vec<String> {
        self.peers()
            .filter(|(_, peer)| peer.life != Life::Killed)
            .flat_map(|(number, peer)| {
                peer.process.printed().into_iter().map(move |line| format!("peer {number}: {line}"))
            })
            .collect()
    }

    /// Ends and reaps every process; `patience` is for those that are closing. Returns those that ended badly.
    pub(crate) async fn reap(&mut self, patience: Duration) -> Vec<String> {
        let mut bad = Vec::new();
        for number in 0..self.peers.len() {
            let name = self.name(number);
            let Some(peer) = self.peers.get_mut(number) else { continue };
            let within = if peer.life == Life::Closing { patience } else { Duration::ZERO };
            match peer.process.reap(within).await {
                Ok(status) if peer.life == Life::Closing && !status.success() => {
                    bad.push(format!("{name}: {status}"))
                }
                Ok(_) => {}
                Err(error) => bad.push(format!("{name}: {error:#}")),
            }
        }
        bad
    }
}

fn said(printed: &[String]) -> String {
    if printed.is_empty() { String::new() } else { format!("; it said:\n  {}", printed.join("\n  ")) }
}

/// The connected components of an undirected graph: number, name, names of neighbours.
fn islands(peers: &[(usize, &str, &BTreeSet<String>)]) -> Vec<Vec<usize>> {
    let mut edges: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (_, id, neighbours) in peers {
        for neighbour in *neighbours {
            edges.entry(id).or_default().insert(neighbour);
            edges.entry(neighbour).or_default().insert(id);
        }
    }
    let numbers: BTreeMap<&str, usize> = peers.iter().map(|(number, id, _)| (*id, *number)).collect();
    let mut seen = BTreeSet::new();
    let mut islands = Vec::new();
    for (_, start, _) in peers {
        let (mut island, mut open) = (Vec::new(), vec![*start]);
        while let Some(id) = open.pop() {
            // A neighbour that is not among the living leads nowhere.
            let Some(number) = numbers.get(id) else { continue };
            if seen.insert(*number) {
                island.push(*number);
                open.extend(edges.get(id).into_iter().flatten());
            }
        }
        if !island.is_empty() {
            island.sort_unstable();
            islands.push(island);
        }
    }
    islands
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(edges: &[(&str, &[&str])]) -> Vec<Vec<usize>> {
        let sets: Vec<BTreeSet<String>> =
            edges.iter().map(|(_, to)| to.iter().map(|id| (*id).to_owned()).collect()).collect();
        let peers: Vec<_> =
            edges.iter().zip(&sets).enumerate().map(|(number, ((id, _), set))| (number, *id, set)).collect();
        islands(&peers)
    }

    #[test]
    fn a_chain_is_one_island_whoever_knows_whom() {
        assert_eq!(of(&[("a", &["b"]), ("b", &[]), ("c", &["b"])]), [vec![0, 1, 2]]);
    }

    #[test]
    fn two_groups_are_two_islands() {
        assert_eq!(of(&[("a", &["b"]), ("b", &["a"]), ("c", &["d"]), ("d", &[])]), [vec![0, 1], vec![2, 3]]);
    }

    #[test]
    fn the_dead_connect_nobody() {
        assert_eq!(of(&[("a", &["dead"]), ("b", &["dead"])]), [vec![0], vec![1]]);
    }
}
