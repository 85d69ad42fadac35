//! Machines that are wrong on purpose, to be caught.

use peerage_machine::{Class, Effect, LinkId, OutboxOf};
use peerage_rpc::{Event, Packet};
use peerage_wire::proto::rpc::v1 as proto;

use super::Actor;
use super::wire::{self, Body};

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// It has a call run twice.
    RunsTwice,
    /// It has two messages of a stream in the wrong order.
    Swaps,
    /// It forgets a reply.
    ForgetsReply,
    /// It answers a call again, under another number.
    AnswersTwice,
    /// It sends more of a stream than it may.
    Oversends,
}

/// A machine's outbox is spoilt once, after it has been honest for a while.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) wrong: Wrong,
    pub(crate) after: u32,
    held: Option<Event>,
}

type EffectOf = Effect<Packet, Event, peerage_rpc::Answer>;

impl Broken {
    pub(crate) fn new(wrong: Wrong, after: u32) -> Self {
        Self { wrong, after, held: None }
    }

    fn is_time(&mut self) -> bool {
        self.after = self.after.wrapping_sub(1);
        self.after == 0
    }

    pub(crate) fn spoil(&mut self, out: &mut OutboxOf<Actor>) {
        let effects: Vec<EffectOf> = out.drain().collect();
        for effect in effects {
            match effect {
                Effect::Emit(Event::Run(run)) if self.wrong == Wrong::RunsTwice && self.is_time() => {
                    out.emit(Event::Run(run.clone()));
                    out.emit(Event::Run(run));
                }
                Effect::Emit(event @ Event::Data { .. }) if self.wrong == Wrong::Swaps => {
                    if self.is_time() {
                        self.held = Some(event);
                    } else {
                        out.emit(event);
                        self.held.take().into_iter().for_each(|held| out.emit(held));
                    }
                }
                Effect::SendOne { to, message, class } => {
                    let message = self.spoilt(to, message, class);
                    out.push(Effect::SendOne { to, message, class });
                }
                effect => out.push(effect),
            }
        }
    }

    fn spoilt(&mut self, _: LinkId, message: Packet, _: Class) -> Packet {
        let read = wire::read(&message);
        let body = match read.body {
            Some(Body::Reply(_)) if self.wrong == Wrong::ForgetsReply && self.is_time() => {
                Body::Cancel(proto::Cancel { call: 1 << 40 })
            }
            Some(Body::Reply(reply)) if self.wrong == Wrong::AnswersTwice && self.is_time() => {
                Body::Reply(proto::Reply { to: reply.to - 1, ..reply })
            }
            Some(Body::Items(items)) if self.wrong == Wrong::Oversends && !read.bulk && self.is_time() => {
                Body::Items(proto::Items { count: items.count + 100_000, ..items })
            }
            _ => return message,
        };
        wire::packet(read.seq, read.bulk, body)
    }
}
