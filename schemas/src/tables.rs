//! The tables of the history: Arrow schemas, and rows as record batches.
//!
//! One file a table. Schema and data are built by the same lines, so they cannot drift apart: a table's schema is that
//! of its empty batch, and the snapshot in `tables/tests.rs` pins it. Not here: files, encodings, partitioning by time.
//!
//! Upstream: [`crate::rows`]. Downstream: `history`, which writes Parquet, and every reader of it: columns may be
//! added, never renamed or retyped; a change that is not an addition raises [`SCHEMA_VERSION`].
//!
//! Where a text may be absent, absent is NULL, never the empty string.

use arrow::datatypes::SchemaRef;

pub mod alerts;
mod assessed;
pub mod calls;
pub mod clusters;
mod columns;
pub mod dead_letters;
pub mod features;
pub mod forecasts;
pub mod json;
pub mod labels;
pub mod messages;
pub mod models;
pub mod sessions;
pub mod snapshot;
pub mod telemetry;
#[cfg(test)]
mod tests;
pub mod tools;

/// Version of all schemas together; in the footer of every file.
pub const SCHEMA_VERSION: u32 = 1;

/// The tables that are written from the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    Messages,
    Calls,
    Sessions,
    Features,
    Models,
    Labels,
    Tools,
    Alerts,
    Clusters,
    Forecasts,
    Telemetry,
    DeadLetters,
}

impl Table {
    /// All of them, in the order in which they are written.
    pub const ALL: [Self; 12] = [
        Self::Messages,
        Self::Calls,
        Self::Sessions,
        Self::Features,
        Self::Models,
        Self::Labels,
        Self::Tools,
        Self::Alerts,
        Self::Clusters,
        Self::Forecasts,
        Self::Telemetry,
        Self::DeadLetters,
    ];

    /// Name of the table and of its directory.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::Calls => "calls",
            Self::Sessions => "sessions",
            Self::Features => "features",
            Self::Models => "models",
            Self::Labels => "labels",
            Self::Tools => "tools",
            Self::Alerts => "alerts",
            Self::Clusters => "clusters",
            Self::Forecasts => "forecasts",
            Self::Telemetry => "telemetry",
            Self::DeadLetters => "dead_letters",
        }
    }

    /// Its columns.
    #[must_use]
    pub fn schema(self) -> SchemaRef {
        match self {
            Self::Messages => messages::schema(),
            Self::Calls => calls::schema(),
            Self::Sessions => sessions::schema(),
            Self::Features => features::schema(),
            Self::Models => models::schema(),
            Self::Labels => labels::schema(),
            Self::Tools => tools::schema(),
            Self::Alerts => alerts::schema(),
            Self::Clusters => clusters::schema(),
            Self::Forecasts => forecasts::schema(),
            Self::Telemetry => telemetry::schema(),
            Self::DeadLetters => dead_letters::schema(),
        }
    }

    /// The columns by which its rows are sorted: where a row comes from. Together they are unique.
    #[must_use]
    pub const fn sorted_by(self) -> [&'static str; 3] {
        match self {
            Self::Messages => ["tick", "partition", "offset"],
            Self::Calls
            | Self::Sessions
            | Self::Features
            | Self::Models
            | Self::Labels
            | Self::Tools
            | Self::Alerts
            | Self::Clusters
            | Self::Forecasts
            | Self::Telemetry
            | Self::DeadLetters => ["tick", "partition", "ordinal"],
        }
    }
}
