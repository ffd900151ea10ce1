//! What is counted apart: latencies as a DDSketch (Masson et al., VLDB 2019), tools and argument shapes by a hash of
//! theirs (linear counting, Whang et al., TODS 1990). All are counts by bin, so that adding merges and subtracting
//! retracts, exactly; of what is counted how often nothing but its bin is kept.
//!
//! Bounds: a latency in microseconds has one of some 2,200 bins, a tool and a shape one of [`HASHED`] each.

use std::cmp::Ordering;

use differential_dataflow::difference::{Abelian, IsZero, Monoid, Semigroup};
use serde::{Deserialize, Serialize};

/// Relative error of 1 %: bin i holds values in (γ^(i-1), γ^i] with γ = 1.01 / 0.99.
const GAMMA: f64 = 1.01 / 0.99;

/// Bins of tools, and of shapes: of a hundred, one shares its bin with another, which the estimate makes up for.
const HASHED: u16 = 4096;

/// Where one thing is counted: as small beside a count as a bare number would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
enum Bin {
    Latency(i32),
    Tool(u16),
    Shape(u16),
}

/// Sorted (bin, count) pairs without zeros.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Sketch(Vec<(Bin, i64)>);

impl Sketch {
    /// A sketch of one latency.
    #[must_use]
    pub fn of(latency_us: u64) -> Self {
        Self(vec![(Bin::Latency(bin_of(latency_us)), 1)])
    }

    /// Of one call: its latency, its tool's hash, and the hash of the shape of its arguments, where they are known.
    #[must_use]
    pub fn of_call(latency_us: Option<u64>, tool: u64, shape: Option<u64>) -> Self {
        let mut bins = Vec::with_capacity(3);
        bins.extend(latency_us.map(|us| (Bin::Latency(bin_of(us)), 1)));
        bins.push((Bin::Tool(hashed(tool)), 1));
        // Of another tool it is another shape.
        bins.extend(shape.map(|shape| (Bin::Shape(hashed(shape ^ tool)), 1)));
        Self(bins)
    }

    /// The q-quantile of the latencies within 1 %; `None` of none.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let latencies = || {
            self.0.iter().map_while(|(bin, count)| match bin {
                Bin::Latency(bin) => Some((*bin, *count)),
                Bin::Tool(_) | Bin::Shape(_) => None,
            })
        };
        let all: i64 = latencies().map(|(_, count)| count).sum();
        let rank = (q * (all - 1).max(0) as f64) as i64;
        let mut below = 0;
        latencies().find_map(|(bin, count)| {
            below += count;
            (below > rank).then(|| 2.0 * GAMMA.powi(bin) / (GAMMA + 1.0))
        })
    }

    /// How many tools were called.
    #[must_use]
    pub fn distinct_tools(&self) -> i64 {
        distinct(self.0.iter().filter(|(bin, _)| matches!(bin, Bin::Tool(_))).count())
    }

    /// In how many shapes tools were given arguments.
    #[must_use]
    pub fn distinct_shapes(&self) -> i64 {
        distinct(self.0.iter().filter(|(bin, _)| matches!(bin, Bin::Shape(_))).count())
    }
}

fn bin_of(latency_us: u64) -> i32 {
    ((latency_us.max(1) as f64).ln() / GAMMA.ln()).ceil() as i32
}

fn hashed(hash: u64) -> u16 {
    (hash >> 48) as u16 % HASHED
}

/// How many things it most likely takes to fill so many of all bins.
fn distinct(filled: usize) -> i64 {
    let all = f64::from(HASHED);
    // When all are full there is no telling: as many as leave one empty.
    let empty = (all - filled as f64).max(1.0);
    (all * (all / empty).ln()).round() as i64
}

/// What has more bins is merged: to search a place for each would take longer.
const SEARCHED_MAX: usize = 4;

