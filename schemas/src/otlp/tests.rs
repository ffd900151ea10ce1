//! What producers send, and what is made of it.

use prost::Message as _;

use super::*;
use crate::v1::PointKind;

const NOW: Micros = Micros(1_772_438_404_000_000);

fn check(json: &str, signal: Signal) -> Result<Decoded, Unreadable> {
    let json = json.replace("NOW", &(NOW.0 * 1000).to_string());
    decode(json.as_bytes(), Encoding::of(json.as_bytes()), signal, "otlp", NOW, 100)
}

#[test]
fn metrics_become_points_of_their_server() {
    let decoded = check(
        r#"{"resourceMetrics":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"files"}}]},
        "scopeMetrics":[{"metrics":[
          {"name":"system.cpu.utilization","unit":"1","gauge":{"dataPoints":[
            {"timeUnixNano":"NOW","asDouble":0.25,"attributes":[{"key":"cpu","value":{"intValue":"3"}}]}]}},
          {"name":"requests","sum":{"aggregationTemporality":2,"isMonotonic":true,"dataPoints":[
            {"timeUnixNano":"NOW","asInt":"7"}]}},
          {"name":"mcp.server.operation.duration","unit":"s","histogram":{"aggregationTemporality":1,"dataPoints":[
            {"timeUnixNano":"NOW","count":"4","sum":0.5,"bucketCounts":["4"],"explicitBounds":[],
             "attributes":[{"key":"mcp.server.name","value":{"stringValue":"mail"}}]}]}}]}]}]}"#,
        Signal::Metrics,
    )
    .unwrap();
    assert_eq!(decoded.rejected, [""; 0]);
    let [(files, cpu), (_, requests), (mail, duration)] = &decoded.points[..] else { panic!("{decoded:?}") };
    assert_eq!((files.as_str(), mail.as_str()), ("files", "mail"));
    assert_eq!((cpu.value, cpu.kind(), cpu.ts_us, cpu.unit.as_str()), (Some(0.25), PointKind::Gauge, NOW.0, "1"));
    assert_eq!(
        cpu.attributes.iter().map(|a| (a.key.as_str(), a.value.as_str())).collect::<Vec<_>>(),
        [("cpu", "3"), ("service.name", "files")]
    );
    assert_eq!((requests.value, requests.cumulative), (Some(7.0), true));
    assert_eq!((duration.value, duration.count, duration.sum, duration.cumulative), (None, 4, 0.5, false));
}

#[test]
fn logs_become_points_without_their_text() {
    let decoded = check(
        r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"NOW","severityNumber":17,
          "body":{"stringValue":"password is hunter2"},"attributes":[
          {"key":"mcp.method.name","value":{"stringValue":"tools/call"}},
          {"key":"error.type","value":{"stringValue":"timeout"}}]}]}]}]}"#,
        Signal::Logs,
    )
    .unwrap();
    let (server, point) = &decoded.points[0];
    assert_eq!((server.as_str(), point.name.as_str(), point.severity), ("", "log", 17));
    assert!(!format!("{decoded:?}").contains("hunter2"));
}

#[test]
fn what_is_no_point_is_rejected_with_its_reason() {
    let point = |fields: &str| {
        let json = format!(
            r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"name":"m","gauge":{{"dataPoints":[{{{fields}}}]}}}}]}}]}}]}}"#
        );
        let decoded = check(&json, Signal::Metrics).unwrap();
        assert!(decoded.points.is_empty(), "{decoded:?}");
        decoded.rejected[0].clone()
    };
    assert!(point(r#""asDouble":1"#).contains("time"));
    assert!(point(r#""timeUnixNano":"1","asDouble":1"#).contains("time"));
    assert!(point(r#""timeUnixNano":"NOW""#).contains("no value"));
    // The text that stands for it in JSON is no number to the types of OTLP.
    assert!(point(r#""timeUnixNano":"NOW","asDouble":"NaN""#).contains("no value"));
    let many: Vec<_> = (0..33).map(|n| format!(r#"{{"key":"k{n}","value":{{"stringValue":""}}}}"#)).collect();
    assert!(
        point(&format!(r#""timeUnixNano":"NOW","asDouble":1,"attributes":[{}]"#, many.join(",")))
            .contains("attributes")
    );
}

#[test]
fn what_is_not_otlp_is_unreadable() {
    assert!(matches!(check("{\"resourceMetrics\": 7}", Signal::Metrics), Err(Unreadable::Malformed("JSON", _))));
    assert!(matches!(check("\u{7}nonsense", Signal::Metrics), Err(Unreadable::Malformed("protobuf", _))));
    let points = vec![r#"{"timeUnixNano":"NOW","asInt":"1"}"#; 101].join(",");
    let json = format!(
        r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"name":"m","gauge":{{"dataPoints":[{points}]}}}}]}}]}}]}}"#
    );
    assert_eq!(check(&json, Signal::Metrics), Err(Unreadable::TooMany { found: 101, most: 100 }));
}

#[test]
fn protobuf_says_the_same_as_json() {
    use opentelemetry_proto::tonic::metrics::v1::MetricsData;
    let json = format!(
        r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"name":"m","gauge":{{"dataPoints":[
        {{"timeUnixNano":"{}","asDouble":1.5}}]}}}}]}}]}}]}}"#,
        NOW.0 * 1000
    );
    let data: MetricsData = serde_json::from_str(&json).unwrap();
    let bytes = data.encode_to_vec();
    assert_eq!(Encoding::of(&bytes), Encoding::Protobuf);
    let decoded = decode(&bytes, Encoding::Protobuf, Signal::Metrics, "otlp", NOW, 100).unwrap();
    assert_eq!(decoded, check(&json, Signal::Metrics).unwrap());
    assert_eq!(decoded.points.len(), 1);
}
