//! What its cluster says about a session, in words: that there is none where many sessions have one, or that it drifts.
//!
//! A reason without weight, beside those that make the score: no score rests on clusters.

use undercurrent_schemas::rows::{ClusterRow, SessionRow};
use undercurrent_schemas::v1::{Reason, TermKind};

use crate::model::{Model, Part, name_hash};

/// Sessions that a server needs before it says something that one of them works like no others.
const KNOWN_SESSIONS: f64 = 50.0;

/// From this drift on a cluster is mostly others than it was.
const DRIFT: f64 = 0.5;

/// `cluster`: what was last told of the session's cluster; `None` = it is in none. `model`: with the session in it.
pub(super) fn reason(model: &Model, row: &SessionRow, cluster: Option<&ClusterRow>) -> Option<Reason> {
    let text = match (row.cell?, cluster) {
        (_, Some(cluster)) if cluster.drift >= DRIFT => format!(
            "its cluster {} has drifted: {:.0} % of it works otherwise than when it opened, like `{}`",
            cluster.cluster,
            100.0 * cluster.drift,
            cluster.exemplar
        ),
        (_, Some(_)) => return None,
        (cell, None) => {
            let scope = name_hash(&[&row.server]);
            let sessions = model.seen(Part::Sessions, scope, 0, 0) - 1.0;
            if sessions < KNOWN_SESSIONS {
                return None;
            }
            let alike = model.count(Part::Cell, scope, cell, 0).saturating_sub(1);
            format!("it works like no cluster of sessions here: {alike} of about {sessions:.0} earlier ones were alike")
        }
    };
    Some(Reason { kind: TermKind::Cluster.into(), text, weight: 0.0 })
}
