use std::fs;

use tempfile::TempDir;
use undercurrent_dataflows::clusters::ClusterSettings;
use undercurrent_dataflows::graph::{GraphSettings, Start, WindowSettings};
use undercurrent_dataflows::image::{FORMAT, Image, Kind, Section};
use undercurrent_dataflows::sessions::Settings;
use undercurrent_schemas::ids::{Micros, Tick};

use super::{CheckpointError, Checkpoints};

fn image(tick: u64) -> Image {
    let section = |kind, number, byte| Section { kind, number, bytes: vec![byte; 10_000] };
    let sections = vec![section(Kind::Model, 0, 3), section(Kind::Partition, 1, 2), section(Kind::Partition, 0, 1)];
    Image::of(Tick(tick), Micros(7), sections)
}

fn ticks(checkpoints: &Checkpoints) -> Vec<u64> {
    checkpoints.entries().iter().map(|entry| entry.tick.0).collect()
}

#[test]
fn what_was_written_is_read() {
    let dir = TempDir::new().expect("a temporary directory");
    let entry = Checkpoints::open(dir.path()).and_then(|mut all| all.write(&image(5), None)).expect("written");
    let again = Checkpoints::open(dir.path()).expect("opened again");
    assert_eq!(again.entries(), std::slice::from_ref(&entry));
    assert_eq!(again.read(&entry).expect("read"), image(5));
    assert_eq!(fs::metadata(dir.path().join(&entry.file)).expect("its file").len(), entry.bytes);
}

#[test]
fn two_that_can_be_used_are_kept_and_those_that_wait_for_history() {
    let dir = TempDir::new().expect("a temporary directory");
    let mut all = Checkpoints::open(dir.path()).expect("opened");
    let mut check = |tick, covered, expect: &[u64]| {
        all.write(&image(tick), covered).expect("written");
        assert_eq!(ticks(&all), expect);
        let files = fs::read_dir(dir.path()).expect("listed").count();
        assert_eq!(files, expect.len() + 1, "what is not in the manifest is gone");
    };
    check(1, None, &[1]);
    check(2, Some(Tick(1)), &[1, 2]);
    check(3, Some(Tick(2)), &[1, 2, 3]);
    check(4, Some(Tick(2)), &[1, 2, 3, 4]);
    check(5, Some(Tick(5)), &[4, 5]);
}

#[test]
fn a_damaged_one_that_is_set_aside_counts_no_more_and_is_kept_to_be_looked_at() {
    let dir = TempDir::new().expect("a temporary directory");
    let mut all = Checkpoints::open(dir.path()).expect("opened");
    for tick in [1, 2, 3] {
        all.write(&image(tick), Some(Tick(tick))).expect("written");
    }
    all.set_aside(&[Tick(3)]).expect("set aside");
    let aside = dir.path().join("damaged.image");
    assert_eq!(ticks(&all), [2]);
    let again = Checkpoints::open(dir.path()).expect("opened again");
    assert_eq!(ticks(&again), [2]);
    assert!(aside.is_file(), "it can be looked at");
    all.write(&image(4), Some(Tick(4))).expect("written");
    assert_eq!(ticks(&all), [2, 4], "the one before it is still there");
}

#[test]
fn damaged_ones_are_found_without_reading_them_for_use() {
    let dir = TempDir::new().expect("a temporary directory");
    let mut all = Checkpoints::open(dir.path()).expect("opened");
    for tick in [1, 2, 3] {
        all.write(&image(tick), Some(Tick(1))).expect("written");
    }
    all.check().expect("checked");
    assert_eq!(ticks(&all), [1, 2, 3], "all are whole");
    let spoiled = dir.path().join(&all.entries()[1].file);
    let mut bytes = fs::read(&spoiled).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(&spoiled, bytes).expect("written");
    all.check().expect("checked");
    assert_eq!(ticks(&all), [1, 3]);
    assert!(dir.path().join("damaged.image").is_file(), "it can be looked at");
    fs::remove_file(dir.path().join(&all.entries()[0].file)).expect("removed");
    all.check().expect("checked");
    assert_eq!(ticks(&all), [3], "one that is gone is no reserve either");
}

