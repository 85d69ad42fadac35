//! What arrives: credit that the peer has, and messages that are here in part.
//!
//! # Why nothing deadlocks
//!
//! Each class of a channel has credit of its own, never less than the least window, and one message under way. A large
//! message takes room for all of it out of what the endpoint has for messages in parts, or waits in line for it;
//! meanwhile the credit of its fragments is withheld. Nobody on the link overtakes the head of its line, and nobody on
//! the endpoint the link that was refused first, so each gets its room once what holds it is done. What holds it goes
//! on, because nothing else withholds the credit of its class; where the peer does not go on while others wait, its
//! link ends. A message that is not large fits into the credit.

mod partial;
mod reclaim;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use peerage_machine::{Few, Instant};

pub(crate) use partial::Room;
use partial::{LENT_FOR, Partial};
use reclaim::Asked;
pub(crate) use reclaim::Kept;

use crate::budget::{Memory, Share};
use crate::seldom::Seldom;
use crate::window::{Gauge, LEAST_IDLE, Window};
use crate::{FRAGMENT_COST, LinkConfig, MAX_CONTROL_MESSAGE};

/// The longest message that is not large, by the least window. With what may be owed it fits into the credit, also where a sender cuts it
/// into fragments so short that each costs twice its payload: that is a quarter of the window, or up to half of it while as
/// much is left.
const fn largest_small(least_window: u64) -> u64 {
    least_window / 4
}

/// How often a link asks again for room that others have.
const ASK_AGAIN: Duration = Duration::from_millis(20);

const CONTROL: u32 = 1;
const CLASSES: usize = 3;

#[derive(Debug)]
struct Receiving {
    /// Tells this opening of the channel from earlier ones under the same number.
    epoch: u32,
    classes: [Lane; CLASSES],
}

/// One class of a channel.
#[derive(Debug)]
struct Lane {
    window: Window,
    /// Whether the lane is among those that are due a `Credit`.
    is_due: bool,
    /// And among those for which that is urgent.
    is_urgent: bool,
    partial: Option<Box<Partial>>,
    asked: Option<Box<Asked>>,
}

impl Lane {
    /// It may have become due a `Credit`, or that may have become urgent.
    fn line_up(&mut self, due: &mut Due, gauge: &Gauge, channel: u32, class: u32) {
        if !self.window.is_due() {
            return;
        }
        if !std::mem::replace(&mut self.is_due, true) {
            due.at_leisure.push_back((channel, class));
        }
        if !self.is_urgent && self.window.is_urgent(gauge) {
            self.is_urgent = true;
            due.at_once.push_back((channel, class));
        }
    }
}

/// Channels and classes that are due a `Credit`.
#[derive(Debug, Default)]
struct Due {
    at_once: VecDeque<(u32, u32)>,
    /// All, and some that were: those got theirs at once.
    at_leisure: VecDeque<(u32, u32)>,
}

/// What taking a message gives back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Receipt {
    epoch: u32,
    class: u32,
    room: Room,
    cost: u64,
}

/// A whole message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Whole {
    pub(crate) message: Bytes,
    pub(crate) receipt: Receipt,
}

/// Whether messages of the class need credit.
pub(crate) const fn needs_credit(class: u32) -> bool {
    class != CONTROL && (class as usize) < CLASSES
}

/// What a fragment takes of the credit of its class.
pub(crate) const fn cost_of(class: u32, payload: &[u8]) -> u64 {
    if needs_credit(class) { FRAGMENT_COST + payload.len() as u64 } else { 0 }
}

/// The receiving side of all channels of a link, by this side's numbers.
#[derive(Debug)]
pub(crate) struct Inbound {
    gauge: Gauge,
    max_message: u64,
    /// The most of this link's messages that have room at once.
    reassembly: u64,
    windows: Share,
    room: Share,
    epochs: u32,
    channels: Few<u32, Box<Receiving>>,
    /// Large messages that wait for the budget, the first that came first.
    waiting: Seldom<(u32, u32)>,
    due: Due,
    /// Bytes of whole messages that nobody took yet: with room of their own, and without.
    untaken: [u64; 2],
    /// Bytes of buffers for messages in parts.
    in_parts: u64,
    /// When to ask again for room that others have.
    ask_again: Option<Instant>,
    /// When to look whether a message has had room for too long.
    lent_until: Option<Instant>,
    /// When to look for windows that have grown and are idle.
    look_at: Option<Instant>,
    /// What the peer is to be asked to return: channels, classes and bytes.
    reclaims: Seldom<(u32, u32, u64)>,
    pub(crate) messages: u64,
}

