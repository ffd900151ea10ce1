//! What others report over OTLP: kept, joined with the server's own features, and an alert when it leaves its range.

use std::time::UNIX_EPOCH;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::gateway::{Gateway, Serve};
use crate::support::http::request;
use crate::support::kafka::{Kafka, topic_prefix};
use crate::support::load::Load;
use crate::support::parts::{HttpServer, python_answer};
use crate::support::wait::wait_until;

fn now_ns(ago_s: u64) -> String {
    let now = UNIX_EPOCH.elapsed().expect("the clock is past 1970");
    (now.as_nanos() - u128::from(ago_s) * 1_000_000_000).to_string()
}

fn cpu(values: &[f64], ago_s: u64) -> Value {
    let points: Vec<_> = values.iter().map(|value| json!({"timeUnixNano": now_ns(ago_s), "asDouble": value})).collect();
    json!({"resourceMetrics": [{
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "demo"}}]},
        "scopeMetrics": [{"metrics": [
            {"name": "system.cpu.utilization", "unit": "1", "gauge": {"dataPoints": points}}
        ]}]
    }]})
}

fn post(gateway: &Gateway, token: &str, path: &str, body: &str) -> (u16, String) {
    let headers = [("authorization", token), ("content-type", "application/json")];
    let answer = request(gateway.admin, "POST", path, &headers, body.as_bytes());
    (answer.status(), answer.text())
}

#[test]
fn reports_become_rows_features_and_alerts() {
    let data = TempDir::new().expect("a temporary directory");
    let server = HttpServer::demo();
    let gateway = Serve::new(data.path())
        .upstream("demo", &server.url())
        .setting("HISTORY__ROLL_SECONDS", "1")
        .setting("ENGINE__CALL_TIMEOUT_S", "1")
        .setting("ENGINE__LATENESS_S", "1")
        .start();
    let token = std::fs::read_to_string(data.path().join("admin.token")).expect("there is a token");
    let token = format!("Bearer {}", token.trim());
    Load::bounded(gateway.listen, "/mcp/demo", 2, 5).join();

    let usual: Vec<f64> = (0..200).map(|n| 0.2 + f64::from(n % 10) / 100.0).collect();
    assert_eq!(post(&gateway, &token, "/v1/metrics", &cpu(&usual, 0).to_string()), (200, "{}".to_owned()));
    wait_until("the range is learned", || gateway.metrics().sum("undercurrent_telemetry_points_total") == 200.0);
    gateway.settle();
    for _ in 0..2 {
        assert_eq!(post(&gateway, &token, "/v1/metrics", &cpu(&[0.97, 0.98], 0).to_string()).0, 200);
    }
    let log = json!({"resourceLogs": [{"scopeLogs": [{"logRecords": [{"timeUnixNano": now_ns(0), "attributes": [
        {"key": "mcp.server.name", "value": {"stringValue": "demo"}},
        {"key": "mcp.method.name", "value": {"stringValue": "tools/call"}},
        {"key": "error.type", "value": {"stringValue": "timeout"}}]}]}]}]});
    assert_eq!(post(&gateway, &token, "/v1/logs", &log.to_string()).0, 200);
    let (status, said) = post(&gateway, &token, "/v1/metrics", &cpu(&[0.5], 200_000).to_string());
    assert!(status == 200 && said.contains("rejectedDataPoints"), "{status} {said}");
    assert_eq!(post(&gateway, &token, "/v1/metrics", "{\"resourceMetrics\": 1}").0, 400);
    assert_eq!(post(&gateway, "Bearer no", "/v1/metrics", "{}").0, 401);
    wait_until("all of it is counted", || gateway.metrics().sum("undercurrent_dead_letters_total") == 2.0);

    // Windows of ten seconds are told when they are full.
    wait_until("a window with reports is full", || {
        let found = gateway.history().try_rows("SELECT 1 FROM features WHERE reported_points > 0 AND cpu IS NOT NULL");
        found.is_ok_and(|rows| !rows.is_empty())
    });
    let history = gateway.stop();
    assert_eq!(history.number("SELECT count(*) FROM telemetry WHERE server = 'demo'"), 205);
    assert_eq!(history.number("SELECT count(*) FROM telemetry WHERE kind = 'log' AND value IS NULL"), 1);
    assert_eq!(history.number("SELECT count(*) FROM dead_letters WHERE source = 'otlp/metrics'"), 2);
    assert_eq!(history.number("SELECT count(*) FROM dead_letters WHERE content IS NOT NULL"), 1);
    assert_eq!(history.number("SELECT count(*) FROM alerts WHERE kind = 'server_degraded' AND state = 'open'"), 1);
    let joined = "SELECT count(*) FROM features WHERE kind = 'server' AND entity = 'demo' AND diff = 1 \
                  AND reported_points > 0 AND cpu BETWEEN 0.2 AND 0.98";
    assert!(history.number(joined) > 0, "features of the server have what was reported");
    assert!(history.number("SELECT coalesce(sum(diff), 0) FROM models WHERE part = 'reported'") >= 200);
}

