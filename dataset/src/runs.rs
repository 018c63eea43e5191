//! Sets of numbers that come in runs, such as the rows of a plan that are published: what is kept
//! grows with the gaps between them and not with their count.

use std::collections::BTreeMap;

/// A set of numbers as runs that neither touch nor overlap: the end of each by its start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Runs(BTreeMap<u64, u64>);

impl Runs {
    /// Whether the set has one of the numbers from `start` to before `end`.
    pub(crate) fn meets(&self, start: u64, end: u64) -> bool {
        start < end
            && self
                .0
                .range(..end)
                .next_back()
                .is_some_and(|(_, &run_end)| run_end > start)
    }

    /// Adds the numbers from `start` to before `end`.
    pub(crate) fn insert(&mut self, mut start: u64, mut end: u64) {
        if start >= end {
            return;
        }
        // Of the runs that begin before the new end, those that reach its start are joined to it.
        while let Some((&run_start, &run_end)) = self.0.range(..=end).next_back()
            && run_end >= start
        {
            start = start.min(run_start);
            end = end.max(run_end);
            self.0.remove(&run_start);
        }
        self.0.insert(start, end);
    }

    /// How many runs there are.
    pub(crate) fn n_runs(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn runs_hold_what_was_inserted_and_never_touch(
            inserted in prop::collection::vec((0_u64..60, 0_u64..9), 0..30),
            asked in (0_u64..70, 0_u64..9),
        ) {
            let (mut runs, mut numbers) = (Runs::default(), BTreeSet::new());
            for &(start, n) in &inserted {
                runs.insert(start, start + n);
                numbers.extend(start..start + n);
            }
            let (start, n) = asked;
            let is_met = (start..start + n).any(|number| numbers.contains(&number));
            prop_assert_eq!(runs.meets(start, start + n), is_met);
            let held: u64 = runs.0.iter().map(|(start, end)| end - start).sum();
            prop_assert_eq!(held, numbers.len() as u64);
            let runs: Vec<(u64, u64)> = runs.0.into_iter().collect();
            prop_assert!(runs.windows(2).all(|pair| pair[0].1 < pair[1].0));
        }
    }
}
