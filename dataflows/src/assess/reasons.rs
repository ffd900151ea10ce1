//! Reasons: the largest terms in words, and `other` for the rest.

use std::fmt::Write;

use undercurrent_schemas::v1::{Reason, Term};

use super::Witness;

/// Reasons given in words; what is left is one `other`.
const REASONS: usize = 3;

/// Looks up the text of a name hash.
pub type Names<'a> = dyn Fn(u64) -> Option<String> + 'a;

/// The largest terms, then `other`; the weights add up to the score. Terms without weight are no reason.
pub(super) fn reasons(terms: &[Term], witnesses: &[Witness], names: &Names<'_>) -> Vec<Reason> {
    let mut order: Vec<usize> = (0..terms.len()).filter(|index| terms[*index].weight > 0.0).collect();
    order.sort_by(|a, b| terms[*b].weight.total_cmp(&terms[*a].weight).then(a.cmp(b)));
    let (largest, rest) = order.split_at(order.len().min(REASONS));
    let mut reasons: Vec<Reason> = largest
        .iter()
        .map(|index| {
            let term = &terms[*index];
            Reason { term: term.term.clone(), text: text(term, &witnesses[*index], names), weight: term.weight }
        })
        .collect();
    let weight = rest.iter().fold(0.0, |weight, index| weight + terms[*index].weight);
    let text = format!("{} smaller terms", rest.len());
    reasons.push(Reason { term: "other".to_owned(), text, weight });
    reasons
}

fn text(term: &Term, witness: &Witness, names: &Names<'_>) -> String {
    let name = |hash: u64| names(hash).unwrap_or_else(|| "?".to_owned());
    let tool = || name(witness.tool);
    let parameter = || name(witness.parameter).replace(" \u{203a} ", ".");
    let after = || match name(witness.previous) {
        previous if previous.is_empty() => "at the start of a session".to_owned(),
        previous => format!("after `{previous}`"),
    };
    let mut text = String::new();
    let (value, occasions, alike) = (term.value, witness.occasions, witness.alike);
    let often = |alike: u64| match alike {
        0 => "it never did".to_owned(),
        1 => "it did once".to_owned(),
        n => format!("it did {n} times"),
    };
    // Writing to a String cannot fail.
    let _ = match term.term.as_str() {
        "transition_bits" | "transition_bits_max" => {
            write!(text, "`{}` was called {}; on {occasions} earlier occasions {}", tool(), after(), often(alike))
        }
        "transition_bits_sum" => write!(text, "the order of its tools adds up to {value:.1} bits of surprise"),
        "tool_bits" | "tool_bits_max" => {
            write!(text, "`{}` is rare here: {alike} of {occasions} earlier calls", tool())
        }
        "flow_bits_max" | "taint_bits_max" | "flow_bits_sum" => match name(witness.source) {
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
        "novelty_bits_sum" => write!(text, "`{}` had a new value, among {occasions} earlier ones", parameter()),
        "shape_bits" => write!(text, "`{}` was called with other arguments than usual", tool()),
        "sourced_arguments" => write!(text, "{value:.0} arguments came from earlier results"),
        "arguments_bytes" | "arguments_bytes_max" => {
            write!(text, "`{}` was given {value:.0} bytes of arguments", tool())
        }
        "largest_result_bytes" => write!(text, "a result of {value:.0} bytes came before"),
        "new_hosts" => write!(text, "{value:.0} arguments point to hosts not seen in this session"),
        "repeats" | "repeats_max" => write!(text, "`{}` was repeated {value:.0} times with equal arguments", tool()),
        other => write!(text, "{other} = {value:.1}"),
    };
    text
}
