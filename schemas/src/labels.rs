//! The names of labels, as files, commands and people have them.

use crate::v1::label::Verdict;

impl Verdict {
    /// Empty = unspecified.
    #[must_use]
    pub const fn as_text(self) -> &'static str {
        match self {
            Self::Unspecified => "",
            Self::Benign => "benign",
            Self::Malicious => "malicious",
            Self::Clear => "clear",
        }
    }

    /// The label of this name.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        [Self::Benign, Self::Malicious, Self::Clear].into_iter().find(|verdict| verdict.as_text() == text)
    }
}
