//! What the edge makes of messages, seen in its log.

use undercurrent_schemas::v1::event::Body;

use super::testing::edge;
use super::*;

fn session(key: SessionKey) -> SessionRef {
    SessionRef { server: "files".into(), key, principal: "127.0.0.1".into(), transport: Transport::Tcp }
}

const CALL: &[u8] =
    br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read","arguments":{"path":"a.txt"}}}"#;

#[test]
fn a_call_becomes_an_event_with_a_verdict_and_the_raw_session_id_stays_here() {
    let (edge, log) = edge();
    let session = edge.session(&session(SessionKey::Id("secret-session".into())));
    assert!(matches!(session.client_message(CALL), Outcome::Forward(_)));
    session.server_message(br#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"hello"}]}}"#);
    session.end();
    let events = log.events();
    let [call, answer, end] = events.as_slice() else { panic!("three events, not {}", events.len()) };
    let Some(Body::Message(message)) = &call.body else { panic!("a message") };
    assert_eq!(message.target, "read");
    let verdict = message.verdict.as_ref().expect("a verdict");
    assert_eq!(verdict.decision(), undercurrent_schemas::v1::Decision::Allow);
    assert!(verdict.assessment.is_none(), "no model is live");
    let Some(Body::Message(answer)) = &answer.body else { panic!("a message") };
    assert_eq!(answer.method, "tools/call");
    assert!(matches!(end.body, Some(Body::SessionEnd(_))));
    assert!(!call.session_id.contains("secret"), "the id is a credential");
    assert_eq!(call.session_id.len(), 32);
    assert_eq!(edge.sessions(), 0, "an ended session is forgotten");
}

#[test]
fn a_stateless_session_is_another_after_the_idle_time() {
    let (edge, log) = edge();
    let key = SessionKey::Stateless { trace_id: String::new() };
    for seconds in [0, 200, 400, 800] {
        let at = Micros(1_000_000_000 + seconds * 1_000_000);
        let _ = edge.session_at(&session(key.clone()), at).client_message_at(CALL, at);
    }
    let ids: Vec<_> = log.events().into_iter().map(|event| event.session_id).collect();
    assert!(ids[0] == ids[1] && ids[1] == ids[2], "200 s of silence are nothing");
    assert_ne!(ids[2], ids[3], "400 s are");
}

#[test]
fn sessions_are_bounded_and_swept() {
    let (edge, _log) = edge();
    for n in 0..150_i64 {
        let at = Micros(n * 1_000_000);
        let _ = edge.session_at(&session(SessionKey::Id(n.to_string())), at).client_message_at(CALL, at);
    }
    assert_eq!(edge.sessions(), 100);
    edge.sweep_at(Micros(440_000_000));
    assert_eq!(edge.sessions(), 9, "those heard of in the last 300 s");
}

#[test]
fn what_is_not_json_rpc_is_an_event_too() {
    let (edge, log) = edge();
    let session = edge.session(&session(SessionKey::Id("s".into())));
    assert!(matches!(session.client_message(b"{nonsense"), Outcome::Forward(_)));
    let Some(Body::Message(message)) = &log.events()[0].body else { panic!("a message") };
    assert!(!message.malformed.is_empty());
}
