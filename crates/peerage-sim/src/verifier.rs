//! How checks of signatures end.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use peerage_wire::PeerId;

/// How many verdicts [`Verifier::remembering`] remembers.
const REMEMBERED: usize = 4096;

/// How [`peerage_machine::Effect::Verify`] ends.
#[derive(Clone, Default)]
pub enum Verifier {
    /// Every signature is good: for simulations that are not about forgery, and fast.
    #[default]
    AlwaysValid,
    /// Whatever this says of (signer, domain, message, signature).
    By(Arc<Judge>),
}

/// Says whether a signature by the signer, in the domain, over the message is good.
pub type Judge = dyn Fn(&PeerId, &str, &[u8], &[u8; 64]) -> bool + Send + Sync;

impl Verifier {
    /// Whatever `judge` says.
    pub fn by(judge: impl Fn(&PeerId, &str, &[u8], &[u8; 64]) -> bool + Send + Sync + 'static) -> Self {
        Self::By(Arc::new(judge))
    }

    /// Whatever `judge` says, who is asked once about each of the last 4,096 different signatures. A broadcast is
    /// checked by ten thousand peers and costs one check; a forgery is found as surely as by asking each time, because
    /// a verdict is only for the very same signer, domain, message and signature.
    pub fn remembering(
        judge: impl Fn(&PeerId, &str, &[u8], &[u8; 64]) -> bool + Send + Sync + 'static,
    ) -> Self {
        let memory = Mutex::new(Memory::default());
        Self::by(move |signer, domain, message, signature| {
            let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
            memory.recall(signer, domain, message, signature).unwrap_or_else(|| {
                let valid = judge(signer, domain, message, signature);
                memory.remember(
                    *signature,
                    Verdict { signer: *signer, domain: domain.into(), message: message.into(), valid },
                );
                valid
            })
        })
    }
}

struct Verdict {
    signer: PeerId,
    domain: Box<str>,
    message: Box<[u8]>,
    valid: bool,
}

#[derive(Default)]
struct Memory {
    verdicts: BTreeMap<[u8; 64], Verdict>,
    order: VecDeque<[u8; 64]>,
}

impl Memory {
    fn recall(&self, signer: &PeerId, domain: &str, message: &[u8], signature: &[u8; 64]) -> Option<bool> {
        let verdict = self.verdicts.get(signature)?;
        let same = verdict.signer == *signer && *verdict.domain == *domain && *verdict.message == *message;
        same.then_some(verdict.valid)
    }

    /// The newest verdict on a signature replaces another one on the same.
    fn remember(&mut self, signature: [u8; 64], verdict: Verdict) {
        if self.verdicts.insert(signature, verdict).is_none() {
            self.order.push_back(signature);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.verdicts.remove(&oldest);
        }
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AlwaysValid => "AlwaysValid",
            Self::By(_) => "By(…)",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::peer;

    #[test]
    fn a_verdict_is_remembered_for_the_very_same_question_only() {
        let asked = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&asked);
        let verifier = Verifier::remembering(move |signer, domain, message, _| {
            count.fetch_add(1, Ordering::Relaxed);
            *signer == peer(1) && domain == "d" && message == b"genuine"
        });
        let Verifier::By(judge) = verifier else { panic!("it judges") };
        let signature = [7; 64];
        assert!(judge(&peer(1), "d", b"genuine", &signature));
        assert!(judge(&peer(1), "d", b"genuine", &signature));
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        assert!(!judge(&peer(1), "d", b"altered", &signature));
        assert!(!judge(&peer(2), "d", b"genuine", &signature));
        assert!(!judge(&peer(1), "e", b"genuine", &signature));
        assert!(judge(&peer(1), "d", b"genuine", &signature));
        assert_eq!(asked.load(Ordering::Relaxed), 5);
    }
}
