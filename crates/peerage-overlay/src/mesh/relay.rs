//! Passing on: pushes along the tree, notes for announcements, and what neighbours are owed.

use peerage_machine::{LinkId, Message as _};

use super::broadcast::Broadcast;
use super::convert::passed_len;
use super::held::Held;
use super::links::{Cx, Sent};
use super::message::{MessageId, Signed};
use super::missing::Awaited;
use super::neighbour::{News, Owed};
use super::packet::{MAX_HOPS, Packet, Words};
use super::ranges::Range;
use super::spare::{MAX_OFFERED, QUEUED};
use super::tree::{Links, Tree};

impl Broadcast {
    /// Sends the message on: pushed along the tree where there is room, announced elsewhere. What was pulled is old news
    /// to most, and only announced. `awaited` is what was known of it before it came. Gives how many it was pushed to.
    pub(crate) fn relay(
        &mut self,
        message: &Signed,
        hops: u32,
        from: Option<LinkId>,
        pulled: bool,
        awaited: &Awaited,
        cx: &mut Cx<'_>,
    ) -> usize {
        let id = message.id;
        let next_hops = if from.is_some() { hops.saturating_add(1).min(MAX_HOPS) } else { 0 };
        // Nobody has what we say ourselves before we send it.
        let is_large = from.is_some() && self.is_large(message.body().len() as u64);
        let mut eager = if pulled { Links::default() } else { self.eager(id.origin) };
        if is_large {
            self.fed_by_others(id.origin, &awaited.sources);
            eager.retain(|link, ()| !awaited.sources.contains(&link));
        }
        let packet = Packet(Words::Payload { message: message.clone(), hops: next_hops, pulled: false });
        let size = if eager.is_empty() { 0 } else { packet.encoded_len() as u64 };
        let kept_free = self.kept_free(cx.now.mono);
        let most_owed = self.config.owed_ranges;
        let now = cx.now.mono;
        let proved = |tree: &Tree, link| tree.is_proved(link, now);
        let unproved: Vec<LinkId> = match self.trees.peek(&id.origin).filter(|_| is_large) {
            Some(tree) => eager.keys().filter(|link| !proved(tree, *link)).collect(),
            None => Vec::new(),
        };
        let (mut offer, mut spare) = (Vec::new(), Vec::new());
        let (mut push, mut noted, mut dropped) = (Vec::new(), false, 0);
        for (link, neighbour) in &mut self.neighbours {
            if Some(*link) == from {
                continue;
            }
            let Some(it) = cx.links.get(*link) else { continue };
            let is_eager = eager.contains(*link);
            let fits = is_eager && size <= it.max_message;
            let goes = match from {
                None => it.has_room_for_own(size, neighbour.own_turn),
                Some(_) => neighbour.owed.is_empty() && it.has_room_beside(size, kept_free),
            };
            let is_offered = fits && unproved.contains(link) && neighbour.offered.len() < MAX_OFFERED;
            if is_large && !(fits || is_offered) {
                spare.push(*link);
            }
            if is_offered {
                offer.push(*link);
            } else if fits && goes && !(is_large && it.queued() > QUEUED) {
                push.push(*link);
                neighbour.own_turn |= from.is_some();
            } else if fits && is_large && neighbour.owed.len() < most_owed {
                // Until its turn comes, the neighbour may say that it has it.
                neighbour.owed.push_back(Owed {
                    stream: id.stream(),
                    range: Range::one(id.seq),
                    pulled: false,
                    asked: false,
                });
            } else {
                noted = true;
                let news = if is_eager { News::PutOff } else { News::Lazy };
                dropped += u64::from(!neighbour.note(id, next_hops, news));
            }
        }
        if noted {
            // What was asked for comes in crowds, and tells nothing of how much is said.
            self.noted = self.noted.saturating_add(u32::from(!pulled));
            self.arm_flush(cx);
        }
        if dropped > 0 {
            cx.out.count("mesh_announcements_dropped_total", dropped);
        }
        if is_large {
            self.spare_others(&id, next_hops, &offer, spare.into_iter(), awaited.asked, cx);
        }
        if let Some(tree) = self.trees.peek_mut(&id.origin) {
            push.iter().for_each(|link| tree.pushed(*link, now));
        }
        for link in &push {
            self.announce_beside(*link, cx);
        }
        let pushed = push.len();
        self.stats.payloads_sent += pushed as u64;
        cx.links.send(push, packet.0, size, Sent::Broadcast(id), cx.out);
        pushed
    }

    /// Sends what a neighbour is owed, in order, as far as there is room.
    pub(crate) fn serve(&mut self, link: LinkId, cx: &mut Cx<'_>) {
        let kept_free = self.kept_free(cx.now.mono);
        let Some(neighbour) = self.neighbours.get_mut(&link) else { return };
        while let Some(owed) = neighbour.owed.front_mut() {
            let Some(found) = self.window.first_in(owed.stream, owed.range) else {
                neighbour.owed.pop_front();
                continue;
            };
            let (seq, pulled) = (found.held.seq, owed.pulled);
            let hops = if owed.stream.origin == self.me {
                0
            } else {
                found.held.hops().saturating_add(1).min(MAX_HOPS)
            };
            // It is put together when there is room.
            let size = passed_len(found.body_len(), hops, pulled) as u64;
            let Some(it) = cx.links.get(link) else { return };
            let waits = self.config.large_message <= size && it.queued() > QUEUED;
            if !it.has_room_beside(size, kept_free) || waits {
                return;
            }
            if owed.asked
                && neighbour.pulls.is_too_much(size, &self.window, self.config.retain_for, cx.now.mono)
            {
                // Nobody needs as much: what it misses it asks others for.
                neighbour.owed.retain(|owed| !owed.asked);
                cx.out.count("mesh_requests_refused_total", 1);
                continue;
            }
            neighbour.own_turn = true;
            if !pulled && let Some(tree) = self.trees.peek_mut(&owed.stream.origin) {
                tree.pushed(link, cx.now.mono);
            }
            if size <= it.max_message {
                self.stats.payloads_sent += 1;
                let words = Words::Payload { message: found.message(), hops, pulled };
                cx.links.send(vec![link], words, size, Sent::Broadcast(owed.stream.message(seq)), cx.out);
            }
            if seq < owed.range.last {
                owed.range.first = seq + 1;
            } else {
                neighbour.owed.pop_front();
            }
        }
    }

    /// A push was not taken by its link: it is announced instead.
    pub(crate) fn undelivered(&mut self, link: LinkId, id: MessageId, cx: &Cx<'_>) {
        let Some(hops) = self.window.get(&id).map(Held::hops) else { return };
        if let Some(neighbour) = self.neighbours.get_mut(&link) {
            neighbour.note(id, hops.saturating_add(1).min(MAX_HOPS), News::PutOff);
            self.arm_flush(cx);
        }
    }
}
