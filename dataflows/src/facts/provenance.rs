//! Provenance: which result of this session last held a value.
//!
//! The index holds the session's recent results as one ring of word digests, chained by equal digests as in an LZ77
//! match finder. A value's source is the newest place where its words stand in a row, so values of any length are
//! found after re-formatting, and a word costs 8 bytes (and up to 4 of the chains' heads): no text is kept.
//!
//! A match must mean something: a value of fewer than [`LETTERS_MIN`] letters and digits (`me`, `10`) counts only where
//! it stands alone as a unit (`id: '10'`), a single one (`7`) nowhere. Of a longer text that is not found as a whole,
//! only parts that identify something (addresses, links, numbers, names with digits) are looked up, never plain words.
//! The digests are 29 bits under the session's seed and never leave it: a false match takes one in 32,000 look-ups.
//!
//! Where a value stands says who put it there: a program answers with fields and lists, prose mentions. So a value is
//! found together with its [`Place`]: right behind a key, alone between borders, or in running text.

use std::{collections::VecDeque, sync::Arc};

use undercurrent_schemas::v1::Place;

use super::{
    value::{Value, identifying_parts, word_digest},
    words::{self, Sink},
};

/// Values with fewer letters and digits must match as a unit.
const LETTERS_MIN: usize = 3;
/// Values with fewer are nowhere.
const UNIT_LETTERS_MIN: usize = 2;
/// Identifying parts of one text that are looked up.
const PARTS_MAX: usize = 32;
/// Places of one word that are compared, newest first.
const PLACES_MAX: usize = 128;
/// Results that are told apart; values of older ones have no source.
const RESULTS_MAX: usize = 1024;
/// Words that a new index has room for; it doubles up to its limit.
const CAPACITY_MIN: usize = 256;

const OPENS: u32 = 1 << 31;
const CLOSES: u32 = 1 << 30;
/// A colon stood behind the word.
const KEY: u32 = 1 << 29;
const DIGEST: u32 = KEY - 1;
/// So near before a field's value stands its key; units and articles may stand between (`total: EUR 12`).
const KEY_WORDS_MAX: usize = 3;
/// Stands between texts; no word has this digest.
const BORDER: u32 = 0;

/// Where a value came from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin<'a> {
    /// The tool whose result last held it.
    pub(super) tool: &'a Arc<str>,
    pub(super) place: Place,
    /// Only an identifying part of the value was found.
    pub(super) of_part: bool,
}

#[derive(Debug)]
pub(super) struct Provenance {
    seed: u64,
    capacity_max: usize,
    /// Ring: the word at position `p` is in slot `p % capacity`.
    words: Vec<u32>,
    /// By slot: position + 1 of the word before it in its chain; 0 = none.
    earlier: Vec<u32>,
    /// By low digest bits: position + 1 of the newest word of the chain.
    newest: Vec<u32>,
    /// Position of the next word.
    next: u32,
    /// Where each result begins, oldest first, and whose it is.
    results: VecDeque<(u32, Arc<str>)>,
}

impl Provenance {
    /// An index of at most `words_max` words (rounded up to a power of two).
    pub(super) fn new(words_max: usize, seed: u64) -> Self {
        Self {
            seed,
            capacity_max: words_max.clamp(1, 1 << 24).next_power_of_two(),
            words: Vec::new(),
            earlier: Vec::new(),
            newest: Vec::new(),
            next: 0,
            results: VecDeque::new(),
        }
    }

    /// What is added from here on is a result of `tool`.
    pub(super) fn begin(&mut self, tool: &Arc<str>) {
        // Positions never wrap: after four billion words a session starts afresh.
        if self.next > u32::MAX / 2 {
            self.forget();
        }
        // A result without words leaves nothing behind.
        if self.results.back().is_some_and(|(start, _)| *start == self.next) {
            self.results.pop_back();
        }
        let oldest = self.oldest();
        while self.results.len() >= RESULTS_MAX || self.results.get(1).is_some_and(|(start, _)| *start <= oldest) {
            self.results.pop_front();
        }
        self.results.push_back((self.next, Arc::clone(tool)));
    }

    /// Adds one text of the current result; how many words it had.
    pub(super) fn add(&mut self, text: &str) -> u32 {
        self.add_as(text, 0)
    }

    /// Adds a key of the current result: what is added next is its value.
    pub(super) fn add_key(&mut self, text: &str) -> u32 {
        self.add_as(text, KEY)
    }

    fn add_as(&mut self, text: &str, mark: u32) -> u32 {
        let start = self.next;
        words::split(text, self);
        self.mark_last(mark);
        let added = self.next - start;
        if added > 0 {
            self.push(BORDER);
        }
        added
    }

