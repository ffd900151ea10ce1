//! An image: all that a graph keeps between two ticks, as bytes. A graph that is built from it goes on as if it had never
//! stopped, on any number of workers.
//!
//! Not here: files (`checkpoint` in the binary). Upstream: `graph::Graph::sections`. Downstream: `graph::Start`.
//!
//! Invariant: whatever is written is taken apart without a rest, so a new field is in the image or does not compile; what
//! is left out says so and why. The same state gives the same bytes, however many workers held it, and however the writing
//! was cut into slices between the ticks that followed.

use bincode::{DefaultOptions, Options};
use serde::Serialize;
use serde::de::DeserializeOwned;
use undercurrent_schemas::ids::{Micros, Tick};

use crate::graph::merged_panes;
use crate::model::ModelChange;

/// The form of the state in bytes. Raise it whenever a type that is in an image changes its form: a test reads images
/// that were kept of every earlier one, and says so.
pub const FORMAT: u32 = 3;

/// What a section is of. The numbers are in files: never renumber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// One partition: its sessions, and the ids that it has seen. There is one of each partition.
    Partition = 1,
    /// What one worker put into panes that are not final. One of each worker.
    Panes = 2,
    /// The windows, the tool catalogue, the alerts, and totals. One.
    Published = 3,
    /// The model's sums and names. One.
    Model = 4,
}

impl Kind {
    /// The kind of this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::Partition, Self::Panes, Self::Published, Self::Model].into_iter().find(|kind| *kind as u8 == number)
    }

    /// In words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Partition => "partition",
            Self::Panes => "panes",
            Self::Published => "published",
            Self::Model => "model",
        }
    }
}

/// A part of an image.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Section {
    pub kind: Kind,
    /// Of a partition its number, of panes the worker's.
    pub number: u32,
    pub bytes: Vec<u8>,
}

/// The form in bytes: integers take as many as they need, and most are small.
pub(crate) fn form() -> impl Options {
    DefaultOptions::new()
}

/// Appends what has a form in bytes.
pub(crate) fn put<T: Serialize + ?Sized>(what: &T, to: &mut Vec<u8>) {
    form().serialize_into(to, what).expect("what is kept in memory has a form in bytes");
}

/// What sorts itself before it is written. Whoever keeps it has no time for that.
pub(crate) trait Sorted: Send {
    fn write(self: Box<Self>, to: &mut Vec<u8>);
}

/// A run of a section's bytes.
pub(crate) enum Run {
    Bytes(Vec<u8>),
    Sorted(Box<dyn Sorted>),
}

/// An image, or a worker's part of one, whose sections have yet to be put together.
#[derive(Default)]
pub struct Draft(Vec<(Kind, u32, Vec<Run>)>);

impl std::fmt::Debug for Draft {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Draft").field("sections", &self.0.len()).finish()
    }
}

impl Draft {
    pub(crate) fn push(&mut self, kind: Kind, number: u32, runs: Vec<Run>) {
        self.0.push((kind, number, runs));
    }

    /// Adds another worker's.
    pub fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    /// Puts them together, which takes as long as they are large: nothing for a worker to do.
    #[must_use]
    pub fn sections(self) -> Vec<Section> {
        self.0.into_iter().map(|(kind, number, runs)| Section { kind, number, bytes: joined(runs) }).collect()
    }

    /// As [`Self::sections`], of all workers.
    #[must_use]
    pub fn image(self, tick: Tick, watermark: Micros) -> Image {
        Image::of(tick, watermark, self.sections())
    }
}

impl From<Vec<Section>> for Draft {
    fn from(sections: Vec<Section>) -> Self {
        let ready = |section: Section| (section.kind, section.number, vec![Run::Bytes(section.bytes)]);
        Self(sections.into_iter().map(ready).collect())
    }
}

fn joined(runs: Vec<Run>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for run in runs {
        match run {
            Run::Bytes(run) if bytes.is_empty() => bytes = run,
            Run::Bytes(run) => bytes.extend(run),
            Run::Sorted(sorted) => sorted.write(&mut bytes),
        }
    }
    bytes
}

/// State at a closed tick.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    pub tick: Tick,
    pub watermark: Micros,
    /// In order of (kind, number).
    pub sections: Vec<Section>,
}

/// An image that does not hold what this program keeps.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ImageError {
    #[error("decode section {} {number} of the image of tick {tick}: {cause}", kind.as_str())]
    Section { tick: Tick, kind: Kind, number: u32, cause: String },
    #[error("the image of tick {tick} has {found} partitions where the log has {asked}")]
    Partitions { tick: Tick, found: usize, asked: u32 },
    #[error("the image of tick {tick} has no section `{}`", kind.as_str())]
    Missing { tick: Tick, kind: Kind },
}

impl Image {
    /// Puts together what the workers wrote of the same tick.
    #[must_use]
    pub fn of(tick: Tick, watermark: Micros, mut sections: Vec<Section>) -> Self {
        sections.sort_unstable_by_key(|section| (section.kind, section.number));
        Self { tick, watermark, sections }
    }

    /// The same state as one worker would have written it: two images of equal state are equal in this form.
    pub fn canonical(mut self) -> Result<Self, ImageError> {
        let panes = merged_panes(&self)?;
        self.sections.retain(|section| section.kind != Kind::Panes);
        self.sections.push(panes);
        Ok(Self::of(self.tick, self.watermark, self.sections))
    }

    /// The model in it, whole.
    pub fn model(&self) -> Result<ModelChange, ImageError> {
        crate::graph::model_of(self)
    }

    /// The sections of a kind.
    pub(crate) fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Section> {
        self.sections.iter().filter(move |section| section.kind == kind)
    }

    pub(crate) fn only<T: DeserializeOwned>(&self, kind: Kind) -> Result<T, ImageError> {
        let section = self.of_kind(kind).next().ok_or(ImageError::Missing { tick: self.tick, kind })?;
        self.decode(section)
    }

    pub(crate) fn decode<T: DeserializeOwned>(&self, section: &Section) -> Result<T, ImageError> {
        form().deserialize(&section.bytes).map_err(|error| ImageError::Section {
            tick: self.tick,
            kind: section.kind,
            number: section.number,
            cause: error.to_string(),
        })
    }
}

impl Section {
    pub(crate) fn encode<T: Serialize>(kind: Kind, number: u32, state: &T) -> Self {
        let mut bytes = Vec::new();
        put(state, &mut bytes);
        Self { kind, number, bytes }
    }
}

impl Run {
    /// The form in bytes of what is small.
    pub(crate) fn of<T: Serialize>(state: &T) -> Self {
        let mut bytes = Vec::new();
        put(state, &mut bytes);
        Self::Bytes(bytes)
    }

    pub(crate) fn sorted(of: impl Sorted + 'static) -> Self {
        Self::Sorted(Box::new(of))
    }
}
