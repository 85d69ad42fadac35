//! What arrives: credit that the peer has, and messages that are here in part.
//!
//! # Why nothing deadlocks
//!
//! Each class of a channel has credit of its own, and one message under way. A large message takes room for all of it
//! out of the reassembly budget, or waits in line for it; meanwhile the credit of its fragments is withheld. Nobody
//! overtakes the head of the line, so it gets its room once what holds the budget is done. What holds the budget goes
//! on, because nothing else withholds the credit of its class. A message that is not large fits into the credit.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use peerage_wire::limits::MAX_FRAGMENT;

use crate::{FRAGMENT_COST, MAX_CONTROL_MESSAGE};

/// The longest message that is not large, by the window. With the quarter of a window that may be owed it fits into the
/// credit, also where a sender cuts it into fragments so short that each costs twice its payload.
const fn largest_small(window: u64) -> u64 {
    window / 4
}

const CONTROL: u32 = 1;
const CLASSES: usize = 3;

/// Where the room for a message in parts comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// The credit of its channel and class, which is withheld until it is taken: it is not large, or it waits for the budget.
    Credit,
    /// The link's reassembly budget.
    Budget,
    /// Control messages are small and there is one at a time for each channel.
    Own,
}

/// A message of several fragments that is not whole yet.
#[derive(Debug)]
struct Partial {
    bytes: Vec<u8>,
    total: usize,
    room: Room,
    withheld: u64,
}

impl Partial {
    /// Grows in steps: with room by doubling, without it a fragment at a time, never beyond the whole.
    fn extend(&mut self, payload: &[u8]) {
        let needed = self.bytes.len() + payload.len();
        if needed > self.bytes.capacity() {
            let step = match self.room {
                Room::Credit => needed.next_multiple_of(MAX_FRAGMENT),
                Room::Budget | Room::Own => needed.saturating_mul(2),
            };
            self.bytes.reserve_exact(step.min(self.total) - self.bytes.len());
        }
        self.bytes.extend_from_slice(payload);
    }
}

#[derive(Debug, Default)]
struct Receiving {
    /// Tells this opening of the channel from earlier ones under the same number.
    epoch: u32,
    classes: [Lane; CLASSES],
}

/// One class of a channel.
#[derive(Debug, Default)]
struct Lane {
    /// What the peer may still send.
    available: u64,
    /// What it will be allowed with the next `Credit`.
    owed: u64,
    /// Whether the lane is in the list of those that are due a `Credit`.
    due: bool,
    partial: Option<Partial>,
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
    window: u64,
    max_message: u64,
    budget: u64,
    epochs: u32,
    channels: BTreeMap<u32, Receiving>,
    /// Large messages that wait for the budget, the first that came first.
    waiting: VecDeque<(u32, u32)>,
    /// Channels and classes that are due a `Credit`.
    due: VecDeque<(u32, u32)>,
    /// Bytes of whole messages that nobody took yet: with room of their own, and without.
    untaken: [u64; 2],
    pub(crate) messages: u64,
}

impl Inbound {
    pub(crate) fn new(window: u64, max_message: u64, reassembly: u64) -> Self {
        Self {
            window,
            max_message,
            budget: reassembly.max(max_message),
            epochs: 0,
            channels: BTreeMap::new(),
            waiting: VecDeque::new(),
            due: VecDeque::new(),
            untaken: [0; 2],
            messages: 0,
        }
    }

    pub(crate) fn open(&mut self, channel: u32) {
        self.close(channel);
        self.epochs = self.epochs.wrapping_add(1);
        let classes = [(); CLASSES].map(|()| Lane { available: self.window, ..Lane::default() });
        self.channels.insert(channel, Receiving { epoch: self.epochs, classes });
    }

    /// Forgets a channel, and what of it came in part; how much credit of each class the peer is left without.
    pub(crate) fn close(&mut self, channel: u32) -> [u64; CLASSES] {
        let Some(closed) = self.channels.remove(&channel) else { return [0; CLASSES] };
        let spent = closed.classes.each_ref().map(|lane| self.window - lane.available);
        self.waiting.retain(|(waiting, _)| *waiting != channel);
        self.due.retain(|(due, _)| *due != channel);
        for partial in closed.classes.into_iter().filter_map(|lane| lane.partial) {
            self.free(partial.room, partial.total as u64);
        }
        self.admit_waiting();
        spent
    }

