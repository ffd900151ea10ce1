//! The grid: which cell a session is in.
//!
//! A session is the tools that it called and which tool followed which, as a vector of small integers; its direction,
//! projected on eight fixed lines, gives eight coordinates. The lines' signs are bits of the names' hashes, so nothing
//! is drawn and nothing depends on other sessions (Achlioptas, 2003).
//! Invariant: a function of the session's facts alone, in integers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::assess::transition_key;
use crate::session::SessionFact;

/// Coordinates of a cell, one byte each.
const LINES: usize = 8;

/// Weight of a tool for each doubling of its calls; a transition counts half of one.
const TOOL_WEIGHT: i64 = 8;
const TRANSITION_WEIGHT: i64 = 4;

/// A cell is 1.5 wide, where a projection of a random direction deviates by about 1.
const CELLS_PER_UNIT: (i64, i64) = (2, 3);

/// One cell of one server's grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Cell {
    /// Name hash of the server.
    pub scope: u64,
    /// Its coordinates, a byte each, as `cell_of` gives them.
    pub at: u64,
}

impl Cell {
    /// The cells that touch this one: one step along one line.
    pub fn neighbours(self) -> impl Iterator<Item = Self> {
        let at = self.at.to_le_bytes();
        (0..LINES).flat_map(move |line| {
            [1, -1].into_iter().filter_map(move |step| {
                let mut at = at;
                at[line] = (at[line] as i8).checked_add(step)? as u8;
                Some(Self { scope: self.scope, at: u64::from_le_bytes(at) })
            })
        })
    }
}

/// Where in its server's grid a session is; `None` = it made no calls.
#[must_use]
pub fn cell_of(session: &SessionFact) -> Option<u64> {
    if session.calls.is_empty() {
        return None;
    }
    let mut calls: BTreeMap<u64, u32> = BTreeMap::new();
    let mut transitions: BTreeMap<u64, i64> = BTreeMap::new();
    session.with_past(|past, call, _| {
        *calls.entry(call.tool).or_default() += 1;
        transitions.insert(transition_key(past.previous, call.tool), TRANSITION_WEIGHT);
    });
    let tools = calls.into_iter().map(|(tool, calls)| (tool, TOOL_WEIGHT * i64::from((calls + 1).ilog2())));
    let mut projected = [0_i64; LINES];
    let mut square = 0_i64;
    for (hash, weight) in tools.chain(transitions) {
        square += weight * weight;
        for (line, sum) in projected.iter_mut().enumerate() {
            *sum += if (hash >> line) & 1 == 1 { weight } else { -weight };
        }
    }
    let (cells, units) = CELLS_PER_UNIT;
    let width = units * square.isqrt().max(1);
    // Rounded to the nearest, so that what lies near zero is in one cell.
    let coordinate = |sum: i64| (2 * cells * sum + width).div_euclid(2 * width).clamp(-127, 127) as i8 as u8;
    Some(u64::from_le_bytes(projected.map(coordinate)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::name_hash;
    use crate::session::{Answer, CallFact, Novelty};
    use undercurrent_schemas::ids::Micros;

    fn session(tools: &[&str]) -> SessionFact {
        let mut session = SessionFact::default();
        for (order, tool) in (0..).zip(tools) {
            let call = CallFact {
                ts: Micros(order as i64),
                order,
                tool: name_hash(&[tool]),
                shape: 0,
                arguments_bytes: 0,
                request_bytes: 0,
                largest_result_bytes: 0,
                repeats: 0,
                entropy_millibits: 0,
                texts: 0,
                first_of_tool: false,
                novelty: Novelty::default(),
                leaves: Box::new([]),
            };
            session.insert(call, Answer::none(Micros(0)));
        }
        session
    }

    #[test]
    fn sessions_that_work_alike_share_a_cell() {
        let cell = |tools: &[&str]| cell_of(&session(tools));
        assert_eq!(cell(&[]), None);
        assert_eq!(cell(&["read", "send"]), cell(&["read", "send"]));
        assert_ne!(cell(&["read", "send"]), cell(&["delete", "upload", "list"]));
        let long: Vec<_> = std::iter::repeat_n("poll", 1_000).collect();
        let longer: Vec<_> = std::iter::repeat_n("poll", 1_020).collect();
        assert_eq!(cell(&long), cell(&longer), "how often grows by its logarithm");
    }

    #[test]
    fn touching_is_mutual() {
        let cell = Cell { scope: 7, at: cell_of(&session(&["read", "send"])).expect("it made calls") };
        assert_eq!(cell.neighbours().count(), 2 * LINES);
        assert!(cell.neighbours().all(|other| other.neighbours().any(|back| back == cell)));
        let edge = Cell { scope: 7, at: u64::from_le_bytes([127; 8]) };
        assert_eq!(edge.neighbours().count(), LINES, "the grid ends somewhere");
    }
}
