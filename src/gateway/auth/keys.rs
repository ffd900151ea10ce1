//! Bearer keys: known by their SHA-256 alone.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::config::KeyHash;

/// Whose key has which hash.
#[derive(Debug)]
pub(super) struct Keys(HashMap<[u8; 8], Vec<(KeyHash, Arc<str>)>>);

impl Keys {
    pub(super) fn new(keys: &BTreeMap<String, KeyHash>) -> Self {
        let mut by_start: HashMap<[u8; 8], Vec<_>> = HashMap::new();
        for (subject, hash) in keys {
            by_start.entry(start(&hash.0)).or_default().push((*hash, subject.as_str().into()));
        }
        Self(by_start)
    }

    /// Nobody can choose what a key's hash starts with, so looking it up by that tells nothing; the rest is compared in
    /// constant time.
    pub(super) fn subject(&self, key: &[u8]) -> Option<Arc<str>> {
        let hash: [u8; 32] = Sha256::digest(key).into();
        let candidates = self.0.get(&start(&hash))?;
        let found = candidates.iter().find(|(known, _)| bool::from(known.0.ct_eq(&hash)));
        found.map(|(_, subject)| Arc::clone(subject))
    }
}

fn start(hash: &[u8; 32]) -> [u8; 8] {
    std::array::from_fn(|i| hash[i])
}
