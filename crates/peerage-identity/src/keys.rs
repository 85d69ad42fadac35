//! The points that signers are named by, of those whose signatures were good lately: to find a point from its bytes takes a
//! twelfth of the time of a check.

use std::cell::RefCell;

use curve25519_dalek::edwards::EdwardsPoint;
use peerage_wire::PeerId;

/// Signers that a thread remembers at most, in places of four for each beginning of a key: 200 bytes each.
const SETS: usize = 64;
const PLACES: usize = 4;

/// One signer and its point.
type Known = (PeerId, EdwardsPoint);

/// Those whose keys begin alike, and which of them goes next.
#[derive(Default)]
struct Set {
    places: Vec<Known>,
    next: usize,
}

thread_local! {
    /// Where a key is found in it depends on the key alone, and what is found on nothing: who makes keys for the purpose
    /// makes others' be found the long way, for a good signature each time.
    static KNOWN: RefCell<Vec<Set>> = const { RefCell::new(Vec::new()) };
}

fn set_of(peer: &PeerId) -> usize {
    usize::from(peer.as_bytes()[0]) % SETS
}

/// The point of a signer that is remembered.
pub(crate) fn recall(peer: &PeerId) -> Option<EdwardsPoint> {
    KNOWN.with(|known| {
        let known = known.try_borrow().ok()?;
        let set = known.get(set_of(peer))?;
        set.places.iter().find(|(signer, _)| signer == peer).map(|(_, point)| *point)
    })
}

/// Remembers a signer whose signature was good.
pub(crate) fn remember(peer: &PeerId, point: &EdwardsPoint) {
    KNOWN.with(|known| {
        let Ok(mut known) = known.try_borrow_mut() else { return };
        if known.is_empty() {
            known.resize_with(SETS, Set::default);
        }
        let Some(set) = known.get_mut(set_of(peer)) else { return };
        if set.places.iter().any(|(signer, _)| signer == peer) {
            return;
        }
        if set.places.len() < PLACES {
            set.places.reserve_exact(1);
            set.places.push((*peer, *point));
        } else if let Some(place) = set.places.get_mut(set.next) {
            *place = (*peer, *point);
            set.next = (set.next + 1) % PLACES;
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::SignatureError;
    use crate::{Identity, verify};

    #[test]
    fn only_who_has_signed_is_remembered_and_no_more_than_there_are_places() {
        let alice = Identity::from_seed([1; 32]);
        let (peer, good) = (alice.peer_id(), alice.sign("test", b"good"));
        let forged = Err(SignatureError::Forged { peer });
        assert_eq!(verify(&peer, "test", b"bad", &good), forged);
        assert_eq!(recall(&peer), None);
        assert_eq!(verify(&peer, "test", b"good", &good), Ok(()));
        assert!(recall(&peer).is_some());
        assert_eq!(verify(&peer, "test", b"bad", &good), forged);
        assert_eq!(verify(&peer, "test", b"good", &good), Ok(()));
        for seed in 2..=u8::MAX {
            let other = Identity::from_seed([seed; 32]);
            assert_eq!(verify(&other.peer_id(), "test", b"", &other.sign("test", b"")), Ok(()));
            assert!(recall(&other.peer_id()).is_some());
        }
        let remembered = KNOWN.with(|known| known.borrow().iter().map(|set| set.places.len()).max());
        assert_eq!(remembered, Some(PLACES));
        assert_eq!(verify(&peer, "test", b"good", &good), Ok(()));
    }
}
