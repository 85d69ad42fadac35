//! The calls of one session, in both directions, with their streams.
//!
//! Both ends use this: a party has one, the broker one for each session. A call ends here ([`InOwner::Local`],
//! [`OutOwner::Local`]) or goes on to another session, whose talk has its other half; what then flows past is only held
//! against the credit that its receiver gave.

mod check;
mod given;
mod hear;
mod ours;
mod streams;
mod theirs;

pub(crate) use given::{Cost, Payer};
pub(crate) use theirs::fitting;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Display;

use bytes::Bytes;
use peerage_machine::{CallId, Instant};

use self::given::Given;
use crate::event::{Event, Out, RunKey, SessionKey, StreamKey};
use crate::flow::Streams;
use crate::packet::{Call, Item, Limits, Shape};
use crate::rising::Rising;
use crate::session::Session;
use crate::status::Status;

/// Where a call that came goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InOwner {
    /// It is run here.
    Local,
    /// It is passed on by this session, under this number.
    Relayed { to: SessionKey, seq: u64 },
    /// It waits for a node: nobody has it.
    Waiting,
}

/// Where a call that was made comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutOwner {
    /// The application; whoever waits, waits for this.
    Local(CallId),
    /// Nobody waits any more.
    Abandoned,
    /// It came by this session, under this number.
    Relayed { from: SessionKey, seq: u64 },
}

#[derive(Clone, Debug)]
struct InCall {
    owner: InOwner,
    shape: Shape,
    /// Bytes of parameters.
    bytes: usize,
    streams: Option<Box<Streams>>,
    until: Option<Instant>,
    /// Who calls, as introduced.
    caller: u64,
    /// The reply was sent; bulk data is still going out.
    is_replied: bool,
    is_cancelled: bool,
    /// To be passed on again when its node dies.
    again: Option<Box<Again>>,
    /// Nobody knows of it yet: it waits for one-way calls before it, or for the journal.
    waits: bool,
    /// What has come of its streams meanwhile, as far as their credit goes; and whether each is bulk data.
    held: Vec<(bool, Item)>,
}

/// A call that may be run again, and was passed on.
#[derive(Clone, Debug)]
pub(crate) struct Again {
    pub(crate) call: Box<Call>,
    /// When it came.
    pub(crate) since: Instant,
    /// How often it was passed on.
    pub(crate) tries: u32,
}

#[derive(Clone, Debug)]
struct OutCall {
    owner: OutOwner,
    cost: Cost,
    streams: Option<Box<Streams>>,
    until: Option<Instant>,
    /// The reply has come; bulk data is still coming in.
    is_replied: bool,
}

/// What an item that has arrived means to the owner of the talk.
#[derive(Debug)]
pub(crate) enum Heard {
    /// Nothing more.
    Nothing,
    /// A call to be run or passed on.
    Call(u64, Box<Call>),
    /// A call that was sent before: new to a broker that restarted since, and otherwise nothing.
    CallAgain(u64, Box<Call>),
    /// A reply to a call of another session.
    Reply { from: SessionKey, seq: u64, result: Result<Bytes, Box<Status>> },
    /// Something of a stream of a call that goes on to another session.
    Pass { to: SessionKey, item: Item },
    /// It is about the session, not a call.
    Other(Item),
    /// A call that ran here is not wanted any more.
    Cancelled(u64),
}

/// A call of this end that comes to nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GivenUp {
    pub(crate) seq: u64,
    pub(crate) owner: OutOwner,
    pub(crate) is_one_way: bool,
    /// Its reply has come; bulk data was still on its way.
    pub(crate) is_replied: bool,
    /// Whether the other end may have had it.
    pub(crate) may_have_run: bool,
}

