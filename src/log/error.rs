//! What can go wrong with a log, in words that say what to do.

use std::path::{Path, PathBuf};

use undercurrent_schemas::ids::{Offset, Partition, Tick};

use super::journal::journals;

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("open log {}; another process may hold it, or the directory is not writable", path.display())]
    Open { path: PathBuf, source: fjall::Error },

    #[error("recover log: {} is damaged before its end; restore it from a backup, or move {} away to start anew \
             (what was learned from it is lost)", file.display(), path.display())]
    Damaged { file: PathBuf, path: PathBuf, source: Option<fjall::Error> },

    #[error("read journals of log {}", path.display())]
    Journal { path: PathBuf, source: std::io::Error },

    #[error("log {} has {stored} partitions, asked for {asked}: set log.partitions = {stored}, or use another \
             data directory", path.display())]
    Partitions { path: PathBuf, stored: u32, asked: u32 },

    #[error("draw a gateway id")]
    Random(#[source] getrandom::Error),

    #[error("commit tick {tick} to {}; free space on its file system or repair it", path.display())]
    Write { path: PathBuf, tick: Tick, source: fjall::Error },

    #[error("read log {}", path.display())]
    Read { path: PathBuf, source: fjall::Error },

    #[error("record at partition {partition}, offset {offset}, tick {tick} in {}: {what}; restore the log from a \
             backup, or move it away to start anew", path.display())]
    Corrupt { path: PathBuf, partition: Partition, offset: Offset, tick: Tick, what: &'static str },

    #[error("binding of tick {tick} in {}: {what}; restore the log from a backup, or move it away to start anew",
            path.display())]
    Binding { path: PathBuf, tick: Tick, what: &'static str },

    #[error("commit tick {asked} after tick {last}: ticks must grow")]
    TickNotGrown { last: Tick, asked: Tick },

    #[error("commit tick {0} by hand: this log commits by itself")]
    NotManual(Tick),

    #[error("close log: {events} events could not be committed")]
    Uncommitted { events: usize },

    #[error(transparent)]
    Kafka(#[from] super::kafka::KafkaLogError),

    #[error("start the committer thread")]
    Thread(#[source] std::io::Error),
}

impl LogError {
    /// An open that failed: damage is told apart from a lock or a missing right.
    pub(super) fn opening(path: &Path, source: fjall::Error) -> Self {
        match source {
            fjall::Error::JournalRecovery(_)
            | fjall::Error::InvalidTrailer
            | fjall::Error::InvalidTag(_)
            | fjall::Error::Decompress(_)
            | fjall::Error::Unrecoverable
            | fjall::Error::Storage(_) => {
                Self::Damaged { file: newest_journal(path), path: path.to_owned(), source: Some(source) }
            }
            _ => Self::Open { path: path.to_owned(), source },
        }
    }
}

/// The journal that is written at present; the directory itself where there is none.
pub(super) fn newest_journal(path: &Path) -> PathBuf {
    journals(path).pop().unwrap_or_else(|| path.to_owned())
}
