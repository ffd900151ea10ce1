//! Undercurrent's demo: an invented office as an MCP server, a population of agents that drives it through the gateway,
//! and a report that puts the gateway's flags beside the truth.
//!
//! It knows the gateway only from outside, by its contracts: the MCP endpoint, the command line and the history.
//! `office ← server`; `agents → truth`; `history + truth → judgement → report`; `live` runs all of it at once.

pub mod agents;
pub mod history;
pub mod judgement;
pub mod live;
pub mod office;
pub mod random;
pub mod report;
pub mod server;
pub mod truth;
