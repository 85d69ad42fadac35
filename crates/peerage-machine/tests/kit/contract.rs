use std::marker::PhantomData;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use peerage_machine::testing::{Asked, Plan, Rule, Step, Subject, check, check_steps};
use peerage_machine::{Input, Instant, LinkId, Machine, Malformed, Message, Now, OutboxOf, Rng, Seed};

use crate::asker::{Ask, Askers, Flaw, Talk};

#[test]
fn a_sound_machine_passes_and_was_put_to_work() {
    let report = check(&Askers(Flaw::None), &Plan::default()).unwrap();
    assert!(report.steps > 10_000 && report.effects > 5_000 && report.timers > 1_000, "{report:?}");
}

#[test]
fn each_flaw_is_caught_as_a_breach_of_its_rule() {
    let flaws = [
        (Flaw::HashOrder, Rule::Repeatable),
        (Flaw::OwnEntropy, Rule::Repeatable),
        (Flaw::StuckDeadline, Rule::Deadline),
        (Flaw::ActsEarly, Rule::Deadline),
        (Flaw::MakesUpForMissedPeriods, Rule::Deadline),
        (Flaw::DeadlineMovesWhenRead, Rule::Deadline),
        (Flaw::PanicsOnUnknownLink, Rule::NoPanic),
        (Flaw::PanicsOnUnknownJob, Rule::NoPanic),
        (Flaw::FloodsOnInput, Rule::NoPanic),
        (Flaw::RemembersEverything, Rule::Memory),
        (Flaw::ForgetsCalls, Rule::Answers),
        (Flaw::AnswersTwice, Rule::Answers),
        (Flaw::AnswersUnasked, Rule::Answers),
        (Flaw::ReusesDialIds, Rule::Answers),
        (Flaw::ReusesSendIds, Rule::Answers),
    ];
    for (flaw, rule) in flaws {
        let failure = match check(&Askers(flaw), &Plan::default()) {
            Err(failure) => failure,
            Ok(report) => panic!("{flaw:?} was not caught: {report:?}"),
        };
        assert_eq!(failure.rule, rule, "{flaw:?}: {failure:?}");
    }
}

#[test]
fn a_failure_names_the_rule_the_seed_and_the_step_and_comes_again() {
    let failure = check(&Askers(Flaw::AnswersTwice), &Plan::default()).unwrap_err();
    let text = format!("{failure:?}");
    assert!(text.starts_with("broken: rule 5 (commands answer), seed "), "{text}");
    assert!(text.contains("was used, answered or cancelled before: Answer"), "{text}");
    assert!(text.contains(&format!("Plan {{ seeds: {0}..={0}, .. }}", failure.seed)), "{text}");
    let last = text.lines().last().unwrap();
    assert!(last.contains(&failure.step.to_string()) && last.contains("Reply"), "{text}");
    let plan = Plan { seeds: failure.seed..=failure.seed, ..Plan::default() };
    assert_eq!(check(&Askers(Flaw::AnswersTwice), &plan), Err(failure));
}

#[test]
fn steps_can_be_given_by_hand() {
    let stranger = Step::Input(Input::Message { link: LinkId(9), message: Talk::Nonsense });
    let steps = [Step::Wait(Duration::from_secs(25)), Step::Command(Ask::Ask), Step::Early, stranger];
    let report = check_steps(&Askers(Flaw::None), 0, &steps).unwrap();
    assert_eq!((report.steps, report.timers), (4, 2));
    let failure = check_steps(&Askers(Flaw::PanicsOnUnknownLink), 0, &steps).unwrap_err();
    assert_eq!((failure.rule, failure.step), (Rule::NoPanic, 3));
    assert_eq!(failure.what, "panicked with: no such link");
}

/// A byte that is sent back, with a codec that has the flaw.
#[derive(Clone, Debug)]
struct Byte<const FLAW: u8>(u8);

const SOUND: u8 = 0;
const LIES_ABOUT_ITS_LENGTH: u8 = 1;
const CANNOT_BE_READ: u8 = 2;
const IS_READ_AS_ANOTHER: u8 = 3;
const PANICS_WHEN_DAMAGED: u8 = 4;

impl<const FLAW: u8> Message for Byte<FLAW> {
    fn encoded_len(&self) -> usize {
        if FLAW == LIES_ABOUT_ITS_LENGTH { 2 } else { 1 }
    }

    fn encode(&self, into: &mut BytesMut) {
        into.extend_from_slice(&[self.0]);
    }

    fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        match (FLAW, &bytes[..]) {
            (CANNOT_BE_READ, _) => Err(Malformed::new("byte", "it looks odd")),
            (IS_READ_AS_ANOTHER, [byte]) => Ok(Self(byte / 2)),
            (PANICS_WHEN_DAMAGED, _) => Ok(Self(bytes[0])),
            (_, [byte]) => Ok(Self(*byte)),
            _ => Err(Malformed::new("byte", format!("it has {} bytes", bytes.len()))),
        }
    }
}

struct Echo<M>(PhantomData<M>);

impl<M: Message> Machine for Echo<M> {
    type Message = M;
    type Event = ();
    type Answer = ();

    fn on_input(&mut self, _: Now, input: Input<M>, out: &mut OutboxOf<Self>) {
        if let Input::Message { link, message } = input {
            out.send(link, message);
        }
    }

    fn on_timer(&mut self, _: Now, _: &mut OutboxOf<Self>) {}

    fn deadline(&self) -> Option<Instant> {
        None
    }
}

struct Echoes<const FLAW: u8>;

impl<const FLAW: u8> Subject for Echoes<FLAW> {
    type Machine = Echo<Byte<FLAW>>;
    type Command = ();

    fn make(&self, _: Now, _: Seed) -> Self::Machine {
        Echo(PhantomData)
    }

    fn message(&self, rng: &mut Rng) -> Byte<FLAW> {
        Byte(rng.below(256) as u8)
    }

    fn command(&self, _: &mut Rng) -> Option<()> {
        None
    }

    fn run(&self, _: &mut Self::Machine, (): &(), _: Now, _: &mut OutboxOf<Self::Machine>) -> Asked {
        Asked::Done
    }

    fn held_bytes(&self, _: &Self::Machine) -> usize {
        0
    }

    fn worst_case_bytes(&self) -> usize {
        0
    }
}

#[test]
fn flaws_of_the_codec_are_caught() {
    let plan = Plan { seeds: 0..=3, steps: 200, ..Plan::default() };
    assert!(check(&Echoes::<SOUND>, &plan).unwrap().effects > 100);
    let rules = [
        check(&Echoes::<LIES_ABOUT_ITS_LENGTH>, &plan).unwrap_err().rule,
        check(&Echoes::<CANNOT_BE_READ>, &plan).unwrap_err().rule,
        check(&Echoes::<IS_READ_AS_ANOTHER>, &plan).unwrap_err().rule,
        check(&Echoes::<PANICS_WHEN_DAMAGED>, &plan).unwrap_err().rule,
    ];
    assert_eq!(rules, [Rule::Codec, Rule::Codec, Rule::Codec, Rule::NoPanic]);
}
