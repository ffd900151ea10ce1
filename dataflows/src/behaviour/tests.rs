use proptest::prelude::*;
use undercurrent_schemas::rows::{Expected, Source};
use undercurrent_schemas::text::Text;

use super::*;
use crate::graph::EntityKey;
use undercurrent_schemas::rows::EntityKind;

/// A call of one of two tools by one of three sessions.
#[derive(Clone, Debug)]
struct Made {
    session: u8,
    tool: u8,
    latency_us: Option<i64>,
    bytes: u64,
}

fn made() -> impl Strategy<Value = Made> {
    (0..3_u8, 0..2_u8, prop::option::of(0..1_000_000_i64), 0..10_000_u64)
        .prop_map(|(session, tool, latency_us, bytes)| Made { session, tool, latency_us, bytes })
}

fn row(number: usize, of: &Made) -> CallRow {
    CallRow {
        source: Source::default(),
        tenant: Text::default(),
        principal: Text::default(),
        server: "server".into(),
        session_id: of.session.to_string().into(),
        ts: Micros(number as i64),
        jsonrpc_id: String::new(),
        tool: of.tool.to_string().into(),
        outcome: if of.latency_us.is_some() { CallOutcome::Result } else { CallOutcome::Unanswered },
        error_type: String::new(),
        latency_us: of.latency_us,
        request_bytes: 0,
        response_bytes: of.bytes,
        result_shape: of.latency_us.map(|_| of.bytes as u8),
        verdict: None,
        expected: Expected::default(),
    }
}

fn measure(row: &CallRow) -> Measure {
    Measure {
        ts: row.ts,
        settled_at: row.ts,
        tenant: "".into(),
        principal: "".into(),
        server: (&*row.server).into(),
        session_id: (&*row.session_id).into(),
        tool: row.tool.clone(),
        entities: [EntityKey::of("", EntityKind::Server, b""); 4],
        outcome: row.outcome,
        new_hosts: 0,
        hosts: 0,
        new_tool: false,
        arguments: 0,
        text_arguments: 0,
        sourced_arguments: 0,
        shape_millibits: 0,
        fresh_millibits: 0,
        argument_entropy_millibits: 0,
        shape: None,
        request_bytes: 0,
        response_bytes: row.response_bytes,
        latency_us: row.latency_us,
    }
}

fn bytes_of(rows: &[CallRow]) -> Vec<u8> {
    let mut behaviours = Behaviours::default();
    behaviours.take(rows, &Model::default(), &mut Vec::new());
    bincode::serialize(&behaviours).expect("it has a form in bytes")
}

proptest! {
    /// Blocks that a session has left are those of calls that it never made, byte for byte.
    #[test]
    fn a_forgotten_session_is_in_no_block(calls in prop::collection::vec(made(), 0..60), forgotten in 0..3_u8) {
        let rows: Vec<CallRow> = calls.iter().enumerate().map(|(number, of)| row(number, of)).collect();
        let (of_it, others): (Vec<CallRow>, Vec<CallRow>) =
            rows.iter().cloned().partition(|row| row.session_id == forgotten.to_string());
        let mut behaviours = Behaviours::default();
        behaviours.take(&rows, &Model::default(), &mut Vec::new());
        behaviours.withdraw(&of_it.iter().map(measure).collect::<Vec<_>>());
        prop_assert_eq!(bincode::serialize(&behaviours).expect("it has a form in bytes"), bytes_of(&others));
    }
}
