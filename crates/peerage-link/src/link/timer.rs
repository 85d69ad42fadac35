//! What a link does when time goes by.

use peerage_machine::{Instant, Side, Why};
use peerage_wire::proto::link::v1 as proto;
use peerage_wire::proto::link::v1::control::Kind;

use super::{Link, Phase};
use crate::LinkEvent;
use crate::keep_alive::Due;

impl Link {
    /// The time has come, or not: pings, deadlines, silence.
    pub fn on_timer(&mut self, now: Instant) {
        match self.phase {
            Phase::Closed => {}
            Phase::Greeting(_) | Phase::Deciding | Phase::Admitted => {
                if now >= self.handshake_ends {
                    let after = self.config.handshake_timeout;
                    self.close(Why::TimedOut { what: "the handshake", after });
                }
            }
            Phase::Up => {
                self.outbound.refill(now);
                while let Some(channel) = self.closing.take_due(now) {
                    self.outbound.say_last_word(channel);
                    self.offer_rest();
                }
                if self.drain_ends.is_some_and(|at| now >= at) {
                    return self.close(Why::Unheld);
                }
                if self.unheld_at.is_some_and(|at| now >= at) {
                    self.unheld_at = None;
                    self.drain(Why::Unheld);
                    if self.ended {
                        return;
                    }
                    self.drain_ends = Some(now + self.config.silent_after);
                }
                self.inbound.at(now);
                if let Err(kept) = self.inbound.on_timer() {
                    let what = format!("memory that others wait for: {kept}");
                    return self.close(Why::Limit { by: Side::Us, what });
                }
                self.give_credit(false);
                let mut due = self.keep_alive.on_timer(now);
                if due == Due::Answered {
                    self.event(LinkEvent::Answered);
                    due = self.keep_alive.on_timer(now);
                }
                match due {
                    Due::Ping(nonce) => self.outbound.control(Kind::Ping(proto::Ping { nonce })),
                    Due::Silent(after) => self.close(Why::Silent { after }),
                    Due::Answered | Due::Nothing => {}
                    Due::Slow => {
                        let what = format!("{:?} for one record", self.config.record_timeout);
                        self.close(Why::Limit { by: Side::Us, what });
                    }
                }
            }
        }
    }

    /// When [`Link::on_timer`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Closed => None,
            Phase::Greeting(_) | Phase::Deciding | Phase::Admitted => Some(self.handshake_ends),
            Phase::Up => {
                let others = [
                    self.unheld_at,
                    self.drain_ends,
                    self.closing.deadline(),
                    self.outbound.resumes_at(),
                    self.inbound.deadline(),
                ];
                Some(others.into_iter().flatten().fold(self.keep_alive.deadline(), Instant::min))
            }
        }
    }
}
