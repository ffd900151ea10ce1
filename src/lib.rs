//! Undercurrent: the learning gateway for MCP.
//!
//! The tree shows the architecture: `gateway` relays and taps, `log` keeps, `engine` learns, `cache` carries the model
//! back, `history` writes Parquet. Only `app` knows all of them; see ARCHITECTURE.md for the permitted edges.

pub mod admin;
pub mod app;
pub mod cache;
pub mod checkpoint;
pub mod cli;
pub mod clock;
pub mod config;
pub mod data_dir;
pub mod edge;
pub mod engine;
pub mod faults;
#[cfg(any(fuzzing, test))]
#[doc(hidden)]
pub mod fuzzing;
pub mod gateway;
pub mod history;
pub mod hub;
pub mod install;
pub mod log;
pub mod observe;
pub mod policy;
pub mod pump;
pub mod replay;
pub mod snapshot;
pub mod telemetry;
pub mod upstream;
pub mod wrap;
