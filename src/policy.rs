//! Policy: from who asks for what, and what is thought of it, to what is done. Pure and synchronous; it cannot await.
//!
//! Upstream: the edge, with the assessment's p-value. Downstream: the verdict in the event, and the relay. Access rules
//! come first and hold in every mode; what was learned is enforced in mode `enforce` alone. Not here: waiting for a
//! person's answer (`edge::holds`).

mod access;
mod file;
mod words;

use std::collections::BTreeSet;
use std::time::Duration;

use undercurrent_schemas::ids::stable_hash;
use undercurrent_schemas::v1;

pub use self::access::{Access, AccessRule};
pub use self::file::PolicyError;

/// What to do with a client message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Allow,
    /// Forward, and say in the record that it stands out.
    Flag,
    /// Forward after this pause.
    Delay(Duration),
    /// A person decides.
    Hold(Ticket),
    Block(BlockReason),
}

/// Names a held message; survives its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket(pub String);

/// Why a message is not forwarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockReason {
    /// A stable code for clients and metrics.
    pub code: &'static str,
    pub text: String,
}

impl Decision {
    /// How the record names it.
    #[must_use]
    pub const fn to_wire(&self) -> v1::Decision {
        match self {
            Self::Allow => v1::Decision::Allow,
            Self::Flag => v1::Decision::Flag,
            Self::Delay(_) => v1::Decision::Delay,
            Self::Hold(_) => v1::Decision::Hold,
            Self::Block(_) => v1::Decision::Block,
        }
    }

    /// The label and column value.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Flag => "flag",
            Self::Delay(_) => "delay",
            Self::Hold(_) => "hold",
            Self::Block(_) => "block",
        }
    }
}

/// How far a judgement reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Judgements are recorded; nothing is altered or blocked because of them.
    Observe,
    /// Judgements are carried out.
    Enforce,
}

/// The rules of a deployment.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    mode: Mode,
    below: Thresholds,
    /// What a delayed call waits.
    delay: Duration,
    /// How long a held call waits for a person, and how long an answer holds.
    hold: Duration,
    flag_always: BTreeSet<String>,
    flag_never: BTreeSet<String>,
    hold_always: BTreeSet<String>,
    block_always: BTreeSet<String>,
    access: Access,
    result_bytes_max: Option<usize>,
}

/// P-values below which something is done; 0 = never.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Thresholds {
    flag: f64,
    delay: f64,
    hold: f64,
    block: f64,
}

/// A `tools/call` and what is thought of it.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub principal: &'a str,
    pub server: &'a str,
    pub tool: &'a str,
    /// Of tool and arguments: equal calls have equal ones.
    pub fingerprint: u64,
    /// How rare such a call is, in (0, 1]; `None` = no model was live, and then rules that name tools decide alone.
    pub p_value: Option<f64>,
}

/// A decision, and whether it is carried out or only recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruling {
    pub decision: Decision,
    pub enforced: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            mode: Mode::Observe,
            below: Thresholds { flag: 0.01, ..Thresholds::default() },
            delay: Duration::from_secs(1),
            hold: Duration::from_secs(300),
            flag_always: BTreeSet::new(),
            flag_never: BTreeSet::new(),
            hold_always: BTreeSet::new(),
            block_always: BTreeSet::new(),
            access: Access::default(),
            result_bytes_max: None,
        }
    }
}

impl Policy {
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    #[must_use]
    pub const fn access(&self) -> &Access {
        &self.access
    }

    /// Whether it may say no to anything: then a message that cannot be understood must not pass either.
    #[must_use]
    pub fn refuses(&self) -> bool {
        match self.mode {
            Mode::Enforce => true,
            Mode::Observe => !self.access.is_empty(),
        }
    }

    /// Whether whatever it says of a message changes nothing about how the message is relayed.
    #[must_use]
    pub fn only_observes(&self) -> bool {
        !self.refuses() && self.result_bytes_max.is_none()
    }

