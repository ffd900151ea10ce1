//! The live model in the other processes: what worker 0 published is applied to a copy there before the tick is over.
//!
//! Invariant: whoever sees the probe pass a tick finds that tick's model in the slot of its own process.

use serde::{Deserialize, Serialize};
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use undercurrent_schemas::ids::ModelVersion;

use crate::model::{Entry, ModelChange, Publisher};

/// A change of the model on its way to the worker that keeps a process's copy.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Copy {
    worker: u64,
    version: ModelVersion,
    totals: Vec<(Entry, u64)>,
    names: Vec<(u64, String)>,
}

/// The workers that keep a copy: the first of each process but worker 0's, with `threads` workers in each.
pub(super) fn places(workers: usize, threads: usize) -> Vec<u64> {
    (threads.max(1)..workers).step_by(threads.max(1)).map(|worker| worker as u64).collect()
}

impl Copy {
    /// One for each place; none of what changed nothing.
    pub(super) fn of<'a>(change: &'a ModelChange, places: &'a [u64]) -> impl Iterator<Item = Self> + 'a {
        let places = if change.is_empty() { &[] } else { places };
        places.iter().map(|worker| Self {
            worker: *worker,
            version: change.version,
            totals: change.totals.clone(),
            names: change.names.iter().map(|(hash, name)| (*hash, name.to_string())).collect(),
        })
    }

    fn into_change(self) -> ModelChange {
        let names = self.names.into_iter().map(|(hash, name)| (hash, name.into())).collect();
        ModelChange { version: self.version, totals: self.totals, names }
    }
}

/// An empty stream whose frontier passes a tick when its model is live in every process.
pub(super) fn copied<'scope>(
    changes: StreamVec<'scope, u64, Copy>,
    mut publisher: Option<Publisher>,
) -> StreamVec<'scope, u64, ()> {
    let mut builder = OperatorBuilder::new("Copies".to_owned(), changes.scope());
    let mut input = builder.new_input(changes, Exchange::new(|copy: &Copy| copy.worker));
    let (output, stream) = builder.new_output::<Vec<()>>();
    let output = OutputBuilder::<_, timely::container::CapacityContainerBuilder<Vec<()>>>::from(output);
    builder.build(move |_capabilities| {
        move |_frontiers| {
            let _ = &output;
            input.for_each_stamp(|_, data| {
                for copy in data.flat_map(|batch: &mut Vec<Copy>| batch.drain(..)) {
                    if let Some(publisher) = &mut publisher {
                        publisher.publish(copy.into_change());
                    }
                }
            });
        }
    });
    stream
}

#[cfg(test)]
mod tests {
    use super::places;

    #[test]
    fn each_process_but_the_first_has_a_copy() {
        assert_eq!(places(1, 1), [0_u64; 0]);
        assert_eq!(places(4, 4), [0_u64; 0]);
        assert_eq!(places(4, 1), [1, 2, 3]);
        assert_eq!(places(6, 2), [2, 4]);
    }
}
