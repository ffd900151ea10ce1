//! The log as a whole: what is appended comes out, once and in order, also after a crash.

use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use prost::Message as _;
use tempfile::TempDir;
use undercurrent_schemas::ids::{Micros, Offset, Partition, Sequence, Tick, partition_of};
use undercurrent_schemas::v1;

use super::error::newest_journal;
use super::journal::written_bytes;
use super::*;

const NO_WAIT: Duration = Duration::ZERO;
/// Longer than any test takes: a wait that is over is a failure.
const LONG: Duration = Duration::from_secs(60);

fn event(session: &str, ts_us: i64) -> v1::Event {
    v1::Event { session_id: session.to_owned(), ts_us, ..Default::default() }
}

fn replay(dir: &Path) -> EmbeddedLog {
    EmbeddedLog::open(dir, LogOptions::replay()).unwrap()
}

fn live(dir: &Path) -> EmbeddedLog {
    EmbeddedLog::open(dir, LogOptions::default()).unwrap()
}

fn wait_durable(log: &EmbeddedLog, sequence: Sequence) {
    let mut durable = log.durable();
    let wait = async { tokio::time::timeout(LONG, durable.wait_for(|safe| *safe >= sequence)).await.is_ok() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    assert!(runtime.block_on(wait), "sequence {sequence} is not durable");
}

/// All that is committed, as (tick, partition, offset, event), and every offset as expected.
fn read_all(log: &EmbeddedLog) -> Vec<(Tick, Partition, v1::Event)> {
    let mut tail = log.tail(None);
    let mut ends = [0; 8];
    let mut out = Vec::new();
    while let Some(tick) = tail.next(NO_WAIT).unwrap() {
        for batch in &tick.batches {
            let end = &mut ends[batch.partition.0 as usize];
            assert_eq!(batch.first_offset, Offset(*end));
            *end += batch.records.len() as u64;
            let decoded = batch.records.iter().map(|record| v1::Event::decode(&record[..]).unwrap());
            out.extend(decoded.map(|event| (tick.tick, batch.partition, event)));
        }
    }
    out
}

fn sequences(log: &EmbeddedLog) -> Vec<u64> {
    let mut sequences: Vec<_> = read_all(log).iter().map(|(_, _, event)| event.id.unwrap().sequence).collect();
    sequences.sort_unstable();
    sequences
}

fn gap_reasons(log: &EmbeddedLog) -> Vec<v1::gap::Reason> {
    let reason = |event: &v1::Event| match &event.body {
        Some(v1::event::Body::Gap(gap)) => Some(gap.reason()),
        _ => None,
    };
    read_all(log).iter().filter_map(|(_, _, event)| reason(event)).collect()
}

/// The directory as a power failure would leave it.
fn copy(from: &Path) -> TempDir {
    fn copy_dir(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let to = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                copy_dir(&entry.path(), &to);
            } else if entry.path().extension().is_some_and(|kind| kind == "jnl") {
                // Most of it is space that is only reserved.
                let bytes = std::fs::read(entry.path()).unwrap();
                let kept = bytes.len().min(written_bytes(&bytes) + 4_096);
                std::fs::write(to, &bytes[..kept]).unwrap();
            } else {
                std::fs::copy(entry.path(), to).unwrap();
            }
        }
    }
    let to = tempfile::tempdir().unwrap();
    copy_dir(from, to.path());
    to
}

#[test]
fn what_is_appended_comes_out_in_order_and_once() {
    let dir = tempfile::tempdir().unwrap();
    let log = replay(dir.path());
    for tick in 1..=3 {
        for n in 0..4 {
            log.append(event(&format!("s{n}"), tick * 1_000)).unwrap();
        }
        log.commit(Tick(tick as u64 * 10), Micros(tick * 1_000)).unwrap();
    }
    assert_eq!(sequences(&log), (1..=12).collect::<Vec<_>>());
    for (tick, partition, event) in read_all(&log) {
        assert_eq!(partition, partition_of(&event.session_id, 8));
        assert_eq!(tick.0 as i64, event.ts_us / 100);
    }
    let mut late = log.tail(Some(Tick(20)));
    assert_eq!(late.next(NO_WAIT).unwrap().unwrap().tick, Tick(30));
    assert!(late.next(NO_WAIT).unwrap().is_none());
    assert_eq!(log.status().watermark, Micros(3_000));
}

