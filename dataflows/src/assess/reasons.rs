//! Reasons: the largest terms in words, and `other` for the rest.

use std::borrow::Cow;
use std::fmt::Write;

use undercurrent_schemas::v1::{Place, Reason, Term, TermKind};

use super::Witness;
use crate::session::none;

/// Reasons given in words; what is left is one `other`.
const REASONS: usize = 3;

/// Room for the usual text, so that writing it does not grow it piece by piece.
const TEXT_BYTES: usize = 128;

/// Looks up the text of a name hash.
pub type Names<'a> = dyn Fn(u64) -> Option<Cow<'a, str>> + 'a;

/// The largest terms, then `other`; the weights add up to the score. Terms without weight are no reason.
pub(super) fn reasons(terms: &[(Term, &Witness)], names: &Names<'_>) -> Vec<Reason> {
    let mut order: Vec<&(Term, &Witness)> = terms.iter().filter(|(term, _)| term.weight > 0.0).collect();
    order.sort_by(|(a, _), (b, _)| b.weight.total_cmp(&a.weight));
    let (largest, rest) = order.split_at(order.len().min(REASONS));
    let mut reasons = Vec::with_capacity(REASONS + 1);
    for (term, witness) in largest {
        reasons.push(Reason { kind: term.kind, text: text(term, witness, names), weight: term.weight });
    }
    let weight = rest.iter().fold(0.0, |weight, (term, _)| weight + term.weight);
    let text = format!("{} smaller terms", rest.len());
    reasons.push(Reason { kind: TermKind::Other.into(), text, weight });
    reasons
}

const fn place(place: Place) -> &'static str {
    match place {
        Place::Unspecified => "somewhere",
        Place::Field => "a field",
        Place::Item => "a list or table",
        Place::Text => "running text",
    }
}

fn text(term: &Term, witness: &Witness, names: &Names<'_>) -> String {
    let name = |hash: u64| names(hash).unwrap_or(Cow::Borrowed("?"));
    let tool = || name(witness.tool);
    let parameter = || name(witness.parameter).replace(" \u{203a} ", ".");
    let after = || match name(witness.previous) {
        previous if previous.is_empty() => Cow::Borrowed("at the start of a session"),
        previous => Cow::Owned(match witness.before.map(name) {
            None => format!("after `{previous}`"),
            Some(before) if before.is_empty() => format!("after `{previous}`, with which the session began"),
            Some(before) => format!("after `{before}` and `{previous}`"),
        }),
    };
    let mut text = String::with_capacity(TEXT_BYTES);
    let (value, occasions, alike) = (term.value, witness.occasions, witness.alike);
    let often = |alike: u64| match alike {
        0 => Cow::Borrowed("it never did"),
        1 => Cow::Borrowed("it did once"),
        n => Cow::Owned(format!("it did {n} times")),
    };
    // Writing to a String cannot fail.
    let _ = match term.kind() {
        TermKind::TransitionBits | TermKind::TransitionBitsMax => {
            write!(text, "`{}` was called {}; on {occasions} earlier occasions {}", tool(), after(), often(alike))
        }
        TermKind::ToolBits | TermKind::ToolBitsMax => {
            write!(text, "`{}` is rare here: {alike} of {occasions} earlier calls", tool())
        }
        TermKind::SkipBits | TermKind::SkipBitsSum if witness.previous == none() => {
            write!(text, "`{}` begins a session, which it rarely does", tool())
        }
        TermKind::SkipBits | TermKind::SkipBitsSum => write!(
            text,
            "`{}` was called in a session that had called `{}`; of {occasions} such sessions {alike} went on to it",
            tool(),
            name(witness.previous)
        ),
        TermKind::PlaceBits | TermKind::PlaceBitsMax => write!(
            text,
            "`{}` was taken from {} in the result of `{}`; of {occasions} earlier values from there {alike} were",
            parameter(),
            place(witness.place),
            name(witness.source)
        ),
        TermKind::LabelledBits => write!(
            text,
            "`{}` was taken from {} in the result of `{}`, as in {alike} of {occasions} sessions labelled malicious",
            parameter(),
            place(witness.place),
            name(witness.source)
        ),
        TermKind::OriginBits | TermKind::OriginBitsMax => match name(witness.source) {
            source if source.is_empty() => write!(
                text,
                "`{}` came from no earlier result; in {occasions} earlier calls {}",
                parameter(),
                often(alike)
            ),
            source => write!(
                text,
                "`{}` came from the result of `{source}`; in {occasions} earlier calls {}",
                parameter(),
                often(alike)
            ),
        },
        TermKind::FreshBits | TermKind::FreshBitsMax => {
            let value = if witness.is_new { "a value that it never had" } else { "a value that it had before" };
            match name(witness.source) {
                source if source.is_empty() => write!(text, "`{}` had {value}, from no earlier result", parameter()),
                source => write!(text, "`{}` had {value}, from the result of `{source}`", parameter()),
            }
            .and_then(|()| write!(text, "; of {occasions} earlier values {alike} came from there"))
        }
        TermKind::ShapeBits | TermKind::ShapeBitsMax => {
            write!(text, "`{}` was called with other arguments than usual", tool())
        }
        TermKind::ArgumentsBytes | TermKind::ArgumentsBytesMax => {
            write!(text, "`{}` was given {value:.0} bytes of arguments", tool())
        }
        TermKind::LargestResultBytes => write!(text, "a result of {value:.0} bytes came before"),
        TermKind::NewHosts => write!(text, "{value:.0} arguments point to hosts not seen in this session"),
        TermKind::Repeats | TermKind::RepeatsMax => {
            write!(text, "`{}` was repeated {value:.0} times with equal arguments", tool())
        }
        other => write!(text, "{} = {value:.1}", other.name()),
    };
    text
}
