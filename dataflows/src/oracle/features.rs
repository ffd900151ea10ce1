//! Twins of the windowed features, every call looked at for every window, latencies kept and sorted; and of forecasts.

use std::collections::{BTreeMap, BTreeSet};

use undercurrent_schemas::ids::Micros;
use undercurrent_schemas::rows::{CallOutcome, EntityKind, FeatureRow, ReportedSums, Source};
use undercurrent_schemas::text::Text;
use undercurrent_schemas::v1::{self, CallFacts, Leaf, LeafType, TermKind};

use super::{Call, Part};
use crate::graph::{Sketch, Window};
use crate::model::name_hash;
use crate::session::EARLIER_TOOLS_MAX;

/// A call and whose it is.
type OfPart<'a> = (&'a Part<'a>, &'a Call<'a>);

/// The features of all windows with a call, as rows that were added once, in order of (window, kind, entity).
#[must_use]
pub fn feature_rows(parts: &[Part<'_>], windows: &[Window]) -> Vec<FeatureRow> {
    let mut groups: BTreeMap<(i64, Micros, EntityKind, &str, String), Vec<OfPart<'_>>> = BTreeMap::new();
    for part in parts {
        for call in &part.calls {
            for window in windows {
                for start in starts(window, call.ts) {
                    for (kind, name) in entities(part, call) {
                        let key = (window.size_us, start, kind, part.first.tenant.as_str(), name);
                        groups.entry(key).or_default().push((part, call));
                    }
                }
            }
        }
    }
    groups
        .iter()
        .map(|((size_us, start, kind, tenant, entity), calls)| FeatureRow {
            window_start: *start,
            window_us: *size_us,
            kind: *kind,
            tenant: (*tenant).into(),
            entity: entity.as_str().into(),
            ..features(calls)
        })
        .collect()
}

/// Windows start at the multiples of their hop; a call is in those that have started and are not full.
fn starts(window: &Window, ts: Micros) -> Vec<Micros> {
    let mut start = (ts.0 - window.size_us).div_euclid(window.hop_us) * window.hop_us;
    let mut starts = Vec::new();
    while start <= ts.0 {
        if ts.0 < start + window.size_us {
            starts.push(Micros(start));
        }
        start += window.hop_us;
    }
    starts
}

fn entities(part: &Part<'_>, call: &Call<'_>) -> [(EntityKind, String); 4] {
    [
        (EntityKind::Server, part.first.server.clone()),
        (EntityKind::Tool, format!("{}/{}", part.first.server, call.request.target)),
        (EntityKind::Principal, part.first.principal.clone()),
        (EntityKind::Session, part.first.session_id.clone()),
    ]
}

fn features(parts_calls: &[OfPart<'_>]) -> FeatureRow {
    let calls = || parts_calls.iter().map(|(_, call)| *call);
    let mut latencies: Vec<i64> = calls().filter_map(Call::latency_us).collect();
    latencies.sort_unstable();
    FeatureRow {
        source: Source::default(),
        diff: 1,
        kind: EntityKind::Server,
        tenant: Text::default(),
        entity: Text::default(),
        window_start: Micros(0),
        window_us: 0,
        calls: parts_calls.len() as i64,
        errors: calls().filter(|call| call.outcome() != CallOutcome::Result).count() as i64,
        tool_errors: calls().filter(|call| call.outcome() == CallOutcome::ToolError).count() as i64,
        rpc_errors: calls().filter(|call| call.outcome() == CallOutcome::RpcError).count() as i64,
        new_hosts: leaves(calls()).filter(|leaf| leaf.host != 0 && !leaf.host_known).count() as i64,
        hosts: leaves(calls()).filter(|leaf| leaf.host != 0).count() as i64,
        new_tools: calls().filter(|call| is_first_of_tool(call)).count() as i64,
        distinct_tools: parts_calls.iter().map(tool_of).collect::<BTreeSet<_>>().len() as i64,
        distinct_shapes: {
            let shaped = parts_calls.iter().map(|of| (tool_of(of), facts(of.1).map_or(0, |facts| facts.shape)));
            shaped.filter(|(_, shape)| *shape != 0).collect::<BTreeSet<_>>().len() as i64
        },
        arguments: leaves(calls()).count() as i64,
        text_arguments: leaves(calls()).filter(|leaf| leaf.r#type() == LeafType::String).count() as i64,
        sourced_arguments: leaves(calls()).filter(|leaf| !leaf.source.is_empty()).count() as i64,
        shape_millibits: calls().map(|call| said(call, TermKind::ShapeBits)).sum(),
        fresh_millibits: calls().map(|call| said(call, TermKind::FreshBits)).sum(),
        argument_entropy_millibits: {
            let texts = leaves(calls()).filter(|leaf| leaf.r#type() == LeafType::String);
            texts.map(|leaf| i64::from(leaf.entropy_millibits)).sum()
        },
        request_bytes: calls().map(|call| call.request.size_bytes as i64).sum(),
        response_bytes: calls().map(|call| call.response_bytes() as i64).sum(),
        answered: latencies.len() as i64,
        latency_sum_us: latencies.iter().sum(),
        latency_p50_us: quantile(&latencies, 0.5),
        latency_p95_us: quantile(&latencies, 0.95),
        reported: ReportedSums::default(),
    }
}

fn facts<'a>(call: &Call<'a>) -> Option<&'a CallFacts> {
    let request: &'a v1::Message = call.request;
    request.call.as_ref()
}

fn leaves<'a>(calls: impl Iterator<Item = &'a Call<'a>>) -> impl Iterator<Item = &'a Leaf> {
    calls.filter_map(facts).flat_map(|facts| &facts.leaves)
}

/// Whose tool, and which.
fn tool_of<'a>((part, call): &OfPart<'a>) -> (&'a str, &'a str) {
    (&part.first.server, &call.request.target)
}

fn is_first_of_tool(call: &Call<'_>) -> bool {
    facts(call).is_some_and(|facts| {
        let is_known = facts.earlier_tools.contains(&name_hash(&[&call.request.target]));
        facts.shape != 0 && facts.earlier_tools.len() < EARLIER_TOOLS_MAX && !is_known
    })
}

/// What the request path said of a call, in thousandths.
fn said(call: &Call<'_>, kind: TermKind) -> i64 {
    let assessment = call.request.verdict.as_ref().and_then(|verdict| verdict.assessment.as_ref());
    let term = assessment.and_then(|assessment| assessment.terms.iter().find(|term| term.kind() == kind));
    term.map_or(0, |term| (term.value * 1_000.0).round() as i64)
}

/// The value at this rank, as exactly as a sketch tells values apart.
fn quantile(sorted: &[i64], q: f64) -> Option<f64> {
    let rank = (q * sorted.len().saturating_sub(1) as f64) as usize;
    Sketch::of(*sorted.get(rank)? as u64).quantile(q)
}

/// The value that comes after these and the mean error of the values before it, as Holt and Winters have it: additive, a
/// trend that fades, a season of an hour once two are known. `None` = too few values.
#[must_use]
pub fn forecast(values: &[f64]) -> Option<(f64, f64)> {
    let (alpha, beta, gamma, phi) = (0.3, 0.05, 0.2, 0.9);
    if values.len() < 10 {
        return None;
    }
    let seasonal = values.len() >= 120;
    let mean_of = |from: usize, to: usize| values[from..to].iter().sum::<f64>() / (to - from) as f64;
    // Of each value what its season adds; the seasons of one minute of the hour follow each other.
    let mut season: Vec<f64> =
        (0..60).map(|at| if seasonal { (values[at] + values[at + 60]) / 2.0 - mean_of(0, 120) } else { 0.0 }).collect();
    let mut level = mean_of(0, 10) - season[..10].iter().sum::<f64>() / 10.0;
    let mut trend = 0.0;
    let mut errors = Vec::new();
    for (at, value) in values.iter().enumerate() {
        let expected = level + phi * trend + season[at];
        if at >= 5 {
            errors.push((value - f64::max(expected, 0.0)).abs());
        }
        let next = alpha * (value - season[at]) + (1.0 - alpha) * (level + phi * trend);
        trend = beta * (next - level) + (1.0 - beta) * phi * trend;
        level = next;
        season.push(if seasonal { gamma * (value - level) + (1.0 - gamma) * season[at] } else { 0.0 });
    }
    let expected = level + phi * trend + season[values.len()];
    Some((f64::max(expected, 0.0), errors.iter().sum::<f64>() / errors.len() as f64))
}