#[test]
fn ticks_must_grow_and_a_group_log_is_not_committed_by_hand() {
    let dir = tempfile::tempdir().unwrap();
    let log = replay(dir.path());
    log.commit(Tick(5), Micros(0)).unwrap();
    assert!(matches!(log.commit(Tick(5), Micros(0)), Err(LogError::TickNotGrown { last: Tick(5), asked: Tick(5) })));

    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(live(dir.path()).commit(Tick(5), Micros(0)), Err(LogError::NotManual(Tick(5)))));
}

#[test]
fn a_live_log_commits_by_itself_and_wakes_its_tails() {
    let dir = tempfile::tempdir().unwrap();
    let log = live(dir.path());
    let mut tail = log.tail(None);
    let reader = std::thread::spawn(move || tail.next(LONG).unwrap().unwrap());
    let sequence = log.append(event("s", 0)).unwrap();
    wait_durable(&log, sequence);
    let tick = reader.join().unwrap();
    assert_eq!(tick.records(), 1);
    assert!(tick.watermark.0 > 0, "stamped by the clock");
    assert!(log.healthy());
}

#[test]
fn tails_read_the_same_from_memory_and_from_disk() {
    let dir = tempfile::tempdir().unwrap();
    let options = LogOptions { recent_bytes_max: 0, ..LogOptions::replay() };
    let log = EmbeddedLog::open(dir.path(), options).unwrap();
    for tick in 1..=2_000 {
        log.append(event("s", tick)).unwrap();
        log.commit(Tick(tick as u64), Micros(tick)).unwrap();
    }
    let from_disk = sequences(&log);
    assert_eq!(from_disk, (1..=2_000).collect::<Vec<_>>());
    let mut small = log.tail(None).read_bytes_max(1);
    for tick in 1..=5 {
        assert_eq!(small.next(NO_WAIT).unwrap().unwrap().tick, Tick(tick));
    }
}

#[test]
fn a_closed_log_goes_on_without_a_gap_and_in_its_next_life() {
    let dir = tempfile::tempdir().unwrap();
    let first = live(dir.path());
    first.append(event("s", 0)).unwrap();
    let tail = first.tail(None);
    first.close().unwrap();
    assert!(!tail.is_ended(), "there is something to read");
    assert_eq!(first.append(event("s", 0)), Err(LogFull));
    let (life, before) = (first.life(), first.status());
    drop((first, tail));

    let second = live(dir.path());
    assert_eq!(second.life(), GatewayLife { epoch: life.epoch + 1, ..life });
    assert_eq!(second.status().ends, before.ends);
    assert_eq!(second.status().watermark, before.watermark);
    let sequence = second.append(event("s", 0)).unwrap();
    wait_durable(&second, sequence);
    assert_eq!(gap_reasons(&second), []);
    assert!(second.status().last_tick > before.last_tick);
}

#[test]
fn a_log_that_was_not_closed_says_so_in_a_gap_event() {
    let dir = tempfile::tempdir().unwrap();
    let log = live(dir.path());
    let sequence = log.append(event("s", 0)).unwrap();
    wait_durable(&log, sequence);
    let crashed = copy(dir.path());
    let again = live(crashed.path());
    wait_durable(&again, Sequence(1));
    assert_eq!(gap_reasons(&again), [v1::gap::Reason::UncleanStop]);
}

#[test]
fn a_replay_that_goes_on_is_the_same_life() {
    let dir = tempfile::tempdir().unwrap();
    let log = replay(dir.path());
    log.append(event("s", 1)).unwrap();
    log.commit(Tick(1), Micros(1)).unwrap();
    log.sync().unwrap();
    assert_eq!(*log.durable().borrow(), Sequence(1));
    let again = copy(dir.path());
    let again = replay(again.path());
    assert_eq!(again.append(event("s", 2)), Ok(Sequence(2)));
    assert_eq!(again.life(), log.life());
}

#[test]
fn another_number_of_partitions_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(replay(dir.path()));
    let error = EmbeddedLog::open(dir.path(), LogOptions { partitions: 4, ..LogOptions::replay() }).unwrap_err();
    assert!(matches!(error, LogError::Partitions { stored: 8, asked: 4, .. }));
    assert!(error.to_string().contains("log.partitions = 8"), "{error}");
}

