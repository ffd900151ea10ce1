//! Where DATA is when nobody says: `$UNDERCURRENT_DATA`, else the platform's data directory.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// Names DATA where nobody else does.
pub(super) const VARIABLE: &str = "UNDERCURRENT_DATA";

/// `None`: the user has no home.
pub(super) fn data_dir(env: &BTreeMap<String, String>) -> Option<PathBuf> {
    let get = |name: &str| env.get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(dir) = get(VARIABLE) {
        return Some(dir);
    }
    let base = if cfg!(windows) {
        get("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        get("HOME").map(|home| home.join("Library").join("Application Support"))
    } else {
        // The XDG specification: a relative path there is to be ignored.
        let xdg = get("XDG_DATA_HOME").filter(|dir| dir.is_absolute());
        xdg.or_else(|| get("HOME").map(|home| home.join(".local").join("share")))
    };
    base.map(|base| base.join("undercurrent"))
}
