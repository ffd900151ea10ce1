//! The writer against directories: equal bytes, interrupted runs, late rows, refusals.

mod keeping;
mod mirror;
mod sample;
mod thread;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::UInt64Type;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::metadata::ParquetMetaData;
use undercurrent_schemas::ids::{Micros, Offset, Partition};
use undercurrent_schemas::log::{CommittedTick, LogBatch};
use undercurrent_schemas::tables::{self, Table};
use undercurrent_schemas::v1;

use super::manifest::MANIFEST;
use super::*;
use sample::{HOUR_US, START, options, ticks};

#[test]
fn equal_ticks_give_equal_bytes() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(one.path(), ticks(14));
    // Rows may come in any order within their tick.
    write(other.path(), ticks(14).into_iter().map(sample::shuffled).collect());
    let tree = tree_of(one.path());
    assert!(tree.len() > 20, "{} files", tree.len());
    assert_eq!(tree, tree_of(other.path()));
}

#[test]
fn a_run_that_was_killed_anywhere_leaves_what_an_unbroken_run_leaves() {
    let unbroken = tempfile::tempdir().unwrap();
    write(unbroken.path(), ticks(9));
    for survived in 0..9 {
        let dir = tempfile::tempdir().unwrap();
        let mut history = History::open(dir.path(), options()).unwrap();
        ticks(survived).into_iter().for_each(|rows| history.write(rows).unwrap());
        drop(history);
        interrupt_the_next_roll(unbroken.path(), dir.path());
        write(dir.path(), ticks(9));
        assert_eq!(tree_of(unbroken.path()), tree_of(dir.path()), "killed after {survived} ticks");
    }
}

/// Between the renames and the manifest: some files whole, one temporary, and a torn line.
fn interrupt_the_next_roll(unbroken: &Path, dir: &Path) {
    let (whole, so_far) = (tree_of(unbroken), tree_of(dir));
    let next = whole.iter().filter(|(name, _)| name.ends_with(".parquet") && !so_far.contains_key(*name));
    for (index, (name, bytes)) in next.enumerate().filter(|(index, _)| index % 2 == 0) {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        fs::write(path.with_file_name(format!(".t={index}.tmp")), b"half").unwrap();
    }
    let torn = &whole[MANIFEST][so_far[MANIFEST].len()..];
    fs::write(dir.join(MANIFEST), [&so_far[MANIFEST], &torn[..torn.len().min(20)]].concat()).unwrap();
}