#[test]
fn forwarded_events_are_taken_once_also_across_lives() {
    let dir = tempfile::tempdir().unwrap();
    let life = GatewayLife { gateway: 77, epoch: 1 };
    let forwarded = |sequence| {
        let id = Some(v1::EventId { gateway: 77, epoch: 1, sequence });
        v1::Event { id, ..event("s", 1) }
    };
    let log = live(dir.path());
    assert_eq!(log.forward(&forwarded(1)), Ok(Forwarded::Queued));
    assert_eq!(log.append(forwarded(2)), Ok(Sequence(2)));
    log.close().unwrap();
    assert_eq!(*log.durable_of(life).borrow(), Sequence(2));
    drop(log);

    let log = live(dir.path());
    assert_eq!(log.forward(&forwarded(2)), Ok(Forwarded::Duplicate));
    assert_eq!(*log.durable_of(life).borrow(), Sequence(2), "acknowledged without being written again");
    assert_eq!(log.forward(&forwarded(3)), Ok(Forwarded::Queued));
    log.close().unwrap();
    assert_eq!(sequences(&log), [1, 2, 3]);
}

#[test]
fn a_full_disk_keeps_what_was_accepted_and_ends_with_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let options = LogOptions { queue_events_max: 3, ..LogOptions::default() };
    let log = EmbeddedLog::open(dir.path(), options).unwrap();
    log.fail_commits(u32::MAX);
    let appended = (0..10).filter(|_| log.append(event("s", 0)).is_ok()).count();
    assert_eq!(appended, 3, "what is being committed has not left the queue");
    let mut tail = log.tail(None);
    assert!(tail.next(NO_WAIT).unwrap().is_none());

    log.fail_commits(0);
    let mut records = Vec::new();
    while records.len() < 4 {
        let tick = tail.next(LONG).unwrap().expect("the committer tries again");
        records.extend(tick.batches.iter().flat_map(|batch| batch.records.clone()));
    }
    let gaps = records.iter().filter_map(|record| match v1::Event::decode(&record[..]).unwrap().body {
        Some(v1::event::Body::Gap(gap)) => Some((gap.reason(), gap.events)),
        _ => None,
    });
    assert_eq!(gaps.collect::<Vec<_>>(), [(v1::gap::Reason::Overflow, 7)]);
    assert_eq!(log.status().dropped_events, 7);
    assert!(log.healthy());
}

#[test]
fn a_disk_that_stays_full_is_told_by_close() {
    let dir = tempfile::tempdir().unwrap();
    let log = live(dir.path());
    log.fail_commits(u32::MAX);
    log.append(event("s", 0)).unwrap();
    assert!(matches!(log.close(), Err(LogError::Uncommitted { events: 1 })));
    assert!(log.status().error.unwrap().contains("free space on"));
    assert!(!log.healthy());
}

#[test]
fn a_torn_journal_ends_with_its_last_whole_tick() {
    let dir = tempfile::tempdir().unwrap();
    let log = replay(dir.path());
    let mut lengths = Vec::new();
    for tick in 1..=5 {
        log.append(event("a session id that is long enough to be cut in two", tick)).unwrap();
        log.commit(Tick(tick as u64), Micros(tick)).unwrap();
        log.sync().unwrap();
        lengths.push(written_bytes(&std::fs::read(newest_journal(dir.path())).unwrap()) as u64);
    }
    for (cut, whole) in [(lengths[4] - 1, 4), (lengths[3] + 20, 4), (lengths[3], 4), (lengths[2] + 1, 3)] {
        let torn = copy(dir.path());
        let journal = std::fs::File::options().write(true).open(newest_journal(torn.path())).unwrap();
        journal.set_len(cut).unwrap();
        assert_eq!(sequences(&replay(torn.path())), (1..=whole).collect::<Vec<_>>(), "cut at {cut}");
    }
}

/// A log of five synced ticks, with one bit wrong in the given one.
fn damaged(tick: usize) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let log = replay(dir.path());
    for tick in 1..=5 {
        log.append(event("a session id that is easily found", tick)).unwrap();
        log.commit(Tick(tick as u64), Micros(tick)).unwrap();
    }
    log.sync().unwrap();
    let damaged = copy(dir.path());
    let journal = newest_journal(damaged.path());
    let mut bytes = std::fs::read(&journal).unwrap();
    let at: Vec<_> = memchr::memmem::find_iter(&bytes, b"easily found").collect();
    bytes[at[tick - 1]] ^= 1;
    std::fs::write(&journal, bytes).unwrap();
    damaged
}

