//! Records as earlier versions wrote them, byte for byte: each must be read, and written again, as it was.
//!
//! A file of `golden/` is never made anew. For a new kind of body: run with `GOLDEN=write`, which makes what is missing.

use std::fs;
use std::path::Path;

use prost::Message as _;
use undercurrent_schemas::v1::event::Body;
use undercurrent_schemas::v1::{self, Attribute, CallFacts, Direction, Event, EventId, Kind, Leaf, LeafType, Point};

fn event(body: Body) -> Event {
    Event {
        id: Some(EventId { gateway: 7, epoch: 3, sequence: 41 }),
        ts_us: 1_772_438_404_799_565,
        tenant: "default".into(),
        principal: "alice".into(),
        session_id: "5f0c9d".into(),
        server: "bank".into(),
        digest_key: 9,
        body: Some(body),
    }
}

fn call() -> v1::Message {
    let leaf =
        Leaf { path: "to.iban".into(), r#type: LeafType::String.into(), value: 77, bytes: 22, ..Leaf::default() };
    v1::Message {
        direction: Direction::ClientToServer.into(),
        kind: Kind::Request.into(),
        method: "tools/call".into(),
        target: "send_money".into(),
        jsonrpc_id: "4".into(),
        size_bytes: 212,
        call: Some(CallFacts { shape: 5, fingerprint: 6, leaves: vec![leaf], position: 2, ..CallFacts::default() }),
        ..v1::Message::default()
    }
}

fn all() -> Vec<(&'static str, Event)> {
    let attributes = vec![Attribute { key: "host.name".into(), value: "a".into() }];
    let point = Point {
        ts_us: 1_772_438_404_000_000,
        source: "otlp/metrics".into(),
        name: "system.cpu.utilization".into(),
        unit: "1".into(),
        kind: v1::PointKind::Gauge.into(),
        value: Some(0.25),
        attributes,
        ..Point::default()
    };
    let letter = v1::DeadLetter {
        source: "otlp/logs".into(),
        reason: "not OTLP in JSON".into(),
        content: b"{".to_vec(),
        size_bytes: 1,
    };
    let sum = v1::Sum { part: 2, scope: 7, key: 9, bin: 0, total: 16 };
    let name = v1::Name { hash: 7, text: "bank".into() };
    let import = v1::ModelImport { sums: vec![sum], names: vec![name], withdrawn: false };
    vec![
        ("message", event(Body::Message(call().into()))),
        ("session_end", event(Body::SessionEnd(v1::SessionEnd {}))),
        ("gap", event(Body::Gap(v1::Gap { reason: v1::gap::Reason::Overflow.into(), events: 12 }))),
        ("heartbeat", event(Body::Heartbeat(v1::Heartbeat {}))),
        ("label", event(Body::Label(v1::Label { verdict: v1::label::Verdict::Malicious.into() }))),
        ("forget", event(Body::Forget(v1::Forget::default()))),
        ("model_import", event(Body::ModelImport(import))),
        ("telemetry", event(Body::Telemetry(v1::Telemetry { points: vec![point] }))),
        ("dead_letter", event(Body::DeadLetter(letter))),
    ]
}

#[test]
fn records_of_every_kind_stay_readable() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    for (name, expected) in all() {
        let path = dir.join(format!("{name}.event"));
        if std::env::var("GOLDEN").as_deref() == Ok("write") && !path.exists() {
            fs::write(&path, expected.encode_to_vec()).unwrap();
        }
        let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; see this file's head", path.display()));
        assert_eq!(Event::decode(bytes.as_slice()).unwrap(), expected, "{name}");
        assert_eq!(expected.encode_to_vec(), bytes, "{name}: the same is written as before");
    }
}

/// What a newer version writes is read: fields are skipped, and a body that is not known is none.
#[test]
fn a_body_of_a_newer_version_is_none() {
    let mut bytes = Event { body: None, ..event(Body::Heartbeat(v1::Heartbeat {})) }.encode_to_vec();
    // Field 99, four bytes.
    bytes.extend([0x9a, 0x06, 0x04, 1, 2, 3, 4]);
    let read = Event::decode(bytes.as_slice()).unwrap();
    assert_eq!((read.body, read.server.as_str()), (None, "bank"));
}
