//! How peers behave, in five numbers that can be explained, and who is shunned for it.
//!
//! Only what a peer answers for counts: what it signs, forwards after checking, announces and asks for itself. Whoever is
//! fed lies that it could not know of is not blamed for passing them on, for it checks signatures first. GossipSub 1.1
//! has weights for seven inputs and caps for each (PL-TechRep-2020-001); these five need no tuning to a topology.

use std::fmt;
use std::time::Duration;

use peerage_machine::Instant;
use peerage_wire::PeerId;

use super::lru::Lru;

/// Peers whose behaviour is remembered, and as many that are shunned.
pub(crate) const SCORED: usize = 512;
/// What one of each takes in memory.
pub(crate) const SCORE_BYTES: usize = 256;
/// After so long, half of what was counted is forgotten.
const HALF_LIFE: Duration = Duration::from_secs(60);
/// How long whoever brought a message first is thought to be of use.
const PROVEN_FOR: Duration = Duration::from_secs(600);
/// Messages brought first that weigh in somebody's favour, at most.
const MOST_FIRST: u32 = 50;
/// Promises that a link breaks within two seconds, at most: behind one long message, or while a link stalls, all that was
/// asked for comes late.
pub(crate) const MOST_BROKEN: usize = 5;

/// What a peer did that it answers for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// It brought a message before anybody else.
    First,
    /// It announced a message, was asked, and sent nothing.
    Broken,
    /// It sent what no honest peer sends.
    Invalid,
    /// It said more than anybody needs to.
    Spam,
    /// It pushed what it had been told not to push, long after, or sent as asked for what nobody had asked for.
    Unwanted,
}

/// Messages that whoever was relied on in vain has to bring first before it is relied on again.
const MAKES_UP: u32 = 8;

/// Of what use a peer was lately, the least first. Each costs whoever wants to be taken for useful that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Merit {
    None,
    /// What it said itself came from it before it came from anybody else. Where that counted for nothing, whoever others hear
    /// by us alone lost its place to those who asked for it, and then all its places. It shows nothing of what it passes on.
    Spoke,
    /// It passed on what came from nobody else before.
    Brought,
}

#[derive(Clone, Debug)]
struct Score {
    counts: [u32; 5],
    halved: Instant,
    /// When it last brought a message before anybody else.
    proved: Option<Instant>,
    /// When we last heard of a message of its own by itself first.
    spoke: Option<Instant>,
    /// When it was last relied on in vain, and how many messages it has brought first since.
    failed: Option<Instant>,
    made_up: u32,
}

/// What a peer's conduct has been, with what each part weighs. Older deeds count less: half after a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Conduct {
    /// Messages of others that it brought before anybody else; up to 50 of them weigh +1 each.
    pub brought_first: u32,
    /// Messages that it announced, was asked for, and did not send; −4 each.
    pub broken_promises: u32,
    /// Forged, foreign or oversized messages; −25 each.
    pub invalid: u32,
    /// Control messages beyond 400 a second; −1 for each 16.
    pub spam: u32,
    /// Messages that it pushed though they were new five seconds after it had been told not to, or sent as asked for
    /// unasked; −2 each.
    pub unwanted: u32,
    /// The sum. At −100 the peer is let go and shunned.
    pub score: i64,
    /// For how long it will still be shunned.
    pub shunned_for: Option<Duration>,
}

impl fmt::Display for Conduct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { brought_first, broken_promises, invalid, spam, unwanted, score, .. } = self;
        write!(
            f,
            "{score}: {brought_first} brought first, {broken_promises} promised and not sent, {invalid} invalid, {spam} \
             control messages too many, {unwanted} pushed unwanted"
        )?;
        match self.shunned_for {
            Some(left) => write!(f, "; shunned for another {left:?}"),
            None => Ok(()),
        }
    }
}

impl Score {
    fn new(now: Instant) -> Self {
        Self { counts: [0; 5], halved: now, proved: None, spoke: None, failed: None, made_up: 0 }
    }

    fn decay(&mut self, now: Instant) {
        let halvings = now.since(self.halved).as_secs() / HALF_LIFE.as_secs();
        if halvings > 0 {
            self.halved = now;
            let by = u32::try_from(halvings).unwrap_or(u32::MAX);
            self.counts.iter_mut().for_each(|count| *count = count.checked_shr(by).unwrap_or(0));
        }
    }

    fn fail(&mut self, now: Instant) {
        self.failed = Some(now);
        self.made_up = 0;
    }

