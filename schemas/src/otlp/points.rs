//! From OTLP's data points and log records to ours, one by one.

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, LogsData};
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Metric, MetricsData, NumberDataPoint, metric::Data, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;

use super::Decoded;
use crate::ids::Micros;
use crate::v1::{Attribute, Point, PointKind};

/// Attributes of one point, those of its resource included.
pub const ATTRIBUTES_MAX: usize = 32;
/// Bytes of a name, a unit or a key.
pub const NAME_BYTES_MAX: usize = 256;
/// Bytes of an attribute's value; longer ones are cut.
pub const VALUE_BYTES_MAX: usize = 256;

/// How far from the present a point's time may be.
const PAST_US: i64 = 24 * 3_600_000_000;
const FUTURE_US: i64 = 5 * 60_000_000;

/// Attributes that name the server, the most telling first.
const SERVER: [&str; 2] = ["mcp.server.name", "service.name"];
/// Attributes that say which of several kinds of things a log record is about.
const LOG_NAME: &str = "log";

pub(super) fn count_metrics(data: &MetricsData) -> usize {
    let metrics = data.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics);
    metrics.flat_map(|scope| &scope.metrics).map(points_of).sum()
}

fn points_of(metric: &Metric) -> usize {
    match &metric.data {
        None => 1,
        Some(Data::Gauge(data)) => data.data_points.len(),
        Some(Data::Sum(data)) => data.data_points.len(),
        Some(Data::Histogram(data)) => data.data_points.len(),
        Some(Data::ExponentialHistogram(data)) => data.data_points.len(),
        Some(Data::Summary(data)) => data.data_points.len(),
    }
}

pub(super) fn count_logs(data: &LogsData) -> usize {
    let scopes = data.resource_logs.iter().flat_map(|resource| &resource.scope_logs);
    scopes.map(|scope| scope.log_records.len()).sum()
}

/// Takes points, and says why others are none.
pub(super) struct Intake<'a> {
    source: &'a str,
    now: Micros,
    pub(super) decoded: Decoded,
}

/// What a point says of itself before its attributes are looked at.
struct Said {
    kind: PointKind,
    cumulative: bool,
    time_unix_nano: u64,
    value: Option<f64>,
    count: u64,
    sum: f64,
    severity: u32,
}

impl Said {
    const fn at(kind: PointKind, time_unix_nano: u64) -> Self {
        Self { kind, cumulative: false, time_unix_nano, value: None, count: 0, sum: 0.0, severity: 0 }
    }
}

impl<'a> Intake<'a> {
    pub(super) fn new(source: &'a str, now: Micros) -> Self {
        Self { source, now, decoded: Decoded::default() }
    }

    pub(super) fn metrics(&mut self, data: MetricsData) {
        for resource in data.resource_metrics {
            let of_resource = attributes_of(resource.resource);
            for metric in resource.scope_metrics.into_iter().flat_map(|scope| scope.metrics) {
                self.metric(metric, &of_resource);
            }
        }
    }

    fn metric(&mut self, metric: Metric, of_resource: &[KeyValue]) {
        let Metric { name, unit, data, .. } = metric;
        let cumulative = |temporality: i32| temporality == AggregationTemporality::Cumulative as i32;
        match data {
            None => self.decoded.rejected.push(format!("metric `{}` has no data", shown(&name))),
            Some(Data::Gauge(data)) => {
                for point in data.data_points {
                    let said = number(PointKind::Gauge, &point);
                    self.point(&name, &unit, said, point.attributes, of_resource);
                }
            }
            Some(Data::Sum(data)) => {
                let cumulative = cumulative(data.aggregation_temporality);
                for point in data.data_points {
                    let said = Said { cumulative, ..number(PointKind::Sum, &point) };
                    self.point(&name, &unit, said, point.attributes, of_resource);
                }
            }
            Some(Data::Histogram(data)) => {
                let cumulative = cumulative(data.aggregation_temporality);
                for point in data.data_points {
                    let said = Said::at(PointKind::Histogram, point.time_unix_nano);
                    let said = Said { cumulative, count: point.count, sum: point.sum.unwrap_or(0.0), ..said };
                    self.point(&name, &unit, said, point.attributes, of_resource);
                }
            }
            Some(Data::ExponentialHistogram(data)) => {
                let cumulative = cumulative(data.aggregation_temporality);
                for point in data.data_points {
                    let said = Said::at(PointKind::Histogram, point.time_unix_nano);
                    let said = Said { cumulative, count: point.count, sum: point.sum.unwrap_or(0.0), ..said };
                    self.point(&name, &unit, said, point.attributes, of_resource);
                }
            }
            // A summary counts from its start on.
            Some(Data::Summary(data)) => {
                for point in data.data_points {
                    let said = Said::at(PointKind::Histogram, point.time_unix_nano);
                    let said = Said { cumulative: true, count: point.count, sum: point.sum, ..said };
                    self.point(&name, &unit, said, point.attributes, of_resource);
                }
            }
        }
    }

