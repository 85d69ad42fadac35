//! A session as one end sees it: two lanes, and the link that carries them for now.
//!
//! Items wait here while there is no link, and while the link has no room; on a new link they go on where the other end
//! says that it was. The interactive lane goes first, and bulk leaves half of the link's room to it.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use peerage_machine::{Class, Effect, Instant, LinkId, LinkInfo, Message as _};

use crate::convert::encode_item;
use crate::event::Out;
use crate::fast::{Paper, one_of_len};
use crate::lane::{Lane, LaneFault, Until};
use crate::packet::{Ack, Body, Item, Lanes, Packet};

/// Acknowledgements of so many items go with the next item.
const ACK_ITEMS: u64 = 64;
/// Of so many, by themselves.
const ACK_ITEMS_ALONE: u64 = 256;
/// Or so many bytes.
const ACK_BYTES: usize = 64 << 10;
/// Or this long. The other end keeps what was not acknowledged, and nobody waits for it.
const ACK_AFTER: Duration = Duration::from_millis(250);
/// Of what somebody may wait for: that one-way calls are done, and that newer offers may follow.
const ACK_SOON: Duration = Duration::from_millis(25);

/// Small items that wait leave in one packet of about so many bytes, and while the link has some to send wait until there are
/// as many: what is done for each message, by the link and at both ends, is done once for all of them.
const TOGETHER: usize = 4 << 10;
/// Longer items leave by themselves: copying them would cost more than a message does.
const LONGEST_TOGETHER: usize = 1 << 10;

/// While it keeps so few items a session needs no room for packets that follow.
const FEW: usize = 4;

/// An acknowledgement leaves beside items while no more waits in front of them: by itself it overtakes what waits.
const ACK_BESIDE: u64 = 16 << 10;

/// The link that carries a session now.
#[derive(Clone, Copy, Debug)]
struct Road {
    link: LinkId,
    /// Bytes in the link's queue.
    queued: u64,
    /// It was given something of the interactive lane, and none of that has left since.
    is_busy: bool,
    /// Bytes that it takes.
    limit: u64,
    /// The other end does not know yet that the session goes on here. Classes of a link overtake each other, so that
    /// an item might come before the word that it belongs to a session.
    waits: bool,
}

impl Road {
    /// Whether the link takes so many bytes, and leaves `spare`. What is longer than its queue may stand in it alone.
    fn takes(&self, bytes: usize, spare: u64) -> bool {
        let with_it = self.queued.saturating_add(bytes as u64).saturating_add(spare);
        self.queued == 0 || with_it <= self.limit
    }

    fn send(&mut self, bytes: Bytes, class: Class, out: &mut Out) {
        let size = bytes.len() as u64;
        self.queued = self.queued.saturating_add(size);
        self.is_busy |= class == Class::Interactive;
        out.push(Effect::SendOne { to: self.link, message: Packet::encoded(bytes), class });
    }
}

/// The items of both directions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Session {
    main: Lane<Bytes>,
    bulk: Lane<Bytes>,
    paper: Paper,
    road: Option<Road>,
    ack_at: Option<Instant>,
    /// Whether an acknowledgement has waited long enough.
    ack_now: bool,
}

impl Session {
    /// A session that a broker has from its journal; see [`Lane::from_journal`].
    pub(crate) fn from_journal(acknowledged: u64, theirs: Lanes) -> Self {
        Self {
            main: Lane::from_journal(acknowledged, theirs.arrived),
            bulk: Lane::from_journal(theirs.bulk_sent, theirs.bulk_arrived),
            ..Self::default()
        }
    }

    fn lane_mut(&mut self, bulk: bool) -> &mut Lane<Bytes> {
        if bulk { &mut self.bulk } else { &mut self.main }
    }

    /// Takes an item; gives its number.
    pub(crate) fn push(&mut self, bulk: bool, item: &Item, until: Until) -> u64 {
        let lane = if bulk { &mut self.bulk } else { &mut self.main };
        let bytes = encode_item(&mut self.paper, lane.next_seq(), bulk, item);
        let size = bytes.len();
        lane.push(bytes, size, until)
    }

    /// Items and bytes that are kept for sending, or for sending again.
    pub(crate) fn kept(&self) -> (usize, usize) {
        let ((items, bytes), (bulk_items, bulk_bytes)) = (self.main.kept(), self.bulk.kept());
        (items + bulk_items, bytes + bulk_bytes)
    }

    /// What this end has, for the other to go on.
    pub(crate) fn lanes(&self) -> Lanes {
        Lanes {
            arrived: self.main.arrived(),
            bulk_arrived: self.bulk.arrived(),
            sent: self.main.sent(),
            bulk_sent: self.bulk.sent(),
        }
    }

    /// The link that carries it.
    pub(crate) fn link(&self) -> Option<LinkId> {
        self.road.map(|road| road.link)
    }

    /// Whether the item may have reached the other end.
    pub(crate) fn was_handed(&self, seq: u64) -> bool {
        self.main.was_handed(seq)
    }

    /// The highest number up to which the other end has said that all is done, calls with an answer excepted.
    pub(crate) fn known_done(&self) -> u64 {
        self.main.known_done()
    }

