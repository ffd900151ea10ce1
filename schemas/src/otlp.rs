//! Telemetry from outside: OTLP metrics and logs, JSON or protobuf, as points, and what cannot be one with its reason.
//!
//! A pure function of bytes and the present time: the same for HTTP and for a topic. The types of OTLP are those of
//! `opentelemetry-proto`. Not kept: the text of log records, exemplars, bucket counts, quantiles.
//!
//! Invariant: a point that is given out is within its bounds: finite numbers, texts and attributes of limited length, a
//! time near the present.

mod points;
#[cfg(test)]
mod tests;

use opentelemetry_proto::tonic::logs::v1::LogsData;
use opentelemetry_proto::tonic::metrics::v1::MetricsData;

use crate::ids::Micros;
use crate::v1::Point;

pub use points::{ATTRIBUTES_MAX, NAME_BYTES_MAX, VALUE_BYTES_MAX};

/// How the bytes are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Json,
    Protobuf,
}

impl Encoding {
    /// Of a record that does not say: JSON begins with a brace, which no message of OTLP does.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
        if first == Some(&b'{') { Self::Json } else { Self::Protobuf }
    }
}

/// What the bytes are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Metrics,
    Logs,
}

/// What was in the bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decoded {
    /// Points by the server that they are about (empty = none is named), in order.
    pub points: Vec<(String, Point)>,
    /// Why each of the others is none.
    pub rejected: Vec<String>,
}

/// Why nothing could be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("not OTLP in {0}: {1}")]
    Malformed(&'static str, String),
    #[error("{found} points, more than {most} at once; send them in smaller batches")]
    TooMany { found: usize, most: usize },
}

/// Reads one export. `source` is how it came, `now` the present time, and it may have `points_max` points.
pub fn decode(
    bytes: &[u8],
    encoding: Encoding,
    signal: Signal,
    source: &str,
    now: Micros,
    points_max: usize,
) -> Result<Decoded, Unreadable> {
    let mut intake = points::Intake::new(source, now);
    let found = match signal {
        Signal::Metrics => {
            let data: MetricsData = read(bytes, encoding)?;
            let found = points::count_metrics(&data);
            if found <= points_max {
                intake.metrics(data);
            }
            found
        }
        Signal::Logs => {
            let data: LogsData = read(bytes, encoding)?;
            let found = points::count_logs(&data);
            if found <= points_max {
                intake.logs(data);
            }
            found
        }
    };
    if found > points_max { Err(Unreadable::TooMany { found, most: points_max }) } else { Ok(intake.decoded) }
}

fn read<T: prost::Message + Default + serde::de::DeserializeOwned>(
    bytes: &[u8],
    encoding: Encoding,
) -> Result<T, Unreadable> {
    match encoding {
        Encoding::Json => {
            serde_json::from_slice(bytes).map_err(|error| Unreadable::Malformed("JSON", error.to_string()))
        }
        Encoding::Protobuf => T::decode(bytes).map_err(|error| Unreadable::Malformed("protobuf", error.to_string())),
    }
}
