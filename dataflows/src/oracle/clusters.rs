//! Twins of `clusters`: a cell by its definition, line by line, and components by walking from cell to cell.

use std::collections::{BTreeMap, BTreeSet};

use crate::assess::transition_key;
use crate::clusters::Cell;
use crate::model::{NONE, name_hash};

/// The cell of a session that called these tools, in this order.
#[must_use]
pub fn cell_at(tools: &[&str]) -> u64 {
    let mut vector: BTreeMap<u64, f64> = BTreeMap::new();
    for tool in tools {
        let calls = tools.iter().filter(|other| *other == tool).count();
        vector.insert(name_hash(&[tool]), 8.0 * f64::from((calls + 1).ilog2()));
    }
    let mut previous = name_hash(&[NONE]);
    for tool in tools {
        let tool = name_hash(&[tool]);
        vector.insert(transition_key(previous, tool), 4.0);
        previous = tool;
    }
    // The grid is in integers: lengths are cut to whole numbers.
    let length = vector.values().map(|weight| weight * weight).sum::<f64>().sqrt().floor();
    let line = |line: u32| {
        let sum: f64 =
            vector.iter().map(|(hash, weight)| if hash & (1 << line) == 0 { -weight } else { *weight }).sum();
        (sum / (1.5 * length) + 0.5).floor() as i8
    };
    u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|at| line(at) as u8))
}

/// Of each dense cell the least cell that can be reached from it by steps between dense cells.
#[must_use]
pub fn components(cells: &BTreeMap<Cell, u64>, dense_sessions: u64) -> BTreeMap<Cell, Cell> {
    let dense: BTreeSet<Cell> =
        cells.iter().filter(|(_, sessions)| **sessions >= dense_sessions).map(|(cell, _)| *cell).collect();
    let mut components = BTreeMap::new();
    for start in &dense {
        if components.contains_key(start) {
            continue;
        }
        // Cells are visited in order: the first that nobody has reached is the least of its component.
        let mut to_visit = vec![*start];
        while let Some(cell) = to_visit.pop() {
            if dense.contains(&cell) && components.insert(cell, *start).is_none() {
                to_visit.extend(cell.neighbours());
            }
        }
    }
    components
}
