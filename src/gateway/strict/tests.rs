//! The law of the strict relay, for heads made of the pieces that smuggling is made of.

use proptest::prelude::*;

use super::law;

/// Pieces of heads, the usual ones and those that smuggling is made of.
fn line() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec![
        "Content-Length",
        "content-length",
        "Transfer-Encoding",
        "Connection",
        "Host",
        "Mcp-Session-Id",
        "Origin",
        "Expect",
        "X-Other",
        "Content-Length ",
        " Content-Length",
        "Content-Type",
        "Te",
        "Upgrade",
        "Trailer",
        "X\tY",
        "Keep-Alive",
        "",
    ]);
    let value = prop::sample::select(vec![
        "5",
        "05",
        "+5",
        "-5",
        "5, 5",
        "5,6",
        " 5 ",
        "5\t",
        "0",
        "",
        "chunked",
        "Chunked",
        "gzip, chunked",
        "chunked, identity",
        "identity",
        "close",
        "keep-alive",
        "Keep-Alive",
        "content-length",
        "localhost",
        "a",
        "b\rc",
        "b\u{e9}",
        "99999999999999999999",
        "100-continue",
        "h2c",
        "\u{0}",
    ]);
    let colon = prop::sample::select(vec![": ", ":", " : ", ""]);
    let end = prop::sample::select(vec!["\r\n", "\r\n", "\r\n", "\n", "\r\n ", "\r"]);
    let odd = (name, colon, value, end).prop_map(|(name, colon, value, end)| format!("{name}{colon}{value}{end}"));
    let usual = prop::sample::select(vec![
        "Content-Type: application/json\r\n",
        "MCP-Protocol-Version: 2025-11-25\r\n",
        "Connection: keep-alive\r\n",
        "Keep-Alive: timeout=5\r\n",
        "Accept-Encoding: gzip, br\r\n",
        "X-Other:\tb \r\n",
    ]);
    // Half of all heads of three lines have no odd one.
    prop_oneof![4 => usual.prop_map(str::to_owned), 1 => odd]
}

fn request_head() -> impl Strategy<Value = Vec<u8>> {
    let first = prop::sample::select(vec![
        "POST /mcp/a HTTP/1.1\r\n",
        "POST /mcp/a?b=c HTTP/1.1\r\n",
        "POST /mcp/a  HTTP/1.1\r\n",
        "POST /mcp/a HTTP/1.0\r\n",
        "POST /mcp/a HTTP/1.1\n",
        "\r\nPOST /mcp/a HTTP/1.1\r\n",
        "POST /mcp/a?\u{e9} HTTP/1.1\r\n",
        "POST /mcp/%zz HTTP/1.1\r\n",
        "POST /mcp/a#b HTTP/1.1\r\n",
        "POST /mcp/a?\"<>{} HTTP/1.1\r\n",
    ]);
    // Most have what every request needs, or hardly any would be accepted.
    let first = prop_oneof![3 => Just("POST /mcp/a?b=c HTTP/1.1\r\n"), 1 => first];
    let needed = prop_oneof![6 => Just("Host: h\r\nContent-Length: 5\r\n"), 1 => Just("Host: h\r\n"), 1 => Just("")];
    let end = prop::sample::select(vec!["\r\n", "\r\n", "\n", ""]);
    (first, needed, prop::collection::vec(line(), 0..4), end)
        .prop_map(|(first, needed, lines, end)| format!("{first}{needed}{}{end}", lines.concat()).into_bytes())
}

fn response_head() -> impl Strategy<Value = Vec<u8>> {
    let first = prop::sample::select(vec![
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200\r\n",
        "HTTP/1.0 200 OK\r\n",
        "HTTP/1.1 204 No Content\r\n",
        "HTTP/1.1 304 x\r\n",
        "HTTP/1.1 202 Accepted\r\n",
        "HTTP/1.1 99 x\r\n",
        "HTTP/2.0 200 OK\r\n",
        "HTTP/1.1 200 \u{e9}\r\n",
    ]);
    let first = prop_oneof![3 => Just("HTTP/1.1 200 OK\r\n"), 1 => first];
    let length = prop::sample::select(vec!["Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n", ""]);
    let end = prop_oneof![6 => Just("\r\n"), 1 => Just("\n"), 1 => Just("")];
    (first, length, prop::collection::vec(line(), 0..4), end)
        .prop_map(|(first, length, lines, end)| format!("{first}{length}{}{end}", lines.concat()).into_bytes())
}

const BODY: &[u8] = b"5\r\nhello\r\n0\r\n\r\nPOST /mcp/other HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n";

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_accepted_request_is_the_same_to_hyper(head in request_head()) {
        law::request(&[&head[..], BODY].concat());
    }

    #[test]
    fn an_accepted_response_is_the_same_to_hyper(head in response_head()) {
        law::response(&[&head[..], BODY].concat());
    }
}

/// The law holds for nothing if nothing is accepted.
#[test]
fn usual_heads_are_accepted() {
    let head = b"POST /mcp/a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n";
    assert!(law::request(&[head, BODY].concat()));
    for head in ["Content-Length: 5", "Transfer-Encoding: chunked", "X-A: b"] {
        assert!(law::response(&[format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n").as_bytes(), BODY].concat()), "{head}");
    }
}