    pub(super) fn logs(&mut self, data: LogsData) {
        for resource in data.resource_logs {
            let of_resource = attributes_of(resource.resource);
            for record in resource.scope_logs.into_iter().flat_map(|scope| scope.log_records) {
                self.log(record, &of_resource);
            }
        }
    }

    fn log(&mut self, record: LogRecord, of_resource: &[KeyValue]) {
        let time = if record.time_unix_nano == 0 { record.observed_time_unix_nano } else { record.time_unix_nano };
        let severity = u32::try_from(record.severity_number).unwrap_or(0);
        let said = Said { severity, ..Said::at(PointKind::Log, time) };
        let name = if record.event_name.is_empty() { LOG_NAME } else { record.event_name.as_str() };
        self.point(name, "", said, record.attributes, of_resource);
    }

    fn point(&mut self, name: &str, unit: &str, said: Said, attributes: Vec<KeyValue>, of_resource: &[KeyValue]) {
        match self.checked(name, unit, &said, attributes, of_resource) {
            Ok(taken) => self.decoded.points.push(taken),
            Err(reason) => self.decoded.rejected.push(format!("point of `{}`: {reason}", shown(name))),
        }
    }

    fn checked(
        &self,
        name: &str,
        unit: &str,
        said: &Said,
        attributes: Vec<KeyValue>,
        of_resource: &[KeyValue],
    ) -> Result<(String, Point), String> {
        if name.is_empty() || name.len() > NAME_BYTES_MAX || unit.len() > NAME_BYTES_MAX {
            return Err(format!("name and unit must have at most {NAME_BYTES_MAX} bytes, and the name at least one"));
        }
        if matches!(said.kind, PointKind::Gauge | PointKind::Sum) && said.value.is_none() {
            return Err("it has no value".to_owned());
        }
        if !said.value.is_none_or(f64::is_finite) || !said.sum.is_finite() {
            return Err("its value is not finite".to_owned());
        }
        let ts_us = i64::try_from(said.time_unix_nano / 1000).unwrap_or(i64::MAX);
        if ts_us < self.now.plus(-PAST_US).0 || ts_us > self.now.plus(FUTURE_US).0 {
            return Err("its time is missing, more than a day ago, or more than five minutes ahead".to_owned());
        }
        let mut all: Vec<Attribute> = Vec::with_capacity(attributes.len() + of_resource.len());
        for KeyValue { key, value, .. } in attributes.iter().chain(of_resource) {
            if !all.iter().any(|attribute| attribute.key == *key) {
                all.push(Attribute { key: key.clone(), value: text_of(value.as_ref()) });
            }
        }
        if all.len() > ATTRIBUTES_MAX || all.iter().any(|attribute| attribute.key.len() > NAME_BYTES_MAX) {
            return Err(format!(
                "it has more than {ATTRIBUTES_MAX} attributes, or a key of more than {NAME_BYTES_MAX} bytes"
            ));
        }
        all.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        let named = |key: &&str| all.iter().find(|attribute| attribute.key == **key);
        let server = SERVER.iter().find_map(named).map(|attribute| attribute.value.clone());
        let point = Point {
            ts_us,
            source: self.source.to_owned(),
            name: name.to_owned(),
            unit: unit.to_owned(),
            kind: said.kind.into(),
            cumulative: said.cumulative,
            value: said.value,
            count: said.count,
            sum: said.sum,
            severity: said.severity,
            attributes: all,
        };
        Ok((server.unwrap_or_default(), point))
    }
}

fn number(kind: PointKind, point: &NumberDataPoint) -> Said {
    let value = point.value.as_ref().map(|value| match value {
        number_data_point::Value::AsDouble(value) => *value,
        number_data_point::Value::AsInt(value) => *value as f64,
    });
    Said { value, ..Said::at(kind, point.time_unix_nano) }
}

fn attributes_of(resource: Option<Resource>) -> Vec<KeyValue> {
    resource.map(|resource| resource.attributes).unwrap_or_default()
}

fn text_of(value: Option<&AnyValue>) -> String {
    let text = match value.and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::BoolValue(value)) => value.to_string(),
        Some(Value::IntValue(value)) => value.to_string(),
        Some(Value::DoubleValue(value)) => value.to_string(),
        Some(Value::BytesValue(bytes)) => format!("({} bytes)", bytes.len()),
        Some(Value::ArrayValue(array)) => format!("({} items)", array.values.len()),
        Some(Value::KvlistValue(list)) => format!("({} pairs)", list.values.len()),
        Some(_) | None => String::new(),
    };
    cut(&text, VALUE_BYTES_MAX).to_owned()
}

fn shown(name: &str) -> &str {
    cut(name, 64)
}

/// At most so many bytes of a text, in whole letters.
fn cut(text: &str, bytes_max: usize) -> &str {
    let end = (0..=bytes_max.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    &text[..end]
}
