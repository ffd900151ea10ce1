//! What is learned is a function of the events, not of ticks, workers, order of arrival or repetition.

use proptest::prelude::*;
use undercurrent_dataflows::assess::{CALL_TERMS, SESSION_TERMS};
use undercurrent_dataflows::model::{FULL_WEIGHT, Part};
use undercurrent_dataflows::sessions::Gate;
use undercurrent_schemas::v1;

use crate::cases;
use crate::run::{expected, run, settings};
use crate::traffic::{LATENESS_S, any_plans, any_sizes, arrived, calm_plans, events, ticks};

proptest! {
    #![proptest_config(cases(96))]

    /// Incremental == batch, for any batching.
    #[test]
    fn counts_features_and_parts_are_the_naive_ones(plans in any_plans(), sizes in any_sizes(), workers in 1..3_usize) {
        let events = events(&plans);
        let run = run(&settings(), workers, &ticks(&events, &sizes));
        prop_assert_eq!(run.learned(), expected(&settings(), &events));
    }

    /// Whatever order events arrive in, while none is too late.
    #[test]
    fn order_of_arrival_changes_nothing(
        plans in calm_plans(),
        sizes in any_sizes(),
        delays_ms in prop::collection::vec(0..LATENESS_S * 1_000, 1..50),
        workers in 1..3_usize,
    ) {
        let events = events(&plans);
        let run = run(&settings(), workers, &ticks(&arrived(&events, &delays_ms), &sizes));
        prop_assert_eq!(run.learned(), expected(&settings(), &events));
    }

    /// An event that comes again, at any later place, changes nothing.
    #[test]
    fn duplicates_change_nothing(
        plans in any_plans(),
        sizes in any_sizes(),
        again in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..20),
    ) {
        let once = events(&plans);
        let mut twice = once.clone();
        for (which, place) in &again {
            let event: v1::Event = which.get(&once).clone();
            let first = twice.iter().position(|other| other.id == event.id).expect("it was sent");
            let place = first + 1 + place.index(twice.len() - first);
            twice.insert(place, event);
        }
        let run = run(&settings(), 2, &ticks(&twice, &sizes));
        let duplicates: u64 = run.outputs.iter().map(|output| output.counters.duplicates).sum();
        prop_assert_eq!(duplicates, again.len() as u64);
        prop_assert_eq!(run.learned(), expected(&settings(), &once));
    }
}

proptest! {
    #![proptest_config(cases(48))]

    /// Every tick's output is the same on any number of workers, and once more on fresh ones.
    #[test]
    fn workers_and_restarts_change_nothing(plans in any_plans(), sizes in any_sizes()) {
        let ticks = ticks(&events(&plans), &sizes);
        let one = run(&settings(), 1, &ticks);
        prop_assert_eq!(one.outputs.len(), ticks.len());
        for workers in [1, 2, 4] {
            let other = run(&settings(), workers, &ticks);
            for (expect, got) in one.outputs.iter().zip(&other.outputs) {
                prop_assert_eq!(got, expect, "{} workers", workers);
            }
            prop_assert_eq!(&other.model, &one.model);
        }
    }

    /// What the gate and the models on the way decide is consistent with the rows: every score calibrates, its
    /// terms are in the histograms, and what was doubted taught no more than the gate says.
    #[test]
    fn histograms_hold_what_the_rows_say(plans in any_plans(), sizes in any_sizes(), learn_p in 0.0..0.6_f64, doubtful in 0..=8_u32) {
        let mut settings = settings();
        settings.sessions.gate = Gate { learn_p, doubtful_weight: doubtful, ..settings.sessions.gate };
        let run = run(&settings, 2, &ticks(&events(&plans), &sizes));
        let rows: Vec<_> = run.outputs.iter().flat_map(|output| &output.sessions).collect();
        let scored = |row: &&&undercurrent_schemas::rows::SessionRow| row.assessment.is_some();
        prop_assert_eq!(run.count(Part::SessionScore), rows.iter().filter(scored).count() as u64);
        prop_assert_eq!(run.count(Part::SessionTerm), (rows.iter().filter(scored).count() * SESSION_TERMS.len()) as u64);
        let calls: u64 = rows.iter().filter(scored).map(|row| row.calls).sum();
        prop_assert_eq!(run.count(Part::CallTerm), calls * CALL_TERMS.len() as u64);
        prop_assert_eq!(run.count(Part::Sessions), rows.iter().map(|row| u64::from(row.taught_eighths)).sum::<u64>());
        let taught: u64 = rows.iter().map(|row| row.calls * u64::from(row.taught_eighths)).sum();
        prop_assert_eq!(run.count(Part::Tool), taught);
        for row in rows {
            let assessment = row.assessment.as_ref();
            let doubted = assessment.is_some_and(|known| known.p_value <= learn_p);
            let expect = if row.calls == 0 { 0 } else if doubted { doubtful } else { FULL_WEIGHT };
            prop_assert_eq!((row.taught, row.taught_eighths), (expect > 0, expect));
        }
    }
}
