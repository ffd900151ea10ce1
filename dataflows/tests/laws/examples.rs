//! Fixed examples with exact expectations, and what the laws have found.

use undercurrent_dataflows::graph::{GraphSettings, WindowSettings};
use undercurrent_schemas::ids::Micros;
use undercurrent_schemas::rows::EntityKind;
use undercurrent_schemas::v1::{self, event::Body};

use crate::run::{Run, expected, run, settings};
use crate::traffic::{SECOND, ticks};

/// A full hour.
const HOUR_US: i64 = 472_222 * 3_600 * SECOND;

fn event(at_ms: i64, session_id: &str, body: Body) -> v1::Event {
    v1::Event {
        ts_us: HOUR_US + at_ms * 1_000,
        tenant: "default".to_owned(),
        principal: "agent".to_owned(),
        session_id: session_id.to_owned(),
        server: "files".to_owned(),
        body: Some(body),
        ..v1::Event::default()
    }
}

fn request(at_ms: i64, id: &str) -> v1::Event {
    let mut message = v1::Message {
        method: "tools/call".to_owned(),
        target: "read".to_owned(),
        jsonrpc_id: id.to_owned(),
        size_bytes: 100,
        call: Some(v1::CallFacts::default()),
        ..v1::Message::default()
    };
    message.set_direction(v1::Direction::ClientToServer);
    message.set_kind(v1::Kind::Request);
    event(at_ms, "session", Body::Message(message.into()))
}

fn answer(at_ms: i64, id: &str) -> v1::Event {
    let mut message = v1::Message {
        method: "tools/call".to_owned(),
        jsonrpc_id: id.to_owned(),
        size_bytes: 7,
        ..v1::Message::default()
    };
    message.set_direction(v1::Direction::ServerToClient);
    message.set_kind(v1::Kind::Result);
    event(at_ms, "session", Body::Message(message.into()))
}

fn heartbeat(at_ms: i64) -> v1::Event {
    event(at_ms, "", Body::Heartbeat(v1::Heartbeat {}))
}

/// Of each change of the server's features: tick, diff, start and size of the window in seconds, and the sums.
fn server_rows(run: &Run) -> Vec<(u64, i64, i64, i64, [i64; 4])> {
    let rows = run.outputs.iter().flat_map(|output| &output.features).filter(|row| row.kind == EntityKind::Server);
    rows.map(|row| {
        let start_s = (row.window_start.0 - HOUR_US) / SECOND;
        let sums = [row.calls, row.request_bytes, row.response_bytes, row.latency_sum_us];
        (row.source.tick.0, row.diff, start_s, row.window_us / SECOND, sums)
    })
    .collect()
}

fn default_windows() -> GraphSettings {
    GraphSettings { windows: WindowSettings { lateness_us: 30 * SECOND, ..WindowSettings::default() }, ..settings() }
}

/// Call: session time in milliseconds, outcome, latency.
fn calls(run: &Run) -> Vec<(i64, &'static str, Option<i64>)> {
    let rows = run.outputs.iter().flat_map(|output| &output.calls);
    let mut calls: Vec<_> =
        rows.map(|row| ((row.ts.0 - HOUR_US) / 1_000, row.outcome.as_str(), row.latency_us)).collect();
    calls.sort_unstable();
    calls
}

#[test]
fn a_call_20_s_late_shows_as_differences() {
    let log = [
        request(2_000, "1"),
        answer(2_500, "1"),
        heartbeat(12_000),
        heartbeat(24_000),
        // 20 s behind the watermark.
        request(4_000, "2"),
        answer(4_200, "2"),
    ];
    for workers in [1, 2] {
        let run = run(&default_windows(), workers, &ticks(&log, &[2, 1, 1, 2]));
        let (one, both) = ([1, 100, 7, 500_000], [2, 200, 14, 700_000]);
        assert_eq!(
            server_rows(&run),
            [
                // Tick 2 fills the two windows of 10 s.
                (2, 1, -5, 10, one),
                (2, 1, 0, 10, one),
                // Tick 4 brings the late call: the old values go, the new ones come.
                (4, -1, -5, 10, one),
                (4, 1, -5, 10, both),
                (4, -1, 0, 10, one),
                (4, 1, 0, 10, both),
                // The longer windows are told at the end: they were not full before.
                (5, 1, 0, 60, both),
                (5, 1, 0, 3_600, both),
            ]
        );
        let late = &run.outputs[3];
        for kind in [EntityKind::Server, EntityKind::Tool, EntityKind::Principal, EntityKind::Session] {
            let diffs: Vec<_> = late.features.iter().filter(|row| row.kind == kind).map(|row| row.diff).collect();
            assert_eq!(diffs, [-1, 1, -1, 1], "{kind:?}");
        }
        assert_eq!(late.live.len(), 4, "each of its entities");
        assert_eq!(late.counters.late, 0, "within the lateness");
    }
}