/// Two sketches as one.
fn merged(mut one: &[(Bin, i64)], mut other: &[(Bin, i64)]) -> Vec<(Bin, i64)> {
    let mut merged = Vec::with_capacity(one.len().max(other.len()));
    while let ([first, rest @ ..], [second, others @ ..]) = (one, other) {
        match first.0.cmp(&second.0) {
            Ordering::Less => {
                merged.push(*first);
                one = rest;
            }
            Ordering::Greater => {
                merged.push(*second);
                other = others;
            }
            Ordering::Equal => {
                let count = first.1 + second.1;
                merged.extend((count != 0).then_some((first.0, count)));
                (one, other) = (rest, others);
            }
        }
    }
    merged.extend_from_slice(one);
    merged.extend_from_slice(other);
    merged
}

impl IsZero for Sketch {
    fn is_zero(&self) -> bool {
        self.0.is_empty()
    }
}

impl Semigroup for Sketch {
    fn plus_equals(&mut self, other: &Self) {
        if other.0.len() > SEARCHED_MAX {
            self.0 = merged(&self.0, &other.0);
            return;
        }
        for &(bin, count) in &other.0 {
            match self.0.binary_search_by_key(&bin, |entry| entry.0) {
                Ok(at) => {
                    self.0[at].1 += count;
                    if self.0[at].1 == 0 {
                        self.0.remove(at);
                    }
                }
                Err(at) => self.0.insert(at, (bin, count)),
            }
        }
    }
}

impl Monoid for Sketch {
    fn zero() -> Self {
        Self::default()
    }
}

impl Abelian for Sketch {
    fn negate(&mut self) {
        for (_, count) in &mut self.0 {
            *count = -*count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sketch(values: impl Iterator<Item = u64>) -> Sketch {
        let mut sum = Sketch::zero();
        for value in values {
            sum.plus_equals(&Sketch::of(value));
        }
        sum
    }

    #[test]
    fn quantiles_are_within_one_percent() {
        let sum = sketch(1..=10_000);
        for q in [0.01, 0.5, 0.95, 0.99] {
            let (got, exact) = (sum.quantile(q).expect("values"), q * 9_999.0 + 1.0);
            assert!((got - exact).abs() <= 0.011 * exact, "q{q}: {got} for {exact}");
        }
        assert_eq!(Sketch::zero().quantile(0.5), None);
    }

    #[test]
    fn many_are_added_as_one_by_one() {
        let (one, other) = (sketch((1..200).map(|value| value * 7)), sketch((1..90).map(|value| value * value)));
        let mut at_once = one.clone();
        at_once.plus_equals(&other);
        let mut one_by_one = one.clone();
        for (bin, count) in &other.0 {
            one_by_one.plus_equals(&Sketch(vec![(*bin, *count)]));
        }
        assert_eq!(at_once, one_by_one);
        let mut gone = other;
        gone.negate();
        at_once.plus_equals(&gone);
        assert_eq!(at_once, one, "no zeros are kept");
    }

    #[test]
    fn tools_and_shapes_are_counted_once_each() {
        let hash = |of: u64| undercurrent_schemas::ids::stable_hash(&[&of.to_le_bytes()]);
        let mut sum = Sketch::zero();
        for call in 0..600 {
            sum.plus_equals(&Sketch::of_call(Some(call), hash(call % 12), Some(hash(100 + call % 2))));
        }
        assert_eq!((sum.distinct_tools(), sum.distinct_shapes()), (12, 12));
        assert_eq!(sum.quantile(0.5), sketch(0..600).quantile(0.5), "only latencies have quantiles");
        sum.plus_equals(&Sketch::of_call(None, hash(99), None));
        assert_eq!((sum.distinct_tools(), sum.distinct_shapes()), (13, 12));
        for (many, error) in [(100, 3), (1_000, 25), (10_000, 500)] {
            let mut sum = Sketch::zero();
            (0..many).for_each(|tool| sum.plus_equals(&Sketch::of_call(None, hash(tool), None)));
            assert!(sum.distinct_tools().abs_diff(many as i64) <= error, "{many}: {}", sum.distinct_tools());
            assert!(sum.0.len() <= usize::from(HASHED));
        }
    }

    #[test]
    fn subtracting_what_was_added_leaves_nothing() {
        let mut sum = sketch([3, 5, 5, 900].into_iter());
        let mut gone = sketch([5, 900, 3, 5].into_iter());
        gone.negate();
        sum.plus_equals(&gone);
        assert!(sum.is_zero());
    }
}
