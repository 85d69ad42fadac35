//! Saying something: what becomes of the application's own messages.

use std::sync::Arc;

use bytes::Bytes;
use peerage_machine::Instant;

use super::broadcast::{Broadcast, Came, DOMAIN, Timer};
use super::convert::Draft;
use super::error::BroadcastError;
use super::event::MeshEvent;
use super::links::Cx;
use super::message::{MessageId, Receipt};
use super::packet::MAX_PARTS;

/// What a payload takes beside its body: the signature, the heads of five fields, the hops.
const PAYLOAD_OVERHEAD: u64 = 96;

impl Broadcast {
    pub(crate) fn publish(&mut self, parts: Vec<Bytes>, cx: &mut Cx<'_>) -> Result<Receipt, BroadcastError> {
        if parts.is_empty() || parts.len() > MAX_PARTS {
            return Err(BroadcastError::Parts { found: parts.len(), limit: MAX_PARTS });
        }
        if self.neighbours.is_empty() && !self.config.publish_alone {
            return Err(BroadcastError::NoNeighbours);
        }
        let id = MessageId { origin: self.me, epoch: self.epoch, seq: self.next_seq };
        let config = Arc::clone(&self.config);
        let draft = Draft { network: &config.name, id, sent: cx.now.wall, parts, target: None };
        let body = draft.len() as u64;
        let taken =
            self.neighbours.keys().filter_map(|link| cx.links.get(*link)).map(|link| link.max_message).min();
        let limit = taken.map_or(config.max_message, |taken| {
            config.max_message.min(taken.saturating_sub(PAYLOAD_OVERHEAD))
        });
        if body > limit {
            return Err(BroadcastError::TooLarge { size: body, limit });
        }
        let size = body + PAYLOAD_OVERHEAD;
        self.check_room(size, cx).inspect_err(|_| self.blocked = Some(size))?;
        let message = draft.sign(|bytes| self.identity.sign(DOMAIN, bytes));
        self.next_seq += 1;
        self.stats.published += 1;
        self.promised = None;
        let neighbours = self.accept(message, 0, None, Came::default(), cx);
        self.neighbours.values_mut().for_each(|neighbour| neighbour.own_turn = false);
        Ok(Receipt { id, neighbours })
    }

    /// Whether every neighbour that an own message would be pushed to has room, but for those that are stalled.
    fn check_room(&mut self, size: u64, cx: &mut Cx<'_>) -> Result<(), BroadcastError> {
        let now = cx.now.mono;
        let stall_after = self.config.stall_after;
        let mut full = Ok(());
        for link in self.eager(self.me).keys() {
            let Some(neighbour) = self.neighbours.get(&link) else { continue };
            let (waits, own_turn) = (!neighbour.owed.is_empty() && !neighbour.own_turn, neighbour.own_turn);
            let Some(it) = cx.links.get_mut(link) else { continue };
            if it.has_room_for_own(size, own_turn) && !waits {
                continue;
            }
            let since = *it.starved_since.get_or_insert(now);
            if since + stall_after > now {
                let wake = since + stall_after;
                if self.timers.at(&Timer::Stall).is_none_or(|at| wake < at) {
                    self.timers.arm(Timer::Stall, wake);
                }
                full =
                    Err(BroadcastError::Full { neighbour: it.peer, size, credit: it.room_for_own(own_turn) });
            }
        }
        full
    }

    /// Bytes that relaying is to leave free for what the application was refused before.
    /// Whoever has not come back after [`MeshConfig::stall_after`] may have given it up.
    pub(crate) fn kept_free(&self, now: Instant) -> u64 {
        let promised = self.promised.filter(|(_, at)| now.since(*at) < self.config.stall_after);
        self.blocked.or(promised.map(|(size, _)| size)).unwrap_or(0)
    }

    /// Says so when a message that was refused as full would be taken now.
    pub(crate) fn offer_room(&mut self, cx: &mut Cx<'_>) {
        if let Some(size) = self.blocked
            && (self.neighbours.is_empty() || self.check_room(size, cx).is_ok())
        {
            // Until it is said, relaying leaves room for it.
            self.promised = self.blocked.take().map(|size| (size, cx.now.mono));
            cx.out.emit(MeshEvent::Room);
        }
    }
}
