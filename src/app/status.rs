//! What `/status` is told, and what the gauges show between two of an operator's looks.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use undercurrent_schemas::rows::EntityKind;

use super::node::{Role, lock};
use super::owner::Owner;
use crate::admin::{
    BusyTool, Check, HistoryStatus, ModelStatus, PartitionStatus, Status, StatusSource, UpstreamStatus,
};
use crate::data_dir::DataDir;
use crate::edge::Edge;
use crate::telemetry::Metrics;

/// How often the gauges are brought up to date.
const SAMPLE: Duration = Duration::from_millis(250);

/// The window of the tools that are shown, and how many are.
const MINUTE_US: i64 = 60_000_000;
const BUSIEST: usize = 10;

/// Answers for this process.
#[derive(Debug)]
pub(super) struct AppStatus {
    pub(super) started: Instant,
    pub(super) data: Arc<DataDir>,
    /// As the settings are now.
    pub(super) upstreams: ArcSwap<Vec<UpstreamStatus>>,
    pub(super) mcp_at: SocketAddr,
    pub(super) role: Arc<Mutex<Role>>,
    pub(super) metrics: Metrics,
    pub(super) edge: Edge,
}

impl StatusSource for AppStatus {
    fn status(&self) -> Status {
        let mut status = Status {
            version: env!("CARGO_PKG_VERSION"),
            uptime_s: self.started.elapsed().as_secs(),
            data_dir: self.data.root().display().to_string(),
            upstreams: self.upstreams.load().to_vec(),
            history: HistoryStatus { dir: self.data.history_dir().display().to_string(), covered_tick: None },
            ..Status::default()
        };
        match &*lock(&self.role) {
            Role::Owner(owner) => self.of_owner(owner, &mut status),
            // The owner's own /status has the rest.
            Role::Member => {}
            Role::Failed(reason) => status.health = Check::Failing { reason: reason.clone() },
        }
        status
    }
}

impl AppStatus {
    pub(super) fn set_upstreams(&self, upstreams: Vec<UpstreamStatus>) {
        self.upstreams.store(Arc::new(upstreams));
    }

    fn of_owner(&self, owner: &Owner, status: &mut Status) {
        let log = owner.log.status();
        let failing = log.error.clone().or_else(|| owner.failure());
        let failing = failing.or_else(|| (!owner.log.healthy()).then(|| "the log takes no events".to_owned()));
        status.health = failing.map_or(Check::Ok, |reason| Check::Failing { reason });
        if !owner.progress.is_recovered() {
            status.ready = Check::Failing { reason: "rebuilding what was learned from the log".to_owned() };
        }
        status.partitions = (0_u32..)
            .zip(log.ends.iter().zip(&log.bound))
            .map(|(partition, (end, bound))| PartitionStatus {
                partition,
                durable: end.0,
                bound: bound.0,
                learned: owner.progress.learned_end(partition as usize),
            })
            .collect();
        status.queued_events = (log.queued_events + self.edge.unread()) as u64;
        status.watermark_us = owner.progress.watermark().map(|watermark| watermark.0);
        status.lag_ticks = owner.progress.lag().0;
        status.history.covered_tick = owner.progress.covered().map(|tick| tick.0);
        status.model = owner.models().load().as_ref().map(|model| ModelStatus {
            version: model.version().0,
            age_ms: self.metrics.engine.model_age().map_or(0, |age| age.as_millis() as u64),
        });
        (status.learned, status.recent_flagged) = owner.progress.totals();
        status.open_alerts = owner.progress.open_alerts();
        let busiest = owner.cache.busiest(EntityKind::Tool, MINUTE_US, BUSIEST);
        status.busiest_tools = busiest
            .into_iter()
            .map(|(tool, features)| BusyTool {
                tool: tool.name.to_string(),
                calls: features.calls,
                errors: features.errors,
            })
            .collect();
    }

    /// Keeps the gauges that nobody pushes up to date.
    pub(super) async fn sample(self: Arc<Self>) {
        let mut interval = tokio::time::interval(SAMPLE);
        let (mut dropped, mut was_failing, mut covered) = (0, false, None);
        loop {
            interval.tick().await;
            let Role::Owner(owner) = &*lock(&self.role) else { continue };
            let log = owner.log.status();
            self.metrics.log.queue_events.set(log.queued_events as i64);
            self.metrics.log.queue_bytes.set(log.queued_bytes as i64);
            self.metrics.log.events_dropped.inc_by(log.dropped_events.saturating_sub(dropped));
            dropped = dropped.max(log.dropped_events);
            let (ticks, events) = owner.progress.lag();
            self.metrics.engine.lag_ticks.set(ticks as i64);
            self.metrics.engine.lag_events.set(events as i64);
            if ticks == 0 {
                self.metrics.engine.frontier_age.clear();
            } else {
                self.metrics.engine.frontier_age.start_if_clear();
            }
            let (waiting, failing) = owner.history_state();
            self.metrics.history.queue_ticks.set(waiting as i64);
            self.metrics.history.errors.inc_by(u64::from(failing && !was_failing));
            was_failing = failing;
            owner.count_history(&self.metrics.history);
            if let Some(tick) = owner.progress.covered().filter(|tick| Some(*tick) != covered) {
                self.metrics.history.covered(tick);
                self.metrics.history.rolls.inc();
                covered = Some(tick);
            }
        }
    }
}
