//! The access log: a JSON line for each exchange, in a file or on standard error.
//!
//! Whoever rotates the file moves it away and sends SIGHUP: it is then opened anew. Lines that find the queue full, or
//! a disk that refuses them, are dropped and counted.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use jiff::Timestamp;
use serde::Serialize;
use undercurrent_schemas::v1;

use super::Exchange;
use crate::config::{self, AccessLogTarget};
use crate::telemetry::ObserverMetrics;

/// Lines that are written at once, at most.
const BATCH_MAX: usize = 1024;

#[derive(Debug, thiserror::Error)]
pub enum AccessLogError {
    #[error("open access log `{}`: {source}; name a file that can be written in access_log.file", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("start the access log's thread")]
    Thread(#[source] io::Error),
}

#[derive(Debug)]
pub(super) struct AccessLog {
    queue: SyncSender<Entry>,
    metrics: Arc<ObserverMetrics>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
enum Entry {
    Line(Arc<Exchange>),
    Reopen,
    Stop,
}

impl AccessLog {
    pub(super) fn start(settings: &config::AccessLog, metrics: Arc<ObserverMetrics>) -> Result<Self, AccessLogError> {
        let (queue, entries) = sync_channel(settings.queue_lines_max);
        let writer = Writer::open(settings.target.clone(), Arc::clone(&metrics))?;
        let thread = std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || writer.run(&entries))
            .map_err(AccessLogError::Thread)?;
        Ok(Self { queue, metrics, thread: Mutex::new(Some(thread)) })
    }

    /// Never waits.
    pub(super) fn send(&self, exchange: Arc<Exchange>) {
        match self.queue.try_send(Entry::Line(exchange)) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => self.metrics.lines_dropped_queue_full.inc(),
        }
    }

    pub(super) fn reopen(&self) {
        // A thread that is gone has nothing to open.
        let _ = self.queue.send(Entry::Reopen);
    }

    pub(super) fn finish(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = self.queue.send(Entry::Stop);
            // It has said why, if it did not end well.
            let _ = thread.join();
        }
    }
}

struct Writer {
    target: AccessLogTarget,
    out: Out,
    metrics: Arc<ObserverMetrics>,
    /// The last write failed.
    failing: bool,
}

enum Out {
    StandardError,
    File(File),
}

impl Writer {
    fn open(target: AccessLogTarget, metrics: Arc<ObserverMetrics>) -> Result<Self, AccessLogError> {
        let out = open(&target)?;
        Ok(Self { target, out, metrics, failing: false })
    }

    fn run(mut self, entries: &Receiver<Entry>) {
        let mut buffer = Vec::new();
        while let Ok(first) = entries.recv() {
            let mut lines = 0;
            let mut next = Some(first);
            let mut after = None;
            while let Some(entry) = next.take() {
                match entry {
                    Entry::Line(exchange) => {
                        push(&mut buffer, &exchange);
                        lines += 1;
                    }
                    control @ (Entry::Reopen | Entry::Stop) => {
                        after = Some(control);
                        break;
                    }
                }
                if lines < BATCH_MAX {
                    next = entries.try_recv().ok();
                }
            }
            self.write(&mut buffer, lines as u64);
            match after {
                Some(Entry::Reopen) => self.reopen(),
                Some(Entry::Stop) => return,
                Some(Entry::Line(_)) | None => {}
            }
        }
    }

    fn write(&mut self, buffer: &mut Vec<u8>, lines: u64) {
        if lines == 0 {
            return;
        }
        if self.failing {
            // The last write may have left half a line.
            buffer.insert(0, b'\n');
        }
        let written = match &mut self.out {
            Out::StandardError => io::stderr().lock().write_all(buffer),
            Out::File(file) => file.write_all(buffer),
        };
        buffer.clear();
        match written {
            Ok(()) => {
                self.metrics.lines.inc_by(lines);
                if std::mem::take(&mut self.failing) {
                    tracing::info!("the access log can be written again");
                }
            }
            Err(error) => {
                self.metrics.lines_dropped_write_failed.inc_by(lines);
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!(%error, "write the access log; lines are dropped and counted until it works");
                }
            }
        }
    }

    fn reopen(&mut self) {
        match open(&self.target) {
            Ok(out) => {
                self.out = out;
                self.failing = false;
            }
            Err(error) => tracing::error!(%error, "the access log goes on in the file that was open"),
        }
    }
}

