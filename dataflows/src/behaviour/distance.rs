//! How far the last calls of a tool are from its profile: tests that speak only where two things agree, that the
//! difference is no chance and that it is large.
//!
//! Pure functions of counts by bin. Not here: which calls; who is told.

use crate::model::{in_full, term_value};
use crate::predict::median;
use crate::teach::outcome_bin;
use undercurrent_schemas::rows::CallOutcome;

/// Calls that a tool's profile needs before blocks are held against it.
const REFERENCE_CALLS: f64 = 200.0;

/// KS distance below which nothing is said, however certain.
const DISTANCE: f64 = 0.4;

/// Kolmogorov's quantile for one false alarm in ten thousand blocks.
const KS_QUANTILE: f64 = 2.2;

/// Population stability: above .25 a distribution is said to have shifted.
const PSI: f64 = 0.25;

/// A share has risen when it did by this much, and to twice what it was.
const FAILURES_MORE: f64 = 0.25;

/// So large a share of a block's results have other shapes than usual.
const SHAPES_MORE: f64 = 0.4;

/// Chance of a false alarm about shapes, for each block.
const SHAPES_CHANCE: f64 = 1e-4;

/// Standard deviations that are no chance.
const DEVIATIONS: f64 = 4.0;

/// Medians of a distribution that has shifted, and of what it was.
pub(super) struct Shift {
    pub(super) now: f64,
    pub(super) usual: f64,
}

/// Of a block of so many calls against what was taught.
pub(super) fn shift(block: &[(u32, u64)], reference: &[(u32, u64)], calls_max: u32) -> Option<Shift> {
    let calls = in_full(reference.iter().map(|(_, count)| count).sum());
    let answered = block.iter().map(|(_, count)| *count).sum::<u64>() as f64;
    if calls < REFERENCE_CALLS || answered < f64::from(calls_max) / 2.0 {
        return None;
    }
    let certain = KS_QUANTILE * ((answered + calls) / (answered * calls)).sqrt();
    let is_shifted = ks(block, reference) > certain.max(DISTANCE) && psi(block, reference) > PSI;
    is_shifted.then_some(())?;
    Some(Shift { now: term_value(median(block)?), usual: term_value(median(reference)?) })
}

/// Kolmogorov and Smirnov: the largest distance between two distribution functions.
fn ks(a: &[(u32, u64)], b: &[(u32, u64)]) -> f64 {
    let total = |of: &[(u32, u64)]| of.iter().map(|(_, count)| *count).sum::<u64>().max(1) as f64;
    let (all_a, all_b) = (total(a), total(b));
    let below = |of: &[(u32, u64)], bin: u32| {
        of.iter().take_while(|(at, _)| *at <= bin).map(|(_, count)| *count).sum::<u64>() as f64
    };
    let bins = a.iter().chain(b).map(|(bin, _)| *bin);
    bins.map(|bin| (below(a, bin) / all_a - below(b, bin) / all_b).abs()).fold(0.0, f64::max)
}

/// Population stability index over the reference's tenths: half a call stands where there is none.
fn psi(now: &[(u32, u64)], reference: &[(u32, u64)]) -> f64 {
    const PARTS: u64 = 10;
    let all: u64 = reference.iter().map(|(_, count)| *count).sum::<u64>().max(1);
    let mut edges = Vec::new();
    let mut below = 0;
    for (bin, count) in reference {
        let before = below * PARTS / all;
        below += count;
        if below * PARTS / all > before {
            edges.push(*bin);
        }
    }
    let share = |of: &[(u32, u64)], scale: f64| {
        let mut parts = vec![0.5; edges.len() + 1];
        for (bin, count) in of {
            parts[edges.partition_point(|edge| edge < bin)] += *count as f64 * scale;
        }
        let sum: f64 = parts.iter().sum();
        parts.into_iter().map(move |part| part / sum).collect::<Vec<f64>>()
    };
    let (now, usual) = (share(now, 1.0), share(reference, in_full(1)));
    now.iter().zip(&usual).map(|(now, usual)| (now - usual) * (now / usual).ln()).sum()
}

