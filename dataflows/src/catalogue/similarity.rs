//! How alike two texts, or two definitions, are: the share of shingles that they have in common (Jaccard), in percent.
//!
//! A shingle is four characters in a row of a prose text, in lower case, with one space between words: a typo changes a
//! few of them, another sentence nearly all. Whatever is no prose (a type, a default, a bound) is one as a whole, with its
//! path. No order of keys, and no name of a tool, has a part in it. Integers alone, so it is the same everywhere; exact up
//! to [`SHINGLES_MAX`] shingles, and of larger sets an estimate by those with the smallest hashes, which are as good as a
//! random draw (Broder 1997).

use std::cmp::Ordering;
use std::collections::BTreeSet;

use undercurrent_schemas::ids::stable_hash;

/// Shingles of one definition that are compared.
const SHINGLES_MAX: usize = 4096;

/// Characters of a shingle.
const CHARACTERS: usize = 4;

/// Places under which a definition is found by those that are like it, and smallest hashes that make up one: of two
/// definitions that share 80 % of their shingles, 98 in 100 share a place; of two that share 30 %, 6.
pub(super) const BANDS: usize = 8;
const ROWS: usize = 4;

/// Hashes of shingles, sorted, each once.
#[derive(Debug)]
pub(super) struct Shingles(Vec<u64>);

impl Shingles {
    /// Of one text.
    pub(super) fn of_text(text: &str) -> Self {
        let mut shingles = BTreeSet::new();
        add_prose(text, &mut shingles);
        Self::bounded(shingles)
    }

    /// Of leaves: path and JSON text.
    pub(super) fn of_leaves<'a>(leaves: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let mut shingles = BTreeSet::new();
        for (path, json) in leaves {
            match prose(json) {
                Some(text) => add_prose(&text, &mut shingles),
                None => {
                    shingles.insert(stable_hash(&[path.as_bytes(), json.as_bytes()]));
                }
            }
        }
        Self::bounded(shingles)
    }

    fn bounded(shingles: BTreeSet<u64>) -> Self {
        Self(shingles.into_iter().take(SHINGLES_MAX).collect())
    }

    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }

    /// 0 to 100, rounded down: 100 = the same. Two that have none are the same.
    pub(super) fn similarity(&self, other: &Self) -> u32 {
        let (mut one, mut two) = (&self.0[..], &other.0[..]);
        let (mut either, mut both) = (0_u32, 0_u32);
        // Of what was cut off on one side it is not known whether it was there: the smallest hashes of both decide.
        while either < SHINGLES_MAX as u32 {
            let order = match (one.first(), two.first()) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(one), Some(two)) => one.cmp(two),
            };
            either += 1;
            both += u32::from(order.is_eq());
            one = &one[usize::from(order.is_le())..];
            two = &two[usize::from(order.is_ge())..];
        }
        (100 * both).checked_div(either).unwrap_or(100)
    }

    /// Places in an index: sets that are alike share one.
    pub(super) fn bands(&self) -> [u64; BANDS] {
        std::array::from_fn(|band| {
            let rows: [u64; ROWS] = std::array::from_fn(|row| {
                let seed = (band * ROWS + row) as u64 + 1;
                self.0.iter().map(|hash| mixed(*hash, seed)).min().unwrap_or(u64::MAX)
            });
            stable_hash(&[&band.to_le_bytes(), &rows.map(u64::to_le_bytes).concat()])
        })
    }
}

/// A text of several words; `None` of any other leaf.
pub(super) fn prose(json: &str) -> Option<String> {
    let text = serde_json::from_str::<String>(json).ok()?;
    text.trim().contains(char::is_whitespace).then_some(text)
}

fn add_prose(text: &str, shingles: &mut BTreeSet<u64>) {
    let lower = text.to_lowercase();
    let words = lower.split(|character: char| !character.is_alphanumeric()).filter(|word| !word.is_empty());
    let text = words.collect::<Vec<_>>().join(" ");
    let starts: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
    if starts.len() <= CHARACTERS {
        shingles.insert(stable_hash(&[text.as_bytes()]));
    }
    for ends in starts.windows(CHARACTERS + 1) {
        shingles.insert(stable_hash(&[&text.as_bytes()[ends[0]..ends[CHARACTERS]]]));
    }
}

/// One of many orders of the hashes.
const fn mixed(hash: u64, seed: u64) -> u64 {
    let hash = (hash ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (hash ^ (hash >> 31)).wrapping_mul(0x94d0_49bb_1331_11eb)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(one: &str, two: &str, range: std::ops::RangeInclusive<u32>) {
        let (one, two) = (Shingles::of_text(one), Shingles::of_text(two));
        let similarity = one.similarity(&two);
        assert!(range.contains(&similarity), "{similarity}");
        assert_eq!(two.similarity(&one), similarity);
    }

    #[test]
    fn a_typo_is_little_and_another_text_is_much() {
        let text = "Sends a mail to the given address and files a copy of it under Sent.";
        check(text, text, 100..=100);
        check("", "", 100..=100);
        check("", text, 0..=0);
        check(text, &text.to_uppercase().replace(' ', "\n  "), 100..=100);
        check(text, "Sends a mail to the given adress and files a copy of it under Sent.", 85..=99);
        check(text, "Deletes every file below a folder without asking first.", 0..=10);
        check("a b", "a c", 0..=0);
    }

    #[test]
    fn long_texts_are_bounded_and_still_compared() {
        let letter = |of: u32| char::from(b'a' + (stable_hash(&[&of.to_le_bytes()]) % 26) as u8);
        let word = |n: u32| (8 * n..8 * n + 8).map(letter).chain([' ']).collect::<String>();
        let text = |from: u32| (from..from + 3_000).map(word).collect::<String>();
        let (one, half) = (text(0), text(1_500));
        assert_eq!(Shingles::of_text(&one).len(), SHINGLES_MAX);
        check(&one, &one, 100..=100);
        // A third of all words, and what is in common by chance.
        check(&one, &half, 31..=42);
    }

    #[test]
    fn what_is_alike_shares_a_band() {
        let text =
            "Reads the file at the given path, decodes it as UTF-8, and gives back its lines with their numbers.";
        let bands = |text: &str| Shingles::of_text(text).bands();
        let shared = |one: [u64; BANDS], two: [u64; BANDS]| one.iter().filter(|band| two.contains(band)).count();
        assert_eq!(shared(bands(text), bands(text)), BANDS);
        assert!(shared(bands(text), bands(&text.replace("gives back", "returns"))) > 0);
        assert_eq!(shared(bands(text), bands("Books a table in a restaurant for tonight.")), 0);
    }
}
