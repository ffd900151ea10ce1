//! Twin of `teach` and of the differential count of sums: the counts of facts that a model must hold.

use std::collections::{BTreeMap, BTreeSet};

use undercurrent_schemas::rows::CallOutcome;
use undercurrent_schemas::v1::Place;

use super::Part as SessionPart;
use super::clusters::cell_at;
use crate::assess::{flow_key, shape_key, transition_key, transition2_key};
use crate::model::{Entry, FULL_WEIGHT, NONE, Part, name_hash, score_bin, term_bin};
use crate::session::EARLIER_TOOLS_MAX;
use crate::teach::outcome_bin;

/// Of all parts that made calls and are over: all of them teach where the gate is open. With the scores of the calls,
/// which count at once, and whether or not they teach.
#[must_use]
pub fn taught_counts(parts: &[SessionPart<'_>]) -> BTreeMap<Entry, u64> {
    weighed_counts(parts.iter().map(|part| (part, FULL_WEIGHT)))
}

/// The same of parts that teach in so many eighths.
#[must_use]
pub fn weighed_counts<'a, 'b: 'a>(parts: impl IntoIterator<Item = (&'a SessionPart<'b>, u32)>) -> BTreeMap<Entry, u64> {
    let mut counts = BTreeMap::new();
    for (session, weight) in parts.into_iter().filter(|(session, _)| !session.calls.is_empty()) {
        let scope = name_hash(&[&session.first.server]);
        for call in &session.calls {
            let verdict = call.request.verdict.as_ref();
            if let Some(assessment) = verdict.and_then(|verdict| verdict.assessment.as_ref()) {
                let bin = score_bin(assessment.score);
                *counts.entry(Entry { part: Part::CallScore, scope, key: 0, bin }).or_insert(0) += 1;
            }
        }
        if !session.is_over {
            continue;
        }
        let full = u64::from(weight);
        let mut add = |part, key, bin, n| *counts.entry(Entry { part, scope, key, bin }).or_insert(0) += n;
        let mut count = |part, key, bin| add(part, key, bin, full);
        count(Part::Sessions, 0, 0);
        let [mut before, mut previous] = [name_hash(&[NONE]); 2];
        for call in &session.calls {
            let tool = name_hash(&[&call.request.target]);
            count(Part::Tool, tool, 0);
            count(Part::Departures, previous, 0);
            count(Part::Transition, transition_key(previous, tool), 0);
            count(Part::Transition2, transition2_key(before, previous, tool), 0);
            (before, previous) = (previous, tool);

            let facts = call.request.call.as_ref().expect("a call has facts");
            count(Part::Shape, shape_key(tool, facts.shape), 0);
            for leaf in &facts.leaves {
                let parameter = name_hash(&[&call.request.target, &leaf.path]);
                count(Part::Parameter, parameter, 0);
                let flow = flow_key(parameter, name_hash(&[&leaf.source]));
                count(Part::Flow, flow, 0);
                count(Part::Value, flow, (leaf.value >> 48) as u32);
                if !leaf.source.is_empty() && leaf.place() != Place::Unspecified {
                    let bin = leaf.place() as u32 - 1 + if leaf.place_of_part { 3 } else { 0 };
                    count(Part::Place, flow, bin);
                    count(Part::Places, 0, bin);
                }
            }
            count(Part::RequestBytes, tool, term_bin(facts.arguments_bytes as f64));
            count(Part::Outcome, tool, outcome_bin(call.outcome()));
            if let Some(latency_us) = call.latency_us() {
                count(Part::ResponseBytes, tool, term_bin(call.response_bytes() as f64));
                count(Part::Latency, tool, term_bin(latency_us as f64));
                if call.outcome() == CallOutcome::Result {
                    count(Part::ResultShape, tool, (call.result_shape() >> 56) as u32);
                }
            }
        }
        let called: Vec<&str> = session.calls.iter().map(|call| call.request.target.as_str()).collect();
        add(Part::Cell, cell_at(&called), 0, 1);
        let mut count = |part, key, bin| add(part, key, bin, full);
        let mut tools: Vec<u64> = Vec::new();
        for call in &session.calls {
            let tool = name_hash(&[&call.request.target]);
            if !tools.contains(&tool) && tools.len() < EARLIER_TOOLS_MAX {
                tools.iter().for_each(|earlier| count(Part::Before, transition_key(*earlier, tool), 0));
                count(Part::ToolSessions, tool, 0);
                tools.push(tool);
            }
        }
    }
    counts.retain(|_, count| *count > 0);
    counts
}

/// What labels add: of each session with calls, if it is malicious or benign.
#[must_use]
pub fn labelled_counts<'a, 'b: 'a>(
    labelled: impl IntoIterator<Item = (&'a SessionPart<'b>, bool)>,
) -> BTreeMap<Entry, u64> {
    let mut counts = BTreeMap::new();
    for (session, is_malicious) in labelled {
        let scope = name_hash(&[&session.first.server]);
        let said = u32::from(is_malicious);
        let mut entries = BTreeSet::new();
        for call in &session.calls {
            entries.insert(Entry { part: Part::LabelledSessions, scope, key: 0, bin: said });
            for leaf in &call.request.call.as_ref().expect("a call has facts").leaves {
                if !leaf.source.is_empty() && leaf.place() != Place::Unspecified {
                    let parameter = name_hash(&[&call.request.target, &leaf.path]);
                    let key = flow_key(parameter, name_hash(&[&leaf.source]));
                    let place = leaf.place() as u32 - 1 + if leaf.place_of_part { 3 } else { 0 };
                    entries.insert(Entry { part: Part::LabelledPlace, scope, key, bin: 2 * place + said });
                }
            }
        }
        entries.into_iter().for_each(|entry| *counts.entry(entry).or_insert(0) += 1);
    }
    counts
}
