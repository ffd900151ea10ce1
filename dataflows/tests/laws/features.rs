//! The published features are the differential collection's.

use std::collections::BTreeMap;

use proptest::prelude::*;
use undercurrent_schemas::rows::FeatureRow;

use crate::cases;
use crate::run::{run, settings};
use crate::traffic::{any_plans, any_sizes, events, ticks};

proptest! {
    #![proptest_config(cases(48))]

    /// Of every window that history was told of, what is live is what it was told, tick by tick.
    #[test]
    fn rows_follow_the_collection(plans in any_plans(), sizes in any_sizes()) {
        let run = run(&settings(), 2, &ticks(&events(&plans), &sizes));
        let mut told: BTreeMap<String, FeatureRow> = BTreeMap::new();
        for output in &run.outputs {
            for row in &output.features {
                let key = format!("{} {:?} {} {}", row.window_us, row.window_start, row.kind.as_str(), row.entity);
                if row.diff < 0 {
                    let taken_back = FeatureRow { diff: 1, source: row.source, ..told.remove(&key).expect("was told") };
                    prop_assert_eq!(&FeatureRow { diff: 1, ..row.clone() }, &taken_back);
                } else {
                    prop_assert!(told.insert(key, row.clone()).is_none(), "told twice");
                }
            }
            for live in output.live.iter().filter_map(|(_, live)| live.as_ref()) {
                for (key, sum) in &live.windows {
                    let name = &live.entity.name;
                    let key = format!("{} {:?} {} {name}", key.size_us, key.start, key.entity.kind.as_str());
                    let Some(row) = told.get(&key) else { continue };
                    prop_assert_eq!(
                        (row.calls, row.errors, row.request_bytes, row.response_bytes, row.answered, row.latency_sum_us),
                        (sum.calls, sum.errors, sum.request_bytes, sum.response_bytes, sum.answered, sum.latency_sum_us)
                    );
                    prop_assert_eq!(row.latency_p50_us, sum.sketch.quantile(0.5));
                    prop_assert_eq!(
                        (row.hosts, row.new_tools, row.distinct_tools, row.distinct_shapes),
                        (sum.hosts, sum.new_tools, sum.sketch.distinct_tools(), sum.sketch.distinct_shapes())
                    );
                    prop_assert_eq!(
                        (row.arguments, row.text_arguments, row.sourced_arguments, row.argument_entropy_millibits),
                        (sum.arguments, sum.text_arguments, sum.sourced_arguments, sum.argument_entropy_millibits)
                    );
                    prop_assert_eq!(
                        (row.shape_millibits, row.fresh_millibits),
                        (sum.shape_millibits, sum.fresh_millibits)
                    );
                }
            }
        }
    }
}
