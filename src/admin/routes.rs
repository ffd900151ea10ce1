//! Which path answers what.

use axum::extract::DefaultBodyLimit;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use prometheus::TextEncoder;

use super::{AdminState, Check, Status, console, guard, holds, labels, telemetry, token};

/// Largest body of a request that writes.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// The routes of the admin listener.
pub fn router(state: AdminState) -> Router {
    let with_token = Router::new()
        .route("/api/v1/holds", get(holds::list))
        .route("/api/v1/holds/{ticket}", post(holds::answer))
        .route("/api/v1/labels", post(labels::label))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(state.clone(), token::required));
    let reports = Router::new()
        .route("/v1/metrics", post(telemetry::metrics))
        .route("/v1/logs", post(telemetry::logs))
        .layer(DefaultBodyLimit::max(state.report_bytes_max))
        .layer(middleware::from_fn_with_state(state.clone(), token::required));
    Router::new()
        .merge(with_token)
        .merge(reports)
        .route("/", get(console::page))
        .route("/console.js", get(console::script))
        .route("/console.css", get(console::style))
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/status", get(status))
        .fallback(async || (StatusCode::NOT_FOUND, "not found: see / /status /metrics /healthz /readyz\n"))
        .layer(middleware::from_fn_with_state(state.clone(), guard::guard))
        .with_state(state)
}

async fn metrics(State(state): State<AdminState>) -> Response {
    match TextEncoder::new().encode_to_string(&state.registry.gather()) {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "encode metrics");
            (StatusCode::INTERNAL_SERVER_ERROR, "metrics could not be encoded\n").into_response()
        }
    }
}

async fn healthz(State(state): State<AdminState>) -> Response {
    answer(state.source.status().health)
}

async fn readyz(State(state): State<AdminState>) -> Response {
    answer(state.source.status().ready)
}

async fn status(State(state): State<AdminState>) -> Json<Status> {
    Json(state.source.status())
}

fn answer(check: Check) -> Response {
    match check {
        Check::Ok => "ok\n".into_response(),
        Check::Failing { reason } => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}
