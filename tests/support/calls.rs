//! The calls that went over a wire, against the rows that became of them.

use std::collections::BTreeMap;

use serde_json::Value;

use super::history::History;

/// How often each (server, tool, JSON-RPC id) was called.
pub(crate) type Called = BTreeMap<(String, String, String), u64>;

/// Counts the `tools/call` requests among messages of a client of `server`, batches included.
pub(crate) fn called<'a>(server: &str, messages: impl IntoIterator<Item = &'a [u8]>) -> Called {
    let mut called = Called::new();
    for message in messages {
        let Ok(message) = serde_json::from_slice::<Value>(message) else { continue };
        let batch = message.as_array().cloned().unwrap_or_else(|| vec![message]);
        for request in batch.iter().filter(|request| request["method"] == "tools/call") {
            let tool = request["params"]["name"].as_str().expect("a call names its tool").to_owned();
            *called.entry((server.to_owned(), tool, id_text(&request["id"]))).or_default() += 1;
        }
    }
    called
}

/// As the history writes it: strings without their quotes.
fn id_text(id: &Value) -> String {
    id.as_str().map_or_else(|| id.to_string(), ToOwned::to_owned)
}

/// Asserts that `calls` holds exactly these, and that each row says what was decided.
#[track_caller]
pub(crate) fn assert_recorded(history: &History, expected: &Called) {
    let rows = history.rows("SELECT server, tool, jsonrpc_id, verdict, enforced, session_id FROM calls");
    let mut recorded = Called::new();
    for row in &rows {
        let text = |name: &str| row[name].as_str().unwrap_or_else(|| panic!("no {name}: {row}")).to_owned();
        assert_eq!(text("verdict"), "allow", "nothing is altered in observe mode: {row}");
        assert_eq!(row["enforced"], false, "{row}");
        assert!(!text("session_id").is_empty(), "{row}");
        *recorded.entry((text("server"), text("tool"), text("jsonrpc_id"))).or_default() += 1;
    }
    assert_eq!(&recorded, expected);
}

/// Adds one count to another.
pub(crate) fn merge(into: &mut Called, other: Called) {
    for (call, times) in other {
        *into.entry(call).or_default() += times;
    }
}
