//! What is safe, by life of a gateway; and who wants to know.
//!
//! Invariant: a watch only grows.

use std::collections::HashMap;

use tokio::sync::watch;
use undercurrent_schemas::ids::Sequence;

use super::queue::GatewayLife;

#[derive(Debug, Default)]
pub(super) struct Durable {
    marks: HashMap<GatewayLife, Sequence>,
    watches: HashMap<GatewayLife, watch::Sender<Sequence>>,
}

impl Durable {
    pub(super) fn new(marks: HashMap<GatewayLife, Sequence>) -> Self {
        Self { marks, watches: HashMap::new() }
    }

    /// The sequence up to which all events of one life are safe.
    pub(super) fn of(&mut self, life: GatewayLife) -> watch::Receiver<Sequence> {
        self.watches.retain(|of, watch| *of == life || !watch.is_closed());
        let mark = self.marks.get(&life).copied().unwrap_or_default();
        self.watches.entry(life).or_insert_with(|| watch::Sender::new(mark)).subscribe()
    }

    /// Notes how far a life has come; whoever watches learns it with the next [`Self::publish`].
    pub(super) fn note(&mut self, life: GatewayLife, sequence: Sequence) {
        let mark = self.marks.entry(life).or_default();
        *mark = sequence.max(*mark);
    }

    pub(super) fn forget(&mut self, lives: &[GatewayLife]) {
        for life in lives {
            self.marks.remove(life);
        }
    }

    pub(super) fn publish(&self) {
        for (life, watch) in &self.watches {
            let mark = self.marks.get(life).copied().unwrap_or_default();
            watch.send_if_modified(|sequence| {
                let grown = mark > *sequence;
                *sequence = mark.max(*sequence);
                grown
            });
        }
    }
}
