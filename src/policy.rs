//! Policy: from what is thought of a call to what is done with it. Pure and synchronous; it cannot await.
//!
//! Upstream: the edge, with the assessment's p-value. Downstream: the verdict in the event, and the relay. Today's only
//! mode is `observe`: a call is flagged, never altered. The other decisions exist so that no caller assumes they do not.

mod file;

use std::collections::BTreeSet;
use std::time::Duration;

use undercurrent_schemas::v1;

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

/// How far a decision reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Decisions are recorded; nothing is altered or blocked.
    Observe,
}

impl Mode {
    /// Whether decisions are carried out.
    #[must_use]
    pub const fn enforces(self) -> bool {
        match self {
            Self::Observe => false,
        }
    }
}

/// The rules of a deployment.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    mode: Mode,
    flag_below_p_value: f64,
    flag_always: BTreeSet<String>,
    flag_never: BTreeSet<String>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            mode: Mode::Observe,
            flag_below_p_value: 0.01,
            flag_always: BTreeSet::new(),
            flag_never: BTreeSet::new(),
        }
    }
}

impl Policy {
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mode
    }
}

/// Decides about a `tools/call`. `p_value`: how rare such a call is, in (0, 1]; `None` = no model was live, and then
/// the rules that name tools decide alone.
#[must_use]
pub fn decide(p_value: Option<f64>, tool: &str, policy: &Policy) -> Decision {
    let flagged = if policy.flag_always.contains(tool) {
        true
    } else if policy.flag_never.contains(tool) {
        false
    } else {
        p_value.is_some_and(|p| p < policy.flag_below_p_value)
    };
    if flagged { Decision::Flag } else { Decision::Allow }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decision_table() {
        let policy = Policy {
            flag_always: ["transfer".to_owned()].into(),
            flag_never: ["ping".to_owned()].into(),
            ..Policy::default()
        };
        let mut table = String::from("tool      p_value     decision\n");
        for tool in ["transfer", "ping", "search"] {
            for p_value in [None, Some(1.0), Some(0.01), Some(0.0099), Some(1e-9)] {
                let decision = decide(p_value, tool, &policy);
                let shown = p_value.map_or_else(|| "unknown".to_owned(), |p| p.to_string());
                table.push_str(&format!("{tool:9} {shown:11} {}\n", decision.as_str()));
            }
        }
        insta::assert_snapshot!(table);
    }

    #[test]
    fn observing_enforces_nothing() {
        assert!(!Policy::default().mode().enforces());
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
