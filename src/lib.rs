//! Undercurrent: the learning gateway for MCP.
//!
//! The tree shows the architecture: `gateway` relays and taps, `log` keeps, `engine` learns, `cache` carries the model
//! back, `history` writes Parquet. Only `app` knows all of them; see ARCHITECTURE.md for the permitted edges.

pub mod clock;
pub mod edge;
pub mod history;
pub mod log;