    /// The seed under which values are compared with this index.
    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    /// Where this value or, of a longer text, its strongest identifying part last stood.
    pub(super) fn origin(&self, value: &Value, text: &str, part: &mut Value) -> Option<Origin<'_>> {
        let (start, words, of_part) = match self.place(value) {
            Some(start) => (start, value.words.len(), false),
            None if value.words.len() > 1 => self.part_place(text, part).map(|(start, words)| (start, words, true))?,
            None => return None,
        };
        let after = self.results.partition_point(|(begin, _)| *begin <= start);
        let (begin, tool) = self.results.get(after.checked_sub(1)?)?;
        Some(Origin { tool, place: self.kind_of_place(start, words, *begin), of_part })
    }

    /// How a value of so many words stands at `start`, in a result that begins at `begin`.
    fn kind_of_place(&self, start: u32, words: usize, begin: u32) -> Place {
        let before = (begin.max(self.oldest())..start).rev().map(|position| self.words[self.slot(position)]);
        let mut words_before = before.filter(|word| word & DIGEST != BORDER).take(KEY_WORDS_MAX);
        if words_before.any(|word| word & KEY != 0) {
            Place::Field
        } else if self.is_unit(start, words) {
            Place::Item
        } else {
            Place::Text
        }
    }

    /// Whether these words stand between borders.
    fn is_unit(&self, start: u32, words: usize) -> bool {
        let last = start + u32::try_from(words).unwrap_or(u32::MAX).saturating_sub(1);
        let held = |position: u32| if position < self.next { self.words[self.slot(position)] } else { BORDER };
        held(start) & OPENS != 0 && held(last) & CLOSES != 0
    }

    /// Whether any result held this value.
    pub(super) fn holds(&self, value: &Value) -> bool {
        self.place(value).is_some()
    }

    pub(super) fn forget(&mut self) {
        *self = Self::new(self.capacity_max, self.seed);
    }

    pub(super) fn held_bytes(&self) -> usize {
        let words = self.words.capacity() + self.earlier.capacity() + self.newest.capacity();
        // Names are shared: counting them at every message would cost more than they do.
        words * size_of::<u32>() + self.results.capacity() * size_of::<(u32, Arc<str>)>()
    }

    fn mark_last(&mut self, mark: u32) {
        if self.next > 0 {
            let slot = self.slot(self.next - 1);
            self.words[slot] |= if self.words[slot] & DIGEST == BORDER { 0 } else { mark };
        }
    }

    fn oldest(&self) -> u32 {
        self.next.saturating_sub(u32::try_from(self.words.len()).unwrap_or(u32::MAX))
    }

    fn slot(&self, position: u32) -> usize {
        position as usize & (self.words.len() - 1)
    }

    fn push(&mut self, word: u32) {
        if self.next as usize >= self.words.len() && self.words.len() < self.capacity_max {
            self.grow();
        }
        let slot = self.slot(self.next);
        self.words[slot] = word;
        if word & DIGEST != BORDER {
            let chain = (word & DIGEST) as usize & (self.newest.len() - 1);
            self.earlier[slot] = self.newest[chain];
            self.newest[chain] = self.next + 1;
        }
        self.next += 1;
    }

    /// Doubles the ring. It is not full yet, so positions are slots, and the chains are threaded anew.
    fn grow(&mut self) {
        let capacity = (self.words.len() * 2).max(CAPACITY_MIN).min(self.capacity_max);
        let mut words = std::mem::take(&mut self.words);
        let held = words.len();
        words.resize(capacity, BORDER);
        self.earlier = vec![0; capacity];
        self.newest = vec![0; capacity];
        for (position, word) in (1_u32..).zip(&words[..held]) {
            if word & DIGEST != BORDER {
                let chain = (word & DIGEST) as usize & (capacity - 1);
                self.earlier[position as usize - 1] = self.newest[chain];
                self.newest[chain] = position;
            }
        }
        self.words = words;
    }

    /// The newest place of the strongest part that stands anywhere, and the part's words.
    fn part_place(&self, text: &str, part: &mut Value) -> Option<(u32, usize)> {
        let mut strongest: Option<(usize, u32, usize)> = None;
        for text in identifying_parts(text).take(PARTS_MAX) {
            part.set(text);
            if strongest.is_none_or(|(letters, ..)| part.letters > letters)
                && let Some(place) = self.place(part)
            {
                strongest = Some((part.letters, place, part.words.len()));
            }
        }
        strongest.map(|(_, place, words)| (place, words))
    }

    /// The newest place of a value.
    fn place(&self, value: &Value) -> Option<u32> {
        if self.next == 0 || value.letters < UNIT_LETTERS_MIN {
            return None;
        }
        let digest = *value.words.get(value.anchor)?;
        let before = u32::try_from(value.anchor).ok()?;
        let whole = value.letters < LETTERS_MIN;
        let oldest = self.oldest();
        let mut next = self.newest[digest as usize & (self.newest.len() - 1)];
        let mut limit = u32::MAX;
        for _ in 0..PLACES_MAX {
            // A slot that was used again may point forward: chains only lead to older words.
            let place = next.checked_sub(1).filter(|place| (oldest..limit).contains(place))?;
            limit = place;
            if self.words[self.slot(place)] & DIGEST == digest
                && let Some(start) = place.checked_sub(before).filter(|start| *start >= oldest)
                && self.stands_at(start, &value.words, whole)
            {
                return Some(start);
            }
            next = self.earlier[self.slot(place)];
        }
        None
    }

    fn stands_at(&self, start: u32, words: &[u32], whole: bool) -> bool {
        let held = |position: u32| (position < self.next).then(|| self.words[self.slot(position)]);
        let same = (start..).zip(words).all(|(at, word)| held(at).is_some_and(|held| (held ^ word) & DIGEST == 0));
        same && (!whole || self.is_unit(start, words.len()))
    }
}

impl Sink for Provenance {
    fn word(&mut self, word: &[u8], opens: bool) {
        self.push(word_digest(word, self.seed) | if opens { OPENS } else { 0 });
    }

    fn close(&mut self) {
        self.mark_last(CLOSES);
    }

    fn key(&mut self) {
        self.mark_last(KEY);
    }
}
