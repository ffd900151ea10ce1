//! `assess`: how unusual is this, by this model, and why?
//!
//! One scoring function for the request path and for the engine. Directional: only "more than usual" counts. Each
//! term's weight is -ln of its upper-tail probability among its server's earlier values, times the term's factor; the
//! score is the sum of weights (Fisher's combination, weighted, without its independence), the p-value is conformal
//! against all earlier scores.
//! Invariant: a score is finite and >= 0, and is exactly the sum of its terms' weights.

mod combination;
mod labelled;
mod left_out;
mod reasons;
mod score;
mod surprise;
mod terms;
mod words;

use undercurrent_schemas::ids::ModelVersion;
use undercurrent_schemas::v1;

pub use labelled::{LABEL_TERM, Labelled, labelled, labelled_call};
pub use left_out::LeftOut;
pub use score::{assess, assess_session, assess_session_without, assess_without};
pub(crate) use surprise::{after, after_both};
pub use terms::{
    CALL_TERMS, CallTerms, SESSION_TERMS, SessionTerms, Witness, call_terms, flow_key, session_terms, shape_key,
    transition_key, transition2_key,
};
pub use words::Names;

/// What the model says.
#[derive(Clone, Debug, PartialEq)]
pub enum Assessment {
    /// No model is live for this scope: not the same as "score 0".
    Unknown,
    Known(Known),
}

/// A score with everything that explains it.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// Higher = more anomalous; finite, >= 0.
    pub score: f64,
    /// In (0, 1]: share of earlier scores that were at least this high.
    pub p_value: f64,
    pub model_version: ModelVersion,
    /// Every term that is not left out, in fixed order.
    pub terms: Vec<v1::Term>,
    /// The largest terms in words, then one `other`; their weights add up to the score.
    pub reasons: Vec<v1::Reason>,
}

impl Assessment {
    /// The score's p-value, where there is a score.
    #[must_use]
    pub fn p_value(&self) -> Option<f64> {
        match self {
            Self::Unknown => None,
            Self::Known(known) => Some(known.p_value),
        }
    }

    /// As it travels in events and rows; absent where unknown.
    #[must_use]
    pub fn into_wire(self) -> Option<v1::Assessment> {
        match self {
            Self::Unknown => None,
            Self::Known(known) => Some(v1::Assessment {
                score: known.score,
                p_value: known.p_value,
                model_version: known.model_version.0,
                reasons: known.reasons,
                terms: known.terms,
            }),
        }
    }
}

/// How likely a tool is right after two others, nearest first, whatever else is known of the call.
#[must_use]
pub fn transition2_probability(model: &crate::model::Model, scope: u64, last: [u64; 2], next: u64) -> f64 {
    surprise::transition2_probability(model, scope, last, next)
}
