//! A set of sequence numbers, kept as ranges: small as long as the numbers are nearly consecutive, which those of one
//! subject are.
//!
//! Used on the gateway for what the hub was found to hold, and at the hub for what has been received. Pure; owned by
//! whoever holds it. It has no bound of its own: its size is the number of holes, which its users bound.

use std::collections::BTreeMap;

/// Sequence numbers as disjoint, non-adjacent ranges.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SeqSet {
    /// First to last, both included.
    ranges: BTreeMap<u64, u64>,
}

// === impl SeqSet ===

impl SeqSet {
    /// The empty set.
    pub fn new() -> SeqSet {
        SeqSet::default()
    }

    /// Whether `seq` is in the set.
    pub fn contains(&self, seq: u64) -> bool {
        self.ranges.range(..=seq).next_back().is_some_and(|(_, &last)| last >= seq)
    }

    /// Adds `seq`; `false` if it was there already.
    pub fn insert(&mut self, seq: u64) -> bool {
        if self.contains(seq) {
            return false;
        }
        self.insert_range(seq, seq);
        true
    }

    /// Adds every number from `first` to `last`, both included.
    pub fn insert_range(&mut self, first: u64, last: u64) {
        assert!(first <= last, "a range runs upwards");
        let (mut first, mut last) = (first, last);
        if let Some((&before, &end)) = self.ranges.range(..first).next_back()
            && end.saturating_add(1) >= first
        {
            first = before;
        }
        let touched: Vec<u64> =
            self.ranges.range(first..=last.saturating_add(1)).map(|(&start, _)| start).collect();
        for start in touched {
            let end = self.ranges.remove(&start).expect("the key was read from this map");
            last = last.max(end);
        }
        self.ranges.insert(first, last);
    }

    /// Takes `seq` out; `false` if it was not there.
    pub fn remove(&mut self, seq: u64) -> bool {
        let Some((&first, &last)) = self.ranges.range(..=seq).next_back().filter(|(_, last)| **last >= seq)
        else {
            return false;
        };
        self.ranges.remove(&first);
        if first < seq {
            self.ranges.insert(first, seq - 1);
        }
        if seq < last {
            self.ranges.insert(seq + 1, last);
        }
        true
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// How many numbers are in it.
    pub fn count(&self) -> u64 {
        self.ranges.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// The largest number.
    pub fn last(&self) -> Option<u64> {
        self.ranges.last_key_value().map(|(_, &last)| last)
    }

    /// The ranges in order, first and last both included.
    pub fn ranges(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.ranges.iter().map(|(&first, &last)| (first, last))
    }

    /// The ranges from 1 up to the largest number that are not in the set.
    pub fn holes(&self) -> Vec<(u64, u64)> {
        let mut holes = Vec::new();
        let mut expected = 1;
        for (first, last) in self.ranges() {
            if first > expected {
                holes.push((expected, first - 1));
            }
            expected = last.saturating_add(1);
        }
        holes
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::SeqSet;

    proptest! {
        // Goal: the ranges mean the same as a plain set. Method: random insertions and removals against BTreeSet.
        #[test]
        fn ranges_agree_with_a_plain_set(steps in prop::collection::vec((any::<bool>(), 1u64..40), 0..120)) {
            let mut set = SeqSet::new();
            let mut model = BTreeSet::new();
            for (add, seq) in steps {
                if add {
                    prop_assert_eq!(set.insert(seq), model.insert(seq));
                } else {
                    prop_assert_eq!(set.remove(seq), model.remove(&seq));
                }
                prop_assert_eq!(set.count(), model.len() as u64);
                prop_assert_eq!(set.last(), model.last().copied());
                prop_assert_eq!(set.is_empty(), model.is_empty());
                for seq in 0..42 {
                    prop_assert_eq!(set.contains(seq), model.contains(&seq));
                }
                let ranges: Vec<_> = set.ranges().collect();
                prop_assert!(ranges.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
            }
            let missing: u64 = set.holes().iter().map(|(first, last)| last - first + 1).sum();
            prop_assert_eq!(missing, set.last().unwrap_or(0) - set.count());
        }
    }

    // Goal: the edges of the number space do not overflow. Method: insert 0 and the largest numbers.
    #[test]
    fn the_largest_numbers_fit() {
        let mut set = SeqSet::new();
        assert!(set.insert(u64::MAX));
        assert!(set.insert(u64::MAX - 1));
        assert!(set.insert(0));
        assert!(!set.insert(u64::MAX));
        assert_eq!(set.ranges().collect::<Vec<_>>(), [(0, 0), (u64::MAX - 1, u64::MAX)]);
    }
}
