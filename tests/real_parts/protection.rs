//! What protects upstreams, clients and each from the other, in the binary: places that fail, rates, doors, time, TLS.

use std::net::SocketAddr;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::echo::{Echo, Mood};
use crate::support::fake::{begin_events, end_events, event, respond, upstream};
use crate::support::gateway::{Gateway, Serve};
use crate::support::http::{Message, request};
use crate::support::parts::{python_script, server_demo, undercurrent};
use crate::support::raw::{POST_HEADERS, initialize, post, tools_call};
use crate::support::wait::wait_until;

/// An answer, its status and, if it is an error of the gateway, its reason.
fn told(answer: &Message) -> (u16, String) {
    let json: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    (answer.status(), json["error"]["data"]["reason"].as_str().unwrap_or_default().to_owned())
}

fn open(gateway: &Gateway) -> String {
    let opened = post(gateway.listen, "/mcp/up", initialize(0).to_string().as_bytes());
    opened.header("mcp-session-id").unwrap_or_else(|| panic!("no session: {opened:?}")).to_owned()
}

fn call(at: SocketAddr, session: &str, id: u64) -> Message {
    let mut headers = POST_HEADERS.to_vec();
    headers.push(("Mcp-Session-Id", session));
    let body = tools_call(id, "echo", &json!({"text": "hello"})).to_string();
    request(at, "POST", "/mcp/up", &headers, body.as_bytes())
}

fn down(gateway: &Gateway) -> f64 {
    gateway.metrics().sum("undercurrent_gateway_breaker_open{server=\"up\"}")
}

#[test]
fn a_place_that_fails_is_left_out_and_sessions_stay_where_they_began() {
    let data = TempDir::new().expect("a temporary directory");
    let (one, other) = (Echo::start(), Echo::start());
    let settings = format!("[upstreams.up]\nurl = \"{}\"\nreplicas = [\"{}\"]\n", one.url(), other.url());
    let file = data.path().join("undercurrent.toml");
    std::fs::write(&file, settings).expect("write the settings");
    let gateway = Serve::new(&data.path().join("data"))
        .with("--config", file.to_str().expect("a path in UTF-8"))
        .setting("LIMITS__BREAKER_FAILURES", "2")
        .setting("LIMITS__BREAKER_PAUSE_MS", "300")
        .setting("LIMITS__BREAKER_PAUSE_MAX_MS", "300")
        .start();
    // They take turns.
    let sessions: Vec<_> = (0..4).map(|_| open(&gateway)).collect();
    assert_eq!((one.sessions(), other.sessions()), (2, 2));
    let answered = || sessions.iter().map(|id| call(gateway.listen, id, 1).status()).collect::<Vec<_>>();
    assert_eq!(answered(), [200; 4]);

    one.be(Mood::Dead);
    wait_until("the dead place counts as down", || {
        assert_eq!(answered().iter().filter(|status| **status == 200).count(), 2, "the other's sessions go on");
        down(&gateway) == 1.0
    });
    // Nobody is sent there any more; whose session lives there is told so at once.
    for _ in 0..4 {
        assert_eq!(call(gateway.listen, &open(&gateway), 1).status(), 200);
    }
    let lost = sessions.iter().map(|id| told(&call(gateway.listen, id, 1))).filter(|(status, _)| *status != 200);
    for (status, reason) in lost {
        assert!(matches!((status, reason.as_str()), (503, "circuit_open") | (502, _)), "{status} {reason}");
    }

    one.be(Mood::Good);
    wait_until("it is back, and its sessions with it", || answered() == [200; 4]);
    assert_eq!(down(&gateway), 0.0);
    gateway.stop();
}

