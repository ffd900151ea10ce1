//! Derived topics on real brokers: any program reads what the engine made of the traffic, and knows a repeat by its id.

use std::collections::BTreeMap;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::gateway::{Gateway, Serve};
use crate::support::history::History;
use crate::support::kafka::{Kafka, topic_prefix};
use crate::support::load::Load;
use crate::support::parts::{HttpServer, python_answer};

/// Each table, the topic of its rows, and which of them are there.
const TABLES: [(&str, &str, &str); 7] = [
    ("sessions", "assessments", "score IS NOT NULL"),
    ("calls", "assessments", "score IS NOT NULL"),
    ("alerts", "alerts", "true"),
    ("features", "features", "true"),
    ("clusters", "clusters", "true"),
    ("tools", "tools", "true"),
    ("labels", "labels", "true"),
];

fn traffic(gateway: &Gateway, calls: u64) {
    Load::bounded(gateway.listen, "/mcp/demo", 2, calls).join();
    gateway.settle();
}

/// What is on the topics, by id. What is there more than once is the same each time.
fn on_topics(kafka: &Kafka, prefix: &str) -> (BTreeMap<String, Value>, usize) {
    let topics = ["assessments", "alerts", "features", "clusters", "tools", "labels"];
    let arguments = [&[kafka.servers(), prefix][..], &topics[..]].concat();
    let records: Vec<Value> =
        serde_json::from_str(&python_answer("kafka_results.py", &arguments, "")).expect("it prints JSON");
    let mut by_id: BTreeMap<String, Value> = BTreeMap::new();
    let count = records.len();
    for record in records {
        let id = record["id"].as_str().expect("an id").to_owned();
        let before = by_id.insert(id, record.clone());
        assert!(before.is_none_or(|before| before == record), "a repeat is another: {record}");
    }
    (by_id, count)
}

/// Every row of the history is on its topic, and nothing else is.
fn compare(history: &History, topics: &BTreeMap<String, Value>) {
    for (table, topic, which) in TABLES {
        let of_table: Vec<_> = topics.values().filter(|record| record["table"] == table).collect();
        assert!(of_table.iter().all(|record| record["topic"] == topic), "{table}");
        let ids = format!(
            "SELECT '{table}/' || tick || '/' || partition || '/' || ordinal AS id FROM {table} WHERE {which} ORDER BY id"
        );
        let rows = if history.has(table) { history.rows(&ids) } else { Vec::new() };
        let mut found: Vec<_> = of_table.iter().map(|record| record["id"].clone()).collect();
        found.sort_by_key(ToString::to_string);
        let mut rows: Vec<_> = rows.into_iter().map(|row| row["id"].clone()).collect();
        rows.sort_by_key(ToString::to_string);
        assert_eq!(found, rows, "{table}");
    }
}

#[test]
fn every_result_is_on_its_topic_whoever_is_killed() {
    let directory = TempDir::new().expect("a temporary directory");
    let data = directory.path().join("data");
    let (kafka, server, prefix) = (Kafka::shared(), HttpServer::demo(), topic_prefix("results"));
    let start = || {
        Serve::new(&data)
            .upstream("demo", &server.url())
            .setting("LOG__BACKEND", "kafka")
            .setting("KAFKA__BOOTSTRAP_SERVERS", kafka.servers())
            .setting("KAFKA__TOPIC_PREFIX", &prefix)
            .setting("ENGINE__CHECKPOINT_INTERVAL_S", "1")
            .setting("ENGINE__LATENESS_S", "1")
            .setting("ENGINE__CALL_TIMEOUT_S", "1")
            .start()
    };
    let gateway = start();
    traffic(&gateway, 40);
    traffic(&gateway, 20);
    gateway.kill();
    let gateway = start();
    traffic(&gateway, 20);
    let history = gateway.stop();
    let (topics, sent) = on_topics(&kafka, &prefix);
    assert!(sent >= topics.len() && topics.len() > 20, "{sent} records, {} results", topics.len());
    compare(&history, &topics);
    let assessed = topics.values().find(|record| record["table"] == "sessions").expect("an assessed session");
    let session = assessed["row"]["session_id"].as_str().expect("its id");
    assert_eq!(assessed["key"], session);
    let score =
        history.rows(&format!("SELECT score FROM sessions WHERE session_id = '{session}' AND score IS NOT NULL"));
    assert_eq!(score[0]["score"], assessed["row"]["score"], "the same row as in the history");
}