impl Inbound {
    /// For a link whose configuration and memory say that `max_message` bytes find room.
    pub(crate) fn new(config: &LinkConfig, max_message: u64, memory: &Memory, now: Instant) -> Self {
        let least = config.window.max(LinkConfig::MIN_WINDOW);
        Self {
            gauge: Gauge::new(now, least, config.max_window),
            max_message,
            reassembly: config.reassembly.max(max_message),
            windows: Share::new(memory.windows.clone()),
            room: Share::new(memory.messages.clone()),
            epochs: 0,
            channels: Few::default(),
            waiting: Seldom::default(),
            due: Due::default(),
            untaken: [0; 2],
            in_parts: 0,
            ask_again: None,
            lent_until: None,
            look_at: None,
            reclaims: Seldom::default(),
            messages: 0,
        }
    }

    /// What time it is, until the next call.
    pub(crate) fn at(&mut self, now: Instant) {
        self.gauge.now = now;
    }

    /// The least round-trip time that was ever seen, and what it is now.
    pub(crate) fn measured(&mut self, least: Duration, rtt: Duration) {
        self.gauge.measured(least, rtt);
    }

    pub(crate) fn open(&mut self, channel: u32) {
        self.close(channel);
        self.epochs = self.epochs.wrapping_add(1);
        let classes = [(); CLASSES].map(|()| Lane {
            window: Window::new(&self.gauge),
            is_due: false,
            is_urgent: false,
            partial: None,
            asked: None,
        });
        self.channels.insert(channel, Box::new(Receiving { epoch: self.epochs, classes }));
    }

    /// Forgets a channel, and what of it came in part; how much credit of each class the peer is left without.
    pub(crate) fn close(&mut self, channel: u32) -> [u64; CLASSES] {
        let Some(closed) = self.channels.remove(channel) else { return [0; CLASSES] };
        let spent = closed.classes.each_ref().map(|lane| lane.window.spent());
        self.waiting.retain(|(waiting, _)| *waiting != channel);
        for due in [&mut self.due.at_once, &mut self.due.at_leisure] {
            due.retain(|(due, _)| *due != channel);
        }
        self.reclaims.retain(|(asked, ..)| *asked != channel);
        for lane in closed.classes {
            self.windows.give(lane.window.grown(&self.gauge));
            if let Some(partial) = lane.partial {
                self.in_parts -= partial.bytes.capacity() as u64;
                self.free(partial.room, partial.total as u64);
            }
        }
        self.admit_waiting();
        spent
    }

    /// Forgets everything that is not a whole message.
    pub(crate) fn close_all(&mut self) {
        self.waiting.clear();
        for channel in self.channels.keys().collect::<Vec<u32>>() {
            self.close(channel);
        }
    }

    /// One fragment; the message when it is the last.
    ///
    /// # Errors
    /// What the peer did that no honest peer does.
    pub(crate) fn fragment(
        &mut self,
        channel: u32,
        class: u32,
        total: u64,
        payload: &[u8],
    ) -> Result<Option<Whole>, String> {
        let Some(receiving) = self.channels.get_mut(channel) else { return Ok(None) };
        let epoch = receiving.epoch;
        let Some(lane) = receiving.classes.get_mut(class as usize) else {
            return Err(format!("class {class} does not exist"));
        };
        let cost = cost_of(class, payload);
        if !lane.window.spend(cost) {
            return Err(format!("sent {cost} bytes with {} bytes of credit left", lane.window.available()));
        }
        lane.answered(cost);
        // Less is left than before.
        lane.line_up(&mut self.due, &self.gauge, channel, class);
        if lane.partial.is_some() {
            return self.go_on(channel, class, total, payload, cost);
        }
        let limit =
            if class == CONTROL { MAX_CONTROL_MESSAGE.min(self.max_message) } else { self.max_message };
        let size = total.max(payload.len() as u64);
        if size > limit {
            return Err(format!("a message of {size} bytes, the limit is {limit}"));
        }
        if total != 0 {
            return self.begin(channel, class, total, payload, cost).map(|()| None);
        }
        let receipt = Receipt { epoch, class, room: Room::Credit, cost };
        Ok(Some(self.whole(Bytes::copy_from_slice(payload), receipt)))
    }

