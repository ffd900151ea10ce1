//! An image: all that a graph keeps between two ticks, as bytes. A graph that is built from it goes on as if it had never
//! stopped, on any number of workers.
//!
//! Not here: files (`checkpoint` in the binary). Upstream: `graph::Graph::sections`. Downstream: `graph::Start`.
//!
//! Invariant: state is written as it is, by its derived form, so a new field is in the image or does not compile; what
//! is left out says so (`serde(skip)`) and why. The same state gives the same bytes, however many workers held it.

use serde::Serialize;
use serde::de::DeserializeOwned;
use undercurrent_schemas::ids::{Micros, Tick};

use crate::graph::merged_panes;
use crate::model::ModelChange;

/// The form of the state in bytes. Raise it whenever a type that is in an image changes its form: a test reads images
/// that were kept of every earlier one, and says so.
pub const FORMAT: u32 = 1;

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
        bincode::deserialize(&section.bytes).map_err(|error| ImageError::Section {
            tick: self.tick,
            kind: section.kind,
            number: section.number,
            cause: error.to_string(),
        })
    }
}

impl Section {
    pub(crate) fn encode<T: Serialize>(kind: Kind, number: u32, state: &T) -> Self {
        let bytes = bincode::serialize(state).expect("what is kept in memory has a form in bytes");
        Self { kind, number, bytes }
    }
}
