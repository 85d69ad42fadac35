//! The handshake: preface, three Noise messages, and what each side says of itself in them.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use peerage_identity::{Handshake, Identity, Opener, Sealer};
use peerage_machine::{Direction, Instant, Side, Why};
use peerage_wire::handshake::{Answer, put_message, take_answer, take_message};
use peerage_wire::hello::Hello;
use peerage_wire::limits::MAX_HANDSHAKE_MESSAGE;
use peerage_wire::preface::{Cookie, Notice, Preface, VERSION};
use peerage_wire::{PeerId, Suite};

/// What is next on the wire.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The responder waits for the preface.
    Preface,
    /// The responder waits for `e`.
    First,
    /// The initiator waits for `e, ee, s, es`, or for a preface that says what the responder speaks.
    Second,
    /// The responder waits for `s, se`.
    Third,
}

/// A handshake on its way.
pub(crate) struct Greeting {
    identity: Arc<Identity>,
    entropy: [u8; 32],
    hello: Vec<u8>,
    /// Those that this side takes, its favourite first.
    suites: Vec<Suite>,
    /// The favourite; once the preface is there, the one that it names.
    suite: Suite,
    step: Step,
    noise: Option<Handshake>,
    sent_at: Instant,
    /// What the responder answered in clear.
    counter_offer: Option<Suite>,
    /// What the responder wants to see next time.
    asked: Option<Cookie>,
    expected: Option<PeerId>,
}

/// What a finished handshake leaves.
pub(crate) struct Greeted {
    /// Who the peer is, or what is wrong with what it said of itself: then the keys still serve to tell it so.
    pub(crate) hello: Result<Hello, String>,
    /// Who it must be.
    pub(crate) expected: Option<PeerId>,
    pub(crate) suite: Suite,
    pub(crate) sealer: Sealer,
    pub(crate) opener: Opener,
    pub(crate) rtt: Duration,
}

/// How far the bytes reached.
pub(crate) enum Progress {
    /// More bytes are needed.
    Wait,
    /// So many bytes are used up; call again.
    Used(usize),
    /// So many bytes are used up, and it is done.
    Done(usize, Box<Greeted>),
}

fn fault(what: impl ToString) -> Why {
    Why::Fault { by: Side::Them, what: what.to_string() }
}

/// Whether it is sure to be less than a handshake message, so that a peer which sends byte by byte has nothing copied.
fn is_short(input: &[u8]) -> bool {
    let Some((length, message)) = input.split_first_chunk::<2>() else { return true };
    let length = usize::from(u16::from_be_bytes(*length));
    length <= MAX_HANDSHAKE_MESSAGE && message.len() < length
}

/// What this side speaks.
fn describe(suites: &[Suite]) -> String {
    format!("version {VERSION} with suite {}", Suite::list(suites))
}

/// What a handshake begins with.
pub(crate) struct Opening {
    pub(crate) suites: Vec<Suite>,
    pub(crate) entropy: [u8; 32],
    /// What the responder wants to see, if it said so the last time.
    pub(crate) cookie: Option<Cookie>,
    /// Who must be at the other end, when that is known.
    pub(crate) expected: Option<PeerId>,
}

impl Greeting {
    /// Begins; what to send goes to `out`. A dialer shows its cookie, if it has one.
    pub(crate) fn new(
        direction: Direction,
        identity: Arc<Identity>,
        opening: Opening,
        hello: &Hello,
        now: Instant,
        out: &mut BytesMut,
    ) -> Result<Self, Why> {
        let Opening { suites, entropy, cookie, expected } = opening;
        let Some(&suite) = suites.first() else {
            return Err(Why::Limit { by: Side::Us, what: "no cipher suite is allowed".to_owned() });
        };
        let mut greeting = Self {
            identity,
            entropy,
            hello: hello.encode(),
            suites,
            suite,
            step: Step::Preface,
            noise: None,
            sent_at: now,
            counter_offer: None,
            asked: None,
            expected,
        };
        if direction == Direction::Outbound {
            let preface = Preface::new(suite).encode();
            out.extend_from_slice(&preface);
            let noise = Handshake::initiator(&greeting.identity, suite, &preface, entropy);
            greeting.noise = Some(noise.map_err(|error| fault(format!("handshake: {error}")))?);
            greeting.write(cookie.as_ref().map_or(&[], |cookie| cookie), out)?;
            greeting.step = Step::Second;
        }
        Ok(greeting)
    }

    /// What the responder wants to see next time, if it said so.
    pub(crate) fn asked(&self) -> Option<Cookie> {
        self.asked
    }

