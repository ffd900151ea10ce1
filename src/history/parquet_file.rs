//! One Parquet file: how rows are encoded, and what its footer says.
//!
//! Invariant: the bytes depend on the rows, the ticks and the options alone (no clock, no host, no process).

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::arrow::{ArrowSchemaConverter, ArrowWriter};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;
use undercurrent_schemas::ids::{Partition, Tick, stable_hash};
use undercurrent_schemas::tables::{SCHEMA_VERSION, Table};

use super::HistoryOptions;

/// First and last offset per partition.
pub(super) type OffsetRanges = BTreeMap<Partition, (u64, u64)>;

const ROW_GROUP_BYTES_MAX: usize = 64 << 20;
/// Columns that grow with the rows: differences of neighbours take almost no space.
const GROWING: [&str; 5] = ["tick", "offset", "ordinal", "sequence", "ts"];
/// Columns that readers filter by: statistics for each page. The others have them for each row group: pages of all
/// columns would make a small file an eighth larger.
const FILTERED: [&str; 13] = [
    "ts",
    "started_at",
    "ended_at",
    "window_start",
    "tenant",
    "principal",
    "server",
    "session_id",
    "tool",
    "target",
    "entity",
    "version",
    "tick",
];

/// What a file says of its rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Content<'a> {
    pub(super) table: Table,
    /// The first and the last.
    pub(super) ticks: (Tick, Tick),
    pub(super) offsets: &'a OffsetRanges,
}

/// The file of `batches`, and how many rows it has.
pub(super) fn encode(
    content: &Content<'_>,
    batches: impl IntoIterator<Item = Result<RecordBatch, ParquetError>>,
    options: &HistoryOptions,
) -> Result<(Vec<u8>, usize), ParquetError> {
    let schema = content.table.schema();
    let properties = properties(content.table, &schema, options)?;
    // The Parquet schema says it all; a copy of the Arrow one would double the size of small files.
    let settings = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(Vec::new(), schema, settings)?;
    let mut rows = 0;
    for batch in batches {
        let batch = batch?;
        rows += batch.num_rows();
        writer.write(&batch)?;
    }
    writer.flush()?;
    writer.sync()?;
    for (key, value) in footer(content, rows, writer.inner()) {
        writer.append_key_value_metadata(KeyValue::new(format!("undercurrent.{key}"), value));
    }
    Ok((writer.into_inner()?, rows))
}

fn properties(table: Table, schema: &Schema, options: &HistoryOptions) -> Result<WriterProperties, ParquetError> {
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(options.zstd_level)?))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_max_row_group_row_count(Some(options.row_group_rows))
        .set_max_row_group_bytes(Some(ROW_GROUP_BYTES_MAX))
        .set_sorting_columns(Some(sorting_columns(table, schema)?));
    let has = |name: &&str| schema.column_with_name(name).is_some();
    for name in GROWING.into_iter().filter(has) {
        properties = growing(properties, name);
    }
    for name in FILTERED.into_iter().filter(has) {
        properties = properties.set_column_statistics_enabled(ColumnPath::from(name), EnabledStatistics::Page);
    }
    if matches!(table, Table::Messages | Table::Calls) {
        properties = properties.set_column_bloom_filter_enabled(ColumnPath::from("session_id"), true);
    }
    Ok(properties.build())
}

fn growing(properties: WriterPropertiesBuilder, name: &str) -> WriterPropertiesBuilder {
    properties
        .set_column_dictionary_enabled(ColumnPath::from(name), false)
        .set_column_encoding(ColumnPath::from(name), Encoding::DELTA_BINARY_PACKED)
}

fn sorting_columns(table: Table, schema: &Schema) -> Result<Vec<SortingColumn>, ParquetError> {
    // Parquet counts leaves. The source columns come last and are flat, so theirs are the last leaves.
    let leaves = ArrowSchemaConverter::new().convert(schema)?.num_columns();
    let ascending = |leaf| SortingColumn { column_idx: leaf as i32, descending: false, nulls_first: false };
    Ok((leaves - table.sorted_by().len()..leaves).map(ascending).collect())
}

/// What the file says of itself; `data` is everything before the footer.
fn footer(content: &Content<'_>, rows: usize, data: &[u8]) -> Vec<(&'static str, String)> {
    let mut entries = vec![
        ("table", content.table.name().to_owned()),
        ("schema_version", SCHEMA_VERSION.to_string()),
        ("first_tick", content.ticks.0.to_string()),
        ("last_tick", content.ticks.1.to_string()),
        ("rows", rows.to_string()),
        ("data_bytes", data.len().to_string()),
        ("data_hash", format!("{:016x}", stable_hash(&[data]))),
    ];
    if !content.offsets.is_empty() {
        let ranges: Vec<_> =
            content.offsets.iter().map(|(partition, (first, last))| format!("{partition}:{first}-{last}")).collect();
        entries.push(("offsets", ranges.join(",")));
    }
    entries
}
