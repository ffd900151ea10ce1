//! Settings from several places, laid over each other: file, then environment, then flags.
//!
//! Invariant: a setting enters through `set` alone, whoever gave it, so each is checked in the same way and knows
//! its place. What the values mean is not known here.

use std::collections::BTreeMap;
use std::path::Path;

use toml::de::DeTable;
use toml::{Spanned, Table, Value};

use super::error::{ConfigError, Place, Places, Problem};
use super::given::{self, Given};
use super::raw::RawConfig;
use super::{Override, keys};

#[derive(Default)]
pub(super) struct Layers {
    table: Table,
    places: Places,
}

impl Layers {
    pub(super) fn read_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::from(Problem::Read { path: path.to_owned(), source }))?;
        self.read_text(path, &text)
    }

    /// What stands in the file.
    pub(super) fn read_text(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let syntax = |error: toml::de::Error| {
            ConfigError::from(Problem::Syntax {
                place: place_at(path, text, error.span().map_or(0, |span| span.start)),
                format: "TOML",
                problem: error.message().to_owned(),
            })
        };
        let spans = DeTable::parse(text).map_err(syntax)?;
        let values: Table = toml::from_str(text).map_err(syntax)?;
        self.walk(&mut Vec::new(), spans.get_ref(), &values, &|at| place_at(path, text, at))
    }

    fn walk(
        &mut self,
        path: &mut Vec<String>,
        spans: &DeTable<'_>,
        values: &Table,
        place: &dyn Fn(usize) -> Place,
    ) -> Result<(), ConfigError> {
        for (key, span) in spans {
            let value = &values[key.get_ref().as_ref()];
            path.push(key.get_ref().to_string());
            match (value, span.get_ref().as_table()) {
                (Value::Table(inner), Some(spans)) if !inner.is_empty() && !keys::is_leaf(path) => {
                    self.walk(path, spans, inner, place)?;
                }
                _ => self.set(path, value.clone(), place(Spanned::span(key).start))?,
            }
            path.pop();
        }
        Ok(())
    }

    pub(super) fn read_env(&mut self, env: &BTreeMap<String, String>) -> Result<(), ConfigError> {
        let upstreams = self.table.get("upstreams").and_then(Value::as_table);
        let names = upstreams.map(Table::keys).into_iter().flatten();
        let names = names.map(|name| (name.replace(['-', '.'], "_"), name.clone())).collect();
        for (name, text) in env {
            if let Some((path, value)) = keys::from_env(name, text, &names) {
                self.set(&path, value, Place::Env(name.clone()))?;
            }
        }
        Ok(())
    }

    pub(super) fn apply(&mut self, given: Override) -> Result<(), ConfigError> {
        self.set(&given.path, given.value, given.place)
    }

    /// Puts one value in its place if its key is known and its type is right.
    fn set(&mut self, path: &[String], value: Value, place: Place) -> Result<(), ConfigError> {
        keys::check(path, &place)?;
        let alone = path.iter().rev().fold(value.clone(), |inner, key| Table::from_iter([(key.clone(), inner)]).into());
        if let Err(error) = alone.try_into::<RawConfig>() {
            return Err(ConfigError::from(Problem::Value {
                place,
                key: path.join("."),
                value: shown(path, &value),
                problem: problem(path, error.message()),
                remedy: keys::remedy(path),
            }));
        }
        self.places.replace(&path.join("."), place);
        let Some((key, around)) = path.split_last() else { return Ok(()) };
        let mut table = &mut self.table;
        for name in around {
            let inner = table.entry(name).or_insert_with(|| Table::new().into());
            table = inner.as_table_mut().expect("a path that was type-checked leads through tables");
        }
        table.insert(key.clone(), value);
        Ok(())
    }

    /// What was given, and where.
    pub(super) fn given(&self) -> Vec<Given> {
        given::settings(&self.table, &self.places)
    }

    pub(super) fn finish(self) -> (RawConfig, Places) {
        let raw = Value::Table(self.table).try_into().expect("every value was type-checked when it was set");
        (raw, self.places)
    }
}

/// What is wrong with a type; serde's message repeats the value.
fn problem(path: &[String], message: &str) -> String {
    match path {
        [_] => "not a table".into(),
        [section, _, key, ..] if section == "upstreams" && keys::UPSTREAM_TABLES.contains(&key.as_str()) => {
            "not a text".into()
        }
        [section, key, ..] if section == "kafka" && key == "properties" => "not a table of texts".into(),
        _ => message.lines().next().unwrap_or_default().to_owned(),
    }
}

/// A value as it may be shown: what is set in an upstream's environment is often a secret.
fn shown(path: &[String], value: &Value) -> String {
    match path {
        [section, _, key, ..] if section == "upstreams" && keys::UPSTREAM_TABLES.contains(&key.as_str()) => {
            "(not shown)".into()
        }
        [section, key, ..] if section == "kafka" && key == "properties" => "(not shown)".into(),
        [section, _] if section == "upstreams" => "(a table)".into(),
        _ => value.to_string(),
    }
}

fn place_at(path: &Path, text: &str, at: usize) -> Place {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Place::File {
        path: path.to_owned(),
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
    }
}
