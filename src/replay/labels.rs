//! Reads labels for a replay: what somebody said about sessions, and when.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use undercurrent_schemas::ids::Micros;
use undercurrent_schemas::v1::label::Verdict;

use super::frames::{Frame, Said};

/// Labels that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LabelError {
    #[error("read the labels {path}: {cause}")]
    Io { path: PathBuf, cause: io::Error },
    #[error(
        "read line {line} of the labels {path}: {cause}; a label is {{\"session_id\", \"label\": \
         \"benign\"|\"malicious\"|\"clear\", \"at_us\"}}"
    )]
    Line { path: PathBuf, line: usize, cause: String },
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLabel {
    session_id: String,
    label: String,
    at_us: i64,
}

/// Labels that are still to be said, in order of time.
#[derive(Debug, Default)]
pub(super) struct Labels(VecDeque<Frame>);

impl Labels {
    /// Those of a file, in any order; labels of one instant are said in that of the file.
    pub(super) fn read(path: &Path) -> Result<Self, LabelError> {
        let io = |cause| LabelError::Io { path: path.to_owned(), cause };
        let mut labels = Vec::new();
        for (line, text) in (1..).zip(BufReader::new(File::open(path).map_err(io)?).lines()) {
            let text = text.map_err(io)?;
            if !text.trim().is_empty() {
                let wrong = |cause| LabelError::Line { path: path.to_owned(), line, cause };
                labels.push(parse(&text).map_err(wrong)?);
            }
        }
        labels.sort_by_key(|label| label.ts);
        Ok(Self(labels.into()))
    }

    /// The first label, if it is due before or at this time.
    pub(super) fn until(&mut self, ts: Micros) -> Option<Frame> {
        self.0.front().is_some_and(|label| label.ts <= ts).then(|| self.0.pop_front())?
    }
}

fn parse(text: &str) -> Result<Frame, String> {
    let raw: RawLabel = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let verdict = Verdict::from_text(&raw.label).ok_or_else(|| format!("`label` is `{}`", raw.label))?;
    Ok(Frame {
        ts: Micros(raw.at_us),
        session: raw.session_id,
        client: "".into(),
        server: "".into(),
        said: Said::Label(verdict),
    })
}
