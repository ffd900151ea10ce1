//! Heads of requests and responses, read once and strictly: what is unusual is left to hyper, or refused.
//!
//! Invariant: whatever is accepted here, hyper would accept too, with a body of the same length. Ambiguity is where
//! smuggling lives, so there is one `Content-Length` of digits, no `Transfer-Encoding` beside it, no folded line, and
//! no header that changes what the connection is.

use std::ops::Range;

use http::{HeaderValue, StatusCode};

/// Headers that a message may have here.
const HEADERS_MAX: usize = 64;

/// Why a head is not for the strict relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unusual;

/// A head, or `None` while there is not all of it.
pub(crate) type Parsed<T> = Result<Option<T>, Unusual>;

/// Where something is in the bytes received.
pub(crate) type Span = Range<usize>;

/// The head of a POST with a body of known length.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestHead {
    /// What follows `/mcp/`, up to the query; `None`: the path is `/mcp`.
    pub(crate) name: Option<Span>,
    pub(crate) query: Option<Span>,
    pub(crate) host: Span,
    pub(crate) origin: Option<Span>,
    pub(crate) session_id: Option<Span>,
    pub(crate) protocol_version: Option<Span>,
    pub(crate) authorization: Option<Span>,
    /// Where its line is among those that are passed on.
    pub(crate) authorization_line: Option<Span>,
    pub(crate) content_length: usize,
    /// It says whom it was forwarded for.
    pub(crate) is_forwarded: bool,
    /// Bytes up to the body.
    pub(crate) bytes: usize,
}

/// How the end of a response's body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    Known(u64),
    Chunked,
    UntilClose,
}

/// The head of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ResponseHead {
    pub(crate) status: StatusCode,
    pub(crate) length: Length,
    /// The connection may be used again.
    pub(crate) keep_alive: bool,
    pub(crate) content_type: Option<Span>,
    pub(crate) content_encoding: Option<Span>,
    pub(crate) session_id: Option<Span>,
    pub(crate) bytes: usize,
}

/// Reads a request's head from the bytes received so far. The lines that go on to the upstream are added to `passed`:
/// all but `Host`, `Accept-Encoding` and hop-by-hop headers.
pub(crate) fn request(received: &[u8], passed: &mut Vec<u8>) -> Parsed<RequestHead> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut headers);
    let bytes = match parsed.parse(received).map_err(|_| Unusual)? {
        httparse::Status::Complete(bytes) => bytes,
        httparse::Status::Partial => return Ok(None),
    };
    if parsed.method != Some("POST") || parsed.version != Some(1) {
        return Err(Unusual);
    }
    let path = parsed.path.unwrap_or_default().strip_prefix("/mcp").ok_or(Unusual)?;
    let (name, query) = path.split_once('?').map_or((path, None), |(name, query)| (name, Some(query)));
    let name = if name.is_empty() { None } else { Some(name.strip_prefix('/').ok_or(Unusual)?) };
    if name.is_some_and(|name| name.contains('/')) || !path.bytes().all(is_plain) {
        return Err(Unusual);
    }
    let span = |part: &[u8]| span_in(received, part);
    let mut head = RequestHead {
        name: name.map(|name| span(name.as_bytes())),
        query: query.map(|query| span(query.as_bytes())),
        bytes,
        ..RequestHead::default()
    };
    let (mut host, mut length) = (None, None);
    for header in parsed.headers.iter() {
        let value = || span(header.value);
        let once = match known(header.name) {
            Known::Host => host.replace(value()).is_none(),
            Known::AcceptEncoding | Known::KeepAlive => true,
            Known::Connection if header.value.eq_ignore_ascii_case(b"keep-alive") => true,
            Known::Connection | Known::HopByHop | Known::TransferEncoding => return Err(Unusual),
            kind => {
                let line = passed.len();
                pass(header, passed);
                match kind {
                    Known::ContentLength => length.replace(digits(header.value).ok_or(Unusual)?).is_none(),
                    Known::Authorization => {
                        head.authorization_line = Some(line..passed.len());
                        head.authorization.replace(value()).is_none()
                    }
                    Known::Origin => head.origin.replace(value()).is_none(),
                    Known::SessionId => head.session_id.replace(value()).is_none(),
                    Known::ProtocolVersion => head.protocol_version.replace(value()).is_none(),
                    Known::Forwarded => {
                        head.is_forwarded = true;
                        true
                    }
                    _ => true,
                }
            }
        };
        if !once {
            return Err(Unusual);
        }
    }
    head.host = host.ok_or(Unusual)?;
    head.content_length = usize::try_from(length.ok_or(Unusual)?).map_err(|_| Unusual)?;
    Ok(Some(head))
}

