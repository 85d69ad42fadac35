//! What comes from the other end.

use bytes::Bytes;
use peerage_machine::Instant;

use super::theirs::fitting;
use super::{Heard, ITEM_COST, InOwner, OutOwner, Talk};
use crate::event::{Event, Out, RunKey, SessionKey, StreamKey};
use crate::flow::{Inflow, Streams};
use crate::lane::Until;
use crate::packet::{Ack, Item, Shape, Stream, kept};
use crate::status::Status;

/// A stream of the wire, as it is known here.
struct Found<'a> {
    is_ours: bool,
    /// The session that the call goes on to, or comes from, and its number there.
    relayed: Option<(SessionKey, u64)>,
    /// Nobody waits for it any more.
    is_abandoned: bool,
    streams: &'a mut Streams,
    /// Where what comes waits, while nobody knows of the call.
    held: Option<&'a mut Vec<(bool, Item)>>,
}

impl Talk {
    /// Something of the other end's has arrived; what it means to whoever owns this.
    pub(crate) fn on_item(
        &mut self,
        now: Instant,
        (seq, bulk): (u64, bool),
        item: Item,
        size: usize,
        out: &mut Out,
    ) -> Result<Heard, String> {
        let is_one_way = matches!(&item, Item::Call(call) if call.shape.has(Shape::ONE_WAY));
        let is_new =
            self.session.arrives(now, seq, bulk, size, !is_one_way).map_err(|fault| fault.to_string())?;
        if !is_new {
            return Ok(match item {
                Item::Call(call) if !is_one_way => Heard::CallAgain(seq, call),
                _ => Heard::Nothing,
            });
        }
        if let Some(call) =
            bulk.then(|| their_call(&item)).flatten().filter(|call| !self.session.has_arrived(*call))
        {
            return self.hold(call, item, size);
        }
        match item {
            Item::Call(call) => Ok(Heard::Call(seq, call)),
            Item::Reply { to, result } => self.on_reply(now, to, result, out),
            Item::Items { stream, count, items } => self.on_items(stream, bulk, count, items, out),
            Item::End { stream, status } => self.on_end(stream, bulk, status, out),
            Item::Credit { stream, bulk, messages, bytes } => {
                self.on_credit(stream, bulk, (messages, bytes), out)
            }
            Item::Cancel { call } => Ok(self.on_cancel(call, out)),
            offers @ Item::Offers(_) => {
                // Newer ones wait until this has arrived.
                self.session.hurry(now);
                Ok(Heard::Other(offers))
            }
            other => Ok(Heard::Other(other)),
        }
    }

    /// Bulk data whose call is still on its way: it has a lane of its own, which may be faster.
    fn hold(&mut self, call: u64, item: Item, size: usize) -> Result<Heard, String> {
        let limits = &self.limits;
        let most = u64::from(limits.streams)
            .saturating_mul(limits.stream_bytes.saturating_add(limits.message_bytes));
        self.early_bytes += size as u64 + ITEM_COST;
        if self.early_bytes > most {
            return Err("bulk data of calls that have not come goes over all credit".to_owned());
        }
        self.early.entry(call).or_default().push_back(item);
        Ok(Heard::Nothing)
    }

    /// Whether there is bulk data that came before its call.
    pub(crate) fn has_early(&self) -> bool {
        !self.early.is_empty()
    }

    /// The next of the bulk data that came before its call, when that has come.
    pub(crate) fn next_early(&mut self, out: &mut Out) -> Option<Result<Heard, String>> {
        let mut first = self.early.first_entry().filter(|entry| self.session.has_arrived(*entry.key()))?;
        let Some(item) = first.get_mut().pop_front() else {
            first.remove();
            if self.early.is_empty() {
                self.early_bytes = 0;
            }
            return self.next_early(out);
        };
        match item {
            Item::Items { stream, count, items } => Some(self.on_items(stream, true, count, items, out)),
            Item::End { stream, status } => Some(self.on_end(stream, true, status, out)),
            _ => None,
        }
    }

