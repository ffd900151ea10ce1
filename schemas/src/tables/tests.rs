use std::fmt::Write;

use arrow::array::{Array, RecordBatch, StructArray};
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::*;
use crate::ids::{Micros, ModelVersion, Offset, Partition, Tick};
use crate::rows::{CallOutcome, CallRow, EntityKind, Expected, FeatureRow, MessageRow, ModelRow, SessionRow, Source};
use crate::v1::event::Body;
use crate::v1::{
    Assessment, CallFacts, Decision, Direction, Event, EventId, Gap, Heartbeat, Kind, Leaf, LeafType, Message, Place,
    Reason, ResultFacts, SessionEnd, Term, TermKind, Verdict, gap,
};

/// Every column of every table: a change here is a change of the contract with whoever reads the history.
#[test]
fn schemas_are_a_contract() {
    let mut text = String::new();
    for table in Table::ALL {
        writeln!(text, "{} sorted by {:?}", table.name(), table.sorted_by()).unwrap();
        for field in table.schema().fields() {
            let null = if field.is_nullable() { " NULL" } else { "" };
            writeln!(text, "  {}: {}{null}", field.name(), field.data_type()).unwrap();
        }
    }
    insta::assert_snapshot!(text);
}

#[test]
fn tables_have_the_columns_that_they_are_sorted_by() {
    for table in Table::ALL {
        for name in table.sorted_by() {
            assert!(table.schema().column_with_name(name).is_some(), "{name} of {}", table.name());
        }
    }
}

#[test]
fn messages_keep_every_fact() {
    let events = [
        Event { body: Some(Body::Message(call_message().into())), ..event() },
        Event { body: Some(Body::Message(result_message().into())), ..event() },
        Event { body: Some(Body::SessionEnd(SessionEnd {})), ..event() },
        Event { body: Some(Body::Gap(Gap { reason: gap::Reason::Overflow.into(), events: 12 })), ..event() },
        Event { body: Some(Body::Heartbeat(Heartbeat {})), ..Event::default() },
        Event::default(),
    ];
    let rows: Vec<MessageRow> = events
        .into_iter()
        .enumerate()
        .map(|(offset, event)| MessageRow {
            tick: Tick(3),
            partition: Partition(1),
            offset: Offset(offset as u64),
            event,
        })
        .collect();
    insta::assert_snapshot!(text_of(&messages::batch(&rows)));
}

#[test]
fn calls_without_a_verdict_have_nulls_and_empty_lists() {
    let settled = CallRow {
        source: source(0),
        tenant: "default".into(),
        principal: "alice".into(),
        server: "banking".into(),
        session_id: "s-1".into(),
        ts: Micros(1_772_438_404_799_565),
        jsonrpc_id: "7".into(),
        tool: "send_money".into(),
        outcome: CallOutcome::ToolError,
        error_type: "tool_error".into(),
        latency_us: Some(1500),
        request_bytes: 210,
        response_bytes: 94,
        result_shape: Some(7),
        verdict: Some(verdict(Some(assessment()))),
        expected: Expected {
            tool: "get_balance".into(),
            tool_rank: Some(2),
            latency_us: Some(1_200),
            failure_p: Some(0.125),
        },
    };
    let unknown = CallRow { source: source(1), verdict: Some(verdict(None)), ..settled.clone() };
    let open = CallRow {
        source: source(2),
        outcome: CallOutcome::Unanswered,
        error_type: String::new(),
        latency_us: None,
        result_shape: None,
        verdict: None,
        expected: Expected::default(),
        ..settled.clone()
    };
    insta::assert_snapshot!(text_of(&calls::batch(&[settled, unknown, open])));
}

#[test]
fn sessions_that_were_not_scored_have_nulls() {
    let scored = SessionRow {
        source: source(0),
        tenant: "default".into(),
        principal: "alice".into(),
        server: "banking".into(),
        session_id: "s-1".into(),
        part: 0,
        started_at: Micros(1_772_438_404_000_000),
        ended_at: Micros(1_772_438_409_000_000),
        end_reason: crate::rows::EndReason::Idle,
        messages: 12,
        calls: 4,
        errors: 1,
        assessment: Some(assessment()),
        flagged: Some(true),
        taught: true,
        taught_eighths: 1,
        cell: Some(0x0102),
        cluster: "00000000000000c1".into(),
    };
    let unscored = SessionRow {
        source: source(1),
        assessment: None,
        flagged: None,
        taught_eighths: 8,
        part: 1,
        cell: None,
        cluster: String::new(),
        ..scored.clone()
    };
    insta::assert_snapshot!(text_of(&sessions::batch(&[scored, unscored])));
}

#[test]
fn features_and_models_are_changes() {
    let feature = FeatureRow {
        source: source(0),
        diff: -1,
        kind: EntityKind::Tool,
        tenant: "default".into(),
        entity: "banking/send_money".into(),
        window_start: Micros(1_772_438_400_000_000),
        window_us: 60_000_000,
        calls: 3,
        errors: 1,
        tool_errors: 0,
        rpc_errors: 0,
        new_hosts: 2,
        hosts: 3,
        new_tools: 1,
        distinct_tools: 1,
        distinct_shapes: 2,
        arguments: 7,
        text_arguments: 5,
        sourced_arguments: 4,
        shape_millibits: 1_500,
        fresh_millibits: 7_250,
        argument_entropy_millibits: 15250,
        request_bytes: 600,
        response_bytes: 900,
        answered: 2,
        latency_sum_us: 4000,
        latency_p50_us: Some(2000.5),
        latency_p95_us: None,
        reported: crate::rows::ReportedSums::default(),
    };
    let model = ModelRow {
        source: source(1),
        version: ModelVersion(41),
        part: "edges",
        scope: "".into(),
        key: "send_money".into(),
        bin: 2,
        diff: 5,
    };
    insta::assert_snapshot!(format!(
        "{}\n{}",
        text_of(&features::batch(&[feature])),
        text_of(&models::batch(&[model]))
    ));
}