    fn is_doubtful(&self, now: Instant) -> bool {
        self.made_up < MAKES_UP && self.failed.is_some_and(|at| now.since(at) < PROVEN_FOR)
    }

    fn conduct(&self, shunned_for: Option<Duration>) -> Conduct {
        let [brought_first, broken_promises, invalid, spam, unwanted] = self.counts;
        let score = i64::from(brought_first.min(MOST_FIRST))
            - 4 * i64::from(broken_promises)
            - 25 * i64::from(invalid)
            - i64::from(spam / 16)
            - 2 * i64::from(unwanted);
        Conduct { brought_first, broken_promises, invalid, spam, unwanted, score, shunned_for }
    }
}

/// The conduct of those who were neighbours lately.
#[derive(Debug)]
pub(crate) struct Scores {
    peers: Lru<PeerId, Score>,
    /// Until when. Apart from the others, so that nobody is forgiven because many others did something.
    shunned: Lru<PeerId, Instant>,
    /// When anybody was relied on in vain last.
    failed: Option<Instant>,
    shun_below: i64,
    shun_for: Duration,
    /// Who is to be let go.
    fallen: Vec<PeerId>,
}

impl Scores {
    pub(crate) fn new(shun_below: i64, shun_for: Duration) -> Self {
        Self {
            peers: Lru::new(SCORED),
            shunned: Lru::new(SCORED),
            failed: None,
            shun_below,
            shun_for,
            fallen: Vec::new(),
        }
    }

    pub(crate) fn note(&mut self, peer: PeerId, deed: Deed, now: Instant) {
        let shunned = self.is_shunned(&peer, now);
        let score = self.peers.touch(&peer, || Score::new(now)).0;
        score.decay(now);
        match deed {
            Deed::First => {
                score.proved = Some(now);
                score.made_up = score.made_up.saturating_add(1);
            }
            Deed::Broken => {
                score.fail(now);
                self.failed = Some(now);
            }
            Deed::Invalid | Deed::Spam | Deed::Unwanted => {}
        }
        let at = match deed {
            Deed::First => 0,
            Deed::Broken => 1,
            Deed::Invalid => 2,
            Deed::Spam => 3,
            Deed::Unwanted => 4,
        };
        if let Some(count) = score.counts.get_mut(at) {
            *count = count.saturating_add(1);
        }
        if !shunned && score.conduct(None).score <= self.shun_below {
            self.shunned.insert(peer, now + self.shun_for);
            self.fallen.push(peer);
        }
    }

    /// A message of its own came from it before it came from anybody else.
    pub(crate) fn spoke(&mut self, peer: PeerId, now: Instant) {
        self.peers.touch(&peer, || Score::new(now)).0.spoke = Some(now);
    }

    /// Of what use it was lately.
    pub(crate) fn merit(&self, peer: &PeerId, now: Instant) -> Merit {
        let spoke = self.peers.peek(peer).and_then(|score| score.spoke);
        match (self.brought(peer, now), lately(spoke, now)) {
            _ if self.is_shunned(peer, now) => Merit::None,
            (true, _) => Merit::Brought,
            (false, true) => Merit::Spoke,
            (false, false) => Merit::None,
        }
    }

    /// Whether it brought a message of another before anybody else lately. What one says itself shows nothing of what it
    /// passes on.
    fn brought(&self, peer: &PeerId, now: Instant) -> bool {
        let proved = self.peers.peek(peer).and_then(|score| score.proved);
        !self.is_shunned(peer, now) && lately(proved, now)
    }

    /// A parent that it was chosen for pushed nothing. That may be another one's fault, so it costs nothing but our trust.
    pub(crate) fn fail(&mut self, peer: PeerId, now: Instant) {
        self.peers.touch(&peer, || Score::new(now)).0.fail(now);
        self.failed = Some(now);
    }

    /// Whether it was relied on in vain of late.
    pub(crate) fn is_doubtful(&self, peer: &PeerId, now: Instant) -> bool {
        !self.is_calm(now) && self.peers.peek(peer).is_some_and(|score| score.is_doubtful(now))
    }

    /// Whether what it announces may be built upon before it has sent any of it. While nobody was relied on in vain, that
    /// is everybody; for ten minutes after somebody was, only who brought others' messages.
    pub(crate) fn is_trusted(&self, peer: &PeerId, now: Instant) -> bool {
        self.is_calm(now) || !self.is_doubtful(peer, now) && self.brought(peer, now)
    }

    /// Whether nobody was relied on in vain of late.
    fn is_calm(&self, now: Instant) -> bool {
        self.failed.is_none_or(|at| now.since(at) >= PROVEN_FOR)
    }

