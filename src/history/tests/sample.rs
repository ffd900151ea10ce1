//! Ticks as an engine would hand them over: ten seconds apart, two partitions, every table.

use undercurrent_schemas::ids::{Micros, ModelVersion, Offset, Partition, Tick};
use undercurrent_schemas::rows::{
    AlertKind, AlertRow, AlertState, CallOutcome, CallRow, ClusterChange, ClusterRow, DeadLetterRow, EntityKind,
    Expected, FeatureRow, ForecastRow, LabelOutcome, LabelRow, MessageRow, ModelRow, ReportedSums, SessionRow, Source,
    TelemetryRow, ToolChange, ToolRow,
};
use undercurrent_schemas::tables::Table;
use undercurrent_schemas::v1::event::Body;
use undercurrent_schemas::v1::{
    Assessment, Attribute, CallFacts, DeadLetter, Decision, Direction, Event, EventId, Kind, Leaf, LeafType, Message,
    Place, Point, PointKind, Reason, Term, TermKind, Verdict,
};

use super::{HistoryOptions, TickRows};

pub(super) const HOUR_US: i64 = 3_600_000_000;
/// 2026-03-02 08:00:04 UTC.
pub(super) const START: i64 = 1_772_438_404_799_565;

/// Small rolls: three ticks each.
pub(super) fn options() -> HistoryOptions {
    HistoryOptions { roll_rows: 12, ..HistoryOptions::default() }
}

/// The ticks from 1 to `last`.
pub(super) fn ticks(last: u64) -> Vec<TickRows> {
    (1..=last).map(tick).collect()
}

pub(super) fn tick(number: u64) -> TickRows {
    let source = |ordinal: u32| Source { tick: Tick(number), partition: Partition(ordinal % 2), ordinal: ordinal / 2 };
    let mut rows = TickRows {
        tick: Tick(number),
        watermark: Micros(START + number as i64 * 10_000_000),
        messages: (0..4).map(|index| message(number, index)).collect(),
        calls: vec![call(source(0), number)],
        sessions: vec![session(source(0), number)],
        features: (0..2).map(|ordinal| feature(source(ordinal), number)).collect(),
        models: vec![model(source(0), number)],
        labels: vec![label(source(0), number)],
        tools: vec![tool(source(0), number)],
        alerts: vec![alert(source(0), number)],
        clusters: vec![cluster(source(0), number)],
        forecasts: vec![forecast(source(0), number)],
        telemetry: vec![telemetry(source(0), number)],
        dead_letters: vec![dead_letter(source(0))],
    };
    if number.is_multiple_of(5) {
        rows.sessions.clear();
    }
    rows
}

/// The same rows in another order.
pub(super) fn shuffled(mut rows: TickRows) -> TickRows {
    rows.messages.rotate_left(3);
    rows.features.reverse();
    rows
}

pub(super) fn rows_of(rows: &TickRows, table: Table) -> usize {
    match table {
        Table::Messages => rows.messages.len(),
        Table::Calls => rows.calls.len(),
        Table::Sessions => rows.sessions.len(),
        Table::Features => rows.features.len(),
        Table::Models => rows.models.len(),
        Table::Labels => rows.labels.len(),
        Table::Tools => rows.tools.len(),
        Table::Alerts => rows.alerts.len(),
        Table::Clusters => rows.clusters.len(),
        Table::Forecasts => rows.forecasts.len(),
        Table::Telemetry => rows.telemetry.len(),
        Table::DeadLetters => rows.dead_letters.len(),
    }
}

