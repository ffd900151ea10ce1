//! A model in a file, to be carried from site to site: a line that says what it is, and the sums.
//!
//! ```text
//! UNDERCURRENT MODEL \n              magic
//! {"format":1,…} \n                  the header, JSON
//! ModelUpdate                        protobuf, to the end
//! ```
//!
//! Invariant: sums are in the order of their entries, each once, greater than 0, and those that digests are keys of are
//! all of the one digest key that the header names.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use prost::Message as _;
use serde::{Deserialize, Serialize};
use undercurrent_dataflows::model::Part;
use undercurrent_schemas::ids::stable_hash;
use undercurrent_schemas::v1;

const MAGIC: &[u8] = b"UNDERCURRENT MODEL\n";
const FORMAT: u32 = 1;

/// Sums that may leave their site.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ModelFile {
    /// Id of the key of its digests, never the key; 0 = it has none.
    pub(super) digest_key: u32,
    pub(super) sums: Vec<v1::Sum>,
    pub(super) names: Vec<v1::Name>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    format: u32,
    /// Version of the program that wrote it.
    program: String,
    digest_key: u32,
    sums: usize,
    names: usize,
    /// `stable_hash` of what follows, 16 hexadecimal digits.
    hash: String,
}

impl ModelFile {
    pub(super) fn of(digest_key: u32, model: v1::ModelUpdate) -> Self {
        let mut sums = BTreeMap::new();
        add(&mut sums, &model.sums);
        Self { digest_key, sums: sums.into_iter().map(sum).collect(), names: model.names }
    }

    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("read model {}", path.display()))?;
        let parts = bytes.strip_prefix(MAGIC).and_then(|rest| {
            let end = memchr::memchr(b'\n', rest)?;
            Some((&rest[..end], &rest[end + 1..]))
        });
        let Some((header, content)) = parts else {
            bail!("{} is no model: name a file of `undercurrent model export`", path.display());
        };
        let header: Header = serde_json::from_slice(header).with_context(|| format!("read {}", path.display()))?;
        ensure!(
            header.format == FORMAT,
            "{} is of form {}, by undercurrent {}; this program reads form {FORMAT}",
            path.display(),
            header.format,
            header.program
        );
        ensure!(
            header.hash == format!("{:016x}", stable_hash(&[content])),
            "{} is not as it was written: fetch it again",
            path.display()
        );
        let model = v1::ModelUpdate::decode(content).with_context(|| format!("decode {}", path.display()))?;
        Ok(Self::of(header.digest_key, model))
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let Self { digest_key, sums, names } = self;
        let model = v1::ModelUpdate { base: true, sums: sums.clone(), names: names.clone(), ..Default::default() };
        let content = model.encode_to_vec();
        let header = Header {
            format: FORMAT,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            digest_key: *digest_key,
            sums: sums.len(),
            names: names.len(),
            hash: format!("{:016x}", stable_hash(&[&content])),
        };
        let mut bytes = MAGIC.to_vec();
        bytes.extend(serde_json::to_vec(&header).expect("numbers and strings always have a JSON form"));
        bytes.push(b'\n');
        bytes.extend(content);
        bytes
    }

    /// Whole under its name, or not there.
    pub(super) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let written = || {
            let unfinished = path.with_extension("unfinished");
            std::fs::write(&unfinished, self.bytes())?;
            std::fs::File::open(&unfinished)?.sync_all()?;
            std::fs::rename(&unfinished, path)
        };
        written().with_context(|| format!("write {}", path.display()))
    }

    /// Leaves out what digests of another key are keys of; how many sums that were.
    pub(super) fn keep_digests_of(&mut self, key: u32) -> usize {
        let before = self.sums.len();
        if self.digest_key != key {
            self.sums.retain(|sum| sum.part != Part::Value as u32);
            self.digest_key = 0;
        }
        before - self.sums.len()
    }

    /// What one site would have that saw what both saw, and how many sums had to be left out of it.
    pub(super) fn merged(mut self, mut other: Self) -> (Self, usize) {
        let key = if self.digest_key == other.digest_key { self.digest_key } else { 0 };
        let left_out = self.keep_digests_of(key) + other.keep_digests_of(key);
        let mut sums = BTreeMap::new();
        add(&mut sums, &self.sums);
        add(&mut sums, &other.sums);
        let names: BTreeMap<_, _> =
            self.names.into_iter().chain(other.names).map(|name| (name.hash, name.text)).collect();
        let names = names.into_iter().map(|(hash, text)| v1::Name { hash, text }).collect();
        (Self { digest_key: key, sums: sums.into_iter().map(sum).collect(), names }, left_out)
    }
}

type Key = (u32, u64, u64, u32);

fn add(all: &mut BTreeMap<Key, i64>, sums: &[v1::Sum]) {
    for v1::Sum { part, scope, key, bin, total } in sums.iter().filter(|sum| sum.total > 0) {
        let sum = all.entry((*part, *scope, *key, *bin)).or_default();
        *sum = sum.saturating_add(*total);
    }
}

fn sum(((part, scope, key, bin), total): (Key, i64)) -> v1::Sum {
    v1::Sum { part, scope, key, bin, total }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(digest_key: u32, sums: &[(Part, u64, i64)]) -> ModelFile {
        let sum = |(part, key, total): &(Part, u64, i64)| v1::Sum {
            part: *part as u32,
            scope: 1,
            key: *key,
            bin: 0,
            total: *total,
        };
        let names = vec![v1::Name { hash: 1, text: "bank".into() }];
        ModelFile::of(digest_key, v1::ModelUpdate { sums: sums.iter().map(sum).collect(), names, ..Default::default() })
    }

    #[test]
    fn what_was_written_is_read_and_damage_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let (path, written) = (dir.path().join("a.model"), model(7, &[(Part::Value, 2, 3), (Part::Tool, 2, 8)]));
        written.write(&path).unwrap();
        assert_eq!(ModelFile::read(&path).unwrap(), written);
        let mut bytes = written.bytes();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert!(ModelFile::read(&path).unwrap_err().to_string().contains("fetch it again"));
        std::fs::write(&path, "a text").unwrap();
        assert!(ModelFile::read(&path).unwrap_err().to_string().contains("is no model"));
    }

    #[test]
    fn digests_are_added_where_their_key_is_shared_alone() {
        let (a, b) = ([(Part::Tool, 2, 8), (Part::Value, 2, 3)], [(Part::Tool, 2, 16), (Part::Value, 5, 1)]);
        let (merged, left_out) = model(7, &a).merged(model(7, &b));
        assert_eq!((merged, left_out), (model(7, &[(Part::Tool, 2, 24), (Part::Value, 2, 3), (Part::Value, 5, 1)]), 0));
        let (merged, left_out) = model(7, &a).merged(model(8, &b));
        assert_eq!((merged, left_out), (model(0, &[(Part::Tool, 2, 24)]), 2));
        let one = model(7, &a).merged(model(7, &b)).0;
        assert_eq!(one, model(7, &b).merged(model(7, &a)).0, "in any order");
    }
}
