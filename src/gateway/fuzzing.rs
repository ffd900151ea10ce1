//! What holds of the gateway's readers for any bytes. The fuzzer and the tests ask the same questions: see
//! [`crate::fuzzing`].

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request};
use serde_json::Value;

use super::after_write::AfterWrite;
use super::call::{Call, Client};
use super::envelope::{self, Envelope, RequestIds};
use super::rescue::Refusal;
use super::sse::{SseEvent, SseParser};
use super::{stdio, strict};

/// An error answers the ids that the body has, as they are written, and is JSON whatever they are.
pub(crate) fn envelope(bytes: &[u8]) {
    let envelope = Envelope::read(bytes);
    let ids = envelope.ids();
    let _ = (envelope.method_label(), envelope.is_initialize(), envelope.meta(), envelope::error_type(bytes));
    let answer: Value = serde_json::from_str(&Refusal::UpstreamGone.message(&ids)).expect("an error is JSON");
    let answered = |answer: &Value, id: &str| {
        let id: Value = serde_json::from_str(id).expect("an id is JSON");
        assert_eq!(answer["id"], id);
        assert_eq!(answer["error"]["data"]["reason"], "upstream_gone");
    };
    match &ids {
        RequestIds::One(id) => {
            assert!(memchr::memmem::find(bytes, id.as_bytes()).is_some(), "an id that was not there: {id}");
            answered(&answer, id);
        }
        RequestIds::Many(ids) if !ids.is_empty() => {
            let answers = answer.as_array().expect("a batch is answered by one");
            assert_eq!(answers.len(), ids.len());
            answers.iter().zip(ids).for_each(|(answer, id)| answered(answer, id));
        }
        RequestIds::None | RequestIds::Many(_) => answered(&answer, "null"),
    }
}

/// Events do not depend on where the chunks are cut, and none is larger than the bound. The first byte says where.
pub(crate) fn sse(bytes: &[u8]) {
    const BYTES_MAX: usize = 64;
    let Some((cut, stream)) = bytes.split_first() else { return };
    let events = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let (mut parser, mut seen) = (SseParser::new(BYTES_MAX), Vec::new());
        for piece in pieces {
            parser.feed(piece, |event| {
                seen.push(match event {
                    SseEvent::Data(data) => Some(data.to_vec()),
                    SseEvent::TooLarge => None,
                });
            });
        }
        (seen, parser.has_ids())
    };
    let (whole, _) = events(&mut std::iter::once(stream));
    let (pieces, _) = events(&mut stream.chunks(1 + usize::from(*cut) % 16));
    assert_eq!(whole, pieces, "in chunks of {}", 1 + cut % 16);
    // A line feed joins the lines of an event.
    assert!(whole.iter().flatten().all(|data| data.len() <= BYTES_MAX + 1));
}

/// Lines of headers, a blank line, a body: a call whose headers are found to repeat the body does what they say.
pub(crate) fn headers(bytes: &[u8]) {
    let at = memchr::memmem::find(bytes, b"\n\n").unwrap_or(bytes.len());
    let (lines, body) = (&bytes[..at], bytes.get(at + 2..).unwrap_or_default());
    let mut request = Request::post("/");
    for line in lines.split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = (HeaderName::from_bytes(&line[..colon]), HeaderValue::from_bytes(&line[colon + 1..]));
        if let (Ok(name), Ok(value)) = (name, value) {
            request = request.header(name, value);
        }
    }
    let (head, ()) = request.body(()).expect("names and values are checked").into_parts();
    let client = Client::new([127, 0, 0, 1].into(), AfterWrite::default());
    let call = Call::read(head, Bytes::copy_from_slice(body), client);
    let Ok(found) = stdio::check_headers(&call) else { return };
    // Nobody reads a field that means nothing here, so it may hold what is no text; that is for the server to refuse.
    let Ok(json) = serde_json::from_slice::<Value>(body) else { return };
    let header = |name: &str| call.head.headers.get(name).and_then(|value| value.to_str().ok());
    assert_eq!(header("mcp-method"), Some(json["method"].as_str().unwrap_or_default()));
    let is_named_call = json["method"] == "tools/call" && header("mcp-name").is_some();
    assert_eq!(found.is_some(), is_named_call, "a call whose header names a tool is checked against that tool");
    if let Some((tool, decoded)) = found {
        assert_eq!(json["params"]["name"], *tool, "the tool that is called");
        assert_eq!(decoded.as_deref(), Some(&*tool), "the tool that the header names");
    }
}

/// What the strict relay takes from a client, hyper takes too.
pub(crate) fn strict_request(bytes: &[u8]) {
    strict::law::request(bytes);
}

/// What the strict relay takes from an upstream, hyper takes too.
pub(crate) fn strict_response(bytes: &[u8]) {
    strict::law::response(bytes);
}
