//! Upper tails of fixed-bin histograms: how often was it at least this much?

use ndarray::Array2;

/// Bins of a block: a tail adds up the rest of one block to what is kept of the blocks after it.
const BLOCK: usize = 32;

/// One histogram per term: counts by (term, bin), and by (term, block) how many are in this block or in one above. A
/// tail is read at every decision, cold; it should touch few lines of memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Histograms {
    counts: Array2<u64>,
    /// One more than there are blocks: nothing is above the last.
    from_block: Array2<u64>,
}

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
        Self { counts: Array2::zeros((terms, bins)), from_block: Array2::zeros((terms, bins.div_ceil(BLOCK) + 1)) }
    }

    /// Replaces `before` by `after` among the counts of a bin.
    pub(crate) fn change(&mut self, term: usize, bin: u32, before: u64, after: u64) {
        let bin = bin as usize;
        let Some(count) = self.counts.get_mut((term, bin)) else { return };
        *count = *count + after - before;
        for from_block in self.from_block.row_mut(term).iter_mut().take(bin / BLOCK + 1) {
            *from_block = *from_block + after - before;
        }
    }

    pub(crate) fn tail(&self, term: usize, bin: u32) -> Tail {
        let (Some(counts), Some(from_block)) = (row(&self.counts, term), row(&self.from_block, term)) else {
            return Tail::default();
        };
        let bin = (bin as usize).min(counts.len());
        let next = bin.div_ceil(BLOCK);
        let rest: u64 = counts[bin..(next * BLOCK).min(counts.len())].iter().sum();
        Tail { at_least: rest + from_block[next], of: from_block[0] }
    }
}

/// A term's row as a slice: adding up a slice costs a fraction of what a view costs.
fn row(of: &Array2<u64>, term: usize) -> Option<&[u64]> {
    let width = of.ncols();
    of.as_slice()?.get(term * width..(term + 1) * width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_is_the_sum_of_its_bins() {
        let bins = 100;
        let mut histograms = Histograms::new(2, bins);
        let counts: Vec<u64> = (0..bins as u64).map(|bin| bin * 7 % 11).collect();
        for (bin, count) in (0..).zip(&counts) {
            histograms.change(1, bin, 0, count + 3);
            histograms.change(1, bin, count + 3, *count);
        }
        for bin in 0..=bins {
            let expect = Tail { at_least: counts[bin..].iter().sum(), of: counts.iter().sum() };
            assert_eq!(histograms.tail(1, bin as u32), expect, "bin {bin}");
        }
        assert_eq!(histograms.tail(1, 5_000).at_least, 0);
        assert_eq!(histograms.tail(0, 0), Tail::default());
        assert_eq!(histograms.tail(2, 0), Tail::default(), "no such term");
    }
}
