//! What waits to be sent: queues by channel and class, the peer's credit, and the records they leave in.

mod serve;

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use peerage_identity::Sealer;
use peerage_machine::{Class, Few, Instant, Why};
use peerage_wire::limits::LEAST_CREDIT;
use peerage_wire::proto::link::v1 as proto;
use peerage_wire::proto::link::v1::control::Kind;

use crate::MAX_CONTROL_MESSAGE;
use crate::inbound::needs_credit;
use crate::pace::Pace;
use crate::seldom::Seldom;

/// Pongs owed at once; a peer that pings faster than it reads gets the newest answers only.
const MAX_PONGS: usize = 8;
/// `Opened` and `Closed` that wait at once. A peer that causes more does not read them.
const MAX_ANSWERS: usize = 1024;

/// Messages for which a class of a quiet channel keeps room, 32 bytes each.
const KEPT_MESSAGES: usize = 4;

pub(crate) const CLASSES: [Class; 3] = [Class::Interactive, Class::Control, Class::Bulk];

pub(crate) const fn class_index(class: Class) -> usize {
    match class {
        Class::Interactive => 0,
        Class::Control => 1,
        Class::Bulk => 2,
    }
}

#[derive(Default)]
struct Queue {
    messages: VecDeque<Bytes>,
    /// How much of the front message is already on its way.
    offset: usize,
    bytes: u64,
    /// Whether the channel stands in the class's line.
    lined_up: bool,
    /// How many messages waited at once since the queue was last empty.
    most: u32,
    /// Bytes gone since the host was last told.
    gone: u64,
    /// What the peer allows. Control messages need none.
    credit: u64,
}

impl Queue {
    /// It is empty. Room that was not needed since it last was goes in halves, so that a flood leaves none behind and a busy
    /// channel has most of it.
    fn give_room_back(&mut self) {
        let needed = (std::mem::take(&mut self.most) as usize).max(KEPT_MESSAGES);
        if self.messages.capacity() >= 2 * needed {
            self.messages.shrink_to(self.messages.capacity() / 2);
        }
    }
}

struct Lane {
    queues: [Queue; 3],
    /// What the peer is told once all has gone out, when the channel is closed here.
    last_word: Option<Box<proto::Closed>>,
}

impl Lane {
    fn is_empty(&self) -> bool {
        self.queues.iter().all(|queue| queue.messages.is_empty())
    }
}

/// Whether a control counts among those of which the receiver takes so many a second. What ends or begins a link does
/// not, nor does credit for data that came: there is as much of it as of data.
pub(crate) const fn is_counted(kind: &Kind) -> bool {
    match kind {
        Kind::Accept(_) | Kind::Refuse(_) | Kind::Goodbye(_) => false,
        Kind::Credit(credit) => credit.bytes < LEAST_CREDIT,
        _ => true,
    }
}

/// What a link still has to say.
pub(crate) struct Outbound {
    sealer: Option<Sealer>,
    /// Preface and handshake messages, which go as they are.
    clear: BytesMut,
    controls: VecDeque<Kind>,
    pongs: usize,
    /// `Opened` and `Closed` among the controls.
    answers: usize,
    lanes: Few<u32, Box<Lane>>,
    lines: [VecDeque<u32>; 3],
    interactive_turns: u32,
    control_queue: u64,
    /// Channels that have said their last word since somebody asked.
    finished: Seldom<u32>,
    /// What the peer takes a second. What is more waits.
    message_pace: Pace,
    control_pace: Pace,
    pub(crate) messages: u64,
    /// Messages dropped with their channel.
    pub(crate) dropped: u64,
    pub(crate) records: u64,
}

impl Outbound {
    pub(crate) fn new(control_queue: u64) -> Self {
        Self {
            sealer: None,
            clear: BytesMut::new(),
            controls: VecDeque::new(),
            pongs: 0,
            answers: 0,
            lanes: Few::default(),
            lines: Default::default(),
            interactive_turns: 0,
            control_queue,
            finished: Seldom::default(),
            message_pace: Pace::free(),
            control_pace: Pace::free(),
            messages: 0,
            dropped: 0,
            records: 0,
        }
    }

    pub(crate) fn clear(&mut self) -> &mut BytesMut {
        &mut self.clear
    }

    /// Sends no more messages and controls than this from now on.
    pub(crate) fn pace(&mut self, messages: Pace, controls: Pace) {
        (self.message_pace, self.control_pace) = (messages, controls);
    }

    pub(crate) fn refill(&mut self, now: Instant) {
        self.message_pace.refill(now);
        self.control_pace.refill(now);
    }

    /// When what waits for the peer's rates may go on; `None` when nothing does.
    pub(crate) fn resumes_at(&self) -> Option<Instant> {
        if let Some(kind) = self.controls.front() {
            return if is_counted(kind) { self.control_pace.ready_at() } else { None };
        }
        let mut waiting = self
            .lines
            .iter()
            .enumerate()
            .flat_map(|(index, line)| line.iter().map(move |channel| (*channel, index)));
        let at = self.message_pace.ready_at()?;
        let first = waiting.next()?;
        // The rest of a message waits for no rate.
        let has_begun = |(channel, index)| self.has_begun(channel, index);
        (!has_begun(first) && !waiting.any(has_begun)).then_some(at)
    }

