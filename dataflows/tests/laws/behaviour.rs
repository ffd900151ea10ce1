//! Tools that behave otherwise than they did, bursts, and tools that are new: on traffic that shows it, and on traffic
//! that looks like it and is not. And predictions are what a reader of the model would predict.

use std::collections::BTreeSet;

use undercurrent_dataflows::assess::transition2_probability;
use undercurrent_dataflows::model::{Model, Part, name_hash};
use undercurrent_dataflows::session::none;
use undercurrent_schemas::rows::{AlertKind, AlertState, CallRow, ForecastRow};
use undercurrent_schemas::v1::{self, event::Body};

use crate::run::{Run, run, settings};
use crate::traffic::{SECOND, ticks};

/// A call of one tool: how long it takes, how large its result is, and whether it fails.
#[derive(Clone, Copy)]
struct Call {
    tool: &'static str,
    latency_ms: i64,
    bytes: u64,
    fails: bool,
    shape: u8,
}

const USUAL: Call = Call { tool: "read", latency_ms: 100, bytes: 500, fails: false, shape: 1 };

/// Around the usual, in no order: latencies and sizes within a third of it.
fn around(of: Call, number: usize) -> Call {
    let jitter = (number as i64).wrapping_mul(2_654_435_761) % 67;
    Call { latency_ms: of.latency_ms * (100 + jitter - 33) / 100, bytes: of.bytes * (100 + jitter as u64) / 133, ..of }
}

/// Sessions of four calls each, one call every `every_ms`.
fn events(calls: &[Call], every_ms: i64) -> Vec<v1::Event> {
    let mut events = Vec::new();
    let mut event = |number: usize, after_us: i64, body: Body| {
        let at = 1_700_000_000 * SECOND + number as i64 * every_ms * 1_000 + after_us;
        events.push(v1::Event {
            ts_us: at,
            session_id: format!("session-{}", number / 4),
            server: "server".to_owned(),
            body: Some(body),
            ..v1::Event::default()
        });
    };
    for (number, call) in calls.iter().enumerate() {
        let mut request = v1::Message {
            method: "tools/call".to_owned(),
            target: call.tool.to_owned(),
            jsonrpc_id: number.to_string(),
            call: Some(v1::CallFacts { fingerprint: number as u64, ..v1::CallFacts::default() }),
            ..v1::Message::default()
        };
        request.set_direction(v1::Direction::ClientToServer);
        request.set_kind(v1::Kind::Request);
        let mut answer = v1::Message { call: None, size_bytes: call.bytes, ..request.clone() };
        answer.set_direction(v1::Direction::ServerToClient);
        answer.set_kind(v1::Kind::Result);
        let error_type = if call.fails { "tool_error".to_owned() } else { String::new() };
        answer.result = Some(v1::ResultFacts {
            is_error: call.fails,
            error_type,
            shape: u64::from(call.shape) << 56,
            ..v1::ResultFacts::default()
        });
        event(number, 0, Body::Message(request.into()));
        event(number, call.latency_ms * 1_000, Body::Message(answer.into()));
        if number % 4 == 3 {
            event(number, 700_000, Body::SessionEnd(v1::SessionEnd {}));
        }
    }
    events.sort_by_key(|event| event.ts_us);
    for (sequence, event) in (1..).zip(&mut events) {
        event.id = Some(v1::EventId { gateway: 7, epoch: 1, sequence });
    }
    events
}

fn follow(calls: &[Call], every_ms: i64) -> Run {
    run(&settings(), 2, &ticks(&events(calls, every_ms), &[40]))
}

/// The kinds of alerts that open, without those of sessions, and what they say.
fn opened(run: &Run) -> Vec<(AlertKind, String)> {
    let rows = run.outputs.iter().flat_map(|output| &output.alerts).filter(|row| row.state == AlertState::Open);
    let of_sessions = [AlertKind::Flagged, AlertKind::ErrorStreak, AlertKind::Loop, AlertKind::LoopOfTwo];
    rows.filter(|row| !of_sessions.contains(&row.kind)).map(|row| (row.kind, row.text.clone())).collect()
}

