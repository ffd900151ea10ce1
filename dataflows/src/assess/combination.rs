//! How much each term counts in a score.
//!
//! A term's weight is its factor × -ln of its tail probability. Factors are fixed, few and never negative: more
//! strangeness in one term can only raise a score. `docs/learning.md` says what they were judged by.

use undercurrent_schemas::v1::TermKind;

/// What tells a hijacked session from a busy one.
const STRONGEST: f64 = 2.0;
/// Adds up over a session what each call alone says weakly.
const STRONGER: f64 = 1.5;
const STRONG: f64 = 1.0;
/// Two views of one thing, which must not count twice.
const SHARED: f64 = 0.5;
/// Rarely tells anything, but nothing else would.
const FAINT: f64 = 0.125;

pub(super) const fn factor(term: TermKind) -> f64 {
    match term {
        TermKind::PlaceBits | TermKind::PlaceBitsMax => STRONGEST,
        TermKind::SkipBitsSum => STRONGER,
        TermKind::TransitionBits
        | TermKind::SkipBits
        | TermKind::OriginBits
        | TermKind::OriginBitsMax
        | TermKind::FreshBits
        | TermKind::FreshBitsMax
        | TermKind::LargestResultBytes => STRONG,
        TermKind::ToolBits | TermKind::ToolBitsMax | TermKind::TransitionBitsMax => SHARED,
        TermKind::ShapeBits
        | TermKind::ShapeBitsMax
        | TermKind::ArgumentsBytes
        | TermKind::ArgumentsBytesMax
        | TermKind::NewHosts
        | TermKind::Repeats
        | TermKind::RepeatsMax => FAINT,
        // Terms of recordings of earlier versions, and what is no term.
        TermKind::Unspecified
        | TermKind::Other
        | TermKind::Cluster
        // Weighs by itself: see `labelled`.
        | TermKind::LabelledBits
        | TermKind::FlowBitsMax
        | TermKind::FlowBitsSum
        | TermKind::TaintBitsMax
        | TermKind::NoveltyBitsSum
        | TermKind::SourcedArguments
        | TermKind::TransitionBitsSum => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{CALL_TERMS, SESSION_TERMS};
    use super::*;

    #[test]
    fn every_term_counts() {
        assert!(CALL_TERMS.iter().chain(&SESSION_TERMS).all(|term| factor(*term) > 0.0));
    }
}
