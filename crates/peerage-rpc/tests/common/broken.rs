//! Machines that are wrong on purpose, to be caught.

use bytes::Bytes;
use peerage_machine::{Effect, Message as _, OutboxOf};
use peerage_rpc::{Event, Packet};
use peerage_wire::proto::rpc::v1 as proto;
use prost::Message as _;

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
                    let message = self.spoilt(&message);
                    out.push(Effect::SendOne { to, message, class });
                }
                effect => out.push(effect),
            }
        }
    }

    fn spoilt(&mut self, message: &Packet) -> Packet {
        let mut spoilt: Vec<_> =
            wire::read(message).into_iter().map(|packet| self.spoilt_one(packet)).collect();
        if spoilt.len() == 1 {
            return Packet::decode(spoilt.remove(0)).unwrap();
        }
        wire::packet(0, false, wire::several(spoilt))
    }

    fn spoilt_one(&mut self, packet: proto::Packet) -> Bytes {
        let proto::Packet { seq, bulk, body } = packet;
        let body = match body {
            Some(Body::Reply(_)) if self.wrong == Wrong::ForgetsReply && self.is_time() => {
                Some(Body::Cancel(proto::Cancel { call: 1 << 40 }))
            }
            Some(Body::Reply(reply)) if self.wrong == Wrong::AnswersTwice && self.is_time() => {
                Some(Body::Reply(proto::Reply { to: reply.to - 1, ..reply }))
            }
            Some(Body::Items(items)) if self.wrong == Wrong::Oversends && !bulk && self.is_time() => {
                Some(Body::Items(proto::Items { count: items.count + 100_000, ..items }))
            }
            body => body,
        };
        proto::Packet { seq, bulk, body }.encode_to_vec().into()
    }
}