    fn begin(
        &mut self,
        channel: u32,
        class: u32,
        total: u64,
        payload: &[u8],
        cost: u64,
    ) -> Result<(), String> {
        if total <= payload.len() as u64 || payload.is_empty() {
            return Err(format!("a first fragment of {} bytes of a message of {total}", payload.len()));
        }
        let total = usize::try_from(total).map_err(|_| format!("a message of {total} bytes"))?;
        let room = if class == CONTROL { Room::Own } else { Room::Credit };
        let mut partial = Partial { bytes: Vec::new(), total, room, withheld: cost, lent: None };
        self.in_parts += partial.extend(payload);
        if let Some(lane) = self.lane(channel, class) {
            lane.partial = Some(Box::new(partial));
        }
        if room == Room::Credit && total as u64 > largest_small(self.gauge.least) {
            self.waiting.push_back((channel, class));
            self.admit_waiting();
        }
        Ok(())
    }

    fn go_on(
        &mut self,
        channel: u32,
        class: u32,
        total: u64,
        payload: &[u8],
        cost: u64,
    ) -> Result<Option<Whole>, String> {
        let Some(receiving) = self.channels.get_mut(channel) else { return Ok(None) };
        let epoch = receiving.epoch;
        let Some(lane) = receiving.classes.get_mut(class as usize) else { return Ok(None) };
        let Some(partial) = &mut lane.partial else { return Ok(None) };
        if total != 0 {
            return Err("began a message inside another of the same channel and class".to_owned());
        }
        if payload.is_empty() {
            return Err("an empty fragment".to_owned());
        }
        let so_far = partial.bytes.len() + payload.len();
        if so_far > partial.total {
            return Err(format!("fragments of {so_far} bytes for a message of {}", partial.total));
        }
        self.in_parts += partial.extend(payload);
        let withheld = partial.room == Room::Credit;
        if withheld {
            partial.withheld += cost;
        }
        let done = if so_far == partial.total { lane.partial.take() } else { None };
        if !withheld {
            self.owe(channel, class, cost);
        }
        let Some(done) = done else { return Ok(None) };
        self.in_parts -= done.bytes.capacity() as u64;
        if withheld {
            self.waiting.retain(|waiting| *waiting != (channel, class));
            self.admit_waiting();
        }
        // Its room is free again when it is taken; so is the credit that was not given back on the way.
        let receipt = Receipt { epoch, class, room: done.room, cost: done.withheld };
        Ok(Some(self.whole(Bytes::from(done.bytes), receipt)))
    }

    fn whole(&mut self, message: Bytes, receipt: Receipt) -> Whole {
        self.messages += 1;
        *self.untaken_of(receipt.room) += message.len() as u64;
        Whole { message, receipt }
    }

    fn untaken_of(&mut self, room: Room) -> &mut u64 {
        let [with_room, without] = &mut self.untaken;
        match room {
            Room::Budget => with_room,
            Room::Credit | Room::Own => without,
        }
    }

    /// A message was taken: its credit goes back to the peer, its room to the next.
    pub(crate) fn taken(&mut self, channel: u32, receipt: Receipt, length: usize) {
        let length = length as u64;
        let untaken = self.untaken_of(receipt.room);
        *untaken = untaken.saturating_sub(length);
        if self.channels.get(channel).is_some_and(|receiving| receiving.epoch == receipt.epoch) {
            self.owe(channel, receipt.class, receipt.cost);
        }
        self.free(receipt.room, length);
        if !self.waiting.is_empty() {
            self.admit_waiting();
        }
    }

    /// Bytes of whole messages that nobody took yet and that have no room of their own.
    pub(crate) fn untaken(&self) -> u64 {
        let [_, without] = self.untaken;
        without
    }

    /// Bytes held: messages in parts, with what their buffers have to spare, and whole ones that nobody took yet.
    pub(crate) fn held_bytes(&self) -> u64 {
        self.in_parts + self.untaken.iter().sum::<u64>()
    }