    /// Whether a call of the other end of that number has come.
    pub(crate) fn has_arrived(&self, seq: u64) -> bool {
        seq <= self.main.arrived()
    }

    /// Whether the other end can have as much as it says on a new link.
    pub(crate) fn can_resume(&self, theirs: Lanes) -> Result<(), LaneFault> {
        self.main.can_resume(theirs.arrived)?;
        self.bulk.can_resume(theirs.bulk_arrived)
    }

    /// What must be so, whatever has happened.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.main.check().map_err(|wrong| format!("interactive lane: {wrong}"))?;
        self.bulk.check().map_err(|wrong| format!("bulk lane: {wrong}"))
    }

    /// All of the other end's interactive items up to there are finished.
    pub(crate) fn done(&self) -> u64 {
        self.main.done()
    }

    /// The same, if those were finished, too.
    pub(crate) fn done_with(&self, finished: &BTreeSet<u64>) -> u64 {
        self.main.done_with(finished)
    }

    /// A link carries it from now on; the other end says what it has.
    pub(crate) fn carried_by(
        &mut self,
        link: LinkId,
        info: &LinkInfo,
        theirs: Lanes,
    ) -> Result<(), LaneFault> {
        self.main.resume(theirs.arrived)?;
        self.bulk.resume(theirs.bulk_arrived)?;
        self.take_road(link, info);
        Ok(())
    }

    /// As [`Session::carried_by`], by a link to a broker that has the session from its journal: what is not finished there
    /// is sent again, and bulk data comes to nothing.
    pub(crate) fn carried_anew(
        &mut self,
        link: LinkId,
        info: &LinkInfo,
        acknowledged: u64,
    ) -> Result<(), LaneFault> {
        self.main.resume_from_journal(acknowledged)?;
        self.bulk.abandon();
        self.take_road(link, info);
        Ok(())
    }

    /// As [`Session::carried_anew`], by another link to the same start of the broker: what it had not finished is sent again,
    /// for it may not have come so far.
    pub(crate) fn carried_again(
        &mut self,
        link: LinkId,
        info: &LinkInfo,
        acknowledged: u64,
        theirs: Lanes,
    ) -> Result<(), LaneFault> {
        self.main.resume_from_journal(acknowledged)?;
        self.bulk.resume(theirs.bulk_arrived)?;
        self.take_road(link, info);
        Ok(())
    }

    fn take_road(&mut self, link: LinkId, info: &LinkInfo) {
        self.road = Some(Road { link, queued: 0, is_busy: false, limit: info.credit, waits: false });
        // What was told on the last link may have been lost with it.
        self.ack_now = true;
    }

    /// Numbers up to those may be missing, of an end that sends again what was not finished.
    pub(crate) fn allow_gaps(&mut self, sent: Lanes) {
        self.main.allow_gaps_until(sent.sent);
        self.bulk.allow_gaps_until(sent.bulk_sent);
    }

    /// Nothing leaves on the present link before the other end has said something.
    pub(crate) fn wait_for_word(&mut self) {
        if let Some(road) = &mut self.road {
            road.waits = true;
        }
    }

    fn heard(&mut self) {
        if let Some(road) = &mut self.road {
            road.waits = false;
        }
    }

    /// No link carries it.
    pub(crate) fn adrift(&mut self) {
        self.road = None;
        (self.ack_at, self.ack_now) = (None, false);
    }

    /// The link has room for so many bytes more.
    pub(crate) fn room(&mut self, class: Class, bytes: u64) {
        if let Some(road) = &mut self.road {
            road.queued = road.queued.saturating_sub(bytes);
            road.is_busy &= class != Class::Interactive;
        }
    }

    /// Whether it keeps no item.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.kept().0 == 0
    }

    /// Whether something waits for the link.
    pub(crate) fn has_unsent(&self) -> bool {
        self.main.has_unsent() || self.bulk.has_unsent()
    }

    /// Whether what is pushed now would leave at once: what is small does well to wait for more while it would not.
    pub(crate) fn is_idle(&self) -> bool {
        self.road.is_some_and(|road| road.queued == 0 && !road.waits) && !self.main.has_unsent()
    }

    /// An item has come; whether it is new. One that is not `finishes` is done after [`Session::finished`].
    pub(crate) fn arrives(
        &mut self,
        now: Instant,
        seq: u64,
        bulk: bool,
        size: usize,
        finishes: bool,
    ) -> Result<bool, LaneFault> {
        self.heard();
        let is_new = self.lane_mut(bulk).arrives(seq, size, finishes)?;
        self.weigh_ack(now);
        Ok(is_new)
    }

    /// What an item asked for is done.
    pub(crate) fn finished(&mut self, now: Instant, seq: u64) {
        self.main.finished(seq);
        self.weigh_ack(now);
        self.hurry(now);
    }

    /// Nothing that the other end has asked for is to be done any more.
    pub(crate) fn finish_all(&mut self) {
        self.main.finish_all();
    }

    /// Somebody may wait for an acknowledgement.
    pub(crate) fn hurry(&mut self, now: Instant) {
        self.ack_at = self.ack_at.map(|at| at.min(now + ACK_SOON));
    }

    fn weigh_ack(&mut self, now: Instant) {
        let ((items, bytes), (bulk_items, bulk_bytes)) = (self.main.untold(), self.bulk.untold());
        if items + bulk_items >= ACK_ITEMS_ALONE || bytes + bulk_bytes >= ACK_BYTES {
            self.ack_now = true;
        } else if items + bulk_items > 0 && self.ack_at.is_none() && self.road.is_some() {
            self.ack_at = Some(now + ACK_AFTER);
        }
    }

    /// The other end has items of both lanes, and says what is done.
    pub(crate) fn on_ack(&mut self, ack: Ack) -> Result<(), LaneFault> {
        self.heard();
        self.main.acknowledged(ack.up_to)?;
        self.main.done_there(ack.done)?;
        self.bulk.acknowledged(ack.bulk_up_to)?;
        if self.kept().0 <= FEW && !self.has_unsent() {
            // They may be kept for long, such as calls that wait for their answers.
            self.paper.clear();
        }
        Ok(())
    }

    /// Gives its room back, if it keeps no item and has acknowledged all that came; whether it does. While there is something to
    /// acknowledge, more is likely to come, and an answer to go.
    pub(crate) fn rest(&mut self) -> bool {
        let rests = self.is_at_rest() && self.untold() == 0;
        if rests {
            self.paper.clear();
            self.main.rest();
            self.bulk.rest();
        }
        rests
    }

    /// Items that the other end keeps only because it was not told.
    fn untold(&self) -> u64 {
        self.main.untold().0 + self.bulk.untold().0
    }

    /// The other end has answered a call.
    pub(crate) fn answered(&mut self, seq: u64) {
        self.main.answered(seq);
    }

    /// When an acknowledgement has waited long enough.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.ack_at
    }

    /// The deadline may have come.
    pub(crate) fn on_timer(&mut self, now: Instant) {
        if self.ack_at.is_some_and(|at| at <= now) {
            self.ack_at = None;
            self.ack_now = true;
            // So little has come that it took so long.
            self.paper.clear();
        }
    }

    /// Sends what the link has room for.
    pub(crate) fn pump(&mut self, out: &mut Out) {
        let untold = self.untold();
        let Some(road) = self.road.as_mut().filter(|road| !road.waits) else { return };
        let may_send = !road.is_busy || self.main.unsent_bytes() >= TOGETHER;
        let has_company = (may_send && self.main.has_unsent()) || self.bulk.has_unsent();
        if !has_company && !self.ack_now {
            return;
        }
        let mut ack = None;
        if std::mem::take(&mut self.ack_now) || (has_company && untold >= ACK_ITEMS) {
            self.ack_at = None;
            let ((up_to, done), (bulk_up_to, _)) = (self.main.tell(), self.bulk.tell());
            ack = Some(Packet::from(Body::Ack(Ack { up_to, bulk_up_to, done })));
        }
        pump_main(&mut self.main, &mut self.paper, road, &mut ack, out);
        if let Some(ack) = ack {
            out.control(road.link, ack);
        }
        let spare = road.limit / 2;
        self.bulk.hand(|item, size| {
            let takes = road.takes(size, spare);
            if takes {
                road.send(item.clone(), Class::Bulk, out);
            }
            takes
        });
    }
}

