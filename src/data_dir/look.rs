//! A look at DATA that changes nothing: what is there, and whether it could be used.

use std::fs;
use std::path::{Path, PathBuf};

use super::{DataDirError, LAYOUT, example_file, failed, layout_of, private_file, secrets};

/// Files that are counted at most when a size is asked for.
const FILES_MAX: usize = 100_000;

/// What stands at a place that was named as DATA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataState {
    /// `None`: it is made at the first start.
    pub layout: Option<u32>,
    /// Files can be made in it, or, while it is not there, where it would be made.
    pub writable: bool,
    pub log_bytes: u64,
    pub history_bytes: u64,
}

/// Looks at a directory, and refuses it for the reasons for which opening it would.
pub fn look(root: &Path) -> Result<DataState, DataDirError> {
    let root = std::path::absolute(root).map_err(failed("find data directory", root))?;
    let there = root.try_exists().map_err(failed("look at data directory", &root))?;
    let mut state = DataState { layout: None, writable: false, log_bytes: 0, history_bytes: 0 };
    state.writable = tempfile::tempfile_in(nearest(&root)).is_ok();
    if !there {
        return Ok(state);
    }
    let version = root.join("VERSION");
    match private_file::read(&version).map_err(failed("read", &version))? {
        Some(text) => {
            layout_of(&text, &root, &version)?;
            state.layout = Some(LAYOUT);
        }
        None => {
            if let Some(example) = example_file(&root).map_err(failed("list data directory", &root))? {
                return Err(DataDirError::NotOurs { path: root, example });
            }
        }
    }
    // Where the files are there, reading them makes nothing.
    let (keys, token) = (root.join("digest.key"), root.join("admin.token"));
    if keys.exists() {
        secrets::digest_keys(&keys)?;
    }
    if token.exists() {
        secrets::admin_token(&token)?;
    }
    let mut files = FILES_MAX;
    state.log_bytes = bytes_below(&root.join("log"), &mut files);
    state.history_bytes = bytes_below(&root.join("history"), &mut files);
    Ok(state)
}

/// The directory, or the nearest one above it that is there.
fn nearest(root: &Path) -> PathBuf {
    root.ancestors().find(|path| path.exists()).unwrap_or(root).to_owned()
}

/// What cannot be read, or comes after the limit, does not count.
fn bytes_below(directory: &Path, files: &mut usize) -> u64 {
    let Ok(entries) = fs::read_dir(directory) else { return 0 };
    let mut bytes = 0;
    for entry in entries.flatten() {
        if *files == 0 {
            return bytes;
        }
        *files -= 1;
        match entry.metadata() {
            Ok(found) if found.is_dir() => bytes += bytes_below(&entry.path(), files),
            Ok(found) => bytes += found.len(),
            Err(_) => {}
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data_dir::DataDir;

    #[test]
    fn a_look_makes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("deep/data");
        let state = look(&root).unwrap();
        assert_eq!((state.layout, state.writable), (None, true));
        assert!(!dir.path().join("deep").exists());
    }

    #[test]
    fn what_is_ours_is_known_and_what_is_not_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("data");
        drop(DataDir::open(&root).unwrap());
        fs::write(root.join("log/x"), "12345").unwrap();
        let state = look(&root).unwrap();
        assert_eq!((state.layout, state.writable, state.log_bytes), (Some(LAYOUT), true, 5));
        fs::write(root.join("VERSION"), "999").unwrap();
        assert!(matches!(look(&root), Err(DataDirError::TooNew { found: 999, .. })));
        fs::remove_file(root.join("VERSION")).unwrap();
        assert!(matches!(look(&root), Err(DataDirError::NotOurs { .. })));
    }
}
