//! Signing in as a client of the gateway sees it; the upstream is a few lines that close every connection.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::gateway::tests::{Peer, Running, config, gateway};

const DOCUMENT: &str = "/.well-known/oauth-protected-resource/mcp/up";

/// An upstream that wants a token, and has metadata where `at` says.
async fn upstream(at: Option<&'static str>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") && !request.ends_with(b"{}") {
                assert!(stream.read_buf(&mut request).await.unwrap() > 0);
            }
            let request = String::from_utf8(request).unwrap();
            let path = request.split(' ').nth(1).unwrap();
            let (status, header, body) = if at == Some(path) {
                let body = format!(r#"{{"x": 1.0, "resource":"http://{address}/base"}}"#);
                ("200 OK", String::new(), body)
            } else if path.starts_with("/base") {
                let place = at.map_or(String::new(), |at| format!(r#" resource_metadata="http://{address}{at}""#));
                ("401 Unauthorized", format!("www-authenticate: Bearer{place}\r\n"), String::new())
            } else {
                ("404 Not Found", String::new(), String::new())
            };
            let head =
                format!("HTTP/1.1 {status}\r\n{header}content-length: {}\r\nconnection: close\r\n\r\n", body.len());
            stream.write_all((head + &body).as_bytes()).await.unwrap();
        }
    });
    address
}

async fn before(upstream: SocketAddr) -> Running {
    gateway(config(&format!("up=http://{upstream}/base?key=secret"))).await
}

/// A document or a refusal of it: all but the head.
async fn get(gateway: &Running, path: &str) -> String {
    let mut client = Peer::connect(gateway.address).await;
    client.send(&format!("GET {path} HTTP/1.1\r\nhost: localhost:1\r\nconnection: close\r\n\r\n")).await;
    client.rest().await.split("\r\n\r\n").nth(1).unwrap().to_owned()
}

/// The head of what a call without a token gets.
async fn refused(gateway: &Running) -> String {
    let mut client = Peer::connect(gateway.address).await;
    client.post("/mcp/up", "", "{}").await;
    client.until("\r\n\r\n").await
}