/// The usual share of failures, if there are many more now than chance allows.
pub(super) fn more_failures(failures: u32, reference: &[(u32, u64)], calls: u32) -> Option<f64> {
    let all: u64 = reference.iter().map(|(_, count)| *count).sum();
    if in_full(all) < REFERENCE_CALLS {
        return None;
    }
    let fine = reference.iter().find(|(bin, _)| *bin == outcome_bin(CallOutcome::Result)).map_or(0, |(_, n)| *n);
    let usual = (all - fine) as f64 / all as f64;
    let now = f64::from(failures) / f64::from(calls);
    let deviation = (usual.max(0.01) * (1.0 - usual) / f64::from(calls)).sqrt();
    (now > usual + FAILURES_MORE && now > 2.0 * usual && now > usual + DEVIATIONS * deviation).then_some(usual)
}

/// The share of results that would have to have another shape for the block to be as usual: total variation, where it is
/// large and beyond what chance makes of so few results of so many shapes (McDiarmid's bound over its expectation).
pub(super) fn other_shapes(block: &[(u32, u64)], reference: &[(u32, u64)], calls_max: u32) -> Option<f64> {
    let calls = in_full(reference.iter().map(|(_, count)| count).sum());
    let answered = block.iter().map(|(_, count)| *count).sum::<u64>() as f64;
    if calls < REFERENCE_CALLS || answered < f64::from(calls_max) / 2.0 {
        return None;
    }
    let usual = |bin: u32| reference.iter().find(|(at, _)| *at == bin).map_or(0.0, |(_, n)| in_full(*n) / calls);
    let more = |(bin, count): &(u32, u64)| (*count as f64 / answered - usual(*bin)).max(0.0);
    let distance: f64 = block.iter().map(more).sum();
    let of_chance = |(bin, _): &(u32, u64)| {
        let usual = usual(*bin);
        (usual * (1.0 - usual) / (std::f64::consts::TAU * answered)).sqrt()
    };
    let expected: f64 = reference.iter().map(of_chance).sum();
    let beyond = (-SHAPES_CHANCE.ln() / (2.0 * answered)).sqrt();
    (distance > SHAPES_MORE.max(expected + beyond)).then_some(distance)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn profile(bins: impl IntoIterator<Item = u32>) -> Vec<(u32, u64)> {
        let mut counts = BTreeMap::new();
        bins.into_iter().for_each(|bin| *counts.entry(bin).or_insert(0) += 1);
        counts.into_iter().collect()
    }

    #[test]
    fn distances_are_those_of_the_textbook() {
        let (a, b) = (profile([1, 2, 3, 4]), profile([3, 4, 5, 6]));
        assert!((ks(&a, &b) - 0.5).abs() < 1e-12);
        assert_eq!(ks(&a, &a), 0.0);
        let many = profile((0..1_000).map(|n| n % 100));
        assert!(psi(&many, &many) < 0.05, "{}", psi(&many, &many));
        assert!(psi(&profile([200; 64]), &many) > 1.0);
    }

    #[test]
    fn a_few_more_failures_are_chance() {
        let outcomes = [(0, 8 * 900), (1, 8 * 100)];
        assert_eq!(more_failures(12, &outcomes, 64), None);
        assert_eq!(more_failures(40, &outcomes, 64), Some(0.1));
        assert_eq!(more_failures(40, &[(0, 8 * 50)], 64), None, "nothing to hold it against");
    }

    #[test]
    fn other_shapes_are_told_and_shapes_of_all_kinds_are_none() {
        let two = [(1, 8 * 600), (2, 8 * 400)];
        assert_eq!(other_shapes(&profile([3; 64]), &two, 64), Some(1.0));
        assert_eq!(other_shapes(&profile((0..64).map(|n| 1 + n % 2)), &two, 64), None, "a little more of one of two");
        let some = profile((0..64).map(|n| if n % 4 == 0 { 3 } else { 1 }));
        assert_eq!(other_shapes(&some, &two, 64), None, "a fourth is not enough");
        let all_kinds: Vec<(u32, u64)> = (0..200).map(|bin| (bin, 8 * 5)).collect();
        assert_eq!(other_shapes(&profile(200..256), &all_kinds, 64), None);
        assert_eq!(other_shapes(&profile([3; 64]), &[(1, 8 * 50)], 64), None, "nothing to hold it against");
    }
}
