//! `--record`: live traffic as frames that `replay` reads, payloads included, compressed with zstd.
//!
//! One line a message. A thread of its own writes; where it cannot keep up, frames are dropped and counted, never
//! the traffic. Not here: facts, decisions.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::value::RawValue;
use undercurrent_schemas::ids::Micros;
use undercurrent_schemas::v1::Direction;

use super::SessionRef;

/// Frames that may wait for the disk.
const FRAMES_WAITING: usize = 16_384;

/// Bytes are made visible at least this often, so that a killed process leaves a readable recording.
const FLUSH_EVERY: Duration = Duration::from_millis(500);

/// A recording that could not be begun or finished.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("record to {path}: {cause}; choose a new file in a directory that can be written")]
    Open { path: PathBuf, cause: io::Error },
    #[error("write the recording {path}: {cause}")]
    Write { path: PathBuf, cause: io::Error },
}

/// Takes frames; cheap to clone.
#[derive(Clone, Debug)]
pub struct Recorder {
    lines: Arc<Mutex<Option<SyncSender<Vec<u8>>>>>,
    dropped: Arc<AtomicU64>,
    path: Arc<Path>,
    thread: Arc<Mutex<Option<JoinHandle<io::Result<()>>>>>,
}

#[derive(serde::Serialize)]
struct Frame<'a> {
    ts_us: i64,
    session: &'a str,
    client: &'a str,
    server: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    dir: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frame: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    end: bool,
}

impl Recorder {
    /// Begins a recording in a new file.
    pub fn create(path: &Path) -> Result<Self, RecordError> {
        let open = |cause| RecordError::Open { path: path.to_owned(), cause };
        let file = File::create_new(path).map_err(open)?;
        let encoder = zstd::Encoder::new(file, 3).map_err(open)?;
        let (sender, receiver) = sync_channel(FRAMES_WAITING);
        let thread =
            std::thread::Builder::new().name("recorder".to_owned()).spawn(move || write(encoder, &receiver)).map_err(open)?;
        Ok(Self {
            lines: Arc::new(Mutex::new(Some(sender))),
            dropped: Arc::default(),
            path: path.into(),
            thread: Arc::new(Mutex::new(Some(thread))),
        })
    }

    /// One message. What is not JSON cannot be a frame: it is counted as dropped.
    pub(super) fn frame(&self, ts: Micros, public_id: &str, session: &SessionRef, dir: Direction, body: &[u8]) {
        let dir = if dir == Direction::ClientToServer { "c2s" } else { "s2c" };
        // A line feed in JSON stands only between tokens.
        let one_line: Vec<u8> = body.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }).collect();
        match serde_json::from_slice::<&RawValue>(&one_line) {
            Ok(frame) => self.line(&Frame {
                ts_us: ts.0,
                session: public_id,
                client: &session.principal,
                server: &session.server,
                dir: Some(dir),
                frame: Some(frame),
                end: false,
            }),
            Err(_) => self.drop_one(),
        }
    }

    /// The session ended.
    pub(super) fn end(&self, ts: Micros, public_id: &str, session: &SessionRef) {
        self.line(&Frame {
            ts_us: ts.0,
            session: public_id,
            client: &session.principal,
            server: &session.server,
            dir: None,
            frame: None,
            end: true,
        });
    }

    /// Frames that are not in the recording.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Writes what waits and ends the file.
    pub fn finish(&self) -> Result<(), RecordError> {
        drop(self.lines.lock().unwrap_or_else(PoisonError::into_inner).take());
        let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() else { return Ok(()) };
        let written = thread.join().unwrap_or_else(|_| Err(io::Error::other("the recorder's thread has died")));
        written.map_err(|cause| RecordError::Write { path: self.path.to_path_buf(), cause })
    }

    fn line(&self, frame: &Frame<'_>) {
        let Ok(mut line) = serde_json::to_vec(frame) else { return self.drop_one() };
        line.push(b'\n');
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        match lines.as_ref().map(|lines| lines.try_send(line)) {
            Some(Ok(())) => {}
            Some(Err(TrySendError::Full(_) | TrySendError::Disconnected(_))) | None => self.drop_one(),
        }
    }

    fn drop_one(&self) {
        if self.dropped.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::warn!(path = %self.path.display(), "the recording lacks frames: its disk is too slow, or they were not JSON");
        }
    }
}

fn write(mut encoder: zstd::Encoder<'_, File>, lines: &Receiver<Vec<u8>>) -> io::Result<()> {
    use std::sync::mpsc::RecvTimeoutError::{Disconnected, Timeout};
    let mut unflushed = false;
    loop {
        match lines.recv_timeout(FLUSH_EVERY) {
            Ok(line) => {
                encoder.write_all(&line)?;
                unflushed = true;
            }
            Err(Timeout) if unflushed => {
                encoder.flush()?;
                unflushed = false;
            }
            Err(Timeout) => {}
            Err(Disconnected) => return encoder.finish()?.sync_all(),
        }
    }
}

/// A message with its keys and types, and none of its values; empty where it is not JSON.
pub(super) fn redacted(body: &[u8]) -> Vec<u8> {
    use serde_json::Value;
    fn blank(value: &mut Value) {
        match value {
            Value::Object(members) => members.values_mut().for_each(blank),
            Value::Array(items) => items.iter_mut().for_each(blank),
            Value::String(text) => *text = String::new(),
            Value::Number(number) => *number = 0.into(),
            Value::Bool(_) | Value::Null => {}
        }
    }
    let Ok(mut value) = serde_json::from_slice::<Value>(body) else { return Vec::new() };
    blank(&mut value);
    serde_json::to_vec(&value).unwrap_or_default()
}
