//! The writer's thread: all that was queued is written; errors are retried; a stop ends even then.

use std::fs;

use super::super::{History, HistoryError, HistoryWriter, Retries};
use super::sample::{options, ticks};
use super::{Duration, Tick, tree_of, write};

const QUICK: Retries =
    Retries { pause_first: Duration::from_millis(1), pause_max: Duration::from_millis(2), tries_when_stopping: 2 };

#[test]
fn all_that_was_queued_is_written_at_a_stop() {
    let (expected, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(expected.path(), ticks(20));
    let writer = HistoryWriter::spawn(History::open(dir.path(), options()).unwrap(), 2, QUICK).unwrap();
    let queue = writer.queue();
    let covered = writer.covered();
    ticks(20).into_iter().for_each(|rows| queue.send(rows).unwrap());
    writer.finish().unwrap();
    assert_eq!(*covered.borrow(), Some(Tick(20)));
    assert_eq!(queue.depth(), 0);
    assert_eq!(tree_of(expected.path()), tree_of(dir.path()));
    let refused = queue.send(ticks(21).remove(20)).unwrap_err();
    assert_eq!(refused.0.tick, Tick(21), "the rows come back");
    assert_eq!(queue.depth(), 0);
}

#[tokio::test]
async fn the_thread_tries_again_until_the_disk_is_well() {
    let (expected, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(expected.path(), ticks(6));
    let writer = HistoryWriter::spawn(History::open(dir.path(), options()).unwrap(), 10, QUICK).unwrap();
    let obstacle = dir.path().join("messages");
    fs::write(&obstacle, b"not a directory").unwrap();
    let queue = writer.queue();
    ticks(6).into_iter().for_each(|rows| queue.send(rows).unwrap());
    while !queue.is_failing() {
        tokio::task::yield_now().await;
    }
    fs::remove_file(obstacle).unwrap();
    writer.covered().wait_for(|covered| *covered == Some(Tick(6))).await.unwrap();
    assert!(!queue.is_failing());
    writer.finish().unwrap();
    assert_eq!(tree_of(expected.path()), tree_of(dir.path()));
}

#[test]
fn a_stop_ends_even_if_the_disk_does_not_recover() {
    let dir = tempfile::tempdir().unwrap();
    let writer = HistoryWriter::spawn(History::open(dir.path(), options()).unwrap(), 10, QUICK).unwrap();
    fs::write(dir.path().join("calls"), b"not a directory").unwrap();
    ticks(6).into_iter().for_each(|rows| writer.queue().send(rows).unwrap());
    assert!(matches!(writer.finish(), Err(HistoryError::Io { .. })));
}

#[test]
fn pauses_grow_up_to_a_bound() {
    let retries = Retries::default();
    let pauses: Vec<_> = [1, 2, 3, 7, 8, 40].map(|failures| retries.pause(failures).as_millis()).to_vec();
    assert_eq!(pauses, [100, 200, 400, 6400, 10_000, 10_000]);
}
