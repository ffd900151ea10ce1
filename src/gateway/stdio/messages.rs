//! The messages of one body, and when two of their ids are the same.
//!
//! Not here: who gets them (`session`, `shared`). Invariant: a message keeps the bytes that it came as.

use serde_json::value::RawValue;

use crate::gateway::envelope::Envelope;
use crate::gateway::rescue::Refusal;
use crate::gateway::ties::Ties;

/// The messages of one body.
#[derive(Debug)]
pub(super) struct Messages<'a> {
    pub(super) all: Vec<(&'a [u8], Ties<'a>)>,
    pub(super) batch: bool,
}

/// A JSON-RPC id, equal for all ways to write it: a child may answer `"A"` to `"\u0041"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IdKey(String);

impl IdKey {
    pub(super) fn of(id: &RawValue) -> Self {
        let text = id.get();
        if let Ok(string) = serde_json::from_str::<String>(text) {
            return Self(format!("\"{string}"));
        }
        match text.parse::<f64>() {
            // Beyond 2^53 a float cannot tell neighbours apart; such ids are compared as they are written.
            Ok(number) if number.abs() < 9e15 => Self(number.to_string()),
            _ => Self(text.to_owned()),
        }
    }
}

impl<'a> Messages<'a> {
    pub(super) fn read(body: &'a [u8]) -> Result<Self, Refusal> {
        let texts: Vec<&[u8]> = match Envelope::read(body) {
            Envelope::One(_) => vec![body],
            Envelope::Batch(batch) if batch.is_empty() => return Err(Refusal::InvalidMessage("the batch is empty")),
            Envelope::Batch(batch) => batch.into_iter().map(|one| one.get().as_bytes()).collect(),
            Envelope::Unreadable if serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok() => {
                return Err(Refusal::InvalidMessage("request body is not a JSON-RPC message"));
            }
            Envelope::Unreadable => return Err(Refusal::Parse),
        };
        let read = |text| Ties::read(text).map(|ties| (text, ties));
        let all: Option<Vec<_>> = texts.iter().copied().map(read).collect();
        let all = all.ok_or(Refusal::InvalidMessage("request body is not a JSON-RPC message"))?;
        Ok(Self { all, batch: body.trim_ascii_start().first() == Some(&b'[') })
    }

    /// The message, unless it is a batch.
    pub(super) fn one(&self) -> Option<&(&'a [u8], Ties<'a>)> {
        self.all.first().filter(|_| !self.batch)
    }

    pub(super) fn requests(&self) -> impl Iterator<Item = (&'a RawValue, &Ties<'a>)> {
        self.all.iter().filter_map(|(_, ties)| Some((ties.id.filter(|_| ties.method.is_some())?, ties)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_equal_however_they_are_written() {
        let key = |id: &str| IdKey::of(serde_json::from_str::<&RawValue>(id).unwrap());
        assert_eq!(key("1"), key("1.0"));
        assert_eq!(key(r#""A""#), key(r#""\u0041""#));
        assert_ne!(key("1"), key(r#""1""#));
        assert_ne!(key("9007199254740993"), key("9007199254740992"));
    }
}