/// Why a call cannot be made now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoRoom {
    /// So many calls are under way.
    Calls(u32),
    /// So many bytes of parameters are under way.
    Bytes(u64),
    /// So many calls with streams are under way.
    Streams(u32),
    /// The payer has so many calls there, and no more are left, of so many.
    CallsShare { has: u32, left: u32, limit: u32 },
    /// The payer has so many bytes of parameters there, and no more are left, of so many.
    BytesShare { has: u64, left: u64, limit: u64 },
    /// The payer has so many calls with streams there, and no more are left, of so many.
    StreamsShare { has: u32, left: u32, limit: u32 },
}

impl From<NoRoom> for Status {
    fn from(no_room: NoRoom) -> Self {
        Self::resource_exhausted(match no_room {
            NoRoom::Calls(limit) => format!("{limit} calls are under way, which is the limit"),
            NoRoom::Bytes(limit) => format!("calls of {limit} bytes are under way, which is the limit"),
            NoRoom::Streams(limit) => format!("{limit} calls with streams are under way, which is the limit"),
            NoRoom::CallsShare { has, left, limit } => shared(&limit, "calls", &has, &left),
            NoRoom::BytesShare { has, left, limit } => shared(&limit, "bytes of calls", &has, &left),
            NoRoom::StreamsShare { has, left, limit } => shared(&limit, "calls with streams", &has, &left),
        })
    }
}

fn shared(limit: &dyn Display, what: &str, has: &dyn Display, left: &dyn Display) -> String {
    format!(
        "of the {limit} {what} that the node takes, its caller has {has} under way, in all sessions, and {left} are left; it may \
         have more while it has fewer than are left"
    )
}

/// What an item costs besides its bytes: places in tables, and what an allocation has for itself.
pub(crate) const ITEM_COST: u64 = 128;

/// What a one-way call that failed costs besides its answer, until that is acknowledged: places in tables.
const FAILING_COST: u64 = 100;

/// Calls, one-way calls and bytes that are under way in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct UnderWay {
    calls: u32,
    bytes: u64,
    streams: u32,
}

impl UnderWay {
    fn check(self, bytes: usize, has_streams: bool, limits: &Limits) -> Result<(), NoRoom> {
        if self.calls >= limits.calls {
            return Err(NoRoom::Calls(limits.calls));
        }
        if self.bytes > 0 && self.bytes + bytes as u64 > limits.call_bytes {
            return Err(NoRoom::Bytes(limits.call_bytes));
        }
        if has_streams && self.streams >= limits.streams {
            return Err(NoRoom::Streams(limits.streams));
        }
        Ok(())
    }

    fn add(&mut self, bytes: usize, has_streams: bool) {
        self.calls += 1;
        self.bytes += bytes as u64;
        self.streams += u32::from(has_streams);
    }

    fn remove(&mut self, bytes: usize, has_streams: bool) {
        self.calls = self.calls.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes as u64);
        self.streams = self.streams.saturating_sub(u32::from(has_streams));
    }
}

/// A session with its calls.
#[derive(Clone, Debug)]
pub(crate) struct Talk {
    pub(crate) key: SessionKey,
    pub(crate) session: Session,
    pub(crate) limits: Limits,
    /// Calls of the other end.
    theirs: Rising<InCall>,
    their_way: UnderWay,
    /// One-way calls of the other end that are not done, with their bytes.
    their_one_ways: BTreeMap<u64, usize>,
    /// One-way calls of the other end that failed, by the numbers of the answers that say so. They are not done before the other end
    /// has these, or it would take them for done well: acknowledgements overtake items.
    failing: BTreeMap<u64, u64>,
    /// Calls of this end.
    ours: Rising<OutCall>,
    our_way: Given,
    /// One-way calls of this end that are not done, with what they take.
    our_one_ways: BTreeMap<u64, (Cost, OutOwner)>,
    /// Somebody was told that there is no room for a call.
    wants_slots: bool,
    /// Streams with messages that wait for company.
    gathering: BTreeSet<StreamKey>,
    /// Bulk data that came before its call: the lanes are not in step.
    early: BTreeMap<u64, VecDeque<Item>>,
    early_bytes: u64,
    /// What of streams waits with calls that nobody knows of yet, in bytes.
    waiting_bytes: u64,
    /// Streams on which somebody waits to send, and that nobody takes any more.
    stopped: Vec<StreamKey>,
    /// When calls end; ours first.
    deadlines: BTreeSet<(Instant, bool, u64)>,
}

