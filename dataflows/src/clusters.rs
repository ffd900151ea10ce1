//! Clusters: sessions of one server that work alike, found by density.
//!
//! A session falls into a cell of a fixed grid; how many ended sessions are in a cell is a sum like all others
//! (`Part::Cell`). Cells with enough of them are dense; dense cells that touch are one cluster. The graph finds what
//! touches (`graph::clusters`, by differential); here is the grid, and who is who from one tick to the next.
//! Not here: whether a session is unusual. Clusters are for people, who read of them among the reasons of a score; no score
//! rests on them.

mod cell;
mod identity;
mod words;

pub use cell::{Cell, cell_of};
pub(crate) use identity::{CellChanges, Clusters};

/// What is dense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterSettings {
    /// Sessions that make a cell dense.
    pub dense_sessions: u32,
}

impl Default for ClusterSettings {
    fn default() -> Self {
        Self { dense_sessions: 4 }
    }
}
