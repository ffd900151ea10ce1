//! The one place that turns what went wrong into an answer.
//!
//! Clients see a status, a JSON-RPC error and a reason code; logs see the cause, at the place where it happened. Codes
//! are our own (above -32000, so that they never look like a peer's), except where JSON-RPC or MCP
//! has one for what a server must refuse.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Response, StatusCode};

use super::auth::Challenge;
use super::call::Era;
use super::envelope::RequestIds;
use super::guard::Foreign;
use crate::edge::BlockReason;

/// Why a request is not answered by its upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    UnknownPath,
    UnknownUpstream {
        name: String,
        known: String,
    },
    Foreign(Foreign),
    /// The method is not part of Streamable HTTP.
    MethodNotAllowed {
        allow: &'static str,
    },
    BodyTooLarge {
        bytes_max: usize,
    },
    BodyUnreadable,
    BodyTimeout,
    /// Not JSON.
    Parse,
    /// JSON, but no message that can be passed on.
    InvalidMessage(&'static str),
    /// A header that repeats the body says something else.
    HeaderMismatch(&'static str),
    UpstreamUnreachable,
    UpstreamTimeout,
    /// The upstream closed the exchange without an answer.
    UpstreamGone,
    /// All of the requests that it may have open are.
    UpstreamBusy {
        requests_max: usize,
    },
    /// It failed several times in a row.
    UpstreamDown {
        wait: Duration,
    },
    /// The answer has to be looked at, and cannot be.
    AnswerUnseen {
        bytes_max: usize,
    },
    /// The principal has asked for more than its share.
    TooFast {
        wait: Duration,
    },
    /// Nobody knows who is asking.
    Denied(Challenge),
    UnknownSession,
    MissingSession,
    /// Another GET stream of this session is open.
    StreamTaken,
    /// What a client came back for is not kept any longer.
    EventForgotten,
    TooManySessions,
    TooManyRequests,
    /// The aggregated endpoint knows no upstream that has it.
    NotRouted {
        what: String,
        known: String,
    },
    /// The aggregated endpoint does not offer the method.
    NotOffered(Era),
    /// No upstream of the aggregated endpoint answered.
    NoneAnswered,
    /// The upstream has no session for this client, and could not open one.
    LeftOut {
        upstream: String,
    },
    /// The upstream wants a credential that nobody gave it.
    NotSignedIn {
        upstream: String,
    },
    Blocked(BlockReason),
}

/// A refusal's row of the table below.
struct Answer {
    status: StatusCode,
    code: i32,
    reason: &'static str,
    text: String,
}

impl Refusal {
    /// The reason code: `error.data.reason` for the client, `error.type` in metrics.
    pub(crate) fn reason(&self) -> &'static str {
        self.answer().reason
    }

    pub(crate) fn response(&self, ids: &RequestIds) -> Response<Bytes> {
        let answer = self.answer();
        let status = match (self, ids) {
            // A request gets the JSON-RPC error that its client expects; a notification has only the status.
            (Self::Blocked(_), RequestIds::One(_) | RequestIds::Many(_)) => StatusCode::OK,
            _ => answer.status,
        };
        let mut response = Response::new(Bytes::from(answer.body(ids)));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Self::MethodNotAllowed { allow } = self {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
        }
        if let Self::Denied(Challenge { header: Some(challenge), .. }) = self {
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge.clone());
        }
        if let Self::TooFast { wait } | Self::UpstreamDown { wait } = self {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds(*wait)));
        }
        response
    }

    /// Whether it tells that the upstream is not well.
    pub(crate) const fn is_of_upstream(&self) -> bool {
        matches!(self, Self::UpstreamUnreachable | Self::UpstreamTimeout | Self::UpstreamGone)
    }

    /// The JSON-RPC error alone, for transports without a status.
    pub(crate) fn message(&self, ids: &RequestIds) -> String {
        self.answer().body(ids)
    }

    fn answer(&self) -> Answer {
        let row = |status, code, reason, text: &str| Answer { status, code, reason, text: text.to_owned() };
        match self {
            Self::UnknownPath => {
                row(StatusCode::NOT_FOUND, 1001, "unknown_path", "no such path; MCP servers are at /mcp/NAME")
            }
            Self::UnknownUpstream { name, known } => {
                let text = format!("no upstream `{name}`; known upstreams: {known}");
                row(StatusCode::NOT_FOUND, 1002, "unknown_upstream", &text)
            }
            Self::Foreign(Foreign::Host) => {
                row(StatusCode::FORBIDDEN, 1003, "host_not_allowed", "this host name is not allowed here")
            }
            Self::Foreign(Foreign::Origin) => {
                row(StatusCode::FORBIDDEN, 1004, "origin_not_allowed", "this origin is not allowed here")
            }
            Self::MethodNotAllowed { .. } => row(
                StatusCode::METHOD_NOT_ALLOWED,
                1005,
                "method_not_allowed",
                "this endpoint does not take that method",
            ),
            Self::BodyTooLarge { bytes_max } => {
                let text = format!("request body is larger than {bytes_max} bytes");
                row(StatusCode::PAYLOAD_TOO_LARGE, 1006, "body_too_large", &text)
            }
            Self::BodyUnreadable => {
                row(StatusCode::BAD_REQUEST, 1007, "body_unreadable", "request body could not be read to its end")
            }
            Self::BodyTimeout => {
                row(StatusCode::REQUEST_TIMEOUT, 1008, "body_timeout", "request body did not arrive in time")
            }
            Self::Parse => row(StatusCode::BAD_REQUEST, -32700, "parse_error", "request body is not JSON"),
            Self::InvalidMessage(text) => row(StatusCode::BAD_REQUEST, -32600, "invalid_message", text),
            Self::HeaderMismatch(text) => row(StatusCode::BAD_REQUEST, -32020, "header_mismatch", text),
            Self::UpstreamUnreachable => {
                row(StatusCode::BAD_GATEWAY, 1009, "upstream_unreachable", "the MCP server cannot be reached")
            }
            Self::UpstreamTimeout => {
                row(StatusCode::GATEWAY_TIMEOUT, 1010, "upstream_timeout", "the MCP server did not answer in time")
            }
            Self::UpstreamGone => {
                row(StatusCode::BAD_GATEWAY, 1011, "upstream_gone", "the MCP server ended before it answered")
            }
            Self::UpstreamBusy { requests_max } => {
                let text = format!("the MCP server has {requests_max} open requests already, which is its limit");
                row(StatusCode::SERVICE_UNAVAILABLE, 1022, "upstream_busy", &text)
            }
            Self::UpstreamDown { wait } => {
                let text = format!("the MCP server has failed repeatedly; it is tried again in {} s", seconds(*wait));
                row(StatusCode::SERVICE_UNAVAILABLE, 1023, "circuit_open", &text)
            }
            Self::AnswerUnseen { bytes_max } => {
                let text = format!(
                    "the answer has to be looked at before it is passed on, and is encoded or larger than {bytes_max} bytes"
                );
                row(StatusCode::BAD_GATEWAY, 1026, "answer_unseen", &text)
            }
            Self::TooFast { wait } => {
                let text = format!("more requests than this principal may send; try again in {} s", seconds(*wait));
                row(StatusCode::TOO_MANY_REQUESTS, 1024, "rate_limited", &text)
            }
            Self::Denied(challenge) => row(challenge.status, challenge.code, challenge.reason, challenge.text),
            Self::UnknownSession => {
                row(StatusCode::NOT_FOUND, 1012, "unknown_session", "no such session; start a new one")
            }
            Self::MissingSession => {
                row(StatusCode::BAD_REQUEST, 1013, "missing_session", "this request needs an Mcp-Session-Id")
            }
            Self::StreamTaken => {
                row(StatusCode::CONFLICT, 1017, "stream_taken", "this session has an open GET stream already")
            }
            Self::EventForgotten => row(
                StatusCode::GONE,
                1033,
                "event_forgotten",
                "what came after that event is no longer kept; the gateway's [stdio] says how much is",
            ),
            Self::TooManySessions => {
                row(StatusCode::SERVICE_UNAVAILABLE, 1014, "too_many_sessions", "all sessions of this server are taken")
            }
            Self::TooManyRequests => row(
                StatusCode::SERVICE_UNAVAILABLE,
                1015,
                "too_many_requests",
                "this server has too many open requests",
            ),
            Self::NotRouted { what, known } => {
                let text = format!("no upstream has {what}; known upstreams: {known}");
                row(StatusCode::OK, -32602, "not_routed", &text)
            }
            Self::NotOffered(era) => {
                let status = if *era == Era::Modern { StatusCode::NOT_FOUND } else { StatusCode::OK };
                let text = "this endpoint does not offer that method; an upstream's own, /mcp/NAME, may";
                row(status, -32601, "not_offered", text)
            }
            Self::NoneAnswered => {
                row(StatusCode::BAD_GATEWAY, 1030, "none_answered", "none of the MCP servers answered in time")
            }
            Self::LeftOut { upstream } => {
                let text = format!("upstream `{upstream}` has opened no session; it is tried again in a few seconds");
                row(StatusCode::BAD_GATEWAY, 1031, "left_out", &text)
            }
            Self::NotSignedIn { upstream } => {
                let text = format!(
                    "upstream `{upstream}` asks for a credential of its own: set its `headers`, or use /mcp/{upstream}"
                );
                row(StatusCode::BAD_GATEWAY, 1032, "not_signed_in", &text)
            }
            Self::Blocked(reason) => row(StatusCode::FORBIDDEN, 1016, reason.code, &reason.text),
        }
    }
}

