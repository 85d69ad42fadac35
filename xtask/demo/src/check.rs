//! Did every line reach everybody: all of them, in full, none twice.

use crate::protocol::{Record, hash};

/// The lines that were sent, as they must arrive.
pub(crate) struct Expected {
    lines: Vec<(usize, String)>,
}

impl Expected {
    /// Of these lines.
    pub(crate) fn new(lines: &[Vec<u8>]) -> Self {
        Self { lines: lines.iter().map(|line| (line.len(), hash(line))).collect() }
    }

    /// How many lines there are.
    pub(crate) const fn len(&self) -> usize {
        self.lines.len()
    }

    /// How long each line is.
    pub(crate) fn lengths(&self) -> impl Iterator<Item = usize> {
        self.lines.iter().map(|(length, _)| *length)
    }

    /// Compares what one peer received.
    pub(crate) fn compare(&self, records: &[Record]) -> Comparison {
        let mut times = vec![0_u32; self.lines.len()];
        let mut comparison = Comparison::default();
        let mut highest = 0;
        for record in records {
            let place = record.place();
            let (Some((length, hash)), Some(times)) = (self.lines.get(place), times.get_mut(place)) else {
                comparison.unknown.push(record.index);
                continue;
            };
            *times += 1;
            if record.length != *length || record.hash != *hash {
                comparison.changed.push(record.index);
            }
            if *times == 2 {
                comparison.twice.push(record.index);
            }
            if record.index < highest {
                comparison.overtaken += 1;
            }
            highest = highest.max(record.index);
        }
        let lacking = times.iter().zip(0_u32..).filter(|(times, _)| **times == 0);
        comparison.lacking = lacking.map(|(_, index)| index).collect();
        comparison
    }
}

/// What is wrong with the lines of one peer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Comparison {
    /// Lines that did not arrive.
    pub(crate) lacking: Vec<u32>,
    /// Lines that arrived with other bytes.
    pub(crate) changed: Vec<u32>,
    /// Lines that arrived more than once.
    pub(crate) twice: Vec<u32>,
    /// Lines that nobody sent.
    pub(crate) unknown: Vec<u32>,
    /// Lines that arrived after a later one. Not wrong: a mesh promises everything and everybody, no order.
    pub(crate) overtaken: usize,
}

/// The first few of many.
pub(crate) fn few(indices: &[u32]) -> String {
    const SHOWN: usize = 5;
    let mut text =
        indices.iter().take(SHOWN).map(|index| (index + 1).to_string()).collect::<Vec<_>>().join(", ");
    if indices.len() > SHOWN {
        text.push_str(", …");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines() -> Vec<Vec<u8>> {
        ["down", "the", "", "rabbit-hole"].iter().map(|line| line.as_bytes().to_vec()).collect()
    }

    fn arrive(order: &[u32]) -> Vec<Record> {
        let lines = lines();
        order
            .iter()
            .map(|index| Record::new(*index, lines.get(*index as usize).map_or(b"?", Vec::as_slice), 0, 0))
            .collect()
    }

    #[test]
    fn all_lines_once_in_any_order_are_right() {
        let comparison = Expected::new(&lines()).compare(&arrive(&[0, 2, 1, 3]));
        assert_eq!(comparison, Comparison { overtaken: 1, ..Comparison::default() });
    }

    #[test]
    fn a_missing_line_is_found() {
        assert_eq!(Expected::new(&lines()).compare(&arrive(&[0, 1, 3])).lacking, [2]);
    }

    #[test]
    fn a_line_that_came_thrice_is_named_once() {
        assert_eq!(Expected::new(&lines()).compare(&arrive(&[0, 1, 1, 1, 2, 3])).twice, [1]);
    }

    #[test]
    fn a_changed_byte_and_a_cut_line_are_found() {
        let mut records = arrive(&[0, 1, 2, 3]);
        records[1] = Record::new(1, b"tHe", 0, 0);
        records[3] = Record::new(3, b"rabbit", 0, 0);
        assert_eq!(Expected::new(&lines()).compare(&records).changed, [1, 3]);
    }

    #[test]
    fn a_line_that_nobody_sent_is_found() {
        assert_eq!(Expected::new(&lines()).compare(&arrive(&[0, 1, 2, 3, 9])).unknown, [9]);
    }

    #[test]
    fn many_lines_are_cut_and_counted_from_one() {
        assert_eq!(few(&[0, 1]), "1, 2");
        assert_eq!(few(&[0, 1, 2, 3, 4, 5]), "1, 2, 3, 4, 5, …");
    }
}
