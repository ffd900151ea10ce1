//! A sentence in the making: names, counts, and what is said between them.
//!
//! Beside formatting: a decision writes four sentences, and the machinery of `write!` would cost it more than its score.

use std::borrow::Cow;

use crate::session::none;

/// Looks up the text of a name hash.
pub type Names<'a> = dyn Fn(u64) -> Option<Cow<'a, str>> + 'a;

/// Room for the usual sentence, so that writing it does not grow it piece by piece.
const BYTES: usize = 160;

/// Between a tool and its parameter in a name; a dot for people.
const PATH: &str = " \u{203a} ";

pub(super) struct Words<'n, 'a> {
    names: &'n Names<'a>,
    text: String,
}

impl<'n, 'a> Words<'n, 'a> {
    pub(super) fn new(names: &'n Names<'a>) -> Self {
        Self { names, text: String::with_capacity(BYTES) }
    }

    pub(super) fn say(mut self, text: &str) -> Self {
        self.text.push_str(text);
        self
    }

    pub(super) fn count(self, count: u64) -> Self {
        let mut digits = itoa::Buffer::new();
        self.say(digits.format(count))
    }

    /// A number that is whole, or nearly.
    pub(super) fn whole(self, value: f64) -> Self {
        self.count(value.round_ties_even() as u64)
    }

    pub(super) fn tool(self, hash: u64) -> Self {
        let name = self.name(hash);
        self.say("`").say(&name).say("`")
    }

    /// A tool and the path of one of its arguments.
    pub(super) fn parameter(self, hash: u64) -> Self {
        let name = self.name(hash);
        let mut parts = name.split(PATH);
        let first = parts.next().unwrap_or_default();
        parts.fold(self.say("`").say(first), |words, part| words.say(".").say(part)).say("`")
    }

    /// An argument, and where in which tool's result its value stood.
    pub(super) fn taken_from(self, parameter: u64, place: &str, source: u64) -> Self {
        self.parameter(parameter).say(" was taken from ").say(place).say(" in the result of ").tool(source)
    }

    /// Where a value came from; `result` is what is said of a result, `nowhere` of none.
    pub(super) fn source(self, hash: u64, result: &str, nowhere: &str) -> Self {
        if hash == none() { self.say(nowhere) } else { self.say(result).tool(hash) }
    }

    /// When a tool was called: after another, and maybe one before that.
    pub(super) fn after(self, previous: u64, before: Option<u64>) -> Self {
        if previous == none() {
            return self.say("at the start of a session");
        }
        match before {
            None => self.say("after ").tool(previous),
            Some(before) if before == none() => self.say("after ").tool(previous).say(", with which the session began"),
            Some(before) => self.say("after ").tool(before).say(" and ").tool(previous),
        }
    }

    /// How many of the occasions were like this.
    pub(super) fn often(self, alike: u64) -> Self {
        match alike {
            0 => self.say("it never did"),
            1 => self.say("it did once"),
            n => self.say("it did ").count(n).say(" times"),
        }
    }

    pub(super) fn end(self) -> String {
        self.text
    }

    fn name(&self, hash: u64) -> Cow<'a, str> {
        (self.names)(hash).unwrap_or(Cow::Borrowed("?"))
    }
}
