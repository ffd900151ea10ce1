//! What the log hands to its readers.

use crate::ids::{Micros, Offset, Partition, Tick};

/// The records of one partition in one tick, in order of their offsets, which have no holes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogBatch {
    pub partition: Partition,
    /// Offset of the first record.
    pub first_offset: Offset,
    /// Encoded [`crate::v1::Event`]s.
    pub records: Vec<Vec<u8>>,
}

/// One closed tick: what was bound to it, in every partition that got something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommittedTick {
    pub tick: Tick,
    /// Event time that every gateway heard of late has passed.
    pub watermark: Micros,
    /// In order of their partitions.
    pub batches: Vec<LogBatch>,
}

impl CommittedTick {
    /// Number of records in all partitions.
    #[must_use]
    pub fn records(&self) -> usize {
        self.batches.iter().map(|batch| batch.records.len()).sum()
    }
}