#[test]
fn what_is_later_than_the_lateness_is_counted_and_changes_nothing_that_is_final() {
    let log = [
        request(2_000, "1"),
        answer(2_500, "1"),
        heartbeat(3_700_000),
        heartbeat(3_700_001),
        request(4_000, "2"),
        answer(4_200, "2"),
    ];
    let run = run(&default_windows(), 1, &ticks(&log, &[2, 1, 1, 2]));
    let late = &run.outputs[3];
    assert_eq!((late.counters.late, late.counters.too_late_for_windows), (2, 1));
    assert_eq!(late.calls.len(), 1, "it is in `calls` all the same");
    let one = [1, 100, 7, 500_000];
    assert_eq!(server_rows(&run), [(2, 1, -5, 10, one), (2, 1, 0, 10, one), (2, 1, 0, 60, one), (2, 1, 0, 3_600, one)]);
}

/// Found by `counts_features_and_parts_are_the_naive_ones`: nothing else in the log moved the watermark in between.
#[test]
fn a_long_silence_splits_a_session_wherever_ticks_are_cut() {
    let log = [request(0, "1"), answer(10, "1"), request(600_000, "2"), answer(600_010, "2")];
    for sizes in [[1, 1], [4, 1], [2, 2]] {
        let run = run(&settings(), 1, &ticks(&log, &sizes));
        let mut parts: Vec<_> = run.outputs.iter().flat_map(|output| &output.sessions).collect();
        parts.sort_by_key(|row| row.part);
        let parts: Vec<_> = parts.iter().map(|row| (row.part, row.calls, row.ended_at)).collect();
        assert_eq!(parts, [(0, 1, Micros(HOUR_US + 10_000)), (1, 1, Micros(HOUR_US + 600_010_000))], "{sizes:?}");
    }
}

/// Found by `order_of_arrival_changes_nothing`.
#[test]
fn an_answer_within_the_timeout_counts_even_if_it_arrives_late() {
    let log = [request(0, "1"), heartbeat(45_000), answer(19_000, "1")];
    for sizes in [[1, 1], [3, 1]] {
        assert_eq!(calls(&run(&settings(), 1, &ticks(&log, &sizes))), [(0, "result", Some(19_000_000))], "{sizes:?}");
    }
    let log = [request(0, "1"), answer(21_000, "1")];
    for sizes in [[1, 1], [2, 1]] {
        assert_eq!(calls(&run(&settings(), 1, &ticks(&log, &sizes))), [(0, "unanswered", None)], "{sizes:?}");
    }
}

/// Found by `counts_features_and_parts_are_the_naive_ones`: every later call of the id was given the answer before its.
#[test]
fn a_late_answer_to_a_call_that_was_given_up_does_not_answer_the_next_of_its_id() {
    let log = [
        request(0, "7"),
        heartbeat(51_000),
        answer(55_000, "7"),
        request(56_000, "7"),
        answer(57_000, "7"),
        request(58_000, "7"),
        answer(58_100, "7"),
    ];
    let run = run(&settings(), 1, &ticks(&log, &[1]));
    let expect = [(0, "unanswered", None), (56_000, "result", Some(1_000_000)), (58_000, "result", Some(100_000))];
    assert_eq!(calls(&run), expect);
}

/// A session that may be silent for longer than ids are remembered: time goes on.
#[test]
fn a_session_may_be_idle_for_longer_than_its_id_is_remembered() {
    let mut settings = settings();
    settings.sessions.timing.session_idle_us = 2 * settings.sessions.timing.session_memory_us;
    let log = [request(0, "1"), answer(10, "1"), heartbeat(3_700_000), request(3_800_000, "2")];
    let run = run(&settings, 1, &ticks(&log, &[1]));
    let parts: Vec<_> =
        run.outputs.iter().flat_map(|output| &output.sessions).map(|row| (row.part, row.calls)).collect();
    assert_eq!(parts, [(0, 2)]);
}

/// What arrives after the end of a part but lies within it is learned as if it had come in time; the score stays.
#[test]
fn a_late_call_corrects_what_an_ended_part_taught() {
    let end = || event(12_000, "session", Body::SessionEnd(v1::SessionEnd {}));
    let (first, last) = ([request(0, "1"), answer(10, "1")], [request(10_000, "3"), answer(10_010, "3")]);
    let late = [request(5_000, "2"), answer(5_010, "2")];
    let in_time = [&first[..], &late, &last, &[end()]].concat();
    let too_late = [&first[..], &last, &[end()], &late].concat();
    let expect = expected(&settings(), &in_time);
    for sizes in [[1], [7]] {
        let run = run(&settings(), 1, &ticks(&too_late, &sizes));
        let learned = run.learned();
        assert_eq!(
            (&learned.facts, &learned.features, &learned.calls),
            (&expect.facts, &expect.features, &expect.calls)
        );
        let rows: Vec<_> = run.outputs.iter().flat_map(|output| &output.sessions).map(|row| row.calls).collect();
        assert_eq!(rows, [2], "the row is what was scored");
        assert_eq!(run.outputs.iter().map(|output| output.counters.corrections).sum::<u64>(), 1);
    }
}
