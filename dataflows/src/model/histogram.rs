//! Upper tails of fixed-bin histograms: how often was it at least this much?

use ndarray::{Array2, s};

/// One histogram per term: counts by (term, bin).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Histograms(Array2<u64>);

/// What a tail rests on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// Values in this bin or above.
    pub at_least: u64,
    /// All values.
    pub of: u64,
}

impl Histograms {
    pub(crate) fn new(terms: usize, bins: usize) -> Self {
        Self(Array2::zeros((terms, bins)))
    }

    /// Replaces `before` by `after` among the counts of a bin.
    pub(crate) fn change(&mut self, term: usize, bin: u32, before: u64, after: u64) {
        if let Some(count) = self.0.get_mut((term, bin as usize)) {
            *count = *count + after - before;
        }
    }

    pub(crate) fn tail(&self, term: usize, bin: u32) -> Tail {
        if term >= self.0.nrows() {
            return Tail::default();
        }
        let row = self.0.row(term);
        let sum = |from: usize| row.slice(s![from.min(row.len())..]).iter().sum::<u64>();
        Tail { at_least: sum(bin as usize), of: sum(0) }
    }
}
