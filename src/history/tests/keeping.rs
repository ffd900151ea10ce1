//! What happens to files after they were written: nothing is lost or doubled, wherever a step was interrupted.

use super::super::keeper::{Keeper, Kept};
use super::super::manifest::MANIFEST;
use super::super::{Compaction, HistoryOptions, Limits, Retention};
use super::*;

/// Eight hours of ticks, three an hour.
pub(super) fn long_ticks() -> Vec<TickRows> {
    (1..=24).map(|number| at(number, START + number as i64 * 1_200_000_000)).collect()
}

fn at(number: u64, time: i64) -> TickRows {
    let mut rows = sample::tick(number);
    rows.watermark = Micros(time);
    rows.messages.iter_mut().for_each(|row| row.event.ts_us = time);
    rows.calls.iter_mut().for_each(|row| row.ts = Micros(time));
    rows.sessions.iter_mut().for_each(|row| row.ended_at = Micros(time));
    rows.features.iter_mut().for_each(|row| row.window_start = Micros(time));
    rows.forecasts.iter_mut().for_each(|row| row.window_start = Micros(time));
    rows.labels.iter_mut().for_each(|row| row.ts = Micros(time));
    rows.tools.iter_mut().for_each(|row| row.ts = Micros(time));
    rows.telemetry.iter_mut().for_each(|row| row.point.ts_us = time);
    rows.dead_letters.iter_mut().for_each(|row| row.ts = Micros(time));
    rows
}

pub(super) fn merging() -> HistoryOptions {
    let compaction = Some(Compaction { settle: Duration::from_secs(900), ..Compaction::default() });
    HistoryOptions { roll_rows: 4, compaction, keep_replaced: Duration::ZERO, ..options() }
}

fn keep(dir: &Path, options: HistoryOptions) -> Vec<String> {
    let history = History::open(dir, options).unwrap();
    Keeper::new(&history, Arc::<Kept>::default()).unwrap().round().unwrap();
    history.ledger.look(|live, _| live.keys().cloned().collect())
}

/// All rows of a table that a plain glob finds, by their places.
fn all_places(dir: &Path, table: Table) -> Vec<[u64; 3]> {
    let tree = tree_of(dir);
    let of_table = |name: &&String| name.starts_with(&format!("{}/", table.name())) && name.ends_with(".parquet");
    let mut places: Vec<_> =
        tree.keys().filter(of_table).flat_map(|name| places_of(&read(&dir.join(name)).0, table)).collect();
    places.sort_unstable();
    places
}

fn written(options: HistoryOptions) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut history = History::open(dir.path(), options).unwrap();
    long_ticks().into_iter().for_each(|rows| history.write(rows).unwrap());
    history.close().unwrap();
    dir
}

#[test]
fn closed_hours_become_one_file_each_with_the_same_rows() {
    let dir = written(merging());
    let before = tree_of(dir.path());
    let places: Vec<_> = Table::ALL.iter().map(|table| all_places(dir.path(), *table)).collect();
    let live = keep(dir.path(), merging());
    for (table, places) in Table::ALL.iter().zip(places) {
        assert_eq!(all_places(dir.path(), *table), places, "{}", table.name());
    }
    let calls: Vec<_> = live.iter().filter(|path| path.starts_with("calls/")).collect();
    // The last hours are not closed: the watermark stands in the last.
    assert!(calls.len() < 13 && before.keys().filter(|path| path.starts_with("calls/")).count() == 24, "{calls:?}");
    let (batch, metadata) = read(&dir.path().join(calls[2]));
    assert!(batch.num_rows() == 3 && places_of(&batch, Table::Calls).is_sorted());
    let keys: BTreeMap<_, _> = metadata
        .file_metadata()
        .key_value_metadata()
        .unwrap()
        .iter()
        .map(|entry| (entry.key.as_str(), entry.value.clone()))
        .collect();
    assert_eq!(keys["undercurrent.rows"], Some(batch.num_rows().to_string()));
    // A second round has nothing to do.
    let again = tree_of(dir.path());
    assert_eq!(keep(dir.path(), merging()), live);
    assert_eq!(again, tree_of(dir.path()));
}

