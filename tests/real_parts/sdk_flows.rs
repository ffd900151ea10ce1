//! The flows that the official SDKs show in their examples, by their own clients and servers: direct and through the
//! gateway each comes to the same.

use std::thread;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::cutter::Cutter;
use crate::support::gateway::Serve;
use crate::support::names::STDIO_STREAMS;
use crate::support::parts::FlowsServer;
use crate::support::scenario::{ALL, Client, LEGACY, Target, finish};

/// What a client asks of a server; `resumption` needs a connection that breaks.
const FLOWS: [&str; 7] = ["sampling", "elicitation", "progress", "cancellation", "large", "parallel", "subscription"];

/// The words of the server behind which the connection is cut, and the flow in which it says them.
const CUT: &str = "cut here";
const RESUMPTION: [&str; 1] = ["resumption"];

#[test]
fn python_server_over_http() {
    over_http(FlowsServer::Python);
}

#[test]
fn typescript_server_over_http() {
    over_http(FlowsServer::TypeScript);
}

#[test]
fn python_server_over_stdio() {
    over_stdio(FlowsServer::Python, &[Client::PythonLegacy, Client::Python, Client::TypeScriptV2]);
}

#[test]
fn typescript_server_over_stdio() {
    over_stdio(FlowsServer::TypeScript, &[Client::TypeScriptV1, Client::TypeScriptV2Legacy, Client::TypeScriptV2]);
}

/// A stream that breaks is taken up behind the last event that came, and nothing is missing.
#[test]
fn streams_that_break_are_resumed() {
    for server in [FlowsServer::Python, FlowsServer::TypeScript] {
        let data = TempDir::new().expect("a temporary directory");
        // One each: a server's event store need not tell sessions apart.
        let (direct, behind) = (server.listening(), server.listening());
        let gateway =
            Serve::new(data.path()).upstream("http", &behind.url()).upstream("stdio", &server.words().line()).start();
        let paths = [
            ("direct", direct.address, "/mcp"),
            ("through the gateway", gateway.listen, "/mcp/http"),
            ("stdio behind the gateway", gateway.listen, "/mcp/stdio"),
        ];
        for client in LEGACY {
            // Most of it is waiting.
            thread::scope(|scope| {
                for (name, to, path) in paths {
                    scope.spawn(move || {
                        let cutter = Cutter::behind(CUT, to);
                        let outcome =
                            outcome(client, &Target::Url(format!("http://{}{path}", cutter.address())), &RESUMPTION);
                        assert!(cutter.has_cut(), "{client:?}, {server:?}, {name}");
                        assert_eq!(outcome, expected(&RESUMPTION), "{client:?}, {server:?}, {name}");
                    });
                }
            });
        }
    }
}

/// Before a server on a pipe the gateway closes streams long before their answers; the clients come back until they have
/// them, and nothing is missing or there twice.
#[test]
fn streams_that_are_closed_before_their_answer_are_polled() {
    let flows = [&FLOWS[..], &RESUMPTION].concat();
    for server in [FlowsServer::Python, FlowsServer::TypeScript] {
        let data = TempDir::new().expect("a temporary directory");
        let gateway = Serve::new(data.path())
            .upstream("stdio", &server.words().line())
            .setting("STDIO__STREAM_MAX_MS", "150")
            .setting("STDIO__RETRY_MS", "100")
            .start();
        let through = Target::Url(format!("http://{}/mcp/stdio", gateway.listen));
        thread::scope(|scope| {
            for client in LEGACY {
                let (through, flows) = (&through, &flows);
                scope.spawn(move || {
                    assert_eq!(outcome(client, through, flows), expected(flows), "{client:?}, {server:?}");
                });
            }
        });
        let streams = |event| gateway.metrics().sum(&format!("{STDIO_STREAMS}{{event=\"{event}\"}}"));
        assert!(streams("closed") > 0.0 && streams("resumed") > 0.0, "{server:?}");
        assert_eq!(streams("lost"), 0.0, "{server:?}");
        gateway.stop();
    }
}

fn over_http(server: FlowsServer) {
    let data = TempDir::new().expect("a temporary directory");
    let listening = server.listening();
    let gateway = Serve::new(data.path()).upstream("flows", &listening.url()).start();
    for client in ALL {
        let through = Target::Url(format!("http://{}/mcp/flows", gateway.listen));
        check(client, &Target::Url(listening.url()), &through);
    }
}

/// Direct, each client starts the server; the gateway has it behind HTTP.
fn over_stdio(server: FlowsServer, clients: &[Client]) {
    let data = TempDir::new().expect("a temporary directory");
    let gateway = Serve::new(data.path()).upstream("flows", &server.words().line()).start();
    for client in clients {
        let through = Target::Url(format!("http://{}/mcp/flows", gateway.listen));
        check(*client, &Target::Command(server.words()), &through);
    }
}

#[track_caller]
fn check(client: Client, direct: &Target, through: &Target) {
    let expected = expected(&FLOWS);
    assert_eq!(outcome(client, direct, &FLOWS), expected, "{client:?} direct, {direct:?}");
    assert_eq!(outcome(client, through, &FLOWS), expected, "{client:?} through the gateway, {through:?}");
}

#[track_caller]
fn outcome(client: Client, target: &Target, flows: &[&str]) -> Value {
    let words = flows.iter().fold(client.words("flows"), |words, flow| words.and("--flow").and(flow));
    finish(client, target.behind(words)).done
}

/// What each flow comes to, whoever the client and the server are, and what the client was asked in it.
fn expected(flows: &[&str]) -> Value {
    let steps = |steps: &[&str]| -> Vec<Value> {
        (1..).zip(steps).map(|(step, text)| json!([step, steps.len(), text])).collect()
    };
    let outcome = |flow: &str| match flow {
        "sampling" => json!({"outcome": "test-model: answer to 6 × 7", "asked": ["sampling: 6 × 7"]}),
        "elicitation" => json!({
            "outcome": ["3 seats on Monday", "decline on Tuesday"],
            "asked": ["elicitation: How many seats on Monday?", "elicitation: How many seats on Tuesday?"],
        }),
        "progress" => {
            let steps = steps(&["step 1", "step 2", "step 3", "step 4", "step 5"]);
            json!({"outcome": {"steps": steps, "text": "counted to 5"}, "asked": []})
        }
        "cancellation" => json!({"outcome": {"call": "cancelled", "server": "cancelled"}, "asked": []}),
        "large" => {
            let sha256 = "57666a0dd2f5cc95f376bf4463f5c7b801b48657db235fd53ac0b528611d15d8";
            json!({"outcome": {"characters": 3_000_000, "sha256": sha256}, "asked": []})
        }
        "parallel" => {
            let calls: Vec<String> = (0..24).map(|n| format!("call {n}")).collect();
            json!({"outcome": calls, "asked": []})
        }
        "subscription" => {
            json!({"outcome": {"before": "empty", "updated": "note://flows", "after": "first"}, "asked": []})
        }
        "resumption" => {
            let steps = steps(&["cut here", "while nobody listened", "done"]);
            json!({"outcome": {"steps": steps, "text": "resumed"}, "asked": []})
        }
        other => panic!("no flow {other}"),
    };
    flows.iter().map(|flow| ((*flow).to_owned(), outcome(flow))).collect::<serde_json::Map<_, _>>().into()
}