    /// What the link has of the endpoint's memory: for windows, and for messages.
    pub(crate) fn borrowed(&self) -> (u64, u64) {
        (self.windows.held(), self.room.held())
    }

    /// A channel, a class, and how much more its peer should be told that it may send: with something else that leaves, or
    /// because it is urgent.
    pub(crate) fn next_credit(&mut self, has_company: bool) -> Option<(u32, u32, u64)> {
        loop {
            let leisure = || has_company.then(|| self.due.at_leisure.pop_front()).flatten();
            let (channel, class) = self.due.at_once.pop_front().or_else(leisure)?;
            let Some(lane) = self.lane(channel, class).filter(|lane| lane.is_due) else { continue };
            (lane.is_due, lane.is_urgent) = (false, false);
            // It may have been kept since.
            let owed = lane.window.take_owed();
            if owed > 0 {
                return Some((channel, class, owed));
            }
        }
    }

    /// When [`Inbound::on_timer`] is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        [self.ask_again, self.lent_until, self.look_at].into_iter().flatten().min()
    }

    /// Asks again for room, and looks for windows that are idle.
    ///
    /// # Errors
    /// What the peer keeps from others for so long that they must not wait any longer.
    pub(crate) fn on_timer(&mut self) -> Result<(), Kept> {
        let now = self.gauge.now;
        if self.ask_again.is_some_and(|at| at <= now) {
            self.admit_waiting();
        }
        if self.lent_until.is_some_and(|at| at <= now) {
            let lanes = self.channels.values().flat_map(|receiving| &receiving.classes);
            let lent = lanes.filter_map(|lane| lane.partial.as_deref());
            let lent = lent.filter_map(|partial| Some((partial.lent_until()?, partial.total as u64)));
            let first = lent.min();
            if let Some((until, total)) = first
                && until <= now
                && self.room.is_wanted()
            {
                return Err(Kept::Room { total });
            }
            // One that is late is looked at again soon: somebody may come to wait for it.
            self.lent_until = first.map(|(until, _)| until.max(now + ASK_AGAIN));
        }
        if self.look_at.is_some_and(|at| at <= now) {
            self.look_for_idle()?;
        }
        Ok(())
    }

    fn lane(&mut self, channel: u32, class: u32) -> Option<&mut Lane> {
        self.channels.get_mut(channel)?.classes.get_mut(class as usize)
    }

    fn owe(&mut self, channel: u32, class: u32, cost: u64) {
        let Some(receiving) = self.channels.get_mut(channel) else { return };
        let Some(lane) = receiving.classes.get_mut(class as usize) else { return };
        if cost > 0 {
            lane.window.give_back(cost, &self.gauge, &mut self.windows);
            lane.line_up(&mut self.due, &self.gauge, channel, class);
        }
        if self.look_at.is_none() && self.windows.is_used() {
            self.look_at = Some(self.gauge.now + LEAST_IDLE);
        }
    }

    fn free(&mut self, room: Room, bytes: u64) {
        if room == Room::Budget {
            self.room.give(bytes);
        }
    }

    fn admit_waiting(&mut self) {
        self.ask_again = None;
        while let Some((channel, class)) = self.waiting.front().copied() {
            let (now, reassembly) = (self.gauge.now, self.reassembly);
            let Some(receiving) = self.channels.get_mut(channel) else { return };
            if let Some(partial) =
                receiving.classes.get_mut(class as usize).and_then(|lane| lane.partial.as_deref_mut())
            {
                let total = partial.total as u64;
                if self.room.held() + total > reassembly {
                    // It is this link's own messages that must be taken first.
                    return self.room.stop_waiting();
                }
                if !self.room.reserve(total) {
                    self.ask_again = Some(now + ASK_AGAIN);
                    return;
                }
                partial.room = Room::Budget;
                partial.lent = Some(now);
                let until = now + LENT_FOR;
                self.lent_until = Some(self.lent_until.map_or(until, |other| other.min(until)));
                let withheld = std::mem::take(&mut partial.withheld);
                self.owe(channel, class, withheld);
            }
            self.waiting.pop_front();
        }
        self.room.stop_waiting();
    }
}

#[cfg(test)]
mod tests;