/// Many usual calls, then these.
fn then(calls: impl IntoIterator<Item = Call>) -> Vec<Call> {
    let usual = (0..600).map(|number| around(USUAL, number));
    usual.chain(calls).collect()
}

fn kinds(calls: &[Call]) -> Vec<AlertKind> {
    opened(&follow(calls, 1_000)).into_iter().map(|(kind, _)| kind).collect()
}

#[test]
fn a_tool_that_becomes_slow_is_degraded_and_one_that_is_slow_now_and_then_is_not() {
    let slow = then((0..150).map(|number| around(Call { latency_ms: 400, ..USUAL }, number)));
    let alerts = opened(&follow(&slow, 1_000));
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    assert_eq!(alerts[0].0, AlertKind::Degraded);
    assert!(alerts[0].1.starts_with("`read` takes 4") || alerts[0].1.starts_with("`read` takes 3"), "{alerts:?}");
    let latency_ms = |number: usize| if number.is_multiple_of(5) { 400 } else { 100 };
    let now_and_then = then((0..150).map(|number| around(Call { latency_ms: latency_ms(number), ..USUAL }, number)));
    assert_eq!(kinds(&now_and_then), []);
    let fast = then((0..150).map(|number| around(Call { latency_ms: 20, ..USUAL }, number)));
    assert_eq!(kinds(&fast), [], "faster is not worse");
}

#[test]
fn a_tool_that_begins_to_fail_is_degraded_and_one_that_fails_as_ever_is_not() {
    let fails = |number: usize, every: usize| Call { fails: number.is_multiple_of(every), ..around(USUAL, number) };
    assert_eq!(kinds(&then((0..130).map(|number| fails(number, 2)))), [AlertKind::Degraded]);
    let as_ever: Vec<Call> = (0..800).map(|number| fails(number, 5)).collect();
    assert_eq!(kinds(&as_ever), []);
}

#[test]
fn results_of_another_kind_are_told_and_results_of_all_sizes_are_none() {
    let other = then((0..130).map(|number| around(Call { bytes: 4_000, ..USUAL }, number)));
    let alerts = opened(&follow(&other, 1_000));
    assert_eq!(alerts.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [AlertKind::ToolBehaviour]);
    assert!(alerts[0].1.ends_with("; its definition is the same"), "{alerts:?}");
    let bytes = |number: usize| 100 << (number * 7 % 11);
    let all_sizes: Vec<Call> = (0..900).map(|number| Call { bytes: bytes(number), ..around(USUAL, number) }).collect();
    assert_eq!(kinds(&all_sizes), []);
}

#[test]
fn results_of_another_shape_are_told_and_results_of_two_shapes_are_none() {
    let other = then((0..130).map(|number| Call { shape: 9, ..around(USUAL, number) }));
    let alerts = opened(&follow(&other, 1_000));
    assert_eq!(alerts.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [AlertKind::ToolBehaviour]);
    assert!(alerts[0].1.contains(" of the results of `read` have other fields than they had"), "{alerts:?}");
    let two: Vec<Call> =
        (0..900).map(|number| Call { shape: (number * 7 % 11 % 2) as u8, ..around(USUAL, number) }).collect();
    assert_eq!(kinds(&two), []);
    // What fails has a shape of its own, and is told as what it is.
    let fails = then((0..130).map(|number| Call {
        fails: number % 2 == 0,
        shape: if number % 2 == 0 { 9 } else { 1 },
        ..around(USUAL, number)
    }));
    assert_eq!(kinds(&fails), [AlertKind::Degraded]);
}

