//! What is held against each other: rows of two histories, and checkpoints against the log.

use std::path::Path;

use undercurrent_schemas::tables::Table;

use crate::support::command::Words;
use crate::support::history::History;
use crate::support::parts::undercurrent;
use crate::support::process::Process;
use crate::support::raw::read_all;

/// Settings of every life: windows and pauses are short, so that much happens.
pub(super) const SETTINGS: [(&str, &str); 9] = [
    ("ENGINE__CHECKPOINT_INTERVAL_S", "1"),
    ("ENGINE__SESSION_IDLE_S", "1"),
    ("ENGINE__LATENESS_S", "0"),
    ("ENGINE__CALL_TIMEOUT_S", "3"),
    ("ENGINE__CLUSTER_SESSIONS_MIN", "1"),
    ("HISTORY__ROLL_SECONDS", "1"),
    ("HISTORY__COMPACT_AFTER_S", "1"),
    ("LOG__RETENTION_BYTES", "0"),
    ("SNAPSHOT__INTERVAL_MS", "500"),
];

/// The first tick of the newest life in the log: what is before it is the same in every copy. Records stand there once.
#[track_caller]
pub(super) fn first_of_last_life(history: &History) -> u64 {
    let sql = "SELECT min(tick) FILTER (epoch = newest) AS first, \
                      count(*) - count(DISTINCT (partition, \"offset\")) AS doubles \
               FROM messages, (SELECT max(epoch) AS newest FROM messages)";
    let rows = history.rows(sql);
    assert_eq!(rows[0]["doubles"].as_u64(), Some(0), "a record stands in the history once");
    rows[0]["first"].as_u64().expect("a life has records")
}

/// Of every table how many rows there are before a tick, and a hash of them that does not depend on their order.
#[track_caller]
pub(super) fn digests(history: &History, before: u64) -> Vec<String> {
    let of = |table: &Table| {
        let name = table.name();
        history.has(name).then(|| {
            format!(
                "SELECT '{name}' AS name, count(*) AS rows, sum(hash(row)::HUGEINT)::VARCHAR AS hash \
                 FROM {name} row WHERE tick < {before} HAVING rows > 0"
            )
        })
    };
    let parts: Vec<_> = Table::ALL.iter().filter_map(of).collect();
    if parts.is_empty() {
        return Vec::new();
    }
    let rows = history.rows(&format!("{} ORDER BY 1", parts.join(" UNION ALL ")));
    rows.iter().map(ToString::to_string).collect()
}

/// The newest checkpoint is the one that the log gives.
#[track_caller]
pub(super) fn verify(data: &Path) {
    let mut command = Words::new(undercurrent()).and_all(["state", "verify", "--data"]).and(data).command();
    command.envs(SETTINGS.map(|(key, value)| (format!("UNDERCURRENT__{key}"), value)));
    command.stdout(std::process::Stdio::piped());
    let mut process = Process::start("undercurrent state verify", command);
    let said = read_all(process.take_stdout());
    let status = process.wait();
    let said = said.join().expect("the reader does not panic");
    assert!(status.success(), "{said}{}", process.stderr());
}