    pub(super) fn on_reply(
        &mut self,
        now: Instant,
        to: u64,
        result: Result<Bytes, Box<Status>>,
        out: &mut Out,
    ) -> Result<Heard, String> {
        if !self.session.was_handed(to) {
            return Err(format!("a reply to call {to}, which was never made"));
        }
        let result = fitting(result, &self.limits);
        if let Some((cost, owner)) = self.our_one_ways.remove(&to) {
            self.our_way.remove(&cost);
            // It need not come again, and is done when this has been acknowledged.
            self.session.answered(to);
            self.session.hurry(now);
            self.tell_slots(out);
            return Ok(match (owner, result) {
                (OutOwner::Relayed { from, seq }, result) => Heard::Reply { from, seq, result },
                (_, Err(status)) => {
                    out.emit(Event::OneWayFailed { session: self.key, seq: to, status });
                    Heard::Nothing
                }
                (_, Ok(_)) => Heard::Nothing,
            });
        }
        let Some(call) = self.ours.get_mut(to).filter(|call| !call.is_replied) else {
            out.count("rpc_stray_replies_total", 1);
            return Ok(Heard::Nothing);
        };
        call.is_replied = true;
        let owner = call.owner;
        // It was for the answer.
        if let Some(until) = call.until.take() {
            self.deadlines.remove(&(until, true, to));
        }
        let is_over = result.is_err() || call.streams.as_mut().is_none_or(|streams| !streams.has_bulk_in());
        self.session.answered(to);
        // Whoever still sends on it is told that nobody takes it.
        let blocked: Vec<_> = call.streams.iter_mut().flat_map(|streams| streams.stop_out()).collect();
        for is_bulk in blocked {
            out.emit(Event::Room(StreamKey { session: self.key, call: to, is_ours: true, is_bulk }));
        }
        if is_over {
            self.forget_ours(to);
            self.tell_slots(out);
        }
        Ok(match owner {
            OutOwner::Local(call) => {
                out.answer(call, result.map_err(|status| *status));
                Heard::Nothing
            }
            OutOwner::Abandoned => Heard::Nothing,
            OutOwner::Relayed { from, seq } => Heard::Reply { from, seq, result },
        })
    }

    /// Tells whoever waits for room: for a call, or on a stream that is over.
    pub(crate) fn tell_slots(&mut self, out: &mut Out) {
        self.tell_stopped(out);
        if std::mem::take(&mut self.wants_slots) {
            out.emit(Event::Slots(self.key));
        }
    }

