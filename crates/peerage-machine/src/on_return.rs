//! Peers that come back.

/// What an instance does with its link to a peer when that peer's key comes back with another incarnation: the peer
/// restarted, or a second program runs with its key. A choice of the instance, which its host carries out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnReturn {
    /// The newest link takes over; on the old one the instance ends as [`crate::Why::Superseded`], so that a
    /// restarted peer is not locked out behind its half-open ghost. An instance so has one link to a peer.
    #[default]
    Replace,
    /// Both stay, with an incarnation each: several sessions of one identity. The old link ends by itself: when the
    /// instance releases it, or as silent. Dials of the instance find the newest.
    Coexist,
}
