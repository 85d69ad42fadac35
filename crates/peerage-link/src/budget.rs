//! Memory that the links of an endpoint share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// So many bytes, lent to whoever asks, within what is fair.
///
/// - What can be given back a little at a time, as windows can: of n that want some, each may have a part in n + 1. One
///   alone has half, and whoever comes next finds something, while the others shrink to what is then their part. Who has
///   some and does not use it is not counted among the n, and keeps it only while half of the budget is left.
/// - What is needed whole or not at all, as a message's room: nobody is lent more than what is then still left. Who is
///   refused is next, before all others, and gets it as soon as it is there. (The first rule is Choudhury and Hahne's,
///   "Dynamic queue length thresholds for shared-memory packet switches", IEEE/ACM Transactions on Networking 6, 1998,
///   with α = 1. For windows it was tried and found unfair: who asks at the right moment doubles again and again.)
///
/// It is a number behind a lock, which is taken for each 16 KiB that arrive and not for each message. Links that share
/// one and are driven in the same order find the same.
#[derive(Debug)]
pub struct Budget {
    total: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    left: u64,
    /// How many shares want some that can be given back a little at a time.
    wanting: u64,
    next_ticket: u64,
    /// Who was refused and is next, and what it needs. Nobody else gets what it waits for.
    first: Option<(u64, u64)>,
}

impl Budget {
    /// A budget of so many bytes.
    pub const fn new(total: u64) -> Self {
        Self { total, state: Mutex::new(State { left: total, wanting: 0, next_ticket: 0, first: None }) }
    }

    /// All of it.
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// Bytes that are not lent.
    pub fn left(&self) -> u64 {
        self.state().left
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the links of an endpoint share. A clone is the same.
#[derive(Clone, Debug)]
pub struct Memory {
    /// By how much windows grow beyond [`crate::LinkConfig::window`].
    pub windows: Arc<Budget>,
    /// For messages that arrive in parts.
    pub messages: Arc<Budget>,
}

impl Memory {
    /// Budgets of so many bytes.
    pub fn new(windows: u64, messages: u64) -> Self {
        Self { windows: Arc::new(Budget::new(windows)), messages: Arc::new(Budget::new(messages)) }
    }
}

/// What one link has of a budget; all of it goes back with the link.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Arc<Budget>,
    ticket: u64,
    held: u64,
    /// Whether it counts among those that want some.
    wants: bool,
}

impl Share {
    pub(crate) fn new(budget: Arc<Budget>) -> Self {
        let ticket = {
            let mut state = budget.state();
            state.next_ticket += 1;
            state.next_ticket
        };
        Self { budget, ticket, held: 0, wants: false }
    }

    pub(crate) fn held(&self) -> u64 {
        self.held
    }

    /// Whether it has, or wants, any.
    pub(crate) fn is_used(&self) -> bool {
        self.wants || self.held > 0
    }

    /// It uses what it has: whether that is more than its part by now.
    pub(crate) fn is_over(&mut self) -> bool {
        if self.held == 0 {
            return false;
        }
        let mut state = self.budget.state();
        Self::count(&mut self.wants, &mut state);
        self.held > self.budget.total / (state.wanting + 1)
    }

    /// Whether so little is left that nobody should keep what it does not use.
    pub(crate) fn is_scarce(&self) -> bool {
        self.budget.left() < self.budget.total / 2
    }

    fn count(wants: &mut bool, state: &mut State) {
        if !std::mem::replace(wants, true) {
            state.wanting += 1;
        }
    }

    /// As much more as is fair, and no more than is wanted.
    pub(crate) fn grow(&mut self, wanted: u64) -> u64 {
        let mut state = self.budget.state();
        Self::count(&mut self.wants, &mut state);
        let part = self.budget.total / (state.wanting + 1);
        let granted = wanted.min(part.saturating_sub(self.held)).min(state.left);
        state.left -= granted;
        self.held += granted;
        granted
    }

    /// It does not use what it has, and so takes no part from those who do.
    pub(crate) fn rest(&mut self) {
        if std::mem::take(&mut self.wants) {
            self.budget.state().wanting -= 1;
        }
    }

    /// So much more, or nothing. Who was refused first is next, and gets it as soon as it is there, fair or not.
    pub(crate) fn reserve(&mut self, bytes: u64) -> bool {
        let mut state = self.budget.state();
        let granted = match state.first {
            Some((ticket, _)) if ticket == self.ticket => bytes <= state.left,
            Some((_, kept)) => self.held + 2 * bytes <= state.left.saturating_sub(kept),
            None => {
                self.held + 2 * bytes <= state.left
                    || (bytes <= state.left && state.left == self.budget.total)
            }
        };
        match (granted, state.first) {
            (true, Some((ticket, _))) if ticket == self.ticket => state.first = None,
            (false, None) => state.first = Some((self.ticket, bytes)),
            _ => {}
        }
        if granted {
            state.left -= bytes;
            self.held += bytes;
        }
        granted
    }

    /// It does not want what it was refused any more.
    pub(crate) fn stop_waiting(&self) {
        let mut state = self.budget.state();
        if state.first.is_some_and(|(ticket, _)| ticket == self.ticket) {
            state.first = None;
        }
    }