#[test]
fn damage_before_a_whole_tick_is_refused_with_the_file_and_a_remedy() {
    let dir = damaged(3);
    let before = std::fs::read(newest_journal(dir.path())).unwrap();
    let error = EmbeddedLog::open(dir.path(), LogOptions::replay()).unwrap_err();
    assert!(matches!(&error, LogError::Damaged { file, .. } if *file == newest_journal(dir.path())));
    assert!(error.to_string().contains("restore it from a backup"));
    assert_eq!(std::fs::read(newest_journal(dir.path())).unwrap(), before, "nothing is cut");
}

#[test]
fn a_last_tick_that_was_written_in_part_but_with_its_end_is_cut() {
    let dir = damaged(5);
    assert_eq!(sequences(&replay(dir.path())), [1, 2, 3, 4]);
}

/// Changes the block of tick 2 behind the log's back; the error of a tail that has read tick 1.
fn corrupt_block(change: impl FnOnce(&fjall::Keyspace, &[u8])) -> LogError {
    let dir = tempfile::tempdir().unwrap();
    let log = replay(dir.path());
    for tick in 1..=3 {
        log.append(event("s", tick)).unwrap();
        log.commit(Tick(tick as u64), Micros(tick)).unwrap();
    }
    drop(log);
    let db = fjall::Database::builder(dir.path()).open().unwrap();
    let records = db.keyspace("records", Default::default).unwrap();
    let key = records.iter().nth(1).unwrap().key().unwrap();
    change(&records, &key);
    drop((records, db));

    let log = replay(dir.path());
    let mut tail = log.tail(None);
    assert_eq!(tail.next(NO_WAIT).unwrap().unwrap().tick, Tick(1));
    tail.next(NO_WAIT).unwrap_err()
}

#[test]
fn a_block_that_is_missing_or_not_what_was_bound_is_told_with_its_place() {
    let missing = corrupt_block(|records, key| records.remove(key).unwrap());
    let changed = corrupt_block(|records, key| records.insert(key, b"other bytes").unwrap());
    for error in [missing, changed] {
        assert!(matches!(error, LogError::Corrupt { offset: Offset(1), tick: Tick(2), .. }), "{error}");
        assert!(error.to_string().contains("restore the log from a backup"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Whatever is appended and wherever the power fails: exactly the synced ticks are there, in order.
    #[test]
    fn exactly_the_durable_prefix_survives(ticks in prop::collection::vec(0..20_usize, 1..12), cut in 0..12_usize) {
        let dir = tempfile::tempdir().unwrap();
        let log = replay(dir.path());
        let mut appended = 0;
        for (index, events) in ticks.iter().enumerate().take(cut) {
            for n in 0..*events {
                log.append(event(&format!("s{}", n % 5), index as i64 + 1)).unwrap();
            }
            appended += events;
            log.commit(Tick(index as u64 + 1), Micros(index as i64)).unwrap();
        }
        log.sync().unwrap();
        let image = copy(dir.path());
        log.append(event("lost", 1_000)).unwrap();
        log.commit(Tick(1_000), Micros(1_000)).unwrap();

        let again = replay(image.path());
        prop_assert_eq!(sequences(&again), (1..=appended as u64).collect::<Vec<_>>());
        let bound = ticks.len().min(cut) as u64;
        prop_assert_eq!(again.status().last_tick, (bound > 0).then_some(Tick(bound)));
        prop_assert_eq!(again.append(event("s", 0)), Ok(Sequence(appended as u64 + 1)));
    }
}

/// A kill while a log is made for the first time.
#[test]
fn a_log_that_was_never_made_whole_is_made_anew() {
    let made = |journal: &[u8], marker: Option<&str>| {
        let dir = TempDir::new().expect("a directory");
        std::fs::create_dir(dir.path().join("keyspaces")).expect("made");
        std::fs::write(dir.path().join("0.jnl"), journal).expect("written");
        if let Some(marker) = marker {
            std::fs::write(dir.path().join("version"), marker).expect("written");
        }
        dir
    };
    // Before the marker that is written last, and in the middle of it.
    for marker in [None, Some(""), Some("FJL")] {
        let dir = made(&[0; 64], marker);
        drop(EmbeddedLog::open(dir.path(), LogOptions::replay()).expect("nothing was in it"));
        drop(EmbeddedLog::open(dir.path(), LogOptions::replay()).expect("it is one now"));
        let dir = made(b"something", marker);
        assert!(EmbeddedLog::open(dir.path(), LogOptions::replay()).is_err(), "what may be a log is not removed");
        assert!(dir.path().join("0.jnl").exists());
    }
}
