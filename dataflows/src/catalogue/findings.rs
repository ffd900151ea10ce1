//! What is odd about a definition's texts: characters that people cannot see, and orders to the model that reads them.
//!
//! Orders are told by their wording, in English; what is said otherwise is not found. A finding is a reason to look.

use std::fmt;

/// Something odd in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Characters that nobody sees: how many, the first one, and where.
    Hidden { path: String, count: usize, first: char },
    /// Wording that is meant for the model and not for its user.
    Order { path: String, words: &'static str },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hidden { path, count, first } => {
                write!(f, "hides {count} invisible characters in {path} (the first is U+{:04X})", u32::from(*first))
            }
            Self::Order { path, words } => write!(f, "gives orders in {path} (\"{words}\")"),
        }
    }
}

/// Said to a model behind its user's back: no honest description needs these.
const ORDERS: [&str; 22] = [
    "ignore previous instructions",
    "ignore all previous",
    "ignore any previous",
    "disregard previous",
    "disregard all previous",
    "override previous instructions",
    "do not tell the user",
    "don't tell the user",
    "do not inform the user",
    "do not mention this",
    "do not mention that",
    "without telling the user",
    "without informing the user",
    "hide this from the user",
    "keep this secret",
    "never reveal this",
    "before using this tool, read",
    "before using any other tool",
    "<important>",
    "<system>",
    "system prompt:",
    "pass its content as",
];

/// Findings in texts of a definition, each with its path; at most one of each kind for a text.
#[must_use]
pub fn findings(texts: &[(&str, String)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in texts {
        let hidden: Vec<char> = text.chars().filter(|character| is_hidden(*character)).collect();
        if let Some(first) = hidden.first() {
            findings.push(Finding::Hidden { path: (*path).to_owned(), count: hidden.len(), first: *first });
        }
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
        if let Some(order) = ORDERS.iter().find(|order| words.contains(*order)) {
            findings.push(Finding::Order { path: (*path).to_owned(), words: order });
        }
    }
    findings
}

/// Tags, zero-width characters but for the joiner of emoji and scripts, and controls of direction.
const fn is_hidden(character: char) -> bool {
    matches!(character,
        '\u{200b}' | '\u{2060}'..='\u{2064}' | '\u{feff}' | '\u{180e}'
        | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        | '\u{e0000}'..='\u{e007f}' | '\u{e0100}'..='\u{e01ef}')
}