    pub(crate) fn seal_with(&mut self, sealer: Sealer) {
        self.sealer = Some(sealer);
    }

    /// Queues a control. What says the same as one that still waits is merged with it, so that a peer which does not
    /// read makes this queue no longer.
    pub(crate) fn control(&mut self, kind: Kind) {
        match &kind {
            Kind::Pong(_) if self.pongs == MAX_PONGS => {
                if let Some(oldest) = self.controls.iter().position(|kind| matches!(kind, Kind::Pong(_))) {
                    self.controls.remove(oldest);
                }
            }
            Kind::Pong(_) => self.pongs += 1,
            // The first ping is the one whose answer is timed.
            Kind::Ping(_) if self.controls.iter().any(|kind| matches!(kind, Kind::Ping(_))) => return,
            Kind::Credit(_) | Kind::Reclaim(_) | Kind::Returned(_) if self.merge(&kind) => return,
            Kind::Interest(_) => self.controls.retain(|kind| !matches!(kind, Kind::Interest(_))),
            Kind::Opened(_) | Kind::Closed(_) => self.answers += 1,
            _ => {}
        }
        self.controls.push_back(kind);
    }

    /// Adds credit to what waits for the same class of a channel; whether anything does. Of two wishes to have some back the
    /// later one counts.
    fn merge(&mut self, more: &Kind) -> bool {
        for waiting in &mut self.controls {
            match (waiting, more) {
                (Kind::Credit(it), Kind::Credit(more))
                    if (it.channel, it.class) == (more.channel, more.class) =>
                {
                    it.bytes = it.bytes.saturating_add(more.bytes);
                }
                (Kind::Returned(it), Kind::Returned(more))
                    if (it.channel, it.class) == (more.channel, more.class) =>
                {
                    it.bytes = it.bytes.saturating_add(more.bytes);
                }
                (Kind::Reclaim(it), Kind::Reclaim(more))
                    if (it.channel, it.class) == (more.channel, more.class) =>
                {
                    it.bytes = more.bytes;
                }
                _ => continue,
            }
            return true;
        }
        false
    }

    /// Queues what a frame of the peer's is answered with.
    ///
    /// # Errors
    /// The peer goes on asking and does not read the answers.
    pub(crate) fn answer(&mut self, kind: Kind) -> Result<(), String> {
        if self.answers >= MAX_ANSWERS {
            return Err(format!("asked for channels and left {MAX_ANSWERS} answers unread"));
        }
        self.control(kind);
        Ok(())
    }

    /// The peer is gone: nothing is left to say.
    pub(crate) fn hush(&mut self) {
        self.controls.clear();
        self.pongs = 0;
        self.answers = 0;
    }

    /// Opens a channel with the peer's window for the credit of each class.
    pub(crate) fn open(&mut self, channel: u32, window: u64) {
        let queues = [(); 3].map(|()| Queue { credit: window, ..Queue::default() });
        self.lanes.insert(channel, Box::new(Lane { queues, last_word: None }));
    }

    /// Forgets a channel, and drops what waits on it.
    pub(crate) fn close(&mut self, channel: u32) {
        for line in &mut self.lines {
            line.retain(|waiting| *waiting != channel);
        }
        let Some(lane) = self.lanes.remove(channel) else { return };
        self.dropped += lane.queues.iter().map(|queue| queue.messages.len() as u64).sum::<u64>();
    }

    /// Closes a channel once what waits on it has gone out; whether anything does.
    pub(crate) fn close_after(&mut self, channel: u32, last_word: proto::Closed) -> bool {
        match self.lanes.get_mut(channel) {
            Some(lane) if !lane.is_empty() => {
                lane.last_word = Some(Box::new(last_word));
                true
            }
            _ => {
                self.close(channel);
                self.control(Kind::Closed(last_word));
                false
            }
        }
    }

    /// Says the last word of a channel, and drops what still waits before it.
    pub(crate) fn say_last_word(&mut self, channel: u32) {
        let last_word = self.lanes.get_mut(channel).and_then(|lane| lane.last_word.take());
        self.close(channel);
        if let Some(last_word) = last_word {
            self.control(Kind::Closed(*last_word));
        }
    }

    /// Channels that have said their last word since the last call.
    pub(crate) fn take_finished(&mut self) -> Seldom<u32> {
        std::mem::take(&mut self.finished)
    }

