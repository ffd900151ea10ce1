//! What sites learned is added: two of them together are one that saw what both saw, and an import that is taken back was
//! never there.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use undercurrent_dataflows::image::{Image, Kind, Section};
use undercurrent_dataflows::model::Entry;
use undercurrent_dataflows::sessions::import_id;
use undercurrent_schemas::ids::Tick;
use undercurrent_schemas::log::CommittedTick;
use undercurrent_schemas::rows::LabelOutcome;
use undercurrent_schemas::v1::{self, event::Body};

use crate::cases;
use crate::resuming::leg;
use crate::run::{facts, run, settings};
use crate::traffic::{any_plans, any_sizes, events, ticks};

/// Sums as an import has them.
fn sums(of: &BTreeMap<Entry, u64>) -> Vec<v1::Sum> {
    let sum = |(entry, total): (&Entry, &u64)| v1::Sum {
        part: entry.part as u32,
        scope: entry.scope,
        key: entry.key,
        bin: entry.bin,
        total: *total as i64,
    };
    of.iter().map(sum).collect()
}

fn import(sums: &[v1::Sum], withdrawn: bool, ts_us: i64) -> v1::Event {
    v1::Event {
        ts_us,
        session_id: import_id(sums),
        body: Some(Body::ModelImport(v1::ModelImport { sums: sums.to_vec(), names: Vec::new(), withdrawn })),
        ..v1::Event::default()
    }
}

/// Sessions of one site, and of the other.
fn sites(all: &[v1::Event]) -> (Vec<v1::Event>, Vec<v1::Event>) {
    let of_first = |event: &&v1::Event| event.session_id.bytes().map(u32::from).sum::<u32>().is_multiple_of(2);
    (all.iter().filter(of_first).cloned().collect(), all.iter().filter(|event| !of_first(event)).cloned().collect())
}

fn added(mut a: BTreeMap<Entry, u64>, b: BTreeMap<Entry, u64>) -> BTreeMap<Entry, u64> {
    b.into_iter().for_each(|(entry, total)| *a.entry(entry).or_default() += total);
    a
}

fn partitions(image: Image) -> Vec<Section> {
    image.sections.into_iter().filter(|section| section.kind == Kind::Partition).collect()
}

proptest! {
    #![proptest_config(cases(32))]

    #[test]
    fn two_sites_together_are_one_that_saw_what_both_saw(plans in any_plans(), sizes in any_sizes()) {
        let all = events(&plans);
        let (first, second) = sites(&all);
        let one = facts(&run(&settings(), 2, &ticks(&all, &sizes)).model);
        let (a, b) = (run(&settings(), 1, &ticks(&first, &sizes)).model, run(&settings(), 2, &ticks(&second, &sizes)).model);
        let (a, b) = (facts(&a), facts(&b));
        prop_assert_eq!(&added(a, b.clone()), &one);

        // The one takes what the other learned, in one record.
        let mut taking = first;
        let at = taking.last().map_or(0, |event| event.ts_us);
        taking.push(import(&sums(&b), false, at));
        prop_assert_eq!(facts(&run(&settings(), 2, &ticks(&taking, &sizes)).model), one);
    }

    #[test]
    fn an_import_that_is_taken_back_was_never_there(
        plans in any_plans(),
        others in any_plans(),
        places in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
        sizes in any_sizes(),
    ) {
        let all = events(&plans);
        let others = facts(&run(&settings(), 1, &ticks(&events(&others), &sizes)).model);
        let sums = sums(&others);
        prop_assume!(!sums.is_empty());
        let without = facts(&run(&settings(), 2, &ticks(&all, &sizes)).model);
        let mut with = all.clone();
        let (first, second) = (places.0.index(with.len() + 1), places.1.index(with.len() + 1));
        let at = |place: usize| all.get(place.saturating_sub(1)).map_or(0, |event| event.ts_us);
        with.insert(first.max(second), import(&sums, true, at(first.max(second))));
        with.insert(first.min(second), import(&sums, false, at(first.min(second))));
        let taken_back = run(&settings(), 2, &ticks(&with, &sizes));
        prop_assert_eq!(facts(&taken_back.model), without);
        let outcomes: Vec<_> = taken_back.outputs.iter().flat_map(|output| &output.labels).map(|row| row.outcome).collect();
        prop_assert_eq!(outcomes, vec![LabelOutcome::Applied; 2]);

        // Where nothing was scored in between, not a byte of the state differs.
        let mut before = ticks(&all, &sizes);
        before.pop();
        let (whole, end) = (leg(&settings(), 2, None, &before), before.last().expect("there are ticks").clone());
        let mut after = ticks(&[import(&sums, false, 0), import(&sums, true, 0)], &[1]);
        after.pop();
        let after = (end.tick.0 + 1..).zip(after).map(|(tick, said)| {
            Arc::new(CommittedTick { tick: Tick(tick), watermark: end.watermark, batches: said.batches.clone() })
        });
        let both: Vec<_> = before.iter().cloned().chain(after).collect();
        let again = leg(&settings(), 2, None, &both);
        prop_assert_eq!(again.image.model().expect("a model").totals, whole.image.model().expect("a model").totals);
        prop_assert_eq!(partitions(again.image), partitions(whole.image));
    }
}

/// The same twice, what never came, and sums under another id are refused, and change nothing.
#[test]
fn an_import_counts_once_or_not_at_all() {
    let entry = Entry { part: undercurrent_dataflows::model::Part::Tool, scope: 3, key: 4, bin: 0 };
    let sums = sums(&BTreeMap::from([(entry, 8)]));
    let other = v1::Event { session_id: "import:0".into(), ..import(&sums, false, 4) };
    let said = [
        import(&sums, true, 1),
        import(&sums, false, 2),
        import(&sums, false, 3),
        other,
        v1::Event { body: Some(Body::Forget(v1::Forget::default())), ..import(&sums, false, 5) },
        v1::Event { body: Some(Body::Label(v1::Label { verdict: 2 })), ..import(&sums, false, 6) },
    ];
    let run = run(&settings(), 2, &ticks(&said, &[1]));
    assert_eq!(facts(&run.model), BTreeMap::from([(entry, 8)]));
    let rows = run.outputs.iter().flat_map(|output| &output.labels).filter(|row| row.outcome == LabelOutcome::Applied);
    assert_eq!(rows.count(), 1);
}
