//! The published features are the differential collection's.

use std::collections::BTreeMap;

use proptest::prelude::*;
use undercurrent_schemas::rows::FeatureRow;

use crate::cases;
use crate::run::{run, settings};
use crate::traffic::{any_plans, any_sizes, events, ticks};

proptest! {
    #![proptest_config(cases(48))]

    /// What history was told last of a window is the last value that the collection had, tick by tick.
    #[test]
    fn rows_follow_the_collection(plans in any_plans(), sizes in any_sizes()) {
        let run = run(&settings(), 2, &ticks(&events(&plans), &sizes));
        let mut told: BTreeMap<String, FeatureRow> = BTreeMap::new();
        for row in run.outputs.iter().flat_map(|output| &output.features) {
            let key = format!("{} {:?} {} {}", row.window_us, row.window_start, row.kind.as_str(), row.entity);
            if row.diff < 0 {
                let taken_back = FeatureRow { diff: 1, source: row.source, ..told.remove(&key).expect("was told") };
                prop_assert_eq!(&FeatureRow { diff: 1, ..row.clone() }, &taken_back);
            } else {
                prop_assert!(told.insert(key, row.clone()).is_none(), "told twice");
            }
        }
        let live = run.live();
        prop_assert_eq!(live.len(), told.len());
        for (key, (entity, sum)) in live {
            let key = format!("{} {:?} {} {}", key.size_us, key.start, key.kind.as_str(), entity.name);
            let row = &told[&key];
            prop_assert_eq!(
                (row.calls, row.errors, row.request_bytes, row.response_bytes, row.answered, row.latency_sum_us),
                (sum.calls, sum.errors, sum.request_bytes, sum.response_bytes, sum.answered, sum.latency_sum_us)
            );
            prop_assert_eq!(row.latency_p50_us, sum.latency_us.quantile(0.5));
        }
    }
}