    /// Takes what it can from `input`; what to send goes to `out`.
    pub(crate) fn receive(
        &mut self,
        now: Instant,
        input: &[u8],
        out: &mut BytesMut,
    ) -> Result<Progress, Why> {
        if self.step == Step::Preface {
            return self.receive_preface(input, out);
        }
        if is_short(input) {
            return Ok(Progress::Wait);
        }
        // A message and its length are all that is ever needed; the rest of a long read stays where it is.
        let mut buffer = BytesMut::from(input.get(..2 + MAX_HANDSHAKE_MESSAGE).unwrap_or(input));
        let held = buffer.len();
        let message = match self.step {
            Step::Second => match take_answer(&mut buffer).map_err(fault)? {
                Some(Answer::Clear(theirs)) => {
                    self.counter_offer = theirs.known_suite();
                    return Err(Why::Incompatible {
                        ours: describe(&[self.suite]),
                        theirs: theirs.to_string(),
                    });
                }
                Some(Answer::Notice(notice)) => {
                    let what = match notice {
                        Notice::Cookie(cookie) => {
                            self.asked = Some(cookie);
                            "handshakes, and asks to be dialled again with a cookie".to_owned()
                        }
                        Notice::Busy(busy) => busy.to_string(),
                    };
                    return Err(Why::Limit { by: Side::Them, what });
                }
                Some(Answer::Message(message)) => Some(message),
                None => None,
            },
            Step::Preface | Step::First | Step::Third => take_message(&mut buffer).map_err(fault)?,
        };
        let Some(message) = message else { return Ok(Progress::Wait) };
        let used = held - buffer.len();
        let Some(noise) = self.noise.as_mut() else { return Err(fault("a handshake message out of turn")) };
        let payload = noise.read(&message).map_err(|error| fault(format!("handshake: {error}")))?;
        match self.step {
            Step::Preface | Step::First => {
                let hello = std::mem::take(&mut self.hello);
                self.write(&hello, out)?;
                self.sent_at = now;
                self.step = Step::Third;
                Ok(Progress::Used(used))
            }
            Step::Second => {
                let hello = std::mem::take(&mut self.hello);
                self.write(&hello, out)?;
                Ok(Progress::Done(used, Box::new(self.finish(now, &payload)?)))
            }
            Step::Third => Ok(Progress::Done(used, Box::new(self.finish(now, &payload)?))),
        }
    }

    /// What the responder would take instead.
    pub(crate) fn counter_offer(&self) -> Option<Suite> {
        self.counter_offer
    }

    fn receive_preface(&mut self, input: &[u8], out: &mut BytesMut) -> Result<Progress, Why> {
        let Some(bytes) = input.first_chunk::<{ Preface::LEN }>() else {
            // A stranger that speaks something else is told from its first bytes on, not after a deadline.
            return match input.iter().zip(&Preface::MAGIC).all(|(found, expected)| found == expected) {
                true => Ok(Progress::Wait),
                false => Err(fault("the first bytes are not Peerage's")),
            };
        };
        let preface = Preface::decode(bytes).map_err(fault)?;
        let Ok(suite) = preface.check(&self.suites) else {
            out.extend_from_slice(&Preface::new(self.suite).encode());
            return Err(Why::Incompatible { ours: describe(&self.suites), theirs: preface.to_string() });
        };
        self.suite = suite;
        let noise = Handshake::responder(&self.identity, suite, bytes, self.entropy);
        self.noise = Some(noise.map_err(|error| fault(format!("handshake: {error}")))?);
        self.step = Step::First;
        Ok(Progress::Used(Preface::LEN))
    }

    fn write(&mut self, payload: &[u8], out: &mut BytesMut) -> Result<(), Why> {
        let Some(noise) = self.noise.as_mut() else { return Err(fault("a handshake message out of turn")) };
        let mut message = Vec::with_capacity(payload.len() + 128);
        noise.write(payload, &mut message).map_err(|error| fault(format!("handshake: {error}")))?;
        put_message(out, &message).map_err(|error| fault(format!("our own hello: {error}")))
    }

    fn finish(&mut self, now: Instant, payload: &[u8]) -> Result<Greeted, Why> {
        let Some(noise) = self.noise.take() else { return Err(fault("a handshake message out of turn")) };
        let hello = Hello::decode(payload).map_err(|error| error.to_string()).and_then(|hello| {
            let checked = noise.check_certificate(&hello.identity, &hello.signature);
            checked.map(|()| hello).map_err(|error| error.to_string())
        });
        let (sealer, opener) = noise.finish().map_err(|error| fault(format!("handshake: {error}")))?;
        let rtt = now.since(self.sent_at);
        Ok(Greeted { hello, expected: self.expected, suite: self.suite, sealer, opener, rtt })
    }
}