/// More than half of a block are slow calls of one session, which is forgotten before the block is full.
#[test]
fn a_forgotten_session_is_judged_by_nobody() {
    // Blocks are of 64 calls: the tenth is of the calls from 576 on.
    let slow = (600..636).map(|number| around(Call { latency_ms: 400, ..USUAL }, number));
    let calls = then(slow.chain((636..680).map(|number| around(USUAL, number))));
    let mut all = events(&calls, 1_000);
    for event in &mut all {
        let number: usize = event.session_id.trim_start_matches("session-").parse().expect("a number");
        if (150..159).contains(&number) {
            event.session_id = "slow".to_owned();
        }
    }
    let alerts = |events: &[v1::Event]| opened(&run(&settings(), 2, &ticks(events, &[5])));
    assert_eq!(alerts(&all).into_iter().map(|(kind, _)| kind).collect::<Vec<_>>(), [AlertKind::Degraded]);
    let last = all.iter().rposition(|event| event.session_id == "slow").expect("it is there");
    let forget = v1::Event {
        id: Some(v1::EventId { gateway: 8, epoch: 1, sequence: 1 }),
        body: Some(Body::Forget(v1::Forget::default())),
        ..all[last].clone()
    };
    all.insert(last + 1, forget);
    assert_eq!(alerts(&all), []);
}

#[test]
fn a_tool_that_nobody_called_is_told_and_the_first_calls_of_a_new_server_are_none() {
    let new = Call { tool: "delete_all", ..USUAL };
    assert_eq!(kinds(&then([new])), [AlertKind::ToolFirstSeen]);
    let at_first: Vec<Call> = ["a", "b", "c", "d", "e"].map(|tool| Call { tool, ..USUAL }).to_vec();
    assert_eq!(kinds(&at_first), []);
    let known: Vec<Call> = (0..600).map(|number| if number % 50 == 3 { new } else { around(USUAL, number) }).collect();
    assert_eq!(kinds(&known), [], "rare is not new");
}

/// So many calls in each minute, evenly.
fn minutes(calls: &[usize]) -> Vec<v1::Event> {
    let mut all = Vec::new();
    for (minute, calls) in calls.iter().enumerate() {
        let of_minute: Vec<Call> = (0..*calls).map(|number| around(USUAL, number)).collect();
        for mut event in events(&of_minute, 60_000 / (*calls).max(1) as i64) {
            // Even minutes of event time; what does not end within its minute ends idle.
            event.ts_us += minute as i64 * 60 * SECOND + 40 * SECOND;
            event.session_id = format!("{}-{minute}", event.session_id);
            all.push(event);
        }
    }
    all.sort_by_key(|event| event.ts_us);
    for (sequence, event) in (1..).zip(&mut all) {
        event.id = Some(v1::EventId { gateway: 7, epoch: 1, sequence });
    }
    all
}

fn forecasts(calls: &[usize]) -> (Vec<AlertKind>, Vec<ForecastRow>) {
    let run = run(&settings(), 2, &ticks(&minutes(calls), &[60]));
    let rows = run.outputs.iter().flat_map(|output| output.forecasts.clone()).collect();
    (opened(&run).into_iter().map(|(kind, _)| kind).collect(), rows)
}

#[test]
fn a_burst_is_told_and_a_busy_hour_that_comes_slowly_is_none() {
    let (alerts, rows) = forecasts(&[&[10; 20][..], &[90], &[10; 3]].concat());
    // The server's, and the tool's.
    assert_eq!(alerts, [AlertKind::Burst; 2]);
    let calm = rows.iter().filter(|row| row.calls == 10).take(8);
    assert!(calm.clone().count() == 8 && calm.clone().all(|row| (row.expected - 10.0).abs() < 0.01), "{rows:?}");
    let slowly: Vec<usize> = (0..60).map(|minute| 10 + 3 * minute / 2).collect();
    assert_eq!(forecasts(&slowly).0, []);
}

