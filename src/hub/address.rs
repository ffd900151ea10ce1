//! Where the owner listens: `DATA/undercurrent.sock`; on Windows a named pipe with a digest of DATA in its name.
//!
//! The address of a Unix socket has about a hundred bytes. Where DATA is longer, the socket is in a directory of its
//! own in the runtime directory, which only its owner may enter, and the digest of DATA is in its name.
//! Invariant: whoever can reach the socket can write to DATA anyway.

use std::path::{Path, PathBuf};

use interprocess::local_socket::tokio::prelude::*;
use interprocess::local_socket::tokio::{Listener, Stream};
use interprocess::local_socket::{ListenerOptions, Name};
use undercurrent_schemas::ids::stable_hash;

use super::{HubError, OwnerLock};

/// Shorter than `sun_path` anywhere.
const PATH_BYTES_MAX: usize = 100;

/// The address of the owner of one DATA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    Path(PathBuf),
    Pipe(String),
}

impl Address {
    /// The same for every process that names the same directory.
    pub(super) fn of(data_dir: &Path) -> Self {
        let data_dir = data_dir.canonicalize().unwrap_or_else(|_| data_dir.to_owned());
        let digest = format!("undercurrent-{:016x}", stable_hash(&[data_dir.as_os_str().as_encoded_bytes()]));
        if cfg!(windows) {
            return Self::Pipe(digest);
        }
        let beside = data_dir.join("undercurrent.sock");
        if beside.as_os_str().len() <= PATH_BYTES_MAX {
            return Self::Path(beside);
        }
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        Self::Path(runtime.join(digest).join("sock"))
    }

    /// Listens here; only the owner may, since what an earlier owner left behind is removed.
    pub(super) fn listen(&self, lock: &OwnerLock) -> Result<Listener, HubError> {
        let failed = |source| HubError::Listen { address: self.to_string(), source };
        if let Self::Path(path) = self {
            let directory = path.parent().unwrap_or(path);
            if !path.starts_with(lock.data_dir().canonicalize().map_err(failed)?) {
                private_directory(directory, lock.data_dir())?;
            }
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
                _ => {}
            }
        }
        // The name is left in place at the end: by then it may be the next owner's.
        let options = ListenerOptions::new().name(self.name().map_err(failed)?).reclaim_name(false);
        let listener = options.create_tokio().map_err(failed)?;
        if let Self::Path(path) = self {
            only_for_us(path, 0o600).map_err(failed)?;
        }
        Ok(listener)
    }

    pub(super) async fn connect(&self) -> Result<Stream, HubError> {
        let failed = |source| HubError::Connect { address: self.to_string(), source };
        Stream::connect(self.name().map_err(failed)?).await.map_err(failed)
    }

    fn name(&self) -> std::io::Result<Name<'_>> {
        match self {
            Self::Path(path) => path.as_path().to_fs_name::<interprocess::local_socket::GenericFilePath>(),
            Self::Pipe(name) => name.as_str().to_ns_name::<interprocess::local_socket::GenericNamespaced>(),
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Pipe(name) => write!(f, "pipe {name}"),
        }
    }
}

/// Makes a directory that only we may enter, or checks that an existing one is so: the place is open to everyone.
fn private_directory(directory: &Path, data_dir: &Path) -> Result<(), HubError> {
    let failed = |source| HubError::Listen { address: directory.display().to_string(), source };
    match std::fs::create_dir(directory) {
        Ok(()) => only_for_us(directory, 0o700).map_err(failed)?,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(error)),
    }
    if is_private(directory, data_dir).map_err(failed)? {
        Ok(())
    } else {
        Err(HubError::Directory { path: directory.to_owned() })
    }
}

#[cfg(unix)]
fn only_for_us(path: &Path, mode: u32) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

#[cfg(not(unix))]
fn only_for_us(_: &Path, _: u32) -> std::io::Result<()> {
    Ok(())
}

/// The directory is a real one of DATA's owner, and closed to others.
#[cfg(unix)]
fn is_private(directory: &Path, data_dir: &Path) -> std::io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let found = std::fs::symlink_metadata(directory)?;
    Ok(found.is_dir() && found.mode() & 0o077 == 0 && found.uid() == std::fs::metadata(data_dir)?.uid())
}

#[cfg(not(unix))]
fn is_private(_: &Path, _: &Path) -> std::io::Result<bool> {
    Ok(true)
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_long_path_moves_the_socket_to_the_runtime_directory() {
        let long = PathBuf::from(format!("/{}", "d".repeat(200)));
        let (Address::Path(short), Address::Path(moved)) = (Address::of(Path::new("/data")), Address::of(&long)) else {
            panic!("sockets are files here");
        };
        assert_eq!(short, Path::new("/data/undercurrent.sock"));
        assert!(!moved.starts_with(&long));
        assert!(moved.parent().unwrap().to_string_lossy().contains("undercurrent-"));
    }

    #[test]
    fn a_directory_that_others_may_enter_is_refused() {
        let data = tempfile::tempdir().unwrap();
        let directory = data.path().join("undercurrent-1");
        private_directory(&directory, data.path()).unwrap();
        private_directory(&directory, data.path()).unwrap();
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(private_directory(&directory, data.path()), Err(HubError::Directory { .. })));
    }
}