/// Sends what waits in the interactive lane; small items together, and with them an acknowledgement.
fn pump_main(
    lane: &mut Lane<Bytes>,
    paper: &mut Paper,
    road: &mut Road,
    ack: &mut Option<Packet>,
    out: &mut Out,
) {
    while lane.has_unsent() && (!road.is_busy || lane.unsent_bytes() >= TOGETHER) {
        // No more than finds room beside others in the link's queue.
        let most = TOGETHER.min(usize::try_from(road.limit / 4).unwrap_or(TOGETHER));
        let (mut count, mut bytes) = lane.next_small(LONGEST_TOGETHER, most, one_of_len);
        if let Some(ack) = ack.as_ref().filter(|_| count > 0 && road.queued < ACK_BESIDE) {
            (count, bytes) = (count + 1, bytes + one_of_len(ack.encoded_len()));
        } else if let Some(ack) = ack.take() {
            // Whoever goes on with a session says how far it is before anything else.
            out.control(road.link, ack);
        }
        if count < 2 {
            let mut first = None;
            lane.hand(|item, size| {
                let takes = first.is_none() && road.takes(size, 0);
                if takes {
                    first = Some(item.clone());
                }
                takes
            });
            let Some(first) = first else { return };
            road.send(first, Class::Interactive, out);
            continue;
        }
        if !road.takes(bytes, 0) {
            return;
        }
        let mut several = paper.several(bytes);
        if let Some(ack) = ack.take() {
            several.put(&ack.into_bytes());
            count -= 1;
        }
        lane.hand(|item, _| {
            let is_one = count > 0;
            if is_one {
                several.put(item);
                count -= 1;
            }
            is_one
        });
        road.send(several.done(), Class::Interactive, out);
    }
}

#[cfg(test)]
mod tests;