/// `Retry-After` knows whole seconds.
const fn seconds(wait: Duration) -> u64 {
    wait.as_secs() + (wait.subsec_nanos() > 0) as u64
}

impl Answer {
    fn body(&self, ids: &RequestIds) -> String {
        match ids {
            RequestIds::One(id) => self.error(id),
            RequestIds::Many(ids) if !ids.is_empty() => {
                format!("[{}]", ids.iter().map(|id| self.error(id)).collect::<Vec<_>>().join(","))
            }
            RequestIds::None | RequestIds::Many(_) => self.error("null"),
        }
    }

    fn error(&self, id: &str) -> String {
        let data = serde_json::json!({ "reason": self.reason });
        let error = serde_json::json!({ "code": self.code, "message": self.text, "data": data });
        // The id is spliced in as it was written: a parsed one could come back as another number.
        format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_back_as_they_were_written() {
        let response = Refusal::UpstreamGone.response(&RequestIds::One("1.50".into()));
        assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
        let expect = r#"{"jsonrpc":"2.0","id":1.50,"error":{"code":1011,"data":{"reason":"upstream_gone"},"message":"the MCP server ended before it answered"}}"#;
        assert_eq!(response.body(), expect);
    }

    #[test]
    fn names_from_outside_are_escaped() {
        let refusal = Refusal::UnknownUpstream { name: "a\"b".into(), known: "x, y".into() };
        let body: serde_json::Value = serde_json::from_slice(refusal.response(&RequestIds::None).body()).unwrap();
        assert_eq!(body["error"]["message"], "no upstream `a\"b`; known upstreams: x, y");
        assert_eq!(body["id"], serde_json::Value::Null);
    }

    #[test]
    fn a_blocked_request_is_answered_and_a_blocked_notification_refused() {
        let blocked = Refusal::Blocked(BlockReason { code: "policy_block", text: "no".into() });
        assert_eq!(blocked.response(&RequestIds::One("1".into())).status(), StatusCode::OK);
        assert_eq!(blocked.response(&RequestIds::None).status(), StatusCode::FORBIDDEN);
        let batch = blocked.message(&RequestIds::Many(vec!["1".into(), "\"b\"".into()]));
        let batch: serde_json::Value = serde_json::from_str(&batch).unwrap();
        assert_eq!(batch[1]["id"], "b");
        assert_eq!(batch[1]["error"]["data"]["reason"], "policy_block");
    }
}
