//! Asking an upstream something that is not simply passed on: the whole answer, within bounds.
//!
//! Not here: which session it is asked in (`opening`). Invariant: bounded in time and bytes; what an upstream says besides
//! its answer is for nobody, and dropped.

use bytes::{Bytes, BytesMut};
use http::{Response, StatusCode};
use http_body_util::BodyExt;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::gateway::call::{Body, SESSION_ID, whole};
use crate::gateway::envelope::{Message, Shape, object};
use crate::gateway::sse::{SseEvent, SseParser};
use crate::gateway::tap::Content;

/// An upstream's answer.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) session_id: Option<String>,
    pub(super) message: Bytes,
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("no answer in time")]
    TimedOut,
    #[error("it failed a moment ago")]
    Pausing,
    #[error("answered with an error and status {}", .0.status)]
    Refused(Answer),
    #[error("answered with something else than a message")]
    Unreadable,
    #[error("answered with more than {0} bytes")]
    TooLarge(usize),
    #[error("listed more than {0} pages")]
    TooManyPages(usize),
    #[error("ended before it answered")]
    Gone,
}

#[derive(Deserialize)]
struct Outcome<'a> {
    #[serde(borrow)]
    result: Option<&'a RawValue>,
}

impl Answer {
    /// The whole of a response.
    pub(super) async fn collect(response: Response<Body>, bytes_max: usize) -> Result<Self, Failure> {
        let (head, mut body) = response.into_parts();
        let status = head.status;
        let session_id = head.headers.get(SESSION_ID).and_then(|id| id.to_str().ok()).map(str::to_owned);
        let message = match Content::of_headers(&head.headers) {
            Content::Events => {
                let mut parser = SseParser::new(bytes_max);
                let mut found = None;
                while found.is_none() {
                    let frame = body.frame().await.ok_or(Failure::Gone)?.map_err(|_| Failure::Gone)?;
                    let Ok(data) = frame.into_data() else { continue };
                    parser.feed(&data, |event| {
                        found = found.take().or_else(|| match event {
                            SseEvent::Data(data) => is_answer(data).then(|| Ok(Bytes::copy_from_slice(data))),
                            SseEvent::TooLarge => Some(Err(Failure::TooLarge(bytes_max))),
                        });
                    });
                }
                found.ok_or(Failure::Gone)??
            }
            Content::Json | Content::Other | Content::Encoded => {
                let mut all = BytesMut::new();
                while let Some(frame) = body.frame().await {
                    let Ok(data) = frame.map_err(|_| Failure::Gone)?.into_data() else { continue };
                    if all.len() + data.len() > bytes_max {
                        return Err(Failure::TooLarge(bytes_max));
                    }
                    all.extend_from_slice(&data);
                }
                all.freeze()
            }
        };
        Ok(Self { status, session_id, message })
    }

    /// Its result, as JSON text.
    pub(super) fn result(&self) -> Result<&RawValue, Failure> {
        match object::<Outcome<'_>>(&self.message) {
            Some(Outcome { result: Some(result) }) => Ok(result),
            Some(Outcome { result: None }) => Err(Failure::Refused(self.clone())),
            None if self.status.is_success() => Err(Failure::Unreadable),
            None => Err(Failure::Refused(self.clone())),
        }
    }

    /// It does not know the method.
    pub(super) fn is_unknown_method(&self) -> bool {
        crate::gateway::envelope::error_type(&self.message) == Some("-32601")
    }

    /// As a response to the client, who asked with the same id.
    pub(super) fn respond(self) -> Response<Body> {
        let mut response = Response::new(self.message);
        *response.status_mut() = self.status;
        let json = http::HeaderValue::from_static("application/json");
        response.headers_mut().insert(http::header::CONTENT_TYPE, json);
        whole(response)
    }
}

fn is_answer(message: &[u8]) -> bool {
    Message::read(message).is_some_and(|message| message.id.is_some() && message.shape() == Shape::Response)
}