/// The name and the value of each line among those that are passed on.
pub(crate) fn fields(passed: &[u8]) -> impl Iterator<Item = (&str, &[u8])> {
    passed.split_inclusive(|byte| *byte == b'\n').filter_map(|line| {
        let (name, value) = line.split_at_checked(memchr::memchr(b':', line)?)?;
        Some((std::str::from_utf8(name).ok()?, value[1..].trim_ascii()))
    })
}

/// The value of a line among those that are passed on.
pub(crate) fn line(passed: &[u8], name: &str) -> Option<HeaderValue> {
    let (_, value) = fields(passed).find(|(found, _)| found.eq_ignore_ascii_case(name))?;
    HeaderValue::from_bytes(value).ok()
}

/// Reads a response's head. Its status line and the lines that go on to the client, all but hop-by-hop headers, are
/// added to `passed`. Interim responses (1xx) are heads too.
pub(crate) fn response(received: &[u8], passed: &mut Vec<u8>) -> Parsed<ResponseHead> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Response::new(&mut headers);
    let bytes = match parsed.parse(received).map_err(|_| Unusual)? {
        httparse::Status::Complete(bytes) => bytes,
        httparse::Status::Partial => return Ok(None),
    };
    let status = StatusCode::from_u16(parsed.code.unwrap_or_default()).map_err(|_| Unusual)?;
    passed.extend_from_slice(b"HTTP/1.1 ");
    passed.extend_from_slice(status.as_str().as_bytes());
    passed.push(b' ');
    passed.extend_from_slice(parsed.reason.unwrap_or_default().as_bytes());
    passed.extend_from_slice(b"\r\n");
    let span = |part: &[u8]| span_in(received, part);
    let mut head = ResponseHead {
        status,
        length: Length::UntilClose,
        keep_alive: parsed.version == Some(1),
        content_type: None,
        content_encoding: None,
        session_id: None,
        bytes,
    };
    let (mut length, mut chunked) = (None, false);
    for header in parsed.headers.iter() {
        let value = || span(header.value);
        let once = match known(header.name) {
            Known::ContentLength => length.replace(digits(header.value).ok_or(Unusual)?).is_none(),
            Known::TransferEncoding => {
                !std::mem::replace(&mut chunked, true) && header.value.eq_ignore_ascii_case(b"chunked")
            }
            Known::Connection if header.value.eq_ignore_ascii_case(b"close") => {
                head.keep_alive = false;
                continue;
            }
            Known::Connection if header.value.eq_ignore_ascii_case(b"keep-alive") => continue,
            // It may name any header, and what it names must not be passed on.
            Known::Connection => return Err(Unusual),
            Known::KeepAlive | Known::HopByHop => continue,
            Known::ContentType => head.content_type.replace(value()).is_none(),
            Known::ContentEncoding => head.content_encoding.replace(value()).is_none(),
            Known::SessionId => head.session_id.replace(value()).is_none(),
            _ => true,
        };
        if !once {
            return Err(Unusual);
        }
        pass(header, passed);
    }
    let bodiless = status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    head.length = match (length, chunked) {
        (Some(_), true) => return Err(Unusual),
        // Chunks are of HTTP/1.1.
        (None, true) if parsed.version != Some(1) => return Err(Unusual),
        _ if bodiless => Length::Known(0),
        (Some(length), false) => Length::Known(length),
        (None, true) => Length::Chunked,
        (None, false) => Length::UntilClose,
    };
    Ok(Some(head))
}