impl Talk {
    pub(crate) fn new(key: SessionKey, session: Session, limits: Limits) -> Self {
        Self {
            key,
            session,
            limits,
            theirs: Rising::default(),
            their_way: UnderWay::default(),
            their_one_ways: BTreeMap::new(),
            failing: BTreeMap::new(),
            ours: Rising::default(),
            our_way: Given::default(),
            our_one_ways: BTreeMap::new(),
            wants_slots: false,
            gathering: BTreeSet::new(),
            early: BTreeMap::new(),
            early_bytes: 0,
            waiting_bytes: 0,
            stopped: Vec::new(),
            deadlines: BTreeSet::new(),
        }
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        let first = self.deadlines.first().map(|(at, ..)| *at);
        first.into_iter().chain(self.session.deadline()).min()
    }

    /// Ends calls whose time is over; gives those of the other end that ran here.
    pub(crate) fn on_timer(&mut self, now: Instant, out: &mut Out) -> Vec<u64> {
        self.session.on_timer(now);
        let mut over = Vec::new();
        while let Some((at, is_ours, seq)) = self.deadlines.first().copied().filter(|(at, ..)| *at <= now) {
            self.deadlines.remove(&(at, is_ours, seq));
            if is_ours {
                let Some(call) = self.ours.get_mut(seq) else { continue };
                call.until = None;
                if let OutOwner::Local(id) = call.owner
                    && !call.is_replied
                {
                    let mut status = Status::deadline_exceeded("no answer came in time");
                    status.may_have_run = self.session.was_handed(seq);
                    out.answer(id, Err(status));
                }
                self.cancel(seq);
            } else if let Some(call) = self.theirs.get(seq).filter(|call| !call.is_replied) {
                if call.owner != InOwner::Waiting {
                    out.emit(Event::Cancelled(RunKey { session: self.key, seq }));
                }
                over.push(seq);
            }
        }
        over
    }

    /// How many calls are under way: of the other end, and of this one.
    pub(crate) fn load(&self) -> (u32, u32) {
        (self.their_way.calls, self.our_way.all.calls)
    }

    /// Whether all one-way calls of this end are done.
    pub(crate) fn has_no_one_ways(&self) -> bool {
        self.our_one_ways.is_empty()
    }

    /// Whether it is a one-way call of the other end that is not done.
    pub(crate) fn is_one_way(&self, seq: u64) -> bool {
        self.their_one_ways.contains_key(&seq)
    }

    /// Which caller a call of the other end is of, as introduced.
    pub(crate) fn caller_of(&self, seq: u64) -> Option<u64> {
        self.theirs.get(seq).map(|call| call.caller)
    }

    /// Calls with streams that are under way, of both ends.
    pub(crate) fn streams(&self) -> u32 {
        self.their_way.streams + self.our_way.all.streams
    }

    /// About how many bytes it holds.
    pub(crate) fn held_bytes(&self) -> u64 {
        let (items, bytes) = self.session.kept();
        let gathered: usize = self.gathering.iter().map(|stream| self.gathered(*stream)).sum();
        let waiting = self.their_way.bytes + u64::from(self.their_way.calls) * ITEM_COST;
        (items as u64) * ITEM_COST
            + (bytes + gathered) as u64
            + waiting
            + (self.failing.len() as u64) * FAILING_COST
            + self.early_bytes
            + self.waiting_bytes
    }

    /// What else flows with a call of the other end.
    pub(crate) fn shape_of(&self, seq: u64) -> Option<Shape> {
        self.theirs.get(seq).map(|call| call.shape)
    }
}
