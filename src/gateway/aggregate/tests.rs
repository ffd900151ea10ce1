//! The aggregated endpoint as a client sees it, in front of small upstreams.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;

use crate::config;
use crate::gateway::GatewayConfig;
use crate::gateway::tests::{Peer, Running, config as config_of, gateway, within};

/// What an upstream was sent: the head, and the body.
type Seen = Arc<Mutex<Vec<(String, Value)>>>;

struct Upstream {
    address: SocketAddr,
    seen: Seen,
}

impl Upstream {
    /// Answers messages by their method; `None`: accepted, and no more.
    async fn start(answer: impl Fn(&str, &Value) -> Option<Value> + Clone + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Seen::default();
        let all = Arc::clone(&seen);
        tokio::spawn(async move {
            loop {
                let mut peer = Peer::over(listener.accept().await.unwrap().0);
                let (answer, all) = (answer.clone(), Arc::clone(&all));
                tokio::spawn(async move {
                    while let Some((head, body)) = peer.request().await {
                        let message: Value = serde_json::from_str(&body).unwrap_or_default();
                        all.lock().unwrap().push((head.clone(), message.clone()));
                        let answered = answer(message["method"].as_str().unwrap_or_default(), &message);
                        let response = match answered {
                            Some(Value::String(raw)) => raw,
                            Some(result) => {
                                let body = json!({"jsonrpc": "2.0", "id": message["id"], "result": result}).to_string();
                                let own = format!("mcp-session-id: s{}\r\n", address.port());
                                let length = body.len();
                                format!(
                                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{own}content-length: {length}\r\n\r\n{body}"
                                )
                            }
                            None => "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n".into(),
                        };
                        peer.send(&response).await;
                    }
                });
            }
        });
        Self { address, seen }
    }

    /// One with tools of these names, which answer with what they were sent.
    async fn with_tools(names: &'static [&'static str]) -> Self {
        Self::start(move |method, message| match method {
            "initialize" => Some(initialized(json!({"tools": {"listChanged": true}}))),
            "tools/list" => {
                let at = message["params"]["cursor"].as_str().map_or(0, |cursor| cursor.parse().unwrap());
                let mut page = json!({"tools": [{"name": names[at], "x": 1.50}], "ttlMs": 500, "cacheScope": "public"});
                if at + 1 < names.len() {
                    page["nextCursor"] = (at + 1).to_string().into();
                }
                Some(page)
            }
            "tools/call" => Some(json!({"content": [], "got": message["params"]})),
            "server/discover" => Some(json!({
                "supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, "ttlMs": 7, "cacheScope": "public",
            })),
            _ => None,
        })
        .await
    }

    fn heads_of(&self, method: &str) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|(_, message)| message["method"] == method).map(|(head, _)| head.clone()).collect()
    }

    fn port(&self) -> u16 {
        self.address.port()
    }
}

fn initialized(capabilities: Value) -> Value {
    json!({"protocolVersion": "2025-06-18", "capabilities": capabilities, "serverInfo": {"name": "x", "version": "1"}})
}

fn of(upstreams: &[(&str, SocketAddr)]) -> GatewayConfig {
    let mut all = config_of(&format!("{}=http://{}/", upstreams[0].0, upstreams[0].1));
    for (name, address) in &upstreams[1..] {
        all.upstreams.extend(config_of(&format!("{name}=http://{address}/")).upstreams);
    }
    all.aggregate = Some(config::Aggregate::default());
    all
}

const INITIALIZE: &str =
    r#"{"jsonrpc":"2.0","id":"i","method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{}}}"#;

/// A client with a session.
struct Client {
    peer: Peer,
    headers: String,
    said: Value,
}

