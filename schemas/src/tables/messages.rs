//! Table `messages`: every record of the log with every fact of its event, so that nothing must be asked of the log
//! again after its retention. Gaps, session ends and heartbeats are rows too: a hole can be seen.
//!
//! What only a message has is NULL in the other bodies' rows. `jsonrpc_id` is the JSON text of the id, unlike in
//! `calls`: `7` and `"7"` are two ids. In SQL, `"offset"` wants its quotes.

use arrow::array::RecordBatch;
use arrow::datatypes::{Int64Type, SchemaRef, UInt32Type, UInt64Type};

use super::assessed::decision_text;
use super::columns::Columns;
use crate::ids::Micros;
use crate::rows::MessageRow;
use crate::v1::event::Body;
use crate::v1::{self, CallFacts, Direction, EventId, Gap, Kind, Leaf, LeafType, Message, Place, ResultFacts, Verdict};

/// The table's columns.
#[must_use]
pub fn schema() -> SchemaRef {
    batch(&[]).schema()
}

/// The rows as columns, in their order.
#[must_use]
pub fn batch(rows: &[MessageRow]) -> RecordBatch {
    let none = Absent::default();
    let lines: Vec<Line<'_>> = rows.iter().map(|row| Line::of(row, &none)).collect();
    let calls: Vec<&CallFacts> = lines.iter().map(|line| line.message.call.as_ref().unwrap_or(&none.call)).collect();
    let results: Vec<&ResultFacts> =
        lines.iter().map(|line| line.message.result.as_ref().unwrap_or(&none.result)).collect();
    let verdicts: Vec<&Verdict> =
        lines.iter().map(|line| line.message.verdict.as_ref().unwrap_or(&none.verdict)).collect();
    let gaps: Vec<&Gap> = lines.iter().map(|line| line.gap.unwrap_or(&none.gap)).collect();
    let columns = envelope(&lines);
    let columns = message(columns)
        .structure("call", |line| line.message.call.is_some(), call(&calls, &leaves(&calls)))
        .structure("result", |line| line.message.result.is_some(), result(&results))
        .structure("verdict", |line| line.message.verdict.is_some(), verdict(&verdicts))
        .structure("gap", |line| line.gap.is_some(), gap(&gaps));
    columns
        .number::<UInt64Type>("tick", |line| line.row.tick.0)
        .number::<UInt32Type>("partition", |line| line.row.partition.0)
        .number::<UInt64Type>("offset", |line| line.row.offset.0)
        .into_batch()
}

/// What stands in for a part that an event does not have.
#[derive(Default)]
struct Absent {
    id: EventId,
    message: Message,
    call: CallFacts,
    result: ResultFacts,
    verdict: Verdict,
    gap: Gap,
}

/// A row and the parts of its event.
struct Line<'a> {
    row: &'a MessageRow,
    id: &'a EventId,
    /// Meaningless unless `is_message`.
    message: &'a Message,
    is_message: bool,
    gap: Option<&'a Gap>,
}

impl<'a> Line<'a> {
    fn of(row: &'a MessageRow, none: &'a Absent) -> Self {
        let message = match &row.event.body {
            Some(Body::Message(message)) => Some(message),
            _ => None,
        };
        let gap = match &row.event.body {
            Some(Body::Gap(gap)) => Some(gap),
            _ => None,
        };
        Self {
            row,
            id: row.event.id.as_ref().unwrap_or(&none.id),
            message: message.map_or(&none.message, |message| message),
            is_message: message.is_some(),
            gap,
        }
    }

    fn fact<T>(&self, value: T) -> Option<T> {
        self.is_message.then_some(value)
    }
}

/// What every event has.
fn envelope<'a>(lines: &'a [Line<'a>]) -> Columns<'a, Line<'a>> {
    Columns::of(lines)
        .time("ts", |line| Micros(line.row.event.ts_us))
        .text("tenant", |line| &line.row.event.tenant)
        .text_or_null("principal", |line| &line.row.event.principal)
        .text_or_null("server", |line| &line.row.event.server)
        .text_or_null("session_id", |line| &line.row.event.session_id)
        .number::<UInt64Type>("gateway", |line| line.id.gateway)
        .number::<UInt64Type>("epoch", |line| line.id.epoch)
        .number::<UInt64Type>("sequence", |line| line.id.sequence)
        .number::<UInt32Type>("digest_key", |line| line.row.event.digest_key)
        .text_or_null("body", |line| body_text(line.row.event.body.as_ref()))
        .text_or_null("label", |line| label_text(line.row.event.body.as_ref()))
}

/// What every message has.
fn message<'a>(columns: Columns<'a, Line<'a>>) -> Columns<'a, Line<'a>> {
    columns
        .text_or_null("direction", |line| direction_text(line.message.direction()))
        .text_or_null("kind", |line| kind_text(line.message.kind()))
        .text_or_null("method", |line| &line.message.method)
        .text_or_null("target", |line| &line.message.target)
        .text_or_null("jsonrpc_id", |line| &line.message.jsonrpc_id)
        .number_or_null::<UInt32Type>("batch_index", |line| line.fact(line.message.batch_index))
        .number_or_null::<UInt64Type>("size_bytes", |line| line.fact(line.message.size_bytes))
        .text_or_null("protocol_version", |line| &line.message.protocol_version)
        .text_or_null("transport", |line| &line.message.transport)
        .text_or_null("traceparent", |line| &line.message.traceparent)
        .text_or_null("malformed", |line| &line.message.malformed)
        .bytes_or_null("payload", |line| &line.message.payload)
        .byte_strings("tool_definitions", |line| &line.message.tool_definitions)
}

