//! A log that nobody writes: nothing in it changes, not even whether it was closed, unless its beginning is removed.

use std::path::Path;
use std::sync::Arc;

use undercurrent_schemas::ids::{Micros, Offset, Tick};

use super::head::{Committed, Head};
use super::retention::Removal;
use super::store::Store;
use super::{LogError, QuietLog, Tail, Ticks, retention};

/// The log of a process that has ended. A torn tail, which was never durable, is cut off as at every opening.
#[derive(Debug)]
pub struct LogReader {
    store: Arc<Store>,
    head: Arc<Head>,
    last: Option<Tick>,
}

impl LogReader {
    /// Opens what is there.
    ///
    /// # Errors
    /// Another process holds it, or it is damaged.
    pub fn open(dir: &Path) -> Result<Self, LogError> {
        let store = Store::open(dir)?;
        let binding = store.meta()?.binding;
        let last = binding.as_ref().map(|binding| Tick(binding.tick));
        let watermark = Micros(binding.as_ref().map_or(0, |binding| binding.watermark_us));
        let ends = binding.iter().flat_map(|binding| &binding.partitions).map(|bound| Offset(bound.end_offset));
        let head = Head::new(Committed { last, watermark, ends: ends.collect() }, 0);
        head.end();
        Ok(Self { store: Arc::new(store), head: Arc::new(head), last })
    }

    /// Where each partition ended with this tick; `None` = the log has no such tick.
    pub fn ends_at(&self, tick: Tick) -> Result<Option<Vec<Offset>>, LogError> {
        retention::ends_at(&self.store, tick)
    }

    /// A reader of every tick after `after`; from the beginning without it.
    #[must_use]
    pub fn tail(&self, after: Option<Tick>) -> Tail {
        Tail::new(Arc::clone(&self.store), Arc::clone(&self.head), after)
    }
}

impl QuietLog for LogReader {
    fn last(&self) -> Result<Option<Tick>, LogError> {
        Ok(self.last)
    }

    fn floor(&self) -> Result<Option<Tick>, LogError> {
        Ok(self.store.floor())
    }

    fn ticks(&self, after: Option<Tick>) -> Box<dyn Ticks> {
        Box::new(self.tail(after))
    }

    /// Of whole files too, which are written anew: not a byte is left.
    fn remove_through(&self, tick: Tick) -> Result<(), LogError> {
        retention::remove_before(&self.store, tick, Removal::EveryByte)
    }
}
