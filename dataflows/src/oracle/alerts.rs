//! Twin of the rules on sessions: which of their alerts are open, each asked of all calls of a part at once.

use std::collections::{BTreeMap, BTreeSet};

use undercurrent_schemas::ids::Micros;
use undercurrent_schemas::rows::{AlertKind, CallOutcome};
use undercurrent_schemas::v1;

use super::Part;
use crate::sessions::Rules;

/// Since when an alert is open, and how often it was raised.
pub type Open = (Micros, u64);

/// The open alerts of the parts that are under way, by kind and session. `is_secret` says which arguments hold one.
#[must_use]
pub fn open_alerts<'a>(
    parts: &[Part<'a>],
    rules: &Rules,
    is_secret: impl Fn(&v1::Leaf) -> bool,
) -> BTreeMap<(AlertKind, &'a str), Open> {
    let mut all = BTreeMap::new();
    for part in parts.iter().filter(|part| !part.is_over) {
        let calls: Vec<(Micros, u64)> =
            part.messages.iter().filter_map(|(ts, message)| Some((*ts, message.call.as_ref()?.fingerprint))).collect();
        let repeats = run(calls.len(), |at| at >= 1 && calls[at].1 == calls[at - 1].1);
        let rounds = run(calls.len(), |at| at >= 2 && calls[at].1 == calls[at - 2].1 && calls[at].1 != calls[at - 1].1);
        let mut answered: Vec<_> = part.calls.iter().filter_map(|call| Some((call.answer?.0, call))).collect();
        answered.sort_by_key(|(ts, _)| *ts);
        let failed = |at: usize| matches!(answered[at].1.outcome(), CallOutcome::ToolError | CallOutcome::RpcError);
        let errors = run(answered.len(), failed);
        let since_call = |at: usize| calls[at].0;
        let open = [
            (AlertKind::Loop, raised(repeats, rules.loop_calls as usize - 1, calls.len(), since_call)),
            (AlertKind::LoopOfTwo, raised(rounds, 2 * rules.loop_calls as usize, calls.len(), since_call)),
            (AlertKind::ErrorStreak, raised(errors, rules.error_streak as usize, answered.len(), |at| answered[at].0)),
            (AlertKind::Probing, {
                let failures = (0..answered.len()).filter(|at| failed(*at)).map(|at| answered[at]);
                probed(failures, rules.probes as usize, &is_secret)
            }),
        ];
        let id = part.first.session_id.as_str();
        all.extend(open.into_iter().filter_map(|(kind, open)| Some(((kind, id), open?))));
    }
    all
}

/// How many of the last of these hold, one after the other.
fn run(count: usize, holds: impl Fn(usize) -> bool) -> usize {
    (0..count).rev().take_while(|at| holds(*at)).count()
}

/// A run that has reached the threshold was raised there and at each doubling.
fn raised(run: usize, threshold: usize, count: usize, at: impl Fn(usize) -> Micros) -> Option<Open> {
    (run >= threshold).then(|| (at(count - run + threshold - 1), u64::from((run / threshold).ilog2()) + 1))
}

/// Raised once for each secret of which so many values failed.
fn probed<'a>(
    failures: impl Iterator<Item = (Micros, &'a super::Call<'a>)>,
    probes: usize,
    is_secret: impl Fn(&v1::Leaf) -> bool,
) -> Option<Open> {
    let mut values: BTreeMap<(&str, &str), BTreeSet<u64>> = BTreeMap::new();
    let mut reached = Vec::new();
    for (ts, call) in failures {
        for leaf in call.request.call.iter().flat_map(|facts| &facts.leaves).filter(|leaf| is_secret(leaf)) {
            let values = values.entry((&call.request.target, &leaf.path)).or_default();
            if values.insert(leaf.value) && values.len() == probes {
                reached.push(ts);
            }
        }
    }
    Some((*reached.first()?, reached.len() as u64))
}
