//! Who owns DATA: whoever holds the lock on `DATA/undercurrent.lock`.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use super::HubError;

/// The outcome of asking for DATA.
#[derive(Debug)]
pub enum Claim {
    /// It is ours until the lock is dropped.
    Owner(OwnerLock),
    /// Another process has it.
    Member,
}

/// The right to write to DATA. The operating system takes it back when the process ends, however it ends.
#[derive(Debug)]
pub struct OwnerLock {
    data_dir: PathBuf,
    _file: File,
}

impl OwnerLock {
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }
}

/// Asks for DATA; never waits.
///
/// # Errors
/// The directory cannot be made, or its lock file not opened.
pub fn claim(data_dir: &Path) -> Result<Claim, HubError> {
    let path = data_dir.join("undercurrent.lock");
    let failed = |source| HubError::Lock { path: path.clone(), source };
    std::fs::create_dir_all(data_dir).map_err(failed)?;
    // Opened as it is: another process may hold it.
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(Claim::Owner(OwnerLock { data_dir: data_dir.to_owned(), _file: file })),
        Err(TryLockError::WouldBlock) => Ok(Claim::Member),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Whether a process has DATA at this moment; makes nothing.
#[must_use]
pub fn is_owned(data_dir: &Path) -> bool {
    let file = OpenOptions::new().read(true).write(true).open(data_dir.join("undercurrent.lock"));
    file.is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_owns_the_data_until_it_lets_go() {
        let dir = tempfile::tempdir().unwrap();
        let Claim::Owner(lock) = claim(dir.path()).unwrap() else { panic!("nobody else asked") };
        assert!(matches!(claim(dir.path()), Ok(Claim::Member)));
        assert!(is_owned(dir.path()));
        drop(lock);
        assert!(!is_owned(dir.path()));
        assert!(matches!(claim(dir.path()), Ok(Claim::Owner(_))));
    }
}
