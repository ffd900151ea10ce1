//! What stands before and behind every route: who may ask, and headers that keep a browser from being misled.

use axum::extract::{Request, State};
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::AdminState;

const RESPONSE_HEADERS: [(HeaderName, &str); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

pub(super) async fn guard(State(state): State<AdminState>, request: Request, next: Next) -> Response {
    let mut response = match refusal(&state, request.headers()) {
        Some(reason) => (StatusCode::FORBIDDEN, reason).into_response(),
        None => next.run(request).await,
    };
    for (name, value) in RESPONSE_HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Why this request is not answered.
fn refusal(state: &AdminState, headers: &HeaderMap) -> Option<&'static str> {
    let allowed = |name, allows: &dyn Fn(&str) -> bool| {
        let mut values = headers.get_all(name).iter();
        values.all(|value| value.to_str().is_ok_and(allows))
    };
    if !headers.contains_key(header::HOST) || !allowed(header::HOST, &|host| state.hosts.allows_host(host)) {
        return Some("host not allowed: use a loopback name, or list this one in gateway.allowed_hosts\n");
    }
    if !allowed(header::ORIGIN, &|origin| state.hosts.allows_origin(origin)) {
        return Some("origin not allowed: list it in gateway.allowed_origins\n");
    }
    None
}
