//! The tool catalogue: what each server says its tools are, when that changed, and what is odd about it.
//!
//! Upstream: definitions as partitions met them, only where they differ from what a partition saw last. Downstream:
//! rows of table `tools`, and signals for alerts. On worker 0 alone, in order of (time, partition), so that the result
//! depends on no number of workers. Not here: how a tool behaves; that is the model.

mod alike;
mod definition;
mod findings;
mod similarity;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use undercurrent_schemas::ids::{Micros, Partition, stable_hash};
use undercurrent_schemas::rows::{AlertKind, Source, ToolChange, ToolRow};

use crate::alerts::Signal;
use alike::{ALIKE, Alike, COMPARED_MAX};
use definition::Definition;
pub use findings::{Finding, findings};
use similarity::Shingles;

/// Tools that are remembered; further ones are not looked at.
const TOOLS_MAX: usize = 100_000;

/// A definition that a partition met and that is not what it saw of this tool before.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Met {
    pub ts: Micros,
    pub partition: Partition,
    pub tenant: String,
    pub server: String,
    pub session_id: String,
    /// The JSON text.
    pub definition: Vec<u8>,
}

/// What one partition saw last of each tool: almost every list is the same as the one before.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct LastSeen {
    /// (server, hash of the text) → tool, so that a known text is not parsed again.
    tools: BTreeMap<(u64, u64), u64>,
    /// (server, tool) → hash of the text.
    current: BTreeMap<(u64, u64), u64>,
}

impl LastSeen {
    /// Whether this text differs from what was seen last of its tool.
    pub(crate) fn is_new(&mut self, scope: u64, text: &[u8]) -> bool {
        let hash = stable_hash(&[text]);
        let tool = match self.tools.get(&(scope, hash)) {
            Some(tool) => *tool,
            None => {
                let Some(name) = definition::name(text) else { return false };
                let tool = stable_hash(&[name.as_bytes()]);
                if self.tools.len() < TOOLS_MAX {
                    self.tools.insert((scope, hash), tool);
                }
                tool
            }
        };
        if self.current.len() >= TOOLS_MAX && !self.current.contains_key(&(scope, tool)) {
            return false;
        }
        self.current.insert((scope, tool), hash) != Some(hash)
    }
}

/// All servers' tools.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(from = "Vec<(String, Definition)>")]
pub(crate) struct Catalogue {
    /// By server and tool.
    tools: BTreeMap<(Arc<str>, Arc<str>), Definition>,
    /// Which servers have a tool of this name.
    servers: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
    alike: Alike,
}

impl serde::Serialize for Catalogue {
    /// Each tool under its server: the rest follows.
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Self { tools, servers: _, alike: _ } = self;
        to.collect_seq(tools.iter().map(|((server, _), definition)| (&**server, definition)))
    }
}

impl From<Vec<(String, Definition)>> for Catalogue {
    fn from(tools: Vec<(String, Definition)>) -> Self {
        let mut catalogue = Self::default();
        for (server, definition) in tools {
            let (server, tool): (Arc<str>, Arc<str>) = (server.into(), definition.name.as_str().into());
            catalogue.servers.entry(Arc::clone(&tool)).or_default().insert(Arc::clone(&server));
            let key = (server, tool);
            catalogue.alike.insert(&key, &definition.shingles());
            catalogue.tools.insert(key, definition);
        }
        catalogue
    }
}

impl Catalogue {
    /// Takes what the partitions met in one tick.
    pub(crate) fn take(&mut self, mut met: Vec<Met>, signals: &mut Vec<Signal>) -> Vec<ToolRow> {
        met.sort_by_key(|met| (met.ts, met.partition));
        met.iter().filter_map(|met| self.one(met, signals)).collect()
    }