#[test]
fn predictions_are_those_of_the_live_model_and_are_judged() {
    let tools = ["find", "read", "read", "send", "find", "send", "read", "save"];
    let mut calls: Vec<Call> = Vec::new();
    for number in 0..200_usize {
        calls.push(Call { tool: tools[number * 5 % 8], ..around(USUAL, number) });
    }
    // A tick an event: no session ends between a request and its answer, so both see one model.
    let run = run(&settings(), 3, &ticks(&events(&calls, 1_000), &[1]));
    let (server, mut model, mut judged) = (name_hash(&["server"]), Model::default(), 0);
    let tools: BTreeSet<u64> = tools.into_iter().map(|name| name_hash(&[name])).collect();
    for output in &run.outputs {
        for row in output.calls.iter().filter(|row| !row.expected.tool.is_empty()) {
            let (last, tool) = (last_two(&run, row), name_hash(&[&row.tool]));
            let known = tools.iter().filter(|tool| model.count(Part::Tool, server, **tool, 0) > 0);
            let mut known: Vec<_> =
                known.map(|tool| (transition2_probability(&model, server, last, *tool), *tool)).collect();
            known.sort_by(|(a, left), (b, right)| b.total_cmp(a).then(left.cmp(right)));
            let rank = known.iter().take(3).position(|(_, of)| *of == tool).map(|at| at as u32 + 1);
            assert_eq!(row.expected.tool_rank, rank);
            judged += 1;
        }
        if !output.change.is_empty() {
            model.apply(&output.change);
        }
    }
    assert!(judged > 150, "{judged}");
    let count = |of: fn(&undercurrent_dataflows::sessions::Counters) -> u64| -> u64 {
        run.outputs.iter().map(|output| of(&output.counters)).sum()
    };
    let rows: Vec<&CallRow> = run.outputs.iter().flat_map(|output| &output.calls).collect();
    let with = |of: fn(&CallRow) -> bool| rows.iter().filter(|row| of(row)).count() as u64;
    assert_eq!(count(|c| c.next_tool_first), with(|row| row.expected.tool_rank == Some(1)));
    assert!(rows.iter().filter(|row| row.expected.tool_rank == Some(1)).all(|row| row.expected.tool == row.tool));
    assert_eq!(
        count(|c| c.next_tool_first + c.next_tool_third + c.next_tool_missed),
        with(|row| !row.expected.tool.is_empty())
    );
    assert_eq!(count(|c| c.latency_close + c.latency_off), with(|row| row.expected.latency_us.is_some()));
    assert!(count(|c| c.latency_close) > 9 * count(|c| c.latency_off), "latencies vary by a third");
    assert_eq!(count(|c| c.failure_wrong), 0);
}

/// The two tools that the call's session called before it, nearest first.
fn last_two(run: &Run, row: &CallRow) -> [u64; 2] {
    let calls = run.outputs.iter().flat_map(|output| &output.calls);
    let mut earlier: Vec<_> = calls.filter(|other| other.session_id == row.session_id && other.ts < row.ts).collect();
    earlier.sort_by_key(|other| std::cmp::Reverse(other.ts));
    std::array::from_fn(|at| earlier.get(at).map_or_else(none, |other| name_hash(&[&other.tool])))
}

/// Two habits: after `list`, `read` comes, but after `find` and then `list` it is `send`.
#[test]
fn what_comes_next_follows_from_the_two_tools_before() {
    let habits = [["open", "list", "read", "read"], ["find", "list", "send", "read"]];
    let calls: Vec<Call> = (0..240)
        .map(|number: usize| Call { tool: habits[number / 4 % 3 % 2][number % 4], ..around(USUAL, number) })
        .collect();
    let run = run(&settings(), 2, &ticks(&events(&calls, 1_000), &[1]));
    let rows: Vec<&CallRow> = run.outputs.iter().flat_map(|output| &output.calls).skip(120).collect();
    let third = rows.iter().filter(|row| matches!(&*row.tool, "send" | "read") && row.ts.0 / SECOND % 4 == 2);
    let right = third.clone().filter(|row| row.expected.tool == row.tool).count();
    assert_eq!((third.count(), right), (30, 30));
}
