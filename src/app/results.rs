//! Derived topics: what the engine made of each tick, sent by a thread of its own.
//!
//! A row's id is its table and its place, the same each time that its tick is learned. Not here: the rows (`pump`), the
//! brokers (`log`). Invariant: a checkpoint is written only once all results up to it are on the brokers, so the next start
//! sends again what may be missing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use arrow::array::RecordBatch;
use undercurrent_schemas::rows::Source;
use undercurrent_schemas::tables::{Table, alerts, calls, clusters, features, json, labels, sessions, tools};

use crate::history::TickRows;
use crate::log::{KafkaOptions, ResultRecord, ResultWriter};

/// Ticks whose results may wait; then the engine waits, and the log keeps what comes.
const TICKS_MAX: usize = 256;
/// Records that may be on their way; then no more ticks are taken.
const IN_FLIGHT_MAX: usize = 100_000;
/// How long results may take before a checkpoint is given up.
const SETTLE: Duration = Duration::from_secs(10);
/// How long the last results may take to leave at a stop.
const LAST: Duration = Duration::from_secs(5);
/// A look whether there is room again.
const LOOK: Duration = Duration::from_millis(5);

enum Order {
    Send(Box<TickRows>),
    /// Whether all before it is on the brokers.
    Settle(SyncSender<bool>),
    Stop,
}

/// The sending end; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct ResultsQueue {
    orders: SyncSender<Order>,
    topics: Arc<[&'static str]>,
}

/// Owner of the thread.
#[derive(Debug)]
pub(super) struct Results {
    queue: ResultsQueue,
    stopping: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Results {
    /// `None` where no topic is asked for.
    pub(super) fn start(options: &KafkaOptions) -> anyhow::Result<Option<Self>> {
        if options.derived_topics.is_empty() {
            return Ok(None);
        }
        let writer = ResultWriter::open(options)?;
        let (orders, waiting) = sync_channel(TICKS_MAX);
        let queue = ResultsQueue { orders, topics: options.derived_topics.clone().into() };
        let stopping = Arc::new(AtomicBool::new(false));
        let thread = {
            let (topics, stopping) = (Arc::clone(&queue.topics), Arc::clone(&stopping));
            let thread = std::thread::Builder::new().name("results".to_owned());
            thread.spawn(move || run(&waiting, &writer, &topics, &stopping))
        };
        let thread = thread.context("start the thread that sends results")?;
        Ok(Some(Self { queue, stopping, thread }))
    }

    pub(super) fn queue(&self) -> ResultsQueue {
        self.queue.clone()
    }

    /// From here on nothing waits for room: what comes is the last.
    pub(super) fn hurry(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Sends what is queued, and ends.
    pub(super) fn stop(self) {
        self.hurry();
        // Fails only where the thread has died, which is said next.
        let _ = self.queue.orders.send(Order::Stop);
        if self.thread.join().is_err() {
            tracing::error!("the thread that sends results has died; the next start sends them again");
        }
    }
}

impl ResultsQueue {
    /// Takes what others may read of a tick; waits while the queue is full.
    pub(super) fn send(&self, rows: &TickRows) {
        let has = |topic: &str| self.topics.contains(&topic);
        let assessed = has("assessments");
        let is_scored = |verdict: &undercurrent_schemas::v1::Verdict| verdict.assessment.is_some();
        let calls = rows.calls.iter().filter(|row| assessed && row.verdict.as_ref().is_some_and(is_scored));
        let sessions = rows.sessions.iter().filter(|row| assessed && row.assessment.is_some());
        let rows = TickRows {
            tick: rows.tick,
            calls: calls.cloned().collect(),
            sessions: sessions.cloned().collect(),
            alerts: if has("alerts") { rows.alerts.clone() } else { Vec::new() },
            features: if has("features") { rows.features.clone() } else { Vec::new() },
            clusters: if has("clusters") { rows.clusters.clone() } else { Vec::new() },
            tools: if has("tools") { rows.tools.clone() } else { Vec::new() },
            labels: if has("labels") { rows.labels.clone() } else { Vec::new() },
            ..TickRows::default()
        };
        if rows != (TickRows { tick: rows.tick, ..TickRows::default() }) {
            // A thread that has died is told at the stop, and no checkpoint is written until then.
            let _ = self.orders.send(Order::Send(Box::new(rows)));
        }
    }

    /// Whether all results that were queued before are on the brokers.
    pub(super) fn settle(&self) -> bool {
        let (done, answer) = sync_channel(1);
        self.orders.send(Order::Settle(done)).is_ok() && answer.recv().unwrap_or(false)
    }
}

fn run(waiting: &Receiver<Order>, writer: &ResultWriter, topics: &[&str], stopping: &AtomicBool) {
    let hurries = || stopping.load(Ordering::Acquire);
    while let Ok(order) = waiting.recv() {
        match order {
            Order::Send(rows) => {
                while writer.waiting() > IN_FLIGHT_MAX && !hurries() {
                    std::thread::sleep(LOOK);
                }
                send(writer, &rows);
            }
            Order::Settle(done) => {
                let _ = done.send(writer.settle(if hurries() { LAST } else { SETTLE }, || false));
            }
            Order::Stop => break,
        }
    }
    if !writer.settle(LAST, || false) {
        tracing::warn!(topics = topics.join(", "), "not all results were sent; the next start sends them again");
    }
}

/// Sends every row to its topic, under its id.
fn send(writer: &ResultWriter, rows: &TickRows) {
    let of = |topic: &str, table: Table, batch: &RecordBatch, places: Vec<(Source, &str)>| {
        for (row, (source, key)) in json::rows(batch).into_iter().zip(places) {
            let table = table.name();
            let id = format!("{table}/{}/{}/{}", source.tick, source.partition, source.ordinal);
            let json = row.to_string();
            writer.send(ResultRecord { topic, table, key, id: &id, json: json.as_bytes() });
        }
    };
    let places = rows.sessions.iter().map(|row| (row.source, &*row.session_id)).collect();
    of("assessments", Table::Sessions, &sessions::batch(&rows.sessions), places);
    let places = rows.calls.iter().map(|row| (row.source, &*row.session_id)).collect();
    of("assessments", Table::Calls, &calls::batch(&rows.calls), places);
    let places = rows.alerts.iter().map(|row| (row.source, row.alert_id.as_str())).collect();
    of("alerts", Table::Alerts, &alerts::batch(&rows.alerts), places);
    let places = rows.features.iter().map(|row| (row.source, &*row.entity)).collect();
    of("features", Table::Features, &features::batch(&rows.features), places);
    let places = rows.clusters.iter().map(|row| (row.source, row.cluster.as_str())).collect();
    of("clusters", Table::Clusters, &clusters::batch(&rows.clusters), places);
    let places = rows.tools.iter().map(|row| (row.source, row.tool.as_str())).collect();
    of("tools", Table::Tools, &tools::batch(&rows.tools), places);
    let places = rows.labels.iter().map(|row| (row.source, row.session_id.as_str())).collect();
    of("labels", Table::Labels, &labels::batch(&rows.labels), places);
}
