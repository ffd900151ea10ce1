//! Reasons: the largest terms in words, and `other` for the rest.

use undercurrent_schemas::v1::{Place, Reason, Term, TermKind};

use super::Witness;
use super::words::{Names, Words};
use crate::session::none;

/// Reasons given in words; what is left is one `other`.
const REASONS: usize = 3;

/// The largest terms, then `other`; the weights add up to the score. Terms without weight are no reason.
pub(super) fn reasons<'a>(terms: impl Iterator<Item = (&'a Term, &'a Witness)>, names: &Names<'_>) -> Vec<Reason> {
    let mut order: Vec<_> = terms.filter(|(term, _)| term.weight > 0.0).collect();
    order.sort_by(|(a, _), (b, _)| b.weight.total_cmp(&a.weight));
    let (largest, rest) = order.split_at(order.len().min(REASONS));
    let mut reasons = Vec::with_capacity(REASONS + 1);
    for (term, witness) in largest {
        reasons.push(Reason { kind: term.kind, text: text(term, witness, names), weight: term.weight });
    }
    let weight = rest.iter().fold(0.0, |weight, (term, _)| weight + term.weight);
    let text = Words::new(names).count(rest.len() as u64).say(" smaller terms").end();
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
    let &Witness { tool, previous, before, parameter, source, occasions, alike, .. } = witness;
    let words = Words::new(names);
    match term.kind() {
        TermKind::TransitionBits | TermKind::TransitionBitsMax => words
            .tool(tool)
            .say(" was called ")
            .after(previous, before)
            .say("; on ")
            .count(occasions)
            .say(" earlier occasions ")
            .often(alike),
        TermKind::ToolBits | TermKind::ToolBitsMax => {
            words.tool(tool).say(" is rare here: ").count(alike).say(" of ").count(occasions).say(" earlier calls")
        }
        TermKind::SkipBits | TermKind::SkipBitsSum if previous == none() => {
            words.tool(tool).say(" begins a session, which it rarely does")
        }
        TermKind::SkipBits | TermKind::SkipBitsSum => words
            .tool(tool)
            .say(" was called in a session that had called ")
            .tool(previous)
            .say("; of ")
            .count(occasions)
            .say(" such sessions ")
            .count(alike)
            .say(" went on to it"),
        TermKind::PlaceBits | TermKind::PlaceBitsMax => words
            .taken_from(parameter, place(witness.place), source)
            .say("; of ")
            .count(occasions)
            .say(" earlier values from there ")
            .count(alike)
            .say(" were"),
        TermKind::LabelledBits => words
            .taken_from(parameter, place(witness.place), source)
            .say(", as in ")
            .count(alike)
            .say(" of ")
            .count(occasions)
            .say(" sessions labelled malicious"),
        TermKind::OriginBits | TermKind::OriginBitsMax => words
            .parameter(parameter)
            .say(" came from ")
            .source(source, "the result of ", "no earlier result")
            .say("; in ")
            .count(occasions)
            .say(" earlier calls ")
            .often(alike),
        TermKind::FreshBits | TermKind::FreshBitsMax => words
            .parameter(parameter)
            .say(if witness.is_new { " had a value that it never had, " } else { " had a value that it had before, " })
            .source(source, "from the result of ", "from no earlier result")
            .say("; of ")
            .count(occasions)
            .say(" earlier values ")
            .count(alike)
            .say(" came from there"),
        TermKind::ShapeBits | TermKind::ShapeBitsMax => {
            words.tool(tool).say(" was called with other arguments than usual")
        }
        TermKind::ArgumentsBytes | TermKind::ArgumentsBytesMax => {
            words.tool(tool).say(" was given ").whole(term.value).say(" bytes of arguments")
        }
        TermKind::LargestResultBytes => words.say("a result of ").whole(term.value).say(" bytes came before"),
        TermKind::NewHosts => words.whole(term.value).say(" arguments point to hosts not seen in this session"),
        TermKind::Repeats | TermKind::RepeatsMax => {
            words.tool(tool).say(" was repeated ").whole(term.value).say(" times with equal arguments")
        }
        other => words.say(&format!("{} = {:.1}", other.name(), term.value)),
    }
    .end()
}
