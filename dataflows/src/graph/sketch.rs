//! A DDSketch (Masson et al., VLDB 2019) whose bins are a difference: adding merges, subtracting retracts, exactly.

use std::cmp::Ordering;

use differential_dataflow::difference::{Abelian, IsZero, Monoid, Semigroup};
use serde::{Deserialize, Serialize};

/// Relative error of 1 %: bin i holds values in (γ^(i-1), γ^i] with γ = 1.01 / 0.99.
const GAMMA: f64 = 1.01 / 0.99;

/// Sorted (bin, count) pairs without zeros.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Sketch(Vec<(i32, i64)>);

impl Sketch {
    /// A sketch of one value.
    #[must_use]
    pub fn of(value: u64) -> Self {
        let bin = ((value.max(1) as f64).ln() / GAMMA.ln()).ceil();
        Self(vec![(bin as i32, 1)])
    }

    /// The q-quantile within 1 %; `None` of nothing.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let all: i64 = self.0.iter().map(|(_, count)| count).sum();
        let rank = (q * (all - 1).max(0) as f64) as i64;
        let mut below = 0;
        self.0.iter().find_map(|(bin, count)| {
            below += count;
            (below > rank).then(|| 2.0 * GAMMA.powi(*bin) / (GAMMA + 1.0))
        })
    }
}

/// What has more bins is merged: to search a place for each would take longer.
const SEARCHED_MAX: usize = 4;

/// Two sketches as one.
fn merged(mut one: &[(i32, i64)], mut other: &[(i32, i64)]) -> Vec<(i32, i64)> {
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
    fn subtracting_what_was_added_leaves_nothing() {
        let mut sum = sketch([3, 5, 5, 900].into_iter());
        let mut gone = sketch([5, 900, 3, 5].into_iter());
        gone.negate();
        sum.plus_equals(&gone);
        assert!(sum.is_zero());
    }
}