/// Any producer on Kafka reports without a token, and what it said while the engine was away is taken once.
#[test]
fn reports_on_a_topic_are_taken_once_whoever_is_killed() {
    let data = TempDir::new().expect("a temporary directory");
    let (kafka, server, prefix) = (Kafka::shared(), HttpServer::demo(), topic_prefix("reports"));
    let topic = format!("{prefix}telemetry");
    let start = || {
        Serve::new(data.path())
            .upstream("demo", &server.url())
            .setting("LOG__BACKEND", "kafka")
            .setting("KAFKA__BOOTSTRAP_SERVERS", kafka.servers())
            .setting("KAFKA__TOPIC_PREFIX", &prefix)
            .start()
    };
    let say = |records: &[String]| {
        python_answer("kafka_reports.py", &[kafka.servers(), &topic], &records.join("\n"));
    };
    let exports = |many: usize| -> Vec<String> { (0..many).map(|_| cpu(&[0.2, 0.3], 0).to_string()).collect() };

    let gateway = start();
    let points = || gateway.metrics().sum("undercurrent_telemetry_points_total");
    say(&exports(20));
    say(&["{\"resourceMetrics\": 1}".to_owned()]);
    wait_until("they are counted", || points() == 40.0);
    wait_until("and so is what is none", || gateway.metrics().sum("undercurrent_dead_letters_total") == 1.0);
    // Some of these are on their way when it is killed.
    say(&exports(200));
    gateway.kill();
    say(&exports(5));

    let gateway = start();
    let all = || gateway.metrics().sum("undercurrent_telemetry_points_total");
    wait_until("what was said meanwhile is there", || all() >= 10.0);
    Load::bounded(gateway.listen, "/mcp/demo", 1, 5).join();
    say(&exports(1));
    wait_until("the last is in the history", || {
        let found = gateway.history().try_rows("SELECT 1 FROM telemetry HAVING count(*) >= 452");
        found.is_ok_and(|rows| !rows.is_empty())
    });
    gateway.settle();
    let history = gateway.stop();
    assert_eq!(history.number("SELECT count(*) FROM telemetry WHERE server = 'demo'"), 452);
    let letter = format!("SELECT count(*) FROM dead_letters WHERE source = '{topic}/0/20' AND content IS NOT NULL");
    assert_eq!(history.number(&letter), 1, "it is told where it was");
    assert_eq!(history.number("SELECT count(*) FROM dead_letters"), 1);
    assert_eq!(history.number("SELECT count(*) FROM calls"), 5);
}

/// What the document for producers says is valid is taken, and what it says is not is left out.
#[test]
fn the_document_for_producers_says_what_is_taken() {
    use undercurrent_schemas::ids::Micros;
    use undercurrent_schemas::otlp::{Encoding, Signal, decode};
    const NOW: i64 = 1_772_438_404_000_000;
    let metric = |fields: &str| {
        format!(
            r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{{}}}]}}]}}]}}"#,
            fields.replace("NOW", "1772438404000000000")
        )
    };
    let log = |fields: &str| {
        let fields = fields.replace("NOW", "1772438404000000000");
        format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{{fields}}}]}}]}}]}}"#)
    };
    let attributes: Vec<_> = (0..33).map(|n| format!(r#"{{"key":"k{n}"}}"#)).collect();
    let metrics = [
        metric(r#""name":"m","gauge":{"dataPoints":[{"timeUnixNano":"NOW","asDouble":1.5}]}"#),
        metric(r#""name":"m","sum":{"aggregationTemporality":2,"dataPoints":[{"timeUnixNano":"NOW","asInt":"7"}]}"#),
        metric(
            r#""name":"m","histogram":{"aggregationTemporality":1,"dataPoints":[{"timeUnixNano":"NOW","count":"2","sum":1}]}"#,
        ),
        metric(r#""name":"m""#),
        metric(r#""name":"","gauge":{"dataPoints":[{"timeUnixNano":"NOW","asDouble":1.5}]}"#),
        metric(r#""name":"m","gauge":{"dataPoints":[{"timeUnixNano":"NOW"}]}"#),
        metric(r#""name":"m","gauge":{"dataPoints":[{"asDouble":1.5}]}"#),
        metric(&format!(
            r#""name":"m","gauge":{{"dataPoints":[{{"timeUnixNano":"NOW","asDouble":1,"attributes":[{}]}}]}}"#,
            attributes.join(",")
        )),
        r#"{"resourceMetrics":7}"#.to_owned(),
    ];
    let logs = [
        log(
            r#""timeUnixNano":"NOW","severityNumber":9,"attributes":[{"key":"mcp.method.name","value":{"stringValue":"ping"}}]"#,
        ),
        log(r#""severityNumber":9"#),
    ];
    for (name, signal, documents) in [("metrics", Signal::Metrics, &metrics[..]), ("logs", Signal::Logs, &logs[..])] {
        let said = crate::support::parts::python_answer("asyncapi.py", &[name], &documents.join("\n"));
        let valid: Vec<bool> = serde_json::from_str(&said).expect("asyncapi.py prints JSON");
        for (document, valid) in documents.iter().zip(valid) {
            let taken = decode(document.as_bytes(), Encoding::Json, signal, "test", Micros(NOW), 100);
            let taken = taken.is_ok_and(|decoded| decoded.rejected.is_empty() && !decoded.points.is_empty());
            assert_eq!(taken, valid, "{document}");
        }
    }
}
