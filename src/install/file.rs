//! A client's file on disk: read whole, replaced whole, with a copy of what it was before its first change.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use super::InstallError;

/// Added to the name of a file for the copy beside it.
const BACKUP: &str = ".before-undercurrent";

/// Some editors begin a file with it; no parser of JSON has to know it.
const BYTE_ORDER_MARK: char = '\u{feff}';

#[derive(Debug)]
pub(super) struct ConfigFile {
    /// Where it really is: behind links, which stay.
    path: PathBuf,
    content: String,
}

impl ConfigFile {
    /// `None`: there is no such file.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, InstallError> {
        let path = match path.canonicalize() {
            Ok(path) => path,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("find", path)(error)),
        };
        let bytes = fs::read(&path).map_err(failed("read", &path))?;
        let content = String::from_utf8(bytes).map_err(|_| InstallError::NotText { path: path.clone() })?;
        Ok(Some(Self { path, content }))
    }

    /// What is in it, without a byte order mark.
    pub(super) fn text(&self) -> &str {
        self.content.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&self.content)
    }

    /// A file beside this one, with this added to its name.
    pub(super) fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.path.file_name().map(OsString::from).unwrap_or_default();
        name.push(suffix);
        self.path.with_file_name(name)
    }

    pub(super) fn backup_path(&self) -> PathBuf {
        self.beside(BACKUP)
    }

    /// Puts `text` in its place, at once and with the same permissions.
    pub(super) fn replace(&self, text: &str) -> Result<(), InstallError> {
        self.back_up()?;
        let mark = if self.content.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.to_string() } else { String::new() };
        let unchanged = || fs::read(&self.path).is_ok_and(|now| now == self.content.as_bytes());
        if !unchanged() {
            return Err(InstallError::Changed { path: self.path.clone() });
        }
        self.write(&self.path, &(mark + text))
    }

    /// Writes a file beside this one (or this one), with this one's permissions.
    pub(super) fn write(&self, path: &Path, text: &str) -> Result<(), InstallError> {
        let attempt = || -> io::Result<()> {
            let directory = path.parent().ok_or(ErrorKind::NotFound)?;
            let mut new = tempfile::NamedTempFile::new_in(directory)?;
            new.write_all(text.as_bytes())?;
            new.as_file().set_permissions(fs::metadata(&self.path)?.permissions())?;
            new.as_file().sync_all()?;
            new.persist(path)?;
            Ok(())
        };
        attempt().map_err(failed("write", path))
    }

    /// The first copy is of what nobody of us had changed; a later one would hide it.
    fn back_up(&self) -> Result<(), InstallError> {
        let path = self.backup_path();
        let attempt = || -> io::Result<()> {
            let mut copy = match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(copy) => copy,
                Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(()),
                Err(error) => return Err(error),
            };
            // Before there is anything in it to read.
            copy.set_permissions(fs::metadata(&self.path)?.permissions())?;
            copy.write_all(self.content.as_bytes())?;
            copy.sync_all()
        };
        attempt().map_err(failed("copy to", &path))
    }
}

pub(super) fn failed(attempt: &'static str, path: &Path) -> impl FnOnce(io::Error) -> InstallError {
    let path = path.to_owned();
    move |source| InstallError::Io { attempt, path, source }
}
