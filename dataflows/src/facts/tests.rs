//! What a session's messages come to, as data: `check` compares the facts that a row names.

use proptest::prelude::*;
use serde_json::{Value, json};
use undercurrent_schemas::v1::{Direction, Kind, LeafType, Message, Place};

use super::{DigestKey, Limits, SessionFacts};

mod properties;
mod provenance;

const KEY: DigestKey = DigestKey { id: 7, secret: *b"fedcba9876543210" };

/// A session under test: sends texts, and keeps the id of the next request.
struct Session {
    facts: SessionFacts,
    id: u64,
}

impl Session {
    fn new() -> Self {
        Self::within(Limits::default())
    }

    fn within(limits: Limits) -> Self {
        Self { facts: SessionFacts::new(limits), id: 0 }
    }

    fn client(&mut self, text: &str) -> Message {
        one(self.facts.observe(Direction::ClientToServer, text.as_bytes(), &KEY))
    }

    fn server(&mut self, text: &str) -> Message {
        one(self.facts.observe(Direction::ServerToClient, text.as_bytes(), &KEY))
    }

    /// A request for a tool, with arguments as JSON text.
    fn call(&mut self, tool: &str, arguments: &str) -> Message {
        self.id += 1;
        let id = self.id;
        self.client(&format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{tool}","arguments":{arguments}}}}}"#
        ))
    }

    /// The answer to the last call.
    fn answer(&mut self, result: Value) -> Message {
        let id = self.id;
        self.server(&json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string())
    }

    /// A call of `tool` whose answer is a text.
    fn read(&mut self, tool: &str, text: &str) {
        self.call(tool, "{}");
        self.answer(json!({"content": [{"type": "text", "text": text}]}));
    }

    /// Where the argument `value` stood in its source, and whether only a part of it did.
    fn place(&mut self, value: Value) -> (Place, bool) {
        let call = self.call("use", &json!({ "value": value }).to_string()).call.unwrap();
        let leaf = call.leaves.first().unwrap();
        (leaf.place(), leaf.place_of_part)
    }

    /// The source of the argument `value`.
    fn source(&mut self, value: Value) -> String {
        let call = self.call("use", &json!({ "value": value }).to_string()).call.unwrap();
        call.leaves.first().unwrap().source.clone()
    }
}

fn one(messages: Vec<Message>) -> Message {
    let [message] = <[Message; 1]>::try_from(messages).unwrap();
    message
}

/// A message alone in its session: kind, method, target, id, and what is wrong with it.
fn check(text: impl AsRef<[u8]>, expect: (Kind, &str, &str, &str, &str)) {
    let mut facts = SessionFacts::new(Limits::default());
    let text = text.as_ref();
    let message = one(facts.observe(Direction::ClientToServer, text, &KEY));
    let shown = String::from_utf8_lossy(&text[..text.len().min(200)]).into_owned();
    let got = (message.kind(), &*message.method, &*message.target, &*message.jsonrpc_id, &*message.malformed);
    assert_eq!(got, expect, "{shown}");
    assert_eq!(message.size_bytes, text.len() as u64, "{shown}");
}

fn bad(text: impl AsRef<[u8]>, reason: &str) {
    check(text, (Kind::Malformed, "", "", "", reason));
}