    /// Where a stream of the wire is here: whose call, and its owner.
    fn find(&mut self, stream: Stream) -> Option<Found<'_>> {
        if stream.to_caller {
            let call = self.ours.get_mut(stream.call)?;
            let relayed = match call.owner {
                OutOwner::Relayed { from, seq } => Some((from, seq)),
                OutOwner::Local(_) | OutOwner::Abandoned => None,
            };
            let is_abandoned = call.owner == OutOwner::Abandoned;
            Some(Found {
                is_ours: true,
                relayed,
                is_abandoned,
                streams: call.streams.as_deref_mut()?,
                held: None,
            })
        } else {
            let call = self.theirs.get_mut(stream.call)?;
            let relayed = match call.owner {
                InOwner::Relayed { to, seq } => Some((to, seq)),
                InOwner::Local | InOwner::Waiting => None,
            };
            let is_abandoned = call.is_cancelled && relayed.is_none();
            let held = call.waits.then_some(&mut call.held);
            Some(Found { is_ours: false, relayed, is_abandoned, streams: call.streams.as_deref_mut()?, held })
        }
    }

    pub(super) fn on_items(
        &mut self,
        stream: Stream,
        bulk: bool,
        count: u32,
        items: Bytes,
        out: &mut Out,
    ) -> Result<Heard, String> {
        let session = self.key;
        let Some(Found { is_ours, relayed, is_abandoned, streams, held }) = self.find(stream) else {
            out.count("rpc_late_messages_total", u64::from(count));
            return Ok(Heard::Nothing);
        };
        match streams.inflow(bulk).filter(|flow| flow.is_open()).map(|flow| flow.receive(count, items.len()))
        {
            Some(Ok(())) => {}
            Some(Err(())) => return Err("a stream went over its credit".to_owned()),
            None => {
                out.count("rpc_late_messages_total", u64::from(count));
                return Ok(Heard::Nothing);
            }
        }
        Ok(match relayed {
            Some((to, call)) => {
                let stream = Stream { call, to_caller: stream.to_caller };
                Heard::Pass { to, item: Item::Items { stream, count, items } }
            }
            None if is_abandoned => {
                out.count("rpc_late_messages_total", u64::from(count));
                Heard::Nothing
            }
            None => {
                match held {
                    Some(held) => {
                        let item = Item::Items { stream, count, items: kept(items) };
                        let size = size_of(&item);
                        held.push((bulk, item));
                        self.waiting_bytes += size;
                    }
                    None => {
                        let stream = StreamKey { session, call: stream.call, is_ours, is_bulk: bulk };
                        // It may wait for its reader.
                        out.emit(Event::Data { stream, count, items: kept(items) });
                    }
                }
                Heard::Nothing
            }
        })
    }

    pub(super) fn on_end(
        &mut self,
        stream: Stream,
        bulk: bool,
        status: Option<Box<Status>>,
        out: &mut Out,
    ) -> Result<Heard, String> {
        let session = self.key;
        let Some(Found { is_ours, relayed, is_abandoned, streams, held }) = self.find(stream) else {
            return Ok(Heard::Nothing);
        };
        if !streams.inflow(bulk).is_some_and(Inflow::close) {
            return Ok(Heard::Nothing);
        }
        let heard = match relayed {
            Some((to, call)) => {
                let stream = Stream { call, to_caller: stream.to_caller };
                Heard::Pass { to, item: Item::End { stream, status } }
            }
            None if is_abandoned => Heard::Nothing,
            None => {
                match held {
                    Some(held) => {
                        let item = Item::End { stream, status };
                        let size = size_of(&item);
                        held.push((bulk, item));
                        self.waiting_bytes += size;
                    }
                    None => {
                        let stream = StreamKey { session, call: stream.call, is_ours, is_bulk: bulk };
                        out.emit(Event::StreamEnded { stream, status });
                    }
                }
                Heard::Nothing
            }
        };
        if is_ours && bulk && self.ours.get(stream.call).is_some_and(|call| call.is_replied) {
            self.forget_ours(stream.call);
            self.tell_slots(out);
        }
        Ok(heard)
    }

    pub(super) fn on_credit(
        &mut self,
        stream: Stream,
        bulk: bool,
        (messages, bytes): (u32, u64),
        out: &mut Out,
    ) -> Result<Heard, String> {
        let session = self.key;
        let Some(Found { is_ours, relayed, streams, .. }) = self.find(stream) else {
            return Ok(Heard::Nothing);
        };
        Ok(match relayed {
            Some((to, call)) => {
                let stream = Stream { call, to_caller: stream.to_caller };
                Heard::Pass { to, item: Item::Credit { stream, bulk, messages, bytes } }
            }
            None => {
                if streams.outflow(bulk).is_some_and(|flow| flow.credit(messages, bytes)) {
                    out.emit(Event::Room(StreamKey { session, call: stream.call, is_ours, is_bulk: bulk }));
                }
                Heard::Nothing
            }
        })
    }

    /// What is passed on to this session of a stream: the receiver's credit counts here, and the data does there. Gives
    /// whether there was more credit than a stream can have.
    pub(crate) fn pass(&mut self, bulk: bool, mut item: Item) -> bool {
        let mut is_excess = false;
        if let Item::End { status: Some(status), .. } = &mut item {
            status.fit(&self.limits);
        }
        match &mut item {
            // The receiver lets the sender, who is at this end, send more.
            Item::Credit { stream, bulk, messages, bytes } => {
                let there = Stream { call: stream.call, to_caller: stream.to_caller };
                let is_ours = !there.to_caller;
                let key = StreamKey { session: self.key, call: there.call, is_ours, is_bulk: *bulk };
                let Some(flow) = self.streams_mut(key).and_then(|streams| streams.inflow(*bulk)) else {
                    return false;
                };
                let asked = (*messages, *bytes);
                (*messages, *bytes) = flow.grant(*messages, *bytes);
                is_excess = flow.is_open() && asked != (*messages, *bytes);
                if (*messages, *bytes) == (0, 0) {
                    return is_excess;
                }
            }
            Item::End { stream, .. } if bulk && stream.to_caller => {
                let Some(call) = self.theirs.get_mut(stream.call) else { return false };
                call.streams.iter_mut().for_each(|streams| streams.bulk_passed());
                if call.is_replied {
                    self.forget_theirs(stream.call);
                }
            }
            Item::Items { stream, .. } | Item::End { stream, .. } => {
                let call = stream.call;
                let is_there =
                    if stream.to_caller { self.theirs.contains(call) } else { self.ours.contains(call) };
                if !is_there {
                    return false;
                }
            }
            Item::Cancel { call } => match self.ours.get(*call) {
                None => return false,
                // Only bulk data still came, and nobody takes it any more.
                Some(ours) if ours.is_replied => {
                    self.cancel(*call);
                    return false;
                }
                Some(_) => {}
            },
            _ => {}
        }
        self.session.push(bulk, &item, Until::Acknowledged);
        is_excess
    }

    pub(super) fn on_cancel(&mut self, seq: u64, out: &mut Out) -> Heard {
        let Some(call) = self.theirs.get_mut(seq).filter(|call| !call.is_cancelled) else {
            return Heard::Nothing;
        };
        call.is_cancelled = true;
        let is_replied = call.is_replied;
        match call.owner {
            InOwner::Relayed { to, seq: on } => {
                if is_replied {
                    self.break_off(seq);
                }
                Heard::Pass { to, item: Item::Cancel { call: on } }
            }
            InOwner::Local => {
                out.emit(Event::Cancelled(RunKey { session: self.key, seq }));
                if is_replied {
                    self.break_off(seq);
                    return Heard::Nothing;
                }
                Heard::Cancelled(seq)
            }
            InOwner::Waiting => Heard::Cancelled(seq),
        }
    }

    /// One-way calls of this end that the other has done since, of other sessions.
    pub(crate) fn on_ack(&mut self, now: Instant, ack: Ack, out: &mut Out) -> Result<Vec<OutOwner>, String> {
        self.session.on_ack(ack).map_err(|fault| fault.to_string())?;
        while let Some(told) = self.failing.first_entry().filter(|entry| *entry.key() <= ack.up_to) {
            self.session.finished(now, told.remove());
        }
        self.rest();
        Ok(self.one_ways_done(ack.done, out))
    }

    /// The other end has done all one-way calls up to there.
    pub(crate) fn one_ways_done(&mut self, up_to: u64, out: &mut Out) -> Vec<OutOwner> {
        let mut relayed = Vec::new();
        let mut is_local = false;
        while let Some(entry) = self.our_one_ways.first_entry().filter(|entry| *entry.key() <= up_to) {
            let (cost, owner) = entry.remove();
            self.our_way.remove(&cost);
            match owner {
                OutOwner::Relayed { .. } => relayed.push(owner),
                OutOwner::Local(_) | OutOwner::Abandoned => is_local = true,
            }
        }
        if is_local {
            out.emit(Event::OneWaysDone { session: self.key, up_to });
        }
        self.tell_slots(out);
        relayed
    }
}

/// The call of the other end that an item of a stream belongs to.
fn their_call(item: &Item) -> Option<u64> {
    match item {
        Item::Items { stream, .. } | Item::End { stream, .. } if !stream.to_caller => Some(stream.call),
        _ => None,
    }
}

/// What an item of a stream takes while it waits, about.
pub(super) fn size_of(item: &Item) -> u64 {
    match item {
        Item::Items { items, .. } => items.len() as u64 + ITEM_COST,
        _ => ITEM_COST,
    }
}
