//! What may differ from the direct run, each with its reason. An entry that excuses nothing any more should go.

use super::Path;
use super::checks::{Difference, Kind};
use super::suite::Side;

struct Exception {
    side: Side,
    path: Path,
    kind: Kind,
    /// A scenario, or all of them.
    scenario: Option<&'static str>,
    check: &'static str,
    #[expect(dead_code, reason = "for whoever reads this")]
    reason: &'static str,
}

const EXCEPTIONS: &[Exception] = &[];

/// Whether a difference is in the list.
pub(crate) fn excused(side: Side, path: Path, difference: &Difference) -> bool {
    EXCEPTIONS.iter().any(|exception| {
        (exception.side, exception.path, exception.kind) == (side, path, difference.kind)
            && exception.scenario.is_none_or(|scenario| scenario == difference.check.scenario)
            && exception.check == difference.check.id
    })
}
