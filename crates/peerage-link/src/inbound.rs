//! What arrives: credit that the peer has, and messages that are here in part.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};

use crate::{FRAGMENT_COST, MAX_CONTROL_MESSAGE};

const CONTROL: u32 = 1;
const CLASSES: u32 = 3;

/// A message of several fragments that is not whole yet.
#[derive(Debug)]
struct Partial {
    bytes: BytesMut,
    total: usize,
    /// Whether the reassembly budget has room for all of it. Until then its fragments' credit is withheld.
    reserved: bool,
    withheld: u64,
}

#[derive(Debug, Default)]
struct Receiving {
    /// What the peer may still send.
    available: u64,
    /// What it will be allowed with the next `Credit`.
    owed: u64,
    partial: [Option<Partial>; CLASSES as usize],
}

/// A whole message, and the credit that taking it gives back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Whole {
    pub(crate) message: Bytes,
    pub(crate) cost: u64,
}

/// The receiving side of all channels of a link, by this side's numbers.
#[derive(Debug)]
pub(crate) struct Inbound {
    window: u64,
    max_message: u64,
    budget: u64,
    channels: BTreeMap<u32, Receiving>,
    /// Partial messages that wait for the budget, oldest first.
    waiting: VecDeque<(u32, u32)>,
    pub(crate) messages: u64,
}

impl Inbound {
    pub(crate) fn new(window: u64, max_message: u64, reassembly: u64) -> Self {
        Self {
            window,
            max_message,
            budget: reassembly.max(max_message),
            channels: BTreeMap::new(),
            waiting: VecDeque::new(),
            messages: 0,
        }
    }

    pub(crate) fn open(&mut self, channel: u32) {
        self.channels.insert(channel, Receiving { available: self.window, ..Receiving::default() });
    }

    pub(crate) fn close(&mut self, channel: u32) {
        self.waiting.retain(|(waiting, _)| *waiting != channel);
        if let Some(closed) = self.channels.remove(&channel) {
            for partial in closed.partial.into_iter().flatten().filter(|partial| partial.reserved) {
                self.budget += partial.total as u64;
            }
        }
        self.admit_waiting();
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
        let cost = if class == CONTROL { 0 } else { FRAGMENT_COST + payload.len() as u64 };
        let Some(receiving) = self.channels.get_mut(&channel) else { return Ok(None) };
        if class >= CLASSES {
            return Err(format!("class {class} does not exist"));
        }
        let Some(left) = receiving.available.checked_sub(cost) else {
            return Err(format!("sent {cost} bytes with {} bytes of credit left", receiving.available));
        };
        receiving.available = left;
        let limit =
            if class == CONTROL { MAX_CONTROL_MESSAGE.min(self.max_message) } else { self.max_message };
        let Some(slot) = receiving.partial.get_mut(class as usize) else { return Ok(None) };

        let Some(partial) = slot else {
            if total == 0 {
                if payload.len() as u64 > limit {
                    return Err(format!("a message of {} bytes, the limit is {limit}", payload.len()));
                }
                self.messages += 1;
                return Ok(Some(Whole { message: Bytes::copy_from_slice(payload), cost }));
            }
            if total > limit {
                return Err(format!("announced a message of {total} bytes, the limit is {limit}"));
            }
            if total <= payload.len() as u64 || payload.is_empty() {
                return Err(format!("a first fragment of {} bytes of a message of {total}", payload.len()));
            }
            let reserved = class == CONTROL || total <= self.budget;
            if class != CONTROL && reserved {
                self.budget -= total;
                receiving.owed += cost;
            }
            *slot = Some(Partial {
                bytes: BytesMut::from(payload),
                total: usize::try_from(total).map_err(|_| format!("a message of {total} bytes"))?,
                reserved,
                withheld: if reserved { 0 } else { cost },
            });
            if !reserved {
                self.waiting.push_back((channel, class));
            }
            return Ok(None);
        };
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
        partial.bytes.extend_from_slice(payload);
        if partial.reserved {
            receiving.owed += cost;
        } else {
            partial.withheld += cost;
        }
        if so_far < partial.total {
            return Ok(None);
        }
        let Some(done) = slot.take() else { return Ok(None) };
        // Fragments gave their credit back as they came; what was withheld comes back when the message is taken.
        let cost = done.withheld;
        if done.reserved {
            if class != CONTROL {
                self.budget += done.total as u64;
            }
        } else {
            self.waiting.retain(|waiting| *waiting != (channel, class));
        }
        self.admit_waiting();
        self.messages += 1;
        Ok(Some(Whole { message: done.bytes.freeze(), cost }))
    }

    /// A message was taken: its credit goes back to the peer.
    pub(crate) fn taken(&mut self, channel: u32, cost: u64) {
        if let Some(receiving) = self.channels.get_mut(&channel) {
            receiving.owed += cost;
        }
    }

    /// What the peer should be told: once a quarter of the window is owed, so that credit costs one frame in a few.
    pub(crate) fn credit_due(&mut self, channel: u32) -> Option<u64> {
        let quarter = self.window / 4;
        let receiving = self.channels.get_mut(&channel)?;
        if receiving.owed < quarter.max(1) {
            return None;
        }
        let owed = std::mem::take(&mut receiving.owed);
        receiving.available += owed;
        Some(owed)
    }

    fn admit_waiting(&mut self) {
        while let Some((channel, class)) = self.waiting.front().copied() {
            let Some(receiving) = self.channels.get_mut(&channel) else {
                self.waiting.pop_front();
                continue;
            };
            let Some(Some(partial)) = receiving.partial.get_mut(class as usize) else {
                self.waiting.pop_front();
                continue;
            };
            if partial.total as u64 > self.budget {
                return;
            }
            self.budget -= partial.total as u64;
            partial.reserved = true;
            receiving.owed += std::mem::take(&mut partial.withheld);
            self.waiting.pop_front();
        }
    }
}
