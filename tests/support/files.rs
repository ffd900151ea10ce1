//! Files and directories of a test.

use std::fs;
use std::path::Path;

/// A directory as it is now, with all that is in it but sockets.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("make a directory");
    for entry in fs::read_dir(from).expect("list a directory") {
        let entry = entry.expect("an entry");
        let kind = entry.file_type().expect("an entry has a type");
        let to = to.join(entry.file_name());
        if kind.is_dir() {
            copy(&entry.path(), &to);
        } else if kind.is_file() {
            fs::copy(entry.path(), to).expect("copy a file");
        }
    }
}