    /// More credit from the peer. For a channel that has just been closed here it is in order, and of no use.
    ///
    /// # Errors
    /// What the peer did that no honest peer does.
    pub(crate) fn credit(&mut self, channel: u32, class: u32, bytes: u64) -> Result<(), String> {
        let index = class as usize;
        if !needs_credit(class) {
            return Err(format!("credit for class {class}, which takes none"));
        }
        let Some(lane) = self.lanes.get_mut(channel) else { return Ok(()) };
        let (Some(queue), Some(line)) = (lane.queues.get_mut(index), self.lines.get_mut(index)) else {
            return Ok(());
        };
        queue.credit =
            queue.credit.checked_add(bytes).ok_or_else(|| format!("credit of {bytes} bytes overflows"))?;
        if !queue.lined_up && !queue.messages.is_empty() {
            queue.lined_up = true;
            line.push_back(channel);
        }
        Ok(())
    }

    /// The peer wants credit back that is not used: it gets what there is. Channels as for [`Outbound::credit`].
    ///
    /// # Errors
    /// What the peer did that no honest peer does.
    pub(crate) fn reclaim(&mut self, channel: u32, class: u32, bytes: u64) -> Result<(), String> {
        if !needs_credit(class) {
            return Err(format!("wanted credit of class {class} back, which takes none"));
        }
        let lane = self.lanes.get_mut(channel);
        let Some(queue) = lane.and_then(|lane| lane.queues.get_mut(class as usize)) else { return Ok(()) };
        let bytes = bytes.min(queue.credit);
        queue.credit -= bytes;
        if bytes > 0 {
            self.control(Kind::Returned(proto::Returned { channel, class, bytes }));
        }
        Ok(())
    }

    pub(crate) fn send(&mut self, channel: u32, class: Class, message: Bytes) -> Result<(), Why> {
        let lane = self.lanes.get_mut(channel).filter(|lane| lane.last_word.is_none()).ok_or(Why::NotUp)?;
        let index = class_index(class);
        let (Some(queue), Some(line)) = (lane.queues.get_mut(index), self.lines.get_mut(index)) else {
            return Err(Why::NotUp);
        };
        let size = message.len() as u64;
        if class == Class::Control {
            if size > MAX_CONTROL_MESSAGE {
                return Err(Why::TooLarge { size, limit: MAX_CONTROL_MESSAGE });
            }
            if queue.bytes + size > self.control_queue {
                return Err(Why::Full { queued: queue.bytes, limit: self.control_queue });
            }
        }
        queue.bytes += size;
        queue.messages.push_back(message);
        queue.most = queue.most.max(u32::try_from(queue.messages.len()).unwrap_or(u32::MAX));
        if !queue.lined_up {
            queue.lined_up = true;
            line.push_back(channel);
        }
        Ok(())
    }

    /// Messages and bytes that wait.
    pub(crate) fn queued(&self) -> (u64, u64) {
        self.lanes.values().flat_map(|lane| &lane.queues).fold((0, 0), |(messages, bytes), queue| {
            (messages + queue.messages.len() as u64, bytes + queue.bytes)
        })
    }

    /// Whether anything can go out now.
    pub(crate) fn has_work(&self) -> bool {
        !self.clear.is_empty()
            || (self.sealer.is_some()
                && (!self.controls.is_empty() || self.lines.iter().any(|line| !line.is_empty()))
                && self.resumes_at().is_none())
    }

    /// The link ends: drops all messages that wait, and what is left to say are controls. Those are not counted here.
    pub(crate) fn cut(&mut self) {
        self.lines.iter_mut().for_each(VecDeque::clear);
        self.lanes.clear();
    }

    /// Channels that sent something since the last call, with the class and the bytes; not those that are closed.
    pub(crate) fn take_room(&mut self, mut tell: impl FnMut(u32, Class, u64)) {
        for (channel, lane) in self.lanes.iter_mut().filter(|(_, lane)| lane.last_word.is_none()) {
            for (class, queue) in CLASSES.iter().zip(&mut lane.queues) {
                if queue.gone > 0 {
                    tell(channel, *class, std::mem::take(&mut queue.gone));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use peerage_identity::records_under;
    use peerage_wire::Suite;

    use super::*;

    #[test]
    fn a_flood_leaves_no_room_behind_and_a_busy_channel_keeps_its_own() {
        let mut outbound = Outbound::new(1 << 20);
        outbound.seal_with(records_under(Suite::ALL[0], &[7; 32]).unwrap().0);
        outbound.open(0, 1 << 20);
        let mut send = |count: usize| {
            for _ in 0..count {
                outbound.send(0, Class::Interactive, Bytes::from_static(b"word")).unwrap();
            }
            outbound.transmit(&mut BytesMut::new(), usize::MAX).unwrap();
            assert_eq!(outbound.queued(), (0, 0));
            outbound.lanes.get(0).unwrap().queues[class_index(Class::Interactive)].messages.capacity()
        };
        let flood = send(1_000);
        assert!(flood >= 1_000);
        assert_eq!((send(1_000), send(600)), (flood, flood));
        let quiet: Vec<_> = (0..10).map(|_| send(1)).collect();
        assert!(quiet.is_sorted_by(|a, b| a >= b) && quiet[9] < 2 * KEPT_MESSAGES, "{quiet:?}");
    }
}
