//! What is reported from outside, on its way to the log: points by server, and what is none with its reason.

use undercurrent_schemas::otlp::{self, Decoded, Encoding, Signal, Unreadable};
use undercurrent_schemas::v1::event::Body;
use undercurrent_schemas::v1::{DeadLetter, Point, Telemetry};

use crate::admin::{Intake, Taken};
use crate::edge::Edge;
use crate::log::LogFull;

/// Points of one record of the log.
const RECORD_POINTS_MAX: usize = 256;
/// Reasons of one export that are kept each by itself.
const LETTERS_MAX: usize = 64;
/// What is kept of bytes that could not be read.
const CONTENT_BYTES_MAX: usize = 1024;

/// Takes reports for this process.
#[derive(Debug)]
pub(super) struct Reports {
    pub(super) edge: Edge,
    pub(super) points_max: usize,
}

impl Intake for Reports {
    fn take(&self, body: &[u8], encoding: Encoding, signal: Signal) -> Taken {
        let source = match signal {
            Signal::Metrics => "otlp/metrics",
            Signal::Logs => "otlp/logs",
        };
        let decoded = match otlp::decode(body, encoding, signal, source, self.edge.now(), self.points_max) {
            Ok(decoded) => decoded,
            Err(unreadable) => {
                // A full queue is counted by the log; the sender is told the reason either way.
                let _ = self.edge.report("", letter_of(&unreadable, source, body));
                return Taken::Unreadable { reason: unreadable.to_string() };
            }
        };
        let (rejected, reason) = (decoded.rejected.len(), decoded.rejected.first().cloned());
        let bodies = bodies(decoded, source);
        match bodies.into_iter().try_for_each(|(server, body)| self.edge.report(&server, body).map(drop)) {
            Ok(()) => Taken::Taken { rejected, reason },
            Err(LogFull) => Taken::Full,
        }
    }
}

/// What an export becomes in the log, by the server that it is about: its points, and why others are none.
pub(super) fn bodies(decoded: Decoded, source: &str) -> Vec<(String, Body)> {
    let mut bodies = Vec::new();
    let mut points = decoded.points.into_iter().peekable();
    while let Some((server, first)) = points.next() {
        let mut of_record: Vec<Point> = vec![first];
        while of_record.len() < RECORD_POINTS_MAX {
            let Some((_, point)) = points.next_if(|(next, _)| *next == server) else { break };
            of_record.push(point);
        }
        bodies.push((server, Body::Telemetry(Telemetry { points: of_record })));
    }
    let more = decoded.rejected.len().saturating_sub(LETTERS_MAX);
    let and_more = (more > 0).then(|| format!("and {more} more of the same export"));
    for reason in decoded.rejected.into_iter().take(LETTERS_MAX).chain(and_more) {
        let letter = DeadLetter { source: source.to_owned(), reason, content: Vec::new(), size_bytes: 0 };
        bodies.push((String::new(), Body::DeadLetter(letter)));
    }
    bodies
}

/// What is kept of bytes that could not be read.
pub(super) fn letter_of(unreadable: &Unreadable, source: &str, bytes: &[u8]) -> Body {
    Body::DeadLetter(DeadLetter {
        source: source.to_owned(),
        reason: unreadable.to_string(),
        content: bytes[..bytes.len().min(CONTENT_BYTES_MAX)].to_vec(),
        size_bytes: bytes.len() as u64,
    })
}
