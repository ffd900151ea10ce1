//! Reads recordings: frames of one or more files, merged by time (ties: file order, then line).

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::value::RawValue;
use undercurrent_schemas::ids::Micros;
use undercurrent_schemas::v1::label::Verdict;

/// Longest line of a recording.
const LINE_BYTES_MAX: u64 = 256 << 20;

/// The largest window that decoders accept by default.
const WINDOW_LOG_MAX: u32 = 27;

/// A recording that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("read the recording {path}: {cause}")]
    Io { path: PathBuf, cause: io::Error },
    #[error(
        "read line {line} of the recording {path}: {cause}; a frame is {{\"ts_us\", \"session\", \"client\", \"server\", \"dir\": \"c2s\"|\"s2c\", \"frame\"}} or {{…, \"end\": true}}"
    )]
    Line { path: PathBuf, line: u64, cause: String },
}

/// One line of a recording.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) ts: Micros,
    pub(super) session: String,
    pub(super) client: Arc<str>,
    pub(super) server: Arc<str>,
    pub(super) said: Said,
}

impl Frame {
    /// It may be a `tools/call`; says so of every one, and of few others.
    pub(super) fn may_be_call(&self) -> bool {
        match &self.said {
            Said::Client(message) => memchr::memmem::find(message, b"tools/call").is_some() || message.contains(&b'\\'),
            Said::Server(_) | Said::End | Said::Label(_) => false,
        }
    }
}

/// Who said what.
#[derive(Debug)]
pub(super) enum Said {
    Client(Vec<u8>),
    Server(Vec<u8>),
    /// The session ended here.
    End,
    /// Somebody said this about it.
    Label(Verdict),
}

#[derive(serde::Deserialize)]
struct RawFrame<'a> {
    ts_us: i64,
    session: String,
    client: &'a str,
    server: &'a str,
    dir: Option<&'a str>,
    #[serde(borrow)]
    frame: Option<&'a RawValue>,
    #[serde(default)]
    end: bool,
}

impl RawFrame<'_> {
    fn parse(self) -> Result<Frame, String> {
        let said = match (self.dir, self.frame, self.end) {
            (_, _, true) => Said::End,
            (Some("c2s"), Some(frame), false) => Said::Client(frame.get().as_bytes().to_vec()),
            (Some("s2c"), Some(frame), false) => Said::Server(frame.get().as_bytes().to_vec()),
            (Some("c2s" | "s2c"), None, false) => return Err("`frame` is missing".to_owned()),
            (dir, _, false) => return Err(format!("`dir` is {dir:?}")),
        };
        let (client, server) = (self.client.into(), self.server.into());
        Ok(Frame { ts: Micros(self.ts_us), session: self.session, client, server, said })
    }
}

/// All frames of all files, in order.
pub(super) struct Frames {
    files: Vec<Lines>,
    heads: Vec<Option<Frame>>,
    read: Arc<AtomicU64>,
}

impl Frames {
    pub(super) fn open(paths: &[PathBuf]) -> Result<Self, FrameError> {
        let read = Arc::new(AtomicU64::new(0));
        let mut files = paths.iter().map(|path| Lines::open(path, &read)).collect::<Result<Vec<_>, _>>()?;
        let heads = files.iter_mut().map(Lines::next).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { files, heads, read })
    }

    /// The earliest frame that is left.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        let first = self.heads.iter().enumerate().filter_map(|(file, head)| Some((head.as_ref()?.ts, file))).min();
        let Some((_, file)) = first else { return Ok(None) };
        let following = self.files[file].next()?;
        Ok(std::mem::replace(&mut self.heads[file], following))
    }

    /// Bytes read of all files, as they lie on the disk.
    pub(super) fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }
}

struct Lines {
    path: PathBuf,
    reader: Box<dyn BufRead + Send>,
    line: u64,
    buffer: Vec<u8>,
}

impl Lines {
    fn open(path: &Path, read: &Arc<AtomicU64>) -> Result<Self, FrameError> {
        let io = |cause| FrameError::Io { path: path.to_owned(), cause };
        let file = Counted { file: File::open(path).map_err(io)?, read: Arc::clone(read) };
        let reader: Box<dyn BufRead + Send> = if path.extension().is_some_and(|extension| extension == "zst") {
            let mut decoder = zstd::Decoder::new(file).map_err(io)?;
            decoder.window_log_max(WINDOW_LOG_MAX).map_err(io)?;
            Box::new(BufReader::new(decoder))
        } else {
            Box::new(BufReader::new(file))
        };
        Ok(Self { path: path.to_owned(), reader, line: 0, buffer: Vec::new() })
    }

    fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        loop {
            self.buffer.clear();
            self.line += 1;
            let read = (&mut self.reader).take(LINE_BYTES_MAX).read_until(b'\n', &mut self.buffer);
            match read {
                Ok(0) => return Ok(None),
                Ok(_) if self.buffer.iter().all(u8::is_ascii_whitespace) => {}
                Ok(_) => return self.parse().map(Some),
                // A recorder that was killed leaves its last block unfinished: what came before it counts.
                Err(cause) if cause.kind() == io::ErrorKind::UnexpectedEof => {
                    tracing::warn!(path = %self.path.display(), lines = self.line - 1, "the recording ends abruptly");
                    return Ok(None);
                }
                Err(cause) => return Err(FrameError::Io { path: self.path.clone(), cause }),
            }
        }
    }

    fn parse(&self) -> Result<Frame, FrameError> {
        let parsed = serde_json::from_slice::<RawFrame<'_>>(&self.buffer).map_err(|cause| cause.to_string());
        let line = self.line;
        parsed.and_then(RawFrame::parse).map_err(|cause| FrameError::Line { path: self.path.clone(), line, cause })
    }
}

/// Counts what is read of a file.
struct Counted {
    file: File,
    read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}
