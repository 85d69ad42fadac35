//! Whispers and results that come from peers: for us, or to be passed on.

use std::time::Duration;

use bytes::Bytes;
use peerage_machine::{Effect, JobId, LinkId, UnixMillis};

use super::{DELIVERED_DOMAIN, DOMAIN, Direct, Directory, Relay, Verifying, forward, result};
use crate::mesh::event::{MeshAnswer, MeshEvent};
use crate::mesh::links::Cx;
use crate::mesh::message::{MessageId, Signed};
use crate::mesh::packet::{MAX_WHISPER_HOPS, Outcome};
use crate::mesh::snapshot::MeshStats;

/// How long a relay waits for a result that it has to pass back.
const RELAY_FOR: Duration = Duration::from_secs(30);

impl Direct {
    pub(crate) fn on_whisper(&mut self, link: LinkId, message: Signed, hops: u32, cx: &mut Cx<'_>) {
        if message.network() != self.config.name.as_bytes() {
            return cx.fault(link, "a whisper of another mesh");
        }
        if message.body().len() as u64 > self.config.max_message {
            return cx.fault(link, "a whisper longer than the mesh's limit");
        }
        if self.is_stale(message.sent, cx.now.wall) {
            cx.out.count("mesh_stale_total", 1);
            return result(message.id, Outcome::NoRoute, link, cx);
        }
        let bytes = message.footprint();
        let (most, most_bytes) = self.config.verifying;
        let full = self.verifying.len() >= most || self.verifying_bytes + bytes > most_bytes;
        if full && !self.verifying.is_empty() {
            return result(message.id, Outcome::Busy, link, cx);
        }
        let job = cx.ids.job();
        self.verifying_bytes += bytes;
        cx.out.push(Effect::Verify {
            job,
            signer: message.id.origin,
            domain: DOMAIN,
            message: message.shared_body(),
            signature: message.signature(),
        });
        self.verifying.insert(job, Verifying::Whisper { link, message, hops });
    }

    fn is_stale(&self, sent: UnixMillis, now: UnixMillis) -> bool {
        u128::from(sent.0.abs_diff(now.0)) > self.config.stale_after.as_millis()
    }

    pub(crate) fn on_result(
        &mut self,
        link: LinkId,
        id: MessageId,
        outcome: Outcome,
        directory: &impl Directory,
        cx: &mut Cx<'_>,
    ) {
        if id.origin != self.me || id.epoch != self.epoch {
            if self.relays.peek(&id).is_some_and(|relay| relay.to == link)
                && let Some(relay) = self.relays.remove(&id)
            {
                result(id, outcome, relay.back, cx);
            }
            return;
        }
        let Some(call) = self.by_seq.get(&id.seq).copied() else { return };
        let Some(state) = self.calls.get(&call) else { return };
        match outcome {
            Outcome::Delivered(signature) => {
                if self.verifying.len() < self.config.verifying.0 {
                    let job = cx.ids.job();
                    cx.out.push(Effect::Verify {
                        job,
                        signer: state.target,
                        domain: DELIVERED_DOMAIN,
                        message: Bytes::copy_from_slice(&state.message.signature()),
                        signature,
                    });
                    self.verifying.insert(job, Verifying::Delivered { link, id });
                }
            }
            Outcome::NoRoute | Outcome::Busy => {
                // Only the way that is being tried can fail.
                if self.calls_by(link).contains(&call) {
                    if let Some(state) = self.calls.get_mut(&call) {
                        state.full |= outcome == Outcome::Busy;
                    }
                    self.advance(call, directory, cx);
                }
            }
        }
    }

    /// Whether the job was one of ours.
    pub(crate) fn verified(
        &mut self,
        job: JobId,
        valid: bool,
        stats: &mut MeshStats,
        cx: &mut Cx<'_>,
    ) -> bool {
        match self.verifying.remove(&job) {
            None => return false,
            Some(Verifying::Whisper { link, message, hops }) => {
                self.verifying_bytes = self.verifying_bytes.saturating_sub(message.footprint());
                if valid {
                    self.genuine(link, message, hops, stats, cx);
                } else {
                    cx.fault(link, "a whisper with a wrong signature");
                }
            }
            Some(Verifying::Delivered { link, id }) => {
                if !valid {
                    // Whoever passed it on cannot know whose lie it is, and is not charged.
                    cx.out.count("mesh_forged_results_total", 1);
                } else if let Some(call) = self.by_seq.get(&id.seq).copied() {
                    if let Some(state) = self.close(call, cx) {
                        self.learn(state.target, link);
                    }
                    cx.out.answer(call, MeshAnswer::Whispered(Ok(())));
                }
            }
        }
        true
    }

    fn genuine(&mut self, link: LinkId, message: Signed, hops: u32, stats: &mut MeshStats, cx: &mut Cx<'_>) {
        let id = message.id;
        self.learn(id.origin, link);
        if message.target.as_deref() == Some(&self.me) {
            // Its sender may not have had our confirmation, and sends it again.
            if self.delivered.peek(&id).is_none() {
                self.delivered.insert(id, ());
                stats.whispers_delivered += 1;
                cx.out.emit(MeshEvent::Message(message.deliver(hops)));
            }
            let signature = self.identity.sign(DELIVERED_DOMAIN, &message.signature());
            return result(id, Outcome::Delivered(signature), link, cx);
        }
        self.relay(link, message, hops, stats, cx);
    }

    fn relay(&mut self, link: LinkId, message: Signed, hops: u32, stats: &mut MeshStats, cx: &mut Cx<'_>) {
        let (id, now) = (message.id, cx.now.mono);
        while self.relays.oldest().is_some_and(|(_, relay)| relay.until <= now) {
            self.relays.pop_oldest();
        }
        let looped = self.relays.peek(&id).is_some_and(|relay| relay.back != link);
        let Some(target) = message.target.as_deref().copied() else { return };
        let route = || self.routes.peek(&target).copied().filter(|link| cx.links.get(*link).is_some());
        let next = cx.links.to(&target).or_else(route).filter(|next| *next != link);
        let Some(next) = next.filter(|_| !looped && hops < MAX_WHISPER_HOPS && id.origin != self.me) else {
            return result(id, Outcome::NoRoute, link, cx);
        };
        if forward(message, hops + 1, next, cx) {
            stats.whispers_relayed += 1;
            self.relays.insert(id, Relay { back: link, to: next, until: now + RELAY_FOR });
        } else {
            result(id, Outcome::Busy, link, cx);
        }
    }
}
