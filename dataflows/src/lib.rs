//! Undercurrent's pure programs: what a message says (`facts`), what was learned (`model`), what that means for a
//! call or a session (`assess`), and the timely/differential graphs that learn (`graph`).
//!
//! Not here: I/O, clocks, randomness, iteration over hash maps that could reach a result. Same log, same model.

pub mod alerts;
pub mod assess;
mod behaviour;
pub mod catalogue;
pub mod clusters;
pub mod facts;
mod forecast;
pub mod graph;
pub mod image;
pub mod model;
pub mod oracle;
pub mod predict;
pub mod reports;
pub mod session;
pub mod sessions;
mod shards;
mod shared;
pub mod teach;
