use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use undercurrent_schemas::ids::{Micros, Tick, stable_hash};
use undercurrent_schemas::v1;

use crate::config::Retention;
use crate::log::{Continues, EmbeddedLog, EventLog, LogOptions, LogReader, OwnerLog as _, QuietLog as _};

const SECOND: i64 = 1_000_000;

/// A name that packing leaves as it is.
fn session(tick: u64) -> String {
    format!("{:016x}", stable_hash(&[&tick.to_le_bytes()]))
}

/// A log with one event a tick, a second apart.
fn log(dir: &Path, ticks: u64) -> EmbeddedLog {
    let log = EmbeddedLog::open(dir, LogOptions { partitions: 2, ..LogOptions::replay() }).expect("opened");
    for tick in 1..=ticks {
        let event = v1::Event { ts_us: tick as i64 * SECOND, session_id: session(tick), ..Default::default() };
        log.append(event).expect("room");
        log.commit(Tick(tick), Micros(tick as i64 * SECOND)).expect("committed");
    }
    log
}

fn ticks_after(log: &EmbeddedLog, after: Option<u64>) -> Vec<u64> {
    let mut tail = log.tail(after.map(Tick));
    std::iter::from_fn(|| tail.next(Duration::ZERO).expect("readable")).map(|tick| tick.tick.0).collect()
}

fn by_age(seconds: u64) -> Retention {
    Retention { age: Some(Duration::from_secs(seconds)), bytes: None }
}

#[test]
fn what_is_too_old_goes_as_far_as_nobody_needs_it() {
    let dir = TempDir::new().expect("a temporary directory");
    let all = log(dir.path(), 100);
    assert_eq!(all.retain(&by_age(1_000), Tick(100)).expect("looked"), None, "nothing is too old");
    assert_eq!(all.retain(&by_age(30), Tick(50)).expect("cut"), Some(Tick(50)), "tick 50 is needed");
    assert_eq!(all.retain(&by_age(30), Tick(99)).expect("cut"), Some(Tick(70)), "30 seconds are kept");
    assert_eq!(all.retain(&by_age(60), Tick(99)).expect("looked"), None, "what is gone is gone");
    assert_eq!(all.after(Tick(69)).expect("looked"), Continues::No);
    let Continues::At(ends) = all.after(Tick(70)).expect("looked") else { panic!("its binding is kept") };
    assert_eq!(ends.iter().map(|end| end.0).sum::<u64>(), 70);
    drop(all);

    let again = log(dir.path(), 0);
    assert_eq!(again.floor().expect("looked"), Some(Tick(70)));
    assert_eq!(ticks_after(&again, Some(70)), (71..=100).collect::<Vec<_>>());
    assert_eq!(ticks_after(&again, None), (70..=100).collect::<Vec<_>>(), "bytes before it are of no tick");
}

#[test]
fn what_is_too_much_goes_and_never_more() {
    let dir = TempDir::new().expect("a temporary directory");
    drop(log(dir.path(), 2_000));
    let all = log(dir.path(), 0);
    let most = all.bytes().expect("read").expect("on this disk") - 10_000;
    let first = all.retain(&Retention { age: None, bytes: Some(most) }, Tick(2_000)).expect("cut").expect("too much");
    let expect = (100..1_000).contains(&first.0);
    assert!(expect, "10 kB of small records are some hundred ticks, not {first}");
    assert_eq!(all.retain(&Retention::default(), Tick(2_000)).expect("looked"), None);
}

#[test]
fn every_byte_goes_if_asked() {
    let dir = TempDir::new().expect("a temporary directory");
    let all = log(dir.path(), 200);
    all.sync().expect("synced");
    let holds = |tick: u64| holds(dir.path(), session(tick).as_bytes());
    assert!(holds(150));
    all.close().expect("closed");
    drop(all);
    LogReader::open(dir.path()).and_then(|log| log.remove_through(Tick(180))).expect("removed");
    assert!(!holds(150) && !holds(180), "a removed record is nowhere on the disk");
    let again = log(dir.path(), 0);
    assert_eq!(ticks_after(&again, Some(180)), (181..=200).collect::<Vec<_>>());
    assert!(holds(190));
}

fn holds(dir: &Path, text: &[u8]) -> bool {
    std::fs::read_dir(dir).expect("listed").any(|entry| {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            return holds(&path, text);
        }
        let bytes = std::fs::read(&path).expect("read");
        memchr::memmem::find(&bytes, text).is_some()
    })
}
