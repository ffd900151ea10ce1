//! Builds columns from a slice of rows: each call adds one column, its field and its values at once.
//!
//! Invariant: fields and arrays have the same order and length; nested items are flattened by the caller in row order.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, ListArray, PrimitiveArray, RecordBatch, StringArray,
    StructArray, TimestampMicrosecondArray, UInt64Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{Field, FieldRef, Fields, Schema};

use crate::ids::Micros;
use crate::rows::Source;

/// Columns over `rows`, so far.
pub(super) struct Columns<'a, R> {
    rows: &'a [R],
    fields: Vec<FieldRef>,
    arrays: Vec<ArrayRef>,
}

impl<'a, R> Columns<'a, R> {
    pub(super) const fn of(rows: &'a [R]) -> Self {
        Self { rows, fields: Vec::new(), arrays: Vec::new() }
    }

    fn values<T>(&self, value: impl Fn(&'a R) -> T) -> impl Iterator<Item = T> {
        self.rows.iter().map(value)
    }

    fn with(mut self, name: &str, nullable: bool, array: ArrayRef) -> Self {
        self.fields.push(Arc::new(Field::new(name, array.data_type().clone(), nullable)));
        self.arrays.push(array);
        self
    }

    pub(super) fn text(self, name: &str, value: impl Fn(&'a R) -> &'a str) -> Self {
        let array = StringArray::from_iter_values(self.values(value));
        self.with(name, false, Arc::new(array))
    }

    /// Text whose empty value means "none".
    pub(super) fn text_or_null(self, name: &str, value: impl Fn(&'a R) -> &'a str) -> Self {
        let array = StringArray::from_iter(self.values(|row| Some(value(row)).filter(|text| !text.is_empty())));
        self.with(name, true, Arc::new(array))
    }

    /// Bytes whose empty value means "none".
    pub(super) fn bytes_or_null(self, name: &str, value: impl Fn(&'a R) -> &'a [u8]) -> Self {
        let array = BinaryArray::from_iter(self.values(|row| Some(value(row)).filter(|bytes| !bytes.is_empty())));
        self.with(name, true, Arc::new(array))
    }

    pub(super) fn number<T: ArrowPrimitiveType>(self, name: &str, value: impl Fn(&'a R) -> T::Native) -> Self {
        let array = PrimitiveArray::<T>::from_iter_values(self.values(value));
        self.with(name, false, Arc::new(array))
    }

    pub(super) fn number_or_null<T: ArrowPrimitiveType>(
        self,
        name: &str,
        value: impl Fn(&'a R) -> Option<T::Native>,
    ) -> Self {
        let array = PrimitiveArray::<T>::from_iter(self.values(value));
        self.with(name, true, Arc::new(array))
    }

    pub(super) fn time(self, name: &str, value: impl Fn(&'a R) -> Micros) -> Self {
        let array = TimestampMicrosecondArray::from_iter_values(self.values(|row| value(row).0)).with_timezone("UTC");
        self.with(name, false, Arc::new(array))
    }

    pub(super) fn flag(self, name: &str, value: impl Fn(&'a R) -> bool) -> Self {
        let array = BooleanArray::from(self.values(value).collect::<Vec<_>>());
        self.with(name, false, Arc::new(array))
    }

    pub(super) fn flag_or_null(self, name: &str, value: impl Fn(&'a R) -> Option<bool>) -> Self {
        let array = BooleanArray::from_iter(self.values(value));
        self.with(name, true, Arc::new(array))
    }

    /// A list of texts per row.
    pub(super) fn texts(self, name: &str, value: impl Fn(&'a R) -> &'a [String]) -> Self {
        let offsets = OffsetBuffer::from_lengths(self.values(|row| value(row).len()));
        let items = StringArray::from_iter_values(self.rows.iter().flat_map(value));
        self.list(name, offsets, Arc::new(items))
    }

    /// A list of hashes per row.
    pub(super) fn hashes(self, name: &str, value: impl Fn(&'a R) -> &'a [u64]) -> Self {
        let offsets = OffsetBuffer::from_lengths(self.values(|row| value(row).len()));
        let items = UInt64Array::from_iter_values(self.rows.iter().flat_map(value).copied());
        self.list(name, offsets, Arc::new(items))
    }

    /// A list of byte strings per row.
    pub(super) fn byte_strings(self, name: &str, value: impl Fn(&'a R) -> &'a [Vec<u8>]) -> Self {
        let offsets = OffsetBuffer::from_lengths(self.values(|row| value(row).len()));
        let items = BinaryArray::from_iter_values(self.rows.iter().flat_map(value));
        self.list(name, offsets, Arc::new(items))
    }

    /// A list of structs per row: `length` of them, taken from `items` in order.
    pub(super) fn structs<I>(self, name: &str, length: impl Fn(&'a R) -> usize, items: Columns<'_, I>) -> Self {
        let offsets = OffsetBuffer::from_lengths(self.values(length));
        self.list(name, offsets, Arc::new(items.into_struct(None)))
    }

    /// A struct per row, NULL where not `present`; `inner` has a row for each, present or not.
    pub(super) fn structure<I>(self, name: &str, present: impl Fn(&'a R) -> bool, inner: Columns<'_, I>) -> Self {
        let nulls = NullBuffer::from_iter(self.values(present));
        self.with(name, true, Arc::new(inner.into_struct(Some(nulls))))
    }

    /// Where a derived row comes from: always the last three columns.
    pub(super) fn source(self, value: impl Fn(&'a R) -> Source) -> Self {
        use arrow::datatypes::{UInt32Type, UInt64Type};
        self.number::<UInt64Type>("tick", |row| value(row).tick.0)
            .number::<UInt32Type>("partition", |row| value(row).partition.0)
            .number::<UInt32Type>("ordinal", |row| value(row).ordinal)
    }

    pub(super) fn into_batch(self) -> RecordBatch {
        RecordBatch::try_new(Arc::new(Schema::new(self.fields)), self.arrays)
            .expect("every column has one value per row")
    }

    // Parquet calls the items of a list `element`; Arrow's own default name would not survive the round trip.
    fn list(self, name: &str, offsets: OffsetBuffer<i32>, items: ArrayRef) -> Self {
        let element = Arc::new(Field::new("element", items.data_type().clone(), false));
        self.with(name, false, Arc::new(ListArray::new(element, offsets, items, None)))
    }

    fn into_struct(self, nulls: Option<NullBuffer>) -> StructArray {
        StructArray::new(Fields::from(self.fields), self.arrays, nulls)
    }
}
