//! Every metric that the project names itself, with its help text: dashboards and alerts rest on these.

/// Name and help of a metric.
#[derive(Clone, Copy, Debug)]
pub struct Name(pub &'static str, pub &'static str);

pub const DECISION_DURATION: Name =
    Name("undercurrent_decision_duration_seconds", "Time from the facts of a call to its verdict.");
pub const DECISIONS: Name = Name("undercurrent_decisions_total", "Calls by what was decided about them.");
pub const EVENTS: Name = Name("undercurrent_events_total", "Events that the edge made, by kind.");
pub const EDGE_SESSIONS: Name = Name("undercurrent_edge_sessions", "Sessions that the edge remembers.");
pub const EDGE_UNREAD_BYTES: Name =
    Name("undercurrent_edge_unread_bytes", "Messages that were relayed and are yet to be read, in bytes.");
pub const EDGE_UNREAD_FULL: Name = Name(
    "undercurrent_edge_unread_full_total",
    "Messages that found too much unread before them, so that their connection helped to read.",
);
pub const PROVENANCE_BYTES: Name =
    Name("undercurrent_provenance_bytes", "Memory held by values of earlier results, all sessions together.");
pub const PROVENANCE_EVICTIONS: Name = Name(
    "undercurrent_provenance_evictions_total",
    "Sessions whose remembered values were forgotten because memory was short.",
);

pub const LOG_QUEUE_EVENTS: Name = Name("undercurrent_log_queue_events", "Events that wait for the log.");
pub const LOG_QUEUE_BYTES: Name = Name("undercurrent_log_queue_bytes", "Bytes of the events that wait for the log.");
pub const LOG_EVENTS_DROPPED: Name = Name(
    "undercurrent_log_events_dropped_total",
    "Events lost because the queue to the log was full; gap records say where.",
);
pub const LOG_DURABLE_LAG: Name =
    Name("undercurrent_log_durable_lag_seconds", "Age of the oldest event that is not durable yet; 0 = none waits.");
pub const LOG_COMMITS: Name = Name("undercurrent_log_commits_total", "Group commits.");
pub const LOG_COMMIT_ERRORS: Name = Name("undercurrent_log_commit_errors_total", "Group commits that failed.");
pub const LOG_COMMIT_DURATION: Name = Name("undercurrent_log_commit_duration_seconds", "Time of a group commit.");
pub const LOG_BYTES: Name = Name("undercurrent_log_bytes", "What the log takes on its disk.");
pub const LOG_FIRST_TICK: Name =
    Name("undercurrent_log_first_tick", "First tick that the log still holds; 0 = the log is whole.");

pub const FRONTIER_AGE: Name = Name(
    "undercurrent_engine_frontier_age_seconds",
    "Time since the engine last closed a tick while ticks wait; 0 = none waits.",
);
pub const ENGINE_LAG_TICKS: Name = Name("undercurrent_engine_lag_ticks", "Durable ticks that are not published yet.");
pub const ENGINE_LAG_EVENTS: Name =
    Name("undercurrent_engine_lag_events", "Durable events whose tick is not published yet.");
pub const TICK_DURATION: Name =
    Name("undercurrent_engine_tick_duration_seconds", "Time from reading a tick to publishing it.");
pub const MODEL_VERSION: Name = Name("undercurrent_model_version", "Version of the live model; 0 = none is live.");
pub const MODEL_AGE: Name =
    Name("undercurrent_model_age_seconds", "Time since the live model was published; NaN = none is live.");
pub const SESSIONS_OPEN: Name = Name("undercurrent_sessions_open", "Sessions that have not ended.");
pub const SESSIONS_SCORED: Name = Name("undercurrent_sessions_scored_total", "Sessions that ended and were scored.");
pub const SESSIONS_FLAGGED: Name = Name("undercurrent_sessions_flagged_total", "Scored sessions that were flagged.");
pub const SESSIONS_TAUGHT: Name = Name("undercurrent_sessions_taught_total", "Sessions that joined the baselines.");
pub const SESSIONS_QUARANTINED: Name = Name(
    "undercurrent_sessions_quarantined_total",
    "Sessions with calls that the learning gate lets teach little, or nothing.",
);
pub const CALLS: Name = Name("undercurrent_calls_total", "Calls that were settled, answered or not.");
pub const CALLS_UNANSWERED: Name = Name("undercurrent_calls_unanswered_total", "Calls that got no answer in time.");
pub const PREDICTIONS: Name = Name(
    "undercurrent_predictions_total",
    "What was expected and then came, by what it was about (next tool, latency, failure, calls a minute) and how right it \
     was.",
);
pub const ALERTS: Name = Name("undercurrent_alerts_total", "Alerts that were opened, by kind.");
pub const ALERTS_OPEN: Name = Name("undercurrent_alerts_open", "Alerts that are not resolved.");
pub const EVENTS_LATE: Name =
    Name("undercurrent_events_late_total", "Events that came after the watermark had passed them.");
pub const EVENTS_DUPLICATE: Name = Name("undercurrent_events_duplicate_total", "Events dropped as seen before.");
pub const RECORDS_CORRUPT: Name =
    Name("undercurrent_records_corrupt_total", "Records of the log that could not be decoded.");