    fn one(&mut self, met: &Met, signals: &mut Vec<Signal>) -> Option<ToolRow> {
        let definition = Definition::parse(&met.definition)?;
        let (server, tool): (Arc<str>, Arc<str>) = (met.server.as_str().into(), definition.name.as_str().into());
        let key = (Arc::clone(&server), Arc::clone(&tool));
        let known = self.tools.get(&key);
        if known.is_none() && self.tools.len() >= TOOLS_MAX {
            return None;
        }
        let (change, what) = match known {
            None => (ToolChange::FirstSeen, Vec::new()),
            Some(known) if known.hash == definition.hash => return None,
            Some(known) => (ToolChange::Changed, definition.differs_from(known)),
        };
        let (shingles, before) = (definition.shingles(), known.map(Definition::shingles));
        let similarity_pct = before.as_ref().map(|before| shingles.similarity(before));
        let mut shadows = self.look_alikes(&key, &shingles, before.as_ref());
        let mut findings: Vec<String> = findings(&definition.texts()).iter().map(ToString::to_string).collect();
        let others = self.servers.entry(Arc::clone(&tool)).or_default();
        others.insert(Arc::clone(&server));
        let also_at: Vec<String> =
            others.iter().filter(|other| **other != server).map(|other| other.to_string()).collect();
        let mut raise = |kind, text: String| {
            signals.push(Signal::raised(
                met.ts,
                kind,
                &met.server,
                &format!("{}/{}", met.server, definition.name),
                text,
            ));
        };
        if change == ToolChange::Changed {
            let similar = similarity_pct.map_or_else(String::new, |percent| format!(", {percent} % similar"));
            raise(AlertKind::ToolChanged, format!("`{tool}` is defined anew{similar}: {}", what.join("; ")));
        }
        if !findings.is_empty() {
            raise(AlertKind::ToolText, format!("the definition of `{tool}` {}", findings.join(", and ")));
        }
        findings.extend(shadows.iter().cloned());
        if change == ToolChange::FirstSeen && !also_at.is_empty() {
            let others: Vec<_> = others.iter().filter(|other| **other != server).collect();
            let named = |(at, other): (usize, &&Arc<str>)| {
                let theirs = self.tools.get(&(Arc::clone(other), Arc::clone(&tool))).filter(|_| at < COMPARED_MAX);
                let similar = theirs.map(|theirs| format!(" ({} % similar)", shingles.similarity(&theirs.shingles())));
                format!("`{other}`{}", similar.unwrap_or_default())
            };
            let named: Vec<_> = others.iter().enumerate().map(named).collect();
            shadows.insert(0, format!("has the name of a tool of {}", named.join(", ")));
        }
        if !shadows.is_empty() {
            raise(AlertKind::ToolShadowed, format!("`{tool}` of `{server}` {}", shadows.join(", and ")));
        }
        let row = ToolRow {
            source: Source { partition: met.partition, ..Source::default() },
            ts: met.ts,
            tenant: met.tenant.clone(),
            server: met.server.clone(),
            tool: definition.name.clone(),
            session_id: met.session_id.clone(),
            change,
            definition_hash: definition.hash,
            similarity_pct,
            what,
            findings,
            also_at,
            definition: definition.canonical.clone(),
        };
        if let Some(before) = &before {
            self.alike.remove(&key, before);
        }
        self.alike.insert(&key, &shingles);
        self.tools.insert(key, definition);
        Some(row)
    }

    /// Tools of other servers that this definition is like, and the one `before` it was not, in words.
    fn look_alikes(&self, key: &(Arc<str>, Arc<str>), shingles: &Shingles, before: Option<&Shingles>) -> Vec<String> {
        let same_named = self.servers.get(&key.1);
        let mut found = Vec::new();
        for other in self.alike.candidates(key, shingles) {
            // A server that has this tool, too, is a copy or a sibling: that is said by the name.
            if same_named.is_some_and(|servers| servers.contains(&other.0)) {
                continue;
            }
            let Some(theirs) = self.tools.get(&other).map(Definition::shingles) else { continue };
            let similarity = shingles.similarity(&theirs);
            if similarity >= ALIKE && before.is_none_or(|before| before.similarity(&theirs) < ALIKE) {
                found.push(format!("is defined almost as `{}` of `{}` ({similarity} % similar)", other.1, other.0));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests;
