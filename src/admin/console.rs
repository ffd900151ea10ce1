//! The console: one page, one script, one style sheet, all in the binary. The script asks `/status` and writes text
//! only, never markup, so nothing that a client or a server named itself can become a part of the page.

use axum::http::header;
use axum::response::{Html, IntoResponse};

pub(super) async fn page() -> Html<&'static str> {
    Html(include_str!("console/index.html"))
}

pub(super) async fn script() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], include_str!("console/console.js"))
}

pub(super) async fn style() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("console/console.css"))
}
