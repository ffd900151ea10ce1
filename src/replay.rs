//! `replay`: recorded traffic through the same code as live traffic, as fast as it can.
//!
//! Frames enter at the edge and at `EventLog::append`; each tick is committed, learned and live before the next one's
//! frames are assessed, so the result depends on the files alone. An interrupted replay goes on where its log ends.
//! Not here: what is learned; how files are written.

mod frames;
mod labels;
mod marker;
mod summary;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::watch;
use undercurrent_dataflows::clusters::ClusterSettings;
use undercurrent_dataflows::facts::{DigestKey, Limits};
use undercurrent_dataflows::graph::{GraphSettings, TickOutput, WindowSettings};
use undercurrent_dataflows::model::Publisher;
use undercurrent_dataflows::sessions::Settings;
use undercurrent_schemas::ids::{Micros, Sequence, Tick};
use undercurrent_schemas::log::CommittedTick;
use undercurrent_schemas::v1;

pub use frames::FrameError;
pub use labels::LabelError;
pub use marker::MarkerError;
pub use summary::Summary;

use crate::clock::EventClock;
use crate::config::Payload;
use crate::edge::{Edge, EdgeSettings, Saying, SessionKey, SessionRef, Transport};
use crate::engine::{Engine, EngineError};
use crate::history::{History, HistoryError, HistoryOptions, HistoryWriter, Retries, TickRows};
use crate::log::{EmbeddedLog, EventLog, LogError, LogFull, LogOptions, Tail};
use crate::policy::Policy;
use crate::pump::{REPLAY_TICK_US, rows_of};
use crate::telemetry::EdgeMetrics;
use frames::{Frame, Frames, Said};
use labels::Labels;
use marker::Marker;

/// Ticks whose rows may wait for the disk.
const HISTORY_TICKS: usize = 1024;

/// How often, in recorded time, the edge forgets idle sessions.
const SWEEP_US: i64 = 60_000_000;

/// What to replay, and where to.
#[derive(Clone, Debug)]
pub struct ReplayOptions {
    pub inputs: Vec<PathBuf>,
    /// What is said about sessions, and when.
    pub labels: Option<PathBuf>,
    pub history: PathBuf,
    pub workers: usize,
    pub partitions: u32,
    pub sessions: Settings,
    pub windows: WindowSettings,
    pub clusters: ClusterSettings,
    pub limits: Limits,
    pub provenance_bytes_max: usize,
    pub policy: Policy,
    /// The tables that are asked for.
    pub tables: Tables,
}

/// Which tables a replay fills.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tables {
    #[default]
    All,
    /// `features` alone: calls are paired and counted; nothing is scored, and nothing learned.
    Features,
}

impl Tables {
    /// Frames that are read, at least, before a tick is closed. Without models nothing is scored by those of the tick
    /// before, so ticks may be long: the sums of the rows' diffs are the same, corrections within a tick are not told.
    const fn frames_min(self) -> usize {
        match self {
            Self::All => 1,
            Self::Features => 2_048,
        }
    }

    /// The rows of a tick, as far as they were asked for.
    fn rows(self, tick: &CommittedTick, output: TickOutput) -> TickRows {
        match self {
            Self::All => rows_of(tick, output),
            Self::Features => rows_of(
                &CommittedTick { tick: tick.tick, watermark: tick.watermark, batches: Vec::new() },
                TickOutput {
                    tick: output.tick,
                    watermark: output.watermark,
                    features: output.features,
                    ..TickOutput::default()
                },
            ),
        }
    }
}