    /// How long a held call waits for a person's answer.
    #[must_use]
    pub const fn hold(&self) -> Duration {
        self.hold
    }

    /// The largest answer to a call that a client gets.
    #[must_use]
    pub const fn result_bytes_max(&self) -> Option<usize> {
        self.result_bytes_max
    }

    #[cfg(test)]
    pub(crate) fn with_access(self, access: Access) -> Self {
        Self { access, ..self }
    }

    #[cfg(test)]
    pub(crate) const fn with_result_bytes_max(mut self, result_bytes_max: Option<usize>) -> Self {
        self.result_bytes_max = result_bytes_max;
        self
    }

    #[cfg(test)]
    pub(crate) fn with_held(self, tool: &str, hold: Duration) -> Self {
        Self { mode: Mode::Enforce, hold, hold_always: [tool.to_owned()].into(), ..self }
    }

    /// Whether any answer to this principal is to be looked at before it gets it.
    #[must_use]
    pub fn holds_answers(&self, principal: &str, server: &str) -> bool {
        ["tools/list", "tools/call"].iter().any(|method| self.holds_answer(principal, server, method))
    }

    /// Whether the answer to such a message is to be looked at before the client gets it.
    #[must_use]
    pub fn holds_answer(&self, principal: &str, server: &str, method: &str) -> bool {
        match method {
            "tools/list" => self.access.restricts(principal, server),
            "tools/call" => self.result_bytes_max.is_some(),
            _ => false,
        }
    }
}

/// Decides about a `tools/call`.
#[must_use]
pub fn decide(asked: &Asked<'_>, policy: &Policy) -> Ruling {
    if !policy.access.allows(asked.principal, asked.server, asked.tool) {
        let text = format!("this principal may not call `{}`", asked.tool);
        return Ruling { decision: Decision::Block(BlockReason { code: "tool_not_allowed", text }), enforced: true };
    }
    let enforced = match policy.mode {
        Mode::Observe => false,
        Mode::Enforce => true,
    };
    Ruling { decision: judge(asked, policy), enforced }
}

fn judge(asked: &Asked<'_>, policy: &Policy) -> Decision {
    let listed = |list: &BTreeSet<String>| list.contains(asked.tool);
    if listed(&policy.block_always) {
        let text = format!("calls of `{}` are blocked here", asked.tool);
        return Decision::Block(BlockReason { code: "policy_block", text });
    }
    if listed(&policy.hold_always) {
        return Decision::Hold(Ticket::of(asked));
    }
    let rarer_than = |below: f64| !listed(&policy.flag_never) && asked.p_value.is_some_and(|p| p < below);
    if rarer_than(policy.below.block) {
        let text = "this call is too unlike the calls seen so far".to_owned();
        Decision::Block(BlockReason { code: "policy_block", text })
    } else if rarer_than(policy.below.hold) {
        Decision::Hold(Ticket::of(asked))
    } else if rarer_than(policy.below.delay) {
        Decision::Delay(policy.delay)
    } else if listed(&policy.flag_always) || rarer_than(policy.below.flag) {
        Decision::Flag
    } else {
        Decision::Allow
    }
}

