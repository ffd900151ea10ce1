//! Where the processes of one DATA meet. The place follows from DATA alone: every process finds the same one, whatever
//! its environment says.

use std::path::{Path, PathBuf};

use undercurrent_schemas::ids::stable_hash;

use super::{DataDirError, failed};

/// Longest path of a socket: 104 bytes with the final NUL on macOS, 108 on Linux.
#[cfg(unix)]
const SOCKET_PATH_BYTES_MAX: usize = 103;

/// Two spellings of one DATA have one digest.
fn digest(root: &Path) -> Result<u64, DataDirError> {
    let canonical = root.canonicalize().map_err(failed("resolve data directory", root))?;
    Ok(stable_hash(&[canonical.as_os_str().as_encoded_bytes()]))
}

#[cfg(windows)]
pub(super) fn path(root: &Path) -> Result<PathBuf, DataDirError> {
    Ok(PathBuf::from(format!(r"\\.\pipe\undercurrent-{:016x}", digest(root)?)))
}

#[cfg(unix)]
pub(super) fn path(root: &Path) -> Result<PathBuf, DataDirError> {
    let beside = root.join("undercurrent.sock");
    if beside.as_os_str().len() <= SOCKET_PATH_BYTES_MAX {
        return Ok(beside);
    }
    Ok(runtime_dir(root)?.join(format!("{:016x}.sock", digest(root)?)))
}

/// A directory with a short path that belongs to the user of DATA alone: `/run/user/UID`, else one of our own in
/// `/tmp`, which is refused if someone else made it.
#[cfg(unix)]
fn runtime_dir(root: &Path) -> Result<PathBuf, DataDirError> {
    use std::os::unix::fs::MetadataExt;
    let owner = root.metadata().map_err(failed("read owner of", root))?.uid();
    let ours = |dir: &Path| {
        let found = dir.symlink_metadata();
        found.is_ok_and(|found| found.is_dir() && found.uid() == owner && found.mode() & 0o077 == 0)
    };
    let session = PathBuf::from(format!("/run/user/{owner}"));
    if ours(&session) {
        return Ok(session);
    }
    let own = PathBuf::from(format!("/tmp/undercurrent-{owner}"));
    super::private_file::create_dir(&own).map_err(failed("create", &own))?;
    if ours(&own) { Ok(own) } else { Err(DataDirError::Exposed { path: own }) }
}
