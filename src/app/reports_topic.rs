//! What others report on topic `telemetry`, on its way to the log: the engine reads it, whoever reports needs no token.
//!
//! Each record becomes events whose ids follow from its place, so that one that is taken twice counts once. What cannot be
//! read is a dead letter with its place.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use undercurrent_dataflows::facts::DigestKey;
use undercurrent_schemas::ids::Sequence;
use undercurrent_schemas::otlp::{self, Encoding, Signal};
use undercurrent_schemas::v1;
use undercurrent_schemas::v1::event::Body;

use super::{intake, settings};
use crate::config::Config;
use crate::log::{ExternalReport, GatewayLife, KafkaLogError, OwnerLog, ReportReader};

/// How long the reader sleeps at most before it looks whether it should stop.
const WAIT: Duration = Duration::from_millis(100);
/// How often it is noted how far reports were taken.
const NOTE_EVERY: Duration = Duration::from_secs(1);
/// How long it waits for room in the queue to the log before it looks again.
const ROOM_WAIT: Duration = Duration::from_millis(10);
/// Events of one record have numbers of their own below this.
const EVENTS_BITS: u32 = 16;

/// What every event of it says.
#[derive(Clone, Debug)]
pub(super) struct Said {
    pub(super) tenant: String,
    pub(super) digest_key: u32,
    pub(super) points_max: usize,
}

impl Said {
    pub(super) fn of(config: &Config, key: &DigestKey) -> Self {
        Self { tenant: settings::TENANT.to_owned(), digest_key: key.id, points_max: config.reports.points_max }
    }
}

/// The thread that reads.
#[derive(Debug)]
pub(super) struct ReportsTopic {
    stopping: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl ReportsTopic {
    pub(super) fn start(reader: ReportReader, log: Arc<dyn OwnerLog>, said: Said) -> anyhow::Result<Self> {
        let stopping = Arc::new(AtomicBool::new(false));
        let mut taking = Taking { reader, log, said, stopping: Arc::clone(&stopping), taken: BTreeMap::new() };
        let thread = std::thread::Builder::new().name("reports".to_owned());
        let run = move || {
            if let Err(error) = taking.run() {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "reports of topic telemetry are taken no more");
            }
        };
        Ok(Self { stopping, thread: thread.spawn(run).context("start the thread that reads reports")? })
    }

    pub(super) fn stop(self) {
        self.stopping.store(true, Ordering::Release);
        if self.thread.join().is_err() {
            tracing::error!("the thread that reads reports has died; the next start goes on where it was");
        }
    }
}

struct Taking {
    reader: ReportReader,
    log: Arc<dyn OwnerLog>,
    said: Said,
    stopping: Arc<AtomicBool>,
    taken: BTreeMap<u32, Taken>,
}

/// Of one partition.
#[derive(Debug, Default)]
struct Taken {
    /// The offset after the last record, and its last event.
    last: (u64, Sequence),
    /// As it was when it was looked last: noted once that event is durable.
    asked: Option<(u64, Sequence)>,
}

impl Taking {
    fn run(&mut self) -> Result<(), KafkaLogError> {
        let mut looked = Instant::now();
        while !self.stopping.load(Ordering::Acquire) {
            if let Some(report) = self.reader.next(WAIT)? {
                self.take(&report);
            }
            if looked.elapsed() >= NOTE_EVERY {
                looked = Instant::now();
                self.note();
            }
        }
        self.note();
        Ok(())
    }

    fn take(&mut self, report: &ExternalReport) {
        let life = self.life(report.partition);
        let last = self.taken.entry(report.partition).or_default().last.1;
        let mut sequence = last;
        for (index, (server, body)) in self.bodies(report).into_iter().take(1 << EVENTS_BITS).enumerate() {
            sequence = Sequence(((report.offset + 1) << EVENTS_BITS) | index as u64);
            let id = v1::EventId { gateway: life.gateway, epoch: life.epoch, sequence: sequence.0 };
            let event = v1::Event {
                id: Some(id),
                ts_us: self.log.clock().now().0,
                tenant: self.said.tenant.clone(),
                server,
                digest_key: self.said.digest_key,
                body: Some(body),
                ..v1::Event::default()
            };
            while self.log.forward(&event).is_err() {
                if self.stopping.load(Ordering::Acquire) {
                    // Read again by the next life: what of it was taken is there once.
                    return;
                }
                std::thread::sleep(ROOM_WAIT);
            }
        }
        self.taken.entry(report.partition).or_default().last = (report.offset + 1, sequence);
    }

    fn bodies(&self, report: &ExternalReport) -> Vec<(String, Body)> {
        let topic = self.reader.topic();
        let (encoding, signal) = form(report);
        let now = self.log.clock().now();
        let place = format!("{topic}/{}/{}", report.partition, report.offset);
        match otlp::decode(&report.bytes, encoding, signal, topic, now, self.said.points_max) {
            Ok(decoded) => intake::bodies(decoded, &place),
            Err(unreadable) => vec![(String::new(), intake::letter_of(&unreadable, &place, &report.bytes))],
        }
    }

    /// Notes what has become durable since it was looked last.
    fn note(&mut self) {
        let lives: Vec<_> = self.taken.keys().map(|partition| (*partition, self.life(*partition))).collect();
        for (partition, life) in lives {
            let durable = *self.log.durable_of(life).borrow();
            let Some(taken) = self.taken.get_mut(&partition) else { continue };
            if let Some((before, _)) = taken.asked.filter(|(_, sequence)| *sequence <= durable) {
                self.reader.taken(partition, before);
                taken.asked = None;
            }
            if taken.asked.is_none() {
                taken.asked = Some(taken.last);
            }
        }
    }

    fn life(&self, partition: u32) -> GatewayLife {
        GatewayLife { gateway: self.reader.intake(), epoch: u64::from(partition) + 1 }
    }
}

/// How a record is to be read: its header says what it is about; JSON says so by itself.
fn form(report: &ExternalReport) -> (Encoding, Signal) {
    let encoding = Encoding::of(&report.bytes);
    let is_logs = match report.signal.as_str() {
        "logs" => true,
        "metrics" => false,
        _ => encoding == Encoding::Json && memchr::memmem::find(&report.bytes, b"\"resourceLogs\"").is_some(),
    };
    (encoding, if is_logs { Signal::Logs } else { Signal::Metrics })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_says_what_it_is_about() {
        let form = |signal: &str, bytes: &[u8]| {
            form(&ExternalReport { partition: 0, offset: 0, bytes: bytes.to_vec(), signal: signal.to_owned() })
        };
        assert_eq!(form("", b"{\"resourceMetrics\":[]}"), (Encoding::Json, Signal::Metrics));
        assert_eq!(form("", b" {\"resourceLogs\":[]}"), (Encoding::Json, Signal::Logs));
        assert_eq!(form("logs", b"\n\0"), (Encoding::Protobuf, Signal::Logs));
        assert_eq!(form("", b"\n\0"), (Encoding::Protobuf, Signal::Metrics));
    }
}
