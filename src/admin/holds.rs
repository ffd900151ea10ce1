//! Calls that wait for a person: who is asked, and what is answered. Both need the admin token: a call's arguments are
//! shown here and nowhere else, and who can approve can do what the policy forbids.

use std::fmt::Debug;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::AdminState;

/// Who knows what waits.
pub trait Tickets: Send + Sync + Debug {
    /// What has no answer yet, oldest first.
    fn open(&self) -> Vec<HeldTicket>;

    /// `false`: no such ticket waits for an answer.
    fn answer(&self, ticket: &str, answer: HoldAnswer) -> bool;
}

/// A call that waits. A contract with operators' tools: extend, don't rename.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeldTicket {
    pub ticket: String,
    pub principal: String,
    pub server: String,
    pub tool: String,
    /// How rare such a call is, in (0, 1]; null = no model was live.
    pub p_value: Option<f64>,
    pub reasons: Vec<String>,
    /// The JSON-RPC message, up to a bound.
    pub message: String,
    pub waited_s: f64,
    /// The client is connected and waits; else an approval is good for its next try.
    pub is_waited_for: bool,
}

/// What a person says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldAnswer {
    Approve,
    Deny,
}

/// The body of an answer: `{"answer":"approve"}`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answered {
    pub answer: HoldAnswer,
}

pub(super) async fn list(State(state): State<AdminState>) -> Json<Vec<HeldTicket>> {
    Json(state.tickets.open())
}

pub(super) async fn answer(
    State(state): State<AdminState>,
    Path(ticket): Path<String>,
    Json(Answered { answer }): Json<Answered>,
) -> Response {
    if !state.tickets.answer(&ticket, answer) {
        let text = "no such ticket is waiting: it was answered, given up or has expired\n";
        return (StatusCode::NOT_FOUND, text).into_response();
    }
    tracing::info!(ticket, ?answer, "a person has answered");
    StatusCode::NO_CONTENT.into_response()
}
