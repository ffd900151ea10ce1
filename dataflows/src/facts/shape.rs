//! Shape: which key paths a JSON value has, and of which types its leaves are; never their values, order or number.

use undercurrent_schemas::v1::LeafType;

use super::{
    DigestKey,
    json::{Cursor, Kind, unescape},
    mix::{folded, mix},
};

/// Paths kept before doubles are removed.
const PATHS_MIN: usize = 256;

/// Collects paths as digests: each is built from its parent's, so long keys cost nothing a second time.
#[derive(Debug)]
pub(super) struct Shape {
    seed: u64,
    paths: Vec<u64>,
    compact_at: usize,
}

impl Shape {
    pub(super) fn new(key: &DigestKey) -> Self {
        Self { seed: key.inner_seed(), paths: Vec::new(), compact_at: PATHS_MIN }
    }

    pub(super) fn root(&self) -> u64 {
        self.seed
    }

    /// Path of a member of the object at `parent`.
    pub(super) fn key(&self, parent: u64, key: &str) -> u64 {
        mix(key.as_bytes(), parent)
    }

    /// Path of the items of the array at `parent`.
    pub(super) fn items(&self, parent: u64) -> u64 {
        folded(parent ^ self.seed.rotate_left(32), 0xd6e8_feb8_6659_fd93)
    }

    pub(super) fn leaf(&mut self, path: u64, kind: LeafType) {
        if self.paths.len() >= self.compact_at {
            self.compact();
            self.compact_at = (self.paths.len() * 2).max(PATHS_MIN);
        }
        self.paths.push(path.wrapping_add(kind as u64));
    }

    /// Adds every leaf of a value whose text begins within the first `bytes_max` bytes of it.
    pub(super) fn add(&mut self, cursor: &mut Cursor<'_>, path: u64, bytes_max: usize) {
        if cursor.position() >= bytes_max {
            cursor.raw();
            return;
        }
        let kind = cursor.kind();
        let mut empty = true;
        match kind {
            Kind::Object => {
                cursor.enter();
                while let Some(key) = cursor.next_key() {
                    let path = self.key(path, &unescape(key));
                    self.add(cursor, path, bytes_max);
                    empty = false;
                }
            }
            Kind::Array => {
                let items = self.items(path);
                cursor.enter();
                while cursor.next_item() {
                    self.add(cursor, items, bytes_max);
                    empty = false;
                }
            }
            Kind::Null | Kind::Bool | Kind::Number | Kind::String => {
                cursor.raw();
            }
        }
        match kind {
            Kind::Object | Kind::Array if !empty => {}
            Kind::Object | Kind::Array => self.leaf(path, LeafType::Empty),
            Kind::Null => self.leaf(path, LeafType::Null),
            Kind::Bool => self.leaf(path, LeafType::Bool),
            Kind::Number => self.leaf(path, LeafType::Number),
            Kind::String => self.leaf(path, LeafType::String),
        }
    }

    /// Digest of all paths so far.
    pub(super) fn digest(&mut self, key: &DigestKey) -> u64 {
        self.compact();
        let bytes: Vec<u8> = self.paths.iter().flat_map(|path| path.to_le_bytes()).collect();
        key.digest(&bytes)
    }

    fn compact(&mut self) {
        self.paths.sort_unstable();
        self.paths.dedup();
    }
}
