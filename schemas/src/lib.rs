//! Values at Undercurrent's boundaries: the protobuf wire, the rows and Arrow schemas of the history, ids and time.
//!
//! Not here: I/O, clocks, decisions. Everything depends on this crate; it depends on nothing of ours.

pub mod ids;
mod labels;
pub mod log;
pub mod otlp;
pub mod rows;
pub mod tables;
mod terms;
pub mod text;

/// The protobuf types of `proto/undercurrent/v1`.
#[allow(missing_debug_implementations, clippy::all, reason = "generated code")]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/undercurrent.v1.rs"));
}
