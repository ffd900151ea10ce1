//! A client's file as text with places: where its servers are, and edits of a few ranges of it.
//!
//! Invariant: nothing is ever written anew but the ranges of edits, so the rest keeps every byte. Comments and trailing
//! commas are read, as some clients allow them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use jsonc_parser::ast::{Object, ObjectProp, Value};
use jsonc_parser::{CollectOptions, parse_to_ast};

use super::InstallError;
use super::clients::{Step, Ways};
use crate::config::mcp_json::SYNTAX;

/// A parsed file.
pub(super) struct Document<'a> {
    text: &'a str,
    root: Option<Value<'a>>,
}

/// One server's entry.
pub(super) struct Server<'a> {
    /// As its client knows it.
    pub(super) name: String,
    /// Keys on the way to the object that holds it.
    pub(super) around: String,
    pub(super) text: &'a str,
    pub(super) value: &'a Value<'a>,
}

impl Server<'_> {
    /// Names the entry within its file.
    pub(super) fn key(&self) -> String {
        format!("{}/{}", self.around, self.name)
    }
}

/// Other text in place of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Edit {
    range: Range<usize>,
    text: String,
}

impl Edit {
    pub(super) fn replace(range: Range<usize>, text: impl Into<String>) -> Self {
        Self { range, text: text.into() }
    }

    pub(super) fn insert(at: usize, text: impl Into<String>) -> Self {
        Self::replace(at..at, text)
    }
}

/// The text with all edits made. They do not overlap.
pub(super) fn apply(text: &str, mut edits: Vec<Edit>) -> String {
    edits.sort_by_key(|edit| edit.range.start);
    let mut out = String::with_capacity(text.len() + 256);
    let mut at = 0;
    for edit in edits {
        out.push_str(&text[at..edit.range.start]);
        out.push_str(&edit.text);
        at = edit.range.end;
    }
    out.push_str(&text[at..]);
    out
}

/// As a JSON string.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

pub(super) fn range(of: &impl jsonc_parser::common::Ranged) -> Range<usize> {
    of.range().start..of.range().end
}

/// The property of that name; the last one, as readers of JSON have it.
pub(super) fn property<'a, 'b>(object: &'b Object<'a>, name: &str) -> Option<&'b ObjectProp<'a>> {
    object.properties.iter().rfind(|property| property.name.as_str() == name)
}

impl<'a> Document<'a> {
    pub(super) fn parse(path: &Path, text: &'a str) -> Result<Self, InstallError> {
        let parsed = parse_to_ast(text, &CollectOptions::default(), &SYNTAX);
        let parsed = parsed.map_err(|error| InstallError::Syntax {
            path: path.to_owned(),
            line: error.line_display(),
            column: error.column_display(),
            problem: error.kind().to_string(),
        })?;
        Ok(Self { text, root: parsed.value })
    }

    /// Every server that these ways lead to, in the file's order.
    pub(super) fn servers(&'a self, ways: Ways) -> Vec<Server<'a>> {
        let mut found = BTreeMap::new();
        if let Some(root) = &self.root {
            for way in ways {
                self.walk(root, way, String::new(), &mut found);
            }
        }
        found.into_values().collect()
    }

    fn walk(&'a self, value: &'a Value<'a>, way: &[Step], around: String, found: &mut BTreeMap<usize, Server<'a>>) {
        let Some(object) = value.as_object() else { return };
        let deeper = |key: &str| if around.is_empty() { key.to_owned() } else { format!("{around}/{key}") };
        match way.split_first() {
            Some((Step::Key(key), rest)) => {
                if let Some(property) = property(object, key) {
                    self.walk(&property.value, rest, deeper(key), found);
                }
            }
            Some((Step::Each, rest)) => {
                for property in &object.properties {
                    self.walk(&property.value, rest, deeper(property.name.as_str()), found);
                }
            }
            None => {
                for one in &object.properties {
                    let name = one.name.as_str().to_owned();
                    // Of two of one name, readers see the last.
                    if property(object, &name).is_some_and(|last| std::ptr::eq(last, one)) {
                        let server = Server { name, around: around.clone(), text: self.text, value: &one.value };
                        found.insert(one.range.start, server);
                    }
                }
            }
        }
    }
}
