//! What a model is made of: integer counts, each under a part, a scope, a key and a bin.

use undercurrent_schemas::ids::stable_hash;

/// A kind of count. The numbers are written to files and to the wire: never renumber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[repr(u8)]
pub enum Part {
    /// Sessions that taught the scope.
    Sessions = 1,
    /// Calls of a tool.
    Tool = 2,
    /// Calls after a tool (or after the start of the session), whatever came next.
    Departures = 3,
    /// Calls of a tool right after another.
    Transition = 4,
    /// Arguments seen at a tool's key path.
    Parameter = 5,
    /// Of those, by the tool whose earlier result held the value (or none).
    Flow = 6,
    /// Arguments of a flow, by the value; the bin is 16 bits of its digest, so that values take a bounded place.
    Value = 7,
    /// Calls of a tool with arguments of one shape.
    Shape = 8,
    /// Histogram of a call term's values; the bin is the value's.
    CallTerm = 9,
    /// Histogram of a session term's values.
    SessionTerm = 10,
    /// Histogram of the scores of calls: every scored call, taught or not.
    CallScore = 11,
    /// Histogram of the scores of sessions: every scored session, taught or not.
    SessionScore = 12,
    /// Histogram of a tool's request sizes, bytes.
    RequestBytes = 13,
    /// Histogram of a tool's response sizes, bytes.
    ResponseBytes = 14,
    /// Histogram of a tool's latencies, microseconds.
    Latency = 15,
    /// Calls of a tool by outcome; the bin is the outcome.
    Outcome = 16,
    /// Arguments of a flow, by the kind of place where the value stood; the bin is the place.
    Place = 17,
    /// Arguments with a source, whatever their parameter, by the kind of place.
    Places = 18,
    /// Sessions that called a tool.
    ToolSessions = 19,
    /// Sessions that first called one tool and then, for the first time, another.
    Before = 20,
    /// Sessions by cell of their server's grid: every ended session with calls, whatever it may teach.
    Cell = 21,
    /// Sessions of which somebody said what they were; the bin says what: 0 benign, 1 malicious.
    LabelledSessions = 22,
    /// Of those, by a flow whose value stood at a kind of place; the bin is twice the place, and what was said.
    LabelledPlace = 23,
    /// Results of a tool that are no errors, by 8 bits of the digest of their shape.
    ResultShape = 24,
    /// Calls of a tool right after two others.
    Transition2 = 25,
    /// Histogram of what is reported of a server from outside, by the metric's name.
    Reported = 40,
}

/// What a session adds to each count of its facts when nothing speaks against it: counts of facts are in eighths of
/// a session, so that a doubtful one can teach less.
pub const FULL_WEIGHT: u32 = 8;

impl Part {
    /// Every part, in the order of their numbers.
    pub const ALL: [Self; 26] = [
        Self::Sessions,
        Self::Tool,
        Self::Departures,
        Self::Transition,
        Self::Parameter,
        Self::Flow,
        Self::Value,
        Self::Shape,
        Self::CallTerm,
        Self::SessionTerm,
        Self::CallScore,
        Self::SessionScore,
        Self::RequestBytes,
        Self::ResponseBytes,
        Self::Latency,
        Self::Outcome,
        Self::Place,
        Self::Places,
        Self::ToolSessions,
        Self::Before,
        Self::Cell,
        Self::LabelledSessions,
        Self::LabelledPlace,
        Self::ResultShape,
        Self::Transition2,
        Self::Reported,
    ];

    /// The part of this number.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|part| *part as u32 == number)
    }

    /// The column's text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sessions => "sessions",
            Self::Tool => "tool",
            Self::Departures => "departures",
            Self::Transition => "transition",
            Self::Parameter => "parameter",
            Self::Flow => "flow",
            Self::Value => "value",
            Self::Shape => "shape",
            Self::CallTerm => "call_term",
            Self::SessionTerm => "session_term",
            Self::CallScore => "call_score",
            Self::SessionScore => "session_score",
            Self::RequestBytes => "request_bytes",
            Self::ResponseBytes => "response_bytes",
            Self::Latency => "latency",
            Self::Outcome => "outcome",
            Self::Place => "place",
            Self::Places => "places",
            Self::ToolSessions => "tool_sessions",
            Self::Before => "before",
            Self::Cell => "cell",
            Self::LabelledSessions => "labelled_sessions",
            Self::LabelledPlace => "labelled_place",
            Self::ResultShape => "result_shape",
            Self::Transition2 => "transition_2",
            Self::Reported => "reported",
        }
    }
}

/// One count of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Entry {
    pub part: Part,
    /// Name hash of the server.
    pub scope: u64,
    pub key: u64,
    pub bin: u32,
}

/// The scope of all servers together, which young servers lean on. Derived from theirs: no entry has it.
pub const GLOBAL: u64 = 0;

/// The name that stands for "no tool": before a session's first call, or of a value that no result held.
pub const NONE: &str = "";

/// The hash under which a name, or a tuple of names, is a key; its text is in the dictionary.
#[must_use]
pub fn name_hash(parts: &[&str]) -> u64 {
    match parts {
        [one] => stable_hash(&[one.as_bytes()]),
        [one, two] => stable_hash(&[one.as_bytes(), two.as_bytes()]),
        [one, two, three] => stable_hash(&[one.as_bytes(), two.as_bytes(), three.as_bytes()]),
        many => stable_hash(&many.iter().map(|part| part.as_bytes()).collect::<Vec<_>>()),
    }
}

/// The text of a name or tuple of names in the dictionary and in history.
#[must_use]
pub fn name_text(parts: &[&str]) -> String {
    parts.join(" \u{203a} ")
}
