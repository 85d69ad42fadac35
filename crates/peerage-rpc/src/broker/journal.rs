//! What of sessions survives a restart.
//!
//! For each session its owner, up to which item it is finished, and of what comes after: answers that the party may not
//! have, and calls that were passed on. They are written together with what handlers write, in the order in which
//! things were done, and removed when they are of no more use, with whatever is written next.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{BufMut as _, Bytes, BytesMut};
use peerage_machine::{CallId, Effect, Instant, LinkId, Now, OpId, StoreError, Write};
use peerage_wire::PeerId;

use super::machine::{BrokerMachine, Sess};
use crate::accounts::Kind;
use crate::convert::{answer_from_bytes, answer_to_bytes};
use crate::event::{Out, SessionKey};
use crate::packet::{Call, Lanes, SessionId};
use crate::session::Session;
use crate::status::{Code, Status};
use crate::talk::{Talk, fitting};

/// Under which keys the journal is kept.
pub const JOURNAL_PREFIX: &[u8] = b"rpc/j/";
/// What is of no more use is removed at the latest when there is so much of it; a count.
const GARBAGE: usize = 512;

const OWNER: u8 = b's';
const FINISHED: u8 = b'w';
const ANSWER: u8 = b'r';
const PASSED_ON: u8 = b'd';

/// What waits for the store.
#[derive(Debug)]
pub(super) enum Pending {
    /// Nothing waits.
    Nothing,
    /// A call that was run here: it is answered, or acknowledged.
    Completed { session: SessionKey, seq: u64, result: Result<Bytes, Box<Status>> },
    /// A call that goes to a node.
    PassOn { session: SessionKey, seq: u64, call: Box<Call> },
    /// Whoever asked for it hears that it is kept.
    Command(CallId),
    /// A newcomer hears that it is in.
    Enrolled { link: LinkId, kind: Kind, confirmed: bool },
}

/// One session's part of the journal.
#[derive(Debug)]
pub(super) struct Journal {
    id: SessionId,
    /// Whether it is kept at all.
    is_on: bool,
    /// From before this start of the broker; and whether its party has come back.
    is_restored: bool,
    is_resumed: bool,
    /// Finished up to there, but for calls with answers.
    finished: u64,
    /// One-way calls that are done, and will be finished when it is written.
    submitted: BTreeSet<u64>,
    /// Answers from before.
    answers: BTreeMap<u64, Result<Bytes, Box<Status>>>,
    /// Calls from before with an answer, or that were passed on, and that have not come again.
    unclaimed: BTreeSet<u64>,
    /// Up to where it was finished at this start, and up to where calls from before that have come again.
    restored: u64,
    come_again: u64,
    /// What the party had sent when it came back first.
    sent_before: u64,
    /// One-way calls with records, which are of no use once they are finished.
    one_ways: BTreeSet<u64>,
    /// One-way calls that were refused, and of which nothing is written, with the reason; until their party has heard it.
    refused: BTreeMap<u64, Code>,
    /// Calls that go to nodes once their marks are written, as a count.
    passing: usize,
    /// What is in the store of it.
    records: BTreeSet<(u8, u64)>,
    /// Answers that were sent, by their numbers, and which call each is to.
    sent: BTreeMap<u64, u64>,
}

impl Journal {
    pub(super) fn new(id: SessionId, is_on: bool) -> Self {
        Self {
            id,
            is_on,
            is_restored: false,
            is_resumed: false,
            finished: 0,
            submitted: BTreeSet::new(),
            answers: BTreeMap::new(),
            unclaimed: BTreeSet::new(),
            restored: 0,
            come_again: 0,
            sent_before: 0,
            one_ways: BTreeSet::new(),
            refused: BTreeMap::new(),
            passing: 0,
            records: BTreeSet::new(),
            sent: BTreeMap::new(),
        }
    }

    pub(super) fn is_restored(&self) -> bool {
        self.is_restored
    }

    /// Whether its party can be spoken to: not before it has said how far it was.
    pub(super) fn is_resumed(&self) -> bool {
        !self.is_restored || self.is_resumed
    }