/// Four messages a tick: two in each partition.
pub(super) fn message(tick: u64, index: u64) -> MessageRow {
    let leaf = Leaf {
        path: "to.iban".into(),
        r#type: LeafType::String.into(),
        value: tick.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ index,
        source: if tick.is_multiple_of(2) { "read_file".into() } else { String::new() },
        bytes: 22,
        entropy_millibits: 3900,
        host: 0,
        host_known: false,
        place: if tick.is_multiple_of(2) { Place::Field } else { Place::Unspecified }.into(),
        place_of_part: false,
    };
    let message = Message {
        direction: Direction::ClientToServer.into(),
        kind: Kind::Request.into(),
        method: "tools/call".into(),
        target: "send_money".into(),
        jsonrpc_id: index.to_string(),
        size_bytes: 200 + index,
        transport: "tcp".into(),
        call: Some(CallFacts { fingerprint: tick, leaves: vec![leaf; 3], position: 1, ..CallFacts::default() }),
        verdict: Some(verdict(tick)),
        ..Message::default()
    };
    MessageRow {
        tick: Tick(tick),
        partition: Partition((index / 2) as u32),
        offset: Offset(tick * 2 + index % 2),
        event: Event {
            id: Some(EventId { gateway: 1, epoch: 1, sequence: tick * 4 + index }),
            ts_us: START + tick as i64 * 10_000_000 + index as i64,
            tenant: "default".into(),
            principal: "alice".into(),
            session_id: session_id(tick),
            server: "banking".into(),
            digest_key: 1,
            body: Some(Body::Message(message.into())),
        },
    }
}

