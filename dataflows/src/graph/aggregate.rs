//! What is summed of calls: integers and a sketch, which can be added and taken back exactly.

use differential_dataflow::difference::{Abelian, IsZero, Monoid, Semigroup};
use serde::{Deserialize, Serialize};
use undercurrent_schemas::rows::{CallOutcome, ReportedSums};

use super::sketch::Sketch;
use crate::sessions::Measure;

/// Features of one entity over some time: integer sums.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Aggregate {
    pub calls: i64,
    pub errors: i64,
    /// Of those, results that say so themselves.
    pub tool_errors: i64,
    /// Arguments that point to hosts new to their session.
    pub new_hosts: i64,
    pub request_bytes: i64,
    pub response_bytes: i64,
    /// Calls with an answer.
    pub answered: i64,
    pub latency_sum_us: i64,
    pub latency_us: Sketch,
    /// What was reported from outside.
    pub reported: ReportedSums,
}

impl Aggregate {
    /// Of one call.
    #[must_use]
    pub fn of(call: &Measure) -> Self {
        Self {
            calls: 1,
            errors: i64::from(call.outcome != CallOutcome::Result),
            tool_errors: i64::from(call.outcome == CallOutcome::ToolError),
            new_hosts: i64::from(call.new_hosts),
            request_bytes: call.request_bytes as i64,
            response_bytes: call.response_bytes as i64,
            answered: i64::from(call.latency_us.is_some()),
            latency_sum_us: call.latency_us.unwrap_or(0),
            latency_us: call.latency_us.map(|us| Sketch::of(us as u64)).unwrap_or_default(),
            reported: ReportedSums::default(),
        }
    }

    /// Of one report.
    #[must_use]
    pub fn reported(sums: ReportedSums) -> Self {
        Self { reported: sums, ..Self::default() }
    }

    fn sums(&mut self) -> [&mut i64; 8] {
        [
            &mut self.calls,
            &mut self.errors,
            &mut self.tool_errors,
            &mut self.new_hosts,
            &mut self.request_bytes,
            &mut self.response_bytes,
            &mut self.answered,
            &mut self.latency_sum_us,
        ]
    }
}

impl IsZero for Aggregate {
    fn is_zero(&self) -> bool {
        self.calls == 0 && self == &Self::default()
    }
}

impl Semigroup for Aggregate {
    fn plus_equals(&mut self, other: &Self) {
        self.calls += other.calls;
        self.errors += other.errors;
        self.tool_errors += other.tool_errors;
        self.new_hosts += other.new_hosts;
        self.request_bytes += other.request_bytes;
        self.response_bytes += other.response_bytes;
        self.answered += other.answered;
        self.latency_sum_us += other.latency_sum_us;
        self.latency_us.plus_equals(&other.latency_us);
        let mut others = other.reported;
        for (sum, more) in self.reported.sums().into_iter().zip(others.sums()) {
            *sum += *more;
        }
    }
}

impl Monoid for Aggregate {
    fn zero() -> Self {
        Self::default()
    }
}

impl Abelian for Aggregate {
    fn negate(&mut self) {
        for sum in self.sums() {
            *sum = -*sum;
        }
        for sum in self.reported.sums() {
            *sum = -*sum;
        }
        self.latency_us.negate();
    }
}
