//! What may differ from the direct run, each with its reason. Invariant: an entry that excuses nothing fails the gate.

use std::collections::BTreeSet;

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

const OWN_URL: &str = "the check wants the upstream's own URL; a client of the gateway signs in for the gateway's";
const AFTER_OWN_URL: &str = "the suite gives out no token once the check above has failed";
const JSON_ALONE: &str = "an answer that comes alone and soon is JSON, and a stream is not closed before its time";

/// A check of a client over HTTP.
const fn client(kind: Kind, scenario: Option<&'static str>, check: &'static str, reason: &'static str) -> Exception {
    Exception { side: Side::Client, path: Path::Http, kind, scenario, check, reason }
}

/// A check of a server behind stdio that is not reached.
const fn stdio(scenario: &'static str, check: &'static str) -> Exception {
    let (scenario, kind) = (Some(scenario), Kind::Unreached);
    Exception { side: Side::Server, path: Path::Stdio, kind, scenario, check, reason: JSON_ALONE }
}

const EXCEPTIONS: &[Exception] = &[
    client(Kind::Failed, None, "resource-parameter-matches-prm", OWN_URL),
    client(Kind::Failed, Some("auth/cross-app-access-complete-flow"), "complete-flow-jwt-bearer", OWN_URL),
    client(Kind::Failed, Some("auth/enterprise-managed-authorization"), "complete-flow-jwt-bearer", OWN_URL),
    client(Kind::Unreached, Some("auth/cross-app-access-complete-flow"), "valid-bearer-token", AFTER_OWN_URL),
    client(Kind::Unreached, Some("auth/enterprise-managed-authorization"), "valid-bearer-token", AFTER_OWN_URL),
    stdio("server-server-sse-multiple-streams", "server-sse-streams-functional"),
    stdio("server-server-sse-polling", "server-sse-disconnect-resume"),
];

/// The exceptions that excused something.
#[derive(Debug, Default)]
pub(crate) struct Excuses(BTreeSet<usize>);

impl Excuses {
    /// Whether a difference is in the list.
    pub(crate) fn excuse(&mut self, side: Side, path: Path, difference: &Difference) -> bool {
        let at = EXCEPTIONS.iter().position(|exception| {
            (exception.side, exception.path, exception.kind) == (side, path, difference.kind)
                && exception.scenario.is_none_or(|scenario| scenario == difference.check.scenario)
                && exception.check == difference.check.id
        });
        self.0.extend(at);
        at.is_some()
    }

    /// Entries of a side that have not been needed.
    pub(crate) fn stale(&self, side: Side) -> Vec<String> {
        let stale =
            EXCEPTIONS.iter().enumerate().filter(|(at, exception)| exception.side == side && !self.0.contains(at));
        stale.map(|(_, exception)| format!("{}: an exception that excuses nothing", exception.check)).collect()
    }
}