#[test]
fn an_error_loses_nothing_and_shows_no_part_of_a_file() {
    let (expected, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(expected.path(), ticks(12));
    let mut history = History::open(dir.path(), options()).unwrap();
    let obstacle = dir.path().join("features");
    fs::write(&obstacle, b"not a directory").unwrap();
    let errors: Vec<_> = ticks(12).into_iter().filter_map(|rows| history.write(rows).err()).collect();
    assert!(!errors.is_empty() && errors.iter().all(HistoryError::is_transient), "{errors:?}");
    let message = errors[0].to_string();
    assert!(message.contains("features") && message.contains("move away the file"), "{message}");
    assert_eq!(history.covered(), None);
    for name in tree_of(dir.path()).keys().filter(|name| name.ends_with(".parquet")) {
        assert!(read(&dir.path().join(name)).0.num_rows() > 0);
    }
    fs::remove_file(obstacle).unwrap();
    history.settle().unwrap();
    history.close().unwrap();
    assert_eq!(tree_of(expected.path()), tree_of(dir.path()));
}

#[test]
fn late_rows_go_to_their_own_hour() {
    let dir = tempfile::tempdir().unwrap();
    let mut rows = sample::tick(1);
    rows.calls[0].ts = Micros(START - HOUR_US);
    rows.messages[0].event.ts_us = START - 2 * HOUR_US;
    write(dir.path(), vec![rows]);
    let file = "t=00000000000000000001-00000000000000000001.parquet";
    let tree = tree_of(dir.path());
    for (path, rows) in [
        ("messages/date=2026-03-02/hour=06", 1),
        ("messages/date=2026-03-02/hour=08", 3),
        ("calls/date=2026-03-02/hour=07", 1),
        ("sessions/date=2026-03-02/hour=08", 1),
        ("features/date=2026-03-02/hour=08", 2),
        ("models/date=2026-03-02/hour=08", 1),
    ] {
        let name = format!("{path}/{file}");
        assert!(tree.contains_key(&name), "{name} of {:?}", tree.keys());
        assert_eq!(read(&dir.path().join(name)).0.num_rows(), rows);
    }
}

#[test]
fn what_is_covered_is_skipped_and_a_stop_only_adds_a_cut() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), ticks(7));
    let before = tree_of(dir.path());
    let mut history = History::open(dir.path(), options()).unwrap();
    assert_eq!(history.covered(), Some(Tick(7)));
    ticks(7).into_iter().for_each(|rows| history.write(rows).unwrap());
    history.close().unwrap();
    assert_eq!(before, tree_of(dir.path()), "the same input again is a no-op");
    write(dir.path(), ticks(20));
    for table in Table::ALL {
        let mut places = Vec::new();
        for name in tree_of(dir.path()).keys().filter(|name| name.starts_with(table.name())) {
            places.extend(places_of(&read(&dir.path().join(name)).0, table));
        }
        let rows = places.len();
        places.sort_unstable();
        places.dedup();
        assert_eq!(rows, places.len(), "no row of {} is there twice", table.name());
        let expected = ticks(20).iter().map(|rows| sample::rows_of(rows, table)).sum::<usize>();
        assert_eq!(rows, expected, "{}", table.name());
    }
}

#[test]
fn rolls_end_by_rows_or_by_event_time() {
    let cuts = |options| {
        let dir = tempfile::tempdir().unwrap();
        let mut history = History::open(dir.path(), options).unwrap();
        let mut cuts = Vec::new();
        for rows in ticks(10) {
            history.write(rows).unwrap();
            cuts.push(history.covered().unwrap_or_default().0);
        }
        cuts
    };
    // Ten seconds a tick, four messages a tick.
    let never = HistoryOptions { roll_after: Duration::MAX, roll_rows: usize::MAX, ..HistoryOptions::default() };
    assert_eq!(cuts(never), [0; 10]);
    assert_eq!(cuts(HistoryOptions { roll_rows: 12, ..never }), [0, 0, 3, 3, 3, 6, 6, 6, 9, 9]);
    assert_eq!(cuts(HistoryOptions { roll_after: Duration::from_secs(40), ..never }), [0, 0, 0, 0, 5, 5, 5, 5, 5, 10]);
}

#[test]
fn a_directory_of_someone_else_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(replay_dir_state(&dir.path().join("missing")).unwrap(), DirState::Empty);
    fs::write(dir.path().join(".MANIFEST.tmp"), b"").unwrap();
    assert_eq!(replay_dir_state(dir.path()).unwrap(), DirState::Empty);
    fs::write(dir.path().join("thesis.txt"), b"years").unwrap();
    assert_eq!(replay_dir_state(dir.path()).unwrap(), DirState::Foreign);
    assert!(matches!(History::open(dir.path(), options()), Err(HistoryError::Foreign { .. })));
    assert_eq!(fs::read(dir.path().join("thesis.txt")).unwrap(), b"years");
    fs::remove_file(dir.path().join("thesis.txt")).unwrap();
    drop(History::open(dir.path(), options()).unwrap());
    assert_eq!(replay_dir_state(dir.path()).unwrap(), DirState::Ours);
}

#[test]
fn manifests_of_newer_versions_and_damaged_ones_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(MANIFEST), b"{\"undercurrent_history\":3}\n").unwrap();
    assert!(matches!(History::open(dir.path(), options()), Err(HistoryError::Newer { found: 3, .. })));
    fs::write(dir.path().join(MANIFEST), b"{\"undercurrent_history\":1}\nrust\n").unwrap();
    assert!(matches!(History::open(dir.path(), options()), Err(HistoryError::Damaged { at: 27, .. })));
}

