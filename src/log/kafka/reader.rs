//! The topics for who only looks: nothing is bound, nobody's place is taken.

use undercurrent_schemas::ids::Tick;

use super::super::{LogError, QuietLog, Ticks};
use super::bindings::Stored;
use super::{KafkaLogError, KafkaOptions, SharedTicks, kept};

/// The ticks that engines have bound.
#[derive(Debug)]
pub struct TopicReader(KafkaOptions);

impl TopicReader {
    #[must_use]
    pub const fn new(options: KafkaOptions) -> Self {
        Self(options)
    }
}

impl QuietLog for TopicReader {
    fn last(&self) -> Result<Option<Tick>, LogError> {
        Ok(Stored::last(&self.0.brokers)?.map(|last| Tick(last.tick)))
    }

    fn floor(&self) -> Result<Option<Tick>, LogError> {
        Ok(kept::floor(&self.0)?)
    }

    fn ticks(&self, after: Option<Tick>) -> Box<dyn Ticks> {
        Box::new(SharedTicks::new(self.0.brokers.clone(), self.0.log.partitions, |_| true, after))
    }

    /// Readers find none of them any more; brokers free the bytes when they next clean up.
    fn remove_through(&self, tick: Tick) -> Result<(), LogError> {
        if kept::remove_through(&self.0, tick)? {
            return Ok(());
        }
        Err(KafkaLogError::NoSuchTick { tick, prefix: self.0.brokers.prefix.clone() }.into())
    }
}
