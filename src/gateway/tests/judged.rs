//! Policy as a client meets it: what it may not call, what waits for a person, what an answer may hold.

use super::*;
use crate::edge::Answer;
use crate::edge::testing::{Access, AccessRule, Policy};

const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
const TOOLS: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"read"}, {"name":"delete_all"}],"x":1e3}}"#;
const SHOWN: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"read"}],"x":1e3}}"#;

fn forbidding(tools: &str) -> Policy {
    let all = || vec![wildmatch::WildMatch::new("*")];
    let tools = vec![wildmatch::WildMatch::new(tools)];
    let rule = AccessRule { principals: all(), upstreams: all(), tools, allow: false };
    Policy::default().with_access(Access::new(vec![rule]))
}

fn call(tool: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{tool}","arguments":{{"a":1}}}}}}"#)
}

/// A gateway before an upstream that answers everything with these bytes.
async fn answering(answer: String, policy: Policy) -> Running {
    let gateway = before(serving(move |_| answer.clone()).await).await;
    gateway.gateway.shared.edge.set_policy(policy);
    gateway
}

fn json(body: &str) -> String {
    let length = body.len();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\netag: \"1\"\r\ncontent-length: {length}");
    format!("{head}\r\n\r\n{body}")
}

fn events(events: &str) -> String {
    EVENTS.to_owned() + &chunk(events) + "0\r\n\r\n"
}

#[tokio::test]
async fn what_may_not_be_called_is_neither_called_nor_listed() {
    let gateway = answering(json(TOOLS), forbidding("delete_*")).await;
    let mut client = Peer::connect(gateway.address).await;
    let refused = client.exchange("POST", "/mcp/up", "", &call("delete_all")).await;
    assert!(refused.contains("tool_not_allowed") && refused.starts_with("HTTP/1.1 200"), "{refused}");
    let listed = client.exchange("POST", "/mcp/up", "", LIST).await;
    assert!(listed.ends_with(SHOWN) && !listed.contains("etag"), "{listed}");
    // The same in an event stream, whose other events stay as they are.
    let stream = answering(
        events(&format!(": hi\r\nid: 3\r\ndata: {{\"method\":\"x\"}}\r\n\r\nid: 4\ndata: {TOOLS}\n\n")),
        forbidding("delete_*"),
    )
    .await;
    let mut client = Peer::connect(stream.address).await;
    client.post("/mcp/up", "", LIST).await;
    let all = client.until("0\r\n\r\n").await;
    assert!(all.contains(": hi\r\nid: 3\r\ndata: {\"method\":\"x\"}\r\n\r\n"), "{all}");
    assert!(all.contains(&format!("id: 4\ndata: {SHOWN}\n\n")) && !all.contains("delete_all"), "{all}");
    gateway.stop().await;
    stream.stop().await;
}

#[tokio::test]
async fn rules_cannot_be_talked_around() {
    let gateway = answering(json("{}"), forbidding("delete_*")).await;
    let mut client = Peer::connect(gateway.address).await;
    let twice = r#"{"id":1,"method":"tools/call","params":{"name":"read","name":"delete_all"}}"#;
    let other_case = r#"{"id":1,"method":"tools/call","params":{"name":"read","Name":"delete_all"}}"#;
    let deep = format!(
        r#"{{"id":1,"method":"tools/call","params":{{"name":"delete_all","arguments":{}1{}}}}}"#,
        "[".repeat(200),
        "]".repeat(200)
    );
    for body in [twice, other_case, deep.as_str(), "nonsense"] {
        let answer = client.exchange("POST", "/mcp/up", "", body).await;
        assert!(answer.contains("message_unreadable"), "{body}: {answer}");
    }
    let batch = format!("[{LIST},{}]", call("delete_all"));
    let answer = client.exchange("POST", "/mcp/up", "", &batch).await;
    assert!(answer.contains("tool_not_allowed"), "{answer}");
    assert!(client.exchange("POST", "/mcp/up", "", &call("read")).await.ends_with("{}"));
    gateway.stop().await;
}

#[tokio::test]
async fn an_answer_that_is_too_large_or_cannot_be_read_is_not_passed_on() {
    let large = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"content":["{}"]}}}}"#, "x".repeat(500));
    let gateway = answering(json(&large), Policy::default().with_result_bytes_max(Some(100))).await;
    let mut client = Peer::connect(gateway.address).await;
    let answer = client.exchange("POST", "/mcp/up", "", &call("read")).await;
    assert!(answer.contains("result_too_large") && !answer.contains("xxx"), "{answer}");
    gateway.stop().await;
    let encoded =
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\nxx";
    let gateway = answering(encoded.to_owned(), forbidding("delete_*")).await;
    let answer = Peer::connect(gateway.address).await.exchange("POST", "/mcp/up", "", LIST).await;
    assert!(answer.starts_with("HTTP/1.1 502") && answer.contains("answer_unseen"), "{answer}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_held_call_is_sent_when_a_person_approves() {
    let gateway = answering(json("{}"), Policy::default().with_held("transfer", PATIENCE)).await;
    let holds = gateway.gateway.shared.edge.holds().clone();
    for (answer, expect) in [(Answer::Approve, "\r\n\r\n{}"), (Answer::Deny, "hold_denied")] {
        let mut client = Peer::connect(gateway.address).await;
        let body = call("transfer");
        let asked = client.exchange("POST", "/mcp/up", "mcp-session-id: s\r\n", &body);
        let person = async {
            until(|| holds.open().len() == 1).await;
            let ticket = &holds.open()[0];
            assert_eq!((&*ticket.call.tool, &*ticket.call.server), ("transfer", "up"));
            assert!(ticket.call.message.contains("\"arguments\""));
            holds.answer(&ticket.ticket, answer).unwrap();
        };
        let (answered, ()) = tokio::join!(asked, person);
        assert!(answered.contains(expect), "{answered}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_held_call_whose_client_left_is_never_sent() {
    // On both ways: the strict relay takes the first, hyper the second.
    for extra in ["", "te: trailers\r\n"] {
        for (version, kept) in [("2025-06-18", 1), ("2026-07-28", 0)] {
            let gateway = answering(json("{}"), Policy::default().with_held("transfer", PATIENCE)).await;
            let holds = gateway.gateway.shared.edge.holds().clone();
            let headers = format!("mcp-protocol-version: {version}\r\n{extra}");
            let mut client = Peer::connect(gateway.address).await;
            client.post("/mcp/up", &headers, &call("transfer")).await;
            until(|| holds.open().len() == 1).await;
            drop(client);
            until(|| gateway.metrics.connections.get() == 0).await;
            assert_eq!(holds.open().len(), kept, "{version} {extra}");
            if let Some(ticket) = holds.open().first() {
                holds.answer(&ticket.ticket, Answer::Approve).unwrap();
                assert_eq!(gateway.requests("up", "relayed"), 0);
                // Approved meanwhile: good for one retry.
                let mut again = Peer::connect(gateway.address).await;
                let answer = again.exchange("POST", "/mcp/up", &headers, &call("transfer")).await;
                assert!(answer.ends_with("\r\n\r\n{}"), "{answer}");
            }
            gateway.stop().await;
        }
    }
}