#[tokio::test]
async fn metadata_is_found_where_the_specification_says() {
    for at in ["/.well-known/oauth-protected-resource/base", "/.well-known/oauth-protected-resource"] {
        let gateway = before(upstream(Some(at)).await).await;
        assert_eq!(get(&gateway, DOCUMENT).await, r#"{"x": 1.0, "resource":"http://localhost:1/mcp/up"}"#, "{at}");
        gateway.stop().await;
    }
}

#[tokio::test]
async fn metadata_is_found_where_a_challenge_says() {
    let gateway = before(upstream(Some("/elsewhere")).await).await;
    assert!(get(&gateway, DOCUMENT).await.contains("unknown_path"));
    let head = refused(&gateway).await;
    let named = format!("resource_metadata=\"http://localhost{DOCUMENT}\"");
    assert!(head.starts_with("HTTP/1.1 401") && head.contains(&named), "{head}");
    assert_eq!(get(&gateway, DOCUMENT).await, r#"{"x": 1.0, "resource":"http://localhost:1/mcp/up"}"#);
    gateway.stop().await;
}

/// Up to 2025-03-26 a server is its own authorization server, and says so by saying nothing.
#[tokio::test]
async fn an_upstream_without_metadata_is_described_once_it_asks_for_tokens() {
    let address = upstream(None).await;
    let gateway = before(address).await;
    assert!(get(&gateway, DOCUMENT).await.contains("unknown_path"));
    refused(&gateway).await;
    let expect = format!(r#"{{"authorization_servers":["http://{address}"],"resource":"http://localhost:1/mcp/up"}}"#);
    assert_eq!(get(&gateway, DOCUMENT).await, expect);
    gateway.stop().await;
}

#[tokio::test]
async fn there_is_metadata_for_http_upstreams_alone() {
    let gateway = gateway(config("up=some-command")).await;
    for path in [DOCUMENT, "/.well-known/oauth-protected-resource/mcp/other", "/.well-known/oauth-protected-resource"] {
        assert!(get(&gateway, path).await.contains("unknown_path"), "{path}");
    }
    gateway.stop().await;
}

fn resource() -> Resource {
    let uri = Uri::from_static("http://up.example:81/a/mcp?key=k");
    let host = host_of(&uri);
    Resource::new("n".into(), uri, host, Hop::plain(&crate::gateway::Timeouts::default()))
}

fn origin() -> Origin {
    Origin { host: HeaderValue::from_static("gate"), https: false }
}

#[test]
fn only_the_upstreams_own_resource_is_replaced() {
    let own = "http://gate/mcp/n";
    let check = |named: &str, replaced: bool| {
        let body = format!(r#"{{ "x":1.0, "resource": "{named}","authorization_servers":["http://as"] }}"#);
        let expect = replaced.then(|| Bytes::from(body.replace(named, own)));
        assert_eq!(resource().for_resource(body.as_bytes(), own), expect, "{named}");
    };
    for named in ["http://up.example:81/a/mcp", "http://UP.example:81/a/mcp/", "http://up.example:81"] {
        check(named, true);
    }
    for named in ["http://evil.example/a/mcp", "https://up.example:81/a/mcp", "http://up.example:81/a/mc", "x"] {
        check(named, false);
    }
}

#[test]
fn a_challenge_names_the_gateways_metadata_and_is_remembered() {
    let resource = resource();
    let mut headers = HeaderMap::new();
    let challenge = r#"Bearer scope="a", resource_metadata="http://up.example:81/elsewhere?x=1""#;
    headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    let origin = origin();
    resource.readdress(StatusCode::UNAUTHORIZED, &mut headers, Some(&origin));
    let expect = r#"Bearer scope="a", resource_metadata="http://gate/.well-known/oauth-protected-resource/mcp/n""#;
    assert_eq!(headers[header::WWW_AUTHENTICATE], expect);
    let challenged = resource.challenged().clone();
    assert!(challenged.ever);
    assert_eq!(resource.places(challenged.metadata), ["/elsewhere?x=1"]);
}

#[test]
fn header_lines_are_readdressed_too() {
    let challenge = r#"Bearer resource_metadata="http://up.example:81/elsewhere""#;
    let lines = format!("a: 1\r\nWWW-Authenticate:{challenge}\r\nb: 2\r\n");
    let head = "HTTP/1.1 401 x\r\n";
    let mut out = format!("{head}{lines}").into_bytes();
    resource().readdress_lines(StatusCode::OK, &mut out, head.len(), b"gate");
    assert_eq!(out, format!("{head}{lines}").into_bytes());
    resource().readdress_lines(StatusCode::UNAUTHORIZED, &mut out, head.len(), b"gate");
    let own = "http://gate/.well-known/oauth-protected-resource/mcp/n";
    let expect = format!("{head}a: 1\r\nb: 2\r\nwww-authenticate: Bearer resource_metadata=\"{own}\"\r\n");
    assert_eq!(String::from_utf8(out).unwrap(), expect);
}

#[test]
fn metadata_at_another_origin_is_left_to_the_client() {
    let resource = resource();
    let mut headers = HeaderMap::new();
    let challenge = r#"Bearer resource_metadata="http://169.254.169.254/latest""#;
    headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    resource.readdress(StatusCode::UNAUTHORIZED, &mut headers, Some(&origin()));
    assert_eq!(headers[header::WWW_AUTHENTICATE], challenge);
    assert_eq!(resource.places(None), [format!("{WELL_KNOWN}/a/mcp"), WELL_KNOWN.to_owned()]);
}

#[test]
fn the_scheme_is_ours_or_a_trusted_proxys() {
    let mut headers = HeaderMap::new();
    headers.insert(header::HOST, HeaderValue::from_static("gate:1"));
    headers.insert("x-forwarded-proto", HeaderValue::from_static("https"));
    assert_eq!(Origin::of(&headers, false, || false).unwrap().url("/p").unwrap(), "http://gate:1/p");
    assert_eq!(Origin::of(&headers, false, || true).unwrap().url("/p").unwrap(), "https://gate:1/p");
    assert_eq!(Origin::of(&headers, true, || false).unwrap().url("/p").unwrap(), "https://gate:1/p");
    assert!(Origin::of(&HeaderMap::new(), false, || true).is_none());
    assert_eq!(asked_for("/.well-known/oauth-protected-resource/mcp/a"), Some("/mcp/a"));
    assert_eq!(asked_for("/.well-known/oauth-protected-resource/mcp"), Some("/mcp"));
    assert_eq!(asked_for("/.well-known/oauth-protected-resource/mcp/a/b"), None);
}
