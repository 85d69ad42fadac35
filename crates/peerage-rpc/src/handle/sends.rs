//! One-way calls that were made here: those that are not done, and those that failed.

use std::collections::{BTreeMap, VecDeque};

use super::sealed::Seal;
use crate::event::SessionKey;
use crate::status::Status;

/// One-way calls that failed and that nobody has asked for; the oldest are forgotten.
const FAILED_SENDS: usize = 1024;
/// Sessions that are over, and of whose failures nobody has heard; the oldest are forgotten.
const ENDED: usize = 1024;

/// A one-way command that was not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedSend {
    /// As [`crate::Sent::number`] gave it.
    pub number: u64,
    /// Why.
    pub status: Status,
}

/// Those of one session.
#[derive(Default)]
struct OfSession {
    under_way: VecDeque<u64>,
    /// Of those, the ones that are sealed.
    sealed: BTreeMap<u64, Seal>,
    /// Of those that failed, since somebody has asked.
    first_failure: Option<Status>,
    is_over: bool,
}

/// Those of all sessions. A session that is over has a place here only while somebody may ask what failed in it.
#[derive(Default)]
pub(super) struct Sends {
    sessions: BTreeMap<SessionKey, OfSession>,
    /// Sessions that are over and have a place, in the order in which they ended, and some that have none any more.
    ended: VecDeque<SessionKey>,
    failed: VecDeque<FailedSend>,
}

impl Sends {
    pub(super) fn made(&mut self, session: SessionKey, number: u64, seal: Seal) {
        let sends = self.sessions.entry(session).or_default();
        sends.under_way.push_back(number);
        if seal.is_some() {
            sends.sealed.insert(number, seal);
        }
    }

    /// The last one that was made in each session, or in one.
    pub(super) fn until(&self, session: Option<SessionKey>) -> Vec<(SessionKey, u64)> {
        let of = self.sessions.iter().filter(|(key, _)| session.is_none_or(|session| session == **key));
        of.filter_map(|(key, sends)| Some((*key, *sends.under_way.back()?))).collect()
    }

    /// Whether those up to there are done.
    pub(super) fn are_done(&self, marks: &[(SessionKey, u64)]) -> bool {
        marks.iter().all(|(session, up_to)| {
            let first = self.sessions.get(session).and_then(|sends| sends.under_way.front());
            first.is_none_or(|first| first > up_to)
        })
    }

    pub(super) fn under_way(&self) -> usize {
        self.sessions.values().map(|sends| sends.under_way.len()).sum()
    }

    /// The first that failed since this was asked, in all sessions or in one.
    pub(super) fn first_failure(&mut self, session: Option<SessionKey>) -> Option<Status> {
        let mut of = self.sessions.iter_mut();
        let (key, sends) = of.find(|(key, sends)| {
            sends.first_failure.is_some() && session.is_none_or(|session| session == **key)
        })?;
        let (key, failure) = (*key, sends.first_failure.take());
        if sends.is_over {
            self.sessions.remove(&key);
        }
        failure
    }

    /// Those that failed since this was asked.
    pub(super) fn take_failed(&mut self) -> Vec<FailedSend> {
        self.failed.drain(..).collect()
    }

    pub(super) fn failed(&mut self, session: SessionKey, number: u64, mut status: Status) {
        if let Some(sends) = self.sessions.get_mut(&session) {
            if let Some(seal) = sends.sealed.remove(&number).flatten() {
                status = seal.open_status(status);
            }
            if let Ok(at) = sends.under_way.binary_search(&number) {
                sends.under_way.remove(at);
            }
            sends.first_failure.get_or_insert_with(|| status.clone());
        }
        if self.failed.len() == FAILED_SENDS {
            self.failed.pop_front();
        }
        self.failed.push_back(FailedSend { number, status });
    }

    pub(super) fn done(&mut self, session: SessionKey, up_to: u64) {
        let Some(sends) = self.sessions.get_mut(&session) else { return };
        while sends.under_way.front().is_some_and(|first| *first <= up_to) {
            sends.under_way.pop_front();
        }
        sends.sealed = sends.sealed.split_off(&(up_to + 1));
    }

    /// A session is over: what is not known to be done may be or not.
    pub(super) fn session_closed(&mut self, session: SessionKey, status: &Status) {
        let under_way = self.sessions.get_mut(&session).map(|sends| std::mem::take(&mut sends.under_way));
        for number in under_way.unwrap_or_default() {
            self.failed(session, number, status.clone().may_have_run());
        }
        let Some(sends) = self.sessions.get_mut(&session) else { return };
        if sends.first_failure.is_none() {
            self.sessions.remove(&session);
            return;
        }
        sends.is_over = true;
        self.ended.push_back(session);
        if self.ended.len() > ENDED
            && let Some(oldest) = self.ended.pop_front()
        {
            self.sessions.remove(&oldest);
        }
    }

    pub(super) fn sessions(&self) -> Vec<SessionKey> {
        self.sessions.keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn over() -> Status {
        Status::unavailable("the session is over")
    }

    #[test]
    fn sessions_that_end_leave_nothing_when_all_was_done() {
        let mut sends = Sends::default();
        for key in (0..5_000).map(SessionKey) {
            sends.made(key, 1, None);
            sends.made(key, 3, None);
            sends.done(key, 3);
            sends.session_closed(key, &over());
        }
        assert_eq!((sends.sessions.len(), sends.ended.len(), sends.under_way()), (0, 0, 0));
        assert_eq!(sends.first_failure(None), None);
    }

    #[test]
    fn what_failed_in_a_session_that_is_over_can_be_asked_once_and_is_forgotten_in_time() {
        let mut sends = Sends::default();
        let count = 3 * ENDED as u64;
        for key in (0..count).map(SessionKey) {
            sends.made(key, 1, None);
            sends.made(key, 2, None);
            sends.session_closed(key, &over());
        }
        assert_eq!((sends.sessions.len(), sends.ended.len(), sends.under_way()), (ENDED, ENDED, 0));
        let last = SessionKey(count - 1);
        assert_eq!(sends.first_failure(Some(last)), Some(over().may_have_run()));
        assert_eq!(sends.first_failure(Some(last)), None);
        assert_eq!(sends.sessions.len(), ENDED - 1, "who has heard needs no place");
        assert_eq!(sends.take_failed().len(), FAILED_SENDS);
        assert_eq!(sends.take_failed(), []);
    }

    #[test]
    fn a_session_that_is_open_keeps_its_place_when_its_failure_is_heard() {
        let (mut sends, key) = (Sends::default(), SessionKey(1));
        sends.made(key, 1, None);
        sends.made(key, 2, None);
        sends.failed(key, 1, Status::not_found("no"));
        assert_eq!(sends.first_failure(None), Some(Status::not_found("no")));
        assert_eq!((sends.until(None), sends.are_done(&[(key, 2)])), (vec![(key, 2)], false));
        sends.done(key, 2);
        assert!(sends.are_done(&[(key, 2)]));
    }
}
