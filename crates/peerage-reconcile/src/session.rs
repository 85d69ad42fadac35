//! One session: two sides find out which ids only one of them has.

use crate::config::Config;
use crate::decoder::Decoder;
use crate::encoder::Encoder;
use crate::error::{AcceptError, SessionError, StartError};
use crate::listing::Lister;
use crate::message::{Answer, Batch, End, Message, Open};
use crate::plan::{Plan, next_step};
use crate::result::{Difference, Findings};
use crate::set::KeyedSet;
use crate::short::{Fingerprint, ShortId};
use crate::symbol::Symbol;

/// Keys that a peer may say it has: more would make counts overflow, and no memory holds as many.
const MAX_COUNT: u64 = 1 << 48;

/// What a message leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// To be sent to the other side, in order.
    pub send: Vec<Message>,
    /// The result, once. The session is over for this side when `send` is sent.
    pub difference: Option<Difference>,
}

/// What a side is doing.
#[derive(Clone, Debug)]
enum State {
    /// The initiator: it makes symbols while they are asked for.
    Offering(Encoder),
    /// The responder.
    Taking(Taking),
    /// It sends its ids, and the other side answers.
    Listing(Lister),
    /// It gets the other side's ids from `next` on, and answers.
    Comparing {
        set: Encoder,
        next: ShortId,
    },
    Over,
}

impl State {
    const fn describe(&self) -> &'static str {
        match self {
            Self::Offering(_) => "it offers symbols",
            Self::Taking(_) => "it takes symbols",
            Self::Listing(_) => "it sends ids",
            Self::Comparing { .. } => "it takes ids",
            Self::Over => "it is over",
        }
    }
}

/// Takes symbols of a set of `of` keys, and has asked for `until` of them.
#[derive(Clone, Debug)]
struct Taking {
    decoder: Decoder,
    /// Symbols that came and are not decoded yet: a peer that sends them one by one does not make us decode as often.
    waiting: Vec<Symbol>,
    of: u64,
    until: u32,
    max_symbols: u32,
}

impl Taking {
    fn taken(&self) -> u32 {
        self.decoder.taken().saturating_add(self.waiting.len() as u32)
    }

    /// Whether it is time to decode: when all is there, or a fourth more than was decoded.
    fn is_due(&self) -> bool {
        self.taken() >= self.until || self.waiting.len() >= self.decoder.taken() as usize / 4
    }

    fn held_bytes(&self) -> usize {
        self.decoder.held_bytes() + self.waiting.capacity() * size_of::<Symbol>()
    }
}

/// One side of a session, pure: it gets messages and says what to send.
///
/// It answers for the sets as they were when each side began. It holds short ids only; [`KeyedSet::key`] says which keys
/// they mean, and knows of what was removed meanwhile.
///
/// Its messages must arrive in order. There is no clock: whoever drives it gives up a session that takes too long.
#[derive(Clone, Debug)]
pub struct Session {
    config: Config,
    fingerprint: Fingerprint,
    /// Of the other side's set, where it told.
    theirs: Option<Fingerprint>,
    state: State,
    findings: Findings,
    /// What it took, when there is no set any more that counts it.
    steps: u64,
}

impl Session {
    /// Begins as the initiator, with what is to be sent.
    ///
    /// # Errors
    ///
    /// [`StartError`] for a set or a configuration beyond the limits.
    pub fn start<K>(set: &KeyedSet<K>, config: Config) -> Result<(Self, Message), StartError> {
        check(set, &config)?;
        let mut encoder = set.encoder();
        let first = encoder.next(config.first_symbols);
        let count = encoder.len() as u64;
        let symbols = Batch::pack(&mut first.as_slice(), 0, count, usize::MAX);
        let open = Open {
            salt: set.salt(),
            count,
            fingerprint: set.fingerprint(),
            max_symbols: config.max_symbols,
            symbols,
        };
        Ok((Self::new(set, config, None, State::Offering(encoder)), Message::Open(open)))
    }

    fn new<K>(set: &KeyedSet<K>, config: Config, theirs: Option<Fingerprint>, state: State) -> Self {
        let (fingerprint, findings) = (set.fingerprint(), Findings::new(config.max_differences));
        Self { config, fingerprint, theirs, state, findings, steps: 0 }
    }

