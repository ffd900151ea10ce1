//! `POST /api/v1/labels`: somebody who may write says what a session was.
//!
//! Who can label can poison: the admin token stands before this route (`token`), on loopback too. Not here: what a label
//! does; it goes to the log, and the answer says what became of it if that is known soon enough.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use undercurrent_schemas::v1::label::Verdict;

use super::AdminState;

/// Longest session id: those of recordings are as their makers chose.
const SESSION_ID_BYTES_MAX: usize = 1024;

/// What became of a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Labelled {
    /// What so many ended parts of the session taught is as was asked for.
    Applied { parts: u32 },
    /// The session is not known: it never was, or it ended before the horizon of unlearning.
    TooOld,
    /// It is in the log, or on its way there; learning has not come to it yet.
    Accepted,
    /// The queue to the log is full.
    Full,
}

/// Takes labels to the log.
pub trait Labeller: Send + Sync + Debug {
    /// Says what a session was, and waits a while for what becomes of it.
    fn label(&self, session_id: &str, verdict: Verdict) -> Pin<Box<dyn Future<Output = Labelled> + Send + '_>>;
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    session_id: String,
    label: String,
}

#[derive(Serialize)]
struct Answer {
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    parts: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

pub(super) async fn label(State(state): State<AdminState>, body: Bytes) -> Response {
    let (session_id, verdict) = match parse(&body) {
        Ok(request) => request,
        Err(reason) => return (StatusCode::BAD_REQUEST, reason + "\n").into_response(),
    };
    match state.labeller.label(&session_id, verdict).await {
        Labelled::Applied { parts } => answer(StatusCode::OK, "applied", Some(parts), None),
        Labelled::TooOld => {
            let reason = "no such session, or it ended longer ago than engine.unlearn_horizon_s";
            answer(StatusCode::CONFLICT, "too_old", None, Some(reason))
        }
        Labelled::Accepted => answer(StatusCode::ACCEPTED, "accepted", None, None),
        Labelled::Full => {
            answer(StatusCode::SERVICE_UNAVAILABLE, "refused", None, Some("the queue to the log is full; try again"))
        }
    }
}

fn parse(body: &[u8]) -> Result<(String, Verdict), String> {
    let form = "send {\"session_id\": \"…\", \"label\": \"benign\"|\"malicious\"|\"clear\"}";
    let request: Request = serde_json::from_slice(body).map_err(|error| format!("{error}: {form}"))?;
    if request.session_id.is_empty() || request.session_id.len() > SESSION_ID_BYTES_MAX {
        return Err(format!("`session_id` must have 1 to {SESSION_ID_BYTES_MAX} bytes: {form}"));
    }
    match Verdict::from_text(&request.label) {
        Some(verdict) => Ok((request.session_id, verdict)),
        None => Err(format!("`label` is not known: {form}")),
    }
}

fn answer(status: StatusCode, outcome: &'static str, parts: Option<u32>, reason: Option<&'static str>) -> Response {
    (status, Json(Answer { outcome, parts, reason })).into_response()
}
