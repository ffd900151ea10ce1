//! The live model and what entities do right now, as Arrow IPC files that another program on the host maps into memory.
//!
//! `DATA/state/snapshot/model.arrow` and `features.arrow`: one batch each, not compressed, so a reader copies nothing. A
//! file is written under another name, synced, and takes the old one's place at once; who has the old one mapped keeps
//! it. A thread of its own, which yields to all others: building a large model's batch takes a while.
//!
//! Invariant: under its name a file is always whole, and of one version. Upstream: `cache`. Downstream: Python, by
//! `pyarrow.memory_map`; docs/history.md shows how.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use arrow::ipc::writer::FileWriter;
use undercurrent_dataflows::model::{Entry, Model, Part, in_full};
use undercurrent_schemas::ids::ModelVersion;
use undercurrent_schemas::tables::snapshot::{LiveFeature, LiveSum, features, sums};

use crate::cache::Cache;

const MODEL: &str = "model.arrow";
const FEATURES: &str = "features.arrow";

/// Why a snapshot could not be written.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("{action} `{}`: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("encode `{}`: {source}", path.display())]
    Encode { path: PathBuf, source: ArrowError },
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SnapshotError {
    let path = path.to_owned();
    move |source| SnapshotError::Io { action, path, source }
}

/// Owner of the thread.
#[derive(Debug)]
pub struct Snapshots {
    stop: SyncSender<()>,
    thread: JoinHandle<()>,
}

impl Snapshots {
    /// Publishes what `cache` holds into `dir`, every `interval` in which it changed, and once more at the end.
    pub fn spawn(dir: PathBuf, cache: Arc<Cache>, interval: Duration) -> Result<Self, SnapshotError> {
        fs::create_dir_all(&dir).map_err(failed("create the directory", &dir))?;
        let (stop, stopped) = sync_channel(1);
        let at = dir.clone();
        let publisher = Publisher { dir, cache, version: None, features: None };
        let thread = thread::Builder::new().name("snapshot".to_owned());
        let thread = thread.spawn(move || publisher.run(interval, &stopped));
        Ok(Self { stop, thread: thread.map_err(failed("start the thread that writes to", &at))? })
    }

    /// Publishes what is live now, and ends.
    pub fn finish(self) {
        // It is full only if the thread was told already.
        let _ = self.stop.try_send(());
        if self.thread.join().is_err() {
            tracing::error!("the snapshot's thread has died");
        }
    }
}

struct Publisher {
    dir: PathBuf,
    cache: Arc<Cache>,
    /// Of the model that was written last.
    version: Option<ModelVersion>,
    features: Option<RecordBatch>,
}

impl Publisher {
    fn run(mut self, interval: Duration, stopped: &Receiver<()>) {
        let mut well = true;
        loop {
            let stopping = !matches!(stopped.recv_timeout(interval), Err(RecvTimeoutError::Timeout));
            let published = self.publish();
            if let Some(error) = published.as_ref().err().filter(|_| well) {
                tracing::error!(%error, "the snapshot is not brought up to date; trying again");
            }
            well = published.is_ok();
            if stopping {
                return;
            }
        }
    }

    fn publish(&mut self) -> Result<(), SnapshotError> {
        let model = self.cache.models().load().clone();
        if let Some(model) = model.filter(|model| Some(model.version()) != self.version) {
            write(&self.dir.join(MODEL), &sums(&rows_of(&model)), model.version())?;
            self.version = Some(model.version());
        }
        let now = features(&features_of(&self.cache));
        if self.features.as_ref() != Some(&now) {
            write(&self.dir.join(FEATURES), &now, self.version.unwrap_or_default())?;
            self.features = Some(now);
        }
        Ok(())
    }
}

/// Every count of the model, in the order of part, scope, key and bin.
fn rows_of(model: &Model) -> Vec<LiveSum> {
    let totals = model.as_change().totals;
    let mut all: HashMap<(Part, u64), u64> = HashMap::new();
    for (entry, total) in &totals {
        *all.entry((entry.part, entry.scope)).or_default() += total;
    }
    let row = |(entry, total): &(Entry, u64)| {
        let (scope, key) = model.words(entry);
        let whole = all.get(&(entry.part, entry.scope)).copied().unwrap_or(*total);
        LiveSum {
            part: entry.part.as_str(),
            scope: scope.to_string(),
            key: key.to_string(),
            bin: entry.bin,
            scope_hash: entry.scope,
            key_hash: entry.key,
            total: *total,
            sessions: in_full(*total),
            share: *total as f64 / whole.max(1) as f64,
        }
    };
    totals.iter().map(row).collect()
}