/// Why a replay stopped.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error(transparent)]
    Frames(#[from] FrameError),
    #[error(transparent)]
    Labels(#[from] LabelError),
    #[error(transparent)]
    Marker(#[from] MarkerError),
    #[error("replay into {0}: the directory is not empty and holds no replay; choose a new directory")]
    Foreign(PathBuf),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    History(#[from] HistoryError),
    #[error(
        "resume at tick {log} where the recording has tick {recording}: these are not the frames that the replay began \
         with; replay into a new directory"
    )]
    Diverged { log: Tick, recording: Tick },
    #[error("register metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// Replays; returns what came of it. `progress`: draw a bar on the terminal.
pub fn replay(options: &ReplayOptions, progress: bool) -> Result<Summary, ReplayError> {
    let all: Vec<_> = options.inputs.iter().chain(&options.labels).cloned().collect();
    let inputs = marker::Inputs::of(&all, options.partitions, options.tables)?;
    let mut marker = Marker::claim(&options.history, &inputs)?;
    if let Some(summary) = marker.finished() {
        return Ok(summary.clone());
    }
    let mut run = Run::start(options, &marker)?;
    let bar = bar(&inputs, progress);
    let mut frames = Frames::open(&options.inputs)?;
    let mut group: Vec<Frame> = Vec::new();
    let mut labels = options.labels.as_deref().map(Labels::read).transpose()?.unwrap_or_default();
    let (mut tick, mut watermark) = (Tick(0), Micros(i64::MIN));
    let mut head = frames.next()?;
    while let Some(frame) = next(&mut head, &mut frames, &mut labels)? {
        let at = Tick(tick.0.max(u64::try_from(frame.ts.0 / REPLAY_TICK_US).unwrap_or(0)));
        if at != tick && group.len() >= options.tables.frames_min() {
            run.tick(tick, watermark, &mut group)?;
            bar.set_position(frames.bytes_read());
        }
        tick = at;
        watermark = watermark.max(frame.ts);
        group.push(frame);
    }
    if !group.is_empty() {
        run.tick(tick, watermark, &mut group)?;
    }
    // The end of the recording ends everything that is still open in it.
    run.tick(Tick(tick.0 + 1), Micros(i64::MAX), &mut group)?;
    let summary = run.finish()?;
    bar.finish_and_clear();
    marker.finish(&summary)?;
    Ok(summary)
}

/// The next frame or label: a label is said before what the recording has at that instant, or after its end.
fn next(head: &mut Option<Frame>, frames: &mut Frames, labels: &mut Labels) -> Result<Option<Frame>, ReplayError> {
    let due = head.as_ref().map_or(Micros(i64::MAX), |frame| frame.ts);
    match labels.until(due) {
        Some(label) => Ok(Some(label)),
        None if head.is_none() => Ok(None),
        None => Ok(std::mem::replace(head, frames.next()?)),
    }
}

fn bar(inputs: &marker::Inputs, progress: bool) -> ProgressBar {
    let bar = if progress { ProgressBar::new(inputs.bytes()) } else { ProgressBar::hidden() };
    let style = ProgressStyle::with_template("{bar:40} {percent}% of {binary_total_bytes} read, {eta} left");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// A replay under way. A tick's calls are assessed when the tick before is live; everything else need not wait.
struct Run {
    log: Arc<Numbered>,
    tail: Tail,
    /// Ticks up to here are in the log: an earlier, interrupted run put them there.
    resumed: Option<Tick>,
    edge: Edge,
    engine: Engine,
    /// The last tick that the engine was given and that nobody has waited for.
    fed: Option<Tick>,
    tables: Tables,
    history: HistoryWriter,
    summary: Arc<Mutex<Summary>>,
    swept: Micros,
}

impl Run {
    fn start(options: &ReplayOptions, marker: &Marker) -> Result<Self, ReplayError> {
        let history = History::open(&options.history, HistoryOptions::replay())?;
        marker.begin()?;
        let log = Arc::new(EmbeddedLog::open(
            &options.history.join("log"),
            LogOptions { partitions: options.partitions, ..LogOptions::replay() },
        )?);
        let resumed = log.status().last_tick;
        let tail = log.tail(None);
        let log = Arc::new(Numbered { log, sequence: AtomicU64::new(0), resuming: resumed.is_some().into() });
        let history = HistoryWriter::spawn(history, HISTORY_TICKS, Retries::default())?;
        let summary = Arc::new(Mutex::new(Summary::default()));
        let (publisher, slot) = Publisher::new();
        let (queue, told) = (history.queue(), Arc::clone(&summary));
        let tables = options.tables;
        let learns = tables == Tables::All;
        let settings = GraphSettings {
            partitions: options.partitions,
            sessions: Settings { learns, ..options.sessions },
            windows: options.windows.clone(),
            clusters: options.clusters,
        };
        let engine = Engine::start(
            options.workers,
            settings,
            slot.clone(),
            publisher,
            Vec::new(),
            move |tick, output, _took| {
                told.lock().unwrap_or_else(PoisonError::into_inner).add(&output);
                // The history that has stopped says why at the end.
                let _ = queue.send(tables.rows(&tick, output));
            },
        )?;
        let edge = Edge::new(
            EdgeSettings {
                tenant: "default".into(),
                key: DigestKey::REPLAY,
                limits: Limits { looks_inside: learns, ..options.limits },
                provenance_bytes_max: options.provenance_bytes_max,
                sessions_max: usize::MAX,
                session_idle: Duration::from_micros(options.sessions.timing.session_idle_us.unsigned_abs()),
                payload: Payload::None,
                left_out: options.sessions.left_out,
            },
            options.policy.clone(),
            Arc::clone(&log) as Arc<dyn EventLog>,
            slot,
            Arc::new(EventClock::default()),
            Arc::new(EdgeMetrics::register(&prometheus::Registry::new())?),
            None,
        );
        Ok(Self { log, tail, resumed, edge, engine, fed: None, tables, history, summary, swept: Micros(0) })
    }

    /// Takes the frames of one tick through edge, log and engine; the engine may still be at it when this returns.
    fn tick(&mut self, tick: Tick, watermark: Micros, frames: &mut Vec<Frame>) -> Result<(), ReplayError> {
        let resumes = self.resumed.is_some_and(|resumed| tick <= resumed);
        self.log.resuming.store(resumes, Ordering::Relaxed);
        for frame in frames.drain(..) {
            if self.tables == Tables::All && frame.may_be_call() {
                // It is assessed by the model of the tick before, whatever the engine's pace.
                self.learn_what_was_fed()?;
            }
            self.observe(&frame);
        }
        if !resumes {
            self.log.log.commit(tick, watermark)?;
        }
        let committed = self.tail.next(Duration::ZERO)?;
        let committed = committed.ok_or(ReplayError::Diverged { log: Tick(0), recording: tick })?;
        if committed.tick != tick {
            return Err(ReplayError::Diverged { log: committed.tick, recording: tick });
        }
        self.engine.feed(&committed)?;
        self.fed = Some(tick);
        if watermark.0.saturating_sub(self.swept.0) > SWEEP_US && watermark.0 != i64::MAX {
            self.swept = watermark;
            self.edge.sweep_at(watermark);
        }
        Ok(())
    }

    fn learn_what_was_fed(&mut self) -> Result<(), ReplayError> {
        self.fed.take().map_or(Ok(()), |fed| Ok(self.engine.wait_for(fed)?))
    }

    fn observe(&self, frame: &Frame) {
        if let Said::Label(verdict) = frame.said {
            // A full queue is counted by the log, as with every event.
            let _ = self.edge.say_at(&frame.session, Saying::Label(verdict), frame.ts);
            return;
        }
        let session = self.edge.session_at(
            &SessionRef {
                server: Arc::clone(&frame.server),
                key: SessionKey::Recorded(frame.session.clone()),
                principal: Arc::clone(&frame.client),
                transport: Transport::Tcp,
            },
            frame.ts,
        );
        match &frame.said {
            Said::Client(message) => drop(session.client_message_at(message, frame.ts)),
            Said::Server(message) => drop(session.server_message_at(message, frame.ts)),
            Said::End => session.end_at(frame.ts),
            Said::Label(_) => {}
        }
    }

    fn finish(self) -> Result<Summary, ReplayError> {
        self.engine.stop()?;
        self.history.finish()?;
        self.log.log.close()?;
        let summary = std::mem::take(&mut *self.summary.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(summary)
    }
}

/// The log of a replay: its events are numbered by their place in the recording, whichever run appends them.
#[derive(Debug)]
struct Numbered {
    log: Arc<EmbeddedLog>,
    sequence: AtomicU64,
    /// The log has these events: count them and drop them.
    resuming: std::sync::atomic::AtomicBool,
}

impl EventLog for Numbered {
    fn append(&self, mut event: v1::Event) -> Result<Sequence, LogFull> {
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed) + 1;
        if self.resuming.load(Ordering::Relaxed) {
            return Ok(Sequence(sequence));
        }
        event.id = Some(v1::EventId { gateway: 1, epoch: 1, sequence });
        self.log.append(event)
    }

    fn durable(&self) -> watch::Receiver<Sequence> {
        self.log.durable()
    }
}
