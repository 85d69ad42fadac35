//! What is known of a few links, in one small piece of memory: of hundreds of trees with five sets each, nodes of maps,
//! each with room for eleven, were most of what they took.

use peerage_machine::LinkId;

/// A value for each of some links, in the order of the links. Few: to add one moves those behind it.
#[derive(Clone, Debug)]
pub(crate) struct Few<V>(Vec<(LinkId, V)>);

/// Some links.
pub(crate) type Links = Few<()>;

impl<V> Default for Few<V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<V> Few<V> {
    fn find(&self, link: LinkId) -> Result<usize, usize> {
        self.0.binary_search_by_key(&link, |(link, _)| *link)
    }

    pub(crate) fn get(&self, link: LinkId) -> Option<&V> {
        self.0.get(self.find(link).ok()?).map(|(_, value)| value)
    }

    pub(crate) fn get_mut(&mut self, link: LinkId) -> Option<&mut V> {
        let at = self.find(link).ok()?;
        self.0.get_mut(at).map(|(_, value)| value)
    }

    pub(crate) fn contains(&self, link: LinkId) -> bool {
        self.find(link).is_ok()
    }

    /// The link's value, this one when it had none.
    pub(crate) fn get_or(&mut self, link: LinkId, value: V) -> &mut V {
        let at = match self.find(link) {
            Ok(at) => at,
            Err(at) => {
                if self.0.len() == self.0.capacity() {
                    self.0.reserve_exact(2);
                }
                self.0.insert(at, (link, value));
                at
            }
        };
        #[expect(clippy::indexing_slicing, reason = "it was found or put there just now")]
        &mut self.0[at].1
    }

    /// Sets the link's value.
    pub(crate) fn insert(&mut self, link: LinkId, value: V)
    where
        V: Copy,
    {
        *self.get_or(link, value) = value;
    }

    pub(crate) fn remove(&mut self, link: LinkId) {
        if let Ok(at) = self.find(link) {
            self.0.remove(at);
        }
    }

    pub(crate) fn retain(&mut self, mut keep: impl FnMut(LinkId) -> bool) {
        self.0.retain(|(link, _)| keep(*link));
    }

    /// In ascending order.
    pub(crate) fn links(&self) -> impl Iterator<Item = LinkId> {
        self.0.iter().map(|(link, _)| *link)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<LinkId> for Links {
    fn from_iter<I: IntoIterator<Item = LinkId>>(links: I) -> Self {
        let mut few = Self::default();
        links.into_iter().for_each(|link| few.insert(link, ()));
        few
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_whatever_the_order_in_which_they_came_and_went() {
        let mut few = Few::default();
        for (link, value) in [(5, 'a'), (1, 'b'), (9, 'c'), (5, 'd')] {
            few.insert(LinkId(link), value);
        }
        assert_eq!(few.links().collect::<Vec<_>>(), [LinkId(1), LinkId(5), LinkId(9)]);
        assert_eq!((few.get(LinkId(5)), few.get(LinkId(4))), (Some(&'d'), None));
        assert_eq!(*few.get_or(LinkId(9), 'x'), 'c');
        assert_eq!(*few.get_or(LinkId(7), 'x'), 'x');
        few.remove(LinkId(5));
        few.remove(LinkId(6));
        few.retain(|link| link != LinkId(1));
        assert_eq!((few.len(), few.contains(LinkId(5)), few.is_empty()), (2, false, false));
        let links: Links = [LinkId(2), LinkId(1), LinkId(2)].into_iter().collect();
        assert_eq!(links.links().collect::<Vec<_>>(), [LinkId(1), LinkId(2)]);
    }
}
