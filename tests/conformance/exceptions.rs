//! What may differ from the direct run, each with its reason. Invariant: an entry that excuses nothing fails the gate.

use std::collections::BTreeSet;

use super::Path;
use super::checks::{Difference, Kind};
use super::suite::Side;

/// A check that asserts the upstream's own URL: a client of the gateway signs in for the gateway's, as OAuth wants it to
/// (the resource of a token is the URL that its client uses, and metadata of another one is refused).
struct OwnUrl {
    /// A scenario, or all of them.
    scenario: Option<&'static str>,
    check: &'static str,
    /// What the suite does not come to in a scenario of that name once this check has failed.
    cuts_off: &'static [&'static str],
    #[expect(dead_code, reason = "for whoever reads this")]
    reason: &'static str,
}

const OWN_URLS: &[OwnUrl] = &[
    OwnUrl {
        scenario: None,
        check: "resource-parameter-matches-prm",
        cuts_off: &[],
        reason: "compares the `resource` of the client's requests with the upstream's own metadata",
    },
    OwnUrl {
        scenario: Some("auth/cross-app-access-complete-flow"),
        check: GRANT,
        cuts_off: &["valid-bearer-token"],
        reason: GRANT_REASON,
    },
    OwnUrl {
        scenario: Some("auth/enterprise-managed-authorization"),
        check: GRANT,
        cuts_off: &["valid-bearer-token"],
        reason: GRANT_REASON,
    },
];

const GRANT: &str = "complete-flow-jwt-bearer";
const GRANT_REASON: &str = "the suite's authorization server wants the grant's `resource` to be the upstream's own URL, and \
                            gives out no token otherwise: no request can then come with one";

/// The exceptions that excused something.
#[derive(Debug, Default)]
pub(crate) struct Excuses(BTreeSet<usize>);

impl Excuses {
    /// What of the differences between two runs is in no entry. What a check cuts off is excused where it has failed.
    pub(crate) fn unexcused(&mut self, side: Side, path: Path, differences: Vec<Difference>) -> Vec<Difference> {
        if (side, path) != (Side::Client, Path::Http) {
            return differences;
        }
        let failed = |entry: &OwnUrl, scenario: &str| {
            differences.iter().any(|other| {
                (other.kind, other.check.id.as_str(), other.check.scenario.as_str())
                    == (Kind::Failed, entry.check, scenario)
            })
        };
        let excuse = |difference: &Difference| {
            OWN_URLS.iter().position(|entry| {
                let scenario = difference.check.scenario.as_str();
                let id = difference.check.id.as_str();
                entry.scenario.is_none_or(|own| own == scenario)
                    && match difference.kind {
                        Kind::Failed => id == entry.check,
                        Kind::Unreached => entry.cuts_off.contains(&id) && failed(entry, scenario),
                    }
            })
        };
        let excused: Vec<Option<usize>> = differences.iter().map(excuse).collect();
        self.0.extend(excused.iter().flatten());
        let all = differences.into_iter().zip(excused);
        all.filter_map(|(difference, excused)| excused.is_none().then_some(difference)).collect()
    }

    /// Entries of a side that have not been needed.
    pub(crate) fn stale(&self, side: Side) -> Vec<String> {
        let stale = OWN_URLS.iter().enumerate().filter(|(at, _)| side == Side::Client && !self.0.contains(at));
        stale.map(|(_, entry)| format!("{}: an exception that excuses nothing", entry.check)).collect()
    }
}