#[test]
fn damage_anywhere_is_found() {
    let dir = TempDir::new().expect("a temporary directory");
    let mut all = Checkpoints::open(dir.path()).expect("opened");
    let entry = all.write(&image(5), None).expect("written");
    let path = dir.path().join(&entry.file);
    let whole = fs::read(&path).expect("read");
    for at in (0..whole.len()).step_by(7).chain([whole.len() - 1]) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x40;
        fs::write(&path, &damaged).expect("written");
        assert!(all.read(&entry).is_err(), "byte {at} of {} may be wrong unnoticed", whole.len());
        assert!(super::file::check(dir.path(), &entry).is_err(), "byte {at} of {} is not checked", whole.len());
        fs::write(&path, &whole[..at]).expect("written");
        assert!(all.read(&entry).is_err(), "cut at {at}");
    }
    fs::write(&path, &whole).expect("written");
    assert!(all.read(&entry).is_ok());
}

#[test]
fn what_an_interrupted_write_left_is_removed() {
    let dir = TempDir::new().expect("a temporary directory");
    let entry = Checkpoints::open(dir.path()).and_then(|mut all| all.write(&image(5), None)).expect("written");
    let (unlisted, unfinished) = (dir.path().join("t=00000000000000000009.image"), dir.path().join("t=9.unfinished"));
    fs::copy(dir.path().join(&entry.file), &unlisted).expect("copied");
    fs::write(&unfinished, b"half").expect("written");
    let again = Checkpoints::open(dir.path()).expect("opened again");
    assert_eq!(ticks(&again), [5]);
    assert!(!unlisted.exists() && !unfinished.exists());
}

#[test]
fn a_form_that_is_not_known_is_named() {
    let dir = TempDir::new().expect("a temporary directory");
    let mut all = Checkpoints::open(dir.path()).expect("opened");
    let mut entry = all.write(&image(5), None).expect("written");
    let path = dir.path().join(&entry.file);
    let text = b"UNDERCURRENT IMAGE\n".len();
    let whole = fs::read(&path).expect("read");
    let end = text + memchr::memchr(b'\n', &whole[text..]).expect("a header") + 1;
    let known = format!("\"format\":{}", undercurrent_dataflows::image::FORMAT);
    let header = String::from_utf8(whole[text..end].to_vec()).expect("text").replace(&known, "\"format\":99");
    entry.hash = format!("{:016x}", undercurrent_schemas::ids::stable_hash(&[header.as_bytes()]));
    fs::write(&path, [&whole[..text], header.as_bytes(), &whole[end..]].concat()).expect("written");
    let error = all.read(&entry).expect_err("no such form");
    assert!(matches!(error, CheckpointError::OtherFormat { found: 99, .. }), "{error}");
}

fn fixture(form: u32) -> Checkpoints {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/checkpoint_{form}"));
    Checkpoints::look(&dir).expect("a fixture of each form is kept")
}

/// A start then goes by the log, or says what is missing.
#[test]
fn a_checkpoint_of_an_older_form_is_named_as_one() {
    for form in 1..FORMAT {
        let all = fixture(form);
        let entry = all.entries().last().expect("one checkpoint");
        let error = all.read(entry).expect_err("no longer read");
        assert!(matches!(error, CheckpointError::OtherFormat { found, .. } if found == form), "{error}");
        assert!(!error.is_lasting(), "an older program reads it: it is not set aside");
    }
}

/// State that changed its form without a new number would be read as something else.
#[test]
fn a_checkpoint_of_this_form_is_read() {
    let all = fixture(FORMAT);
    let image = all.entries().last().map(|entry| all.read(entry)).expect("one checkpoint").expect("readable");
    let settings = GraphSettings {
        partitions: 8,
        sessions: Settings::default(),
        windows: WindowSettings::default(),
        clusters: ClusterSettings::default(),
    };
    for workers in [1, 2, 3] {
        let starts = Start::deal(&image, &settings, workers).expect("of this form; else raise `image::FORMAT`");
        assert_eq!(starts.len(), workers);
    }
}
