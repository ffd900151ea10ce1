//! Names that say whose they are: `UPSTREAM__NAME`, and back.
//!
//! Clients take names of at most 64 letters, digits, `_` and `-`. A name that is longer or has others is shortened and
//! ends in a part of its hash; it is the same in every process. Not here: which names there are (`offers`). Invariant:
//! two names of one upstream, or of two, never become the same but by a collision of hashes.

use sha2::{Digest as _, Sha256};

/// What clients take.
const NAME_BYTES_MAX: usize = 64;
/// Leaves most of a name to the tool.
const PREFIX_BYTES_MAX: usize = 24;
/// `_` and eight hex digits.
const HASH_BYTES: usize = 9;

/// What stands before the separator in the names of an upstream. No two upstreams have the same, and the first separator
/// in a name is the one behind it.
pub(super) fn prefix(upstream: &str, separator: &str) -> String {
    let whole = format!("{upstream}{separator}");
    let plain = upstream.len() <= PREFIX_BYTES_MAX && upstream.bytes().all(is_plain);
    if plain && whole.find(separator) == Some(upstream.len()) && !is_shortened_prefix(upstream) {
        return upstream.to_owned();
    }
    let kept: String = upstream.chars().filter(char::is_ascii_alphanumeric).take(PREFIX_BYTES_MAX - 8).collect();
    kept + &hash(upstream)
}

/// A name as clients see it, without the prefix, and whether it differs from the upstream's.
pub(super) fn shown(name: &str, prefix: &str, separator: &str) -> (String, bool) {
    let room = NAME_BYTES_MAX - prefix.len() - separator.len();
    if (1..=room).contains(&name.len()) && name.bytes().all(is_plain) && !is_shortened(name) {
        return (name.to_owned(), false);
    }
    let plain = |c: char| if c.is_ascii() && is_plain(c as u8) { c } else { '_' };
    let kept: String = name.chars().map(plain).take(room - HASH_BYTES).collect();
    (format!("{kept}_{}", hash(name)), true)
}

/// Whether a name is one that stands for another.
pub(super) fn is_shortened(name: &str) -> bool {
    name.len() >= HASH_BYTES
        && name.is_char_boundary(name.len() - HASH_BYTES)
        && name[name.len() - HASH_BYTES..].strip_prefix('_').is_some_and(is_hash)
}

/// A name of the shape that shortened ones have could be mistaken for one.
fn is_shortened_prefix(prefix: &str) -> bool {
    prefix.len() >= 8 && is_hash(&prefix[prefix.len() - 8..])
}

const fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

fn is_hash(text: &str) -> bool {
    text.len() == 8 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn hash(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_stay_and_others_end_in_a_hash() {
        let check = |upstream: &str, name: &str, expect: &str| {
            let prefix = prefix(upstream, "__");
            let (name, _) = shown(name, &prefix, "__");
            let whole = format!("{prefix}__{name}");
            assert_eq!(whole, expect);
            assert!(whole.len() <= NAME_BYTES_MAX && whole.bytes().all(is_plain), "{whole}");
            assert_eq!(whole.split_once("__").unwrap().0, prefix);
        };
        check("files", "read_file", "files__read_file");
        check("files", "read__file", "files__read__file");
        check("files", "files/read", "files__files_read_2b733164");
        check("files", &"x".repeat(80), &format!("files__{}_d929cdee", "x".repeat(48)));
        check("files", "", "files___e3b0c442");
        check("files", "größe", "files__gr__e_d353a267");
        check("my.files", "read", "myfiles06d017ae__read");
        check("a_", "b", "a571fb0e3__b");
        check("a__b", "c", "ab63e5c1c4__c");
        check(&"long".repeat(16), &"x".repeat(80), &format!("longlonglonglong7c474ff9__{}_d929cdee", "x".repeat(29)));
    }

    // Goal: what one upstream can name, another cannot.
    #[test]
    fn no_two_become_the_same() {
        let upstreams = ["a", "a_", "a__", "a__b", "a-b", "a.b", "ab", "a_b", "_a", "__a", "ab63e5c1c4"];
        let names = ["b", "_b", "__b", "b__c", "b/c", "b_c", "b_c_b9e2beb9", ""];
        let mut all: Vec<String> = Vec::new();
        for upstream in upstreams {
            let prefix = prefix(upstream, "__");
            all.extend(names.map(|name| format!("{prefix}__{}", shown(name, &prefix, "__").0)));
        }
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[test]
    fn what_looks_shortened_is_shortened() {
        let (name, changed) = shown("read_0123abcd", "p", "__");
        assert!(changed && is_shortened(&name) && name != "read_0123abcd");
        assert!(!is_shortened("read_0123abcx") && !is_shortened("0123abcd") && is_shortened("_0123abcd"));
    }
}