    /// Begins as the responder, with a set that has the salt of the initiator's [`Open`].
    ///
    /// # Errors
    ///
    /// [`AcceptError`] for what we got wrong, or the peer.
    pub fn accept<K>(set: &KeyedSet<K>, config: Config, open: &Open) -> Result<(Self, Step), AcceptError> {
        check(set, &config)?;
        if set.salt() != open.salt {
            return Err(StartError::WrongSalt.into());
        }
        if open.count > MAX_COUNT {
            return Err(SessionError::Count { count: open.count, limit: MAX_COUNT }.into());
        }
        let mut ours = set.encoder();
        let mut session = Self::new(set, config, Some(open.fingerprint), State::Over);
        if (open.count, open.fingerprint) == (ours.len() as u64, session.fingerprint) {
            let step = session.answer(&mut ours, Vec::new(), Vec::new(), true);
            return Ok((session, step));
        }
        if open.count == 0 {
            let step = session.compare(ours, ShortId(0), &[], ShortId(u64::MAX));
            return Ok((session, step));
        }
        let max_symbols = session.config.max_symbols.min(open.max_symbols);
        let symbols = open
            .symbols
            .unpack(0, open.count)
            .map_err(|(index, count)| SessionError::SymbolCount { index, count, of: open.count })?;
        let waiting = symbols.get(..max_symbols as usize).unwrap_or(&symbols).to_vec();
        let decoder = Decoder::new(ours, max_symbols).map_err(SessionError::from)?;
        let until = waiting.len() as u32;
        let step = session.decode(Taking { decoder, waiting, of: open.count, until, max_symbols })?;
        Ok((session, step))
    }

    /// Takes a message of the other side.
    ///
    /// # Errors
    ///
    /// [`SessionError`] when it cannot be; the session is then over, without a result.
    pub fn on_message(&mut self, message: Message) -> Result<Step, SessionError> {
        self.steps = self.steps();
        let state = std::mem::replace(&mut self.state, State::Over);
        match (state, message) {
            (State::Offering(encoder), Message::More { until }) => self.offer(encoder, until),
            (State::Offering(encoder), Message::AskList) => Ok(self.list(encoder)),
            (State::Offering(encoder), message @ Message::List { .. }) => {
                self.state = State::Comparing { set: encoder, next: ShortId(0) };
                self.on_message(message)
            }
            (State::Offering(encoder), Message::Answer(answer)) => self.on_answer(encoder, answer),
            (State::Taking(mut taking), Message::Symbols { from, symbols }) => {
                let expected = taking.taken();
                if from != expected {
                    return Err(SessionError::Gap { from, expected });
                }
                if symbols.is_empty() {
                    return Err(SessionError::Empty { message: "Symbols" });
                }
                let all = u64::from(from) + symbols.len() as u64;
                if all > u64::from(taking.until) {
                    return Err(SessionError::TooManySymbols { symbols: all, limit: taking.until.into() });
                }
                let of = taking.of;
                let symbols = symbols
                    .unpack(from, of)
                    .map_err(|(index, count)| SessionError::SymbolCount { index, count, of })?;
                taking.waiting.extend(symbols);
                self.decode(taking)
            }
            (State::Listing(lister), Message::Answer(answer)) => self.on_list_answer(lister, answer),
            (State::Comparing { set, next }, Message::List { ids, through }) => {
                let mut sorted = ids.iter().zip(ids.iter().skip(1)).all(|(one, other)| one < other);
                sorted &= ids.first().is_none_or(|first| *first >= next);
                sorted &= ids.last().is_none_or(|last| *last <= through) && through >= next;
                if !sorted {
                    return Err(SessionError::Order { message: "List" });
                }
                // So each list but the last has an id at least, and there is an end of them.
                if ids.is_empty() && through != ShortId(u64::MAX) {
                    return Err(SessionError::Empty { message: "List" });
                }
                Ok(self.compare(set, next, &ids, through))
            }
            (State::Comparing { .. } | State::Listing(_), Message::Stop) => {
                Ok(Step { send: Vec::new(), difference: Some(self.findings.end(false, None)) })
            }
            // What was on its way when this side had enough.
            (State::Over, Message::Symbols { .. } | Message::Answer(_) | Message::Stop) => {
                Ok(Step::default())
            }
            (state, message) => {
                Err(SessionError::Unexpected { message: message.kind(), state: state.describe() })
            }
        }
    }

