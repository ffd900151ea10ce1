//! Another store: it has every version in order, through its absences and ours.

use std::sync::atomic::Ordering;

use object_store::memory::InMemory;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt as _};

use super::super::keeper::{Keeper, Kept};
use super::super::remote::{Store, StoreSettings};
use super::super::uploader::{Sent, Uploader};
use super::super::{HistoryWriter, Retries};
use super::keeping::{long_ticks, merging};
use super::*;

fn settings(url: &str) -> StoreSettings {
    StoreSettings {
        url: url.parse().unwrap(),
        credentials: BTreeMap::new(),
        staging_bytes_max: 1 << 40,
        keep_local: Duration::from_secs(1 << 32),
    }
}

fn in_memory(staging_bytes_max: u64) -> (Arc<InMemory>, Store) {
    let objects = Arc::new(InMemory::new());
    let settings = StoreSettings { staging_bytes_max, ..settings("s3://bucket/under/it") };
    let prefix = ObjectPath::from("under/it");
    (Arc::clone(&objects), Store::of(objects, prefix, &settings))
}

/// Every object below the prefix, by its path there.
fn objects_of(objects: &Arc<InMemory>) -> BTreeMap<String, Vec<u8>> {
    futures_executor::block_on(async {
        use futures_util::TryStreamExt as _;
        let found: Vec<_> = objects.list(None).try_collect().await.unwrap();
        let mut all = BTreeMap::new();
        for meta in found {
            let name = meta.location.as_ref().strip_prefix("under/it/").unwrap().to_owned();
            all.insert(name, objects.get(&meta.location).await.unwrap().bytes().await.unwrap().to_vec());
        }
        all
    })
}

fn parquet_of(tree: BTreeMap<String, Vec<u8>>) -> BTreeMap<String, Vec<u8>> {
    tree.into_iter().filter(|(path, _)| path.ends_with(".parquet") && !path.starts_with('.')).collect()
}

fn send_all(history: &History) {
    let uploader = Uploader::new(history, Retries::default(), Arc::<Sent>::default()).unwrap().unwrap();
    while uploader.send_next().unwrap() {}
    uploader.tidy().unwrap();
}

#[track_caller]
fn same(objects: &Arc<InMemory>, dir: &Path) {
    let (there, here) = (parquet_of(objects_of(objects)), parquet_of(tree_of(dir)));
    let missing: Vec<_> = here.keys().filter(|path| !there.contains_key(*path)).collect();
    let beyond: Vec<_> = there.keys().filter(|path| !here.contains_key(*path)).collect();
    assert!(missing.is_empty() && beyond.is_empty(), "missing {missing:?}, beyond {beyond:?}");
    assert!(there == here);
}

#[test]
fn a_store_gets_every_version_and_what_was_merged_leaves_it() {
    let dir = tempfile::tempdir().unwrap();
    let (objects, store) = in_memory(1 << 40);
    let mut history = History::open(dir.path(), merging()).unwrap().mirrored(store.clone());
    long_ticks().into_iter().take(12).for_each(|rows| history.write(rows).unwrap());
    send_all(&history);
    same(&objects, dir.path());
    Keeper::new(&history, Arc::<Kept>::default()).unwrap().round().unwrap();
    // The files that were merged are gone here before they were ever missed there.
    send_all(&history);
    same(&objects, dir.path());
    drop(history);

    // Another life goes on where this one was; a change that was sent twice is one.
    fs::write(dir.path().join("UPLOADED"), r#"{"url":"s3://bucket/under/it","version":8}"#).unwrap();
    let mut history = History::open(dir.path(), merging()).unwrap().mirrored(store.clone());
    long_ticks().into_iter().for_each(|rows| history.write(rows).unwrap());
    Keeper::new(&history, Arc::<Kept>::default()).unwrap().round().unwrap();
    send_all(&history);
    history.close().unwrap();
    same(&objects, dir.path());

    // One that begins late takes all files at once.
    fs::remove_file(dir.path().join("UPLOADED")).unwrap();
    let (late, store) = in_memory(1 << 40);
    let history = History::open(dir.path(), merging()).unwrap().mirrored(store);
    send_all(&history);
    same(&late, dir.path());
    assert!(objects_of(&late).keys().any(|path| path.ends_with(".base.json")));
}

#[test]
fn a_store_that_somebody_else_writes_to_is_refused() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (_, store) = in_memory(1 << 40);
    let mut history = History::open(one.path(), merging()).unwrap().mirrored(store.clone());
    long_ticks().into_iter().take(3).for_each(|rows| history.write(rows).unwrap());
    send_all(&history);
    let mut history = History::open(other.path(), options()).unwrap().mirrored(store);
    long_ticks().into_iter().take(3).for_each(|rows| history.write(rows).unwrap());
    let uploader = Uploader::new(&history, Retries::default(), Arc::<Sent>::default()).unwrap().unwrap();
    let refused = uploader.send_next().unwrap_err();
    assert!(refused.to_string().contains("history.url"), "{refused}");
}

#[test]
fn what_waits_for_a_store_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let (_, store) = in_memory(20_000);
    let mut history = History::open(dir.path(), merging()).unwrap().mirrored(store);
    let errors: Vec<_> = long_ticks().into_iter().filter_map(|rows| history.write(rows).err()).collect();
    assert!(!errors.is_empty() && errors.iter().all(HistoryError::is_transient));
    let staged: usize = parquet_of(tree_of(dir.path())).values().map(Vec::len).sum();
    assert!(staged < 100_000, "{staged}");
    for _ in 0..100 {
        send_all(&history);
        if history.settle().is_ok() {
            break;
        }
    }
    history.settle().unwrap();
    history.close().unwrap();
    let expected = tempfile::tempdir().unwrap();
    write(expected.path(), Vec::new());
    assert_eq!(parquet_of(tree_of(dir.path())).keys().filter(|path| path.starts_with("calls/")).count(), 24);
}

#[test]
fn a_directory_can_be_the_store_and_files_leave_for_it() {
    let (dir, mounted) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let url = format!("file://{}/history", mounted.path().display());
    let settings = StoreSettings { keep_local: Duration::ZERO, ..settings(&url) };
    let history = History::open(dir.path(), merging()).unwrap().mirrored(Store::open(&settings).unwrap());
    let writer = HistoryWriter::spawn(history, 10, Retries::default()).unwrap();
    let sent = Arc::clone(writer.sent());
    long_ticks().into_iter().for_each(|rows| writer.queue().send(rows).unwrap());
    writer.finish().unwrap();
    assert!(!sent.failing.load(Ordering::Relaxed));
    let there = parquet_of(tree_of(&mounted.path().join("history")));
    let rows = |table: Table| {
        let of_table = there.keys().filter(|path| path.starts_with(&format!("{}/", table.name())));
        of_table.map(|path| read(&mounted.path().join("history").join(path)).0.num_rows()).sum::<usize>()
    };
    for table in Table::ALL {
        assert!(rows(table) >= 20, "{}: {}", table.name(), rows(table));
    }
    let here = parquet_of(tree_of(dir.path()));
    assert!(here.len() < there.len(), "{} of {}", here.len(), there.len());
}