fn session_id(tick: u64) -> String {
    format!("s-{:016x}", (tick / 3).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

fn call(source: Source, tick: u64) -> CallRow {
    CallRow {
        source,
        tenant: "default".into(),
        principal: "alice".into(),
        server: "banking".into(),
        session_id: session_id(tick).into(),
        ts: Micros(START + tick as i64 * 10_000_000),
        jsonrpc_id: tick.to_string(),
        tool: "send_money".into(),
        outcome: CallOutcome::Result,
        error_type: String::new(),
        latency_us: Some(1500),
        request_bytes: 200,
        response_bytes: 300,
        result_shape: Some(7),
        verdict: (tick > 2).then(|| verdict(tick)),
        expected: Expected::default(),
    }
}

fn session(source: Source, tick: u64) -> SessionRow {
    SessionRow {
        source,
        tenant: "default".into(),
        principal: "alice".into(),
        server: "banking".into(),
        session_id: session_id(tick).into(),
        part: (tick % 3) as u32,
        started_at: Micros(START),
        ended_at: Micros(START + tick as i64 * 10_000_000),
        end_reason: undercurrent_schemas::rows::EndReason::Idle,
        messages: 4,
        calls: 1,
        errors: 0,
        assessment: (tick > 2).then(|| assessment(tick)),
        flagged: (tick > 2).then_some(false),
        taught: true,
        taught_eighths: 8,
        cell: Some(tick),
        cluster: String::new(),
    }
}

fn tool(source: Source, tick: u64) -> ToolRow {
    ToolRow {
        source,
        ts: Micros(START + tick as i64 * 10_000_000),
        tenant: "default".into(),
        server: "banking".into(),
        tool: "send_money".into(),
        session_id: session_id(tick),
        change: ToolChange::Changed,
        definition_hash: tick,
        similarity_pct: Some(97),
        what: vec!["description is new".into()],
        findings: Vec::new(),
        also_at: vec!["shop".into()],
        definition: "{}".into(),
    }
}

fn alert(source: Source, tick: u64) -> AlertRow {
    AlertRow {
        source,
        ts: Micros(START + tick as i64 * 10_000_000),
        alert_id: format!("{tick:016x}"),
        kind: AlertKind::Loop,
        state: AlertState::Open,
        server: "banking".into(),
        subject: session_id(tick),
        opened_at: Micros(START),
        times: 1,
        text: "again and again".into(),
    }
}

fn forecast(source: Source, tick: u64) -> ForecastRow {
    ForecastRow {
        source,
        diff: 1,
        kind: EntityKind::Server,
        tenant: "default".into(),
        entity: "banking".into(),
        window_start: Micros(START),
        expected: 2.5,
        error: 0.5,
        calls: tick as i64,
    }
}

fn cluster(source: Source, tick: u64) -> ClusterRow {
    ClusterRow {
        source,
        ts: Micros(START + tick as i64 * 10_000_000),
        diff: 1,
        change: ClusterChange::Grew,
        cluster: format!("{tick:016x}"),
        related: String::new(),
        scope: 1,
        server: "banking".into(),
        sessions: tick,
        cells: 1,
        exemplar: session_id(tick),
        drift: 0.25,
    }
}

fn label(source: Source, tick: u64) -> LabelRow {
    LabelRow {
        source,
        event: EventId { gateway: 1, epoch: 1, sequence: tick },
        ts: Micros(START + tick as i64 * 10_000_000),
        session_id: session_id(tick),
        label: "benign".into(),
        outcome: LabelOutcome::Applied,
        parts: 1,
    }
}

pub(super) fn feature(source: Source, tick: u64) -> FeatureRow {
    FeatureRow {
        source,
        diff: 1,
        kind: EntityKind::Tool,
        tenant: "default".into(),
        entity: "banking/send_money".into(),
        window_start: Micros(START),
        window_us: 60_000_000,
        calls: tick as i64,
        errors: 0,
        tool_errors: 0,
        rpc_errors: 0,
        new_hosts: 0,
        hosts: 0,
        new_tools: 0,
        distinct_tools: 0,
        distinct_shapes: 0,
        arguments: 0,
        text_arguments: 0,
        sourced_arguments: 0,
        shape_millibits: 0,
        fresh_millibits: 0,
        argument_entropy_millibits: 0,
        request_bytes: 200,
        response_bytes: 300,
        answered: 1,
        latency_sum_us: 1500,
        latency_p50_us: Some(1500.0),
        latency_p95_us: None,
        reported: ReportedSums::default(),
    }
}

fn model(source: Source, tick: u64) -> ModelRow {
    let (version, part) = (ModelVersion(tick), "edges");
    ModelRow { source, version, part, scope: "banking".into(), key: "send_money".into(), bin: 3, diff: 1 }
}

fn verdict(tick: u64) -> Verdict {
    Verdict { decision: Decision::Allow.into(), enforced: true, assessment: Some(assessment(tick)) }
}

fn assessment(tick: u64) -> Assessment {
    let terms = [
        TermKind::TransitionBits,
        TermKind::FlowBitsMax,
        TermKind::TaintBitsMax,
        TermKind::NoveltyBitsSum,
        TermKind::ArgumentsBytes,
    ];
    Assessment {
        score: tick as f64,
        p_value: 0.5,
        model_version: tick,
        reasons: vec![Reason {
            kind: TermKind::FlowBitsMax.into(),
            text: "iban came from read_file".into(),
            weight: tick as f64,
        }],
        terms: terms.map(|term| Term { kind: term.into(), value: 1.0, weight: tick as f64 / 5.0 }).to_vec(),
    }
}

fn telemetry(source: Source, tick: u64) -> TelemetryRow {
    let time = START + tick as i64 * 10_000_000;
    let attribute = Attribute { key: "host.name".into(), value: "a".into() };
    TelemetryRow {
        source,
        received: Micros(time),
        tenant: "default".into(),
        server: "banking".into(),
        point: Point {
            ts_us: time,
            source: "otlp/metrics".into(),
            name: "system.cpu.utilization".into(),
            unit: "1".into(),
            kind: PointKind::Gauge.into(),
            value: Some(0.25),
            attributes: vec![attribute],
            ..Point::default()
        },
    }
}

fn dead_letter(source: Source) -> DeadLetterRow {
    let letter = DeadLetter {
        source: "otlp/logs".into(),
        reason: "not OTLP in JSON".into(),
        content: b"{".to_vec(),
        size_bytes: 1,
    };
    DeadLetterRow { source, ts: Micros(START), tenant: "default".into(), letter }
}
