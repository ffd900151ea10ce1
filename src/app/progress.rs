//! How far learning is: what `/status` and the metrics say of the engine.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::{broadcast, watch};
use undercurrent_dataflows::graph::TickOutput;
use undercurrent_schemas::ids::{Micros, Offset, Tick};
use undercurrent_schemas::log::CommittedTick;
use undercurrent_schemas::rows::{AlertRow, AlertState, LabelRow, SessionRow};
use undercurrent_schemas::v1::TermKind;

use crate::admin::{FlaggedSession, Learned, OpenAlert};
use crate::log::Recovered;

/// Outcomes of labels that may wait for whoever asked.
const LABELS: usize = 256;

/// Flagged sessions remembered for the console.
const FLAGGED: usize = 20;

/// Open alerts remembered for the console.
const ALERTS: usize = 20;

/// Written by the engine's threads, read by anyone.
#[derive(Debug)]
pub(super) struct Progress {
    /// Of each partition: the first offset whose tick is not published.
    learned_ends: Vec<AtomicU64>,
    fed_ticks: AtomicU64,
    fed_events: AtomicU64,
    learned_ticks: AtomicU64,
    learned_events: AtomicU64,
    /// What was in the log at the start.
    recovered: Recovered,
    covered: watch::Receiver<Option<Tick>>,
    told: Mutex<Told>,
    labelled: broadcast::Sender<LabelRow>,
}

#[derive(Debug, Default)]
struct Told {
    last: Option<Tick>,
    watermark: Option<Micros>,
    totals: Learned,
    flagged: VecDeque<FlaggedSession>,
    alerts: VecDeque<OpenAlert>,
}

impl Progress {
    pub(super) fn new(partitions: u32, recovered: Recovered, covered: watch::Receiver<Option<Tick>>) -> Self {
        Self {
            learned_ends: (0..partitions).map(|_| AtomicU64::new(0)).collect(),
            fed_ticks: AtomicU64::new(0),
            fed_events: AtomicU64::new(0),
            learned_ticks: AtomicU64::new(0),
            learned_events: AtomicU64::new(0),
            recovered,
            covered,
            told: Mutex::default(),
            labelled: broadcast::channel(LABELS).0,
        }
    }

    /// Learning goes on after the checkpoint of a tick with which the partitions ended here.
    pub(super) fn resumed(&self, at: &CommittedTick, ends: &[Offset]) {
        for (learned, end) in self.learned_ends.iter().zip(ends) {
            learned.store(end.0, Ordering::Relaxed);
        }
        self.fed(at);
    }

    /// A tick was read from the log.
    pub(super) fn fed(&self, tick: &CommittedTick) {
        self.fed_ticks.fetch_add(1, Ordering::Relaxed);
        self.fed_events.fetch_add(tick.records() as u64, Ordering::Relaxed);
    }

    /// A tick's results are live.
    pub(super) fn learned(&self, tick: &CommittedTick, output: &TickOutput) {
        for batch in &tick.batches {
            if let Some(end) = self.learned_ends.get(batch.partition.0 as usize) {
                end.store(batch.first_offset.0 + batch.records.len() as u64, Ordering::Relaxed);
            }
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.last = Some(output.tick);
        told.watermark = Some(output.watermark);
        told.totals.calls += output.counters.calls;
        told.totals.sessions_open = output.open_sessions as u64;
        told.totals.sessions_scored += output.counters.scored;
        told.totals.sessions_flagged += output.counters.flagged;
        told.totals.sessions_taught += output.counters.taught;
        told.totals.sessions_quarantined += output.counters.quarantined;
        for session in output.sessions.iter().filter_map(flagged) {
            told.flagged.push_front(session);
        }
        told.flagged.truncate(FLAGGED);
        output.alerts.iter().for_each(|row| told.alert(row));
        drop(told);
        for label in &output.labels {
            // Mostly nobody waits.
            let _ = self.labelled.send(label.clone());
        }
        self.learned_ticks.fetch_add(1, Ordering::Relaxed);
        self.learned_events.fetch_add(tick.records() as u64, Ordering::Relaxed);
    }

    /// What becomes of labels from now on.
    pub(super) fn labelled(&self) -> broadcast::Receiver<LabelRow> {
        self.labelled.subscribe()
    }

    /// Everything that was in the log at the start is in the live model. A log that cannot be asked keeps nobody waiting.
    pub(super) fn is_recovered(&self) -> bool {
        !self.recovered.is_known()
            || self.recovered.is_reached(self.told.lock().unwrap_or_else(PoisonError::into_inner).last)
    }

    /// Ticks and events that were read and are not published.
    pub(super) fn lag(&self) -> (u64, u64) {
        let behind = |fed: &AtomicU64, learned: &AtomicU64| {
            let learned = learned.load(Ordering::Relaxed);
            fed.load(Ordering::Relaxed).saturating_sub(learned)
        };
        (behind(&self.fed_ticks, &self.learned_ticks), behind(&self.fed_events, &self.learned_events))
    }

    pub(super) fn learned_end(&self, partition: usize) -> u64 {
        self.learned_ends.get(partition).map_or(0, |end| end.load(Ordering::Relaxed))
    }

    pub(super) fn watermark(&self) -> Option<Micros> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).watermark
    }

    /// Changes when [`Self::covered`] does.
    pub(super) fn coverage(&self) -> watch::Receiver<Option<Tick>> {
        self.covered.clone()
    }

    /// The last tick whose rows are all in files.
    pub(super) fn covered(&self) -> Option<Tick> {
        *self.covered.borrow()
    }

    /// Alerts that are open, newest first.
    pub(super) fn open_alerts(&self) -> Vec<OpenAlert> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).alerts.iter().cloned().collect()
    }

    pub(super) fn totals(&self) -> (Learned, Vec<FlaggedSession>) {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        (told.totals, told.flagged.iter().cloned().collect())
    }
}

impl Told {
    /// A step in the life of an alert: what is resolved is shown no longer.
    fn alert(&mut self, row: &AlertRow) {
        self.alerts.retain(|open| open.alert_id != row.alert_id);
        if row.state == AlertState::Resolved {
            return;
        }
        self.alerts.push_front(OpenAlert {
            alert_id: row.alert_id.clone(),
            kind: row.kind.as_str(),
            server: row.server.clone(),
            subject: row.subject.clone(),
            opened_at_us: row.opened_at.0,
            times: row.times,
            text: row.text.clone(),
        });
        self.alerts.truncate(ALERTS);
    }
}

fn flagged(row: &SessionRow) -> Option<FlaggedSession> {
    let assessment = row.assessment.as_ref().filter(|_| row.flagged == Some(true))?;
    Some(FlaggedSession {
        session_id: row.session_id.to_string(),
        part: row.part,
        server: row.server.to_string(),
        ended_at_us: row.ended_at.0,
        score: assessment.score,
        p_value: assessment.p_value,
        reasons: assessment
            .reasons
            .iter()
            .filter(|reason| reason.kind() != TermKind::Other)
            .map(|reason| reason.text.clone())
            .collect(),
    })
}