/// Every entity's newest windows, in the order of kind, tenant, name and size.
fn features_of(cache: &Cache) -> Vec<LiveFeature> {
    let mut rows = Vec::new();
    for (key, live) in cache.features() {
        rows.extend(live.windows.iter().map(|(window, sum)| LiveFeature {
            kind: key.kind,
            tenant: live.entity.tenant.to_string(),
            entity: live.entity.name.to_string(),
            window_start: window.start,
            window_us: window.size_us,
            calls: sum.calls,
            errors: sum.errors,
            request_bytes: sum.request_bytes,
            response_bytes: sum.response_bytes,
            answered: sum.answered,
            latency_sum_us: sum.latency_sum_us,
            latency_p50_us: sum.sketch.quantile(0.5),
            latency_p95_us: sum.sketch.quantile(0.95),
            tool_errors: sum.tool_errors,
            new_hosts: sum.new_hosts,
            hosts: sum.hosts,
            new_tools: sum.new_tools,
            arguments: sum.arguments,
            text_arguments: sum.text_arguments,
            sourced_arguments: sum.sourced_arguments,
            shape_millibits: sum.shape_millibits,
            fresh_millibits: sum.fresh_millibits,
            argument_entropy_millibits: sum.argument_entropy_millibits,
            distinct_tools: sum.sketch.distinct_tools(),
            distinct_shapes: sum.sketch.distinct_shapes(),
        }));
    }
    rows.sort_by(|a, b| (a.kind, &a.tenant, &a.entity, a.window_us).cmp(&(b.kind, &b.tenant, &b.entity, b.window_us)));
    rows
}

/// Puts a batch in the place of the file that is there.
fn write(path: &Path, batch: &RecordBatch, version: ModelVersion) -> Result<(), SnapshotError> {
    let temporary = path.with_extension("tmp");
    let encode = |source| SnapshotError::Encode { path: path.to_owned(), source };
    let metadata = HashMap::from([("undercurrent.model_version".to_owned(), version.to_string())]);
    let schema = Arc::new(Schema::new_with_metadata(batch.schema().fields().clone(), metadata));
    let batch = batch.clone().with_schema(Arc::clone(&schema)).map_err(encode)?;

    let file = File::create(&temporary).map_err(failed("create", &temporary))?;
    let mut writer = FileWriter::try_new(BufWriter::new(file), &schema).map_err(encode)?;
    writer.write(&batch).and_then(|()| writer.finish()).map_err(encode)?;
    let buffered = writer.into_inner().map_err(encode)?;
    let file = buffered.into_inner().map_err(|error| failed("write", &temporary)(error.into_error()))?;
    file.sync_all().map_err(failed("sync", &temporary))?;
    crate::faults::point("snapshot-half").map_err(failed("sync", &temporary))?;
    fs::rename(&temporary, path).map_err(failed("rename the finished file to", path))
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::Float64Type;
    use arrow::ipc::reader::FileReader;
    use undercurrent_dataflows::model::{Entry, ModelChange, Publisher as Models, name_hash};

    use super::*;

    #[test]
    fn a_snapshot_holds_the_model_in_words_and_is_replaced_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let (mut models, slot) = Models::new();
        let snapshots =
            Snapshots::spawn(dir.path().join("snapshot"), Arc::new(Cache::new(slot)), Duration::from_secs(3600));
        let (bank, send) = (name_hash(&["bank"]), name_hash(&["send"]));
        let entry = |part, key, bin| Entry { part, scope: bank, key, bin };
        models.publish(ModelChange {
            version: ModelVersion(7),
            totals: vec![
                (entry(Part::Tool, send, 0), 24),
                (entry(Part::Tool, 9, 0), 8),
                (entry(Part::CallTerm, 0, 3), 5),
            ],
            names: vec![(bank, "bank".into()), (send, "send".into())],
        });
        snapshots.unwrap().finish();
        let file = File::open(dir.path().join("snapshot/model.arrow")).unwrap();
        let reader = FileReader::try_new(file, None).unwrap();
        assert_eq!(reader.schema().metadata()["undercurrent.model_version"], "7");
        let batch = reader.map(Result::unwrap).next().unwrap();
        let texts = |name: &str| {
            let column = batch.column_by_name(name).unwrap().as_string::<i32>();
            column.iter().map(Option::unwrap).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(texts("part"), ["tool", "tool", "call_term"]);
        assert_eq!(texts("scope"), ["bank"; 3]);
        let keys = texts("key");
        let send = keys.iter().position(|key| key == "send").unwrap();
        assert!(keys.contains(&"0000000000000009".to_owned()), "{keys:?}");
        let share = batch.column_by_name("share").unwrap().as_primitive::<Float64Type>().value(send);
        let sessions = batch.column_by_name("sessions").unwrap().as_primitive::<Float64Type>().value(send);
        assert_eq!((share, sessions), (0.75, 3.0));
        assert!(dir.path().join("snapshot/features.arrow").exists());
    }
}