fn leaves<'a>(calls: &[&'a CallFacts]) -> Vec<&'a Leaf> {
    calls.iter().flat_map(|call| &call.leaves).collect()
}

fn call<'a>(calls: &'a [&'a CallFacts], leaves: &[&Leaf]) -> Columns<'a, &'a CallFacts> {
    let leaves = Columns::of(leaves)
        .text("path", |leaf| &leaf.path)
        .text_or_null("type", |leaf| leaf_type_text(leaf.r#type()))
        .number::<UInt64Type>("value", |leaf| leaf.value)
        .text_or_null("source", |leaf| &leaf.source)
        .number::<UInt64Type>("bytes", |leaf| leaf.bytes)
        .number::<UInt32Type>("entropy_millibits", |leaf| leaf.entropy_millibits)
        .number_or_null::<UInt64Type>("host", |leaf| Some(leaf.host).filter(|host| *host != 0))
        .flag("host_known", |leaf| leaf.host_known)
        .text_or_null("place", |leaf| place_text(leaf.place()))
        .flag("place_of_part", |leaf| leaf.place_of_part);
    Columns::of(calls)
        .number::<UInt64Type>("shape", |call| call.shape)
        .number::<UInt64Type>("fingerprint", |call| call.fingerprint)
        .number::<UInt64Type>("arguments_bytes", |call| call.arguments_bytes)
        .structs("leaves", |call| call.leaves.len(), leaves)
        .number::<UInt32Type>("leaves_dropped", |call| call.leaves_dropped)
        .texts("previous_tools", |call| &call.previous_tools)
        .number::<UInt32Type>("position", |call| call.position)
        .number::<UInt64Type>("largest_result_bytes", |call| call.largest_result_bytes)
        .number::<UInt32Type>("repeats", |call| call.repeats)
        .hashes("earlier_tools", |call| &call.earlier_tools)
}

fn result<'a>(results: &'a [&'a ResultFacts]) -> Columns<'a, &'a ResultFacts> {
    Columns::of(results)
        .flag("is_error", |result| result.is_error)
        .number::<Int64Type>("error_code", |result| result.error_code)
        .text_or_null("error_type", |result| &result.error_type)
        .number::<UInt32Type>("content_items", |result| result.content_items)
        .number::<UInt64Type>("content_bytes", |result| result.content_bytes)
        .number::<UInt32Type>("values_indexed", |result| result.values_indexed)
        .number::<UInt64Type>("shape", |result| result.shape)
}

fn verdict<'a>(verdicts: &'a [&'a Verdict]) -> Columns<'a, &'a Verdict> {
    Columns::of(verdicts)
        .text_or_null("decision", |verdict| decision_text(verdict))
        .flag("enforced", |verdict| verdict.enforced)
        .assessment(verdicts, |verdict| verdict.assessment.as_ref())
}

fn gap<'a>(gaps: &'a [&'a Gap]) -> Columns<'a, &'a Gap> {
    Columns::of(gaps)
        .text_or_null("reason", |gap| gap_reason_text(gap.reason()))
        .number::<UInt64Type>("events", |gap| gap.events)
}

fn body_text(body: Option<&Body>) -> &'static str {
    match body {
        // A body that this version does not know.
        None => "",
        Some(Body::Message(_)) => "message",
        Some(Body::SessionEnd(_)) => "session_end",
        Some(Body::Gap(_)) => "gap",
        Some(Body::Heartbeat(_)) => "heartbeat",
        Some(Body::Label(_)) => "label",
        Some(Body::Forget(_)) => "forget",
        Some(Body::ModelImport(_)) => "model_import",
        Some(Body::Telemetry(_)) => "telemetry",
        Some(Body::DeadLetter(_)) => "dead_letter",
    }
}

fn label_text(body: Option<&Body>) -> &'static str {
    match body {
        Some(Body::Label(label)) => label.verdict().as_text(),
        _ => "",
    }
}

const fn direction_text(direction: Direction) -> &'static str {
    match direction {
        Direction::Unspecified => "",
        Direction::ClientToServer => "client_to_server",
        Direction::ServerToClient => "server_to_client",
    }
}

const fn kind_text(kind: Kind) -> &'static str {
    match kind {
        Kind::Unspecified => "",
        Kind::Request => "request",
        Kind::Notification => "notification",
        Kind::Result => "result",
        Kind::Error => "error",
        Kind::Malformed => "malformed",
    }
}

const fn leaf_type_text(leaf_type: LeafType) -> &'static str {
    match leaf_type {
        LeafType::Unspecified => "",
        LeafType::Null => "null",
        LeafType::Bool => "bool",
        LeafType::Number => "number",
        LeafType::String => "string",
        LeafType::Empty => "empty",
    }
}

const fn place_text(place: Place) -> &'static str {
    match place {
        Place::Unspecified => "",
        Place::Field => "field",
        Place::Item => "item",
        Place::Text => "text",
    }
}

const fn gap_reason_text(reason: v1::gap::Reason) -> &'static str {
    match reason {
        v1::gap::Reason::Unspecified => "",
        v1::gap::Reason::Overflow => "overflow",
        v1::gap::Reason::UncleanStop => "unclean_stop",
        v1::gap::Reason::Corrupt => "corrupt",
    }
}
