//! The link to the broker: dialled, lost, dialled again.

use std::time::Duration;

use peerage_machine::{DialId, Effect, Instant, LinkId, LinkInfo, Target, Why};

use super::machine::{PartyMachine, State};
use crate::event::{Event, Out};
use crate::fit::is_enough;
use crate::packet::{Body, Lanes, Open, Packet};
use crate::status::Status;

/// How long the broker may take to answer an `Open`.
pub(super) const OPEN_WITHIN: Duration = Duration::from_secs(10);
/// A session that was open for so long does not count as a failure of its link.
const LASTS: Duration = Duration::from_secs(1);
/// As many failures as links that do not last count for, at most: 400 ms.
const SHORT: u32 = 3;

impl PartyMachine {
    pub(super) fn dial(&mut self, out: &mut Out) {
        let id = DialId(self.next_dial);
        self.next_dial += 1;
        let target = Target::Peer { peer: self.config.broker, addresses: self.config.addresses.clone() };
        out.dial(id, target);
        self.state = State::Dialing(id);
    }

    pub(super) fn dial_later(&mut self, now: Instant) {
        let doubled = self.config.redial_after.saturating_mul(1 << self.failures.min(16));
        let mut most = doubled.min(self.config.redial_at_most);
        if self.talk.is_some() {
            // Not so long that the session is lost for it.
            most = most.min(self.grace / 4);
        }
        let most = most.max(Duration::from_millis(1));
        self.failures = self.failures.saturating_add(1);
        // Between half of it and all, so that those whom one broker lost do not come back in step.
        let micros = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
        let wait = micros / 2 + self.rng.below(micros / 2 + 1);
        self.state = State::Away(now + Duration::from_micros(wait));
    }

    pub(super) fn on_up(&mut self, now: Instant, link: LinkId, info: LinkInfo, out: &mut Out) {
        if info.peer != self.config.broker {
            return;
        }
        self.up.insert(link, info);
        if matches!(self.state, State::Away(_) | State::Dialing(_)) {
            self.open(now, link, out);
        }
    }

    pub(super) fn open(&mut self, now: Instant, link: LinkId, out: &mut Out) {
        let Some(info) = self.up.get(&link).cloned() else { return };
        if let Err(status) = is_enough("the broker's", info.max_message) {
            // Asked again after a while: another start of the broker may take more.
            out.emit(Event::Refused(Box::new(status)));
            self.up.remove(&link);
            out.push(Effect::CloseChannel { link, why: Why::Unheld });
            self.failures = self.failures.max(1);
            return self.dial_later(now);
        }
        out.push(Effect::Hold(link));
        let body = match &self.config.enrol {
            Some(token) => Body::Enrol { token: token.clone() },
            None => Body::Open(Open {
                session: self.id,
                lanes: self.talk.as_ref().map_or_else(Lanes::default, |talk| talk.session.lanes()),
                groups: self.config.groups.clone(),
            }),
        };
        out.control(link, Packet::from(body));
        self.state = State::Opening { link, info: Box::new(info), until: now + OPEN_WITHIN };
    }

    pub(super) fn on_down(&mut self, now: Instant, link: LinkId, why: Why, out: &mut Out) {
        if self.up.remove(&link).is_none() {
            return;
        }
        match &self.state {
            State::Opening { link: at, .. } if *at == link => self.lose_link(now, why, out),
            State::Open(at) if *at == link => {
                // A link that does not last is not dialled again at once, over and over.
                let is_short = now.since(self.opened_at) < LASTS;
                self.failures = if is_short { self.failures.clamp(1, SHORT) } else { 0 };
                self.lose_link(now, why, out);
            }
            _ => {}
        }
    }

    pub(super) fn lose_link(&mut self, now: Instant, why: Why, out: &mut Out) {
        if let Some(talk) = &mut self.talk
            && talk.session.link().is_some()
        {
            talk.session.adrift();
            self.lost_at = Some(now + self.grace);
            out.emit(Event::Adrift { session: talk.key, why });
        } else if self.talk.is_none() {
            let status = Status::unavailable(format!("the broker opened no session: {why}"));
            out.emit(Event::Refused(Box::new(status)));
        }
        // Another link may have come up meanwhile.
        if let Some(link) = self.up.keys().next().copied() {
            return self.open(now, link, out);
        }
        if self.failures == 0 {
            self.failures = 1;
            self.dial(out);
        } else {
            self.dial_later(now);
        }
    }

    pub(super) fn let_go(&mut self, out: &mut Out) {
        for link in std::mem::take(&mut self.up).into_keys() {
            out.push(Effect::Release(link));
        }
    }
}
