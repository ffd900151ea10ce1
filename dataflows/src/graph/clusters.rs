//! Stage 7: dense cells that touch, by differential iteration.
//!
//! Fed with cells whose density changed side, never with sessions: what iterates is small, and a session that joins a
//! dense cell changes nothing here. When a cell between two others is dense no longer, its component falls apart.

use differential_dataflow::algorithms::graphs::propagate::propagate;
use differential_dataflow::operators::CountTotal as _;
use differential_dataflow::{AsCollection, VecCollection};
use timely::dataflow::StreamVec;

use crate::clusters::{Cell, ClusterSettings};

/// Of each dense cell the least cell of its component.
#[must_use]
pub fn cell_components<'scope>(
    sessions: StreamVec<'scope, u64, (Cell, u64, isize)>,
    settings: ClusterSettings,
) -> VecCollection<'scope, u64, (Cell, Cell)> {
    let enough = settings.dense_sessions as isize;
    let dense = sessions
        .as_collection()
        .count_total()
        .flat_map(move |(cell, sessions)| (sessions >= enough).then_some(cell))
        .consolidate();
    let touching =
        dense.clone().flat_map(|cell| cell.neighbours().map(move |other| (other, cell))).semijoin(dense.clone());
    // Without this the labels of all rounds would be seen, not those of the last.
    propagate(touching, dense.map(|cell| (cell, cell))).consolidate()
}