pub const CHECKPOINT_PAUSE: Name = Name(
    "undercurrent_checkpoint_pause_seconds",
    "Longest time for which a worker drew a checkpoint and did nothing else.",
);
pub const CHECKPOINT_DURATION: Name =
    Name("undercurrent_checkpoint_duration_seconds", "Time of writing a checkpoint, beside learning.");
pub const CHECKPOINT_BYTES: Name = Name("undercurrent_checkpoint_bytes", "Size of the newest checkpoint.");
pub const CHECKPOINT_ERRORS: Name = Name("undercurrent_checkpoint_errors_total", "Checkpoints that were not written.");
pub const CHECKPOINT_AGE: Name =
    Name("undercurrent_checkpoint_age_seconds", "Time since a checkpoint was written; NaN = none was in this life.");

pub const TELEMETRY_POINTS: Name =
    Name("undercurrent_telemetry_points_total", "Points that were reported from outside.");
pub const TELEMETRY_BEYOND: Name = Name(
    "undercurrent_telemetry_points_beyond_total",
    "Reported points that are in the table alone, because there are too many series.",
);
pub const DEAD_LETTERS: Name = Name(
    "undercurrent_dead_letters_total",
    "Records from outside that could not be taken; table dead_letters says why.",
);

pub const KAFKA_DELIVERED: Name = Name("undercurrent_kafka_delivered_total", "Events that the Kafka brokers took.");
pub const KAFKA_DELIVERY_DURATION: Name = Name(
    "undercurrent_kafka_delivery_duration_seconds",
    "Of the oldest of events that the brokers confirmed together: from the queue to the confirmation.",
);
pub const KAFKA_SPILLED: Name =
    Name("undercurrent_kafka_spilled_total", "Events that went to DATA because the brokers did not take them in time.");
pub const KAFKA_SPILL_EVENTS: Name =
    Name("undercurrent_kafka_spill_events", "Events that wait in DATA for the brokers.");
pub const KAFKA_SPILL_BYTES: Name = Name("undercurrent_kafka_spill_bytes", "Bytes of the events that wait in DATA.");
pub const KAFKA_LAG_RECORDS: Name =
    Name("undercurrent_kafka_lag_records", "Records of topic `events` that are in no tick yet.");
pub const KAFKA_BIND_DURATION: Name =
    Name("undercurrent_kafka_bind_duration_seconds", "From a tick's last record to its binding's confirmation.");

pub const HISTORY_QUEUE_TICKS: Name = Name("undercurrent_history_queue_ticks", "Ticks that wait to be written.");
pub const HISTORY_ROWS: Name = Name("undercurrent_history_rows_total", "Rows handed to the writer, by table.");
pub const HISTORY_ROLLS: Name = Name("undercurrent_history_rolls_total", "Files closed and made visible.");
pub const HISTORY_ERRORS: Name = Name("undercurrent_history_errors_total", "Writes that failed.");
pub const HISTORY_COVERED_TICK: Name =
    Name("undercurrent_history_covered_tick", "Last tick whose rows are all visible in files.");

pub const HISTORY_MERGED: Name =
    Name("undercurrent_history_merged_files_total", "Small files that became a part of a larger one.");
pub const HISTORY_EXPIRED: Name =
    Name("undercurrent_history_expired_files_total", "Files removed because they were older, or more, than is kept.");
pub const HISTORY_REPLACED: Name =
    Name("undercurrent_history_replaced_files", "Replaced files that stay for those who still read them.");
pub const HISTORY_KEEPING_ERRORS: Name =
    Name("undercurrent_history_keeping_errors_total", "Merges and removals that failed.");
pub const HISTORY_STORE_FILES: Name =
    Name("undercurrent_history_store_files_total", "Files brought to the store of `history.url`.");
pub const HISTORY_STORE_BYTES: Name =
    Name("undercurrent_history_store_bytes_total", "Bytes brought to the store of `history.url`.");
pub const HISTORY_STORE_WAITING: Name =
    Name("undercurrent_history_store_waiting_bytes", "Bytes that wait for the store of `history.url`.");
pub const HISTORY_STORE_ERRORS: Name =
    Name("undercurrent_history_store_errors_total", "Tries to bring something to the store that failed.");

pub const CONFIG_RELOADS: Name = Name("undercurrent_config_reloads_total", "Settings read again, by outcome.");
pub const CONFIG_CURRENT: Name =
    Name("undercurrent_config_current", "1 = the settings in use are those of the files; 0 = the last were refused.");

pub const HOLDS_OPEN: Name = Name("undercurrent_holds_open", "Calls that wait for a person's answer.");
pub const HOLDS_ENDED: Name = Name("undercurrent_holds_ended_total", "Held calls, by how the wait ended.");

pub const ACCESS_LOG_LINES: Name = Name("undercurrent_access_log_lines_total", "Lines written to the access log.");
pub const ACCESS_LOG_DROPPED: Name = Name(
    "undercurrent_access_log_dropped_total",
    "Lines that the access log lost, because its queue was full or its file could not be written.",
);
pub const SPANS_EXPORTED: Name = Name("undercurrent_spans_exported_total", "Spans that a collector took.");
pub const SPANS_DROPPED: Name = Name(
    "undercurrent_spans_dropped_total",
    "Spans lost because their queue was full or the collector did not take them.",
);
