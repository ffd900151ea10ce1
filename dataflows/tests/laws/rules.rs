//! Rules on traffic that shows what they are for, and on traffic that looks like it and is not.

use undercurrent_schemas::rows::{AlertKind, AlertState};
use undercurrent_schemas::v1::{self, event::Body};

use crate::run::{run, settings};
use crate::traffic::{SECOND, ticks};

/// A call: its fingerprint, whether it fails, and the value of its argument `password`.
type Call = (u64, bool, u64);

/// One session that makes these calls, a second apart.
fn events(calls: &[Call]) -> Vec<v1::Event> {
    let mut events = Vec::new();
    for (index, (fingerprint, fails, password)) in (0..).zip(calls) {
        let mut request = v1::Message {
            method: "tools/call".to_owned(),
            target: "login".to_owned(),
            jsonrpc_id: index.to_string(),
            ..v1::Message::default()
        };
        request.set_direction(v1::Direction::ClientToServer);
        request.set_kind(v1::Kind::Request);
        let mut answer = request.clone();
        answer.set_direction(v1::Direction::ServerToClient);
        answer.set_kind(v1::Kind::Result);
        let leaf = v1::Leaf { path: "user.password".to_owned(), value: *password, ..v1::Leaf::default() };
        request.call =
            Some(v1::CallFacts { fingerprint: *fingerprint, leaves: vec![leaf], ..v1::CallFacts::default() });
        let error_type = if *fails { "tool_error".to_owned() } else { String::new() };
        answer.result = Some(v1::ResultFacts { is_error: *fails, error_type, ..v1::ResultFacts::default() });
        for (at, message) in [(0, request), (1, answer)] {
            let sequence = events.len() as u64 + 1;
            events.push(v1::Event {
                id: Some(v1::EventId { gateway: 7, epoch: 1, sequence }),
                ts_us: 1_700_000_000 * SECOND + index * SECOND + at,
                session_id: "session".to_owned(),
                server: "server".to_owned(),
                body: Some(Body::Message(message.into())),
                ..v1::Event::default()
            });
        }
    }
    events
}

/// The alerts that open and that are resolved, in order; each that opens is resolved.
fn check(calls: &[Call], expect: &[AlertKind]) {
    let run = run(&settings(), 2, &ticks(&events(calls), &[3]));
    let of_state = |state: AlertState| -> Vec<_> {
        let rows = run.outputs.iter().flat_map(|output| &output.alerts).filter(|row| row.state == state);
        let mut kinds: Vec<_> = rows.map(|row| (row.kind, row.alert_id.clone())).collect();
        kinds.sort_unstable();
        kinds
    };
    let opened = of_state(AlertState::Open);
    assert_eq!(opened.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), expect, "{calls:?}");
    assert_eq!(of_state(AlertState::Resolved), opened, "{calls:?}");
}

#[test]
fn equal_calls_in_a_row_are_a_loop_and_pages_of_a_list_are_none() {
    let same: Vec<Call> = (0..6).map(|_| (1, false, 0)).collect();
    check(&same, &[AlertKind::Loop]);
    check(&same[..5], &[]);
    let pages: Vec<Call> = (0..30).map(|page| (page, false, 0)).collect();
    check(&pages, &[]);
    // A poll with something else in between is no loop of one.
    let polls: Vec<Call> = (0..30).map(|n| (if n % 3 == 0 { 1 } else { 100 + n }, false, 0)).collect();
    check(&polls, &[]);
}

#[test]
fn two_calls_that_take_turns_are_a_loop_and_turns_with_new_arguments_are_none() {
    let turns: Vec<Call> = (0..16).map(|n| (n % 2, false, 0)).collect();
    check(&turns, &[AlertKind::LoopOfTwo]);
    let new: Vec<Call> = (0..40).map(|n| (if n % 2 == 0 { 1 } else { 100 + n }, false, 0)).collect();
    check(&new[..8], &[]);
}

#[test]
fn errors_in_a_row_are_a_streak_and_now_and_then_they_are_none() {
    let streak: Vec<Call> = (0..6).map(|n| (n, true, 0)).collect();
    check(&streak, &[AlertKind::ErrorStreak]);
    let now_and_then: Vec<Call> = (0..30).map(|n| (n, n % 3 != 0, 0)).collect();
    check(&now_and_then, &[]);
}

#[test]
fn many_failing_values_of_a_secret_are_probing_and_one_that_is_repeated_is_none() {
    let probing: Vec<Call> = (0..10).map(|n| (n, n % 2 == 0, n)).collect();
    check(&probing, &[AlertKind::Probing]);
    let stubborn: Vec<Call> = (0..10).map(|n| (n, n % 2 == 0, 7)).collect();
    check(&stubborn, &[]);
    let honest: Vec<Call> = (0..10).map(|n| (n, false, n)).collect();
    check(&honest, &[]);
}