fn pass(header: &httparse::Header<'_>, passed: &mut Vec<u8>) {
    passed.extend_from_slice(header.name.as_bytes());
    passed.extend_from_slice(b": ");
    passed.extend_from_slice(header.value);
    passed.extend_from_slice(b"\r\n");
}

/// Where `part`, which borrows from `whole`, is in it.
fn span_in(whole: &[u8], part: &[u8]) -> Span {
    let start = part.as_ptr().addr() - whole.as_ptr().addr();
    start..start + part.len()
}

/// A value as text, where it is visible ASCII and not empty.
pub(crate) fn ascii(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value).ok().filter(|text| text.is_ascii() && !text.is_empty())
}

/// The headers that mean something here.
enum Known {
    Host,
    Origin,
    Authorization,
    SessionId,
    ProtocolVersion,
    ContentLength,
    TransferEncoding,
    AcceptEncoding,
    Connection,
    KeepAlive,
    Forwarded,
    ContentType,
    ContentEncoding,
    /// Of one connection only (RFC 9110, 7.6.1), and rare.
    HopByHop,
    Other,
}

fn known(name: &str) -> Known {
    let is = |other: &str| name.eq_ignore_ascii_case(other);
    match name.len() {
        2 if is("te") => Known::HopByHop,
        4 if is("host") => Known::Host,
        6 if is("origin") => Known::Origin,
        6 if is("expect") => Known::HopByHop,
        7 if is("upgrade") || is("trailer") => Known::HopByHop,
        9 if is("forwarded") => Known::Forwarded,
        10 if is("connection") => Known::Connection,
        10 if is("keep-alive") => Known::KeepAlive,
        13 if is("authorization") => Known::Authorization,
        12 if is("content-type") => Known::ContentType,
        14 if is("content-length") => Known::ContentLength,
        14 if is("mcp-session-id") => Known::SessionId,
        15 if is("accept-encoding") => Known::AcceptEncoding,
        15 if is("x-forwarded-for") => Known::Forwarded,
        16 if is("content-encoding") => Known::ContentEncoding,
        16 if is("proxy-connection") => Known::HopByHop,
        17 if is("transfer-encoding") => Known::TransferEncoding,
        18 if is("proxy-authenticate") => Known::HopByHop,
        19 if is("proxy-authorization") => Known::HopByHop,
        20 if is("mcp-protocol-version") => Known::ProtocolVersion,
        _ => Known::Other,
    }
}