#[test]
fn envelopes() {
    let request = |text, method, target, id| check(text, (Kind::Request, method, target, id, ""));
    request(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#, "ping", "", "1");
    request(r#" {"method":"a\u002fb","id" : "x\"y" ,"jsonrpc":"2.0","more":[{}]} "#, "a/b", "", r#""x\"y""#);
    request(
        r#"{"jsonrpc":"2.0","id":-1.5e3,"method":"tools/call","params":{"name":"t"}}"#,
        "tools/call",
        "t",
        "-1.5e3",
    );
    request(r#"{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"p"}}"#, "prompts/get", "p", "1");
    request(
        r#"{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"a:b"}}"#,
        "resources/read",
        "a:b",
        "1",
    );
    request(r#"{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{"taskId":"9"}}"#, "tasks/get", "9", "1");
    request(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":3}}"#, "tools/call", "", "1");
    request(r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":null}"#, "ping", "", "1");
    check(r#"{"jsonrpc":"2.0","method":"notifications/x"}"#, (Kind::Notification, "notifications/x", "", "", ""));
    check(r#"{"jsonrpc":"2.0","id":"a","result":null}"#, (Kind::Result, "", "", "\"a\"", ""));
    check(r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700}}"#, (Kind::Error, "", "", "", ""));
}

/// The last of equal keys is what `JSON.parse` and Python hand to a server.
#[test]
fn last_of_equal_keys_counts() {
    let text = r#"{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call","params":{"name":"a","n\u0061me":"b"},"id":2}"#;
    check(text, (Kind::Request, "tools/call", "b", "2", ""));
}

#[test]
fn malformed_messages_say_why() {
    bad("", "not json: EOF while parsing a value at line 1 column 0");
    bad("{\"jsonrpc\":", "not json: EOF while parsing a value at line 1 column 11");
    bad("{}{}", "not json: trailing characters at line 1 column 3");
    bad(b"{\"a\":\"\xff\"}", "invalid utf-8 after byte 6");
    bad("7", "neither an object nor a batch");
    bad("[]", "empty batch");
    bad("{}", "no `\"jsonrpc\": \"2.0\"`");
    bad(r#"{"jsonrpc":2.0,"id":1,"method":"a"}"#, "no `\"jsonrpc\": \"2.0\"`");
    bad(r#"{"jsonrpc":"2.0","id":1}"#, "none of `method`, `result` and `error`");
    bad(r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{}}"#, "more than one of `method`, `result` and `error`");
    bad(r#"{"jsonrpc":"2.0","id":1,"method":"a","result":{}}"#, "more than one of `method`, `result` and `error`");
    bad(r#"{"jsonrpc":"2.0","id":1,"method":7}"#, "`method` is no string");
    bad(r#"{"jsonrpc":"2.0","id":1,"method":"a","params":"b"}"#, "`params` is neither an object nor an array");
    bad(r#"{"jsonrpc":"2.0","id":1,"error":"no"}"#, "`error` is no object");
    bad(r#"{"jsonrpc":"2.0","id":null,"method":"a"}"#, "`id` is neither a string nor a number");
    bad(r#"{"jsonrpc":"2.0","id":[1],"method":"a"}"#, "`id` is neither a string nor a number");
    bad(r#"{"jsonrpc":"2.0","result":{}}"#, "a result without an `id`");
    let long = format!(r#"{{"jsonrpc":"2.0","id":"{}","method":"a"}}"#, "x".repeat(255));
    bad(long, "`id` is longer than 256 bytes");
}

/// Deep nesting is refused before anything recurses; brackets in strings are no nesting.
#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| {
        let (open, close) = ("[".repeat(depth), "]".repeat(depth));
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"t","arguments":{open}{close}}}}}"#)
    };
    check(nested(126), (Kind::Request, "tools/call", "t", "1", ""));
    bad(nested(127), "nested deeper than 128");
    bad(nested(10_000), "nested deeper than 128");
    bad("[".repeat(10_000), "nested deeper than 128");
    let quoted = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"a","params":{{"text":"{}\"{{"}}}}"#, "[".repeat(500));
    check(quoted, (Kind::Request, "a", "", "1", ""));
}

#[test]
fn batches_are_observed_one_by_one() {
    let text = r#" [ {"jsonrpc":"2.0","id":1,"method":"ping"}, 5, {"jsonrpc":"2.0","method":"n"} ] "#;
    let messages = SessionFacts::new(Limits::default()).observe(Direction::ClientToServer, text.as_bytes(), &KEY);
    let got: Vec<_> = messages.iter().map(|m| (m.batch_index, m.kind(), m.size_bytes)).collect();
    assert_eq!(got, [(1, Kind::Request, 40), (2, Kind::Malformed, 1), (3, Kind::Notification, 30)]);
    bad(format!("[{}1]", "1,".repeat(256)), "batch of more than 256 messages");
}

/// Requests go both ways; an id belongs to its direction, and peers may write it differently.
#[test]
fn responses_know_their_request() {
    let mut session = Session::new();
    session.client(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"mine"}}"#);
    session.server(r#"{"jsonrpc":"2.0","id":1,"method":"sampling/createMessage","params":{}}"#);
    session.client(r#"{"jsonrpc":"2.0","id":"\u0061","method":"resources/read","params":{"uri":"file:///a"}}"#);
    let mut answer = |text| {
        let message = session.server(text);
        (message.method, message.target)
    };
    let named = |method: &str, target: &str| (method.to_owned(), target.to_owned());
    assert_eq!(answer(r#"{"jsonrpc":"2.0","id":"a","result":{}}"#), named("resources/read", "file:///a"));
    assert_eq!(
        answer(r#"{"jsonrpc":"2.0","id":1.0,"error":{"code":-32602,"message":"no"}}"#),
        named("tools/call", "mine")
    );
    assert_eq!(answer(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#), named("", ""));
    let message = session.client(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
    assert_eq!(message.method, "sampling/createMessage");
}

#[test]
fn oldest_open_request_is_forgotten_first() {
    let mut session = Session::within(Limits { open_requests_max: 2, ..Limits::default() });
    for id in 1..=3 {
        session.client(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#));
    }
    let method =
        |id, session: &mut Session| session.server(&format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#)).method;
    assert_eq!(method(1, &mut session), "");
    assert_eq!(method(2, &mut session), "ping");
    assert_eq!(method(3, &mut session), "ping");
}

#[test]
fn versions_and_trace_context() {
    let mut session = Session::new();
    let ask =
        session.client(r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}"#);
    assert_eq!(ask.protocol_version, "2025-11-25");
    let answer = session.server(r#"{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-06-18"}}"#);
    assert_eq!(answer.protocol_version, "2025-06-18");
    assert_eq!(session.call("t", "{}").protocol_version, "2025-06-18");
    let modern = session.client(concat!(
        r#"{"jsonrpc":"2.0","id":5,"method":"server/discover","params":{"_meta":{"traceparent":"00-ab-cd-01","#,
        r#""io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#
    ));
    assert_eq!((&*modern.protocol_version, &*modern.traceparent), ("2026-07-28", "00-ab-cd-01"));
}

#[test]
fn leaves_of_arguments() {
    let mut session = Session::new();
    let arguments = r#"{"a":{"b":[{"c":"Hello  World"},{"c":"hello, world!"}]},"n":1.50,"m":15e-1,"f":false,"z":null,"e":[],"o":{},"":""}"#;
    let call = session.call("t", arguments).call.unwrap();
    let got: Vec<_> = call.leaves.iter().map(|leaf| (&*leaf.path, leaf.r#type(), leaf.bytes)).collect();
    let expect = [
        ("a.b[].c", LeafType::String, 12),
        ("a.b[].c", LeafType::String, 13),
        ("n", LeafType::Number, 3),
        ("m", LeafType::Number, 3),
        ("f", LeafType::Bool, 5),
        ("z", LeafType::Null, 4),
        ("e", LeafType::Empty, 2),
        ("o", LeafType::Empty, 2),
        ("", LeafType::String, 0),
    ];
    assert_eq!(got, expect);
    assert_eq!(call.leaves[0].value, call.leaves[1].value);
    assert_eq!(call.leaves[2].value, call.leaves[3].value);
    assert_ne!(call.leaves[0].value, call.leaves[2].value);
    assert_eq!(call.arguments_bytes, arguments.len() as u64);
}

#[test]
fn leaves_beyond_the_limit_are_counted() {
    let mut session = Session::within(Limits { leaves_max: 3, ..Limits::default() });
    let call = session.call("t", "[1,2,3,4,5]").call.unwrap();
    assert_eq!((call.leaves.len(), call.leaves_dropped), (3, 2));
}

#[test]
fn hosts_are_known_after_they_were_seen() {
    let mut session = Session::new();
    session.read("get", "see https://docs.example.org/a");
    let mut host = |text: &str| {
        let call = session.call("fetch", &json!([text, text]).to_string()).call.unwrap();
        let known: Vec<_> = call.leaves.iter().map(|leaf| leaf.host_known).collect();
        (call.leaves[0].host != 0, known)
    };
    assert_eq!(host("https://DOCS.example.org:443/other"), (true, vec![true, true]));
    assert_eq!(host("https://new.example/"), (true, vec![false, false]));
    assert_eq!(host("look at http://new.example/x"), (true, vec![true, true]));
    assert_eq!(host("new.example"), (false, vec![false, false]));
}

#[test]
fn calls_know_what_came_before() {
    let mut session = Session::new();
    let mut facts = |tool, arguments| {
        let call = session.call(tool, arguments).call.unwrap();
        session.answer(json!({"content": [{"type": "text", "text": arguments}]}));
        (call.position, call.previous_tools.join(","), call.repeats, call.largest_result_bytes)
    };
    assert_eq!(facts("a", r#"{"x":1,"y":2}"#), (0, String::new(), 0, 0));
    assert_eq!(facts("a", r#"{ "y":2.0, "x":1 }"#), (1, "a".into(), 1, 56));
    assert_eq!(facts("b", r#"{"x":1,"y":2}"#), (2, "a,a".into(), 0, 61));
    assert_eq!(facts("a", r#"{"x":1,"y":2}"#), (3, "b,a".into(), 0, 61));
    assert_eq!(facts("a", r#"{"x":1,"y":2}"#), (4, "a,b".into(), 1, 61));
}

#[test]
fn results_and_errors() {
    let mut session = Session::new();
    session.call("t", "{}");
    let result = session.answer(
        json!({"isError": true, "content": [{"type": "text", "text": "disk full"}, {"type": "image", "data": "QUJD"}]}),
    );
    let facts = result.result.unwrap();
    assert_eq!((result.kind.try_into(), &*result.target), (Ok(Kind::Result), "t"));
    assert_eq!((facts.is_error, &*facts.error_type, facts.error_code), (true, "tool_error", 0));
    assert_eq!((facts.content_items, facts.content_bytes, facts.values_indexed), (2, 9, 2));
    session.call("t", "{}");
    let error = session.server(r#"{"jsonrpc":"2.0","id":2,"error":{"code":-32602,"message":"bad"}}"#).result.unwrap();
    assert_eq!((error.is_error, &*error.error_type, error.error_code), (false, "-32602", -32602));
}

#[test]
fn tool_definitions_are_carried_as_they_are() {
    let mut session = Session::new();
    session.client(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
    let list = session.server(r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name" : "a"}, {"name":"b","x":[1 ]}]}}"#);
    assert_eq!(list.tool_definitions, [br#"{"name" : "a"}"#.to_vec(), br#"{"name":"b","x":[1 ]}"#.to_vec()]);
}