#[test]
fn files_hold_the_rows_sorted_and_say_so() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), ticks(3));
    let file = "date=2026-03-02/hour=08/t=00000000000000000001-00000000000000000003.parquet";
    let (read_back, metadata) = read(&dir.path().join("messages").join(file));
    let rows: Vec<_> = ticks(3).into_iter().flat_map(|tick| tick.messages).collect();
    assert_eq!(read_back.columns(), tables::messages::batch(&rows).columns());
    let keys: BTreeMap<_, _> = metadata
        .file_metadata()
        .key_value_metadata()
        .unwrap()
        .iter()
        .map(|pair| (pair.key.as_str(), pair.value.as_deref()))
        .collect();
    assert_eq!(keys["undercurrent.first_tick"], Some("1"));
    assert_eq!(keys["undercurrent.last_tick"], Some("3"));
    assert_eq!(keys["undercurrent.rows"], Some("12"));
    assert_eq!(keys["undercurrent.offsets"], Some("0:2-7,1:2-7"));
    for table in Table::ALL {
        let (batch, metadata) = read(&dir.path().join(table.name()).join(file));
        assert_eq!(batch.schema().fields(), table.schema().fields(), "{}", table.name());
        let group = metadata.row_group(0);
        let sorted: Vec<_> = group
            .sorting_columns()
            .unwrap()
            .iter()
            .map(|by| group.column(by.column_idx as usize).column_path().string())
            .collect();
        assert_eq!(sorted, table.sorted_by());
        assert!(places_of(&batch, table).is_sorted());
    }
}

#[test]
fn records_that_are_no_events_are_counted() {
    let event = v1::Event { ts_us: 5, ..v1::Event::default() };
    let records = vec![prost::Message::encode_to_vec(&event), vec![0xff], prost::Message::encode_to_vec(&event)];
    let batch = LogBatch { partition: Partition(2), first_offset: Offset(10), records };
    let (rows, corrupt) = messages_of(&CommittedTick { tick: Tick(4), watermark: Micros(5), batches: vec![batch] });
    assert_eq!(corrupt, 1);
    assert_eq!(rows.iter().map(|row| row.offset.0).collect::<Vec<_>>(), [10, 12]);
}

fn write(dir: &Path, ticks: Vec<TickRows>) {
    let mut history = History::open(dir, options()).unwrap();
    ticks.into_iter().for_each(|rows| history.write(rows).unwrap());
    history.close().unwrap();
}

/// Every file by its path below `dir`.
fn tree_of(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut tree = BTreeMap::new();
    let mut left = vec![dir.to_owned()];
    while let Some(next) = left.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else {
                let names: Vec<_> = path.strip_prefix(dir).unwrap().iter().map(|name| name.to_string_lossy()).collect();
                tree.insert(names.join("/"), fs::read(&path).unwrap());
            }
        }
    }
    tree
}

fn read(path: &Path) -> (RecordBatch, ParquetMetaData) {
    let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    let (schema, metadata) = (builder.schema().clone(), builder.metadata().as_ref().clone());
    let batches: Vec<_> = builder.build().unwrap().collect::<Result<_, _>>().unwrap();
    (concat_batches(&schema, &batches).unwrap(), metadata)
}

/// The columns that identify a row, as numbers.
fn places_of(batch: &RecordBatch, table: Table) -> Vec<[u64; 3]> {
    let column = |name: &str| {
        let numbers =
            arrow::compute::cast(batch.column_by_name(name).unwrap(), &arrow::datatypes::DataType::UInt64).unwrap();
        numbers.as_primitive::<UInt64Type>().values().to_vec()
    };
    let [tick, partition, ordinal] = table.sorted_by().map(column);
    (0..batch.num_rows()).map(|row| [tick[row], partition[row], ordinal[row]]).collect()
}
