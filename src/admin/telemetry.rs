//! `POST /v1/metrics` and `/v1/logs`: OTLP over HTTP, as JSON or protobuf, from whoever may write.
//!
//! The answers are those of the protocol: 200 with what was rejected, 400 where nothing could be read, 503 where it may be
//! sent again. Not here: what a point is (`schemas::otlp`), and what becomes of it.

use std::fmt::Debug;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use undercurrent_schemas::otlp::{Encoding, Signal};

use super::AdminState;

/// What became of an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// All but so many points are on their way to the log; the first reason why some are not.
    Taken {
        rejected: usize,
        reason: Option<String>,
    },
    Unreadable {
        reason: String,
    },
    /// The queue to the log is full.
    Full,
}

/// Takes what is reported from outside.
pub trait Intake: Send + Sync + Debug {
    fn take(&self, body: &[u8], encoding: Encoding, signal: Signal) -> Taken;
}

pub(super) async fn metrics(State(state): State<AdminState>, headers: HeaderMap, body: Bytes) -> Response {
    export(&state, &headers, &body, Signal::Metrics)
}

pub(super) async fn logs(State(state): State<AdminState>, headers: HeaderMap, body: Bytes) -> Response {
    export(&state, &headers, &body, Signal::Logs)
}

fn export(state: &AdminState, headers: &HeaderMap, body: &Bytes, signal: Signal) -> Response {
    let of = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !matches!(of(header::CONTENT_ENCODING), "" | "identity") {
        return (StatusCode::UNSUPPORTED_MEDIA_TYPE, "send it without compression\n").into_response();
    }
    let encoding = match of(header::CONTENT_TYPE).split(';').next().unwrap_or_default().trim() {
        "application/json" => Encoding::Json,
        "application/x-protobuf" => Encoding::Protobuf,
        _ => {
            let text = "send OTLP as application/json or application/x-protobuf\n";
            return (StatusCode::UNSUPPORTED_MEDIA_TYPE, text).into_response();
        }
    };
    match state.intake.take(body, encoding, signal) {
        Taken::Taken { rejected, reason } => answer(encoding, signal, rejected, reason),
        Taken::Unreadable { reason } => (StatusCode::BAD_REQUEST, reason + "\n").into_response(),
        Taken::Full => {
            let text = "the queue to the log is full; send it again\n";
            (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], text).into_response()
        }
    }
}

fn answer(encoding: Encoding, signal: Signal, rejected: usize, reason: Option<String>) -> Response {
    // In protobuf an empty message says that all is well; the rest is in the table `dead_letters`.
    if encoding == Encoding::Protobuf {
        return (StatusCode::OK, [(header::CONTENT_TYPE, "application/x-protobuf")], Bytes::new()).into_response();
    }
    let name = match signal {
        Signal::Metrics => "rejectedDataPoints",
        Signal::Logs => "rejectedLogRecords",
    };
    Json(match reason {
        Some(reason) => json!({ "partialSuccess": { name: rejected.to_string(), "errorMessage": reason } }),
        None => json!({}),
    })
    .into_response()
}
