//! `replay --only features`: the same windows as a whole replay has, and no other table.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use arrow::array::{Array, RecordBatch, StringArray};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tempfile::TempDir;

const RECORDING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/recordings/demo.frames.jsonl.zst");
const SUMS: [&str; 6] = ["calls", "errors", "request_bytes", "response_bytes", "answered", "latency_sum_us"];

fn replay(history: &Path, more: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_undercurrent"))
        .args(["--log-level", "warn", "replay", RECORDING, "--history"])
        .arg(history)
        .args(more)
        .output()
        .expect("start the binary");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    said + &String::from_utf8_lossy(&output.stderr)
}

fn parquet_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(parquet_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "parquet") {
            files.push(path);
        }
    }
    files
}

type Windows = BTreeMap<(String, String, i64, i64), [i64; 6]>;

/// What the rows of a batch add up to, by kind, entity, start and length of the window.
fn add(windows: &mut Windows, batch: &RecordBatch) {
    use arrow::array::AsArray as _;
    let column = |name: &str| batch.column_by_name(name).unwrap_or_else(|| panic!("column {name}"));
    let text = |name: &str, row: usize| column(name).as_any().downcast_ref::<StringArray>().expect("text").value(row);
    let number = |name: &str, row: usize| column(name).as_primitive::<Int64Type>().value(row);
    for row in 0..batch.num_rows() {
        let start = column("window_start").as_primitive::<TimestampMicrosecondType>().value(row);
        let key = (text("kind", row).to_owned(), text("entity", row).to_owned(), start, number("window_us", row));
        let sums = windows.entry(key).or_default();
        for (sum, name) in sums.iter_mut().zip(SUMS) {
            *sum += number("diff", row) * number(name, row);
        }
    }
}

fn windows(history: &Path) -> Windows {
    let mut windows = Windows::new();
    for file in parquet_files(&history.join("features")) {
        let file = File::open(file).expect("open a file");
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("a Parquet file").build().expect("a reader");
        reader.for_each(|batch| add(&mut windows, &batch.expect("a batch")));
    }
    windows
}

#[test]
fn the_windows_are_those_of_a_whole_replay() {
    let dir = TempDir::new().unwrap();
    let (whole, only) = (dir.path().join("whole"), dir.path().join("only"));
    replay(&whole, &["--workers", "1"]);
    let said = replay(&only, &["--workers", "1", "--only", "features"]);
    assert!(said.contains("calls      1104 (0 unanswered)"), "{said}");
    let expected = windows(&whole);
    assert!(expected.len() > 100, "{} windows", expected.len());
    assert!(windows(&only) == expected, "the same sums");
    let tables: Vec<_> = parquet_files(&only).iter().map(|path| path.strip_prefix(&only).unwrap().to_owned()).collect();
    assert!(tables.iter().all(|path| path.starts_with("features")), "{tables:?}");

    let two = dir.path().join("two");
    replay(&two, &["--workers", "2", "--only", "features"]);
    assert_eq!(windows(&two), windows(&only), "for any number of workers");
    let said = replay(&only, &["--workers", "1"]);
    assert!(said.contains("new directory"), "it is not the replay of all tables: {said}");
}
