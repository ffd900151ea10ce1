//! Keys and tokens as a client of the gateway meets them. The upstream answers with the head it was sent.

use std::net::SocketAddr;

use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;

use crate::config::{self, KeyHash};
use crate::gateway::GatewayConfig;
use crate::gateway::tests::{Peer, Running, config, gateway, mirror, scripted_many};

const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;

async fn with_auth(auth: config::Auth, change: impl FnOnce(&mut GatewayConfig)) -> Running {
    let mut config = config(&format!("up=http://{}/base", mirror().await));
    config.auth = auth;
    change(&mut config);
    gateway(config).await
}

fn keys(keys: &[(&str, &str)]) -> config::Auth {
    let hashed = |(subject, key): &(&str, &str)| ((*subject).to_owned(), KeyHash(Sha256::digest(key).into()));
    config::Auth { keys: keys.iter().map(hashed).collect(), issuer: None }
}

async fn post(client: &mut Peer, authorization: &str) -> String {
    let header = if authorization.is_empty() { String::new() } else { format!("authorization: {authorization}\r\n") };
    client.exchange("POST", "/mcp/up", &header, PING).await
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap()
}

#[tokio::test]
async fn a_key_names_its_subject_and_goes_no_further() {
    let gateway = with_auth(keys(&[("alice", "k1"), ("bob", "k2")]), |config| {
        config.upstreams[0].terms.headers.insert("authorization", "Bearer of-the-gateway".parse().unwrap());
    })
    .await;
    // On both ways: the strict relay takes the first, hyper the second.
    for extra in ["", "te: trailers\r\n"] {
        let mut client = Peer::connect(gateway.address).await;
        for key in ["k1", "k2", "k1"] {
            let headers = format!("authorization: Bearer {key}\r\n{extra}");
            let answer = client.exchange("POST", "/mcp/up", &headers, PING).await;
            assert_eq!(status(&answer), "200", "{answer}");
            assert!(!answer.contains("Bearer k") && answer.contains("Bearer of-the-gateway"), "{answer}");
        }
    }
    assert_eq!(gateway.principals(), ["alice".to_owned(), "bob".to_owned()].into());
    gateway.stop().await;
}

#[tokio::test]
async fn without_a_known_key_nothing_passes() {
    let gateway = with_auth(keys(&[("alice", "k1")]), |_| {}).await;
    let mut client = Peer::connect(gateway.address).await;
    assert_eq!(status(&post(&mut client, "Bearer k1").await), "200");
    let answer = post(&mut client, "").await;
    assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("www-authenticate: Bearer\r\n"), "{answer}");
    for wrong in ["Bearer k2", "Bearer", "Basic azE=", "k1"] {
        let answer = post(&mut client, wrong).await;
        assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("error=\"invalid_token\""), "{wrong}: {answer}");
    }
    assert_eq!(gateway.requests("up", "invalid_token"), 4);
    gateway.stop().await;
}

#[tokio::test]
async fn an_upstream_that_knows_its_callers_gets_what_they_sent() {
    let gateway = with_auth(keys(&[("alice", "k1")]), |config| config.upstreams[0].terms.pass_through = true).await;
    let answer = post(&mut Peer::connect(gateway.address).await, "Bearer theirs").await;
    assert!(answer.contains("authorization: Bearer theirs"), "{answer}");
    assert_eq!(gateway.principals(), ["127.0.0.1".to_owned()].into());
    gateway.stop().await;
}

#[tokio::test]
async fn a_session_belongs_to_the_principal_that_opened_it() {
    let gateway = with_auth(keys(&[("alice", "k1"), ("bob", "k2")]), |_| {}).await;
    let mut client = Peer::connect(gateway.address).await;
    let mut ask = async |key: &str| {
        let headers = format!("mcp-session-id: s1\r\nauthorization: Bearer {key}\r\n");
        client.exchange("POST", "/mcp/up", &headers, PING).await
    };
    assert_eq!(status(&ask("k1").await), "200");
    let stolen = ask("k2").await;
    assert!(stolen.starts_with("HTTP/1.1 404") && stolen.contains("unknown_session"), "{stolen}");
    assert_eq!(status(&ask("k1").await), "200");
    gateway.stop().await;
}

/// An identity provider: its metadata, its keys, and tokens signed by them.
struct Provider {
    address: SocketAddr,
    key: EncodingKey,
}