fn open(target: &AccessLogTarget) -> Result<Out, AccessLogError> {
    match target {
        AccessLogTarget::StandardError => Ok(Out::StandardError),
        AccessLogTarget::File(path) => {
            append(path).map(Out::File).map_err(|source| AccessLogError::Open { path: path.clone(), source })
        }
    }
}

/// Names of clients and tools are for this user alone.
fn append(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// The line. Its fields are a contract with operators' tools: extend, don't rename.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    server: &'a str,
    principal: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    http_method: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<&'a str>,
    outcome: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    duration_us: u64,
    bytes_in: u64,
    bytes_out: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
}

fn push(buffer: &mut Vec<u8>, exchange: &Exchange) {
    let time = Timestamp::from_microsecond(exchange.started.0).unwrap_or_default();
    let trace = exchange.trace.map(|trace| trace.trace).or(exchange.parent.map(|parent| parent.trace));
    let line = Line {
        time: format!("{time:.6}"),
        server: &exchange.server,
        principal: &exchange.principal,
        session: exchange.session.as_deref(),
        http_method: &exchange.http_method,
        method: exchange.method.as_deref(),
        target: exchange.target.as_deref(),
        outcome: exchange.outcome,
        error: exchange.error,
        status: exchange.status,
        duration_us: u64::try_from(exchange.duration.as_micros()).unwrap_or(u64::MAX),
        bytes_in: exchange.bytes_in,
        bytes_out: exchange.bytes_out,
        verdict: exchange.verdict.and_then(verdict),
        trace_id: trace.map(|trace| trace.to_string()),
    };
    serde_json::to_writer(&mut *buffer, &line).expect("texts and numbers are always JSON");
    buffer.push(b'\n');
}

/// As `policy` names it.
pub(super) const fn verdict(decision: v1::Decision) -> Option<&'static str> {
    match decision {
        v1::Decision::Unspecified => None,
        v1::Decision::Allow => Some("allow"),
        v1::Decision::Flag => Some("flag"),
        v1::Decision::Delay => Some("delay"),
        v1::Decision::Hold => Some("hold"),
        v1::Decision::Block => Some("block"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::exchange::tests::called;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn settings(path: &Path, queue_lines_max: usize) -> config::AccessLog {
        config::AccessLog { target: AccessLogTarget::File(path.to_owned()), queue_lines_max }
    }

    fn metrics() -> Arc<ObserverMetrics> {
        Arc::new(ObserverMetrics::register(&prometheus::Registry::new()).unwrap())
    }

    #[test]
    fn a_line_says_who_what_and_how_it_ended() {
        let mut line = Vec::new();
        push(&mut line, &called(PARENT));
        insta::assert_snapshot!(String::from_utf8(line).unwrap());
    }

    #[test]
    fn a_rotated_file_is_followed_by_a_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let (path, rotated) = (dir.path().join("access.log"), dir.path().join("access.log.1"));
        let metrics = metrics();
        let log = AccessLog::start(&settings(&path, 8), Arc::clone(&metrics)).unwrap();
        log.send(Arc::new(called(PARENT)));
        std::fs::rename(&path, &rotated).unwrap();
        log.reopen();
        log.send(Arc::new(called(PARENT)));
        log.send(Arc::new(called(PARENT)));
        log.finish();
        let lines = |path: &Path| std::fs::read_to_string(path).unwrap().lines().count();
        assert_eq!((lines(&rotated), lines(&path)), (1, 2));
        assert_eq!(metrics.lines.get(), 3);
    }

    #[test]
    fn what_finds_no_place_or_no_disk_is_counted() {
        let metrics = metrics();
        let (queue, _entries) = sync_channel(1);
        let log = AccessLog { queue, metrics: Arc::clone(&metrics), thread: Mutex::default() };
        log.send(Arc::new(called(PARENT)));
        log.send(Arc::new(called(PARENT)));
        assert_eq!(metrics.lines_dropped_queue_full.get(), 1);
        if cfg!(target_os = "linux") {
            let log = AccessLog::start(&settings(Path::new("/dev/full"), 8), Arc::clone(&metrics)).unwrap();
            log.send(Arc::new(called(PARENT)));
            log.finish();
            assert_eq!(metrics.lines_dropped_write_failed.get(), 1);
        }
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_named() {
        let error = AccessLog::start(&settings(Path::new("/nowhere/at/all"), 8), metrics()).unwrap_err().to_string();
        assert!(error.starts_with("open access log `/nowhere/at/all`"), "{error}");
    }
}
