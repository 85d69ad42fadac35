//! Who is served next, and the records that what waits leaves in.

use std::collections::VecDeque;

use bytes::BytesMut;
use peerage_machine::Class;
use peerage_wire::frame::{self, DataHeader};
use peerage_wire::limits::{MAX_FRAGMENT, MAX_PLAINTEXT};
use peerage_wire::proto::link::v1::control::Kind;

use super::{Outbound, class_index, is_counted};
use crate::FRAGMENT_COST;

/// Less than this of a longer message is not worth a fragment of its own.
const LEAST_FRAGMENT: usize = 1024;
/// Bytes that one channel sends before the next has its turn.
const QUANTUM: usize = MAX_FRAGMENT;
/// Interactive turns for each bulk turn when both wait: bulk gets a fifth, and never starves.
const INTERACTIVE_TURNS: u32 = 4;

enum Served {
    /// There is more to send and the record is full.
    RecordFull,
    /// Go on with whoever is next.
    Next,
}

impl Outbound {
    /// Appends sealed records to `out` until it holds `budget` bytes or nothing more can go.
    ///
    /// # Errors
    /// The sealer's, which ends the link.
    pub(crate) fn transmit(
        &mut self,
        out: &mut BytesMut,
        budget: usize,
    ) -> Result<(), peerage_identity::SealError> {
        if !self.clear.is_empty() {
            // It is of no more use after the handshake.
            out.extend_from_slice(&std::mem::take(&mut self.clear));
        }
        let Some(mut sealer) = self.sealer.take() else { return Ok(()) };
        let mut result = Ok(());
        while out.len() < budget && result.is_ok() {
            let start = out.len();
            out.extend_from_slice(&[0, 0]);
            self.fill(out, start + 2 + MAX_PLAINTEXT);
            if out.len() == start + 2 {
                out.truncate(start);
                break;
            }
            self.records += 1;
            result = sealer.seal(out, start);
            if result.is_err() {
                // What is not sealed must not leave.
                out.truncate(start);
            }
        }
        self.sealer = Some(sealer);
        result
    }

    fn fill(&mut self, out: &mut BytesMut, end: usize) {
        // Serving a channel can leave a control behind it.
        while self.put_controls(out, end)
            && let Some(class) = self.next_class()
        {
            match self.serve(class, out, end) {
                Served::RecordFull => return,
                Served::Next => {}
            }
        }
    }

    /// All controls that wait; false when the record has no room for them, or the peer takes no more for now.
    fn put_controls(&mut self, out: &mut BytesMut, end: usize) -> bool {
        while let Some(kind) = self.controls.front() {
            if out.len() + frame::control_frame_len(kind) > end
                || (is_counted(kind) && !self.control_pace.take())
            {
                return false;
            }
            frame::put_control(out, kind);
            match kind {
                Kind::Pong(_) => self.pongs = self.pongs.saturating_sub(1),
                Kind::Opened(_) | Kind::Closed(_) => self.answers = self.answers.saturating_sub(1),
                _ => {}
            }
            self.controls.pop_front();
        }
        // A quiet link keeps no room for what it seldom says.
        self.controls = VecDeque::new();
        true
    }

    fn waits(&self, class: Class) -> bool {
        let index = class_index(class);
        let Some(line) = self.lines.get(index).filter(|line| !line.is_empty()) else { return false };
        self.message_pace.has() || line.iter().any(|channel| self.has_begun(*channel, index))
    }

    /// Whether the channel is in the middle of a message, which no rate holds up.
    pub(super) fn has_begun(&self, channel: u32, class: usize) -> bool {
        let queue = self.lanes.get(channel).and_then(|lane| lane.queues.get(class));
        queue.is_some_and(|queue| queue.offset > 0)
    }

    fn next_class(&mut self) -> Option<Class> {
        if self.waits(Class::Control) {
            return Some(Class::Control);
        }
        match (self.waits(Class::Interactive), self.waits(Class::Bulk)) {
            (false, false) => None,
            (false, true) => Some(Class::Bulk),
            (true, false) => Some(Class::Interactive),
            (true, true) => {
                self.interactive_turns += 1;
                if self.interactive_turns > INTERACTIVE_TURNS {
                    self.interactive_turns = 0;
                    Some(Class::Bulk)
                } else {
                    Some(Class::Interactive)
                }
            }
        }
    }

    /// One turn of the channel at the head of a class's line.
    fn serve(&mut self, class: Class, out: &mut BytesMut, end: usize) -> Served {
        let index = class_index(class);
        if !self.message_pace.has()
            && let Some(line) = self.lines.get(index)
            && let Some(place) = line.iter().position(|channel| self.has_begun(*channel, index))
            && let Some(line) = self.lines.get_mut(index)
        {
            line.rotate_left(place);
        }
        let Some(line) = self.lines.get_mut(index) else { return Served::Next };
        let Some(channel) = line.front().copied() else { return Served::Next };
        let Some(lane) = self.lanes.get_mut(channel) else {
            line.pop_front();
            return Served::Next;
        };
        let Some(queue) = lane.queues.get_mut(index) else { return Served::Next };
        let begun = out.len();
        while let Some(message) = queue.messages.front() {
            if out.len() - begun >= QUANTUM {
                // Its turn is over; the next channel of the class comes before its rest.
                line.rotate_left(1);
                return Served::Next;
            }
            if queue.offset == 0 && !self.message_pace.has() {
                line.rotate_left(1);
                return Served::Next;
            }
            let rest = message.len() - queue.offset;
            let mut piece = rest.min(MAX_FRAGMENT);
            if class != Class::Control {
                let allowed =
                    usize::try_from(queue.credit.saturating_sub(FRAGMENT_COST)).unwrap_or(usize::MAX);
                if queue.credit < FRAGMENT_COST || allowed < piece.min(LEAST_FRAGMENT) {
                    // Out of credit: it lines up again when the peer allows more.
                    queue.lined_up = false;
                    line.pop_front();
                    return Served::Next;
                }
                piece = piece.min(allowed);
            }
            let header = |piece: usize| DataHeader {
                channel,
                class: index as u32,
                total: if queue.offset == 0 && piece < message.len() { message.len() as u64 } else { 0 },
            };
            let overhead = frame::data_frame_len(header(piece), piece) - piece;
            let space = end - out.len();
            if space < overhead + piece.min(LEAST_FRAGMENT) {
                return Served::RecordFull;
            }
            // Shrinking a piece can make it the first of several, whose header says the total: 11 bytes at most.
            if space < overhead + piece {
                piece = space - overhead - 11.min(space - overhead);
                if piece < rest.min(LEAST_FRAGMENT).saturating_sub(11) {
                    return Served::RecordFull;
                }
            }
            let Some(payload) = message.get(queue.offset..queue.offset + piece) else { return Served::Next };
            if queue.offset == 0 {
                self.message_pace.take();
            }
            frame::put_data(out, header(piece), payload);
            if class != Class::Control {
                queue.credit -= FRAGMENT_COST + piece as u64;
            }
            queue.offset += piece;
            queue.bytes -= piece as u64;
            queue.gone += piece as u64;
            if queue.offset == message.len() {
                queue.offset = 0;
                queue.messages.pop_front();
                self.messages += 1;
            }
        }
        queue.lined_up = false;
        queue.give_room_back();
        line.pop_front();
        if lane.last_word.is_some() && lane.is_empty() {
            self.say_last_word(channel);
            self.finished.push_back(channel);
        }
        Served::Next
    }
}