/// Stopped at each of its steps: the start after it clears what does not count, and the keeper ends where an unbroken one
/// ends. Before that a plain glob sees each row at least once.
#[test]
fn a_merge_that_was_interrupted_anywhere_is_finished_or_undone() {
    let (unbroken, small) = (written(merging()), written(merging()));
    let before = tree_of(small.path());
    keep(unbroken.path(), merging());
    let after = tree_of(unbroken.path());
    let added: Vec<_> = after.keys().filter(|path| !before.contains_key(*path)).collect();
    let removed: Vec<_> = before.keys().filter(|path| !after.contains_key(*path)).collect();
    assert!(added.len() > 20 && removed.len() > 60);
    for step in ["temporary", "in place", "torn line", "in the manifest", "some moved"] {
        let dir = tempfile::tempdir().unwrap();
        copy(small.path(), dir.path());
        for (index, path) in added.iter().enumerate() {
            let name = if step == "temporary" { format!("{path}.tmp") } else { (*path).clone() };
            let name = if step == "temporary" { hidden(&name) } else { name };
            if step != "temporary" || index == 0 {
                fs::write(dir.path().join(name), &after[*path]).unwrap();
            }
        }
        let (line, whole) = (&before[MANIFEST], &after[MANIFEST]);
        match step {
            "torn line" => fs::write(dir.path().join(MANIFEST), &whole[..line.len() + 30]).unwrap(),
            "in the manifest" | "some moved" => fs::write(dir.path().join(MANIFEST), whole).unwrap(),
            _ => {}
        }
        if step == "some moved" {
            removed.iter().step_by(2).for_each(|path| fs::remove_file(dir.path().join(path)).unwrap());
        } else {
            assert!(all_places(dir.path(), Table::Calls).len() >= 24, "{step}");
        }
        keep(dir.path(), merging());
        let found = tree_of(dir.path());
        assert!(found.keys().eq(after.keys()), "{step}");
        assert!(found == after, "{step}");
    }
}

fn hidden(path: &str) -> String {
    let (dir, name) = path.rsplit_once('/').unwrap();
    format!("{dir}/.{name}")
}

