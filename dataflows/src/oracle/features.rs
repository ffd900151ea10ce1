//! Twin of the windowed features: every call looked at for every window, latencies kept and sorted.

use std::collections::BTreeMap;

use undercurrent_schemas::ids::Micros;
use undercurrent_schemas::rows::{CallOutcome, EntityKind, FeatureRow, ReportedSums, Source};
use undercurrent_schemas::text::Text;

use super::{Call, Part};
use crate::graph::{Sketch, Window};

/// The features of all windows with a call, as rows that were added once, in order of (window, kind, entity).
#[must_use]
pub fn feature_rows(parts: &[Part<'_>], windows: &[Window]) -> Vec<FeatureRow> {
    let mut groups: BTreeMap<(i64, Micros, EntityKind, &str, String), Vec<&Call<'_>>> = BTreeMap::new();
    for part in parts {
        for call in &part.calls {
            for window in windows {
                for start in starts(window, call.ts) {
                    for (kind, name) in entities(part, call) {
                        let key = (window.size_us, start, kind, part.first.tenant.as_str(), name);
                        groups.entry(key).or_default().push(call);
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

fn features(calls: &[&Call<'_>]) -> FeatureRow {
    let mut latencies: Vec<i64> = calls.iter().filter_map(|call| call.latency_us()).collect();
    latencies.sort_unstable();
    FeatureRow {
        source: Source::default(),
        diff: 1,
        kind: EntityKind::Server,
        tenant: Text::default(),
        entity: Text::default(),
        window_start: Micros(0),
        window_us: 0,
        calls: calls.len() as i64,
        errors: calls.iter().filter(|call| call.outcome() != CallOutcome::Result).count() as i64,
        request_bytes: calls.iter().map(|call| call.request.size_bytes as i64).sum(),
        response_bytes: calls.iter().map(|call| call.response_bytes() as i64).sum(),
        answered: latencies.len() as i64,
        latency_sum_us: latencies.iter().sum(),
        latency_p50_us: quantile(&latencies, 0.5),
        latency_p95_us: quantile(&latencies, 0.95),
        reported: ReportedSums::default(),
    }
}

/// The value at this rank, as exactly as a sketch tells values apart.
fn quantile(sorted: &[i64], q: f64) -> Option<f64> {
    let rank = (q * sorted.len().saturating_sub(1) as f64) as usize;
    Sketch::of(*sorted.get(rank)? as u64).quantile(q)
}
