//! Terms that an operator leaves out of scores: to try a score without them, or to check that a reason is true.

use undercurrent_schemas::v1::TermKind;

use super::{CALL_TERMS, LABEL_TERM, SESSION_TERMS};

/// Which terms are left out; by default none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// One bit for each term, by its place in `CALL_TERMS`.
    call: u32,
    /// By its place in `SESSION_TERMS`.
    session: u32,
    /// What labels say.
    labelled: bool,
}

impl LeftOut {
    /// Leaves out a term as well, of calls and of sessions alike; `None` = there is no such term.
    #[must_use]
    pub fn and(self, term: &str) -> Option<Self> {
        let (call, session) = (bit(&CALL_TERMS, term), bit(&SESSION_TERMS, term));
        let labelled = term == LABEL_TERM.name();
        (call | session != 0 || labelled).then_some(Self {
            call: self.call | call,
            session: self.session | session,
            labelled: self.labelled | labelled,
        })
    }

    pub(super) const fn has_labelled(self) -> bool {
        self.labelled
    }

    pub(super) fn has_call_term(self, index: usize) -> bool {
        (self.call >> index) & 1 == 1
    }

    pub(super) fn has_session_term(self, index: usize) -> bool {
        (self.session >> index) & 1 == 1
    }
}

fn bit(terms: &[TermKind], sought: &str) -> u32 {
    terms.iter().position(|term| term.name() == sought).map_or(0, |index| 1 << index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_term_can_be_left_out_and_no_other() {
        for (index, term) in CALL_TERMS.iter().enumerate() {
            assert!(
                LeftOut::default().and(term.name()).is_some_and(|left_out| left_out.has_call_term(index)),
                "{term:?}"
            );
        }
        for (index, term) in SESSION_TERMS.iter().enumerate() {
            assert!(
                LeftOut::default().and(term.name()).is_some_and(|left_out| left_out.has_session_term(index)),
                "{term:?}"
            );
        }
        let two =
            LeftOut::default().and("tool_bits").and_then(|left_out| left_out.and("repeats")).expect("both are terms");
        assert_eq!((0..CALL_TERMS.len()).filter(|index| two.has_call_term(*index)).count(), 2);
        assert_eq!(LeftOut::default().and("other"), None);
    }
}
