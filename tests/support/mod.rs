//! What the real-parts tests stand on: processes by id, free ports, waiting with a deadline, tees, and SQL.
//!
//! Not here: assertions about Undercurrent. Invariant: whatever a test starts ends with it, also when it fails.

pub(crate) mod calls;
pub(crate) mod command;
pub(crate) mod cutter;
pub(crate) mod echo;
pub(crate) mod exchange;
pub(crate) mod fake;
pub(crate) mod files;
pub(crate) mod gateway;
pub(crate) mod history;
pub(crate) mod http;
pub(crate) mod kafka;
pub(crate) mod keep_alive;
pub(crate) mod load;
pub(crate) mod memory;
pub(crate) mod metrics;
pub(crate) mod names;
pub(crate) mod parts;
pub(crate) mod pipe;
pub(crate) mod process;
pub(crate) mod prometheus;
pub(crate) mod raw;
pub(crate) mod s3;
pub(crate) mod scenario;
pub(crate) mod siege;
pub(crate) mod spliced;
pub(crate) mod status;
pub(crate) mod tee;
pub(crate) mod wait;
pub(crate) mod wire;
