//! Files and directories of this user alone, made whole, and once by whichever process comes first.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// Creates a directory (and those above it) for this user only; one that exists keeps its mode.
pub(super) fn create_dir(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// The text of a file; `None` if there is none.
pub(super) fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The text of the file, made from `text` if there is none yet. Whoever loses the race reads the winner's.
pub(super) fn read_or_create(path: &Path, text: impl FnOnce() -> io::Result<String>) -> io::Result<String> {
    if let Some(text) = read(path)? {
        return Ok(text);
    }
    make(path, &text()?, publish)?;
    fs::read_to_string(path)
}

/// Writes the file anew: after a crash it is as it was, or as it should be.
pub(super) fn replace(path: &Path, text: &str) -> io::Result<()> {
    make(path, text, |unfinished, path| fs::rename(unfinished, path))
}

/// Writes a file whole under a name of its own, and gives it its name by `publish`.
fn make(path: &Path, text: &str, publish: impl FnOnce(&Path, &Path) -> io::Result<()>) -> io::Result<()> {
    let mut suffix = [0; 8];
    getrandom::fill(&mut suffix).map_err(io::Error::other)?;
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let unfinished = path.with_file_name(format!(".{name}.{:016x}", u64::from_le_bytes(suffix)));
    let written = write_new(&unfinished, text).and_then(|()| publish(&unfinished, path));
    // Gone already where it was renamed; elsewhere a leftover does no harm.
    let _ = fs::remove_file(&unfinished);
    written?;
    sync_parent(path)
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Gives a finished file its name unless the name is taken. A link cannot replace a file as a rename does; where the
/// file system has no links, a rename must do.
fn publish(unfinished: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(unfinished, path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(_) if path.try_exists()? => Ok(()),
        Err(_) => fs::rename(unfinished, path),
    }
}

#[cfg(unix)]
fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |parent| fs::File::open(parent)?.sync_all())
}

#[cfg(not(unix))]
fn sync_parent(_path: &Path) -> io::Result<()> {
    Ok(()) // A directory cannot be synced there.
}

/// Whether users other than the owner may read the file.
#[cfg(unix)]
pub(super) fn is_exposed(path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::PermissionsExt;
    Ok(fs::metadata(path)?.permissions().mode() & 0o077 != 0)
}

/// Elsewhere files inherit the access list of the user's own directory.
#[cfg(not(unix))]
pub(super) fn is_exposed(_path: &Path) -> io::Result<bool> {
    Ok(false)
}