impl Client {
    async fn open(gateway: &Running) -> Self {
        let mut peer = Peer::connect(gateway.address).await;
        let answer = peer.exchange("POST", "/mcp", "", INITIALIZE).await;
        let id = header(&answer, "mcp-session-id").unwrap_or_else(|| panic!("{answer}"));
        let headers = format!("mcp-session-id: {id}\r\nmcp-protocol-version: 2025-11-25\r\n");
        let mut client = Self { peer, headers, said: json_of(&answer) };
        let told = client.ask_raw(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await;
        assert!(told.starts_with("HTTP/1.1 202"), "{told}");
        client
    }

    async fn ask_raw(&mut self, body: &str) -> String {
        self.peer.exchange("POST", "/mcp", &self.headers, body).await
    }

    async fn ask(&mut self, method: &str, params: Value) -> Value {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
        json_of(&self.ask_raw(&body).await)
    }
}

fn header(answer: &str, name: &str) -> Option<String> {
    answer.lines().find_map(|line| line.strip_prefix(&format!("{name}: "))).map(str::to_owned)
}

fn json_of(answer: &str) -> Value {
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

fn names(list: &Value) -> Vec<&str> {
    let tools = list["result"]["tools"].as_array().unwrap_or_else(|| panic!("{list}"));
    tools.iter().map(|tool| tool["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn tools_of_two_upstreams_are_listed_and_called_in_one_session() {
    let (a, b) = (Upstream::with_tools(&["read", "a/b"]).await, Upstream::with_tools(&["read"]).await);
    let gateway = gateway(of(&[("b", b.address), ("a", a.address)])).await;
    let mut client = Client::open(&gateway).await;
    assert_eq!(client.said["result"]["protocolVersion"], "2025-11-25");
    assert_eq!(client.said["result"]["capabilities"], json!({"tools": {"listChanged": true}}));
    let list = client.ask("tools/list", json!({})).await;
    assert_eq!(names(&list), ["a__read", "a__a_b_c14cddc0", "b__read"]);
    assert_eq!(
        list["result"],
        json!({"tools": [
            {"name": "a__read", "x": 1.50}, {"name": "a__a_b_c14cddc0", "x": 1.50}, {"name": "b__read", "x": 1.50},
        ]})
    );
    for (shown, upstream, name) in [("b__read", &b, "read"), ("a__a_b_c14cddc0", &a, "a/b")] {
        let got = client.ask("tools/call", json!({"name": shown, "arguments": {"n": 1.0}})).await;
        assert_eq!(got["result"]["got"], json!({"name": name, "arguments": {"n": 1.0}}), "{got}");
        let head = upstream.heads_of("tools/call").pop().unwrap();
        let own = format!("mcp-session-id: s{}\r\n", upstream.port());
        assert!(head.contains(&own) && head.contains("mcp-protocol-version: 2025-06-18\r\n"), "{head}");
    }
    assert_eq!(b.heads_of("notifications/initialized").len(), 1);
    let unknown = client.ask("tools/call", json!({"name": "c__read"})).await;
    assert_eq!(unknown["error"]["code"], -32602);
    assert_eq!(unknown["error"]["message"], "no upstream has `c__read`; known upstreams: a, b");
    assert_eq!(client.ask("ping", json!({})).await["result"], json!({}));
    assert_eq!(client.ask("tasks/list", json!({})).await["error"]["code"], -32601);
    // The upstreams' own endpoints know nothing of it.
    let pure =
        client.peer.exchange("POST", "/mcp/a", "", r#"{"id":1,"method":"tools/call","params":{"name":"a__read"}}"#);
    assert_eq!(json_of(&pure.await)["result"]["got"]["name"], "a__read");
    let ended = client.peer.exchange("DELETE", "/mcp", &client.headers, "").await;
    assert!(ended.starts_with("HTTP/1.1 200"), "{ended}");
    assert_eq!(a.seen.lock().unwrap().iter().filter(|(head, _)| head.starts_with("DELETE ")).count(), 1);
    assert!(client.ask_raw(INITIALIZE).await.contains("unknown_session"));
    gateway.stop().await;
}

#[tokio::test]
async fn an_upstream_that_is_down_is_left_out_until_it_is_back() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let free = listener.local_addr().unwrap();
    drop(listener);
    let up = Upstream::with_tools(&["read"]).await;
    let gateway = gateway(of(&[("down", free), ("up", up.address)])).await;
    let mut client = Client::open(&gateway).await;
    assert_eq!(names(&client.ask("tools/list", json!({})).await), ["up__read"]);
    let called = client.ask("tools/call", json!({"name": "down__read"})).await;
    assert_eq!(called["error"]["data"]["reason"], "left_out", "{called}");
    assert!(gateway.metrics.left_out.with_label_values(&["down"]).get() >= 1);
    assert_eq!(gateway.metrics.left_out.with_label_values(&["up"]).get(), 0);
    gateway.stop().await;
}

#[tokio::test]
async fn if_all_are_down_the_client_hears_why() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let free = listener.local_addr().unwrap();
    drop(listener);
    let gateway = gateway(of(&[("down", free)])).await;
    let mut peer = Peer::connect(gateway.address).await;
    let answer = peer.exchange("POST", "/mcp", "", INITIALIZE).await;
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    assert_eq!(json_of(&answer)["error"]["data"]["reason"], "upstream_unreachable");
    assert_eq!(json_of(&answer)["id"], "i");
    gateway.stop().await;
}

#[tokio::test]
async fn a_session_that_an_upstream_forgot_is_opened_again() {
    let forgotten = Arc::new(Mutex::new(true));
    let up = Upstream::start(move |method, _| match method {
        "initialize" => Some(initialized(json!({"tools": {}}))),
        "tools/call" if std::mem::take(&mut *forgotten.lock().unwrap()) => {
            Some(Value::String("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".into()))
        }
        "tools/call" => Some(json!({"content": []})),
        _ => None,
    })
    .await;
    let gateway = gateway(of(&[("up", up.address)])).await;
    let mut client = Client::open(&gateway).await;
    let called = client.ask("tools/call", json!({"name": "up__x"})).await;
    assert_eq!(called["result"], json!({"content": []}), "{called}");
    assert_eq!((up.heads_of("initialize").len(), up.heads_of("notifications/initialized").len()), (2, 2));
    gateway.stop().await;
}

const META: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#;

#[tokio::test]
async fn without_sessions_headers_say_what_the_body_says() {
    let (a, b) = (Upstream::with_tools(&["read", "größe"]).await, Upstream::with_tools(&["read"]).await);
    let gateway = gateway(of(&[("a", a.address), ("b", b.address)])).await;
    let mut peer = Peer::connect(gateway.address).await;
    let version = "mcp-protocol-version: 2026-07-28\r\n";
    let mut ask = async |method: &str, name: &str, params: &str| {
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{{params}{META}}}}}"#);
        peer.exchange("POST", "/mcp", &format!("{version}mcp-method: {method}\r\n{name}"), &body).await
    };
    let said = json_of(&ask("server/discover", "", "").await);
    assert_eq!(said["result"]["supportedVersions"], json!(["2026-07-28"]));
    assert_eq!((&said["result"]["ttlMs"], &said["result"]["cacheScope"]), (&7.into(), &"public".into()));
    let list = json_of(&ask("tools/list", "", "").await);
    assert_eq!(names(&list), ["a__read", "a__gr__e_d353a267", "b__read"]);
    assert_eq!((&list["result"]["ttlMs"], &list["result"]["resultType"]), (&500.into(), &"complete".into()));
    let name = "mcp-name: a__gr__e_d353a267\r\nmcp-param-x: 1\r\n";
    let called = json_of(&ask("tools/call", name, r#""name":"a__gr__e_d353a267","#).await);
    assert_eq!(called["result"]["got"]["name"], "größe", "{called}");
    let head = a.heads_of("tools/call").pop().unwrap();
    assert!(head.contains("mcp-name: =?base64?Z3LDtsOfZQ==?=\r\n") && head.contains("mcp-param-x: 1\r\n"), "{head}");
    assert!(!head.contains("mcp-session-id"), "{head}");
    let second = a.heads_of("tools/list").pop().unwrap();
    assert!(second.contains("mcp-method: tools/list\r\n"), "{second}");
    let lies = ask("tools/call", "mcp-name: b__read\r\n", r#""name":"a__read","#).await;
    assert!(lies.starts_with("HTTP/1.1 400") && lies.contains("header_mismatch"), "{lies}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_client_that_knows_both_eras_sees_upstreams_of_both() {
    let modern = Upstream::with_tools(&["read"]).await;
    let legacy = Upstream::start(|method, _| match method {
        "initialize" => Some(initialized(json!({"tools": {}}))),
        "tools/list" => Some(json!({"tools": [{"name": "old"}]})),
        "server/discover" => {
            let refused = "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: 35\r\n\r\n";
            Some(Value::String(format!("{refused}{{\"error\":{{\"code\":-32000}},\"id\":null}}")))
        }
        _ => None,
    })
    .await;
    let gateway = gateway(of(&[("legacy", legacy.address), ("modern", modern.address)])).await;
    let mut peer = Peer::connect(gateway.address).await;
    let discover = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{{{META}}}}}"#);
    let answer = peer.exchange("POST", "/mcp", "mcp-protocol-version: 2026-07-28\r\n", &discover).await;
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("-32000"), "{answer}");
    let mut client = Client::open(&gateway).await;
    assert_eq!(names(&client.ask("tools/list", json!({})).await), ["legacy__old", "modern__read"]);
    gateway.stop().await;
}

#[tokio::test]
async fn resources_belong_to_the_first_that_lists_them() {
    let with = |own: &'static str| {
        Upstream::start(move |method, _| match method {
            "initialize" => Some(initialized(json!({"resources": {}}))),
            "resources/list" => {
                Some(json!({"resources": [{"uri": "x://both", "of": own}, {"uri": format!("x://{own}")}]}))
            }
            "resources/templates/list" => {
                Some(json!({"resourceTemplates": [{"uriTemplate": format!("t://{own}/{{n}}")}]}))
            }
            "resources/read" => Some(json!({"contents": [], "of": own})),
            _ => None,
        })
    };
    let (a, b) = (with("a").await, with("b").await);
    let gateway = gateway(of(&[("a", a.address), ("b", b.address)])).await;
    let mut client = Client::open(&gateway).await;
    // Nobody has listed anything yet.
    for (uri, owner) in [("x://b", "b"), ("x://both", "a"), ("t://b/1", "b")] {
        let read = client.ask("resources/read", json!({"uri": uri})).await;
        assert_eq!(read["result"]["of"], owner, "{uri}: {read}");
    }
    let list = client.ask("resources/list", json!({})).await;
    let uris: Vec<_> = list["result"]["resources"].as_array().unwrap().iter().map(|one| one["uri"].clone()).collect();
    assert_eq!(uris, ["x://both", "x://a", "x://b"]);
    let unknown = client.ask("resources/read", json!({"uri": "y://1"})).await;
    assert_eq!(unknown["error"]["code"], -32602, "{unknown}");
    gateway.stop().await;
}

