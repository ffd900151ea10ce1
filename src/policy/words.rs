//! A policy in words, for people who ask what their configuration means.

use std::collections::BTreeSet;

use super::{Mode, Policy};

impl Policy {
    /// One sentence a rule.
    #[must_use]
    pub fn in_words(&self) -> Vec<String> {
        let mode = match self.mode {
            Mode::Observe => "observe: what stands out is recorded, and nothing is delayed or blocked because of it",
            Mode::Enforce => "enforce: what stands out is delayed, held or blocked as the rules below say",
        };
        let mut words = vec![mode.to_owned()];
        if !self.access.is_empty() {
            words.push(format!("rules of access, in every mode and before all others: {}", self.access.len()));
        }
        let below = &self.below;
        let thresholds = [
            ("flagged", below.flag),
            ("delayed", below.delay),
            ("held for a person", below.hold),
            ("blocked", below.block),
        ];
        for (what, p) in thresholds.into_iter().filter(|(_, p)| *p > 0.0) {
            words.push(format!("a call is {what} if its p-value is below {p}"));
        }
        let tools = |tools: &BTreeSet<String>| tools.iter().cloned().collect::<Vec<_>>().join(", ");
        let named = [
            ("always flagged", &self.flag_always),
            ("never flagged", &self.flag_never),
            ("always held for a person", &self.hold_always),
            ("always blocked", &self.block_always),
        ];
        for (what, names) in named.into_iter().filter(|(_, names)| !names.is_empty()) {
            words.push(format!("{what}: {}", tools(names)));
        }
        if let Some(bytes) = self.result_bytes_max {
            words.push(format!("an answer of more than {bytes} bytes becomes an error, in every mode"));
        }
        words
    }
}
