//! The laws of learning, on random traffic through real workers: incremental == batch, for any number of workers, any
//! batching and any order of arrival; what was added can be taken back; a score is what its reasons say.

mod behaviour;
mod clusters;
mod every_tick;
mod examples;
mod features;
mod groups;
mod imports;
mod labels;
mod learning;
mod resuming;
mod rules;
mod run;
mod scoring;
mod traffic;

use proptest::prelude::ProptestConfig;
use proptest::test_runner::FileFailurePersistence;

/// So many cases, `$LAWS_TIMES` times as many where that is set. Failing ones are kept beside the tests and run first.
fn cases(cases: u32) -> ProptestConfig {
    let times = std::env::var("LAWS_TIMES").map_or(1, |times| times.parse().expect("LAWS_TIMES is a number"));
    let kept = FileFailurePersistence::Direct("tests/laws/regressions.txt");
    ProptestConfig { cases: cases * times, failure_persistence: Some(Box::new(kept)), ..ProptestConfig::default() }
}
