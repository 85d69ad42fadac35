//! What is known of what an origin says: what has come, by whom, and who would bring it sooner.

use peerage_machine::{Instant, LinkId};

use super::ranges::Seen;

/// What one of these takes in memory, beside its ranges: two keys, four former parents, and its
/// places here and in the window.
pub(crate) const STREAM_BYTES: usize = 480;

/// What is known of one start of an origin.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) seen: Seen,
    /// Who feeds us: the neighbour that pushes its messages to us.
    pub(crate) from: Option<LinkId>,
    /// When it last did, or was asked to.
    pub(crate) fed: Instant,
    /// How far we are from the origin by that way.
    pub(crate) hops: u32,
    /// How far those that we push to believe that is.
    pub(crate) told: u32,
    pub(crate) optimised: Option<Instant>,
    /// When the parent pushed something new last, and the latest that it did.
    pub(crate) pushes: Instant,
    pub(crate) pushed: u64,
    /// When its last message came.
    pub(crate) heard: Instant,
    /// Who is nearer to the origin than our parent, by its last message, and how far we would be by that.
    pub(crate) better: Option<(LinkId, u32)>,
    /// Who would do in place of the parent: by it we would be no farther from the origin.
    pub(crate) second: Option<(LinkId, u32)>,
    /// Who is to show that it pushes before it takes the parent's place.
    pub(crate) trial: Option<Box<Trial>>,
    /// Parents that others took the place of and that were not told, because they push until the others do.
    pub(crate) replaced: Vec<LinkId>,
}

impl Stream {
    /// This neighbour is the parent from now on. What the one before it pushed tells nothing of this one.
    pub(crate) fn begins(&mut self, parent: LinkId) {
        if self.from != Some(parent) {
            self.pushed = 0;
        }
        self.from = Some(parent);
    }
}

impl Default for Stream {
    fn default() -> Self {
        Self {
            seen: Seen::default(),
            from: None,
            fed: Instant::START,
            hops: 0,
            told: 0,
            optimised: None,
            pushes: Instant::START,
            pushed: 0,
            heard: Instant::START,
            better: None,
            second: None,
            trial: None,
            replaced: Vec::new(),
        }
    }
}

/// A neighbour that says it is nearer to an origin than our parent, and was asked to push as well.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trial {
    pub(crate) link: LinkId,
    pub(crate) hops: u32,
    pub(crate) since: Instant,
}