/// A number of at most 15 digits and nothing else: no sign, no list, no blank.
fn digits(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 15 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// What a path or a query consists of (RFC 3986); the rest is for hyper to take or refuse.
const fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'('
                ..=b'/' | b':' | b';' | b'=' | b'?' | b'@' | b'%'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Parsed<RequestHead> {
        request(format!("{}\r\n\r\n", lines.join("\r\n")).as_bytes(), &mut Vec::new())
    }

    fn post(extra: &[&str]) -> Parsed<RequestHead> {
        read(&[&["POST /mcp/files?a=1 HTTP/1.1", "Host: localhost"], extra].concat())
    }

    #[test]
    fn the_usual_request() {
        let text = "POST /mcp/files?a=1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 12\r\nAccept-Encoding: gzip\r\n\
                    Connection: keep-alive\r\nMCP-Session-Id: s\r\nX-a: b \r\n\r\n{";
        let mut passed = Vec::new();
        let head = request(text.as_bytes(), &mut passed).expect("usual").expect("complete");
        let at = |span: &Span| &text[span.clone()];
        let name = head.name.as_ref().map(at);
        assert_eq!((name, head.query.as_ref().map(at), at(&head.host)), (Some("files"), Some("a=1"), "localhost"));
        assert_eq!((head.content_length, head.session_id.as_ref().map(at)), (12, Some("s")));
        assert_eq!(head.bytes, text.len() - 1);
        assert_eq!(passed, b"Content-Length: 12\r\nMCP-Session-Id: s\r\nX-a: b\r\n");
        assert_eq!(line(&passed, "x-a").expect("it is there"), "b");
        assert_eq!(line(&passed, "x"), None);
        assert_eq!(request(b"POST /mcp/a HTTP/1.1\r\nHost", &mut passed), Ok(None));
    }

    #[test]
    fn what_is_unusual_is_for_hyper() {
        for extra in [
            &[][..],
            &["Content-Length: 1", "Content-Length: 1"],
            &["Content-Length: +1"],
            &["Content-Length: 1, 1"],
            &["Content-Length: 0x1"],
            &["Content-Length:"],
            &["Content-Length: 1", "Transfer-Encoding: chunked"],
            &["Transfer-Encoding: chunked"],
            &["Content-Length: 1", "Connection: close"],
            &["Content-Length: 1", "Connection: content-length"],
            &["Content-Length: 1", "Expect: 100-continue"],
            &["Content-Length: 1", "Upgrade: h2c"],
            &["Content-Length: 1", "Host: other"],
            &["Content-Length: 1", "Origin: a", "Origin: b"],
            &["Content-Length: 1", "Mcp-Session-Id: a", "Mcp-Session-Id: b"],
            &["Content-Length: 1", "X-a: b", " folded"],
            &["Content-Length: 1", "X-a : b"],
            &["Content-Length : 1"],
        ] {
            assert!(post(extra).is_err(), "{extra:?}");
        }
        let rest = ["Host: localhost", "Content-Length: 1"];
        let of_all = |first| read(&[&[first], &rest[..]].concat()).map(|head| head.expect("complete").name);
        assert_eq!((of_all("POST /mcp HTTP/1.1"), of_all("POST /mcp?a HTTP/1.1")), (Ok(None), Ok(None)));
        for first in [
            "POST /mcpa HTTP/1.1",
            "GET /mcp/a HTTP/1.1",
            "POST /mcp/a HTTP/1.0",
            "POST /mcp/a/b HTTP/1.1",
            "POST /x HTTP/1.1",
            "POST /mcp/a?<> HTTP/1.1",
            "POST http://h/mcp/a HTTP/1.1",
        ] {
            assert!(read(&[&[first], &rest[..]].concat()).is_err(), "{first}");
        }
    }

    fn answer(lines: &[&str]) -> Result<(Length, bool), Unusual> {
        let head = response(format!("{}\r\n\r\n", lines.join("\r\n")).as_bytes(), &mut Vec::new())?.expect("complete");
        Ok((head.length, head.keep_alive))
    }

    #[test]
    fn responses_say_how_they_end() {
        let ok = "HTTP/1.1 200 OK";
        assert_eq!(answer(&[ok, "Content-Length: 5"]), Ok((Length::Known(5), true)));
        assert_eq!(answer(&[ok, "Transfer-Encoding: Chunked", "Connection: close"]), Ok((Length::Chunked, false)));
        assert_eq!(answer(&[ok]), Ok((Length::UntilClose, true)));
        assert_eq!(answer(&["HTTP/1.0 200 OK", "Content-Length: 5"]), Ok((Length::Known(5), false)));
        assert_eq!(answer(&["HTTP/1.1 204 No Content"]), Ok((Length::Known(0), true)));
        for unusual in [
            &["Content-Length: 5", "Content-Length: 5"][..],
            &["Content-Length: 5", "Transfer-Encoding: chunked"],
            &["Transfer-Encoding: gzip, chunked"],
            &["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
            &["Connection: x-secret"],
            &["Content-Length: five"],
        ] {
            assert_eq!(answer(&[&[ok], unusual].concat()), Err(Unusual), "{unusual:?}");
        }
        assert_eq!(answer(&["HTTP/1.0 200 OK", "Transfer-Encoding: chunked"]), Err(Unusual));
    }
}