    /// The party is back, and has so much.
    pub(super) fn resume(&mut self, talk: &mut Talk, theirs: Lanes) {
        talk.session = Session::from_journal(self.finished, theirs);
        self.restored = self.finished;
        self.sent_before = theirs.sent;
        self.is_resumed = true;
    }

    /// Whether a call that has come before is new to this start of the broker. A party sends them in order, on each link
    /// anew: those up to the last that came are known, and those above what was finished then are counted by their lane.
    pub(super) fn comes_again(&mut self, seq: u64) -> bool {
        let is_new = self.is_restored && seq <= self.restored && seq > self.come_again;
        if is_new {
            self.come_again = seq;
        }
        is_new
    }

    /// A call has come: those from before that have not come by now never will.
    pub(super) fn forget_unclaimed(&mut self, seq: u64, into: &mut Vec<Write>) {
        if seq <= self.sent_before {
            return;
        }
        for seq in std::mem::take(&mut self.unclaimed) {
            self.answers.remove(&seq);
            self.remove(ANSWER, seq, into);
            self.remove(PASSED_ON, seq, into);
        }
    }

    /// What became of a call before the restart.
    pub(super) fn before(&mut self, seq: u64, is_one_way: bool) -> Option<Result<Bytes, Box<Status>>> {
        if !self.unclaimed.remove(&seq) {
            return None;
        }
        if is_one_way {
            self.one_ways.insert(seq);
        }
        if let Some(answer) = self.answers.get(&seq) {
            return Some(answer.clone());
        }
        let status = Status::unavailable("the broker was restarted while a node had the call");
        Some(Err(Box::new(status.may_have_run())))
    }

    /// How many one-way calls are kept because one before them is not done.
    pub(super) fn one_ways(&self) -> usize {
        self.one_ways.len()
    }

    fn put(&mut self, tag: u8, seq: u64, value: Bytes) -> Write {
        self.records.insert((tag, seq));
        Write { key: key_of(tag, &self.id, Some(seq)), value: Some(value) }
    }

    fn remove(&mut self, tag: u8, seq: u64, into: &mut Vec<Write>) {
        if self.records.remove(&(tag, seq)) {
            into.push(Write { key: key_of(tag, &self.id, Some(seq)), value: None });
        }
    }

    fn owner(&self, peer: PeerId, kind: Kind) -> Write {
        let mut value = BytesMut::with_capacity(33);
        value.put_slice(peer.as_bytes());
        value.put_u8(match kind {
            Kind::User => 1,
            Kind::Node => 2,
        });
        Write { key: key_of(OWNER, &self.id, None), value: Some(value.freeze()) }
    }

    /// A call after those that were refused is kept: they must not be run after it, if they come again.
    fn keep_refused(&mut self, before: u64, into: &mut Vec<Write>) {
        let later = self.refused.split_off(&before);
        for (seq, code) in std::mem::replace(&mut self.refused, later) {
            let status = Status::new(code, "it was refused before the broker was restarted");
            into.push(self.put(ANSWER, seq, answer_to_bytes(&Err(Box::new(status)))));
            self.one_ways.insert(seq);
        }
    }

    /// All up to there is finished, when it is written.
    fn finished_up_to(&mut self, up_to: u64, into: &mut Vec<Write>) {
        if up_to <= self.finished {
            return;
        }
        self.finished = up_to;
        let value = Bytes::copy_from_slice(&up_to.to_be_bytes());
        into.push(Write { key: key_of(FINISHED, &self.id, None), value: Some(value) });
        self.submitted = self.submitted.split_off(&(up_to + 1));
        let later = self.one_ways.split_off(&(up_to + 1));
        for seq in std::mem::replace(&mut self.one_ways, later) {
            self.answers.remove(&seq);
            self.remove(ANSWER, seq, into);
            self.remove(PASSED_ON, seq, into);
        }
    }

