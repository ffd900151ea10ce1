//! The dictionary: what the name hashes of one partition's facts stand for.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use undercurrent_schemas::text::Text;

use super::Outbox;
use crate::assess::{flow_key, shape_key, transition_key, transition2_key};
use crate::model::{NONE, name_text};
use crate::session::{SessionFact, none};

/// Texts by name hash; tells the outbox each one once. Looked up many times a call; an image has them sorted.
#[derive(Debug, Default)]
pub struct Dictionary(
    // Only looked up: no order of it reaches a result.
    HashMap<u64, Text, RandomState>,
);

impl Serialize for Dictionary {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut sorted: Vec<(u64, &str)> = self.0.iter().map(|(hash, text)| (*hash, &**text)).collect();
        sorted.sort_unstable();
        to.collect_map(sorted)
    }
}

impl<'de> Deserialize<'de> for Dictionary {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        // In whatever order.
        HashMap::deserialize(from).map(Self)
    }
}

impl Dictionary {
    /// Remembers what a hash stands for.
    pub fn learn(&mut self, hash: u64, names: &[&str], out: &mut Outbox) {
        if !self.0.contains_key(&hash) {
            self.tell(hash, name_text(names), out);
        }
    }

    /// The text of a name hash.
    #[must_use]
    pub fn text(&self, hash: u64) -> Option<&str> {
        self.0.get(&hash).map(|text| &**text)
    }

    /// The same, to be given on; empty where it is not known.
    pub(super) fn shared(&self, hash: u64) -> Text {
        self.0.get(&hash).cloned().unwrap_or_default()
    }

    /// Remembers the names of a session's transitions and flow edges, which are pairs of names known before.
    pub(super) fn learn_pairs(&mut self, session: &SessionFact, out: &mut Outbox) {
        self.learn(none(), &[NONE], out);
        let tools = session.tools();
        for (index, tool) in tools.iter().enumerate() {
            for earlier in &tools[..index] {
                self.learn_pair(transition_key(*earlier, *tool), *earlier, *tool, out);
            }
        }
        session.with_past(|past, call, _| {
            self.learn_pair(transition_key(past.previous, call.tool), past.previous, call.tool, out);
            let three = transition2_key(past.before, past.previous, call.tool);
            if !self.0.contains_key(&three) {
                let name = |hash: u64| self.text(hash).unwrap_or_default();
                let text = name_text(&[name(past.before), name(past.previous), name(call.tool)]);
                self.tell(three, text, out);
            }
            let shape = shape_key(call.tool, call.shape);
            if !self.0.contains_key(&shape) {
                let tool = self.text(call.tool).unwrap_or_default();
                let text = name_text(&[tool, &format!("{:016x}", call.shape)]);
                self.tell(shape, text, out);
            }
            for leaf in &call.leaves {
                self.learn_pair(flow_key(leaf.parameter, leaf.source), leaf.parameter, leaf.source, out);
            }
        });
    }

    fn learn_pair(&mut self, key: u64, first: u64, second: u64, out: &mut Outbox) {
        if !self.0.contains_key(&key) {
            let text = name_text(&[self.text(first).unwrap_or_default(), self.text(second).unwrap_or_default()]);
            self.tell(key, text, out);
        }
    }

    fn tell(&mut self, hash: u64, text: String, out: &mut Outbox) {
        self.0.insert(hash, text.as_str().into());
        out.names.push((hash, text));
    }
}