impl Ticket {
    /// The same for the same call of the same principal, so that an answer reaches the retry.
    fn of(asked: &Asked<'_>) -> Self {
        let parts = [asked.principal, asked.server, asked.tool].map(str::as_bytes);
        let [principal, server, tool] = parts;
        Self(format!("{:016x}", stable_hash(&[principal, server, tool, &asked.fingerprint.to_le_bytes()])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(tool: &str, p_value: Option<f64>) -> Asked<'_> {
        Asked { principal: "alice", server: "bank", tool, fingerprint: 7, p_value }
    }

    fn table(policy: &Policy, tools: &[&str], p_values: &[Option<f64>]) -> String {
        let mut table = String::from("tool      p_value     decision\n");
        for tool in tools {
            for p_value in p_values {
                let Ruling { decision, enforced } = decide(&ask(tool, *p_value), policy);
                let shown = p_value.map_or_else(|| "unknown".to_owned(), |p| p.to_string());
                let enforced = if enforced { ", enforced" } else { "" };
                table.push_str(&format!("{tool:9} {shown:11} {}{enforced}\n", decision.as_str()));
            }
        }
        table
    }

    #[test]
    fn decision_table() {
        let policy = Policy {
            flag_always: ["transfer".to_owned()].into(),
            flag_never: ["ping".to_owned()].into(),
            ..Policy::default()
        };
        let p_values = [None, Some(1.0), Some(0.01), Some(0.0099), Some(1e-9)];
        insta::assert_snapshot!(table(&policy, &["transfer", "ping", "search"], &p_values));
    }

    #[test]
    fn decision_table_of_a_policy_that_enforces() {
        let wildcard = |text: &str| vec![wildmatch::WildMatch::new(text)];
        let forbidden = AccessRule {
            principals: wildcard("*"),
            upstreams: wildcard("bank"),
            tools: wildcard("close_*"),
            allow: false,
        };
        let policy = Policy {
            mode: Mode::Enforce,
            below: Thresholds { flag: 0.01, delay: 0.005, hold: 0.001, block: 0.0001 },
            flag_never: ["ping".to_owned()].into(),
            hold_always: ["transfer".to_owned()].into(),
            block_always: ["wipe".to_owned()].into(),
            access: Access::new(vec![forbidden]),
            ..Policy::default()
        };
        let p_values = [None, Some(0.5), Some(0.009), Some(0.004), Some(0.0009), Some(0.00009)];
        insta::assert_snapshot!(table(&policy, &["search", "ping", "transfer", "wipe", "close_it"], &p_values));
        // What is forbidden is forbidden in every mode; all else is merely recorded when observing.
        let observing = Policy { mode: Mode::Observe, ..policy };
        assert!(decide(&ask("close_it", None), &observing).enforced);
        assert!(!decide(&ask("wipe", None), &observing).enforced);
    }

    #[test]
    fn a_ticket_is_of_one_call_of_one_principal() {
        let ticket = Ticket::of(&ask("t", None));
        assert_eq!(ticket, Ticket::of(&ask("t", Some(0.1))));
        let others = [
            Asked { principal: "bob", ..ask("t", None) },
            Asked { server: "b", ..ask("t", None) },
            Asked { principal: "alic", server: "ebank", ..ask("t", None) },
            Asked { fingerprint: 8, ..ask("t", None) },
            ask("u", None),
        ];
        assert!(others.iter().all(|other| Ticket::of(other) != ticket));
    }

    #[test]
    fn only_answers_that_a_rule_is_about_are_held() {
        let rule = AccessRule {
            principals: vec![wildmatch::WildMatch::new("bob")],
            upstreams: vec![wildmatch::WildMatch::new("*")],
            tools: vec![wildmatch::WildMatch::new("x")],
            allow: false,
        };
        let policy = Policy { access: Access::new(vec![rule]), ..Policy::default() };
        assert!(policy.holds_answer("bob", "s", "tools/list"));
        assert!(!policy.holds_answer("alice", "s", "tools/list") && !policy.holds_answer("bob", "s", "tools/call"));
        let policy = Policy { result_bytes_max: Some(1), ..Policy::default() };
        assert!(policy.holds_answer("alice", "s", "tools/call"));
    }

    #[test]
    fn names_agree_with_the_wire() {
        let block = BlockReason { code: "policy_block", text: "no".into() };
        let all = [
            Decision::Allow,
            Decision::Flag,
            Decision::Delay(Duration::ZERO),
            Decision::Hold(Ticket("t".into())),
            Decision::Block(block),
        ];
        for decision in all {
            let wire = decision.to_wire().as_str_name().to_lowercase();
            assert_eq!(wire, format!("decision_{}", decision.as_str()));
        }
    }
}