    /// All of it.
    fn clear(&mut self, into: &mut Vec<Write>) {
        for (tag, seq) in std::mem::take(&mut self.records) {
            into.push(Write { key: key_of(tag, &self.id, Some(seq)), value: None });
        }
        for tag in [OWNER, FINISHED] {
            into.push(Write { key: key_of(tag, &self.id, None), value: None });
        }
    }
}

fn key_of(tag: u8, id: &SessionId, seq: Option<u64>) -> Bytes {
    let mut key = BytesMut::with_capacity(JOURNAL_PREFIX.len() + 25);
    key.put_slice(JOURNAL_PREFIX);
    // All of one session stands together.
    key.put_slice(&id.0);
    key.put_u8(tag);
    if let Some(seq) = seq {
        key.put_u64(seq);
    }
    key.freeze()
}

fn read_key(key: &[u8]) -> Option<(SessionId, u8, u64)> {
    let rest = key.strip_prefix(JOURNAL_PREFIX)?;
    let (id, rest) = rest.split_first_chunk::<16>()?;
    let (tag, rest) = rest.split_first()?;
    let seq = if rest.is_empty() { 0 } else { u64::from_be_bytes(rest.try_into().ok()?) };
    Some((SessionId(*id), *tag, seq))
}

impl Sess {
    /// A call of the party has an answer.
    pub(super) fn answer(&mut self, now: Instant, seq: u64, result: Result<Bytes, Box<Status>>) {
        let refused = result.as_ref().err().map(|status| status.code);
        let refused = refused.filter(|_| self.journal.is_on && self.talk.is_one_way(seq));
        if let Some(answer) = self.talk.reply(now, seq, result)
            && self.journal.is_on
        {
            self.journal.sent.insert(answer, seq);
            if let Some(code) = refused.filter(|_| !self.journal.one_ways.contains(&seq)) {
                self.journal.refused.insert(seq, code);
            }
        }
    }
}

impl BrokerMachine {
    /// Has it written, with what is of no more use removed.
    pub(super) fn keep(&mut self, mut writes: Vec<Write>, pending: Pending, out: &mut Out) {
        // First what was put off: of two writes to a key, the later one counts.
        let mut batch = std::mem::take(&mut self.garbage);
        batch.append(&mut writes);
        let op = OpId(self.next_op);
        self.next_op += 1;
        self.pending.insert(op, pending);
        out.push(Effect::Store { op, batch });
    }

    /// A session begins.
    pub(super) fn journal_begins(&mut self, key: SessionKey, out: &mut Out) {
        let Some(session) = self.sessions.get(&key).filter(|session| session.journal.is_on) else { return };
        let owner = session.journal.owner(session.peer, session.kind);
        self.keep(vec![owner], Pending::Nothing, out);
    }

    /// A session is over.
    pub(super) fn journal_ends(&mut self, session: &mut Sess, out: &mut Out) {
        if session.journal.is_on {
            session.journal.clear(&mut self.garbage);
            self.sweep(out);
        }
    }

    /// Removes what is of no more use, when it is much.
    pub(super) fn sweep(&mut self, out: &mut Out) {
        if self.garbage.len() >= GARBAGE {
            self.keep(Vec::new(), Pending::Nothing, out);
        }
    }

