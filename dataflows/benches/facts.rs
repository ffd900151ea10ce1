//! What the edge pays per message: a call of about 860 bytes with five leaves, and a tool result of 2 kB.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use undercurrent_dataflows::facts::{DigestKey, Limits, SessionFacts};
use undercurrent_schemas::v1::Direction;

const KEY: DigestKey = DigestKey { id: 1, secret: *b"0123456789abcdef" };

fn call() -> String {
    let body = "Dear team, the quarterly figures are ready for review and the links below are current. ".repeat(6);
    format!(
        concat!(
            r#"{{"jsonrpc":"2.0","id":17,"method":"tools/call","params":{{"name":"send_email","arguments":{{"#,
            r#""recipients":["ana.lima@example.org"],"subject":"Figures for 2026","body":"{}","#,
            r#""attachment":"reports/2026/q3-figures.xlsx","priority":2}},"#,
            r#""_meta":{{"progressToken":17,"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}}}}}}"#
        ),
        body
    )
}

fn result() -> String {
    let row = "- id: '10482'\\n  sender: ana.lima@example.org\\n  subject: Figures for 2026\\n  amount: 98.70\\n  url: https://files.example.org/q3\\n";
    format!(
        r#"{{"jsonrpc":"2.0","id":17,"result":{{"content":[{{"type":"text","text":"{}"}}],"isError":false}}}}"#,
        row.repeat(15)
    )
}

fn benches(c: &mut Criterion) {
    let (call, result) = (call(), result());
    let session = || {
        let mut facts = SessionFacts::new(Limits::default());
        for _ in 0..8 {
            facts.observe(Direction::ClientToServer, call.as_bytes(), &KEY);
            facts.observe(Direction::ServerToClient, result.as_bytes(), &KEY);
        }
        facts
    };
    let mut group = c.benchmark_group("facts");
    group.throughput(Throughput::Bytes(call.len() as u64));
    group.bench_function("call", |b| {
        b.iter_batched_ref(
            session,
            |facts| facts.observe(Direction::ClientToServer, black_box(call.as_bytes()), &KEY),
            BatchSize::SmallInput,
        );
    });
    let mut facts = session();
    group.bench_function("call, same session", |b| {
        b.iter(|| facts.observe(Direction::ClientToServer, black_box(call.as_bytes()), &KEY));
    });
    group.throughput(Throughput::Bytes(result.len() as u64));
    group.bench_function("call and result, same session", |b| {
        b.iter(|| {
            facts.observe(Direction::ClientToServer, black_box(call.as_bytes()), &KEY);
            facts.observe(Direction::ServerToClient, black_box(result.as_bytes()), &KEY)
        });
    });
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
