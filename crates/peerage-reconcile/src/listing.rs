//! Sends a set's short ids outright, a message at a time.

use crate::encoder::Encoder;
use crate::message::Message;
use crate::short::ShortId;

/// A set and where its next list begins.
#[derive(Clone, Debug)]
pub(crate) struct Lister {
    set: Encoder,
    next: Option<ShortId>,
    per_message: usize,
}

impl Lister {
    pub(crate) const fn new(set: Encoder, per_message: usize) -> Self {
        Self { set, next: Some(ShortId(0)), per_message }
    }

    pub(crate) const fn set(&self) -> &Encoder {
        &self.set
    }

    pub(crate) const fn set_mut(&mut self) -> &mut Encoder {
        &mut self.set
    }

    /// Whether the last list was made.
    pub(crate) const fn is_through(&self) -> bool {
        self.next.is_none()
    }

    /// The next list. The last one goes through the last id that there may be.
    pub(crate) fn next(&mut self) -> Option<Message> {
        let mut left = self.set.from(self.next?);
        let ids: Vec<_> = left.by_ref().take(self.per_message).collect();
        let after = left.next();
        drop(left);
        let through = match (after, ids.last()) {
            (Some(_), Some(last)) => *last,
            _ => ShortId(u64::MAX),
        };
        self.set.count(ids.len());
        self.next = through.0.checked_add(1).map(ShortId);
        Some(Message::List { ids, through })
    }
}