    /// Forgets everything that is not a whole message.
    pub(crate) fn close_all(&mut self) {
        self.channels.clear();
        self.waiting.clear();
        self.due.clear();
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
        let Some(receiving) = self.channels.get_mut(&channel) else { return Ok(None) };
        let epoch = receiving.epoch;
        let Some(lane) = receiving.classes.get_mut(class as usize) else {
            return Err(format!("class {class} does not exist"));
        };
        let cost = cost_of(class, payload);
        let Some(left) = lane.available.checked_sub(cost) else {
            return Err(format!("sent {cost} bytes with {} bytes of credit left", lane.available));
        };
        if lane.partial.is_some() {
            lane.available = left;
            return self.go_on(channel, class, total, payload, cost);
        }
        let limit =
            if class == CONTROL { MAX_CONTROL_MESSAGE.min(self.max_message) } else { self.max_message };
        let size = total.max(payload.len() as u64);
        if size > limit {
            return Err(format!("a message of {size} bytes, the limit is {limit}"));
        }
        lane.available = left;
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
        let mut partial = Partial { bytes: Vec::new(), total, room, withheld: cost };
        partial.extend(payload);
        if let Some(lane) = self.lane(channel, class) {
            lane.partial = Some(partial);
        }
        if room == Room::Credit && total as u64 > largest_small(self.window) {
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
        let Some(receiving) = self.channels.get_mut(&channel) else { return Ok(None) };
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
        partial.extend(payload);
        let withheld = partial.room == Room::Credit;
        if withheld {
            partial.withheld += cost;
        }
        let done = if so_far == partial.total { lane.partial.take() } else { None };
        if !withheld {
            self.owe(channel, class, cost);
        }
        let Some(done) = done else { return Ok(None) };
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
        if self.channels.get(&channel).is_some_and(|receiving| receiving.epoch == receipt.epoch) {
            self.owe(channel, receipt.class, receipt.cost);
        }
        self.free(receipt.room, length);
        self.admit_waiting();
    }

    /// Bytes of whole messages that nobody took yet and that have no room of their own.
    pub(crate) fn untaken(&self) -> u64 {
        let [_, without] = self.untaken;
        without
    }

    /// Bytes held: messages in parts, with what their buffers have to spare, and whole ones that nobody took yet.
    pub(crate) fn held_bytes(&self) -> u64 {
        let lanes = self.channels.values().flat_map(|receiving| &receiving.classes);
        let partials = lanes.filter_map(|lane| lane.partial.as_ref());
        let partials: u64 = partials.map(|partial| partial.bytes.capacity() as u64).sum();
        partials + self.untaken.iter().sum::<u64>()
    }

    /// A channel, a class, and how much more its peer should be told that it may send. Once a quarter of the window is
    /// owed, so that credit costs one frame in a few.
    pub(crate) fn next_credit(&mut self) -> Option<(u32, u32, u64)> {
        let (channel, class) = self.due.pop_front()?;
        let lane = self.lane(channel, class)?;
        lane.due = false;
        let owed = std::mem::take(&mut lane.owed);
        lane.available += owed;
        Some((channel, class, owed))
    }

    fn lane(&mut self, channel: u32, class: u32) -> Option<&mut Lane> {
        self.channels.get_mut(&channel)?.classes.get_mut(class as usize)
    }

    fn owe(&mut self, channel: u32, class: u32, cost: u64) {
        let least = (self.window / 4).max(1);
        let Some(lane) = self.lane(channel, class) else { return };
        lane.owed += cost;
        if !lane.due && lane.owed >= least {
            lane.due = true;
            self.due.push_back((channel, class));
        }
    }

    fn free(&mut self, room: Room, bytes: u64) {
        if room == Room::Budget {
            self.budget += bytes;
        }
    }

    fn admit_waiting(&mut self) {
        while let Some((channel, class)) = self.waiting.front().copied() {
            let budget = self.budget;
            if let Some(partial) = self.lane(channel, class).and_then(|lane| lane.partial.as_mut()) {
                let Some(left) = budget.checked_sub(partial.total as u64) else { return };
                partial.room = Room::Budget;
                let withheld = std::mem::take(&mut partial.withheld);
                self.budget = left;
                self.owe(channel, class, withheld);
            }
            self.waiting.pop_front();
        }
    }
}