#[tokio::test]
async fn an_upstream_asks_back_and_its_answer_finds_the_way() {
    let asking = |event: &str| {
        let chunk = format!("{:x}\r\n{event}\r\n", event.len());
        format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n{chunk}0\r\n\r\n"
        )
    };
    let with = || {
        Upstream::start(move |method, message| match method {
            "initialize" => Some(initialized(json!({"tools": {}}))),
            "tools/call" => {
                let id = &message["id"];
                Some(Value::String(asking(&format!(
                    "id: 1\ndata: \n\nid: 2\ndata: {{\"id\":0,\"method\":\"roots/list\"}}\n\nid: 3\ndata: {{\"id\":{id},\"result\":{{}}}}\n\n"
                ))))
            }
            _ => None,
        })
    };
    let (a, b) = (with().await, with().await);
    let gateway = gateway(of(&[("a", a.address), ("b", b.address)])).await;
    let mut client = Client::open(&gateway).await;
    for (name, upstream) in [("a", &a), ("b", &b)] {
        let call = json!({"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": {"name": format!("{name}__x")}});
        client.peer.post("/mcp", &client.headers, &call.to_string()).await;
        let stream = client.peer.until("0\r\n\r\n").await;
        let asked = format!("data: {{\"id\":\"{name}~0\",\"method\":\"roots/list\"}}\n\n");
        assert!(stream.contains(&asked) && stream.contains(&format!("id: {name}~1\ndata: \n\n")), "{stream}");
        assert!(stream.contains("data: {\"id\":5,\"result\":{}}\n\n"), "{stream}");
        let answer = client.ask_raw(&format!(r#"{{"jsonrpc":"2.0","id":"{name}~0","result":{{"roots":[]}}}}"#)).await;
        assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
        let got = upstream.seen.lock().unwrap().last().unwrap().1.clone();
        assert_eq!(got, json!({"jsonrpc": "2.0", "id": 0, "result": {"roots": []}}));
    }
    let nobody = client.ask_raw(r#"{"jsonrpc":"2.0","id":"c~0","result":{}}"#).await;
    assert!(nobody.starts_with("HTTP/1.1 400"), "{nobody}");
    gateway.stop().await;
}

/// A stream that ends before its answer is had again from the upstream that it was of, and from no other.
#[tokio::test]
async fn an_answer_that_was_lost_is_had_again() {
    let streaming = |event: &str| {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        Some(Value::String(format!("{head}{:x}\r\n{event}\r\n0\r\n\r\n", event.len())))
    };
    let with = || {
        Upstream::start(move |method, _| match method {
            "initialize" => Some(initialized(json!({"tools": {}}))),
            "tools/call" => streaming("id: 7\nretry: 10\ndata: \n\n"),
            // A GET has no message.
            "" => streaming("id: 8\ndata: {\"id\":5,\"result\":{}}\n\n"),
            _ => None,
        })
    };
    let (a, b) = (with().await, with().await);
    let gateway = gateway(of(&[("a", a.address), ("b", b.address)])).await;
    let mut client = Client::open(&gateway).await;
    let call = json!({"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": {"name": "b__x"}});
    for way in ["", "te: trailers\r\n"] {
        client.peer.post("/mcp", &format!("{}{way}", client.headers), &call.to_string()).await;
        let stream = client.peer.until("0\r\n\r\n").await;
        assert!(stream.contains("id: b~7\nretry: 10\ndata: \n\n"), "{stream}");
        let get = format!("GET /mcp HTTP/1.1\r\nhost: localhost\r\n{}last-event-id: b~7\r\n\r\n", client.headers);
        client.peer.send(&get).await;
        let stream = client.peer.until("0\r\n\r\n").await;
        assert!(stream.contains("id: b~8\ndata: {\"id\":5,\"result\":{}}\n\n"), "{stream}");
    }
    let gets =
        |upstream: &Upstream| upstream.seen.lock().unwrap().iter().filter(|(head, _)| head.starts_with("GET")).count();
    assert_eq!((gets(&a), gets(&b)), (0, 2));
    assert!(b.seen.lock().unwrap().last().unwrap().0.contains("last-event-id: 7\r\n"));
    let lost = format!("{}last-event-id: c~1\r\n", client.headers);
    let lost = client.peer.exchange("GET", "/mcp", &lost, "").await;
    assert!(lost.starts_with("HTTP/1.1 410"), "{lost}");
    gateway.stop().await;
}

// Goal: what is sent in return is longer than what came, so the upstream's own framing cannot be kept.
#[tokio::test]
async fn events_are_framed_anew_however_the_upstream_frames_them() {
    let up = Upstream::start(|method, message| match method {
        "initialize" => Some(initialized(json!({"tools": {}}))),
        "tools/call" => {
            let events = "data: {\"id\":0,\"method\":\"ping\"}\n\ndata: {\"id\":5,\"result\":{}}\n";
            let framing = match message["params"]["name"].as_str() {
                Some("known") => format!("content-length: {}\r\n", events.len()),
                _ => "connection: close\r\n".into(),
            };
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nMcp-Session-Id: own\r\n{framing}");
            Some(Value::String(format!("{head}\r\n{events}")))
        }
        _ => None,
    })
    .await;
    let gateway = gateway(of(&[("up", up.address)])).await;
    let mut client = Client::open(&gateway).await;
    let call = |name| {
        json!({"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": {"name": format!("up__{name}")}})
            .to_string()
    };
    client.peer.post("/mcp", &client.headers, &call("known")).await;
    let stream = client.peer.until("0\r\n\r\n").await;
    assert!(stream.contains("data: {\"id\":\"up~0\",\"method\":\"ping\"}\n\n"), "{stream}");
    assert!(stream.contains("data: {\"id\":5,\"result\":{}}\n\n"), "one that nothing ended: {stream}");
    let head = stream.split("\r\n\r\n").next().unwrap().to_ascii_lowercase();
    assert!(head.contains("transfer-encoding: chunked"), "{head}");
    assert!(!head.contains("content-length") && !head.contains("mcp-session-id"), "{head}");
    // The connection to this upstream ends with the answer, and so the client's may.
    client.peer.post("/mcp", &client.headers, &call("until_close")).await;
    let stream = client.peer.until("data: {\"id\":\"up~0\",\"method\":\"ping\"}\n\n").await;
    assert!(stream.contains("connection: close"), "{stream}");
    gateway.stop().await;
}

#[tokio::test]
async fn the_stream_of_a_session_carries_what_all_upstreams_say() {
    let with = |name: &'static str| {
        Upstream::start(move |method, _| match method {
            "initialize" => Some(initialized(json!({"tools": {}}))),
            // A GET has no message.
            "" if name == "mute" => Some(Value::String("HTTP/1.1 405 No\r\ncontent-length: 0\r\n\r\n".into())),
            "" => {
                let event =
                    format!("id: 9\ndata: {{\"method\":\"notifications/tools/list_changed\",\"of\":\"{name}\"}}\n\n");
                let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
                Some(Value::String(format!("{head}{:x}\r\n{event}\r\n", event.len())))
            }
            _ => None,
        })
    };
    let (a, b, mute) = (with("a").await, with("b").await, with("mute").await);
    let gateway = gateway(of(&[("a", a.address), ("b", b.address), ("mute", mute.address)])).await;
    let client = Client::open(&gateway).await;
    let mut listener = Peer::connect(gateway.address).await;
    listener.send(&format!("GET /mcp HTTP/1.1\r\nhost: localhost\r\n{}\r\n", client.headers)).await;
    let mut heard = String::new();
    within(async {
        while !(heard.contains("\"of\":\"a\"") && heard.contains("\"of\":\"b\"")) {
            heard += &listener.until("}\n\n").await;
        }
    })
    .await;
    assert!(!heard.contains("id: 9"), "{heard}");
    let mut second = Peer::connect(gateway.address).await;
    let taken = second.exchange("GET", "/mcp", &client.headers, "").await;
    assert!(taken.contains("stream_taken"), "{taken}");
    gateway.stop().await;
}

#[tokio::test]
async fn it_is_there_only_where_asked_for_and_sessions_outlive_a_reload() {
    let up = Upstream::with_tools(&["read"]).await;
    let with = of(&[("up", up.address)]);
    let without = GatewayConfig { aggregate: None, ..with.clone() };
    let gateway = gateway(without).await;
    let mut peer = Peer::connect(gateway.address).await;
    assert!(peer.exchange("POST", "/mcp", "", INITIALIZE).await.contains("unknown_path"));
    gateway.gateway.reload(with.clone()).unwrap();
    let mut client = Client::open(&gateway).await;
    gateway.gateway.reload(with).unwrap();
    assert_eq!(names(&client.ask("tools/list", json!({})).await), ["up__read"]);
    assert_eq!(up.heads_of("initialize").len(), 1);
    gateway.stop().await;
}

#[tokio::test]
async fn a_credential_goes_to_no_upstream_that_does_not_take_one() {
    let (plain, own) = (Upstream::with_tools(&["x"]).await, Upstream::with_tools(&["x"]).await);
    let mut config = of(&[("own", own.address), ("plain", plain.address)]);
    config.upstreams[0].terms.pass_through = true;
    let gateway = gateway(config).await;
    let mut peer = Peer::connect(gateway.address).await;
    let credentials = "authorization: Bearer t\r\ncookie: c\r\nx-api-key: k\r\ntraceparent: 0\r\n";
    peer.exchange("POST", "/mcp?key=k", credentials, INITIALIZE).await;
    let (own, plain) = (&own.heads_of("initialize")[0], &plain.heads_of("initialize")[0]);
    for header in ["authorization: Bearer t\r\n", "cookie: c\r\n", "x-api-key: k\r\n"] {
        assert!(own.contains(header) && !plain.contains(header), "{header} in {own}{plain}");
    }
    assert!(plain.contains("traceparent: 0\r\n") && plain.starts_with("POST / HTTP/1.1\r\n"), "{plain}");
    gateway.stop().await;
}

// Goal: a server that takes long to start is started once, and is there as soon as it has.
#[tokio::test]
async fn an_upstream_that_is_slow_to_open_a_session_is_there_later() {
    let up = Upstream::with_tools(&["read"]).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let slow = listener.local_addr().unwrap();
    let mut config = of(&[("slow", slow), ("up", up.address)]);
    config.aggregate.as_mut().unwrap().patience = std::time::Duration::from_millis(200);
    let gateway = gateway(config).await;
    let mut client = Client::open(&gateway).await;
    assert_eq!(names(&client.ask("tools/list", json!({})).await), ["up__read"]);
    assert_eq!(gateway.metrics.left_out.with_label_values(&["slow"]).get(), 2);
    // The one connection that has waited all the while.
    let mut peer = Peer::over(within(listener.accept()).await.unwrap().0);
    let (_, initialize) = peer.request().await.unwrap();
    assert_eq!(initialize, INITIALIZE);
    let respond = |result: Value| {
        let body = json!({"jsonrpc": "2.0", "id": 1, "result": result}).to_string();
        format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    };
    peer.send(&respond(initialized(json!({"tools": {}})))).await;
    let served = tokio::spawn(async move {
        while let Some((_, body)) = peer.request().await {
            let accepted = || "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n".to_owned();
            let list = body.contains("tools/list");
            peer.send(&if list { respond(json!({"tools": [{"name": "late"}]})) } else { accepted() }).await;
        }
    });
    within(async { while names(&client.ask("tools/list", json!({})).await) != ["slow__late", "up__read"] {} }).await;
    gateway.stop().await;
    served.abort();
}

// Goal: the caller is known once, a session is its opener's, and the gateway's key leaves it by decision alone.
#[tokio::test]
async fn where_callers_are_known_a_session_is_of_one_of_them() {
    let (named, plain) = (Upstream::with_tools(&["x"]).await, Upstream::with_tools(&["x"]).await);
    let key = |key: &str| config::KeyHash(Sha256::digest(key).into());
    let mut with = of(&[("named", named.address), ("plain", plain.address)]);
    with.auth.keys = [("alice".to_owned(), key("k1")), ("bob".to_owned(), key("k2"))].into_iter().collect();
    with.upstreams.iter_mut().for_each(|upstream| upstream.terms.pass_through = true);
    let gateway = gateway(with.clone()).await;
    let mut peer = Peer::connect(gateway.address).await;
    let nobody = peer.exchange("POST", "/mcp", "", INITIALIZE).await;
    assert!(nobody.starts_with("HTTP/1.1 401"), "{nobody}");
    let opened = peer.exchange("POST", "/mcp", "authorization: Bearer k1\r\n", INITIALIZE).await;
    let id = header(&opened, "mcp-session-id").unwrap();
    for (key, status) in [("k1", "200"), ("k2", "404")] {
        let headers = format!("authorization: Bearer {key}\r\nmcp-session-id: {id}\r\n");
        let answer = peer.exchange("POST", "/mcp", &headers, r#"{"id":1,"method":"ping"}"#).await;
        assert_eq!(answer.split(' ').nth(1), Some(status), "{answer}");
    }
    let sent = |upstream: &Upstream| upstream.heads_of("initialize").pop().unwrap().contains("Bearer k1");
    assert!(!sent(&named) && !sent(&plain));
    // Somebody names it: its tokens are the gateway's.
    with.aggregate.as_mut().unwrap().upstreams = ["named".to_owned()].into();
    gateway.gateway.reload(with).unwrap();
    peer.exchange("POST", "/mcp", "authorization: Bearer k1\r\n", INITIALIZE).await;
    assert!(sent(&named) && plain.heads_of("initialize").len() == 1);
    assert_eq!(gateway.principals(), ["alice".to_owned()].into());
    gateway.stop().await;
}
