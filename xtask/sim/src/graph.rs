//! Who is connected with whom, and how far apart.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

/// Nodes by number, each with those that it may send to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Graph {
    /// Where the neighbours of each node begin.
    starts: Vec<u32>,
    to: Vec<u32>,
}

impl Graph {
    /// Of `count` nodes whose neighbours these are.
    pub(crate) fn new(count: usize, mut neighbours: impl FnMut(usize, &mut Vec<u32>)) -> Self {
        let (mut starts, mut to) = (Vec::with_capacity(count + 1), Vec::new());
        for node in 0..count {
            starts.push(to.len() as u32);
            neighbours(node, &mut to);
        }
        starts.push(to.len() as u32);
        Self { starts, to }
    }

    pub(crate) fn neighbours(&self, node: usize) -> &[u32] {
        let (Some(from), Some(to)) = (self.starts.get(node), self.starts.get(node + 1)) else { return &[] };
        self.to.get(*from as usize..*to as usize).unwrap_or(&[])
    }

    pub(crate) fn len(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    /// Only what both ends have.
    pub(crate) fn mutual(&self) -> Self {
        Self::new(self.len(), |node, to| {
            let both = |other: &&u32| self.neighbours(**other as usize).contains(&(node as u32));
            to.extend(self.neighbours(node).iter().filter(both));
        })
    }

    /// How many hops a flood from this node takes to the last that it reaches: 1 to its neighbours.
    pub(crate) fn eccentricity(&self, from: usize) -> u32 {
        self.visit(from, &mut vec![false; self.len()]).1
    }

    /// How long a flood from this node takes to each other one that it reaches, where a link takes as long as this says.
    pub(crate) fn flood(&self, from: u32, latency: impl Fn(u32, u32) -> Duration) -> BTreeMap<u32, Duration> {
        let mut reached = BTreeMap::new();
        let mut next = BinaryHeap::from([Reverse((Duration::ZERO, from))]);
        while let Some(Reverse((after, node))) = next.pop() {
            if reached.contains_key(&node) {
                continue;
            }
            reached.insert(node, after);
            let others = self.neighbours(node as usize).iter();
            next.extend(others.map(|other| Reverse((after + latency(node, *other), *other))));
        }
        reached.remove(&from);
        reached
    }

    /// How many nodes the largest component has.
    pub(crate) fn largest_component(&self) -> usize {
        let mut seen = vec![false; self.len()];
        let mut largest = 0;
        for node in 0..self.len() {
            if seen.get(node) == Some(&false) {
                largest = largest.max(self.visit(node, &mut seen).0);
            }
        }
        largest
    }

    /// All that can be reached and was not seen: how many, and how many hops away the last.
    fn visit(&self, from: usize, seen: &mut [bool]) -> (usize, u32) {
        let mut mark =
            |node: u32| seen.get_mut(node as usize).is_some_and(|seen| !std::mem::replace(seen, true));
        mark(from as u32);
        let (mut edge, mut count, mut hops) = (vec![from as u32], 1, 0);
        loop {
            let mut next = Vec::new();
            for node in edge {
                next.extend(self.neighbours(node as usize).iter().copied().filter(|other| mark(*other)));
            }
            if next.is_empty() {
                return (count, hops);
            }
            count += next.len();
            hops += 1;
            edge = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[&[u32]]) -> Graph {
        Graph::new(edges.len(), |node, to| to.extend_from_slice(edges[node]))
    }

    #[test]
    fn a_line_is_as_long_as_it_is() {
        let line = graph(&[&[1], &[0, 2], &[1, 3], &[2]]);
        assert_eq!((line.eccentricity(0), line.eccentricity(1)), (3, 2));
        assert_eq!(line.largest_component(), 4);
    }

    #[test]
    fn a_flood_takes_the_quickest_way_and_not_the_shortest() {
        let ring = graph(&[&[1, 3], &[0, 2], &[1, 3], &[0, 2], &[]]);
        let slow =
            |a: u32, b: u32| Duration::from_millis(if (a.min(b), a.max(b)) == (0, 3) { 40 } else { 10 });
        let took: Vec<(u32, u128)> =
            ring.flood(0, slow).into_iter().map(|(node, after)| (node, after.as_millis())).collect();
        assert_eq!(took, [(1, 10), (2, 20), (3, 30)]);
    }

    #[test]
    fn one_sided_neighbours_do_not_count_as_connected() {
        let graph = graph(&[&[1, 2], &[0], &[]]);
        assert_eq!(graph.largest_component(), 3);
        assert_eq!(graph.mutual().largest_component(), 2);
    }
}