impl Provider {
    async fn start() -> Self {
        // PKCS #8 of an Ed25519 key (RFC 8410): a fixed prefix and 32 bytes.
        let prefix = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
        let key = EncodingKey::from_ed_der(&[&prefix[..], &[7; 32]].concat());
        let mut public = Jwk::from_encoding_key(&key, Algorithm::EdDSA).unwrap();
        public.common.key_id = Some("one".into());
        let keys = serde_json::to_string(&JwkSet { keys: vec![public] }).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let metadata = format!(r#"{{"issuer":"http://{address}","jwks_uri":"http://{address}/keys"}}"#);
        scripted_many(listener, move |path| match path {
            "/.well-known/oauth-authorization-server" => Some(metadata.clone()),
            "/keys" => Some(keys.clone()),
            _ => None,
        });
        Self { address, key }
    }

    fn auth(&self, scopes: &[&str]) -> config::Auth {
        let issuer = config::Issuer {
            url: format!("http://{}", self.address),
            audiences: vec!["http://localhost/mcp".into()],
            jwks_url: None,
            algorithms: vec![Algorithm::EdDSA, Algorithm::RS256],
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        };
        config::Auth { issuer: Some(issuer), ..config::Auth::default() }
    }

    fn token(&self, change: serde_json::Value) -> String {
        self.token_by("one", change)
    }

    fn token_by(&self, kid: &str, change: serde_json::Value) -> String {
        let now = jsonwebtoken::get_current_timestamp();
        let mut claims = serde_json::json!({
            "iss": format!("http://{}", self.address),
            "aud": "http://localhost/mcp",
            "sub": "alice",
            "exp": now + 600,
        });
        for (claim, value) in change.as_object().unwrap() {
            claims[claim] = value.clone();
        }
        let header = Header { kid: Some(kid.into()), ..Header::new(Algorithm::EdDSA) };
        format!("Bearer {}", jsonwebtoken::encode(&header, &claims, &self.key).unwrap())
    }
}

#[tokio::test]
async fn a_token_counts_if_it_is_of_this_issuer_for_this_audience_and_in_time() {
    let provider = Provider::start().await;
    let gateway = with_auth(provider.auth(&[]), |_| {}).await;
    let mut client = Peer::connect(gateway.address).await;
    let answer = post(&mut client, &provider.token(serde_json::json!({}))).await;
    assert!(answer.starts_with("HTTP/1.1 200") && !answer.contains("Bearer"), "{answer}");
    let agent = provider.token(serde_json::json!({"azp": "agent-7", "aud": ["x", "http://localhost/mcp"]}));
    assert_eq!(status(&post(&mut client, &agent).await), "200");
    let now = jsonwebtoken::get_current_timestamp();
    let wrong = [
        serde_json::json!({"aud": "http://localhost/other"}),
        serde_json::json!({"iss": "http://evil.example"}),
        serde_json::json!({"exp": now - 600}),
        serde_json::json!({"nbf": now + 600}),
        serde_json::json!({"sub": ""}),
        serde_json::json!({"sub": null}),
    ];
    for change in wrong {
        let answer = post(&mut client, &provider.token(change.clone())).await;
        assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("invalid_token"), "{change}: {answer}");
    }
    let unknown_key = provider.token_by("two", serde_json::json!({}));
    assert_eq!(status(&post(&mut client, &unknown_key).await), "401");
    let good = provider.token(serde_json::json!({}));
    let cut = &good[..good.len() - 4];
    assert_eq!(status(&post(&mut client, cut).await), "401");
    assert_eq!(gateway.principals(), ["alice".to_owned(), "alice/agent-7".to_owned()].into());
    gateway.stop().await;
}

#[tokio::test]
async fn a_client_is_told_where_to_sign_in_and_for_what() {
    let provider = Provider::start().await;
    let gateway = with_auth(provider.auth(&["mcp:call"]), |_| {}).await;
    let mut client = Peer::connect(gateway.address).await;
    let answer = post(&mut client, "").await;
    let metadata = "resource_metadata=\"http://localhost/.well-known/oauth-protected-resource/mcp/up\"";
    assert!(answer.contains(metadata) && answer.contains("scope=\"mcp:call\""), "{answer}");
    let document = client.exchange("GET", "/.well-known/oauth-protected-resource/mcp/up", "", "").await;
    let document: serde_json::Value = serde_json::from_str(document.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    // It covers the URL in use, so clients accept it, and tokens for it are for the configured audience.
    assert_eq!(document["resource"], "http://localhost/mcp");
    assert_eq!(document["authorization_servers"][0], format!("http://{}", provider.address));
    let poor = post(&mut client, &provider.token(serde_json::json!({"scope": "other"}))).await;
    assert!(poor.starts_with("HTTP/1.1 403") && poor.contains("insufficient_scope"), "{poor}");
    let rich = post(&mut client, &provider.token(serde_json::json!({"scope": "other mcp:call"}))).await;
    assert_eq!(status(&rich), "200", "{rich}");
    gateway.stop().await;
}

#[tokio::test]
async fn without_the_issuers_keys_nobody_is_blamed() {
    let provider = Provider::start().await;
    let mut auth = provider.auth(&[]);
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    auth.issuer.as_mut().unwrap().jwks_url = Some(format!("http://{free}/keys"));
    let gateway = with_auth(auth, |_| {}).await;
    let answer = post(&mut Peer::connect(gateway.address).await, &provider.token(serde_json::json!({}))).await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("issuer_unavailable"), "{answer}");
    gateway.stop().await;
}