    pub(crate) fn is_shunned(&self, peer: &PeerId, now: Instant) -> bool {
        self.shunned.peek(peer).is_some_and(|until| *until > now)
    }

    pub(crate) fn has_fallen(&self) -> bool {
        !self.fallen.is_empty()
    }

    pub(crate) fn take_fallen(&mut self) -> Vec<PeerId> {
        std::mem::take(&mut self.fallen)
    }

    /// By now; `None` of a peer that did nothing of note.
    pub(crate) fn conduct(&self, peer: &PeerId, now: Instant) -> Option<Conduct> {
        let mut score = self.peers.peek(peer)?.clone();
        score.decay(now);
        let left = self.shunned.peek(peer).filter(|until| **until > now).map(|until| until.since(now));
        Some(score.conduct(left))
    }

    /// How many are judged, or shunned.
    pub(crate) fn len(&self) -> usize {
        self.peers.len().max(self.shunned.len())
    }

    pub(crate) fn footprint(&self) -> u64 {
        (self.len() * SCORE_BYTES) as u64
    }
}

fn lately(at: Option<Instant>, now: Instant) -> bool {
    at.is_some_and(|at| now.since(at) < PROVEN_FOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deeds_weigh_and_fade_and_the_fallen_are_told_once() {
        let mut scores = Scores::new(-100, Duration::from_secs(600));
        let (peer, start) = (PeerId::from_bytes([1; 32]), Instant::START);
        (0..10).for_each(|_| scores.note(peer, Deed::First, start));
        (0..4).for_each(|_| scores.note(peer, Deed::Invalid, start));
        assert_eq!(scores.conduct(&peer, start).map(|it| it.score), Some(-90));
        assert!(scores.take_fallen().is_empty());
        let later = start + Duration::from_secs(60);
        assert_eq!(scores.conduct(&peer, later).map(|it| (it.invalid, it.score)), Some((2, -45)));
        (0..3).for_each(|_| scores.note(peer, Deed::Invalid, later));
        assert_eq!(scores.take_fallen(), [peer]);
        assert!(scores.is_shunned(&peer, later) && scores.take_fallen().is_empty());
        assert!(!scores.is_shunned(&peer, later + Duration::from_secs(600)));
        let text = scores.conduct(&peer, later).map(|it| it.to_string()).unwrap_or_default();
        assert!(text.contains("5 invalid") && text.contains("shunned for another 600s"), "{text}");
    }

    #[test]
    fn all_are_trusted_until_one_was_relied_on_in_vain_and_then_those_who_proved_useful() {
        let mut scores = Scores::new(-100, Duration::from_secs(600));
        let [liar, useful, other] = [1, 2, 3].map(|byte| PeerId::from_bytes([byte; 32]));
        let at = |secs| Instant::START + Duration::from_secs(secs);
        scores.note(useful, Deed::First, at(0));
        assert!([liar, useful, other].iter().all(|peer| scores.is_trusted(peer, at(0))));
        scores.note(liar, Deed::Broken, at(1));
        assert_eq!([liar, useful, other].map(|peer| scores.is_trusted(&peer, at(1))), [false, true, false]);
        // It has to bring more than one message first to make up for that.
        for brought in 1..=MAKES_UP {
            scores.note(liar, Deed::First, at(2));
            assert_eq!(scores.is_trusted(&liar, at(2)), brought == MAKES_UP, "{brought}");
        }
        // What may be another one's fault costs trust and nothing else.
        scores.fail(useful, at(3));
        assert!(!scores.is_trusted(&useful, at(3)) && scores.merit(&useful, at(3)) == Merit::Brought);
        assert_eq!(scores.conduct(&useful, at(3)).map(|it| it.score), Some(1));
        assert!(scores.is_trusted(&other, at(603)) && scores.is_trusted(&liar, at(603)));
    }

    #[test]
    fn nobody_is_forgiven_because_many_others_do_something() {
        let mut scores = Scores::new(-100, Duration::from_secs(600));
        let (peer, start) = (PeerId::from_bytes([1; 32]), Instant::START);
        (0..4).for_each(|_| scores.note(peer, Deed::Invalid, start));
        for other in 0..2 * SCORED {
            let mut key = [2; 32];
            key[..8].copy_from_slice(&other.to_le_bytes());
            scores.note(PeerId::from_bytes(key), Deed::Invalid, start);
        }
        assert!(scores.is_shunned(&peer, start));
    }
}
