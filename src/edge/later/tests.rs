//! Read later is read all the same: the same events, in the same order.

use std::sync::Arc;

use bytes::Bytes;
use undercurrent_schemas::v1::{self, event::Body};
use wildmatch::WildMatch;

use crate::edge::testing::{Access, AccessRule, Policy, edge};
use crate::edge::{EdgeSession, Outcome, SessionKey, SessionRef, Transport};

fn session(id: &str) -> SessionRef {
    let key = SessionKey::Id(id.to_owned());
    SessionRef { server: "files".into(), key, principal: "127.0.0.1".into(), transport: Transport::Tcp }
}

fn call(n: usize) -> Bytes {
    format!(
        r#"{{"jsonrpc":"2.0","id":{n},"method":"tools/call","params":{{"name":"read","arguments":{{"path":"{n}"}}}}}}"#
    )
    .into()
}

fn answer(n: usize) -> Bytes {
    format!(r#"{{"jsonrpc":"2.0","id":{n},"result":{{"content":[{{"type":"text","text":"file {n}"}}]}}}}"#).into()
}

/// What a session's events say, without what differs from run to run.
fn said(events: &[v1::Event], of: &EdgeSession) -> Vec<(String, String, String)> {
    let public_id = of.public_id();
    let own = events.iter().filter(|event| *event.session_id == *public_id);
    own.filter_map(|event| match &event.body {
        Some(Body::Message(message)) => {
            Some((message.jsonrpc_id.clone(), message.target.clone(), format!("{:?}", message.kind())))
        }
        _ => None,
    })
    .collect()
}

fn exchanges(session: &Arc<EdgeSession>, count: usize) {
    for n in 0..count {
        if session.client_message_later(&call(n), |_| {}).is_none() {
            assert!(matches!(session.client_message(&call(n)), Outcome::Forward(_)));
        }
        session.server_message_later(answer(n), drop);
    }
}

#[test]
fn the_events_are_those_of_reading_at_once() {
    let (at_once, log_at_once) = edge();
    let one = at_once.session(&session("a"));
    exchanges(&one, 200);
    let (later, log_later) = edge();
    let reader = later.read_later(1 << 20).unwrap();
    let two = later.session(&session("a"));
    exchanges(&two, 200);
    drop(reader);
    let (expected, events) = (said(&log_at_once.events(), &one), said(&log_later.events(), &two));
    assert_eq!((expected.len(), &expected), (400, &events));
}

#[test]
fn a_full_queue_is_read_by_who_fills_it_and_the_order_holds() {
    let (edge, log) = edge();
    let reader = edge.read_later(1_000).unwrap();
    let sessions: Vec<_> = (0..4).map(|n| edge.session(&session(&n.to_string()))).collect();
    std::thread::scope(|scope| {
        for session in &sessions {
            scope.spawn(|| exchanges(session, 300));
        }
    });
    drop(reader);
    let events = log.events();
    for session in &sessions {
        let said = said(&events, session);
        let ids: Vec<_> = said.iter().map(|(id, _, _)| id.parse::<usize>().unwrap()).collect();
        assert_eq!(ids, (0..300).flat_map(|n| [n, n]).collect::<Vec<_>>());
    }
    assert!(edge.shared.metrics.unread_full.get() > 0);
    assert!(edge.shared.later.load().is_none(), "from here on each is read at once");
}

#[test]
fn what_is_read_at_once_comes_after_what_waited() {
    let (edge, log) = edge();
    let reader = edge.read_later(1 << 20).unwrap();
    let session = edge.session(&session("a"));
    for n in 0..50 {
        assert!(session.client_message_later(&call(n), |_| {}).is_some());
        session.server_message(&answer(n));
    }
    session.end();
    let events = log.events();
    assert_eq!(events.len(), 101);
    assert!(matches!(events[100].body, Some(Body::SessionEnd(_))));
    let tools = said(&events, &session);
    assert!(tools.iter().all(|(_, tool, _)| tool == "read"), "each answer found its call");
    drop(reader);
}

#[test]
fn a_message_that_nobody_can_read_does_not_stop_the_others() {
    let (edge, log) = edge();
    let reader = edge.read_later(1 << 20).unwrap();
    let session = edge.session(&session("a"));
    edge.once_read(|| panic!("this panic is meant"));
    exchanges(&session, 10);
    drop(reader);
    assert_eq!((log.events().len(), edge.unread()), (20, 0));
}

#[test]
fn where_rules_decide_nothing_is_read_later() {
    let (edge, _log) = edge();
    let _reader = edge.read_later(1 << 20).unwrap();
    let session = edge.session(&session("a"));
    assert!(session.client_message_later(&call(0), |_| {}).is_some());
    let all = || vec![WildMatch::new("*")];
    let rule = AccessRule { principals: all(), upstreams: all(), tools: all(), allow: true };
    edge.set_policy(Policy::default().with_access(Access::new(vec![rule])));
    assert!(session.client_message_later(&call(1), |_| {}).is_none());
}
