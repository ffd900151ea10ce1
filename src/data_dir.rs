//! DATA: the directory that holds everything an installation knows, and who may read it.
//!
//! Any number of processes may open one DATA at the same moment: each file is made whole or not at all, and whoever
//! is second reads what the first made. Every process opens DATA here before it asks who owns it. Not here: the lock and
//! the socket of the owner (`hub`), and what lies in `log/`, `history/` and `state/`.

mod look;
mod private_file;
mod secrets;

use std::io;
use std::path::{Path, PathBuf};

use undercurrent_dataflows::facts::DigestKey;

pub use self::look::{DataState, look};
pub use self::secrets::AdminToken;

/// Layout of DATA that this program writes.
pub const LAYOUT: u32 = 1;

/// Why a directory cannot be used as DATA.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    #[error("{attempt} `{}`: {source}", path.display())]
    Io { attempt: &'static str, path: PathBuf, source: io::Error },
    #[error(
        "`{}` has layout {found}, this program knows up to {LAYOUT}: use a newer undercurrent, or another directory with \
         --data", path.display()
    )]
    TooNew { path: PathBuf, found: u32 },
    #[error(
        "`{}` is not a layout number: this is not a data directory of undercurrent, or it is damaged; name another with \
         --data", path.display()
    )]
    NotALayout { path: PathBuf },
    #[error("`{}` holds other files ({example}) and no VERSION: name an empty or new directory with --data", path.display())]
    NotOurs { path: PathBuf, example: String },
    #[error("`{}` is not in the form in which it was written: restore it from a backup, or remove it to make a new one", path.display())]
    Damaged { path: PathBuf },
    #[error("`{}` has a line that is not NAME=VALUE: write each variable on a line of its own", path.display())]
    NoLines { path: PathBuf },
    #[error("`{}` can be read by other users: make it private with `chmod 600`", path.display())]
    Exposed { path: PathBuf },
}

/// An opened DATA: it exists, has our layout, and its secrets are there.
#[derive(Debug)]
pub struct DataDir {
    root: PathBuf,
    /// The current key last.
    digest_keys: Vec<DigestKey>,
    admin_token: AdminToken,
}

impl DataDir {
    /// Opens DATA, making what is missing.
    pub fn open(root: &Path) -> Result<Self, DataDirError> {
        private_file::create_dir(root).map_err(failed("create data directory", root))?;
        let root = std::path::absolute(root).map_err(failed("find data directory", root))?;
        check_layout(&root)?;
        let dir = Self {
            digest_keys: secrets::digest_keys(&root.join("digest.key"))?,
            admin_token: secrets::admin_token(&root.join("admin.token"))?,
            root,
        };
        for sub in [dir.log_dir(), dir.history_dir(), dir.state_dir()] {
            private_file::create_dir(&sub).map_err(failed("create", &sub))?;
        }
        Ok(dir)
    }

    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    #[must_use]
    pub fn log_dir(&self) -> PathBuf {
        self.root.join("log")
    }

    /// Events that wait for the brokers of a log on Kafka.
    #[must_use]
    pub fn spill_dir(&self) -> PathBuf {
        self.root.join("spill")
    }

    /// Parquet, one directory per table.
    #[must_use]
    pub fn history_dir(&self) -> PathBuf {
        self.root.join("history")
    }

    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        self.root.join("state")
    }

    /// Where learning goes on at the next start.
    #[must_use]
    pub fn checkpoints_dir(&self) -> PathBuf {
        self.state_dir().join("checkpoints")
    }

    /// The key of new digests.
    #[must_use]
    pub fn digest_key(&self) -> &DigestKey {
        self.digest_keys.last().expect("a key file with no key is refused when it is read")
    }

    /// Every key that events of this DATA may name, the current one last.
    #[must_use]
    pub fn digest_keys(&self) -> &[DigestKey] {
        &self.digest_keys
    }

    /// Makes a new key of digests, for every process that opens DATA from now on; events may name the old ones.
    pub fn rotate_digest_key(self) -> Result<Self, DataDirError> {
        let path = self.root.join("digest.key");
        secrets::rotate_digest_key(&path)?;
        Ok(Self { digest_keys: secrets::digest_keys(&path)?, ..self })
    }

    #[must_use]
    pub fn admin_token(&self) -> &AdminToken {
        &self.admin_token
    }
}

/// The lines `NAME=VALUE` of a file of secrets: nobody but its owner may read it. Empty lines and those that begin with
/// `#` say nothing.
pub fn read_private_lines(path: &Path) -> Result<Vec<(String, String)>, DataDirError> {
    let text = private_file::read(path).map_err(failed("read", path))?;
    let text = text.ok_or_else(|| failed("read", path)(io::ErrorKind::NotFound.into()))?;
    if private_file::is_exposed(path).map_err(failed("read", path))? {
        return Err(DataDirError::Exposed { path: path.to_owned() });
    }
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let pair = |line: &str| line.split_once('=').map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()));
    lines.map(pair).collect::<Option<_>>().ok_or_else(|| DataDirError::NoLines { path: path.to_owned() })
}

/// Makes `VERSION`, or refuses what another layout or another program put here.
///
/// `VERSION` is the first file made, so a directory that is listed with files of ours has one by then.
fn check_layout(root: &Path) -> Result<(), DataDirError> {
    let example = example_file(root).map_err(failed("list data directory", root))?;
    let path = root.join("VERSION");
    let text = match private_file::read(&path).map_err(failed("read", &path))? {
        Some(text) => text,
        None => match example {
            Some(example) => return Err(DataDirError::NotOurs { path: root.to_owned(), example }),
            None => {
                private_file::read_or_create(&path, || Ok(format!("{LAYOUT}\n"))).map_err(failed("write", &path))?
            }
        },
    };
    layout_of(&text, root, &path)
}

/// Refuses what `VERSION` says unless it is ours.
fn layout_of(text: &str, root: &Path, version: &Path) -> Result<(), DataDirError> {
    match text.trim().parse::<u32>() {
        Ok(LAYOUT) => Ok(()),
        Ok(found) if found > LAYOUT => Err(DataDirError::TooNew { path: root.to_owned(), found }),
        Ok(_) | Err(_) => Err(DataDirError::NotALayout { path: version.to_owned() }),
    }
}

/// Some file that is already here; hidden ones (and our own unfinished ones) do not count.
fn example_file(root: &Path) -> io::Result<Option<String>> {
    for entry in std::fs::read_dir(root)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

fn failed(attempt: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DataDirError {
    let path = path.to_owned();
    move |source| DataDirError::Io { attempt, path, source }
}

#[cfg(test)]
mod tests;
