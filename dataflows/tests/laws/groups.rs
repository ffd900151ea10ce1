//! Insert then retract == nothing, of everything that is summed.

use differential_dataflow::difference::{Abelian, IsZero, Monoid};
use proptest::prelude::*;
use undercurrent_dataflows::graph::{Aggregate, EntityKey, Sketch, Sum};
use undercurrent_dataflows::model::{Model, ModelChange};
use undercurrent_dataflows::sessions::Measure;
use undercurrent_schemas::ids::{Micros, ModelVersion};
use undercurrent_schemas::rows::{CallOutcome, EntityKind};

use crate::cases;
use crate::run::{run, settings};
use crate::scoring::answers;
use crate::traffic::{any_plans, events, ticks};

fn aggregate() -> impl Strategy<Value = Aggregate> {
    (0..4_u8, any::<u16>(), any::<u16>(), prop::option::of(0..1_000_000_000_i64)).prop_map(
        |(outcome, request_bytes, response_bytes, latency_us)| {
            use CallOutcome::{Result, RpcError, ToolError, Unanswered};
            Aggregate::of(&Measure {
                ts: Micros(0),
                settled_at: Micros(0),
                tenant: "".into(),
                principal: "".into(),
                server: "".into(),
                session_id: "".into(),
                tool: Default::default(),
                entities: [EntityKey::of("", EntityKind::Server, &[request_bytes as u8 % 9]); 4],
                outcome: [Result, ToolError, RpcError, Unanswered][usize::from(outcome)],
                new_hosts: u32::from(request_bytes % 3),
                hosts: u32::from(request_bytes % 5),
                new_tool: request_bytes % 2 == 0,
                arguments: u32::from(request_bytes % 7),
                text_arguments: u32::from(request_bytes % 7 / 2),
                sourced_arguments: u32::from(request_bytes % 4),
                shape_millibits: u32::from(request_bytes % 4),
                fresh_millibits: u32::from(request_bytes % 4),
                argument_entropy_millibits: u32::from(response_bytes),
                shape: (response_bytes % 3 > 0).then_some(u64::from(response_bytes) << 48),
                request_bytes: request_bytes.into(),
                response_bytes: response_bytes.into(),
                latency_us,
            })
        },
    )
}

fn sum<T: Monoid>(items: &[T]) -> T {
    items.iter().fold(T::zero(), |mut sum, item| {
        sum.plus_equals(item);
        sum
    })
}

fn check_group<T: Monoid + Abelian + IsZero + PartialEq + std::fmt::Debug>(items: &[T], split: usize) {
    let all = sum(items);
    let (left, right) = items.split_at(split);
    // Shards merge by addition, in either order.
    assert_eq!(sum(&[sum(left), sum(right)]), all);
    assert_eq!(sum(&[sum(right), sum(left)]), all);
    // What one shard gave can be taken back.
    let mut back = sum(left);
    back.negate();
    assert_eq!(sum(&[all.clone(), back]), sum(right));
    let mut back = all.clone();
    back.negate();
    assert!(sum(&[all, back]).is_zero());
}

proptest! {
    #![proptest_config(cases(128))]

    #[test]
    fn features_are_a_group(items in prop::collection::vec(aggregate(), 0..20), split in any::<prop::sample::Index>()) {
        let split = split.index(items.len() + 1);
        check_group(&items, split);
        let shared: Vec<_> = items.into_iter().map(Sum::of).collect();
        check_group(&shared, split);
    }

    #[test]
    fn sketches_are_a_group(values in prop::collection::vec(any::<u32>(), 0..50), split in any::<prop::sample::Index>()) {
        let items: Vec<Sketch> = values.iter().map(|value| Sketch::of(u64::from(*value))).collect();
        check_group(&items, split.index(items.len() + 1));
    }
}

proptest! {
    #![proptest_config(cases(24))]

    /// A model that took changes and their inverses answers like one that never did.
    #[test]
    fn a_model_forgets_without_trace(base in any_plans(), other in any_plans(), asked in any_plans()) {
        let learned = |plans: &_| run(&settings(), 1, &ticks(&events(plans), &[7])).model.as_change();
        let (base, other) = (learned(&base), learned(&other));
        let mut never = Model::default();
        never.apply(&ModelChange { version: ModelVersion(1_000), ..base.clone() });
        let mut model = Model::default();
        model.apply(&ModelChange { version: ModelVersion(999), ..base });
        // Taught on top: totals grow. Then taken back: totals are what they were.
        let grown = other.totals.iter().map(|&(entry, more)| {
            (entry, more + never.count(entry.part, entry.scope, entry.key, entry.bin))
        });
        model.apply(&ModelChange { version: ModelVersion(999), totals: grown.collect(), names: vec![] });
        let back = other.totals.iter().map(|&(entry, _)| {
            (entry, never.count(entry.part, entry.scope, entry.key, entry.bin))
        });
        model.apply(&ModelChange { version: ModelVersion(1_000), totals: back.collect(), names: vec![] });
        prop_assert_eq!(&model, &never);
        prop_assert_eq!(answers(&model, &asked), answers(&never, &asked));
    }
}