    /// Whether nothing more is to be done.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// What the session holds, in bytes, as if it shared nothing with the set: never more than [`Config::worst_case_bytes`].
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        let state = match &self.state {
            State::Offering(set) | State::Comparing { set, .. } => set.held_bytes(),
            State::Taking(taking) => taking.held_bytes(),
            State::Listing(lister) => lister.set().held_bytes(),
            State::Over => 0,
        };
        size_of::<Self>() + state + self.findings.held_bytes()
    }

    /// What the session took so far, by the measure of [`Encoder::steps`]: each some nanoseconds, on any machine. It is what a
    /// peer made us do, and may be charged for. What the last message took is not in it if that was an error.
    #[must_use]
    pub fn steps(&self) -> u64 {
        match &self.state {
            State::Offering(set) | State::Comparing { set, .. } => set.steps(),
            State::Taking(taking) => taking.decoder.steps(),
            State::Listing(lister) => lister.set().steps(),
            State::Over => self.steps,
        }
    }

    fn offer(&mut self, mut encoder: Encoder, until: u32) -> Result<Step, SessionError> {
        let (from, limit) = (encoder.made(), self.config.max_symbols);
        if until > limit {
            return Err(SessionError::TooManySymbols { symbols: until.into(), limit: limit.into() });
        }
        if until <= from {
            return Err(SessionError::Gap { from: until, expected: from });
        }
        let symbols = encoder.next(until - from);
        let (mut left, mut from, mut send) = (symbols.as_slice(), from, Vec::new());
        while !left.is_empty() {
            let batch = Batch::pack(&mut left, from, encoder.len() as u64, self.config.symbol_bytes());
            let len = batch.len() as u32;
            send.push(Message::Symbols { from, symbols: batch });
            from = from.saturating_add(len);
        }
        self.state = State::Offering(encoder);
        Ok(Step { send, difference: None })
    }

    fn decode(&mut self, mut taking: Taking) -> Result<Step, SessionError> {
        if !taking.is_due() {
            self.state = State::Taking(taking);
            return Ok(Step::default());
        }
        let Taking { decoder, waiting, of, until, max_symbols } = &mut taking;
        let is_done = decoder.push(waiting)?;
        waiting.clear();
        if is_done {
            let (want, have) = (decoder.theirs().collect(), decoder.ours().collect());
            let mut set = taking.decoder.into_set();
            return Ok(self.answer(&mut set, want, have, true));
        }
        if decoder.taken() < *until {
            self.state = State::Taking(taking);
            return Ok(Step::default());
        }
        let ours = decoder.set().len() as u64;
        match next_step(decoder.taken(), decoder.estimate(), *max_symbols, ours, *of) {
            Plan::Symbols { until } => {
                taking.until = until;
                self.state = State::Taking(taking);
                Ok(Step { send: vec![Message::More { until }], difference: None })
            }
            Plan::OurList => Ok(self.list(taking.decoder.into_set())),
            Plan::TheirList => {
                self.state = State::Comparing { set: taking.decoder.into_set(), next: ShortId(0) };
                Ok(Step { send: vec![Message::AskList], difference: None })
            }
        }
    }

    /// Begins to send our ids.
    fn list(&mut self, set: Encoder) -> Step {
        let mut lister = Lister::new(set, self.config.ids_per_message());
        let send = lister.next().into_iter().collect();
        self.state = State::Listing(lister);
        Step { send, difference: None }
    }

    /// Compares a list of all that they have from `next` through `through` with our ids.
    fn compare(&mut self, mut set: Encoder, next: ShortId, ids: &[ShortId], through: ShortId) -> Step {
        let (mut want, mut have) = (Vec::new(), Vec::new());
        let mut theirs = ids.iter().copied().peekable();
        let mut looked = 0;
        for ours in set.from(next).take_while(|ours| *ours <= through) {
            looked += 1;
            while let Some(lacked) = theirs.next_if(|theirs| *theirs < ours) {
                want.push(lacked);
            }
            if theirs.next_if_eq(&ours).is_none() {
                have.push(ours);
            }
        }
        want.extend(theirs);
        set.count(ids.len() + looked);
        match through.0.checked_add(1) {
            None => self.answer(&mut set, want, have, true),
            Some(next) => {
                let step = self.answer(&mut set, want, have, false);
                if step.difference.is_none() {
                    self.state = State::Comparing { set, next: ShortId(next) };
                }
                step
            }
        }
    }

    /// Says what the difference is, in as many messages as it takes.
    fn answer(&mut self, set: &mut Encoder, want: Vec<ShortId>, have: Vec<ShortId>, is_last: bool) -> Step {
        let fits = self.findings.extend(&have, &want);
        let (want, have) = fits.cut(want, have);
        set.count(want.len() + have.len());
        let (end, difference) = if !fits.is_all() {
            (End::Partial, Some(self.findings.end(false, None)))
        } else if is_last {
            let common = self.findings.common(self.fingerprint, set);
            // When we lack nothing, what both have is all that they have.
            let agrees = self.theirs.filter(|_| self.findings.lacks_nothing()).map(|theirs| theirs == common);
            (End::Complete(common), Some(self.findings.end(true, agrees)))
        } else {
            (End::Next, None)
        };
        self.steps = set.steps();
        let (mut want, mut have) = (want.as_slice(), have.as_slice());
        let mut send = Vec::new();
        loop {
            let room = self.config.ids_per_message();
            let (first, rest) = want.split_at_checked(room).unwrap_or((want, &[]));
            let (other, left) =
                have.split_at_checked(room.saturating_sub(first.len())).unwrap_or((have, &[]));
            (want, have) = (rest, left);
            let is_end = want.is_empty() && have.is_empty();
            let end = if is_end { end } else { End::Continues };
            send.push(Message::Answer(Answer { want: first.to_vec(), have: other.to_vec(), end }));
            if is_end {
                return Step { send, difference };
            }
        }
    }

    /// Takes what the other side says of the difference. `false` when there is no room for more.
    fn find(&mut self, set: &mut Encoder, answer: &Answer) -> Result<bool, SessionError> {
        if !self.findings.ascends(&answer.want, &answer.have) {
            return Err(SessionError::Order { message: "Answer" });
        }
        if let Some(short) = answer.want.iter().copied().find(|short| !set.has(*short)) {
            return Err(SessionError::Unknown { short });
        }
        if let Some(short) = answer.have.iter().copied().find(|short| set.has(*short)) {
            return Err(SessionError::Held { short });
        }
        if answer.end == End::Continues && answer.want.is_empty() && answer.have.is_empty() {
            return Err(SessionError::Empty { message: "Answer" });
        }
        set.count(answer.want.len() + answer.have.len());
        self.steps = set.steps();
        Ok(self.findings.extend(&answer.want, &answer.have).is_all())
    }

    fn end(&mut self, set: &Encoder, end: End) -> Step {
        let difference = match end {
            End::Complete(common) => {
                let agree = self.findings.common(self.fingerprint, set) == common;
                self.findings.end(true, Some(agree))
            }
            _ => self.findings.end(false, None),
        };
        Step { send: Vec::new(), difference: Some(difference) }
    }

    fn on_answer(&mut self, mut encoder: Encoder, answer: Answer) -> Result<Step, SessionError> {
        if !self.find(&mut encoder, &answer)? {
            return Ok(self.end(&encoder, End::Partial));
        }
        match answer.end {
            End::Continues => {
                self.state = State::Offering(encoder);
                Ok(Step::default())
            }
            End::Next => Err(SessionError::Unexpected { message: "Answer", state: "no list was sent" }),
            end => Ok(self.end(&encoder, end)),
        }
    }

    fn on_list_answer(&mut self, mut lister: Lister, answer: Answer) -> Result<Step, SessionError> {
        if !self.find(lister.set_mut(), &answer)? {
            let difference = Some(self.findings.end(false, None));
            return Ok(Step { send: vec![Message::Stop], difference });
        }
        match answer.end {
            End::Continues => {
                self.state = State::Listing(lister);
                Ok(Step::default())
            }
            End::Next => {
                let Some(list) = lister.next() else {
                    return Err(SessionError::Unexpected { message: "Answer", state: "all ids are sent" });
                };
                self.state = State::Listing(lister);
                Ok(Step { send: vec![list], difference: None })
            }
            End::Complete(_) if !lister.is_through() => {
                Err(SessionError::Unexpected { message: "Answer", state: "not all ids are sent" })
            }
            end => Ok(self.end(lister.set(), end)),
        }
    }
}

fn check<K>(set: &KeyedSet<K>, config: &Config) -> Result<(), StartError> {
    config.check()?;
    if set.len() > config.max_set {
        return Err(StartError::SetTooLarge { len: set.len(), limit: config.max_set });
    }
    Ok(())
}
