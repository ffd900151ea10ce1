//! The tee for standard input and output: a wrapper command that keeps both directions, one pair of files per process.

use std::fs;
use std::path::{Path, PathBuf};

use super::command::Words;
use super::parts::python_script;

/// A directory of kept pipes.
#[derive(Debug)]
pub(crate) struct PipeTee(PathBuf);

/// What one process read and wrote.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Piped {
    pub(crate) input: Vec<u8>,
    pub(crate) output: Vec<u8>,
}

impl PipeTee {
    pub(crate) fn new(directory: &Path) -> Self {
        fs::create_dir_all(directory).expect("make the tee's directory");
        Self(directory.to_owned())
    }

    /// The command that runs `words` and keeps what passes.
    #[track_caller]
    pub(crate) fn around(&self, words: &Words) -> Words {
        python_script("tee.py").and(&self.0).running(words)
    }

    /// What passed, per process, in an order that depends on the bytes alone.
    pub(crate) fn kept(&self) -> Vec<Piped> {
        let entries =
            fs::read_dir(&self.0).expect("list the tee's directory").map(|entry| entry.expect("an entry").path());
        let inputs = entries.filter(|path| path.extension().is_some_and(|extension| extension == "in"));
        let mut kept: Vec<Piped> = inputs
            .map(|input| Piped {
                output: fs::read(input.with_extension("out")).unwrap_or_default(),
                input: fs::read(input).expect("read a kept pipe"),
            })
            .collect();
        kept.sort();
        kept
    }

    /// All lines that any process read.
    pub(crate) fn lines_in(&self) -> Vec<Vec<u8>> {
        self.kept().iter().flat_map(|piped| lines(&piped.input)).collect()
    }

    /// All lines that any process wrote.
    pub(crate) fn lines_out(&self) -> Vec<Vec<u8>> {
        self.kept().iter().flat_map(|piped| lines(&piped.output)).collect()
    }
}

fn lines(bytes: &[u8]) -> Vec<Vec<u8>> {
    bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect()
}
