//! One tool's definition in canonical form, and how two of them differ, in words.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::Value;
use undercurrent_schemas::ids::stable_hash;

use super::similarity::{Shingles, prose};

/// Longest definition that is kept as it is; of a longer one only its beginning, its hash being of the whole.
const TEXT_BYTES_MAX: usize = 64 * 1024;

/// Differences that are told.
const DIFFERENCES_MAX: usize = 16;

/// Letters of a text that are shown.
const SHOWN: usize = 120;

#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Definition {
    pub(super) name: String,
    /// Of the canonical text: order of keys and white space do not change it.
    pub(super) hash: u64,
    pub(super) canonical: String,
    /// Every leaf: path → JSON text.
    leaves: BTreeMap<String, String>,
}

/// The tool's name, without the rest.
pub(super) fn name(text: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Named {
        name: String,
    }
    serde_json::from_slice::<Named>(text).ok().map(|named| named.name)
}

impl Definition {
    /// `None` = not a definition.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(text).ok()?;
        let name = value.get("name")?.as_str()?.to_owned();
        let (mut canonical, mut leaves) = (String::new(), BTreeMap::new());
        write(&value, &mut canonical);
        collect(&value, "", &mut leaves);
        let hash = stable_hash(&[canonical.as_bytes()]);
        let end = (0..=canonical.len().min(TEXT_BYTES_MAX)).rev().find(|end| canonical.is_char_boundary(*end));
        canonical.truncate(end.unwrap_or(0));
        Some(Self { name, hash, canonical, leaves })
    }

    /// Texts that a model reads, by path.
    pub(super) fn texts(&self) -> Vec<(&str, String)> {
        let texts = self
            .leaves
            .iter()
            .filter_map(|(path, json)| serde_json::from_str::<String>(json).ok().map(|text| (path.as_str(), text)));
        texts.collect()
    }

    /// What it is compared by: all but its name.
    pub(super) fn shingles(&self) -> Shingles {
        let leaves = self.leaves.iter().filter(|(path, _)| *path != "name");
        Shingles::of_leaves(leaves.map(|(path, json)| (path.as_str(), json.as_str())))
    }

    /// What this one says that the other does not, and the other way round.
    pub(super) fn differs_from(&self, before: &Self) -> Vec<String> {
        let paths: std::collections::BTreeSet<_> = self.leaves.keys().chain(before.leaves.keys()).collect();
        let mut differences = Vec::new();
        let mut untold = 0;
        for path in paths {
            let text = match (before.leaves.get(path), self.leaves.get(path)) {
                (Some(old), Some(new)) if old == new => continue,
                (Some(old), Some(new)) => format!("{path} was {}, is {}{}", shown(old), shown(new), likeness(old, new)),
                (None, Some(new)) => format!("{path} is new: {}", shown(new)),
                (Some(old), None) => format!("{path} is gone: {}", shown(old)),
                (None, None) => continue,
            };
            if differences.len() < DIFFERENCES_MAX { differences.push(text) } else { untold += 1 }
        }
        if untold > 0 {
            differences.push(format!("{untold} more"));
        }
        differences
    }
}

/// How alike two prose texts are, in words.
fn likeness(old: &str, new: &str) -> String {
    let both = prose(old).zip(prose(new));
    both.map_or_else(String::new, |(old, new)| {
        format!(", {} % similar", Shingles::of_text(&old).similarity(&Shingles::of_text(&new)))
    })
}

fn shown(json: &str) -> String {
    match json.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &json[..end]),
        None => json.to_owned(),
    }
}

/// JSON with sorted keys and no white space.
fn write(value: &Value, out: &mut String) {
    match value {
        Value::Object(members) => {
            let sorted: BTreeMap<_, _> = members.iter().collect();
            out.push('{');
            for (index, (key, member)) in sorted.into_iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                // Writing to a String cannot fail.
                let _ = write!(out, "{}:", Value::from(key.as_str()));
                write(member, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                write(item, out);
            }
            out.push(']');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            let _ = write!(out, "{value}");
        }
    }
}

fn collect(value: &Value, path: &str, leaves: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (key, member) in members {
                collect(member, &if path.is_empty() { key.clone() } else { format!("{path}.{key}") }, leaves);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                collect(item, &format!("{path}[{index}]"), leaves);
            }
        }
        _ => {
            leaves.insert(path.to_owned(), value.to_string());
        }
    }
}
