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
    /// Arguments that point to a host.
    pub hosts: i64,
    /// Calls that are the first of their tool in their session.
    pub new_tools: i64,
    pub arguments: i64,
    /// Of those, texts, and their entropies in thousandths of a bit per byte.
    pub text_arguments: i64,
    pub argument_entropy_millibits: i64,
    /// Arguments whose value an earlier result of their session held.
    pub sourced_arguments: i64,
    /// `shape_bits` and `fresh_bits` as the request path said them, in thousandths.
    pub shape_millibits: i64,
    pub fresh_millibits: i64,
    pub request_bytes: i64,
    pub response_bytes: i64,
    /// Calls with an answer.
    pub answered: i64,
    pub latency_sum_us: i64,
    /// Latencies, and which tools and shapes there were.
    pub sketch: Sketch,
    /// What was reported from outside: of servers alone, and of most of them nothing. Never of zeros.
    #[serde(with = "rare")]
    reported: Option<Box<ReportedSums>>,
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
            hosts: i64::from(call.hosts),
            new_tools: i64::from(call.new_tool),
            arguments: i64::from(call.arguments),
            text_arguments: i64::from(call.text_arguments),
            sourced_arguments: i64::from(call.sourced_arguments),
            shape_millibits: i64::from(call.shape_millibits),
            fresh_millibits: i64::from(call.fresh_millibits),
            argument_entropy_millibits: i64::from(call.argument_entropy_millibits),
            request_bytes: call.request_bytes as i64,
            response_bytes: call.response_bytes as i64,
            answered: i64::from(call.latency_us.is_some()),
            latency_sum_us: call.latency_us.unwrap_or(0),
            sketch: Sketch::of_call(call.latency_us.map(|us| us as u64), call.entities[1].id, call.shape),
            reported: None,
        }
    }

    /// Of one report.
    #[must_use]
    pub fn of_report(sums: ReportedSums) -> Self {
        Self { reported: rare::boxed(sums), ..Self::default() }
    }

    /// What was reported from outside.
    #[must_use]
    pub fn reported(&self) -> ReportedSums {
        rare::unboxed(&self.reported)
    }

    fn sums(&mut self) -> [&mut i64; 16] {
        [
            &mut self.calls,
            &mut self.errors,
            &mut self.tool_errors,
            &mut self.new_hosts,
            &mut self.hosts,
            &mut self.new_tools,
            &mut self.arguments,
            &mut self.text_arguments,
            &mut self.sourced_arguments,
            &mut self.shape_millibits,
            &mut self.fresh_millibits,
            &mut self.argument_entropy_millibits,
            &mut self.request_bytes,
            &mut self.response_bytes,
            &mut self.answered,
            &mut self.latency_sum_us,
        ]
    }
}

/// Sums that hardly anybody has: a box in memory, in an image as they are.
mod rare {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use undercurrent_schemas::rows::ReportedSums;

    pub(super) fn boxed(sums: ReportedSums) -> Option<Box<ReportedSums>> {
        (sums != ReportedSums::default()).then(|| Box::new(sums))
    }

    pub(super) fn unboxed(sums: &Option<Box<ReportedSums>>) -> ReportedSums {
        sums.as_deref().copied().unwrap_or_default()
    }

    pub(super) fn serialize<S: Serializer>(sums: &Option<Box<ReportedSums>>, to: S) -> Result<S::Ok, S::Error> {
        unboxed(sums).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Box<ReportedSums>>, D::Error> {
        ReportedSums::deserialize(from).map(boxed)
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
        self.hosts += other.hosts;
        self.new_tools += other.new_tools;
        self.arguments += other.arguments;
        self.text_arguments += other.text_arguments;
        self.sourced_arguments += other.sourced_arguments;
        self.shape_millibits += other.shape_millibits;
        self.fresh_millibits += other.fresh_millibits;
        self.argument_entropy_millibits += other.argument_entropy_millibits;
        self.request_bytes += other.request_bytes;
        self.response_bytes += other.response_bytes;
        self.answered += other.answered;
        self.latency_sum_us += other.latency_sum_us;
        self.sketch.plus_equals(&other.sketch);
        if let Some(more) = &other.reported {
            let (mut reported, mut more) = (self.reported(), **more);
            for (sum, more) in reported.sums().into_iter().zip(more.sums()) {
                *sum += *more;
            }
            self.reported = rare::boxed(reported);
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
        for sum in self.reported.iter_mut().flat_map(|reported| reported.sums()) {
            *sum = -*sum;
        }
        self.sketch.negate();
    }
}