fn copy(from: &Path, to: &Path) {
    for (path, bytes) in tree_of(from) {
        let path = to.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

#[test]
fn a_damaged_file_stays_and_the_others_are_merged() {
    let dir = written(merging());
    let path = tree_of(dir.path()).into_keys().find(|path| path.starts_with("calls/")).unwrap();
    fs::write(dir.path().join(&path), b"PAR1 but no more").unwrap();
    let live = keep(dir.path(), merging());
    assert!(live.contains(&path));
    assert!(live.iter().filter(|path| path.starts_with("sessions/")).count() < 13);
}

#[test]
fn what_is_replaced_stays_for_its_readers_and_for_pins() {
    let dir = written(merging());
    let slow = HistoryOptions { keep_replaced: Duration::from_secs(3600), ..merging() };
    let before = tree_of(dir.path());
    keep(dir.path(), slow);
    let aside = |dir: &Path| tree_of(dir).keys().filter(|path| path.starts_with(".replaced/")).count();
    let replaced = aside(dir.path());
    assert!(replaced > 60, "{replaced}");
    for (path, bytes) in before.iter().filter(|(path, _)| path.ends_with(".parquet")) {
        let places = [dir.path().join(path), dir.path().join(".replaced").join(path)];
        let found = places.iter().find_map(|place| fs::read(place).ok()).unwrap();
        assert!(found == *bytes, "{path}");
    }
    let version = History::open(dir.path(), slow).unwrap().ledger.version();
    fs::create_dir(dir.path().join("pins")).unwrap();
    fs::write(dir.path().join("pins/nightly"), (version - 1).to_string()).unwrap();
    keep(dir.path(), merging());
    assert_eq!(aside(dir.path()), replaced, "somebody holds the version before");
    fs::write(dir.path().join("pins/nightly"), version.to_string()).unwrap();
    keep(dir.path(), merging());
    assert_eq!(aside(dir.path()), 0);
}

#[test]
fn old_hours_and_too_many_bytes_go_but_never_the_model() {
    let dir = written(merging());
    let models = all_places(dir.path(), Table::Models);
    let age = Limits { age: Some(Duration::from_secs(4 * 3600)), bytes: None };
    let none = Limits { age: None, bytes: None };
    let few = Limits { age: None, bytes: Some(60_000) };
    let retention = Retention::all(age).with(Table::Sessions, none).with(Table::Messages, few);
    let live = keep(dir.path(), HistoryOptions { compaction: None, retention, ..merging() });
    let count = |table: &str| live.iter().filter(|path| path.starts_with(table)).count();
    assert_eq!((count("sessions/"), all_places(dir.path(), Table::Models)), (20, models));
    assert!((12..=15).contains(&count("calls/")), "{}", count("calls/"));
    assert!(count("messages/") < 12 && count("messages/") > 0, "{}", count("messages/"));
    // The log read again from its beginning brings nothing back.
    write(dir.path(), long_ticks());
    assert!((12..=15).contains(&all_places(dir.path(), Table::Calls).len()));
}

#[test]
fn a_manifest_of_the_first_layout_is_read_and_a_long_one_is_written_anew() {
    let dir = written(merging());
    let path = dir.path().join(MANIFEST);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("\"undercurrent_history\":2", "\"undercurrent_history\":1", 1)).unwrap();
    let history = History::open(dir.path(), merging()).unwrap();
    let (version, files) = (history.ledger.version(), history.ledger.look(|live, _| live.len()));
    drop(history);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("{\"undercurrent_history\":2,\"version\":24}\n{\"base\":["), "{}", &text[..80]);
    assert_eq!(text.lines().count(), 2);
    let mut history = History::open(dir.path(), merging()).unwrap();
    assert_eq!((history.ledger.version(), history.ledger.look(|live, _| live.len())), (version, files));
    history.write(at(25, START + 25 * 1_200_000_000)).unwrap();
    assert_eq!(history.ledger.version(), version + 1);
}

/// Files that an earlier version wrote are read, and merged with those of this one; columns that came since are NULL.
#[test]
fn files_of_an_earlier_version_are_merged_with_new_ones() {
    let dir = tempfile::tempdir().unwrap();
    let earlier = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/history_1");
    copy(&earlier, dir.path());
    let before = all_places(dir.path(), Table::Messages);
    assert_eq!(before.len(), 12);
    write(dir.path(), long_ticks());
    let live = keep(dir.path(), merging());
    for table in Table::ALL.into_iter().filter(|table| earlier.join(table.name()).is_dir()) {
        let merged =
            format!("{}/date=2026-03-02/hour=08/t=00000000000000000001-00000000000000000002.parquet", table.name());
        // A table that came since has nothing to be merged with.
        assert!(
            !earlier.join(table.name()).exists()
                || live.contains(&merged)
                || !live.iter().any(|path| path.starts_with(&format!("{}/date=2026-03-02/hour=08", table.name()))),
            "{merged}"
        );
        for path in live.iter().filter(|path| path.starts_with(&format!("{}/", table.name()))) {
            let (batch, _) = read(&dir.path().join(path));
            // A file that was not merged has the columns of its time.
            let names = |schema: &arrow::datatypes::Schema| {
                schema.fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>()
            };
            assert!(
                names(batch.schema_ref()).iter().all(|name| table.schema().column_with_name(name).is_some()),
                "{path}"
            );
        }
    }
    assert!(all_places(dir.path(), Table::Messages).starts_with(&before));
}
