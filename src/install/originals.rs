//! URLs that were replaced by a gateway's, in a file beside the client's: the entry alone cannot tell what it was.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::InstallError;
use super::file::{ConfigFile, failed};

const SUFFIX: &str = ".undercurrent-urls.json";

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    /// By the entry's place in the client's file.
    urls: BTreeMap<String, Replaced>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Replaced {
    /// As it was written, quotes included.
    original: String,
    by: String,
}

#[derive(Debug, Default)]
pub(super) struct Originals {
    kept: Kept,
    gone: Vec<String>,
    grown: bool,
}

impl Originals {
    pub(super) fn read(file: &ConfigFile) -> Result<Self, InstallError> {
        let path = file.beside(SUFFIX);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(failed("read", &path)(error)),
        };
        let kept = serde_json::from_str(&text).map_err(|error| InstallError::Syntax {
            line: error.line(),
            column: error.column(),
            problem: error.to_string(),
            path: PathBuf::from(&path),
        })?;
        Ok(Self { kept, ..Self::default() })
    }

    pub(super) fn remember(&mut self, key: &str, original: &str, by: &str) {
        let replaced = Replaced { original: original.to_owned(), by: by.to_owned() };
        self.kept.urls.insert(key.to_owned(), replaced);
        self.grown = true;
    }

    /// What stood where `by` stands now, if it was we who put it there.
    pub(super) fn forget(&mut self, key: &str, by: &str) -> Option<String> {
        let replaced = self.kept.urls.get(key).filter(|replaced| replaced.by == by)?;
        self.gone.push(key.to_owned());
        Some(replaced.original.clone())
    }

    /// Makes sure that what is about to be replaced can be put back.
    pub(super) fn before(&self, file: &ConfigFile) -> Result<(), InstallError> {
        if self.grown { self.write(file) } else { Ok(()) }
    }

    /// Forgets what was put back.
    pub(super) fn after(&mut self, file: &ConfigFile) -> Result<(), InstallError> {
        if self.gone.is_empty() {
            return Ok(());
        }
        self.kept.urls.retain(|key, _| !self.gone.contains(key));
        if self.kept.urls.is_empty() {
            let path = file.beside(SUFFIX);
            return fs::remove_file(&path).map_err(failed("remove", &path));
        }
        self.write(file)
    }

    fn write(&self, file: &ConfigFile) -> Result<(), InstallError> {
        let text = serde_json::to_string_pretty(&self.kept).expect("texts are always JSON");
        file.write(&file.beside(SUFFIX), &(text + "\n"))
    }
}
