//! Windows that have grown and are idle: others may want what they have.
//!
//! While less than half of the endpoint's budget for windows is left, the peer is asked to return the credit of each
//! window that it does not use, down to what it did use of late or the first window. An honest one returns it at once, or
//! has used it by then; and what arrives on such a window is not renewed. One that does neither keeps memory from others,
//! which ends its link.

use std::time::Duration;

use peerage_machine::Instant;

use super::{Inbound, Lane};
use crate::window::LEAST_IDLE;

/// How long the peer may take to return what it was asked for, while others want it: twice as long as a link may be silent.
const RETURN_WITHIN: Duration = Duration::from_secs(30);

/// What a peer keeps from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// Room for a message of so many bytes, which comes too slowly.
    Room { total: u64 },
    /// So many bytes of credit that it was asked to return.
    Credit { bytes: u64 },
}

impl std::fmt::Display for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Room { total } => write!(f, "a message of {total} bytes comes too slowly"),
            Self::Credit { bytes } => {
                write!(f, "{bytes} bytes of credit are not used and were not returned in {RETURN_WITHIN:?}")
            }
        }
    }
}

/// The peer has been asked to return credit that it does not use.
#[derive(Debug)]
pub(super) struct Asked {
    since: Instant,
    /// So much it has neither used nor returned since.
    bytes: u64,
}

impl Lane {
    /// The peer has used or returned so much. An honest one that is asked had some under way, and returns the rest, all
    /// that it has if that is less: so both together come to what it was asked for, whatever the window does meanwhile.
    pub(super) fn answered(&mut self, bytes: u64) {
        self.asked.take_if(|asked| {
            asked.bytes = asked.bytes.saturating_sub(bytes);
            asked.bytes == 0
        });
    }
}

impl Inbound {
    /// Once a second, while windows have grown or want to.
    pub(super) fn look_for_idle(&mut self) -> Result<(), Kept> {
        let Self { gauge, windows, channels, due, reclaims, .. } = self;
        let mut is_all_idle = true;
        for (channel, receiving) in channels.iter_mut() {
            for (class, lane) in (0..).zip(&mut receiving.classes) {
                let is_idle = lane.window.is_idle(gauge);
                is_all_idle &= is_idle;
                if !windows.is_scarce() {
                    continue;
                }
                if let Some(&Asked { since, bytes }) = lane.asked.as_deref() {
                    if gauge.now.since(since) >= RETURN_WITHIN {
                        return Err(Kept::Credit { bytes });
                    }
                } else if lane.window.grown(gauge) > 0 && is_idle {
                    let bytes = lane.window.shrink(gauge, windows);
                    if bytes > 0 {
                        lane.asked = Some(Box::new(Asked { since: gauge.now, bytes }));
                        reclaims.push_back((channel, class, bytes));
                    }
                    lane.line_up(due, gauge, channel, class);
                }
            }
        }
        if is_all_idle {
            windows.rest();
        }
        self.look_at = self.windows.is_used().then(|| self.gauge.now + LEAST_IDLE);
        Ok(())
    }

    /// What the peer is to be asked to return: a channel, a class, and how much.
    pub(crate) fn next_reclaim(&mut self) -> Option<(u32, u32, u64)> {
        self.reclaims.pop_front()
    }

    /// The peer returns credit.
    ///
    /// # Errors
    /// It has not got as much.
    pub(crate) fn returned(&mut self, channel: u32, class: u32, bytes: u64) -> Result<(), String> {
        let Some(receiving) = self.channels.get_mut(channel) else { return Ok(()) };
        let Some(lane) = receiving.classes.get_mut(class as usize) else { return Ok(()) };
        let had = lane.window.available();
        if !lane.window.returned(bytes, &self.gauge, &mut self.windows) {
            return Err(format!("returned {bytes} bytes of credit and had {had}"));
        }
        lane.answered(bytes);
        lane.line_up(&mut self.due, &self.gauge, channel, class);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