#[test]
fn rates_and_doors_hold() {
    let data = TempDir::new().expect("a temporary directory");
    let slow = upstream(|request, socket| {
        thread::sleep(Duration::from_millis(500));
        let id = &request.json()["id"];
        respond(socket, "200 OK", "", &format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#));
    });
    let file = data.path().join("undercurrent.toml");
    std::fs::write(&file, format!("[upstreams.up]\nurl = \"http://{slow}/mcp\"\nrequests_max = 2\n"))
        .expect("write the settings");
    let gateway = Serve::new(&data.path().join("data"))
        .with("--config", file.to_str().expect("a path in UTF-8"))
        .setting("LIMITS__REQUESTS_PER_MINUTE", "60")
        .setting("LIMITS__REQUESTS_BURST", "6")
        .start();
    let listen = gateway.listen;
    let asked: Vec<_> = (0..4).map(|id| thread::spawn(move || told(&call(listen, "s", id)))).collect();
    let mut told_them: Vec<_> = asked.into_iter().map(|asked| asked.join().expect("a request ends")).collect();
    told_them.sort();
    assert_eq!(told_them.iter().filter(|(status, _)| *status == 200).count(), 2, "{told_them:?}");
    assert_eq!(told_them.iter().filter(|told| **told == (503, "upstream_busy".to_owned())).count(), 2, "{told_them:?}");
    // Four of six are used up.
    let asked: Vec<_> = (4..12).map(|id| thread::spawn(move || call(listen, "s", id))).collect();
    let answers: Vec<_> = asked.into_iter().map(|asked| asked.join().expect("a request ends")).collect();
    let refused = answers.iter().find(|answer| answer.status() == 429).expect("one is too many");
    assert_eq!(told(refused).1, "rate_limited");
    let wait: u64 = refused.header("retry-after").expect("it says when").parse().expect("seconds");
    assert!((1..=60).contains(&wait), "{wait} s");
    gateway.stop();
}

/// Silence ends a call; words of progress do not, until the time that is the most of all.
#[test]
fn progress_buys_time_up_to_a_cap() {
    let data = TempDir::new().expect("a temporary directory");
    let progress = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}"#;
    let slow = upstream(move |request, socket| {
        let rounds = match request.json()["params"]["arguments"]["text"].as_str() {
            Some("silent") => return thread::sleep(Duration::from_secs(3)),
            Some("busy") => 6,
            _ => 100,
        };
        begin_events(socket, &[]);
        for _ in 0..rounds {
            if event(socket, progress).is_err() {
                return;
            }
            thread::sleep(Duration::from_millis(200));
        }
        let id = &request.json()["id"];
        let answer = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[]}}}}"#);
        let _ = event(socket, &answer);
        let _ = end_events(socket);
    });
    let gateway = Serve::new(data.path())
        .upstream("up", &format!("http://{slow}/mcp"))
        .setting("GATEWAY__UPSTREAM_IDLE_TIMEOUT_MS", "600")
        .setting("GATEWAY__UPSTREAM_CALL_TIMEOUT_MS", "2500")
        .start();
    let ask = |text: &str| {
        let body = tools_call(7, "work", &json!({"text": text})).to_string();
        let begun = Instant::now();
        let answer = request(gateway.listen, "POST", "/mcp/up", &POST_HEADERS, body.as_bytes());
        (answer, begun.elapsed())
    };
    let (silent, took) = ask("silent");
    assert_eq!(told(&silent), (504, "upstream_timeout".to_owned()));
    assert!((Duration::from_millis(500)..Duration::from_secs(2)).contains(&took), "{took:?}");
    let (busy, took) = ask("busy");
    assert!(busy.complete && busy.text().contains("\"result\""), "{busy:?}");
    assert!(took > Duration::from_millis(1100), "longer than any silence may be: {took:?}");
    let (endless, took) = ask("endless");
    assert!(!endless.complete && !endless.text().contains("\"result\""), "{endless:?}");
    assert!((Duration::from_secs(2)..Duration::from_secs(6)).contains(&took), "{took:?}");
    gateway.stop();
}

/// The official Python client over HTTPS, with a key.
#[test]
fn an_official_client_signs_in_over_tls() {
    let data = TempDir::new().expect("a temporary directory");
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("make a certificate");
    let (certificate, key) = (data.path().join("certificate.pem"), data.path().join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).expect("write the certificate");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("write the key");
    let words = Command::new(undercurrent()).args(["key", "alice"]).output().expect("make a key");
    let secret = String::from_utf8(words.stdout).expect("text").trim().to_owned();
    let said = String::from_utf8_lossy(&words.stderr).into_owned();
    let line = said.lines().last().expect("the line for the settings").trim().to_owned();
    let file = data.path().join("undercurrent.toml");
    let paths = (json!(certificate), json!(key));
    std::fs::write(&file, format!("[listen]\ntls_certificate = {}\ntls_key = {}\n[auth]\n{line}\n", paths.0, paths.1))
        .expect("write the settings");
    let gateway = Serve::new(&data.path().join("data"))
        .with("--config", file.to_str().expect("a path in UTF-8"))
        .upstream("up", &server_demo().line())
        .start();
    let url = format!("https://localhost:{}/mcp/up", gateway.listen.port());
    let run = |secret: &str| {
        let mut command = python_script("signed_in.py").and(&url).and(secret).command();
        command.env("SSL_CERT_FILE", &certificate);
        command.output().expect("run the client")
    };
    let done = run(&secret);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(!run("uck_wrong").status.success(), "another key does not do");
    assert!(!gateway.process.stderr().contains(&secret), "a key is never logged");
    let history = gateway.stop();
    assert_eq!(history.number("SELECT count(*) FROM calls WHERE principal = 'alice' AND outcome = 'result'"), 1);
}