    /// Whether somebody waits for what others have.
    pub(crate) fn is_wanted(&self) -> bool {
        self.budget.state().first.is_some_and(|(ticket, _)| ticket != self.ticket)
    }

    pub(crate) fn give(&mut self, bytes: u64) {
        let bytes = bytes.min(self.held);
        self.held -= bytes;
        self.budget.state().left += bytes;
        if self.held == 0 {
            self.rest();
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.stop_waiting();
        self.give(self.held);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn whatever_shares_do_nothing_is_lent_twice_and_all_comes_back(
            total in 0_u64..5_000,
            steps in proptest::collection::vec((0_usize..6, 0_u8..7, 0_u64..3_000), 1..200),
        ) {
            let budget = Arc::new(Budget::new(total));
            let mut shares: Vec<Share> = (0..6).map(|_| Share::new(Arc::clone(&budget))).collect();
            for (place, verb, bytes) in steps {
                let share = &mut shares[place];
                let before = share.held();
                match verb {
                    0 | 1 => {
                        let granted = share.grow(bytes);
                        prop_assert!(granted <= bytes && share.held() == before + granted);
                        prop_assert!(granted == 0 || share.held() <= total / 2);
                    }
                    2 => share.give(bytes),
                    3 => share.rest(),
                    4 => {
                        let granted = share.reserve(bytes);
                        prop_assert_eq!(share.held(), if granted { before + bytes } else { before });
                    }
                    5 => {
                        share.is_over();
                    }
                    _ => *share = Share::new(Arc::clone(&budget)),
                }
                let lent: u64 = shares.iter().map(Share::held).sum();
                prop_assert_eq!(lent + budget.left(), total);
                let (wanting, waits) = {
                    let state = budget.state();
                    (state.wanting, state.first)
                };
                prop_assert_eq!(wanting, shares.iter().filter(|share| share.wants).count() as u64);
                prop_assert!(waits.is_none_or(|(ticket, _)| shares.iter().any(|share| share.ticket == ticket)));
            }
            drop(shares);
            let state = budget.state();
            prop_assert_eq!((state.left, state.wanting, state.first), (total, 0, None));
        }
    }

    #[test]
    fn who_rests_takes_no_part_from_those_who_want_some() {
        let budget = Arc::new(Budget::new(1_200));
        let mut shares: Vec<Share> = (0..3).map(|_| Share::new(Arc::clone(&budget))).collect();
        assert_eq!(shares[0].grow(100), 100);
        assert!(!shares[0].is_scarce());
        shares[0].rest();
        assert_eq!(shares[1].grow(u64::MAX), 600);
        assert!(shares[0].is_scarce());
        // It uses what it has again: of two, a third each.
        assert!(!shares[0].is_over() && shares[1].is_over());
    }

    #[test]
    fn one_that_wants_all_has_half_and_n_have_a_part_in_n_and_one_each() {
        let budget = Arc::new(Budget::new(64 << 20));
        let mut shares: Vec<Share> = (0..7).map(|_| Share::new(Arc::clone(&budget))).collect();
        assert_eq!(shares[0].grow(u64::MAX), 32 << 20);
        assert_eq!(shares[0].grow(u64::MAX), 0);
        // Who comes next has a part in three, and the first one too much.
        assert_eq!(shares[1].grow(u64::MAX), (64 << 20) / 3);
        assert!(shares[0].is_over() && !shares[1].is_over());
        for _ in 0..1_000 {
            for share in &mut shares {
                share.grow(64 << 10);
                if share.is_over() {
                    share.give(64 << 10);
                }
            }
        }
        for share in &shares {
            assert!(share.held().abs_diff(8 << 20) <= 128 << 10, "{}", share.held());
        }
        let lent: u64 = shares.iter().map(Share::held).sum();
        assert_eq!(lent + budget.left(), budget.total());
        drop(shares);
        assert_eq!(budget.left(), budget.total());
    }

    #[test]
    fn who_was_refused_first_is_next_however_many_want_little() {
        let budget = Arc::new(Budget::new(1_000));
        let [mut one, mut other, mut large] = [(); 3].map(|()| Share::new(Arc::clone(&budget)));
        assert!(one.reserve(300) && other.reserve(200));
        assert!(!large.reserve(900));
        assert!(one.is_wanted() && !large.is_wanted());
        // Nobody gets anything of what it waits for.
        assert!(!other.reserve(10));
        one.give(300);
        assert!(!other.reserve(10) && !large.reserve(900));
        other.give(150);
        assert!(!other.reserve(10), "50 bytes are left beside what the large one waits for");
        assert!(large.reserve(900));
        assert!(!one.is_wanted());
        assert!(one.reserve(20));
    }

    #[test]
    fn who_gives_up_waiting_holds_nobody_up() {
        let budget = Arc::new(Budget::new(1_000));
        let [mut one, mut large] = [(); 2].map(|()| Share::new(Arc::clone(&budget)));
        assert!(one.reserve(100));
        assert!(!large.reserve(950));
        assert!(!one.reserve(10));
        drop(large);
        assert!(one.reserve(10));
    }
}
