//! What stands before every route that writes, or shows more than facts: the admin token.

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::AdminState;

pub(super) async fn required(State(state): State<AdminState>, request: Request, next: Next) -> Response {
    let presented = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let presented = presented.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    if state.token.matches(presented.trim()) {
        return next.run(request).await;
    }
    let text = "this needs `Authorization: Bearer TOKEN`, with the token in the data directory's file admin.token\n";
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")], text).into_response()
}