    /// A call that ran here is done. With the journal, that and what its handler wrote is kept before anybody hears of it.
    pub(super) fn journal_completes(
        &mut self,
        now: Instant,
        key: SessionKey,
        seq: u64,
        result: Result<Bytes, Box<Status>>,
        mut writes: Vec<Write>,
        out: &mut Out,
    ) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let has_streams = session.talk.shape_of(seq).is_some_and(crate::Shape::has_streams);
        if !session.talk.is_wanted(seq) {
            // Nobody waits for it, and what was done was done.
            if !writes.is_empty() {
                self.keep(writes, Pending::Nothing, out);
            }
            return;
        }
        let result = fitting(result, &session.talk.limits);
        if session.journal.is_on && !has_streams {
            let journal = &mut session.journal;
            if session.talk.is_one_way(seq) {
                // One that failed is done when its party has heard so.
                if result.is_ok() {
                    journal.submitted.insert(seq);
                }
                let up_to = session.talk.session.done_with(&journal.submitted);
                if up_to < seq {
                    journal.one_ways.insert(seq);
                    let answer = result.as_ref().map(|_| Bytes::new()).map_err(Clone::clone);
                    writes.push(journal.put(ANSWER, seq, answer_to_bytes(&answer)));
                    journal.keep_refused(seq, &mut writes);
                }
                journal.finished_up_to(up_to, &mut writes);
            } else {
                journal.keep_refused(seq, &mut writes);
                writes.push(journal.put(ANSWER, seq, answer_to_bytes(&result)));
            }
        }
        if writes.is_empty() {
            self.completed(now, key, seq, result);
        } else {
            self.keep(writes, Pending::Completed { session: key, seq, result }, out);
        }
    }

    /// A call is answered, or acknowledged.
    pub(super) fn completed(
        &mut self,
        now: Instant,
        key: SessionKey,
        seq: u64,
        result: Result<Bytes, Box<Status>>,
    ) {
        if let Some(session) = self.sessions.get_mut(&key) {
            session.answer(now, seq, result);
            session.touch(key, &mut self.touched);
        }
    }

    /// Before a call goes to a node, with the journal: that it was, so that it never is again.
    pub(super) fn journal_passes_on(
        &mut self,
        key: SessionKey,
        seq: u64,
        call: Box<Call>,
        out: &mut Out,
    ) -> Option<Box<Call>> {
        let session = self.sessions.get_mut(&key)?;
        if !session.journal.is_on {
            return Some(call);
        }
        if call.shape.has(crate::Shape::IDEMPOTENT) || call.shape.has_streams() {
            // It needs no mark, and must not overtake those that wait for theirs.
            if session.journal.passing == 0 {
                return Some(call);
            }
            session.journal.passing += 1;
            self.keep(Vec::new(), Pending::PassOn { session: key, seq, call: call.kept() }, out);
            return None;
        }
        session.journal.passing += 1;
        let mut marks = Vec::new();
        session.journal.keep_refused(seq, &mut marks);
        if call.shape.has(crate::Shape::ONE_WAY) {
            session.journal.one_ways.insert(seq);
        }
        marks.push(session.journal.put(PASSED_ON, seq, Bytes::new()));
        self.keep(marks, Pending::PassOn { session: key, seq, call: call.kept() }, out);
        None
    }

    /// That a call was done could not be written: it has failed, and its party may hear that after a restart.
    fn not_kept(&mut self, now: Instant, key: SessionKey, seq: u64, mut status: Status) {
        if let Some(session) = self.sessions.get_mut(&key).filter(|session| session.journal.is_on)
            && session.talk.is_one_way(seq)
        {
            status.fit(&session.talk.limits);
            let journal = &mut session.journal;
            // Or what is written next would say that it is done.
            journal.submitted.remove(&seq);
            journal.one_ways.insert(seq);
            let answer = Err(Box::new(status.clone()));
            self.garbage.push(journal.put(ANSWER, seq, answer_to_bytes(&answer)));
        }
        self.completed(now, key, seq, Err(Box::new(status)));
    }

    fn has_passed(&mut self, key: SessionKey) {
        if let Some(session) = self.sessions.get_mut(&key) {
            session.journal.passing = session.journal.passing.saturating_sub(1);
        }
    }

    /// The party has all of ours up to there.
    pub(super) fn journal_acknowledged(&mut self, key: SessionKey, up_to: u64, out: &mut Out) {
        let Some(session) = self.sessions.get_mut(&key).filter(|session| session.journal.is_on) else {
            return;
        };
        let journal = &mut session.journal;
        let later = journal.sent.split_off(&(up_to + 1));
        let mut has_failed = false;
        for (_, seq) in std::mem::replace(&mut journal.sent, later) {
            // One that failed does not come again either, when its party has heard so, whatever is before it.
            has_failed |= journal.refused.remove(&seq).is_some() | journal.one_ways.remove(&seq);
            journal.answers.remove(&seq);
            journal.remove(ANSWER, seq, &mut self.garbage);
            journal.remove(PASSED_ON, seq, &mut self.garbage);
        }
        if has_failed {
            journal.finished_up_to(session.talk.session.done_with(&journal.submitted), &mut self.garbage);
        }
        self.sweep(out);
    }

    /// One-way calls are done that were not run here: nothing up to there comes again.
    pub(super) fn journal_one_ways(&mut self, key: SessionKey, out: &mut Out) {
        let Some(session) = self.sessions.get_mut(&key).filter(|session| session.journal.is_on) else {
            return;
        };
        let journal = &mut session.journal;
        journal.finished_up_to(session.talk.session.done_with(&journal.submitted), &mut self.garbage);
        self.sweep(out);
    }

    pub(super) fn on_stored(
        &mut self,
        now: Instant,
        op: OpId,
        result: Result<(), StoreError>,
        out: &mut Out,
    ) {
        let failed = result.err().map(|error| Status::internal(format!("it could not be kept: {error}")));
        match (self.pending.remove(&op), failed) {
            (Some(Pending::Completed { session, seq, result }), None) => {
                self.completed(now, session, seq, result)
            }
            (Some(Pending::Completed { session, seq, .. }), Some(status)) => {
                self.not_kept(now, session, seq, status.may_have_run());
            }
            (Some(Pending::PassOn { session, seq, call }), None) => {
                self.has_passed(session);
                self.pass_on_later(now, session, seq, call);
            }
            (Some(Pending::PassOn { session, seq, .. }), Some(status)) => {
                self.has_passed(session);
                self.completed(now, session, seq, Err(Box::new(status)));
            }
            (Some(Pending::Enrolled { link, kind, confirmed }), None) => {
                self.enrolled(link, kind, confirmed, out)
            }
            (Some(Pending::Enrolled { link, .. }), Some(status)) => self.refuse(link, status, out),
            (Some(Pending::Command(call)), failed) => out.answer(call, failed.map_or(Ok(Bytes::new()), Err)),
            (Some(Pending::Nothing) | None, _) => {}
        }
    }

    /// Sessions from before this start, each with its grace from now.
    pub(super) fn restore(&mut self, now: Now, journal: impl IntoIterator<Item = (Bytes, Bytes)>) {
        let mut found: BTreeMap<SessionId, (Option<(PeerId, Kind)>, Journal)> = BTreeMap::new();
        for (key, value) in journal {
            let Some((id, tag, seq)) = read_key(&key) else {
                tracing::warn!("a record of the journal has a key that is none");
                continue;
            };
            let (owner, journal) = found.entry(id).or_insert_with(|| (None, Journal::new(id, true)));
            match tag {
                OWNER => *owner = read_owner(&value),
                FINISHED => {
                    journal.finished = value.as_ref().try_into().map(u64::from_be_bytes).unwrap_or_default();
                }
                ANSWER => {
                    if let Some(answer) = answer_from_bytes(value) {
                        journal.answers.insert(seq, answer);
                    }
                    journal.records.insert((ANSWER, seq));
                }
                _ => {
                    journal.records.insert((tag, seq));
                }
            }
        }
        for (id, (owner, mut journal)) in found {
            match owner {
                Some((peer, kind)) if self.config.journal => {
                    journal.is_restored = true;
                    journal.unclaimed = journal.records.iter().map(|(_, seq)| *seq).collect();
                    self.bring_back(now.mono, id, peer, kind, journal);
                }
                _ => journal.clear(&mut self.garbage),
            }
        }
    }
}

fn read_owner(value: &[u8]) -> Option<(PeerId, Kind)> {
    let (peer, rest) = value.split_first_chunk::<32>()?;
    let kind = match rest {
        [1] => Kind::User,
        [2] => Kind::Node,
        _ => return None,
    };
    Some((PeerId::from_bytes(*peer), kind))
}
