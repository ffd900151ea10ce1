//! What a session teaches: its contribution to the model's sums.
//!
//! A pure function of the session's facts and of the terms with which it was scored; adding and later subtracting the
//! same contribution leaves no trace.

use undercurrent_schemas::rows::CallOutcome;

use crate::assess::{flow_key, shape_key, transition_key};
use crate::model::{Entry, Part, term_bin};
use crate::session::SessionFact;

/// The counts that the facts of a taught session add, each the session's weight (equal entries may repeat).
pub fn taught_facts(scope: u64, session: &SessionFact, mut add: impl FnMut(Entry)) {
    let mut count = |part, key, bin| add(Entry { part, scope, key, bin });
    session.with_past(|past, call, answer| {
        count(Part::Tool, call.tool, 0);
        count(Part::Departures, past.previous, 0);
        count(Part::Transition, transition_key(past.previous, call.tool), 0);
        count(Part::Shape, shape_key(call.tool, call.shape), 0);
        for leaf in &call.leaves {
            let flow = flow_key(leaf.parameter, leaf.source);
            count(Part::Parameter, leaf.parameter, 0);
            count(Part::Flow, flow, 0);
            count(Part::Value, flow, leaf.value_bin());
            if let Some(place) = leaf.place_bin() {
                count(Part::Place, flow, place);
                count(Part::Places, 0, place);
            }
        }
        count(Part::RequestBytes, call.tool, term_bin(call.arguments_bytes as f64));
        count(Part::Outcome, call.tool, outcome_bin(answer.outcome));
        if let Some(latency_us) = answer.latency_us {
            count(Part::ResponseBytes, call.tool, term_bin(answer.response_bytes as f64));
            count(Part::Latency, call.tool, term_bin(latency_us as f64));
        }
    });
    let tools = session.tools();
    for (index, tool) in tools.iter().enumerate() {
        count(Part::ToolSessions, *tool, 0);
        for earlier in &tools[..index] {
            count(Part::Before, transition_key(*earlier, *tool), 0);
        }
    }
    count(Part::Sessions, 0, 0);
}

/// The bin of an outcome. The numbers are kept in files: never renumber.
#[must_use]
pub const fn outcome_bin(outcome: CallOutcome) -> u32 {
    match outcome {
        CallOutcome::Result => 0,
        CallOutcome::ToolError => 1,
        CallOutcome::RpcError => 2,
        CallOutcome::Unanswered => 3,
    }
}
