//! Channels that were closed here and still send what waited.

use peerage_machine::Instant;
use peerage_wire::hello::Instance;

use crate::seldom::Seldom;

/// One of them.
#[derive(Debug)]
pub(crate) struct Closing {
    /// This side's number.
    pub(crate) local: u32,
    /// The peer's, for whom the channel is still up.
    pub(crate) remote: u32,
    pub(crate) instance: Instance,
    /// When what still waits is given up.
    pub(crate) ends: Instant,
}

/// All of them, those that end first in front. There are few: an instance that is opened again waits for its
/// predecessor.
#[derive(Debug, Default)]
pub(crate) struct ClosingChannels(Seldom<Closing>);

impl ClosingChannels {
    /// One more, which ends no earlier than the others.
    pub(crate) fn add(&mut self, closing: Closing) {
        self.0.push_back(closing);
    }

    /// Takes one out, by this side's number; whether it was there.
    pub(crate) fn remove(&mut self, local: u32) -> bool {
        let was_there = self.0.iter().any(|closing| closing.local == local);
        self.0.retain(|closing| closing.local != local);
        was_there
    }

    /// Takes out one whose time is over: this side's number.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<u32> {
        self.deadline().filter(|ends| *ends <= now)?;
        self.0.pop_front().map(|closing| closing.local)
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.0.front().map(|closing| closing.ends)
    }

    pub(crate) fn has_remote(&self, remote: u32) -> bool {
        self.0.iter().any(|closing| closing.remote == remote)
    }

    /// Whether the peer takes an equal instance of this side's for up.
    pub(crate) fn has_instance(&self, instance: &Instance) -> bool {
        self.0.iter().any(|closing| closing.instance == *instance)
    }
}