/// Writers convert rows in chunks of any size: the columns must not depend on the cut.
#[test]
fn the_nulls_of_one_chunk_do_not_change_its_schema() {
    let row = |event| MessageRow { tick: Tick(1), partition: Partition(0), offset: Offset(0), event };
    let call = messages::batch(&[row(Event { body: Some(Body::Message(call_message().into())), ..event() })]);
    let beat = messages::batch(&[row(Event { body: Some(Body::Heartbeat(Heartbeat {})), ..event() })]);
    assert_eq!(call.schema(), beat.schema());
    let verdicts = beat.column_by_name("verdict").unwrap().as_any().downcast_ref::<StructArray>().unwrap();
    assert_eq!(verdicts.null_count(), 1);
}

fn source(ordinal: u32) -> Source {
    Source { tick: Tick(9), partition: Partition(2), ordinal }
}

fn event() -> Event {
    Event {
        id: Some(EventId { gateway: 5, epoch: 2, sequence: 77 }),
        ts_us: 1_772_438_404_799_565,
        tenant: "default".into(),
        principal: "alice".into(),
        session_id: "s-1".into(),
        server: "banking".into(),
        digest_key: 1,
        body: None,
    }
}

fn call_message() -> Message {
    let iban = Leaf {
        path: "to.iban".into(),
        r#type: LeafType::String.into(),
        value: u64::MAX,
        source: "read_file".into(),
        bytes: 22,
        entropy_millibits: 3900,
        host: 0,
        host_known: false,
        place: Place::Text.into(),
        place_of_part: true,
    };
    let url = Leaf {
        path: "url".into(),
        source: String::new(),
        place: 0,
        place_of_part: false,
        host: 8,
        host_known: true,
        ..iban.clone()
    };
    Message {
        direction: Direction::ClientToServer.into(),
        kind: Kind::Request.into(),
        method: "tools/call".into(),
        target: "send_money".into(),
        jsonrpc_id: "\"a\"".into(),
        size_bytes: 210,
        protocol_version: "2025-11-25".into(),
        transport: "tcp".into(),
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into(),
        call: Some(CallFacts {
            shape: 11,
            fingerprint: 12,
            arguments_bytes: 90,
            leaves: vec![iban, url],
            leaves_dropped: 1,
            previous_tools: vec!["read_file".into(), "list".into()],
            position: 3,
            largest_result_bytes: 4096,
            repeats: 1,
            earlier_tools: vec![u64::MAX, 5],
        }),
        verdict: Some(verdict(Some(assessment()))),
        payload: b"{}".to_vec(),
        batch_index: 2,
        ..Message::default()
    }
}

fn result_message() -> Message {
    Message {
        direction: Direction::ServerToClient.into(),
        kind: Kind::Error.into(),
        method: "tools/list".into(),
        jsonrpc_id: "7".into(),
        size_bytes: 94,
        result: Some(ResultFacts {
            is_error: true,
            error_code: -32602,
            error_type: "-32602".into(),
            content_items: 2,
            content_bytes: 80,
            values_indexed: 6,
            shape: 13,
        }),
        tool_definitions: vec![b"{\"name\":\"a\"}".to_vec(), b"{\"name\":\"b\"}".to_vec()],
        malformed: "not json".into(),
        ..Message::default()
    }
}

fn verdict(assessment: Option<Assessment>) -> Verdict {
    Verdict { decision: Decision::Flag.into(), enforced: true, assessment }
}

fn assessment() -> Assessment {
    Assessment {
        score: 7.5,
        p_value: 0.004,
        model_version: 40,
        reasons: vec![
            Reason { kind: TermKind::FlowBitsMax.into(), text: "iban came from read_file".into(), weight: 6.0 },
            Reason { kind: TermKind::Other.into(), text: "other".into(), weight: 1.5 },
        ],
        terms: vec![
            Term { kind: TermKind::FlowBitsMax.into(), value: 8.0, weight: 6.0 },
            Term { kind: TermKind::ArgumentsBytes.into(), value: 90.0, weight: 1.5 },
        ],
    }
}

/// One line per column, its values in the order of the rows.
fn text_of(batch: &RecordBatch) -> String {
    let options = FormatOptions::default().with_null("NULL");
    let mut text = String::new();
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        // Showing a time zone by name would need its database.
        let column = match field.data_type() {
            DataType::Timestamp(..) => &arrow::compute::cast(column, &DataType::Int64).unwrap(),
            _ => column,
        };
        let formatter = ArrayFormatter::try_new(column, &options).unwrap();
        let values: Vec<String> = (0..column.len()).map(|row| formatter.value(row).to_string()).collect();
        writeln!(text, "{}: {}", field.name(), values.join(" | ")).unwrap();
    }
    text
}
