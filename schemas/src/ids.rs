//! Newtypes for ids, times and versions, and the one stable hash that may be kept in files.

use std::fmt;

/// An `i64` count of microseconds since the Unix epoch (event time).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Micros(pub i64);

/// Engine time: a number bound to log offsets, growing within a DATA directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Tick(pub u64);

/// The tick whose results a model holds; only grows within a DATA directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct ModelVersion(pub u64);

/// Position of an event in its gateway's epoch, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Sequence(pub u64);

/// Number of a log partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Partition(pub u32);

/// Position of a record in its partition, from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Offset(pub u64);

macro_rules! display_inner {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}
display_inner!(Micros, Tick, ModelVersion, Sequence, Partition, Offset);

impl Micros {
    /// This time, `by` microseconds later; saturates at the ends of time.
    #[must_use]
    pub const fn plus(self, by: i64) -> Self {
        Self(self.0.saturating_add(by))
    }
}

/// A hash (XXH3, 64 bits) that is the same on every machine and in every release: may be written to files.
///
/// Parts are separated, so `("ab", "c")` and `("a", "bc")` differ.
#[must_use]
pub fn stable_hash(parts: &[&[u8]]) -> u64 {
    // Names are short: hashing a few bytes at once costs a tenth of setting up a stream, and most fit a cache line.
    joined_hash::<64>(parts).or_else(|| joined_hash::<240>(parts)).unwrap_or_else(|| long_hash(parts))
}

fn joined_hash<const ROOM: usize>(parts: &[&[u8]]) -> Option<u64> {
    let mut joined = [0_u8; ROOM];
    let mut length = 0;
    for part in parts {
        let (prefix, end) = ((part.len() as u32).to_le_bytes(), length + 4 + part.len());
        let to = joined.get_mut(length..end)?;
        to[..4].copy_from_slice(&prefix);
        to[4..].copy_from_slice(part);
        length = end;
    }
    Some(xxhash_rust::xxh3::xxh3_64(&joined[..length]))
}

/// [`stable_hash`] of two numbers, little endian: what most keys are made of.
#[must_use]
pub fn stable_hash_pair(first: u64, second: u64) -> u64 {
    let mut joined = [0_u8; 24];
    joined[0] = 8;
    joined[4..12].copy_from_slice(&first.to_le_bytes());
    joined[12] = 8;
    joined[16..].copy_from_slice(&second.to_le_bytes());
    xxhash_rust::xxh3::xxh3_64(&joined)
}

fn long_hash(parts: &[&[u8]]) -> u64 {
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    for part in parts {
        hasher.update(&(part.len() as u32).to_le_bytes());
        hasher.update(part);
    }
    hasher.digest()
}

/// The partition of a session's events: all of a session is in one partition, in order.
#[must_use]
pub fn partition_of(session_id: &str, partitions: u32) -> Partition {
    Partition((stable_hash(&[session_id.as_bytes()]) % u64::from(partitions.max(1))) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_kept_in_files_and_must_never_change() {
        assert_eq!(stable_hash(&[b"session"]), stable_hash(&[b"session"]));
        assert_ne!(stable_hash(&[b"ab", b"c"]), stable_hash(&[b"a", b"bc"]));
        insta::assert_debug_snapshot!([
            stable_hash(&[]),
            stable_hash(&[b""]),
            stable_hash(&[b"banking", b"send_money"])
        ]);
    }

    #[test]
    fn long_and_short_are_hashed_alike() {
        assert_eq!(stable_hash_pair(7, u64::MAX), stable_hash(&[&7_u64.to_le_bytes(), &u64::MAX.to_le_bytes()]));
        for length in [0, 1, 16, 52, 53, 100, 231, 232, 233, 1_000] {
            let parts = [&vec![7_u8; length][..], b"tail"];
            assert_eq!(stable_hash(&parts), long_hash(&parts), "{length}");
        }
    }

    #[test]
    fn one_partition_takes_everything() {
        assert_eq!(partition_of("s", 1), Partition(0));
        assert!(partition_of("s", 8).0 < 8);
    }
}
